"""Jobs on a GPU: what of one can be done there (``path``), and what it is carried out with (the other modules).

Only ``path`` may be imported where there is no GPU; the others import CUDA.
"""

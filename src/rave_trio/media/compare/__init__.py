"""Did everything that a file carried come out in another, with only the picture's size changed?

Each file is read once into :class:`~rave_trio.media.compare.contents.Contents`, by ``reading*.py``; the two are then
compared, the picture, the other streams and the rest each by a module of its own, which tell a
:class:`~rave_trio.media.compare.verdict.Verdict` what they find.
"""

from rave_trio.media.compare.comparison import Comparison, compare
from rave_trio.media.compare.verdict import Difference

__all__ = ["Comparison", "Difference", "compare"]

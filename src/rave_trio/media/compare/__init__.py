"""Did everything that a file carried come out in another, with only the picture's size changed?

Both files are probed, then read once from end to end (``contents``).  What that gives of the video (``video``) and of
each other stream (``tracks``) holds neither pictures nor sound, only facts, times and sums (``measures``).  What
differs is told to a :class:`~rave_trio.media.compare.verdict.Verdict`.
"""

from rave_trio.media.compare.comparison import Comparison, compare
from rave_trio.media.compare.verdict import Difference

__all__ = ["Comparison", "Difference", "compare"]

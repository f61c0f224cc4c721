"""From R'G'B' to luma and colour differences and back: the matrices of ITU-T H.273."""

from __future__ import annotations

import attrs
import numpy as np
import numpy.typing as npt

from rave_trio.frames import UNSPECIFIED, ColorSpec, PixelFormat

IDENTITY, BT709, FCC, BT470BG, BT601, SMPTE240M, YCGCO, BT2020, BT2020_CONSTANT = 0, 1, 4, 5, 6, 7, 8, 9, 10
"""MatrixCoefficients of H.273, table 4."""

KR_KB = {
    BT709: (0.2126, 0.0722),
    FCC: (0.30, 0.11),
    BT470BG: (0.299, 0.114),
    BT601: (0.299, 0.114),
    SMPTE240M: (0.212, 0.087),
    BT2020: (0.2627, 0.0593),
    BT2020_CONSTANT: (0.2627, 0.0593),
}
"""KR and KB by MatrixCoefficients (H.273, table 4).  10 is converted like 9, as if its luminance were not constant."""

HD_LINES = 720
"""Untagged video is BT.601 below this height and BT.709 from it on: the rule that players follow."""

RED, GREEN, BLUE, LUMA = range(4)


@attrs.frozen
class Difference:
    """One colour difference: ``factor * (minuend - subtrahend)``, both of RED, GREEN, BLUE and LUMA; in [-0.5, 0.5]."""

    minuend: int
    subtrahend: int
    factor: float


@attrs.frozen
class Matrix:
    """Luma as a weighted sum of R'G'B', and what the two chroma planes hold."""

    luma: tuple[float, float, float]
    """The weights of R', G' and B', which add up to 1."""
    cb: Difference
    cr: Difference
    wide_chroma: bool = False
    """Whether chroma is quantised in the steps of luma (YCgCo) where the range is limited."""

    @property
    def from_rgb(self) -> npt.NDArray[np.float64]:
        """3 x 3: R'G'B' to luma and the two differences."""
        sources = np.vstack([np.eye(3), self.luma])
        differences = [d.factor * (sources[d.minuend] - sources[d.subtrahend]) for d in (self.cb, self.cr)]
        return np.vstack([self.luma, *differences])

    @property
    def to_rgb(self) -> npt.NDArray[np.float64]:
        """3 x 3: luma and the two differences to R'G'B'; zeros, ones and minus ones are exact."""
        inverse = np.linalg.inv(self.from_rgb)
        whole = np.rint(inverse)
        return np.where(np.abs(inverse - whole) < 1e-12, whole, inverse)


def luma_matrix(kr: float, kb: float) -> Matrix:
    """The usual kind of matrix (H.273, clause 8.3).

    E'Y = KR E'R + (1 - KR - KB) E'G + KB E'B, E'PB = 0.5 (E'B - E'Y) / (1 - KB), E'PR = 0.5 (E'R - E'Y) / (1 - KR).
    """
    return Matrix(
        luma=(kr, 1 - kr - kb, kb),
        cb=Difference(BLUE, LUMA, 0.5 / (1 - kb)),
        cr=Difference(RED, LUMA, 0.5 / (1 - kr)),
    )


YCGCO_MATRIX = Matrix(
    luma=(0.25, 0.5, 0.25),
    cb=Difference(GREEN, LUMA, 1.0),
    cr=Difference(RED, BLUE, 0.5),
    wide_chroma=True,
)
"""H.273, MatrixCoefficients 8: Y = 0.5 G + 0.25 (R + B), Cb = 0.5 G - 0.25 (R + B) = G - Y, Cr = 0.5 (R - B).

There R, G and B have been quantised like luma before, so all three have luma's steps.
"""


def matrix_of(color: ColorSpec, height: int) -> Matrix:
    """The matrix to convert with: the tagged one where it is one of these, else the usual guess from the height."""
    if color.matrix == YCGCO:
        return YCGCO_MATRIX
    guess = BT601 if height < HD_LINES else BT709
    tagged = guess if color.matrix == UNSPECIFIED else color.matrix
    return luma_matrix(*KR_KB.get(tagged, KR_KB[guess]))


def holds_gbr(color: ColorSpec, pixel_format: PixelFormat) -> bool:
    """Whether the planes Y, Cb and Cr hold G, B and R (MatrixCoefficients 0), which only 4:4:4 can."""
    subsampled = pixel_format.chroma_shift_x or pixel_format.chroma_shift_y
    return color.matrix == IDENTITY and not (pixel_format.is_rgb or pixel_format.is_grey or subsampled)

"""Turn a picture of a digit into what the example model `digits` was trained on.

Its training data are 8x8 pixels, each the amount of ink (0 to 16) in one square of a tightly cut
picture of one digit.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

SIDE = 8
FULL_INK = 16.0
#: A pixel with less than this share of the most ink counts as paper when the digit is cut out.
FAINT = 0.2


def read_digit(path: str | Path) -> npt.NDArray[np.float32]:
    """The picture as FP32 of shape [1, 8, 8]: one channel, ink from 0 to 16, no batch dimension.

    A picture of exactly 8x8 pixels is taken as it is, light digit on dark ground. Any other one is
    cut to the digit and reduced; dark writing on light paper is turned round first.
    """
    pixels = np.asarray(Image.open(path).convert("L"), dtype=np.float32)
    if pixels.shape != (SIDE, SIDE):
        pixels = _reduce(_cut_out(_light_on_dark(pixels)))
    return (pixels * (FULL_INK / 255))[None]


def _light_on_dark(pixels: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    edge = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    return 255 - pixels if np.median(edge) > 127 else pixels


def _cut_out(pixels: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The smallest square around the ink, the digit in its middle."""
    ink = pixels > FAINT * pixels.max()
    if not ink.any():
        raise ValueError("the picture is empty: there is no digit to read")
    rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
    cut = pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    side = max(cut.shape)
    square = np.zeros((side, side), dtype=np.float32)
    top, left = (side - cut.shape[0]) // 2, (side - cut.shape[1]) // 2
    square[top : top + cut.shape[0], left : left + cut.shape[1]] = cut
    return square


def _reduce(pixels: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Average over the squares of an 8x8 grid, the darkest of which becomes full ink."""
    small = Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.BOX)
    reduced = np.asarray(small, dtype=np.float32)
    return reduced * (255 / max(float(reduced.max()), 1.0))

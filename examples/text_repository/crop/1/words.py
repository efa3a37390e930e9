"""From a map of where words are to pictures of single words, in numpy alone.

The same functions serve the model `crop`, the training of the recogniser and the measurement of
both networks (examples/text).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

#: The pixels that a cell of the detector's map covers. Spaces between words are narrow.
CELL_HEIGHT, CELL_WIDTH = 4, 2
#: A cell belongs to a word from this probability on.
LIKELY = 0.5
#: The detector marks words shorter than they are, so that neighbours do not touch: by this part
#: of the height of the line at either end.
SHRUNK = 0.15
#: Parts of a word overlap by more than this part of the height of the line, neighbours do not.
OVERLAP = 0.15
#: Height of a crop, and how much around the word is cut out with it, as a part of its height.
HEIGHT = 32
MARGIN = 0.08
#: Differences from the paper below this many grey values are noise when nothing is darker.
FAINT = 40.0

Floats = npt.NDArray[np.float32]
Box = tuple[float, float, float, float]


def find_words(regions: Floats) -> list[Box]:
    """The boxes (left, top, right, bottom) of the words in reading order, in pixels.

    `regions` has the shape [3, rows, columns]: of each cell the probability that it is inside of a
    word, and how many pixels the line reaches above and below the middle of the cell.
    """
    boxes: list[Box] = []
    for rows, columns in _connected(regions[0] > LIKELY):
        middles = (rows + 0.5) * CELL_HEIGHT
        top = float(np.mean(middles - regions[1, rows, columns]))
        bottom = float(np.mean(middles + regions[2, rows, columns]))
        lost = SHRUNK * (bottom - top)
        left = float(columns.min()) * CELL_WIDTH - lost
        right = float(columns.max() + 1) * CELL_WIDTH + lost
        boxes.append((left, top, right, bottom))
    return in_reading_order(boxes)


def in_reading_order(boxes: Sequence[Box]) -> list[Box]:
    """Line by line, and from left to right in each; boxes that overlap are one word.

    A box is on the line of the boxes above it while its middle is above their mean bottom.
    """
    lines: list[list[Box]] = []
    for box in sorted(boxes, key=lambda box: box[1] + box[3]):
        if lines and (box[1] + box[3]) / 2 < np.mean([other[3] for other in lines[-1]]):
            lines[-1].append(box)
        else:
            lines.append([box])
    return [box for line in lines for box in _joined(sorted(line))]


def _joined(line: Sequence[Box]) -> list[Box]:
    """What the detector tore apart is put together; the wider part says how high it is."""
    words: list[Box] = []
    for box in line:
        if words and box[0] < words[-1][2] - OVERLAP * (box[3] - box[1]):
            before = words.pop()
            wider = max(before, box, key=lambda each: each[2] - each[0])
            words.append((before[0], wider[1], max(before[2], box[2]), wider[3]))
        else:
            words.append(box)
    return words


def cut_out(image: npt.NDArray[np.uint8], boxes: Sequence[Box]) -> Floats:
    """Crops of shape [words, HEIGHT, width], ink from 0 (paper) to 1.

    All are as wide as the widest, with paper at the right end of the others.
    """
    crops = [_cut(image, box) for box in boxes]
    width = max((crop.shape[1] for crop in crops), default=HEIGHT)
    result = np.zeros((len(crops), HEIGHT, width), dtype=np.float32)
    for number, crop in enumerate(crops):
        result[number, :, : crop.shape[1]] = crop
    return result


def _connected(mask: npt.NDArray[np.bool_]) -> Iterator[tuple[Any, Any]]:
    """Rows and columns of the cells of each word: those that hang together by their sides."""
    left = set(map(tuple, np.argwhere(mask).tolist()))
    while left:
        word = [left.pop()]
        for row, column in word:  # which grows on the way
            beside = ((row, column - 1), (row, column + 1))
            for cell in (*beside, (row - 1, column), (row + 1, column)):
                if cell in left:
                    left.remove(cell)
                    word.append(cell)
        rows, columns = np.array(word).T
        yield rows, columns


def _cut(image: npt.NDArray[np.uint8], box: Box) -> Floats:
    """One word, of the common height, as wide as its box demands."""
    left, top, right, bottom = box
    margin = MARGIN * (bottom - top)
    top, bottom = _within(top - margin, bottom + margin, image.shape[0])
    left, right = _within(left - margin, right + margin, image.shape[1])
    pixels = image[top:bottom, left:right].astype(np.float32)
    ink = np.abs(pixels - np.median(pixels))  # most of a crop is paper, dark or light
    ink /= max(float(ink.max()), FAINT)
    width = max(2, round(HEIGHT * ink.shape[1] / ink.shape[0]))
    return _blend(ink.shape[0], HEIGHT) @ ink @ _blend(ink.shape[1], width).T


def _within(start: float, end: float, length: int) -> tuple[int, int]:
    """Whole pixels inside of the image, and at least one of them."""
    first = min(max(int(np.floor(start)), 0), length - 1)
    return first, max(min(int(np.ceil(end)), length), first + 1)


def _blend(pixels: int, wanted: int) -> Floats:
    """The weights [wanted, pixels] that resize one axis: a triangle around each new pixel."""
    scale = pixels / wanted
    middles = (np.arange(wanted)[:, None] + 0.5) * scale
    distances = np.abs(np.arange(pixels) + 0.5 - middles) / max(scale, 1.0)
    weights = np.maximum(0, 1 - distances).astype(np.float32)
    return weights / weights.sum(1, keepdims=True)

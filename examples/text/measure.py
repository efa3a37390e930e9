"""Count how well the text example reads pages that it never saw.

    pip install onnxruntime pillow
    python examples/text/measure.py             # and --mistakes shows what is read wrong
    python examples/text/measure.py --record    # writes ACCURACY.md

The networks and the steps between them are those that are served, run here without a server.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from render import SIZES, Page, draw_page
from steps import REPOSITORY, letters, words

#: No page of the training has this seed.
SEED = 2026
#: Least and most pixels of a side of a page.
SIDES = (100, 640)


class Reader:
    """The whole pipeline."""

    def __init__(self, repository: Path = REPOSITORY) -> None:
        self._detect = _session(repository / "detect" / "1" / "model.onnx")
        self._recognise = _session(repository / "recognise" / "1" / "model.onnx")

    def read(self, page: Page) -> list[str]:
        """The words of a page in reading order."""
        regions = self._detect.run(None, {"image": page.image})[0]
        crops = words.cut_out(page.image, words.find_words(regions))
        return letters.read(self._recognise.run(None, {"crops": crops})[0])


def _session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


@dataclass
class Count:
    """What was printed on all pages, and how much of it was read."""

    pages: int = 0
    pages_right: int = 0
    words: int = 0
    words_right: int = 0
    characters: int = 0
    characters_wrong: int = 0

    def add(self, printed: list[str], read: list[str]) -> None:
        """A word is right when it stands among those read as it was printed, in its order."""
        self.pages += 1
        self.pages_right += printed == read
        self.words += len(printed)
        self.words_right += in_common(printed, read)
        self.characters += len(" ".join(printed))
        self.characters_wrong += distance(" ".join(printed), " ".join(read))

    def __str__(self) -> str:
        words = 100 * self.words_right / max(self.words, 1)
        characters = 100 - 100 * self.characters_wrong / max(self.characters, 1)
        return (
            f"{self.words_right} of {self.words} words are read as they were printed and in their "
            f"order: **{words:.2f} %**. {self.characters_wrong} of {self.characters} characters, "
            f"spaces among them, are wrong, missing or too many: **{characters:.2f} %** are right. "
            f"{self.pages_right} of {self.pages} pages are read without a mistake."
        )


def in_common(left: Sequence[str], right: Sequence[str]) -> int:
    """The length of the longest common subsequence."""
    row = [0] * (len(right) + 1)
    for one in left:
        before = row
        row = [0]
        for number, other in enumerate(right, 1):
            best = before[number - 1] + 1 if one == other else max(before[number], row[-1])
            row.append(best)
    return row[-1]


def distance(left: str, right: str) -> int:
    """How many characters must be put in, taken out or replaced (Levenshtein)."""
    row = list(range(len(right) + 1))
    for number, one in enumerate(left, 1):
        before = row
        row = [number]
        for place, other in enumerate(right, 1):
            replaced = before[place - 1] + (one != other)
            row.append(min(replaced, before[place] + 1, row[-1] + 1))
    return row[-1]


def main() -> None:
    """Measure, print, and write it down."""
    parser = argparse.ArgumentParser(description="Measure the text example.")
    parser.add_argument("--pages", type=int, default=500)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--mistakes", action="store_true", help="print what is read wrong")
    parser.add_argument("--record", action="store_true", help="write ACCURACY.md")
    parser.add_argument("--repository", type=Path, default=REPOSITORY)
    arguments = parser.parse_args()
    reader = Reader(arguments.repository)
    generator = np.random.default_rng(arguments.seed)
    count = Count()
    for _ in range(arguments.pages):
        width, height = (int(side) for side in generator.integers(*SIDES, 2))
        page = draw_page(generator, width, height)
        printed, read = [word.text for word in page.words], reader.read(page)
        count.add(printed, read)
        if arguments.mistakes and printed != read:
            print(f"printed: {' '.join(printed)}\nread:    {' '.join(read)}\n")
    print(count)
    if arguments.record:
        (Path(__file__).parent / "ACCURACY.md").write_text(
            "# How well the example reads printed words\n\n"
            f"{count}\n\n"
            f"The {count.pages} pages were drawn by `render.py` from seed {arguments.seed}, the "
            f"networks saw none of them: {SIDES[0]} to {SIDES[1]} pixels wide and high, letters of "
            f"{SIZES[0]} to {SIZES[1]} pixels an em, the usual and wider spaces, common words, "
            "letters and digits at random and some punctuation, dark on light or light on dark, "
            "with noise. All in the one font that Pillow brings: other fonts are read worse. "
            "Written by `measure.py`.\n"
        )


if __name__ == "__main__":
    main()

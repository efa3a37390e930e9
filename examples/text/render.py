"""Pages of printed words, drawn with the font that Pillow brings, and what stands on them where.

    pip install numpy pillow
    python examples/text/render.py page.png --text "Hello, world!"
    python examples/text/render.py page.png --seed 3    # a page as the networks learn from

What is drawn by chance comes from the numbers of a generator: the same seed, the same page.
"""

from __future__ import annotations

import argparse
import string
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from steps import letters

PUNCTUATION = [each for each in letters.CHARACTERS if not each.isalnum()]
#: Height of an em in pixels: from a small print to a heading.
SIZES = (18, 48)
COMMON = (
    "the of and to in is you that it he was for on are as with his they at be this have from or "
    "one had by word but not what all were we when your can said there use an each which she do "
    "how their if will up other about out many then them these so some her would make like him "
    "into time has look two more write go see number no way could people my than first water been "
    "call who oil its now find long down day did get come made may part"
)


@dataclass(frozen=True)
class Word:
    """A printed word and its box in pixels: left, top, right, bottom.

    The box is as high as the line, from the top of a `d` to the bottom of a `g`, whatever letters
    the word has: only so an `o` can be told from an `O`.
    """

    text: str
    box: tuple[int, int, int, int]


@dataclass(frozen=True)
class Page:
    """Grey values UINT8 of shape [height, width], and the words in reading order."""

    image: npt.NDArray[np.uint8]
    words: list[Word]


def draw_page(generator: np.random.Generator, width: int, height: int) -> Page:
    """A page of lines of words, dark on light or the other way round, not quite clean."""
    coverage = Image.new("L", (width, height))
    canvas = ImageDraw.Draw(coverage)
    words: list[Word] = []
    top = int(generator.integers(2, 30))
    while True:
        font = _font(int(generator.integers(SIZES[0], SIZES[1] + 1)))
        _, above, _, below = font.getbbox("dg", anchor="ls")
        baseline = top - int(above)
        bottom = baseline + int(below)
        if bottom > height - 2:
            break
        left = int(generator.integers(2, max(3, width // 3)))
        spread = generator.choice([1.0, 1.0, 1.5, 3.0])  # how much wider than usual spaces are
        while generator.random() < 0.9:
            text = draw_word(generator)
            inked = [int(edge) for edge in font.getbbox(text, anchor="ls")]
            if left + inked[2] > width - 2:
                break
            canvas.text((left, baseline), text, fill=255, font=font, anchor="ls")
            words.append(Word(str(text), (left + inked[0], top, left + inked[2], bottom)))
            space = font.getlength(" ") * spread * generator.uniform(1.0, 1.3)
            left += int(np.ceil(font.getlength(text) + space))
        top = bottom + int((bottom - top) * generator.uniform(0.15, 1.0))
    return Page(_print(generator, coverage), words)


def draw_text(text: str, size: int) -> Image.Image:
    """These lines of text, black on white, with a margin around them."""
    font = _font(size)
    spacing = size // 2
    measured = ImageDraw.Draw(Image.new("L", (1, 1))).multiline_textbbox(
        (size, size), text, font=font, spacing=spacing
    )
    image = Image.new("L", (int(measured[2]) + size, int(measured[3]) + size), 255)
    ImageDraw.Draw(image).multiline_text((size, size), text, font=font, fill=0, spacing=spacing)
    return image


def draw_word(generator: np.random.Generator) -> str:
    """A common word, or letters or digits at random; now and then with punctuation around."""
    kind = generator.random()
    if kind < 0.3:
        text = str(generator.choice(COMMON.split()))
    elif kind < 0.8:
        text = _some(generator, string.ascii_lowercase, 2, 9)
    elif kind < 0.92:
        text = _some(generator, string.digits, 1, 6)
        if len(text) > 2 and generator.random() < 0.3:
            middle = len(text) // 2
            text = text[:middle] + generator.choice(list(".:,/-")) + text[middle:]
    else:
        return _some(generator, letters.CHARACTERS, 3, 8)
    shape = generator.random()
    text = text.capitalize() if shape < 0.2 else text.upper() if shape < 0.35 else text
    if generator.random() < 0.15:
        text += generator.choice(PUNCTUATION)
    return text


def _some(generator: np.random.Generator, characters: str, least: int, most: int) -> str:
    count = int(generator.integers(least, most + 1))
    return "".join(generator.choice(list(characters), count))


def _print(generator: np.random.Generator, coverage: Image.Image) -> npt.NDArray[np.uint8]:
    """Ink on paper: two tones apart enough to read, blurred, unevenly lit, with noise on top."""
    blurred = coverage.filter(ImageFilter.GaussianBlur(generator.uniform(0, 0.7)))
    ink = np.asarray(blurred, dtype=np.float32) / 255
    height, width = ink.shape
    dark, light = generator.uniform(0, 90), generator.uniform(170, 255)
    paper, tone = (dark, light) if generator.random() < 0.2 else (light, dark)
    down, across = generator.uniform(-12, 12, 2)
    slope = np.linspace(-down, down, height)[:, None] + np.linspace(-across, across, width)
    noise = generator.normal(0, generator.uniform(0, 12), ink.shape)
    tones = paper + (tone - paper) * ink + slope + noise
    return np.clip(np.round(tones), 0, 255).astype(np.uint8)


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise RuntimeError("this Pillow was built without FreeType: it has no font of that size")
    return font


def main() -> None:
    """Write a picture; print the words of one that was drawn by chance."""
    parser = argparse.ArgumentParser(description="Draw a page of printed words.")
    parser.add_argument("picture", metavar="PNG")
    parser.add_argument("--text", help="what to print; \\n starts a new line")
    parser.add_argument("--size", type=int, default=28, help="pixels of an em, for --text")
    parser.add_argument("--seed", type=int, default=0, help="for words by chance")
    arguments = parser.parse_args()
    if arguments.text is not None:
        text = arguments.text.replace("\\n", "\n")
        draw_text(text, arguments.size).save(arguments.picture)
        return
    page = draw_page(np.random.default_rng(arguments.seed), 400, 200)
    Image.fromarray(page.image).save(arguments.picture)
    print(" ".join(word.text for word in page.words))


if __name__ == "__main__":
    main()

"""The text pipeline of examples/: its client against the real server, at its boundaries too."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.http as httpclient
from PIL import Image, ImageDraw, ImageFont
from support.clients import unharmed
from support.scripts import EXAMPLES, load_module, run_client, run_script
from support.servers import RunningServer, serving

PAGE = EXAMPLES / "text" / "images" / "page.png"
ON_PAGE = "Triton serves models: images, text and 1024 more. What would you like to run?"
LINES = [
    "The quick brown fox jumps",
    "over 13 lazy dogs, twice!",
    "Where is station 42-B?",
    "Invoice 7089: total 56.30",
]


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with serving(EXAMPLES / "text_repository") as running, unharmed(running):
        yield running


def printed(*lines: str, size: int = 28, ink: int = 0, paper: int = 255) -> Any:
    """Lines of text as anybody would print them with Pillow."""
    font = ImageFont.load_default(size)
    image = Image.new("L", (20 * size, (2 * len(lines) + 1) * size), paper)
    canvas = ImageDraw.Draw(image)
    for number, line in enumerate(lines):
        canvas.text((size, (2 * number + 0.5) * size), line, fill=ink, font=font)
    return np.asarray(image)


def read_text(server: RunningServer, image: Any) -> Any:
    tensor = httpclient.InferInput("image", list(image.shape), "UINT8")
    tensor.set_data_from_numpy(image)
    with httpclient.InferenceServerClient(server.http, network_timeout=30) as client:
        return client.infer("read_text", [tensor])


def words_of(result: Any) -> list[str]:
    return [word.decode() for word in result.as_numpy("words")]


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_the_client_prints_the_words_of_a_page(server: RunningServer, protocol: str) -> None:
    assert run_client(server, protocol, "read_text", PAGE) == f"{ON_PAGE}\n"


def test_the_client_prints_where_the_words_are(server: RunningServer) -> None:
    lines = run_client(server, "http", "read_text", "--boxes", PAGE).splitlines()

    assert [line.split()[0] for line in lines] == ON_PAGE.split()
    assert all(line.count(",") >= 2 for line in lines)


@pytest.mark.parametrize(("ink", "paper"), [(0, 255), (60, 200), (255, 0)])
@pytest.mark.parametrize("size", [24, 28, 40])
def test_words_come_back_in_reading_order(
    server: RunningServer, size: int, ink: int, paper: int
) -> None:
    result = read_text(server, printed(*LINES, size=size, ink=ink, paper=paper))

    assert words_of(result) == " ".join(LINES).split()


def test_each_word_has_the_box_that_it_is_printed_in(server: RunningServer) -> None:
    image = np.full((200, 500), 255, dtype=np.uint8)
    image[20:76, :] = printed("left", size=28)[:56, :500]
    image[110:166, 200:] = printed("right", size=28)[:56, :300]

    result = read_text(server, image)

    assert words_of(result) == ["left", "right"]
    for (left, top, right, bottom), (x, y) in zip(
        result.as_numpy("boxes"), ((28, 34), (228, 124)), strict=True
    ):
        assert abs(left - x) <= 5
        assert abs(top - y) <= 14
        assert 40 <= right - left <= 80
        assert 20 <= bottom - top <= 36


@pytest.mark.parametrize("shape", [(1, 1), (3, 200), (200, 3), (60, 60), (480, 640)])
def test_an_empty_page_has_no_words(server: RunningServer, shape: tuple[int, int]) -> None:
    result = read_text(server, np.full(shape, 230, dtype=np.uint8))

    assert result.as_numpy("words").shape == (0,)
    assert result.as_numpy("boxes").shape == (0, 4)


def test_a_page_may_be_full_of_words(server: RunningServer) -> None:
    lines = [" ".join(["many", "small", "words", str(number)]) for number in range(40)]

    result = read_text(server, printed(*lines, size=28))

    assert words_of(result) == " ".join(lines).split()


def test_pages_of_all_sizes_are_read_at_the_same_time(server: RunningServer) -> None:
    pages = [LINES[: 1 + number % 4] for number in range(12)]
    images = [printed(*page, size=24 + number) for number, page in enumerate(pages)]

    with ThreadPoolExecutor(4) as threads:
        results = list(threads.map(lambda image: read_text(server, image), images))

    assert [words_of(result) for result in results] == [" ".join(page).split() for page in pages]


# --- the steps in Python --------------------------------------------------------------------------

words = load_module(EXAMPLES / "text_repository" / "crop" / "1" / "words.py")
letters = load_module(EXAMPLES / "text_repository" / "decode" / "1" / "letters.py")


def test_boxes_are_put_in_reading_order() -> None:
    first = [(10, 10, 40, 30), (50, 13, 90, 33), (100, 8, 130, 28)]
    second = [(5, 40, 30, 50), (60, 36, 80, 56)]

    assert words.in_reading_order([*reversed(second), *reversed(first)]) == [*first, *second]


def test_cells_that_hang_together_are_one_word() -> None:
    regions = np.zeros((3, 12, 40), dtype=np.float32)
    regions[1:] = 8
    regions[0, 3:5, 4:10] = regions[0, 3:5, 14:20] = regions[0, 8, 4:6] = 1

    boxes = words.find_words(regions)

    lost = 16 * words.SHRUNK
    wanted = [(8 - lost, 8, 20 + lost, 24), (28 - lost, 8, 40 + lost, 24)]
    wanted.append((8 - lost, 26, 12 + lost, 42))
    assert np.allclose(boxes, wanted, atol=1e-4)


def test_crops_are_ink_of_one_height_whatever_the_tones() -> None:
    image = np.full((50, 120), 200, dtype=np.uint8)
    image[10:30, 20:40] = image[12:28, 60:110] = 50
    boxes = [(14, 8, 46, 32), (54, 8, 116, 32)]

    crops, inverse = words.cut_out(image, boxes), words.cut_out(255 - image, boxes)

    assert crops.shape[:2] == (2, words.HEIGHT)
    assert np.allclose(crops, inverse)
    assert crops.max() == pytest.approx(1)
    assert crops[0, :, -20:].max() == 0  # paper behind the shorter word
    assert crops[1, 16].mean() > 0.5


def test_a_box_may_reach_over_the_edge() -> None:
    crops = words.cut_out(np.zeros((10, 10), dtype=np.uint8), [(-5, -5, 3, 3), (8, 8, 30, 30)])

    assert crops.shape[:2] == (2, words.HEIGHT)


@pytest.mark.parametrize(
    ("steps", "text"),
    [
        ("", ""),
        ("   ", ""),
        ("aa b", "ab"),
        ("a aab", "aab"),
        (" h  e l lllo  ", "hello"),
        ("%9 9", "%99"),
    ],
)
def test_a_character_counts_again_only_after_a_gap(steps: str, text: str) -> None:
    scores = np.zeros((1, max(len(steps), 1), len(letters.CHARACTERS) + 1), dtype=np.float32)
    for step, character in enumerate(steps):
        scores[0, step, letters.CHARACTERS.find(character) + 1] = 1

    assert letters.read(scores) == [text]


# --- training and measuring -----------------------------------------------------------------------


@pytest.mark.slow
def test_pages_drawn_by_chance_are_read_as_well_as_stated() -> None:
    said = run_script(EXAMPLES / "text" / "measure.py", "--pages", "60", "--seed", "5")

    stated = (EXAMPLES / "text" / "ACCURACY.md").read_text()
    for found, expected in zip(percentages(said), percentages(stated), strict=True):
        assert found >= expected - 2, said


def percentages(text: str) -> list[float]:
    """Of words and of characters."""
    found = [float(number) for number in re.findall(r"([\d.]+) %\*\*", text)]
    assert len(found) == 2, text
    return found


@pytest.mark.slow
def test_the_networks_can_be_trained_anew(tmp_path: Path) -> None:
    said = run_script(EXAMPLES / "text" / "train.py", "--steps", "2", "--repository", tmp_path)

    assert "detect: step 2 of 2" in said
    assert "recognise: step 2 of 2" in said
    measure = EXAMPLES / "text" / "measure.py"
    assert "words are read" in run_script(measure, "--pages", "2", "--repository", tmp_path)

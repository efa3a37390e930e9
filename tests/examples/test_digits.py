"""The digits pipeline of examples/: its client against the real server, and its PNG reader."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import tritonclient.http as httpclient
from PIL import Image
from support.clients import unharmed
from support.scripts import EXAMPLES, load_module, run_client
from support.servers import RunningServer, serving

IMAGES = EXAMPLES / "digits" / "images"
WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]

png = load_module(EXAMPLES / "model_repository" / "digit_preprocess" / "1" / "png.py")


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with serving(EXAMPLES / "model_repository") as running, unharmed(running):
        yield running


def infer(server: RunningServer, model: str, name: str, values: Any, datatype: str) -> Any:
    tensor = httpclient.InferInput(name, list(values.shape), datatype)
    tensor.set_data_from_numpy(values)
    with httpclient.InferenceServerClient(server.http) as client:
        return client.infer(model, [tensor])


def files(*contents: bytes) -> Any:
    return np.array([[content] for content in contents], dtype=np.object_)


# --- the pipeline ---------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_the_client_prints_the_label_of_a_png_file(server: RunningServer, protocol: str) -> None:
    picture = IMAGES / "3.png"

    assert run_client(server, protocol, "read_digit", picture).startswith(f"{picture}: three, ")


def test_many_pictures_go_in_one_request(server: RunningServer) -> None:
    pictures = [IMAGES / f"{digit}.png" for digit in range(10)]
    pictures += [IMAGES / "3_large.png", IMAGES / "8_large.png"]

    lines = run_client(server, "http", "read_digit", *pictures).splitlines()

    wanted = [*WORDS, "three", "eight"]
    found = [
        line.removeprefix(f"{picture}: ") for picture, line in zip(pictures, lines, strict=True)
    ]
    assert [line.split(",")[0] for line in found] == wanted


def test_the_ensemble_says_what_its_steps_say(server: RunningServer) -> None:
    contents = files((IMAGES / "7.png").read_bytes())
    ink = infer(server, "digit_preprocess", "png", contents, "BYTES").as_numpy("image")
    scores = infer(server, "digits", "image", ink, "FP32").as_numpy("scores")
    last = infer(server, "digit_postprocess", "scores", scores, "FP32")

    whole = infer(server, "read_digit", "png", contents, "BYTES")

    for output in ("label", "probability"):
        assert whole.as_numpy(output).tolist() == last.as_numpy(output).tolist()


@pytest.mark.parametrize("model", ["digit_preprocess", "read_digit"])
@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (b"no picture", "the picture is not a PNG file"),
        ((IMAGES / "3.png").read_bytes()[:60], "the PNG file is damaged"),
    ],
    ids=["text", "cut"],
)
def test_what_is_no_png_file_is_refused_in_words(
    server: RunningServer, model: str, contents: bytes, message: str
) -> None:
    with pytest.raises(httpclient.InferenceServerException, match=message) as error:
        infer(server, model, "png", files(contents), "BYTES")

    assert error.value.status() == "400"


# --- its PNG reader -------------------------------------------------------------------------------


def pixels(shape: Sequence[int], smooth: bool) -> Any:
    """Noise, for which no filter helps, or slopes, for which Pillow takes all of them in turn."""
    generator = np.random.default_rng(3)
    if smooth:
        steps = generator.integers(0, 4, shape)
        return np.cumsum(np.cumsum(steps, axis=0), axis=1).astype(np.uint8)
    return generator.integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("smooth", [False, True])
@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "P"])
@pytest.mark.parametrize("size", [(1, 1), (5, 7), (48, 64)])
def test_the_reader_sees_what_pillow_sees(mode: str, size: tuple[int, int], smooth: bool) -> None:
    values = pixels((*size, 3), smooth)
    image = Image.fromarray(values).convert(mode)
    if mode == "P":
        image.putpalette(pixels((256, 3), smooth=False).tobytes())
    file = io.BytesIO()
    image.save(file, "PNG", bits=8)

    found = png.decode_grey(file.getvalue())

    wanted = np.asarray(image.convert("RGB").convert("L"), dtype=np.int16)
    assert found.shape == size
    assert np.abs(found - wanted).max() <= 1  # Pillow rounds the sum of the colours otherwise


@pytest.mark.parametrize("smooth", [False, True])
@pytest.mark.parametrize("number", range(5), ids=["none", "sub", "up", "average", "paeth"])
def test_every_filter_is_undone(number: int, smooth: bool) -> None:
    values = pixels((40, 30, 3), smooth) % 8  # so small that neighbours are equally near at times
    file = filtered_png(values, number)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(file))), values)

    found = png.decode_grey(file)

    assert np.abs(found - (values @ [0.299, 0.587, 0.114])).max() <= 0.5


def filtered_png(values: Any, number: int) -> bytes:
    """A PNG file of an RGB picture whose rows are all filtered alike."""
    raw = np.pad(values.astype(np.int16), ((1, 0), (1, 0), (0, 0)))
    left, up, corner = raw[1:, :-1], raw[:-1, 1:], raw[:-1, :-1]
    distances = np.stack([abs(up - corner), abs(left - corner), abs(left + up - 2 * corner)])
    nearest = np.choose(distances.argmin(axis=0), [left, up, corner])  # the first one of equals
    predicted = (np.zeros_like(left), left, up, (left + up) // 2, nearest)[number]
    rows = (raw[1:, 1:] - predicted).astype(np.uint8).reshape(len(values), -1)
    data = zlib.compress(np.insert(rows, 0, number, axis=1).tobytes())
    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", data), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content))
        + name
        + content
        + struct.pack(">I", zlib.crc32(name + content))
        for name, content in chunks
    )


@pytest.mark.parametrize(
    "damage",
    [
        lambda file: file[:8],
        lambda file: file[:-60],
        lambda file: file.replace(b"IDAT", b"JDAT"),
        lambda file: file[:16] + b"\xff" * 8 + file[24:],
        lambda file: file[:16] + b"\0" * 8 + file[24:],
        lambda file: file[:24] + b"\x10" + file[25:],
        lambda file: b"GIF89a" + file,
    ],
    ids=["no_chunks", "cut", "no_pixels", "huge", "no_size", "sixteen_bits", "gif"],
)
def test_a_damaged_file_is_refused(damage: Any) -> None:
    with pytest.raises(png.PngError, match=r"PNG|picture"):
        png.decode_grey(damage((IMAGES / "3.png").read_bytes()))

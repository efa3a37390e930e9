"""Read the usual kinds of PNG files with zlib and numpy: 8 bits a sample, not interlaced.

The format is https://www.w3.org/TR/png-3: chunks, of which IHDR says what the pixels are, PLTE
holds the colours of a palette, and all IDAT together are the compressed rows. Each row starts with
the number of the filter that made it smaller, and is undone from its left and upper neighbours.
"""

import struct
import zlib

import numpy as np

SIGNATURE = b"\x89PNG\r\n\x1a\n"
#: Of each colour type the samples of a pixel: grey, RGB, palette, grey and alpha, RGB and alpha.
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
PALETTE = 3
#: More pixels than these are refused before memory and time are spent on them.
MOST_PIXELS = 1 << 22
#: How bright red, green and blue are: ITU-R 601.
BRIGHTNESS = np.array([0.299, 0.587, 0.114])


class PngError(ValueError):
    """Raised when a picture cannot be read; says why."""


def decode_grey(file):
    """The picture as UINT8 of shape [height, width]; transparency is ignored. Raises PngError."""
    if not file.startswith(SIGNATURE):
        raise PngError("the picture is not a PNG file")
    try:
        chunks = _chunks(file)
        width, height, bits, colour, _, _, interlaced = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
        if bits != 8 or colour not in CHANNELS or interlaced:
            raise PngError("the PNG file must have 8 bits a sample and must not be interlaced")
        if not 0 < width * height <= MOST_PIXELS:
            raise PngError(f"the picture has {width}x{height} pixels: more than can be read")
        pixels = _unfilter(_inflate(chunks, width, height, CHANNELS[colour]), CHANNELS[colour])
        if colour == PALETTE:
            pixels = np.frombuffer(chunks[b"PLTE"], np.uint8).reshape(-1, 3)[pixels[:, :, 0]]
    except (KeyError, IndexError, ValueError, struct.error, zlib.error) as error:
        if isinstance(error, PngError):
            raise
        raise PngError("the PNG file is damaged") from error
    if pixels.shape[2] < 3:
        return pixels[:, :, 0]
    return np.round(pixels[:, :, :3] @ BRIGHTNESS).astype(np.uint8)


def _chunks(file):
    """The contents of the chunks by their names; all IDAT are put together."""
    chunks = {}
    start = len(SIGNATURE)
    while start < len(file):
        length, name = struct.unpack_from(">I4s", file, start)
        chunks[name] = chunks.get(name, b"") + file[start + 8 : start + 8 + length]
        start += length + 12  # its length, its name, and a checksum behind it
    return chunks


def _inflate(chunks, width, height, channels):
    """The rows as they were compressed: UINT8 of shape [height, 1 + width * channels]."""
    size = height * (1 + width * channels)
    data = zlib.decompressobj().decompress(chunks[b"IDAT"], size)
    return np.frombuffer(data, np.uint8).reshape(height, 1 + width * channels)


def _unfilter(rows, channels):
    """Undo the filter of each row: UINT8 of shape [height, width, channels]."""
    above = np.zeros(((rows.shape[1] - 1) // channels, channels), np.uint8)
    pixels = np.empty((len(rows), *above.shape), np.uint8)
    for number, row in enumerate(rows):
        filtered = row[1:].reshape(above.shape)
        above = pixels[number] = UNDO[row[0]](filtered, above)
    return pixels


def _undo_sub(row, above):
    return np.cumsum(row, axis=0, dtype=np.uint8)


def _undo_average(row, above):
    """Each sample was reduced by the mean of its left and upper neighbours."""

    def predict(left, up, _):
        return (left + up) // 2

    return _one_by_one(row, above, predict)


def _undo_paeth(row, above):
    """Each sample was reduced by whichever neighbour is nearest to left + up - corner."""

    def predict(left, up, corner):
        to_left, to_up = abs(up - corner), abs(left - corner)
        to_corner = abs(left + up - 2 * corner)
        if to_left <= to_up and to_left <= to_corner:
            return left
        return up if to_up <= to_corner else corner

    return _one_by_one(row, above, predict)


def _one_by_one(row, above, predict):
    """Filters whose samples need their left neighbours first."""
    result = []
    for samples, uppers in zip(row.T.tolist(), above.T.tolist(), strict=True):  # of each channel
        left = corner = 0
        for sample, up in zip(samples, uppers, strict=True):
            left = (sample + predict(left, up, corner)) & 255
            corner = up
            result.append(left)
    return np.array(result, np.uint8).reshape(row.T.shape).T


#: By the number of the filter.
UNDO = (
    lambda row, above: row,
    _undo_sub,
    lambda row, above: row + above,
    _undo_average,
    _undo_paeth,
)

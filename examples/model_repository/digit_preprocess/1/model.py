"""The bytes of a picture in, what the model `digits` was trained on out.

That is 8x8 pixels, each the amount of ink from 0 to 16 in one square of a tightly cut picture. A
picture of exactly 8x8 pixels is taken as it is, light digit on dark ground; any other one is cut to
the digit and reduced, after dark writing on light paper was turned round.
"""

import numpy as np
import triton_python_backend_utils as pb_utils

from .png import PngError, decode_grey

SIDE = 8
FULL_INK = 16.0
#: A pixel with less than this share of the most ink counts as paper when the digit is cut out.
FAINT = 0.2


class TritonPythonModel:
    """Reads PNG files without any image library."""

    def execute(self, requests):
        """Answer each request on its own; one that is no picture is refused, the others are not."""
        return [self._answer(request) for request in requests]

    def _answer(self, request):
        files = pb_utils.get_input_tensor_by_name(request, "png").as_numpy()
        try:
            images = np.stack([read_digit(file) for file in files.ravel()])
        except PngError as error:
            refusal = pb_utils.TritonError(str(error), pb_utils.TritonError.INVALID_ARG)
            return pb_utils.InferenceResponse(error=refusal)
        return pb_utils.InferenceResponse([pb_utils.Tensor("image", images)])


def read_digit(file):
    """FP32 of shape [1, 8, 8], ink from 0 to 16. Raises PngError."""
    pixels = decode_grey(file).astype(np.float32)
    if pixels.shape != (SIDE, SIDE):
        pixels = reduce(cut_out(light_on_dark(pixels)))
    return (pixels * (FULL_INK / 255))[None]


def light_on_dark(pixels):
    """Turn the tones round when the edge of the picture is light."""
    edge = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    return 255 - pixels if np.median(edge) > 127 else pixels


def cut_out(pixels):
    """The smallest square around the ink, the digit in its middle."""
    ink = pixels > FAINT * pixels.max()
    if not ink.any():
        raise PngError("the picture is empty: there is no digit to read")
    rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
    cut = pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    side = max(cut.shape)
    square = np.zeros((side, side), dtype=np.float32)
    top, left = (side - cut.shape[0]) // 2, (side - cut.shape[1]) // 2
    square[top : top + cut.shape[0], left : left + cut.shape[1]] = cut
    return square


def reduce(square):
    """Average over the squares of an 8x8 grid, the darkest of which becomes full ink."""
    edges = np.linspace(0, len(square), SIDE + 1)
    pixels = np.arange(len(square))
    #: How much of each pixel lies in each of the eight stripes.
    shares = np.clip(
        np.minimum(pixels + 1, edges[1:, None]) - np.maximum(pixels, edges[:-1, None]), 0, 1
    ) * (SIDE / len(square))
    reduced = (shares @ square @ shares.T).astype(np.float32)
    return reduced * (255 / max(float(reduced.max()), 1.0))

"""From the recogniser's scores to text: the simplest decoding of connectionist temporal
classification (CTC), in numpy alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

#: The characters of the classes from 1 on; class 0 is "no (new) character".
CHARACTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,:;!?'-+/%"
NOTHING = 0


def read(scores: npt.NDArray[np.float32]) -> list[str]:
    """The words of scores [words, steps, classes].

    Each step says its likeliest class. A character that lasts for several steps counts once, and
    twice only with "nothing" in between.
    """
    return [_collapse(row) for row in scores.argmax(axis=2)]


def _collapse(classes: npt.NDArray[Any]) -> str:
    changes = classes[np.flatnonzero(np.diff(classes, prepend=NOTHING))]
    return "".join(CHARACTERS[each - 1] for each in changes if each != NOTHING)

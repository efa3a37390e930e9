"""The settings of `--backend-config=python,…`: which there are, and what they do here.

A python-based backend has the same ones, and any that it reads itself.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..ipc.errors import InvalidArgumentError

_START_TIMEOUT = "stub-timeout-seconds"

#: Settings of Triton's python backend that are about its shared memory, of which there is none
#: here, and about its threads, which are started here as they are needed.
_WITHOUT_EFFECT = (
    "shm-default-byte-size",
    "shm-growth-byte-size",
    "shm_message_queue_size",
    "shm-region-prefix-name",
    "thread-pool-size",
)

_KNOWN = (*_WITHOUT_EFFECT, _START_TIMEOUT)


def unknown(python: Mapping[str, str]) -> list[str]:
    """A sentence for each setting of the python backend that means nothing."""
    return [
        f"--backend-config=python,{key} is not a setting of the python backend and has no effect: "
        f"it has {', '.join(_KNOWN)}"
        for key in python
        if key not in _KNOWN
    ]


def start_timeout(backend: str, given: Mapping[str, str], usual: int) -> int:
    """The seconds that a worker of a python or python-based backend may take to start.

    Raises InvalidArgumentError when the setting is no such number.
    """
    text = given.get(_START_TIMEOUT)
    if text is None:
        return usual
    if not text.isascii() or not text.isdecimal() or int(text) < 1:
        raise InvalidArgumentError(
            f"invalid value '{text}' for --backend-config={backend},{_START_TIMEOUT}: expected a "
            "number of seconds, 1 or more"
        )
    return int(text)

"""How long the steps of one request to an ensemble have computed, all together."""

from __future__ import annotations

from collections.abc import Callable


class StepTimes:
    """Sums over all executions of steps, in nanoseconds.

    A decoupled step may send its last response before its execution ends; the sums are complete
    when no execution is open.
    """

    __slots__ = ("_on_complete", "_open", "infer_ns", "input_ns", "output_ns")

    def __init__(self) -> None:
        self.input_ns = self.infer_ns = self.output_ns = 0
        self._open = 0
        self._on_complete: Callable[[], None] | None = None

    def began(self) -> None:
        """A request of a step has gone to a worker."""
        self._open += 1

    def ended(self, input_ns: int = 0, infer_ns: int = 0, output_ns: int = 0) -> None:
        """Its execution has ended, or was lost with the worker."""
        self.input_ns += input_ns
        self.infer_ns += infer_ns
        self.output_ns += output_ns
        self._open -= 1
        self._tell()

    def whenever_complete(self, call: Callable[[], None]) -> None:
        """Call this once no execution is open, which may be now; no step begins any more."""
        self._on_complete = call
        self._tell()

    def _tell(self) -> None:
        if not self._open:
            call, self._on_complete = self._on_complete, None
            if call is not None:
                call()

"""What executions and responses add to a version's statistics, latencies and traces."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ...ipc import messages
from ...ipc.errors import CancelledError
from ..request import RequestTrace
from ..scheduling.scheduler import Work
from ..telemetry.statistics import MemoryUsage, ResponseOutcome, VersionStatistics
from .instance import Instance


class Accounts:
    """Counts for one model version what its instances do."""

    def __init__(self, statistics: VersionStatistics) -> None:
        self._statistics = statistics

    def executed(self, batch: Sequence[Work], message: messages.Executed) -> None:
        """Count one execution, also one that failed, and the requests in it that did not."""
        failed = {
            response.key
            for response in message.responses
            if response.error is not None and not response.deliberate
        }
        input_ns = message.input_end_ns - message.start_ns
        infer_ns = message.output_start_ns - message.input_end_ns
        output_ns = message.end_ns - message.output_start_ns
        rows = failed_rows = requests = queue_ns = 0
        latencies = self._statistics.latencies
        if latencies is not None:
            queued = [message.start_ns - w.enqueued_ns for w in batch if w.key not in failed]
            latencies.executed(queued, input_ns, infer_ns, output_ns)
        for work in batch:
            request = work.request
            rows += request.batch_size
            if work.key in failed:
                failed_rows += request.batch_size
            else:
                requests += 1
                queue_ns += message.start_ns - work.enqueued_ns
            if request.trace is not None:
                _stamp(request.trace, message)
            if request.times is not None:
                request.times.ended(input_ns, infer_ns, output_ns)
        self._statistics.executed(
            rows, requests, queue_ns, input_ns, infer_ns, output_ns, failed_rows
        )

    def responded(self, work: Work, message: messages.Responded) -> None:
        """Count one response of a decoupled model."""
        index = work.responses
        started_ns = max(message.started_ns, work.responded_ns)
        work.responded_ns = message.end_ns
        if not index and self._statistics.latencies is not None:
            self._statistics.latencies.responded_first(message.end_ns - work.request.received_ns)
        self._statistics.responded(
            index,
            _outcome(work, message.response),
            message.output_start_ns - started_ns,
            message.end_ns - message.output_start_ns,
        )

    def add_up_memory(self, instances: Iterable[Instance]) -> None:
        """Tell the statistics what the model takes in all its workers, by type and device."""
        sizes: dict[tuple[str, int], int] = {}
        for instance in instances:
            for used in instance.memory_usage:
                place = used.type, used.id
                sizes[place] = sizes.get(place, 0) + used.byte_size
        self._statistics.memory_usage = [
            MemoryUsage(type=kind, id=device, byte_size=size)
            for (kind, device), size in sorted(sizes.items())
        ]


def _stamp(trace: RequestTrace, message: messages.Executed) -> None:
    trace.stamp("COMPUTE_START", message.start_ns)
    trace.stamp("COMPUTE_INPUT_END", message.input_end_ns)
    trace.stamp("COMPUTE_OUTPUT_START", message.output_start_ns)
    trace.stamp("COMPUTE_END", message.end_ns)
    trace.at_worker(False)


def _outcome(work: Work, response: messages.Response) -> ResponseOutcome:
    error = response.error
    if error is None:
        if response.outputs:
            return "success"
        return "cancel" if work.cancelled else "empty_response"
    return "cancel" if error.code == CancelledError.code else "fail"

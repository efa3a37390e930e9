"""A model's own metrics in its process: what may be done to them, and what is refused."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable

import pytest

from tritonpy.ipc.errors import InvalidArgumentError
from tritonpy.ipc.messages import MetricChange, MetricChanges
from tritonpy.worker.python import metrics
from tritonpy.worker.python.errors import TritonModelException
from tritonpy.worker.python.metric_registry import Registry
from tritonpy.worker.python.metrics import Metric, MetricFamily, MetricKind

TIMEOUT = 10.0

COUNTER, GAUGE, HISTOGRAM = MetricFamily.COUNTER, MetricFamily.GAUGE, MetricFamily.HISTOGRAM


class Supervisor:
    """Remembers what it is told, and refuses families of one name."""

    def __init__(self) -> None:
        self.declared: list[tuple[str, str, str]] = []
        self.told: list[MetricChanges] = []
        self.heard = threading.Event()

    def declare_family(self, name: str, description: str, kind: str) -> None:
        self.declared.append((name, description, kind))
        if name == "taken":
            raise InvalidArgumentError("Family name already exists with different type")

    def tell_metrics(self, changes: MetricChanges) -> None:
        self.told.append(changes)
        self.heard.set()


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Registry:
    made = Registry()
    monkeypatch.setattr(metrics, "REGISTRY", made)
    return made


@pytest.fixture
def supervisor(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> Supervisor:
    """One that hears of changes only when they are flushed."""
    monkeypatch.setattr(registry, "_start", lambda: None)
    made = Supervisor()
    registry.connect(made, "m_0_0")
    return made


def family(kind: MetricKind, name: str = "things") -> MetricFamily:
    return MetricFamily(name=name, description="Things", kind=kind)


def metric_of(kind: MetricKind) -> tuple[MetricFamily, Metric]:
    """A metric of this kind; it lives as long as its family is held."""
    made = family(kind, kind.name.lower())
    return made, made.Metric(buckets=[1.0, 2.0] if kind is HISTOGRAM else None)


# --- in the process -------------------------------------------------------------------------------


@pytest.mark.usefixtures("registry")
def test_values_are_there_at_once_and_without_a_server() -> None:
    counters, gauges = family(COUNTER, "a"), family(GAUGE, "b")
    counter, gauge = counters.Metric(labels={"x": "1"}), gauges.Metric()

    counter.increment(2)
    counter.increment(0.5)
    gauge.set(4)
    gauge.increment(-6)

    assert counter.value() == 2.5
    assert gauge.value() == -2.0


@pytest.mark.usefixtures("registry")
def test_a_family_that_is_made_twice_has_the_same_metrics() -> None:
    first, second = family(COUNTER), family(COUNTER)
    one = first.Metric(labels={"a": "1", "b": "2"})
    same = second.Metric(labels={"b": "2", "a": "1"})
    other = second.Metric(labels={"a": "1", "b": "3"})

    one.increment(3)
    same.increment(1)

    assert (one.value(), same.value(), other.value()) == (4.0, 4.0, 0.0)


REFUSED: list[tuple[MetricKind, Callable[[Metric], object], str]] = [
    (
        COUNTER,
        lambda m: m.increment(-1),
        "increment|COUNTER can only be incremented monotonically by non-negative values.",
    ),
    (COUNTER, lambda m: m.set(1), "set|COUNTER does not support Set"),
    (COUNTER, lambda m: m.observe(1), "observe|COUNTER does not support Observe"),
    (GAUGE, lambda m: m.observe(1), "observe|GAUGE does not support Observe"),
    (HISTOGRAM, lambda m: m.increment(1), "increment|HISTOGRAM does not support Increment"),
    (HISTOGRAM, lambda m: m.set(1), "set|HISTOGRAM does not support Set"),
    (HISTOGRAM, lambda m: m.value(), "get|HISTOGRAM does not support Value"),
]


@pytest.mark.usefixtures("supervisor")
@pytest.mark.parametrize(("kind", "operation", "expected"), REFUSED)
def test_what_a_kind_does_not_do_is_refused_in_triton_s_words(
    kind: MetricKind, operation: Callable[[Metric], object], expected: str
) -> None:
    _family, metric = metric_of(kind)
    doing, reason = expected.split("|")

    with pytest.raises(TritonModelException) as raised:
        operation(metric)

    assert str(raised.value) == (
        f"Failed to {doing} metric value: Failed to process the request for model 'm_0_0', "
        f"message: TRITONSERVER_METRIC_KIND_{reason}"
    )


@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize("value", ["1", b"1", None, [1]])
def test_a_value_that_is_no_number_is_refused(value: object) -> None:
    _family, metric = metric_of(COUNTER)

    with pytest.raises(TypeError, match="increment expects a number, got"):
        metric.increment(value)  # type: ignore[arg-type]

    assert metric.value() == 0.0


@pytest.mark.usefixtures("supervisor")
@pytest.mark.parametrize(
    ("kind", "arguments", "expected"),
    [
        (
            COUNTER,
            {"labels": [("a", "b")]},
            "create metric. Labels must be a dictionary.",
        ),
        (COUNTER, {"buckets": [1.0]}, "Failed to create metric. Unexpected buckets found."),
        (HISTOGRAM, {}, "Failed to create metric. Missing required buckets."),
        (HISTOGRAM, {"buckets": (1.0,)}, "Failed to create metric. Buckets must be a list."),
        (COUNTER, {"labels": {"a": 1}}, "message: attempt to access JSON non-string as string"),
        (COUNTER, {"labels": {"a-b": "c"}}, "message: Invalid label name"),
        (COUNTER, {"labels": {"__a": "c"}}, "message: Invalid label name"),
        (COUNTER, {"labels": {"é": "c"}}, "message: Invalid label name"),
        (COUNTER, {"labels": {1: "c"}}, "message: Invalid label name"),
        (HISTOGRAM, {"labels": {"le": "c"}, "buckets": [1.0]}, "message: Invalid label name"),
        (HISTOGRAM, {"buckets": [2.0, 1.0]}, "message: Bucket Boundaries must be strictly sorted"),
        (HISTOGRAM, {"buckets": [1.0, 1.0]}, "message: Bucket Boundaries must be strictly sorted"),
        (HISTOGRAM, {"buckets": [float("nan")]}, "message: Bucket Boundaries must be strictly"),
    ],
)
def test_labels_and_buckets_that_are_wrong_are_refused(
    kind: MetricKind, arguments: dict[str, object], expected: str
) -> None:
    made = family(kind)

    with pytest.raises(TritonModelException) as raised:
        made.Metric(**arguments)  # type: ignore[arg-type]

    assert expected in str(raised.value)


@pytest.mark.usefixtures("supervisor")
@pytest.mark.parametrize("name", ["", "a b", "1a", "é", "a-b"])
def test_a_name_that_prometheus_does_not_know_is_refused(name: str) -> None:
    with pytest.raises(TritonModelException) as raised:
        MetricFamily(name, "", COUNTER)

    assert str(raised.value) == (
        "Error when creating MetricFamily: Failed to process the request for model 'm_0_0', "
        "message: Invalid metric name"
    )


@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize("arguments", [(1, "", COUNTER), ("a", None, COUNTER), ("a", "", 0)])
def test_arguments_of_other_types_are_refused(arguments: tuple[object, ...]) -> None:
    with pytest.raises(TypeError):
        MetricFamily(*arguments)  # type: ignore[arg-type]


@pytest.mark.usefixtures("registry")
def test_a_name_stands_for_one_kind_as_long_as_a_family_has_it() -> None:
    held = family(COUNTER)
    with pytest.raises(TritonModelException, match="Family name already exists with different"):
        family(GAUGE)

    del held
    gc.collect()

    gauges = family(GAUGE)
    assert gauges.Metric().value() == 0.0


@pytest.mark.usefixtures("registry")
def test_metrics_go_with_their_family() -> None:
    made, metric = metric_of(GAUGE)
    metric.set(3)

    del made
    gc.collect()

    for operation in (lambda: metric.set(1), lambda: metric.increment(1), metric.value):
        with pytest.raises(TritonModelException, match="'MetricFamily' has been deleted"):
            operation()
    again = family(GAUGE, "gauge")
    assert again.Metric().value() == 0.0


# --- what the supervisor is told ------------------------------------------------------------------


def test_the_supervisor_is_asked_for_each_family(supervisor: Supervisor) -> None:
    family(HISTOGRAM, "h")

    with pytest.raises(TritonModelException) as raised:
        family(GAUGE, "taken")

    assert supervisor.declared == [("h", "Things", "histogram"), ("taken", "Things", "gauge")]
    assert str(raised.value).endswith("message: Family name already exists with different type")


def test_a_refused_family_takes_no_name(supervisor: Supervisor) -> None:
    for kind in (GAUGE, COUNTER):
        with pytest.raises(TritonModelException):
            family(kind, "taken")

    assert [kind for _, _, kind in supervisor.declared] == ["gauge", "counter"]


def test_changes_are_added_up_until_they_are_told(
    registry: Registry, supervisor: Supervisor
) -> None:
    made, metric = metric_of(COUNTER)
    for _ in range(1000):
        metric.increment(2)

    registry.flush()
    registry.flush()

    assert supervisor.told == [MetricChanges([MetricChange("counter", [], 2000.0)])]
    assert made is not None


def test_a_metric_is_told_before_anything_is_done_to_it(
    registry: Registry, supervisor: Supervisor
) -> None:
    made = family(COUNTER)
    made.Metric(labels={"b": "2", "a": "1"})

    registry.flush()

    change = MetricChange("things", [("a", "1"), ("b", "2")])
    assert supervisor.told == [MetricChanges([change])]


def test_a_gauge_is_told_as_set_and_then_raised(registry: Registry, supervisor: Supervisor) -> None:
    _family, metric = metric_of(GAUGE)
    metric.increment(100)
    metric.set(5)
    metric.increment(2)
    registry.flush()
    metric.increment(1)
    registry.flush()

    changes = [changes.changes[0] for changes in supervisor.told]
    assert [(change.base, change.added) for change in changes] == [(5.0, 2.0), (None, 1.0)]


def test_a_histogram_is_told_by_bucket(registry: Registry, supervisor: Supervisor) -> None:
    made = family(HISTOGRAM)
    metric = made.Metric(buckets=[1, 2.5, float("inf")])
    for value in (0.5, 1, 2, 2.5, 9):
        metric.observe(value)

    registry.flush()

    (change,) = supervisor.told[0].changes
    assert (change.bounds, change.counts, change.added) == ([1.0, 2.5], [2, 2, 1], 15.0)


def test_what_is_let_go_of_is_told_with_its_last_change(
    registry: Registry, supervisor: Supervisor
) -> None:
    made, metric = metric_of(COUNTER)
    metric.increment(3)
    again, same = metric_of(COUNTER)
    registry.flush()
    same.increment(4)

    del made, again
    gc.collect()
    registry.flush()

    dropped = MetricChange("counter", [], 4.0, dropped=True)
    assert supervisor.told[1] == MetricChanges([dropped], ["counter", "counter"])


def test_one_of_two_families_keeps_the_metric(registry: Registry, supervisor: Supervisor) -> None:
    made, metric = metric_of(COUNTER)
    again, _same = metric_of(COUNTER)
    registry.flush()

    del again
    gc.collect()
    metric.increment(1)
    registry.flush()

    assert supervisor.told[1] == MetricChanges([MetricChange("counter", [], 1.0)], ["counter"])
    assert made is not None


def test_a_name_is_free_for_others_before_it_is_asked_for_again(supervisor: Supervisor) -> None:
    made, _metric = metric_of(COUNTER)
    del made
    gc.collect()

    family(GAUGE, "counter")

    assert supervisor.told[-1].released == ["counter"]
    assert supervisor.declared[-1] == ("counter", "Things", "gauge")


def test_changes_that_no_answer_follows_are_told_by_themselves(registry: Registry) -> None:
    supervisor = Supervisor()
    registry.connect(supervisor, "m_0_0")
    made, metric = metric_of(COUNTER)

    metric.increment(1)

    assert supervisor.heard.wait(TIMEOUT)
    assert sum(change.added for told in supervisor.told for change in told.changes) == 1.0
    assert made is not None


def test_threads_that_count_at_once_lose_nothing(
    registry: Registry, supervisor: Supervisor
) -> None:
    _family, metric = metric_of(COUNTER)

    def count() -> None:
        for _ in range(500):
            metric.increment(1)
            registry.flush()

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT)

    told = sum(change.added for changes in supervisor.told for change in changes.changes)
    assert (told, metric.value()) == (2000.0, 2000.0)

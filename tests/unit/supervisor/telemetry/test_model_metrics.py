"""Metrics that models make, added up over the processes that hold them."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tritonpy.ipc.errors import InvalidArgumentError
from tritonpy.ipc.messages import MetricChange, MetricChanges
from tritonpy.supervisor.telemetry.host import Host
from tritonpy.supervisor.telemetry.metrics import Metrics
from tritonpy.supervisor.telemetry.model_metrics import Contributor, ModelMetrics


class Process:
    """A worker's process that makes metrics, and tells of each change at once."""

    def __init__(self, metrics: ModelMetrics) -> None:
        self.place = Contributor(metrics)

    def declare(self, name: str, kind: str = "counter", description: str = "Things") -> None:
        self.place.declare(name, description, kind)

    def add(self, name: str, by: float = 0.0, base: float | None = None, **labels: str) -> None:
        base = None if base is None else float(base)
        change = MetricChange(name, list(labels.items()), float(by), base)
        self.place.apply(MetricChanges([change]))

    def observe(self, name: str, bounds: Sequence[float], counts: Sequence[int]) -> None:
        change = MetricChange(name, [], 0.0, None, list(bounds), list(counts))
        self.place.apply(MetricChanges([change]))

    def drop(self, name: str, **labels: str) -> None:
        change = MetricChange(name, list(labels.items()), dropped=True)
        self.place.apply(MetricChanges([change], [name]))


@pytest.fixture
def metrics() -> ModelMetrics:
    return ModelMetrics()


@pytest.fixture
def one(metrics: ModelMetrics) -> Process:
    return Process(metrics)


@pytest.fixture
def two(metrics: ModelMetrics) -> Process:
    return Process(metrics)


def series(metrics: ModelMetrics) -> list[str]:
    return [line for line in metrics.lines() if not line.startswith("#")]


def test_counters_of_several_processes_add_up(
    metrics: ModelMetrics, one: Process, two: Process
) -> None:
    for process in (one, two):
        process.declare("hits")
    one.add("hits", 3, path="a")
    two.add("hits", 4.5, path="a")
    two.add("hits", 1, path="b")

    assert list(metrics.lines()) == [
        "# HELP hits Things",
        "# TYPE hits counter",
        'hits{path="a"} 7.5',
        'hits{path="b"} 1',
    ]


def test_the_last_set_of_a_gauge_wins_and_increments_add_to_it(
    metrics: ModelMetrics, one: Process, two: Process
) -> None:
    for process in (one, two):
        process.declare("depth", "gauge")
    one.add("depth", 2)
    two.add("depth", 3)
    assert series(metrics) == ["depth 5"]

    one.add("depth", 1, base=10)
    two.add("depth", -4)
    assert series(metrics) == ["depth 7"]

    two.add("depth", base=-1.5)
    assert series(metrics) == ["depth -1.5"]


def test_histograms_add_up_and_buckets_are_cumulative(
    metrics: ModelMetrics, one: Process, two: Process
) -> None:
    for process in (one, two):
        process.declare("size", "histogram")
    one.observe("size", [1.0, 2.5], [1, 2, 3])
    two.observe("size", [1.0, 2.5], [1, 0, 0])

    assert series(metrics) == [
        "size_count 7",
        "size_sum 0",
        'size_bucket{le="1"} 2',
        'size_bucket{le="2.5"} 4',
        'size_bucket{le="+Inf"} 7',
    ]


def test_other_bounds_are_counted_in_the_next_larger_of_the_first(
    metrics: ModelMetrics, one: Process, two: Process
) -> None:
    for process in (one, two):
        process.declare("size", "histogram")
    one.observe("size", [1.0, 5.0], [0, 0, 0])
    two.observe("size", [0.5, 3.0, 9.0], [1, 1, 1, 1])

    assert [line.split()[-1] for line in series(metrics)] == ["4", "0", "1", "2", "4"]


def test_a_name_stands_for_one_kind(metrics: ModelMetrics, one: Process, two: Process) -> None:
    one.declare("hits")
    with pytest.raises(InvalidArgumentError, match="Family name already exists"):
        two.declare("hits", "gauge")

    two.declare("hits", "counter", "Said otherwise")
    one.add("hits", 1)

    assert next(metrics.lines()) == "# HELP hits Things"


def test_a_name_is_free_when_all_have_let_go_of_it(one: Process, two: Process) -> None:
    one.declare("hits")
    two.declare("hits")
    one.drop("hits")
    with pytest.raises(InvalidArgumentError):
        one.declare("hits", "gauge")

    two.drop("hits")

    one.declare("hits", "gauge")


def test_a_family_without_metrics_is_not_shown(metrics: ModelMetrics, one: Process) -> None:
    one.declare("hits")

    assert not list(metrics.lines())


def test_a_metric_is_shown_until_the_last_holder_drops_it(
    metrics: ModelMetrics, one: Process, two: Process
) -> None:
    for process in (one, two):
        process.declare("hits")
        process.add("hits", 1)
    one.drop("hits")
    assert series(metrics) == ["hits 2"]

    two.drop("hits")
    assert not list(metrics.lines())


def test_a_dropped_metric_begins_anew(metrics: ModelMetrics, one: Process) -> None:
    one.declare("hits")
    one.add("hits", 5)
    one.drop("hits")
    one.declare("hits")
    one.add("hits", 1)

    assert series(metrics) == ["hits 1"]


def test_a_counter_goes_on_when_the_process_comes_back(metrics: ModelMetrics, one: Process) -> None:
    one.declare("hits")
    one.add("hits", 5)
    one.place.lose()
    assert series(metrics) == ["hits 5"]

    one.declare("hits")
    one.add("hits", 1)
    assert series(metrics) == ["hits 6"]

    one.place.leave()
    assert not list(metrics.lines())


def test_a_histogram_goes_on_when_the_process_comes_back(
    metrics: ModelMetrics, one: Process
) -> None:
    for _ in range(2):
        one.declare("size", "histogram")
        one.observe("size", [1.0], [1, 1])
        one.place.lose()

    assert series(metrics)[0] == "size_count 4"


def test_a_dead_process_takes_its_part_of_a_gauge_with_it(
    metrics: ModelMetrics, one: Process, two: Process
) -> None:
    for process in (one, two):
        process.declare("running", "gauge")
    one.add("running", 2)
    two.add("running", 3)

    one.place.lose()
    assert series(metrics) == ["running 3"]

    two.place.lose()
    assert not list(metrics.lines())


def test_what_a_gauge_was_set_to_outlives_the_process_that_did(
    metrics: ModelMetrics, one: Process, two: Process
) -> None:
    for process in (one, two):
        process.declare("size", "gauge")
        process.add("size")
    one.add("size", 1, base=7)

    one.place.leave()

    assert series(metrics) == ["size 7"]


def test_a_counter_that_others_hold_keeps_what_one_who_left_has_counted(
    metrics: ModelMetrics, one: Process, two: Process
) -> None:
    for process in (one, two):
        process.declare("hits")
        process.add("hits", 2)

    one.place.leave()
    assert series(metrics) == ["hits 4"]

    two.place.leave()
    assert not list(metrics.lines())


def test_a_process_that_comes_back_may_change_its_mind_about_a_kind(
    metrics: ModelMetrics, one: Process
) -> None:
    one.declare("hits")
    one.add("hits", 5)
    one.place.lose()

    one.declare("hits", "gauge")
    one.add("hits", base=1)

    assert list(metrics.lines())[1:] == ["# TYPE hits gauge", "hits 1"]
    one.place.leave()
    assert not list(metrics.lines())


def test_text_is_escaped(metrics: ModelMetrics, one: Process) -> None:
    one.declare("hits", "counter", "a\\b\nc")
    one.add("hits", 1, path='"\\\n')

    assert list(metrics.lines()) == [
        "# HELP hits a\\\\b\\nc",
        "# TYPE hits counter",
        'hits{path="\\"\\\\\\n"} 1',
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3.0, "3"),
        (0.1, "0.1"),
        (1e20, "1e+20"),
        (1234567890123.0, "1234567890123"),
        (float("inf"), "+Inf"),
        (float("-inf"), "-Inf"),
        (float("nan"), "NaN"),
    ],
)
def test_values_are_written_as_prometheus_reads_them(
    metrics: ModelMetrics, one: Process, value: float, text: str
) -> None:
    one.declare("size", "gauge")
    one.add("size", base=value)

    assert series(metrics) == [f"size {text}"]


def test_they_are_shown_after_the_server_s_own(metrics: ModelMetrics, one: Process) -> None:
    one.declare("hits")
    one.add("hits", 1)

    assert Metrics(own=metrics).render([]).endswith("# TYPE hits counter\nhits 1\n")


def test_no_model_takes_the_name_of_one_of_the_server_s(one: Process) -> None:
    text = Metrics(Host(1000)).render([], None, (0, 0))
    names = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]
    assert len(names) > 10
    for name in names:
        with pytest.raises(InvalidArgumentError, match=f"'{name}' is one of the server's"):
            one.declare(name)


STEPS = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from(["add", "lose", "leave", "drop"])), max_size=30
)


@given(STEPS)
def test_a_counter_never_runs_backwards_while_somebody_holds_it(
    steps: list[tuple[int, str]],
) -> None:
    metrics = ModelMetrics()
    processes = [Process(metrics) for _ in range(3)]
    holding: set[int] = set()
    shown = 0.0
    for number, step in steps:
        process = processes[number]
        if step == "add":
            if number not in holding:
                process.declare("hits")
                holding.add(number)
            process.add("hits", 1)
        elif step == "drop" and number in holding:
            process.drop("hits")
            holding.discard(number)
        elif step in ("lose", "leave"):
            getattr(process.place, step)()
            holding.discard(number)
        lines = series(metrics)
        if holding:
            value = float(lines[0].split()[1])
            assert value >= shown
            shown = value
        elif not lines:
            shown = 0.0
    for process in processes:
        process.place.leave()
    assert not list(metrics.lines())
    processes[0].declare("hits", "gauge")

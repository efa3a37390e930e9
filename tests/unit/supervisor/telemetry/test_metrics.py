"""Metrics: families, labels, what persists after an unload, and the text form."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tritonpy.supervisor.cache.cache import CacheSnapshot
from tritonpy.supervisor.telemetry.host import Host
from tritonpy.supervisor.telemetry.metrics import Metrics, ModelSeries
from tritonpy.supervisor.telemetry.statistics import VersionStatistics


def used(name: str = "m", version: int = 1) -> VersionStatistics:
    statistics = VersionStatistics(name, version)
    statistics.executed(4, 2, 3_000, 10_000, 20_000, 30_000)
    statistics.succeeded(100_000)
    statistics.succeeded(100_999)
    statistics.failed(1, "CANCELED")
    statistics.pending = 5
    statistics.load_ns = 1_500_000_000
    return statistics


def series(statistics: VersionStatistics, tags: Mapping[str, str] | None = None) -> ModelSeries:
    return ModelSeries(statistics.snapshot(), tags or {})


def samples(text: str) -> dict[str, str]:
    lines = [line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#")]
    found = {line[0]: line[1] for line in lines}
    assert len(found) == len(lines), "a series was written twice"
    return found


def test_every_family_of_a_version_is_shown() -> None:
    shown = samples(Metrics().render([series(used())]))
    labels = '{model="m",version="1"}'
    failures = {
        f'nv_inference_request_failure{{model="m",reason="{reason}",version="1"}}': count
        for reason, count in [
            ("REJECTED", "0"),
            ("CANCELED", "1"),
            ("BACKEND", "0"),
            ("OTHER", "0"),
        ]
    }
    assert shown == failures | {
        f"nv_inference_request_success{labels}": "2",
        f"nv_inference_count{labels}": "4",
        f"nv_inference_exec_count{labels}": "1",
        f"nv_inference_request_duration_us{labels}": "200",
        f"nv_inference_queue_duration_us{labels}": "3",
        f"nv_inference_compute_input_duration_us{labels}": "20",
        f"nv_inference_compute_infer_duration_us{labels}": "40",
        f"nv_inference_compute_output_duration_us{labels}": "60",
        f"nv_inference_pending_request_count{labels}": "5",
        f"nv_model_load_duration_secs{labels}": "1.5",
    }


def test_every_sample_stands_below_the_help_and_type_of_its_family() -> None:
    text = Metrics().render([series(used("a")), series(used("b"))])
    assert text.endswith("\n")
    types: dict[str, str] = {}
    family = ""
    for line in text.splitlines():
        if line.startswith("# HELP "):
            family = line.split()[2]
            assert family not in types
        elif line.startswith("# TYPE "):
            assert line.split()[2] == family
            types[family] = line.split()[3]
        else:
            assert line.split("{")[0] == family
    gauges = {name for name, kind in types.items() if kind == "gauge"}
    assert gauges == {"nv_inference_pending_request_count", "nv_model_load_duration_secs"}
    assert set(types.values()) == {"gauge", "counter"}


def test_without_counters_counts_stay_at_nothing_and_durations_are_not_there() -> None:
    metrics = Metrics(counters=False)
    metrics.retire(series(used()))
    shown = samples(metrics.render([series(used())]))
    assert {name.split("{")[0] for name, value in shown.items() if value == "0"} == {
        "nv_inference_request_success",
        "nv_inference_request_failure",
        "nv_inference_count",
        "nv_inference_exec_count",
    }
    assert {name.split("{")[0] for name, value in shown.items() if value != "0"} == {
        "nv_inference_pending_request_count",
        "nv_model_load_duration_secs",
    }


def test_metric_tags_become_labels_with_an_underscore_in_alphabetical_order() -> None:
    text = Metrics().render([series(used(), {"team": "a", "Zone-1": 'x"\\\ny'})])
    expected = 'nv_inference_count{_Zone_1="x\\"\\\\\\ny",_team="a",model="m",version="1"} 4'
    assert expected in text.splitlines()


def test_models_of_one_name_are_told_apart_by_their_namespace() -> None:
    snapshot = used().snapshot()
    text = Metrics().render([ModelSeries(snapshot, namespace=place) for place in ("/a", "/b")])
    for place in ("/a", "/b"):
        expected = f'nv_inference_count{{model="m",namespace="{place}",version="1"}} 4'
        assert expected in text.splitlines()


def test_failures_outlive_the_version_and_all_else_goes() -> None:
    metrics = Metrics()
    metrics.retire(series(used()))
    shown = samples(metrics.render([]))
    assert shown['nv_inference_request_failure{model="m",reason="CANCELED",version="1"}'] == "1"
    assert {name.split("{")[0] for name in shown} == {"nv_inference_request_failure"}


def test_failures_go_on_counting_when_the_version_comes_back() -> None:
    metrics = Metrics()
    metrics.retire(series(used()))
    shown = samples(metrics.render([series(used())]))
    assert shown['nv_inference_request_failure{model="m",reason="CANCELED",version="1"}'] == "2"
    assert shown['nv_inference_count{model="m",version="1"}'] == "4"


def test_two_generations_of_a_version_are_one_series() -> None:
    old, new = used(), used()
    new.load_ns = 2_000_000_000
    shown = samples(Metrics().render([series(old), series(new)]))
    assert shown['nv_inference_count{model="m",version="1"}'] == "8"
    assert shown['nv_model_load_duration_secs{model="m",version="1"}'] == "2.0"


def write_proc(proc: Path, cpu: str, available: int) -> None:
    (proc / "stat").write_text(f"cpu  {cpu}\ncpu0 1 2 3 4\n")
    (proc / "meminfo").write_text(
        f"MemTotal: 1000 kB\nMemFree: 5 kB\nMemAvailable: {available} kB\n"
    )


def test_the_machine_is_read_anew_after_the_interval(tmp_path: Path) -> None:
    now = [0]
    host = Host(2000, tmp_path, lambda: now[0])
    metrics = Metrics(host)
    # user nice system idle iowait irq softirq steal guest guest_nice
    write_proc(tmp_path, "100 0 100 700 100 0 0 0 50 0", available=600)
    assert samples(metrics.render([])) == {
        "nv_cpu_utilization": "0.0",
        "nv_cpu_memory_total_bytes": "1024000",
        "nv_cpu_memory_used_bytes": "409600",
    }
    write_proc(tmp_path, "150 0 100 740 110 0 0 0 100 0", available=500)
    now[0] = 1_999_999_999
    assert samples(metrics.render([]))["nv_cpu_utilization"] == "0.0"
    now[0] = 2_000_000_000
    shown = samples(metrics.render([]))
    assert shown["nv_cpu_utilization"] == "0.5"
    assert shown["nv_cpu_memory_used_bytes"] == "512000"


def test_the_real_machine_can_be_read() -> None:
    reading = Host(0).read()
    assert 0 < reading.memory_used_bytes < reading.memory_total_bytes


def test_versions_that_use_the_response_cache_have_its_counters() -> None:
    statistics, other = used(), used("other")
    statistics.cached = True
    statistics.cache_hit(5_000, 1_000)
    statistics.cache_missed(7_000)
    statistics.cache_inserted(2_000)

    text = Metrics().render([series(statistics), series(other)])

    found = {name: value for name, value in samples(text).items() if "cache" in name}
    labels = '{model="m",version="1"}'
    assert found == {
        f"nv_cache_num_hits_per_model{labels}": "1",
        f"nv_cache_hit_duration_per_model{labels}": "5",
        f"nv_cache_num_misses_per_model{labels}": "1",
        f"nv_cache_miss_duration_per_model{labels}": "9",
    }
    assert "# TYPE nv_cache_hit_duration_per_model counter" in text


def test_without_a_response_cache_nothing_is_said_of_one() -> None:
    assert "cache" not in Metrics().render([series(used())])


def test_a_cache_in_memory_has_gauges_of_its_own() -> None:
    reading = CacheSnapshot(
        size_bytes=1000,
        used_bytes=250,
        entries=2,
        lookups=7,
        hits=4,
        misses=3,
        evictions=1,
        lookup_ns=9_000,
        insertion_ns=8_000,
    )

    text = Metrics().render([], reading)

    assert {name: value for name, value in samples(text).items() if "cache" in name} == {
        "nv_cache_util": "0.25",
        "nv_cache_num_entries": "2",
        "nv_cache_num_lookups": "7",
        "nv_cache_num_hits": "4",
        "nv_cache_num_misses": "3",
        "nv_cache_num_evictions": "1",
        "nv_cache_lookup_duration": "9",
        "nv_cache_insertion_duration": "8",
    }
    assert text.count("gauge") >= 8


def test_instances_are_shown_by_state_where_there_are_any() -> None:
    old, new = used().snapshot(), used().snapshot()
    text = Metrics().render(
        [
            ModelSeries(old, instances={"READY": 1, "STOPPING": 1}),
            ModelSeries(new, instances={"READY": 2, "STOPPING": 0}),
            ModelSeries(used("ensemble").snapshot()),
        ]
    )
    shown = {k: v for k, v in samples(text).items() if k.startswith("tritonpy_")}
    assert shown == {
        'tritonpy_model_instances{model="m",state="READY",version="1"}': "3",
        'tritonpy_model_instances{model="m",state="STOPPING",version="1"}': "1",
    }

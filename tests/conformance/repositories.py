"""The model repositories of the conformance cases, which both servers serve unchanged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from .backend_folders import python_based
from .environment_folders import environments
from .model_files import DATATYPES, FLOAT, config, write_model
from .shaped_models import shaped


def protocol(repository: Path) -> None:
    """Models that behave, one for each thing that the protocol can say."""
    write_model(repository, "identity", "echo", config(*FLOAT))
    write_model(
        repository,
        "versions",
        "echo",
        config(*FLOAT, "version_policy { all { } }"),
        versions=("1", "3"),
    )
    pair = ["A FP32 2", "B INT32 -1"], ["OA FP32 2", "OB INT32 -1"]
    write_model(repository, "pair", "echo", config(*pair, batch=4))
    anything = ["IN FP32 -1"], ["OUT FP32 -1"]
    write_model(repository, "dynamic", "echo", config(*anything, "dynamic_batching { }", batch=4))
    optional = ["A FP32 2", "B FP32 2 optional: true"], ["OA FP32 2", "OB FP32 2"]
    write_model(repository, "optional", "echo", config(*optional))
    types = (
        [f"IN_{name} {name} -1 optional: true" for name in DATATYPES],
        [f"OUT_{name} {name} -1" for name in DATATYPES],
    )
    write_model(repository, "types", "echo", config(*types))
    write_model(repository, "text", "echo", config(["IN BYTES 1"], ["OUT BYTES 1"]))
    write_model(repository, "texts", "echo", config(["IN BYTES -1"], ["OUT BYTES -1"]))
    write_model(repository, "seen", "seen", config(["IN BYTES 1"], ["OUT BYTES 1"]))
    write_model(repository, "completed", "completed", None)
    described = config(
        ["IN FP32 2,3 reshape { shape: [ 6 ] }"],
        ['OUT FP32 2,3 reshape { shape: [ 6 ] } label_filename: "labels.txt"'],
        'parameters { key: "greeting" value { string_value: "hello" } }\n'
        'metric_tags { key: "team" value: "a" }\n'
        "instance_group [ { name: 'mine' count: 1 kind: KIND_CPU } ]\n"
        "dynamic_batching { preferred_batch_size: [ 2, 4 ] max_queue_delay_microseconds: 100 }\n"
        "optimization { priority: PRIORITY_MAX }",
        batch=8,
    )
    write_model(repository, "described", "echo", described, files={"labels.txt": "one\ntwo\n"})
    _scores(repository)


def _scores(repository: Path) -> None:
    labelled = ["IN FP32 6"], ['OUT FP32 6 label_filename: "labels.txt"']
    labels = {"labels.txt": "zero\none\ntwo\nthree\n"}
    write_model(repository, "labelled", "echo", config(*labelled, batch=4), files=labels)
    write_model(repository, "unlabelled", "echo", config(["IN FP32 6"], ["OUT FP32 6"]))
    write_model(repository, "grid", "echo", config(["IN INT32 2,3"], ["OUT INT32 2,3"]))


def backend(repository: Path) -> None:
    """Python models that go wrong, those that answer many times, and some to count with."""
    write_model(repository, "unruly", "unruly", config(*FLOAT))
    write_model(repository, "mortal", "unruly", config(*FLOAT))
    write_model(repository, "identity", "echo", config(*FLOAT))
    number = ["IN INT32 1"], ["OUT INT32 1"]
    decoupled = "model_transaction_policy { decoupled: true }"
    write_model(repository, "decoupled", "decoupled", config(*number, decoupled))
    anything = ["IN FP32 -1"], ["OUT FP32 -1"]
    write_model(repository, "counted", "echo", config(*anything, "dynamic_batching { }", batch=4))
    write_model(repository, "counted_failures", "unruly", config(*FLOAT))
    write_model(repository, "counted_responses", "decoupled", config(*number, decoupled))


def senders(repository: Path) -> None:
    """Python models that answer by senders, and from coroutines, decoupled and not."""
    texts = ["IN INT32 1"], ["OUT BYTES -1"]
    decoupled = "model_transaction_policy { decoupled: true }"
    for name, source in (("once", "senders"), ("awaited", "awaited")):
        write_model(repository, name, source, config(*texts))
    for name, source in (("many", "senders"), ("awaited_many", "awaited")):
        write_model(repository, name, source, config(*texts, decoupled))


def control(repository: Path) -> None:
    """Models for load and unload calls: good ones, and all kinds of broken ones."""
    for name in ("good", "other"):
        write_model(repository, name, "echo", config(*FLOAT))
    write_model(repository, "patient", "patient", config(*FLOAT))
    write_model(repository, "versions", "echo", config(*FLOAT), versions=("1", "2", "3"))
    chosen = config(*FLOAT, "version_policy { specific { versions: [ 1, 3 ] } }")
    write_model(repository, "chosen", "echo", chosen, versions=("1", "2", "3"))
    newest = config(*FLOAT, "version_policy { latest { num_versions: 2 } }")
    write_model(repository, "newest", "echo", newest, versions=("1", "2", "10", "010", "draft"))
    _broken_code(repository)
    _broken_configurations(repository)
    scalar = 'backend: "python"\n' + "".join(
        f'{field} {{ name: "{name}" data_type: TYPE_FP32 dims: 4 }}\n'
        for field, name in (("input", "IN"), ("output", "OUT"))
    )
    write_model(repository, "shorthand", "echo", scalar)
    write_model(repository, "unconfigured", "completed", None)


def _broken_code(repository: Path) -> None:
    head = "class TritonPythonModel:\n"
    execute = "    def execute(self, requests):\n        return []\n"
    for name, code in {
        "syntax": f"{head}    def execute(self, requests)\n        return []\n",
        "import": f"import no_such_module\n{head}{execute}",
        "init": (
            f"{head}    def initialize(self, args):\n"
            f"        raise RuntimeError('cannot initialise')\n{execute}"
        ),
        "class": "x = 1\n",
        "completion": (
            f"{head}    @staticmethod\n    def auto_complete_config(config):\n"
            f"        return 5\n{execute}"
        ),
        "conflict": (
            f"{head}    @staticmethod\n    def auto_complete_config(config):\n"
            "        config.add_input({'name': 'IN', 'data_type': 'TYPE_INT32', 'dims': [4]})\n"
            f"        return config\n{execute}"
        ),
    }.items():
        write_model(repository, f"broken_{name}", code, config(*FLOAT))


def _broken_configurations(repository: Path) -> None:
    good = config(*FLOAT)
    texts = {
        "garbage": 'backend: "python"\nthis is no config',
        "field": good + "no_such_field: 3\n",
        "enum": good.replace("TYPE_FP32", "TYPE_FLOAT"),
        "name": good + 'name: "somebody_else"\n',
        "backend": good.replace('"python"', '"no_such_backend"'),
        "platform": good.replace('backend: "python"', 'platform: "no_such_platform"'),
        "batch_size": good + "max_batch_size: -1\n",
        "dim_zero": good.replace("dims: [ 4 ]", "dims: [ 0 ]"),
        "dim_negative": good.replace("dims: [ 4 ]", "dims: [ -2 ]"),
        "no_dims": good.replace("dims: [ 4 ]", ""),
        "no_datatype": good.replace("data_type: TYPE_FP32", ""),
        "no_name": good.replace('name: "IN"', ""),
        "preferred": good + "max_batch_size: 4\ndynamic_batching { preferred_batch_size: [ 8 ] }\n",
        "preferred_zero": (
            good + "max_batch_size: 4\ndynamic_batching { preferred_batch_size: [ 0 ] }\n"
        ),
        "gpu": good + "instance_group [ { kind: KIND_GPU } ]\n",
        "cpu_with_gpus": good + "instance_group [ { kind: KIND_CPU gpus: [ 0 ] } ]\n",
        "policy": good + "version_policy { specific { versions: [ 7 ] } }\n",
        "latest_zero": good + "version_policy { latest { num_versions: 0 } }\n",
        "labels": config(["IN FP32 4"], ['OUT FP32 4 label_filename: "none.txt"']),
        "reshape": config(["IN FP32 4 reshape { shape: [ 3 ] }"], ["OUT FP32 4"]),
        "two_schedulers": good + "max_batch_size: 4\ndynamic_batching { } sequence_batching { }\n",
        "warmup": good
        + 'model_warmup [ { name: "w" batch_size: 1 inputs { key: "NOPE" value '
        + "{ data_type: TYPE_FP32 dims: [4] zero_data: true } } } ]\n",
    }
    for name, text in texts.items():
        write_model(repository, f"broken_{name}", "echo", text)
    write_model(repository, "broken_version", "echo", good, versions=("one",))
    write_model(repository, "broken_no_version", None, good, versions=())


def namespaces(repository: Path) -> None:
    """Two repositories in one folder, with models of one name in both."""
    for folder, others in (("first", ("single",)), ("second", ("other", "idle"))):
        for name in ("both", "half", *others):
            write_model(repository / folder, name, "echo", config(*FLOAT))
    (repository / "second" / "half" / "1" / "model.py").write_text("raise ValueError('no')\n")


def extensions(repository: Path) -> None:
    """Models for extensions that this server does not offer yet."""
    write_model(repository, "identity", "echo", config(*FLOAT))
    write_model(repository, "texts", "echo", config(["IN BYTES -1"], ["OUT BYTES -1"]))
    write_model(repository, "text", "echo", config(["IN BYTES 1"], ["OUT BYTES 1"]))
    number = ["IN INT32 1"], ["OUT INT32 1"]
    decoupled = "model_transaction_policy { decoupled: true }"
    write_model(repository, "decoupled", "decoupled", config(*number, decoupled))
    control = "".join(
        f'control_input [ {{ name: "{name}" control [ {{ kind: {kind} {more} }} ] }} ]\n'
        for name, kind, more in (
            ("START", "CONTROL_SEQUENCE_START", "int32_false_true: [ 0, 1 ]"),
            ("END", "CONTROL_SEQUENCE_END", "int32_false_true: [ 0, 1 ]"),
            ("CORRID", "CONTROL_SEQUENCE_CORRID", "data_type: TYPE_UINT64"),
        )
    )
    batching = f"sequence_batching {{ {control} }}"
    write_model(repository, "sequence", "sequence", config(*number, batching, batch=4))
    oldest = f"sequence_batching {{ oldest {{ max_candidate_sequences: 2 }} {control} }}"
    write_model(repository, "oldest", "sequence", config(*number, oldest, batch=4))
    iterative = f"sequence_batching {{ iterative_sequence: true {control} }}"
    write_model(repository, "iterative", "countdown", config(*number, iterative, batch=4))
    write_model(
        repository, "events", "countdown", config(*number, f"{decoupled}\n{iterative}", batch=4)
    )
    write_model(repository, "overeager", "overeager", config(*number, iterative, batch=4))


def cached(repository: Path) -> None:
    """Models that use the response cache, and some that cannot."""
    enabled = "response_cache { enable: true }"
    pair = ["A FP32 2", "B INT32 -1"], ["OA FP32 2", "OB INT32 -1"]
    for name in ("hits", "bytes", "outputs"):
        write_model(repository, name, "echo", config(*pair, enabled, batch=4))
    write_model(repository, "errors", "unruly", config(*FLOAT, enabled))
    write_model(repository, "uncached", "echo", config(*FLOAT, "response_cache { enable: false }"))
    decoupled = "model_transaction_policy { decoupled: true }"
    write_model(
        repository, "cached_decoupled", "decoupled", config(*FLOAT, f"{enabled} {decoupled}")
    )
    sequence = "sequence_batching { }"
    write_model(repository, "cached_sequence", "echo", config(*FLOAT, f"{enabled} {sequence}"))


def _ensemble(
    repository: Path,
    name: str,
    inputs: Sequence[str],
    outputs: Sequence[str],
    *steps: str,
    more: str = "",
    batch: int = 0,
) -> None:
    text = config(inputs, outputs, f"ensemble_scheduling {{ step [ {', '.join(steps)} ] }}", batch)
    text = text.replace('backend: "python"', 'platform: "ensemble"')
    write_model(repository, name, None, text + more)


def _step(model: str, inputs: dict[str, str], outputs: dict[str, str], version: int = -1) -> str:
    maps = [
        f'{field} {{ key: "{key}" value: "{value}" }}'
        for field, tensors in (("input_map", inputs), ("output_map", outputs))
        for key, value in tensors.items()
    ]
    return f'{{ model_name: "{model}" model_version: {version} {" ".join(maps)} }}'


_TWO, _OUT = ["A FP32 4", "B FP32 4"], ["OUT FP32 4"]
_PLAIN = _step("identity", {"IN": "IN"}, {"OUT": "OUT"})
_ADDED = _step("arithmetic", {"A": "A", "B": "B"}, {"SUM": "s", "DIFF": "D"})


def ensembles(repository: Path) -> None:
    """Ensembles that behave, and the models that they are made of."""
    write_model(repository, "identity", "echo", config(*FLOAT))
    write_model(repository, "three", "echo", config(["IN FP32 3"], ["OUT FP32 3"]))
    write_model(repository, "integers", "echo", config(["IN INT32 4"], ["OUT INT32 4"]))
    write_model(repository, "full", "echo", config(["IN FP32 -1,4"], ["OUT FP32 -1,4"]))
    write_model(repository, "any", "echo", config(["IN FP32 -1"], ["OUT FP32 -1"]))
    optional = ["A FP32 4", "B FP32 4 optional: true"], ["OA FP32 4", "OB FP32 4"]
    write_model(repository, "optional", "echo", config(*optional))
    sums = _TWO, ["SUM FP32 4", "DIFF FP32 4"]
    write_model(repository, "arithmetic", "arithmetic", config(*sums))
    write_model(repository, "arithmetic_batches", "arithmetic", config(*sums, batch=4))
    write_model(repository, "arithmetic_pairs", "arithmetic", config(*sums, batch=2))
    write_model(repository, "seen", "seen", config(["IN BYTES 1"], ["OUT BYTES 1"]))
    number = ["IN INT32 1"], ["OUT INT32 1"]
    decoupled = "model_transaction_policy { decoupled: true }"
    write_model(repository, "decoupled", "decoupled", config(*number, decoupled))
    write_model(repository, "number", "echo", config(*number))
    write_model(
        repository,
        "numbers",
        "echo",
        config(["A INT32 1", "B INT32 1"], ["OA INT32 1", "OB INT32 1"]),
    )
    write_model(repository, "broken", "x = 1\n", config(*FLOAT))
    after = _step("identity", {"IN": "s"}, {"OUT": "OUT"})
    _ensemble(repository, "chain", _TWO, [*_OUT, "D FP32 4"], _ADDED, after)
    chained = _step("chain", {"A": "A", "B": "B"}, {"OUT": "x"})
    _ensemble(
        repository, "nested", _TWO, _OUT, chained, _step("identity", {"IN": "x"}, {"OUT": "OUT"})
    )
    batches = _step("arithmetic_batches", {"A": "A", "B": "B"}, {"SUM": "s"})
    _ensemble(
        repository,
        "batched",
        _TWO,
        _OUT,
        batches,
        _step("full", {"IN": "s"}, {"OUT": "OUT"}),
        batch=4,
    )
    _ensemble(repository, "single", ["IN FP32 4"], _OUT, _PLAIN, batch=4)
    omitted = _step("arithmetic", {"A": "A", "B": "B"}, {"DIFF": "d"})
    _ensemble(
        repository, "omitted", _TWO, _OUT, omitted, _step("identity", {"IN": "d"}, {"OUT": "OUT"})
    )
    _ensemble(
        repository,
        "shapes",
        ["IN FP32 -1"],
        _OUT,
        _step("any", {"IN": "IN"}, {"OUT": "m"}),
        _step("identity", {"IN": "m"}, {"OUT": "OUT"}),
    )
    _ensemble(
        repository,
        "choice",
        *optional,
        _step("optional", {"A": "A", "B": "B"}, {"OA": "OA", "OB": "OB"}),
    )
    _ensemble(
        repository,
        "lesser",
        ["A FP32 4"],
        ["OA FP32 4"],
        _step("optional", {"A": "A"}, {"OA": "OA"}),
    )
    _ensemble(
        repository,
        "told",
        ["IN BYTES 1"],
        ["OUT BYTES 1"],
        _step("seen", {"IN": "IN"}, {"OUT": "x"}),
        _step("seen", {"IN": "x"}, {"OUT": "OUT"}),
    )
    many = _step("decoupled", {"IN": "IN"}, {"OUT": "x"})
    _ensemble(repository, "many", *number, many, _step("number", {"IN": "x"}, {"OUT": "OUT"}))
    _ensemble(
        repository, "first", ["IN FP32 4"], _OUT, _step("identity", {"IN": "IN"}, {"OUT": "OUT"}, 1)
    )
    _wrong_ensembles(repository)


def _wrong_ensembles(repository: Path) -> None:
    def wrong(
        name: str,
        *steps: str,
        inputs: Sequence[str] = ("IN FP32 4",),
        outputs: Sequence[str] = ("OUT FP32 4",),
        more: str = "",
        batch: int = 0,
    ) -> None:
        _ensemble(repository, f"wrong_{name}", inputs, outputs, *steps, more=more, batch=batch)

    both = {"A": "A", "B": "B"}
    wrong("type", _step("integers", {"IN": "IN"}, {"OUT": "OUT"}))
    wrong("shape", _step("three", {"IN": "IN"}, {"OUT": "OUT"}))
    wrong("input", _step("identity", {"NOPE": "IN"}, {"OUT": "OUT"}))
    wrong("output", _step("identity", {"IN": "IN"}, {"NOPE": "OUT"}))
    wrong("unmapped", _step("arithmetic", {"A": "IN"}, {"SUM": "OUT"}))
    wrong("batch", _step("arithmetic_pairs", both, {"SUM": "OUT"}), inputs=_TWO, batch=4)
    wrong("version", _step("identity", {"IN": "IN"}, {"OUT": "OUT"}, 9))
    wrong("no_version", _step("identity", {"IN": "IN"}, {"OUT": "OUT"}, 0))
    wrong("unknown", _step("nope", {"IN": "IN"}, {"OUT": "OUT"}))
    wrong("broken", _step("broken", {"IN": "IN"}, {"OUT": "OUT"}))
    wrong("itself", _step("wrong_itself", {"IN": "IN"}, {"OUT": "OUT"}))
    wrong("circle", _step("wrong_circle_back", {"IN": "IN"}, {"OUT": "OUT"}))
    wrong("circle_back", _step("wrong_circle", {"IN": "IN"}, {"OUT": "OUT"}))
    x, y = (_step("decoupled", {"IN": "IN"}, {"OUT": name}) for name in "xy")
    pair = _step("numbers", {"A": "x", "B": "y"}, {"OA": "OUT"})
    wrong("origins", x, y, pair, inputs=["IN INT32 1"], outputs=["OUT INT32 1"])
    wrong("no_step")
    wrong("no_map", _step("identity", {}, {"OUT": "OUT"}))
    wrong("no_name", _step("", {"IN": "IN"}, {"OUT": "OUT"}))
    wrong("group", _PLAIN, more="instance_group [ { kind: KIND_CPU } ]\n")
    wrong("unused_input", _PLAIN, inputs=["IN FP32 4", "X FP32 4"])
    wrong("unwritten", _PLAIN, outputs=["OUT FP32 4", "X FP32 4"])
    wrong("unused", _step("arithmetic", both, {"SUM": "OUT", "DIFF": "d"}), inputs=_TWO)
    wrong("unread", _step("arithmetic", {"A": "IN", "B": "ghost"}, {"SUM": "OUT"}))
    wrong("twice", _PLAIN, _PLAIN)
    waits = _step("arithmetic", {"A": "IN", "B": "y"}, {"SUM": "x"})
    turns = [_step("identity", {"IN": "x"}, {"OUT": name}) for name in ("y", "OUT")]
    wrong("loop", waits, *turns)


def calls(repository: Path) -> None:
    """A model that calls others, and those others."""
    write_model(repository, "identity", "echo", config(*FLOAT))
    write_model(
        repository,
        "versions",
        "echo",
        config(*FLOAT, "version_policy { all { } }"),
        versions=("1", "3"),
    )
    pair = ["A FP32 2", "B FP32 2 optional: true"], ["OA FP32 2", "OB FP32 2"]
    write_model(repository, "optional", "echo", config(*pair))
    number = ["IN INT32 1"], ["OUT INT32 1"]
    decoupled = "model_transaction_policy { decoupled: true }"
    write_model(repository, "decoupled", "decoupled", config(*number, decoupled))
    write_model(repository, "unruly", "unruly", config(*FLOAT))
    write_model(repository, "idle", "echo", config(*FLOAT))
    text = ["IN BYTES 1"], ["OUT BYTES 1"]
    write_model(repository, "seen", "seen", config(*text))
    write_model(repository, "caller", "caller", config(*text))
    _ensemble(repository, "single", ["IN FP32 4"], ["OUT FP32 4"], _PLAIN)


#: Every repository by its name.
def utilities(repository: Path) -> None:
    """A model that evaluates what it is sent."""
    write_model(repository, "evaluator", "evaluator", config(["DO BYTES 1"], ["OUT BYTES 1"]))


REPOSITORIES: dict[str, Callable[[Path], None]] = {
    builder.__name__: builder
    for builder in (
        protocol,
        backend,
        control,
        namespaces,
        extensions,
        cached,
        ensembles,
        shaped,
        calls,
        python_based,
        environments,
        senders,
        utilities,
    )
}

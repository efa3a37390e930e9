"""Reading and writing configurations."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from google.protobuf import text_format

from tritonpy.ipc.errors import InvalidArgumentError
from tritonpy.proto import model_config_pb2
from tritonpy.supervisor.config import parse
from tritonpy.supervisor.config.schema import (
    Latest,
    ModelConfig,
    ModelInput,
    ModelOutput,
    ModelParameter,
    ModelQueuePolicy,
    ModelVersionPolicy,
)

FULL = """
# every kind of field once
name: "full"  platform: "onnxruntime_onnx"
max_batch_size: 8
input [
  { name: "images:0" data_type: TYPE_FP32 format: FORMAT_NCHW dims: [ 3, 224, 224 ] },
  { name: 'scope/len', data_type: TYPE_INT64, dims: 1, reshape: { shape: [ ] }, optional: true }
]
output { name: "scores" data_type: TYPE_FP32 dims: 10 label_filename: "labels.txt" }
version_policy: { latest { num_versions: 2 } }
instance_group [ { kind: KIND_CPU count: 2 secondary_devices { device_id: 5 } } ]
instance_group <
  kind: KIND_GPU  gpus: [ 0, 1 ]
  rate_limiter { resources { name: "R" global: true count: 3 } priority: 2 }
>
dynamic_batching {
  preferred_batch_size: 4
  preferred_batch_size: 8
  max_queue_delay_microseconds: 18446744073709551615
  priority_levels: 2 default_priority_level: 1
  priority_queue_policy { key: 2 value { timeout_action: DELAY max_queue_size: 3 } }
}
optimization {
  cuda { graph_spec { input { key: "x" value { dim: [ 1, 2 ] } }
         graph_lower_bound { input { key: "x" value { dim: 1 } } } } }
  execution_accelerators { cpu_execution_accelerator : [ { name : "openvino" } ] }
}
parameters: { key: "threads" value: { string_value: "4" } }
cc_model_filenames { key: "7.5" value: "model75.onnx" }
model_warmup { name: "w" batch_size: 1 inputs { key: "x" value { zero_data: true dims: [ 2 ] } } }
model_metrics { metric_control { metric_identifier { family: "f" }
                histogram_options { buckets: [ 0.1, 2.5 ] } } }
response_cache { enable: true }
"""


def parsed(text: str) -> ModelConfig:
    return parse.from_text(text, "/repository/m/config.pbtxt")


def refusal(text: str) -> str:
    with pytest.raises(InvalidArgumentError) as caught:
        parsed(text)
    return caught.value.message


# --- text -----------------------------------------------------------------------------------------


def test_text_becomes_structs() -> None:
    config = parsed(FULL)
    assert config.name == "full"
    assert config.max_batch_size == 8
    assert config.input[0] == ModelInput(
        name="images:0", data_type="TYPE_FP32", format="FORMAT_NCHW", dims=[3, 224, 224]
    )
    assert config.output == [
        ModelOutput(name="scores", data_type="TYPE_FP32", dims=[10], label_filename="labels.txt")
    ]
    assert config.version_policy == ModelVersionPolicy(latest=Latest(num_versions=2))
    assert config.parameters == {"threads": ModelParameter(string_value="4")}
    assert config.sequence_batching is None


def test_a_lone_value_is_a_list_of_one() -> None:
    assert parsed("input { name: 'x' dims: 4 }").input[0].dims == [4]
    assert parsed("input { dims: [ 1, 2 ] }").input[0].dims == [1, 2]
    assert parsed("input { dims: -1 dims: 3 }").input[0].dims == [-1, 3]


def test_tensor_names_may_hold_colons_and_slashes() -> None:
    config = parsed(FULL)
    assert [tensor.name for tensor in config.input] == ["images:0", "scope/len"]


def test_an_empty_reshape_is_not_a_missing_one() -> None:
    first, second = parsed(FULL).input
    assert first.reshape is None
    assert second.reshape is not None
    assert second.reshape.shape == []


def test_64_bit_integers_and_integer_map_keys_are_numbers() -> None:
    batching = parsed(FULL).dynamic_batching
    assert batching is not None
    assert batching.max_queue_delay_microseconds == 2**64 - 1
    assert batching.priority_queue_policy == {
        2: ModelQueuePolicy(timeout_action="DELAY", max_queue_size=3)
    }


def test_the_members_of_a_oneof_that_are_not_set_are_none() -> None:
    data = parsed(FULL).model_warmup[0].inputs["x"]
    assert (data.zero_data, data.random_data, data.input_data_file) == (True, None, None)


def test_text_that_looks_like_null_or_a_number_stays_text() -> None:
    config = parsed('name: "null" parameters { key: "5" value { string_value: "7" } }')
    assert config.name == "null"
    assert config.parameters["5"].string_value == "7"
    data = 'model_warmup { inputs { key: "x" value { input_data_file: "null" } } }'
    assert parsed(data).model_warmup[0].inputs["x"].input_data_file == "null"


@pytest.mark.parametrize("text", ["", "# nothing but a comment", "\n\n"])
def test_an_empty_file_is_an_empty_configuration(text: str) -> None:
    assert parsed(text) == ModelConfig()


@pytest.mark.parametrize(
    ("text", "place", "reason"),
    [
        (
            'name: "m"\nmax_batchsize: 8',
            "line 2, column 1",
            "unknown field 'max_batchsize': did you mean 'max_batch_size'?",
        ),
        (
            "input [\n { name: 'a' },\n {\n  shape: 4 } ]",
            "line 4, column 3",
            "unknown field 'shape' in 'input[1]': did you mean 'reshape'?",
        ),
        ("reshape { qqq: 1 }", "line 1, column 1", "the fields possible here are name, platform"),
        ('max_batch_size: "8"', "column 17", "got text: write it without quotation marks"),
        ("max_batch_size: eight", "column 17", "'max_batch_size' expects a whole number"),
        ("max_batch_size: 8.5", "column 17", "expects a whole number, got '8.5'"),
        ("max_batch_size:", "line 1", "expects a whole number, but the text ends here"),
        ("max_batch_size: 99999999999", "column 17", "cannot hold 99999999999"),
        (
            "dynamic_batching { max_queue_delay_microseconds: -1 }",
            "column 50",
            "'dynamic_batching.max_queue_delay_microseconds' cannot hold -1",
        ),
        ("max_batch_size 8", "column 16", "'max_batch_size' needs a ':'"),
        ('name = "m"', "column 6", "'name' needs a ':'"),
        ("input { name: a }", "column 15", 'put it into quotation marks, as in "a"'),
        ("name: “m”", "column 7", "straight quotation marks"),
        ('input { name: "a }', "column 15", "closing quotation mark of the text is missing"),
        ("input { data_type: FP32 }", "column 20", "did you mean TYPE_FP32?"),
        ("input { data_type: TYPE_FLOAT }", "column 20", "did you mean TYPE_FP32?"),
        (
            "input { }\ninput { data_type: type_bytes }",
            "line 2",
            "'input[1].data_type' has no value type_bytes: did you mean TYPE_STRING?",
        ),
        ("instance_group { kind: XYZ }", "column 24", "choose one of KIND_AUTO, KIND_GPU"),
        ('instance_group { kind: "KIND_GPU" }', "column 24", "without quotation marks: KIND_GPU"),
        ("input { data_type: 99 }", "input[0].data_type", "a number that means nothing"),
        ("response_cache { enable: yes }", "column 26", "expects true or false"),
        (
            "dynamic_batching: true",
            "column 19",
            "expected '{' here, as in dynamic_batching { ... }",
        ),
        ("version_policy: { all }", "column 23", "as in all { ... }"),
        ('parameters { key: "a" value: "b" }', "column 30", "'parameters.value' is a group"),
        ('input { name: "a"', "line 1", "a bracket that was opened before is not closed"),
        ("input [ { } { } ]", "column 13", "separate its elements by ','"),
        ("input { dims: [ 1 2 ] }", "column 19", "separate its elements by ','"),
        ("input { dims: [ 1, ] }", "column 20", "there may be a ',' too many before it"),
        ('name: "m" }', "column 11", "it closes a bracket that is not open"),
        ('{ "name": "m" }', "column 1", "not in JSON"),
        ("max_batch_size: 1 max_batch_size: 2", "line 1", "given twice: keep one of them"),
        (
            "dynamic_batching { }\nsequence_batching { }",
            "line 2",
            "'dynamic_batching' and 'sequence_batching' exclude each other",
        ),
    ],
)
def test_a_mistake_in_the_text_is_told_with_place_and_remedy(
    text: str, place: str, reason: str
) -> None:
    message = refusal(text)
    assert message.startswith("failed to read text proto from /repository/m/config.pbtxt: ")
    assert place in message
    assert reason in message
    assert "inference." not in message


# --- files ----------------------------------------------------------------------------------------


def test_a_file_is_read_with_its_lines(tmp_path: Path) -> None:
    path = tmp_path / "config.pbtxt"
    path.write_text('\ufeffname: "m"\n\nmax_batch_size: 2\n', encoding="utf-8")
    config, source = parse.from_file(str(path))
    assert (config.name, config.max_batch_size) == ("m", 2)
    assert source.place(("max_batch_size",)) == f"{path}:3"


def test_a_file_that_is_not_text_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "config.pbtxt"
    path.write_bytes(b'name: "m"\nbackend: "\xff"')
    with pytest.raises(InvalidArgumentError, match="line 2 is not UTF-8 text"):
        parse.from_file(str(path))


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="No such file"):
        parse.from_file(str(tmp_path / "config.pbtxt"))


# --- JSON -----------------------------------------------------------------------------------------


def override_refusal(tree: object) -> str:
    with pytest.raises(InvalidArgumentError) as caught:
        parse.from_json(tree if isinstance(tree, str) else json.dumps(tree), "the load of 'm'")
    message = caught.value.message
    assert message.startswith("Invalid config override: ")
    assert message.endswith("(in the load of 'm')")
    return message


def test_json_and_text_say_the_same() -> None:
    config = parsed(FULL)
    assert parse.from_json(parse.to_json(config), "test") == config


def test_enum_names_in_json_may_be_in_any_case() -> None:
    tree = {"input": [{"data_type": "type_fp32"}], "instance_group": [{"kind": "Kind_Gpu"}]}
    config = parse.from_json(json.dumps(tree), "test")
    assert config.input[0].data_type == "TYPE_FP32"
    assert config.instance_group[0].kind == "KIND_GPU"


def test_json_may_use_protobufs_own_names_and_null() -> None:
    config = parse.from_json('{"maxBatchSize": 3, "dynamic_batching": null}', "test")
    assert config == ModelConfig(max_batch_size=3)


def test_64_bit_integers_in_json_may_be_text() -> None:
    config = parse.from_json('{"input": [{"dims": ["3", 4, 5.0]}]}', "test")
    assert config.input[0].dims == [3, 4, 5]


@pytest.mark.parametrize(
    ("tree", "reason"),
    [
        ({"max_batchsize": 8}, "unknown field 'max_batchsize': did you mean 'max_batch_size'?"),
        ({"input": [{"dim": [1]}]}, "unknown field 'dim' in 'input[0]': did you mean 'dims'?"),
        ({"name": 1}, "field 'name' must be a string, got a number"),
        ({"max_batch_size": "many"}, "field 'max_batch_size' must be a whole number, got 'many'"),
        ({"max_batch_size": 1.5}, "must be a whole number, got '1.5'"),
        ({"max_batch_size": True}, "must be a whole number, got 'True'"),
        ({"max_batch_size": 2**40}, "'max_batch_size' cannot hold 1099511627776"),
        ({"max_batch_size": float("inf")}, "must be a whole number"),
        ({"max_batch_size": [1]}, "must be a plain value, got a list"),
        ({"input": {}}, "field 'input' must be a list, got an object"),
        ({"input": [None]}, "field 'input[0]' must be an object, got null"),
        ({"input": [{"data_type": "FP32"}]}, "did you mean TYPE_FP32?"),
        ({"input": [{"data_type": 99}]}, "a number that means nothing"),
        ({"input": [{"data_type": 1.5}]}, "must be a whole number"),
        ({"input": [{"dims": ["a"]}]}, "field 'input[0].dims[0]' must be a whole number"),
        ({"dynamic_batching": True}, "must be an object, got a boolean"),
        ({"response_cache": {"enable": "yes"}}, "must be true or false, got a string"),
        ({"dynamic_batching": {}, "sequence_batching": {}}, "exclude each other"),
        (
            {"version_policy": {"all": {}, "latest": {}}},
            "fields 'latest' and 'all' in 'version_policy' exclude each other",
        ),
        ({"parameters": {"a": "b"}}, "field 'parameters[\"a\"]' must be an object, got a string"),
        ({"parameters": [1]}, "field 'parameters' must be an object, got a list"),
        (
            {"dynamic_batching": {"priority_queue_policy": {"x": {}}}},
            "'dynamic_batching.priority_queue_policy[\"x\"]' must be a whole number",
        ),
        ([], "the configuration must be an object, got a list"),
        ("", "not valid JSON"),
        ('{"name": ', "not valid JSON: Expecting value at line 1, column 10"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_a_wrong_override_is_refused_with_field_and_reason(tree: object, reason: str) -> None:
    assert reason in override_refusal(tree)


def test_bytes_that_are_no_text_are_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="not UTF-8"):
        parse.from_json(b'{"name": "\xff"}', "test")


def test_json_shows_primitives_always_and_messages_only_when_set() -> None:
    tree = json.loads(parse.to_json(ModelConfig(name="m")))
    assert tree == {
        "name": "m",
        "platform": "",
        "backend": "",
        "runtime": "",
        "max_batch_size": 0,
        "input": [],
        "output": [],
        "batch_input": [],
        "batch_output": [],
        "instance_group": [],
        "default_model_filename": "",
        "cc_model_filenames": {},
        "metric_tags": {},
        "parameters": {},
        "model_warmup": [],
    }


def test_json_is_in_tritons_order() -> None:
    assert list(json.loads(parse.to_json(parsed(FULL)))) == [
        "name",
        "platform",
        "backend",
        "runtime",
        "version_policy",
        "max_batch_size",
        "input",
        "output",
        "batch_input",
        "batch_output",
        "optimization",
        "dynamic_batching",
        "instance_group",
        "default_model_filename",
        "cc_model_filenames",
        "metric_tags",
        "parameters",
        "model_warmup",
        "response_cache",
        "model_metrics",
    ]


def test_json_leaves_exactly_tritons_three_quirks_as_text() -> None:
    tree = json.loads(parse.to_json(parsed(FULL)))
    assert tree["input"][0]["dims"] == [3, 224, 224]
    assert tree["dynamic_batching"]["max_queue_delay_microseconds"] == 2**64 - 1
    assert list(tree["dynamic_batching"]["priority_queue_policy"]) == ["2"]
    assert tree["instance_group"][0]["secondary_devices"][0]["device_id"] == "5"
    (graph,) = tree["optimization"]["cuda"]["graph_spec"]
    assert graph["input"]["x"]["dim"] == ["1", "2"]
    assert graph["graph_lower_bound"]["input"]["x"]["dim"] == ["1"]
    state = 'sequence_batching { state { dims: 1 initial_state { name: "i" dims: 2 } } }'
    tree = json.loads(parse.to_json(parsed(state)))
    assert tree["sequence_batching"]["state"][0]["dims"] == [1]
    assert tree["sequence_batching"]["state"][0]["initial_state"][0]["dims"] == ["2"]


def test_the_proto_holds_what_the_structs_hold() -> None:
    config = parsed(FULL)
    message = parse.to_proto(config)
    assert isinstance(message, model_config_pb2.ModelConfig)
    assert message.input[0].data_type == model_config_pb2.TYPE_FP32
    assert message.dynamic_batching.priority_queue_policy[2].max_queue_size == 3
    assert message.WhichOneof("scheduling_choice") == "dynamic_batching"
    assert message.input[1].HasField("reshape")
    again = model_config_pb2.ModelConfig.FromString(message.SerializeToString())
    assert parsed(text_format.MessageToString(again)) == config

"""Every rule of a configuration: what it refuses, and in which words."""

from __future__ import annotations

import pytest

from tritonpy.ipc.errors import InvalidArgumentError
from tritonpy.supervisor.config import parse
from tritonpy.supervisor.config.defaults import complete_from_files, normalise
from tritonpy.supervisor.config.locate import Source
from tritonpy.supervisor.config.validate import validate

IO = """
input { name: "x" data_type: TYPE_FP32 dims: [ 3, 4 ] }
output { name: "y" data_type: TYPE_FP32 dims: [ 10 ] }
"""
CUSTOM = f'backend: "identity" max_batch_size: 8 {IO}'
CONTROL = """control_input { name: "start" control { kind: CONTROL_SEQUENCE_START
             int32_false_true: [ 0, 1 ] } }"""
ENSEMBLE = 'platform: "ensemble"'
STEP = """step { model_name: "a" input_map { key: "in" value: "x" }
                 output_map { key: "out" value: "y" } }"""


def warnings(text: str, gpus: tuple[int, ...] = (), model: str = "m") -> list[str]:
    path = "/repository/m/config.pbtxt"
    source = Source(path, text)
    config = complete_from_files(parse.from_text(text, path), model, None, source)
    return validate(normalise(config, gpus), source, gpus)


def refusal(text: str, gpus: tuple[int, ...] = (), model: str = "m") -> str:
    with pytest.raises(InvalidArgumentError) as caught:
        warnings(text, gpus, model)
    return caught.value.message


ALLOWED = {
    "plain": CUSTOM,
    "names with colons and slashes": f"""backend: "identity" {IO}
        input {{ name: "scope/in:0" data_type: TYPE_STRING dims: [ -1 ] }}""",
    "reshapes": """backend: "identity" max_batch_size: 2
        input [ { name: "a" data_type: TYPE_FP32 dims: [ 1 ] reshape { } },
                { name: "b" data_type: TYPE_FP32 dims: [ 2, 2 ] reshape { shape: [ 4, 1 ] } },
                { name: "c" data_type: TYPE_FP32 dims: [ 2, -1, 3 ]
                  reshape { shape: [ 2, -1, 1, 3 ] } } ]""",
    "generated inputs": CUSTOM
    + """ batch_input { kind: BATCH_ELEMENT_COUNT target_name: "n" data_type: TYPE_INT32
                        source_input: "x" }
          batch_output { target_name: "y" source_input: "x" }""",
    "priorities": CUSTOM
    + """ dynamic_batching { preferred_batch_size: [ 4, 8 ] priority_levels: 2
          default_priority_level: 2 priority_queue_policy { key: 1 value { } } }""",
    "order and a delay of nothing": CUSTOM
    + """ dynamic_batching { preserve_ordering: true priority_levels: 1 default_priority_level: 1
          default_queue_policy { timeout_action: DELAY } }""",
    "dynamic batching without batches": f'backend: "identity" {IO} dynamic_batching {{ }}',
    "a sequence": CUSTOM
    + f""" sequence_batching {{ direct {{ minimum_slot_utilization: 0.5 }} {CONTROL}
          control_input {{ name: "id" control {{ kind: CONTROL_SEQUENCE_CORRID
                           data_type: TYPE_STRING }} }}
          state {{ input_name: "s" output_name: "y" data_type: TYPE_FP32 dims: [ -1 ] }} }}""",
    "an ensemble": f"{ENSEMBLE} {IO} ensemble_scheduling {{ {STEP} }}",
    "an ensemble of two": f"""{ENSEMBLE} {IO} ensemble_scheduling {{
        step {{ model_name: "a" input_map {{ key: "i" value: "x" }}
                output_map {{ key: "o" value: "t" }} }}
        step {{ model_name: "b" input_map {{ key: "i" value: "t" }}
                output_map {{ key: "o" value: "y" }} }} }}""",
    "a cache": f"{CUSTOM} response_cache {{ enable: true }}",
    "a cache that is off": f"""{CUSTOM} sequence_batching {{ {CONTROL} }}
        response_cache {{ enable: false }}""",
    "metrics": CUSTOM
    + """ model_metrics { metric_control { metric_identifier { family: "f" }
          histogram_options { buckets: [ 1, 2 ] } } }""",
    "profiles": f"""platform: "tensorrt_plan" {IO} instance_group {{ kind: KIND_MODEL
        profile: [ "0", "1" ] }}""",
}


@pytest.mark.parametrize("text", ALLOWED.values(), ids=ALLOWED.keys())
def test_a_sound_configuration_passes_without_a_word(text: str) -> None:
    assert warnings(text) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # tensors
        ("input { data_type: TYPE_FP32 dims: 1 }", "model input must specify 'name'"),
        ("output { data_type: TYPE_FP32 dims: 1 }", "model output must specify 'name'"),
        ('input { name: "x" dims: 1 }', "model input must specify 'data_type': 'x' has none"),
        ('output { name: "y" data_type: TYPE_FP32 }', "model output must specify 'dims'"),
        ('input { name: "x" data_type: TYPE_FP32 dims: [ 2, 0 ] }', "has 0 as dimension 1"),
        ('input { name: "x" data_type: TYPE_FP32 dims: [ -2 ] }', "has -2 as dimension 0"),
        # reshape
        (
            'input { name: "x" data_type: TYPE_FP32 dims: [ 4 ] reshape { shape: [ 0 ] } }',
            "the reshape of model input 'x' has 0 as a dimension",
        ),
        (
            'input { name: "x" data_type: TYPE_FP32 dims: [ 1 ] reshape { } }',
            "tensors without any dimension need batching",
        ),
        (
            'input { name: "x" data_type: TYPE_FP32 dims: [ 4 ] reshape { shape: [ 2, 3 ] } }',
            "does not keep the number of elements: [4] to [2, 3]",
        ),
        (
            'input { name: "x" data_type: TYPE_FP32 dims: [ 2, -1 ] reshape { shape: [ -1, 2 ] } }',
            "does not keep the number of elements",
        ),
        (
            'input { name: "x" data_type: TYPE_FP32 dims: [ -1, 2 ] reshape { shape: [ 2 ] } }',
            "has 0 variable dimensions where dims has 1",
        ),
        (
            'max_batch_size: 1 input { name: "x" data_type: TYPE_FP32 dims: 2 reshape { } }',
            "does not keep the number of elements: [2] to []",
        ),
        # formats
        (
            'input { name: "x" data_type: TYPE_FP32 format: FORMAT_NCHW dims: [ 3, 4 ] }',
            "is FORMAT_NCHW, which needs 3 dims, and has 2",
        ),
        (
            'max_batch_size: 4 input { name: "x" data_type: TYPE_FP32 format: FORMAT_NHWC '
            "dims: [ -1, 8, 8, 3 ] }",
            "write dims: [8, 8, 3]; the batch dimension is not part of dims",
        ),
        (
            'input { name: "x" data_type: TYPE_INT32 dims: 2 is_shape_tensor: true }',
            "is a shape tensor, which only platform tensorrt_plan has",
        ),
        (
            'output { name: "y" data_type: TYPE_INT8 dims: [ 1, 2, 3 ] '
            "is_non_linear_format_io: true }",
            "has a non-linear format, which only platform tensorrt_plan has",
        ),
        # names
        (IO + 'input { name: "x" data_type: TYPE_FP32 dims: 1 }', "input 'x' is given twice"),
        (IO + 'output { name: "y" data_type: TYPE_FP32 dims: 1 }', "output 'y' is given twice"),
        (
            IO + 'batch_input { target_name: "x" source_input: "x" data_type: TYPE_INT32 }',
            "input 'x' is given twice",
        ),
        (
            IO
            + CONTROL.replace("control_input {", "sequence_batching { control_input {").replace(
                '"start"', '"x"'
            )
            + "}",
            "input 'x' is given twice",
        ),
        (
            IO + 'sequence_batching { state { input_name: "x" output_name: "s" '
            "data_type: TYPE_FP32 dims: 1 } }",
            "input 'x' is given twice",
        ),
        # generated inputs, scattered outputs
        (
            IO + 'batch_input { target_name: "n" data_type: TYPE_INT32 }',
            "batch input kind 'BATCH_ELEMENT_COUNT' expects 1 source input, got 0",
        ),
        (
            IO + 'batch_input { target_name: "n" data_type: TYPE_INT32 source_input: "q" }',
            "unknown source input name 'q' of a batch input",
        ),
        (
            IO + 'batch_input { data_type: TYPE_INT32 source_input: "x" }',
            "a batch input must specify 'target_name'",
        ),
        (
            IO + 'batch_input { target_name: "n" data_type: TYPE_INT64 source_input: "x" }',
            "batch input data type must be TYPE_INT32 or TYPE_FP32, got TYPE_INT64",
        ),
        (
            IO + 'batch_output { target_name: "y" }',
            "batch output kind 'BATCH_SCATTER_WITH_INPUT_SHAPE' expects 1 source input, got 0",
        ),
        (
            IO + 'batch_output { target_name: "y" source_input: "q" }',
            "unknown source input name 'q' of a batch output",
        ),
        (
            IO + 'batch_output { source_input: "x" }',
            "a batch output must specify 'target_name'",
        ),
        (
            IO
            + 'output { name: "z" data_type: TYPE_FP32 dims: [ 2, 3, -1 ] } '
            + 'batch_output { target_name: "z" source_input: "x" }',
            "output 'z' with dims [2, 3, -1] cannot be cut by the shapes of input 'x', whose dims",
        ),
        (
            IO + 'batch_output { target_name: "q" source_input: "x" }',
            "unknown target output name 'q' of a batch output",
        ),
        (
            IO + 'batch_output { target_name: [ "y", "y" ] source_input: "x" }',
            "target output name 'y' can only be specified once",
        ),
        # the model as a whole
        ("max_batch_size: -1", "'max_batch_size' must be non-negative, and is -1"),
        ("version_policy { specific { } }", "'specific' names no version"),
        ("version_policy { specific { versions: [ 1, 0 ] } }", "version_policy names version 0"),
        (
            "response_cache { enable: true } sequence_batching { }",
            "Response Cache does not currently support model m with sequence batching scheduler",
        ),
        (
            "response_cache { enable: true } model_transaction_policy { decoupled: true }",
            "Response Cache does not currently support model m with 'decoupled' transaction "
            "policy. Please disable the response cache.",
        ),
        ("model_metrics { metric_control { } }", "must specify metric_identifier { family }"),
        (
            'model_metrics { metric_control { metric_identifier { family: "f" } '
            "histogram_options { buckets: [ 2, 1 ] } } }",
            "are not finite and ascending",
        ),
        (
            'model_metrics { metric_control { metric_identifier { family: "f" } '
            "histogram_options { buckets: [ 1, inf ] } } }",
            "are not finite and ascending",
        ),
        # instances
        ("instance_group { kind: KIND_GPU }", "kind KIND_GPU, but no GPU is usable"),
        (
            "instance_group { kind: KIND_GPU gpus: 3 }",
            "asks for GPU 3, but the usable GPUs are: none",
        ),
        ("instance_group { kind: KIND_CPU gpus: 0 }", "has kind KIND_CPU but specifies GPUs [0]"),
        ("instance_group { kind: KIND_MODEL gpus: 0 }", "has kind KIND_MODEL but specifies GPUs"),
        ('instance_group { profile: "0" }', "has a profile, which only TensorRT models have"),
        # dynamic batching
        (
            "max_batch_size: 4 dynamic_batching { preferred_batch_size: 8 }",
            "preferred batch size 8 is not between 1 and max_batch_size, which is 4",
        ),
        (
            "max_batch_size: 4 dynamic_batching { preferred_batch_size: 0 }",
            "preferred batch size 0 is not",
        ),
        (
            "max_batch_size: 4 sequence_batching { oldest { preferred_batch_size: 5 } }",
            "preferred batch size 5 is not",
        ),
        (
            "dynamic_batching { priority_levels: 2 }",
            "default priority level 0 is not between 1 and priority_levels, which is 2",
        ),
        (
            "dynamic_batching { priority_levels: 2 default_priority_level: 1 "
            "priority_queue_policy { key: 3 value { } } }",
            "priority_queue_policy is given for level 3",
        ),
        (
            "dynamic_batching { preserve_ordering: true priority_levels: 2 "
            "default_priority_level: 1 }",
            "preserve_ordering with 2 priority levels",
        ),
        (
            "dynamic_batching { preserve_ordering: true default_queue_policy "
            "{ timeout_action: DELAY default_timeout_microseconds: 5 } }",
            "preserve_ordering with timeout_action DELAY",
        ),
        # sequences
        ("sequence_batching { control_input { } }", "a control input must specify 'name'"),
        (
            f"sequence_batching {{ {CONTROL} {CONTROL.replace('start', 'again')} }}",
            "CONTROL_SEQUENCE_START is given twice",
        ),
        (
            'sequence_batching { control_input { name: "c" control { int32_false_true: 1 } } }',
            "exactly one of int32_false_true",
        ),
        (
            'sequence_batching { control_input { name: "c" control { '
            "int32_false_true: [ 0, 1 ] fp32_false_true: [ 0, 1 ] } } }",
            "exactly one of int32_false_true",
        ),
        (
            'sequence_batching { control_input { name: "c" control { '
            "fp32_false_true: [ 0, nan ] } } }",
            "exactly one of int32_false_true",
        ),
        (
            'sequence_batching { control_input { name: "c" control { '
            "kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_FP32 } } }",
            "carries the correlation id, which is one of TYPE_UINT64",
        ),
        (
            "sequence_batching { direct { minimum_slot_utilization: 1.5 } }",
            "minimum_slot_utilization 1.5 is not between 0 and 1",
        ),
        (
            'sequence_batching { state { input_name: "s" data_type: TYPE_FP32 } }',
            "a sequence's state must specify 'output_name' and 'dims'",
        ),
    ],
)
def test_a_broken_rule_is_told(text: str, expected: str) -> None:
    message = refusal(f'backend: "identity"\n{text}')
    assert expected in message
    assert message.startswith("/repository/m/config.pbtxt:")
    assert "in model 'm'" in message
    assert "; " in message, "the remedy is missing"


STATE = 'input_name: "s" output_name: "t" data_type: TYPE_FP32'


@pytest.mark.parametrize(
    ("dims", "initial", "expected"),
    [
        ("0", "", "the state 's' has dims [0]"),
        (
            "-1",
            "{ data_type: TYPE_FP32 dims: 1 zero_data: true }",
            "Field 'name' must be set when using initial_state for state input 's'",
        ),
        (
            "-1",
            '{ name: "i" data_type: TYPE_INT32 dims: 1 zero_data: true }',
            "the initial state of 's' is TYPE_INT32, and the state TYPE_FP32",
        ),
        (
            "-1",
            '{ name: "i" data_type: TYPE_FP32 dims: 1 }',
            "the initial state of 's' has no data",
        ),
        (
            "-1",
            '{ name: "i" data_type: TYPE_FP32 dims: -1 zero_data: true }',
            "state input name 's' contains variable dimensions",
        ),
        (
            "[ -1, 3 ]",
            '{ name: "i" data_type: TYPE_FP32 dims: [ 1, 2 ] zero_data: true }',
            "has dims [1, 2], which do not fit the state's [-1, 3]",
        ),
        (
            "-1",
            '{ name: "i" data_type: TYPE_FP32 dims: [ 1, 2 ] zero_data: true }',
            "has dims [1, 2], which do not fit the state's [-1]",
        ),
    ],
)
def test_a_state_that_cannot_begin_is_told(dims: str, initial: str, expected: str) -> None:
    given = f"initial_state {initial}" if initial else ""
    state = f"state {{ {STATE} dims: {dims} {given} }}"

    assert expected in refusal(f'backend: "identity" sequence_batching {{ {state} }}')


def test_a_state_has_one_initial_state() -> None:
    initial = 'initial_state { name: "i" data_type: TYPE_FP32 dims: 2 data_file: "i" }'
    state = f"state {{ {STATE} dims: 2 {initial} {initial} }}"

    message = refusal(f'backend: "identity" sequence_batching {{ {state} }}')

    assert "the initial state of 's' is given more than once" in message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ensemble_scheduling { }", "an ensemble must specify at least one 'step'"),
        ("", "platform 'ensemble' without ensemble_scheduling"),
        ('backend: "python" ensemble_scheduling { }', "an ensemble has no 'backend'"),
        ("instance_group { } ensemble_scheduling { }", "an ensemble has no 'instance_group'"),
        ("optimization { } ensemble_scheduling { }", "an ensemble has no 'optimization'"),
        ("model_warmup { } ensemble_scheduling { }", "an ensemble has no 'model_warmup'"),
        ("ensemble_scheduling { step { } }", "step 0 of the ensemble must specify 'model_name'"),
        (
            'ensemble_scheduling { step { model_name: "a" } }',
            "step 0 of the ensemble must specify 'input_map'",
        ),
        (
            f"{IO} ensemble_scheduling {{ {STEP} {STEP} }}",
            "ensemble tensor 'y' is written more than once",
        ),
        (
            f'{IO} input {{ name: "q" data_type: TYPE_FP32 dims: 1 }} '
            f"ensemble_scheduling {{ {STEP} }}",
            "ensemble input 'q' is used by no step",
        ),
        (
            f'{IO} output {{ name: "q" data_type: TYPE_FP32 dims: 1 }} '
            f"ensemble_scheduling {{ {STEP} }}",
            "ensemble output 'q' is written by no step",
        ),
        (
            IO
            + "ensemble_scheduling { "
            + STEP.replace("output_map", 'output_map { key: "more" value: "t" } output_map')
            + "}",
            "ensemble tensor 't' is unused in ensemble 'm'",
        ),
        (
            IO
            + "ensemble_scheduling { "
            + STEP.replace("output_map", 'input_map { key: "more" value: "t" } output_map')
            + "}",
            "reads ensemble tensor 't', which nothing writes",
        ),
    ],
)
def test_a_broken_rule_of_ensembles_is_told(text: str, expected: str) -> None:
    assert expected in refusal(f"{ENSEMBLE} {text}")


def test_an_ensembles_platform_is_ensemble() -> None:
    text = f'platform: "onnxruntime_onnx" {IO} ensemble_scheduling {{ {STEP} }}'
    assert "ensemble_scheduling with platform 'onnxruntime_onnx'" in refusal(text)


def test_a_pytorch_model_must_list_its_tensors() -> None:
    message = refusal('backend: "pytorch"')
    assert "the configuration lists no 'input', and a PyTorch model does not tell it" in message
    assert 'write output [ { name: "output__0"' in message


def test_an_onnx_input_is_not_both_ragged_and_optional() -> None:
    tensor = 'input { name: "r" data_type: TYPE_FP32 dims: -1 allow_ragged_batch: true '
    text = f'backend: "onnxruntime" max_batch_size: 2 {tensor} optional: true }}'
    assert "both ragged and optional" in refusal(text)


@pytest.mark.parametrize("character", [*";|&$`<>()[]{}\\\"'*?~#!"])
def test_a_python_models_name_holds_nothing_that_a_shell_would_read(character: str) -> None:
    name = f"a{character}b"
    assert f"contains {character}, which is not allowed" in refusal(
        f'backend: "python" {IO}', model=name
    )
    assert warnings(f'backend: "identity" {IO}', model=name) == []


def test_a_tensorrt_profile_is_a_number() -> None:
    text = f'platform: "tensorrt_plan" {IO} instance_group {{ kind: KIND_MODEL profile: "x" }}'
    assert "has profile 'x'" in refusal(text)


def test_a_gpu_that_is_there_passes() -> None:
    text = f"{CUSTOM} instance_group {{ kind: KIND_GPU gpus: 1 }}"
    assert warnings(text, (0, 1)) == []
    assert "asks for GPU 1, but the usable GPUs are: 0" in refusal(text, (0,))


def test_the_line_of_the_field_is_named() -> None:
    text = '# a comment\nbackend: "identity"\ninput [\n  { name: "a"\n    dims: [ 0 ] }\n]\n'
    lines = refusal(text).split("\n")
    assert lines[0].startswith("/repository/m/config.pbtxt:4: model input must specify 'data_type'")
    assert lines[1].startswith("/repository/m/config.pbtxt:5: model input 'a' has 0 as dimension 0")
    assert "(field input[0].dims)" in lines[1]


def test_many_problems_are_told_by_the_first_of_them() -> None:
    lines = refusal('backend: "identity"' + "input { }" * 10).split("\n")
    assert len(lines) == 6
    assert lines[-1] == "and 25 more"

"""What a model imports as triton_python_backend_utils, call by call, and the metrics it makes.

The name of a case is the expression that a model evaluates. What the real server itself refuses of
metrics is left out: now and then that ends the recorded release.
"""

from __future__ import annotations

from ..case import Area, Http, Step
from ..requests import document, post
from ..setups import UTILITIES


def _evaluate(*expressions: str) -> list[Step]:
    return [
        post(
            expression,
            "evaluator",
            document([{"name": "DO", "datatype": "BYTES", "shape": [1], "data": [expression]}]),
        )
        for expression in expressions
    ]


_TENSORS = _evaluate(
    "tensor(np.zeros(1), '')",
    "pb.Tensor('a', [1])",
    "pb.Tensor(1, np.zeros(1))",
    "pb.Tensor(b'a', np.zeros(1)).name()",
    "tensor(np.float32(1))",
    "tensor(np.array(1.5)).shape()",
    "tensor(np.zeros((0, 3))).shape()",
    "kind(tensor(np.zeros((2, 3))).shape())",
    "tensor(np.zeros(1)).is_cpu()",
    "tensor(np.arange(6).reshape(2, 3).T).as_numpy().tolist()",
    "tensor(np.arange(6).reshape(2, 3).T).as_numpy().flags.c_contiguous",
    "tensor(np.arange(6)[::2]).as_numpy().tolist()",
    "tensor(objects('é', b'y', 3, None)).as_numpy().tolist()",
    "tensor(np.array([b'x', b'yz'])).as_numpy().tolist()",
    "tensor(np.array([], dtype=object)).shape()",
    "tensor(objects('x')).to_dlpack()",
    "kind(tensor(np.zeros(1)).to_dlpack())",
    "tensor(np.zeros(1)).__dlpack_device__()",
    "np.from_dlpack(tensor(np.arange(3))).tolist()",
    "pb.Tensor.from_dlpack('y', tensor(np.arange(3)).to_dlpack()).as_numpy().tolist()",
    "pb.Tensor.from_dlpack('y', tensor(np.arange(3))).name()",
    "pb.Tensor.from_dlpack('', tensor(np.arange(3)))",
    "pb.Tensor.from_dlpack('y', np.arange(6).reshape(2, 3).T)",
    "[m for m in dir(tensor(np.zeros(1))) if m[0] != '_']",
)

_ERRORS = _evaluate(
    "int(pb.TritonError('x').code())",
    "pb.TritonError('x', pb.TritonError.NOT_FOUND).code() == pb.TritonError.NOT_FOUND",
    "[int(getattr(pb.TritonError, name)) for name in ('UNKNOWN', 'INTERNAL', 'NOT_FOUND', "
    "'INVALID_ARG', 'UNAVAILABLE', 'UNSUPPORTED', 'ALREADY_EXISTS', 'CANCELLED')]",
    "pb.TritonError(message='x', code=pb.TritonError.CANCELLED).message()",
    "pb.TritonError(3)",
    "pb.TritonError()",
    "pb.TritonError('x', None)",
    "pb.TritonError.NOT_FOUND.name",
    "issubclass(pb.TritonModelException, Exception)",
    "str(pb.TritonModelException('x'))",
)

_RESPONSES = _evaluate(
    "response().output_tensors()",
    "response([]).has_error()",
    "response([]).error()",
    "response([], pb.TritonError('e')).error().message()",
    "len(response([tensor(np.zeros(1))], pb.TritonError('e')).output_tensors())",
    "response([None])",
    "response([1])",
    "response(None)",
    "response([], 'e')",
    "pb.get_output_tensor_by_name(response([tensor(np.ones(1), 'b')]), 'b').name()",
    "pb.get_output_tensor_by_name(response([tensor(np.ones(1), 'b')]), 'c')",
)

_REQUESTS = _evaluate(
    "request.request_id()",
    "request.correlation_id()",
    "request.flags()",
    "request.timeout()",
    "request.parameters()",
    "request.requested_output_names()",
    "request.is_cancelled()",
    "request.trace().get_context()",
    "(request.set_flags(3), request.flags())",
    "request.set_flags('x')",
    "request.set_release_flags(pb.TRITONSERVER_REQUEST_RELEASE_ALL)",
    "request.set_release_flags(7)",
    "[one.name() for one in request.inputs()]",
    "pb.get_input_tensor_by_name(request, 'NOPE')",
    "pb.InferenceRequest()",
    "pb.InferenceRequest(model_name='m', inputs=[None], requested_output_names=['a'])",
    "pb.InferenceRequest(model_name='m', inputs=[], requested_output_names=[''])",
    "pb.InferenceRequest(model_name='m', inputs=[], requested_output_names=['a'], "
    "correlation_id=1.5)",
    "pb.InferenceRequest(model_name='m', inputs=[], requested_output_names=['a'], "
    "correlation_id='x').correlation_id()",
    "pb.InferenceRequest(model_name='m', inputs=[], requested_output_names=['a'], "
    "parameters={'a': 1.5})",
    "pb.InferenceRequest(model_name='m', inputs=[], requested_output_names=['a'], "
    "parameters={1: 1})",
    "pb.InferenceRequest(model_name='m', inputs=[], requested_output_names=['a'], "
    "parameters={'a': True}).parameters()",
    "pb.PreferredMemory(7)",
    "int(pb.TRITONSERVER_MEMORY_GPU), int(pb.TRITONSERVER_MEMORY_CPU)",
    "pb.TRITONSERVER_REQUEST_FLAG_SEQUENCE_START, pb.TRITONSERVER_REQUEST_FLAG_SEQUENCE_END",
    "pb.TRITONSERVER_RESPONSE_COMPLETE_FINAL, pb.TRITONSERVER_REQUEST_RELEASE_RESCHEDULE",
)

_FUNCTIONS = _evaluate(
    "pb.serialize_byte_tensor(objects(b'ab', 'cé', 3))",
    "pb.serialize_byte_tensor(np.array([], dtype=object))",
    "pb.serialize_byte_tensor(np.zeros(3))",
    "pb.serialize_byte_tensor(np.array([b'ab', b'c']))",
    "pb.serialize_byte_tensor(np.array([[b'a', b'b'], [b'c', b'd']], dtype=object).T)",
    "pb.deserialize_bytes_tensor(b'\\2\\0\\0\\0ab\\1\\0\\0\\0c').tolist()",
    "pb.deserialize_bytes_tensor(b'').shape",
    "[kind(pb.triton_to_numpy_type(n)) for n in (0, 1, 14)]",
    "[np.dtype(pb.triton_to_numpy_type(n)).name for n in range(1, 14)]",
    "[pb.numpy_to_triton_type(t) for t in (np.bool_, bool, np.uint8, np.float16, np.float64, "
    "np.object_, np.bytes_, np.str_, np.complex64)]",
    "[pb.numpy_to_triton_type(np.dtype(t)) for t in ('bool', 'float32', 'object', 'S4')]",
    "sorted(pb.TRITON_STRING_TO_NUMPY)",
    "[np.dtype(pb.triton_string_to_numpy(t)).name for t in ('TYPE_FP32', 'TYPE_STRING')]",
    "pb.triton_string_to_numpy('TYPE_BOOL')",
    "pb.triton_string_to_numpy('TYPE_BF16')",
    "pb.get_model_dir()",
    "pb.get_input_config_by_name({}, 'a')",
    "pb.get_input_config_by_name({'input': [{'name': 'a'}]}, 'a')",
    "pb.get_output_config_by_name({'output': [{'name': 'a'}]}, 'b')",
    "pb.using_decoupled_model_transaction_policy({})",
    "pb.using_decoupled_model_transaction_policy("
    "{'model_transaction_policy': {'decoupled': True}})",
    "pb.Logger.log('x', pb.Logger.WARNING)",
    "pb.Logger.log('x', 'INFO')",
    "pb.Logger.log_info(None)",
    "pb.Logger.log_info(b'x')",
    "int(pb.Logger.LogLevel.VERBOSE)",
)

_X = "{'name': 'x', 'data_type': 'TYPE_FP32', 'dims': [2]}"
_CONFIGURATIONS = _evaluate(
    f"completed(config(), ('add_input', {_X}), ('add_output', {_X}))",
    "completed(config(max_batch_size=4), ('set_max_batch_size', 8))['max_batch_size']",
    "completed(config(max_batch_size=4), ('set_max_batch_size', 2))",
    "completed(config(), ('set_dynamic_batching',), ('set_dynamic_batching',))",
    "completed(config(dynamic_batching={'a': 1}), ('set_dynamic_batching',))",
    "completed(config(sequence_batching={}), ('set_dynamic_batching',))",
    "completed(config(ensemble_scheduling={}), ('set_dynamic_batching',))",
    "completed(config(), ('set_model_transaction_policy', {'decoupled': True}))",
    "completed(config(), ('set_model_transaction_policy', {'other': True}))",
    "completed(config(model_transaction_policy={'decoupled': False}), "
    "('set_model_transaction_policy', {'decoupled': True}))",
    "completed(config(model_transaction_policy={'decoupled': True}), "
    "('set_model_transaction_policy', {'decoupled': True}))",
    *(
        expression
        for kind in ("input", "output")
        for expression in (
            f"completed(config(), ('add_{kind}', {{'data_type': 'TYPE_FP32', 'dims': [2]}}))",
            f"completed(config(), ('add_{kind}', {{'name': 'x', 'dims': [2]}}))",
            f"completed(config(), ('add_{kind}', {{'name': 'x', 'data_type': 'TYPE_FP32'}}))",
            f"completed(config(), ('add_{kind}', {{**{_X}, 'reshape': [2]}}))",
            f"completed(config(), ('add_{kind}', {{**{_X}, 'optional': True}}))",
            f"completed(config({kind}=[{_X}]), ('add_{kind}', {{**{_X}, 'dims': [3]}}))",
            f"completed(config({kind}=[{_X}]), "
            f"('add_{kind}', {{**{_X}, 'data_type': 'TYPE_INT8'}}))",
            f"completed(config({kind}=[{{**{_X}, 'dims': []}}]), ('add_{kind}', {_X}))",
            f"completed(config({kind}=[{{**{_X}, 'data_type': 'TYPE_INVALID'}}]), "
            f"('add_{kind}', {_X}))",
        )
    ),
    f"completed(config(input=[{{**{_X}, 'optional': False}}]), "
    f"('add_input', {{**{_X}, 'optional': True}}))",
)

_SHOWN = Http("shown", "GET", "/metrics", b"", {}, ("own_metrics",), service="metrics")
_METRICS: list[Step] = [
    *_evaluate(
        "keep('c', FAMILY('own_counter', 'Counts', FAMILY.COUNTER))",
        "keep('a', kept['c'].Metric({'b': 'two', 'a': 'o\"ne'}))",
        "(kept['a'].increment(2), kept['a'].increment(0.5), kept['a'].value())",
        "kept['a'].increment('1')",
        "keep('g', FAMILY(name='own_gauge', description='Depth', kind=FAMILY.GAUGE))",
        "keep('d', kept['g'].Metric())",
        "(kept['d'].set(4), kept['d'].increment(-6), kept['d'].value())",
        "keep('h', FAMILY('own_histogram', 'Sizes', FAMILY.HISTOGRAM))",
        "keep('s', kept['h'].Metric(labels={'of': 'all'}, buckets=[1, 2.5, 10]))",
        "[kept['s'].observe(value) for value in (0.5, 1, 2, 2.5, 11)]",
        "kept['h'].Metric()",
        "kept['h'].Metric(buckets=(1.0,))",
        "kept['c'].Metric(buckets=[1.0])",
        "kept['c'].Metric(labels='x')",
        "FAMILY('nothing', 'x', 0)",
        "keep('again', FAMILY('own_gauge', 'Other words', FAMILY.GAUGE))",
        "keep('same', kept['again'].Metric({}))",
        "(kept['same'].value(), kept['same'].increment(1), kept['d'].value())",
        "keep('idle', FAMILY('own_idle', 'Without metrics', FAMILY.GAUGE))",
    ),
    _SHOWN,
]

AREAS = [
    Area(f"python {name}", UTILITIES, steps)
    for name, steps in (
        ("tensors", _TENSORS),
        ("errors", _ERRORS),
        ("responses", _RESPONSES),
        ("requests", _REQUESTS),
        ("functions", _FUNCTIONS),
        ("configurations", _CONFIGURATIONS),
        ("metrics", _METRICS),
    )
]

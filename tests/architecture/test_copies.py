"""Tensor data are copied in few places, which say why: everywhere else they are viewed."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PARTS = ("ipc", "supervisor", "worker")

_TEXT = "text, headers or frames, which hold no tensor"
_SMALL = "joined where they are small: one copy costs less than more buffers"
_MADE = "makes the data, or gives them another form"
_ASKED = "somebody wants bytes and nothing else"
#: Where `bytes(...)`, `.tobytes()` and `b"".join(...)` may stand, a file and the function or class
#: around them, with the reason: what is copied is no tensor on its way, or there is no other way.
ALLOWED = {
    ("ipc/frames.py", "FrameReader.take"): "a message; large tensors are not in it",
    ("ipc/nvml.py", "names_of"): _TEXT,
    ("ipc/tensor.py", "_as_bytes"): _MADE,
    ("ipc/tensor.py", "decode_bytes"): _MADE,
    ("ipc/tensor.py", "encode_bytes"): _MADE,
    ("supervisor/grpc/codec.py", "encode_response"): _ASKED,
    ("supervisor/grpc/codec.py", "parse_infer_request"): _ASKED,
    ("supervisor/grpc/compression.py", "compress"): _MADE,
    ("supervisor/grpc/lean_connection.py", "_write"): _SMALL,
    ("supervisor/grpc/lean_stream.py", "LeanStream._reflect"): _TEXT,
    ("supervisor/grpc/lean_unary.py", "LeanUnary._run"): "calls other than inferences",
    ("supervisor/grpc/lean_unary.py", "LeanUnary._send"): _SMALL,
    ("supervisor/grpc/wire.py", "cut_field"): "what is beside the tensors",
    ("supervisor/grpc/wire.py", "nested"): _TEXT,
    ("supervisor/grpc/wire.py", "varint"): _TEXT,
    ("supervisor/http/body.py", "BodyStream.read"): "documents and small tensors",
    ("supervisor/http/body.py", "read_all"): "chunks, whose number and size nobody tells before",
    ("supervisor/http/chunked_reply.py", "ChunkedReply.write"): _TEXT,
    ("supervisor/http/compression.py", "_pack"): _MADE,
    ("supervisor/http/documents.py", "Documents.read"): "a small document, to look it up by",
    ("supervisor/http/json_tensor.py", "_frame"): _MADE,
    ("supervisor/http/reply.py", "Reply.write_to"): _SMALL,
    ("supervisor/http/settings.py", "SettingsEndpoints.trace"): _TEXT,
    ("supervisor/http2/frame_reader.py", "FrameReader._continuation"): _TEXT,
    ("supervisor/http2/frames.py", "headers"): _TEXT,
    ("supervisor/http2/frames.py", "settings"): _TEXT,
    ("supervisor/http2/header_blocks.py", "BlockReader.decode"): _TEXT,
    ("supervisor/http2/header_blocks.py", "_text"): _TEXT,
    ("supervisor/http2/header_blocks.py", "trailers"): _TEXT,
    ("supervisor/http2/outbound.py", "Outbound._data"): _SMALL,
    ("supervisor/http2/outbound.py", "Outbound.answer"): _SMALL,
    ("supervisor/memory/buffers.py", "InputArena.read"): "for traces, which outlive the lease",
    ("supervisor/models/warmup.py", "_data"): _MADE,
    ("supervisor/models/warmup.py", "_random"): _MADE,
    ("supervisor/scheduling/sequence_controls.py", ""): _MADE,
    ("supervisor/telemetry/trace.py", "Trace.accepted"): "traces outlive the request",
    ("supervisor/telemetry/trace_file.py", "TraceFile._write"): _TEXT,
    ("supervisor/telemetry/trace_file.py", "data_text"): _MADE,
    ("worker/backends/onnx_bfloat16.py", "_varint"): _TEXT,
    ("worker/backends/onnx_bfloat16.py", "with_companions"): "a model",
    ("worker/backends/pytorch.py", "PyTorchBackend._to_strings"): _MADE,
    ("worker/memory.py", "Memory.place"): "small outputs ride in the message",
}


def copies_in(tree: ast.AST, around: str = "") -> Iterator[tuple[str, int]]:
    """The calls that make bytes of something, with the function and class that they are in."""
    for node in ast.iter_child_nodes(tree):
        inside = around
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            inside = f"{around}.{node.name}" if around else node.name
        elif isinstance(node, ast.Call) and makes_bytes(node):
            yield around, node.lineno
        yield from copies_in(node, inside)


def makes_bytes(call: ast.Call) -> bool:
    """Whether a call copies a buffer into bytes, as far as its form tells."""
    match call.func:
        case ast.Name(id="bytes"):
            return bool(call.args) and not isinstance(
                call.args[0], (ast.Constant, ast.Tuple, ast.List)
            )
        case ast.Attribute(attr="tobytes"):
            return True
        case ast.Attribute(value=ast.Constant(value=bytes()), attr="join"):
            return True
        case _:
            return False


def found() -> dict[tuple[str, str], list[int]]:
    """Every place, with its lines."""
    places: dict[tuple[str, str], list[int]] = {}
    for part in PARTS:
        for path in sorted((ROOT / part).rglob("*.py")):
            name = str(path.relative_to(ROOT))
            for around, line in copies_in(ast.parse(path.read_text(encoding="utf-8"))):
                places.setdefault((name, around), []).append(line)
    return places


def test_tensors_are_copied_only_where_it_is_said_why() -> None:
    unknown = {place: lines for place, lines in found().items() if place not in ALLOWED}
    assert not unknown, (
        f"view tensor data instead of copying them, or say in ALLOWED why not: {unknown}"
    )


def test_what_is_allowed_is_there() -> None:
    gone = ALLOWED.keys() - found().keys()
    assert not gone, f"nothing is copied there any more: {gone}"


def test_the_rule_sees_copies() -> None:
    code = (
        "class A:\n def f(self, v):\n"
        "  return bytes(v), v.tobytes(), b''.join(v), bytes(), bytes(4), bytes((1,)), ''.join(v)"
    )
    assert list(copies_in(ast.parse(code))) == [("A.f", 3)] * 3

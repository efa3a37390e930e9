"""The grpcio transport: grpc.aio carries the calls of service.py, stream.py and health.py."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import grpc
import grpc.aio

from ...ipc.errors import StatusError
from ..forwarding import HeaderForwarding
from ..settings import CompressionLevel, GrpcSettings
from ..telemetry.trace import TRACEPARENT
from .access import REASON_STATUS, RULES, refusal
from .health import HealthService
from .in_flight import InFlight, State
from .listening import cannot_listen, name_of
from .reflection import REFLECTION_PATHS, reflect
from .service import INFER_PATH, STREAM_PATH, InferenceService, UnaryCall
from .status import SHUTTING_DOWN, STATUS, Status, log_fault, shorten
from .stream import InferStream
from .tls import server_credentials

if TYPE_CHECKING:
    from ..access import Access
    from ..controlplane import ControlPlane
    from ..dataplane import DataPlane

_log = logging.getLogger(__name__)

_INT32_MAX = 2**31 - 1

_CODES: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}

#: gRPC's numbers of the levels.
_COMPRESSION_LEVEL: dict[CompressionLevel, int] = {"none": 0, "low": 1, "medium": 2, "high": 3}

#: How long the answers of calls that have ended may take to leave the server (seconds).
_SEND_TIMEOUT = 1.0

_Context: TypeAlias = "grpc.aio.ServicerContext[bytes, bytes]"
_Handler: TypeAlias = "grpc.RpcMethodHandler[bytes, bytes]"

#: What reading gives after a client's last message; grpcio's stubs do not know it.
_END: object = grpc.aio.EOF  # pyright: ignore


class GrpcServer:
    """The gRPC service of a server on one port."""

    def __init__(
        self,
        dataplane: DataPlane,
        controlplane: ControlPlane,
        settings: GrpcSettings,
        access: Access,
    ) -> None:
        self._dataplane = dataplane
        self._access = access
        self._settings = settings
        self._service = InferenceService(dataplane, controlplane)
        calls = self._service.unary_calls()
        calls |= HealthService(controlplane).unary_calls()
        pattern = settings.header_forward_pattern
        self._forwarding = HeaderForwarding(pattern) if pattern else None
        #: gRPC compresses every answer that is not exempt, but only those of inference should be.
        self._exempts = settings.compression != "none"
        self._handlers: dict[str, _Handler] = {
            path: grpc.unary_unary_rpc_method_handler(self._unary(path, call))
            for path, call in calls.items()
        }
        self._handlers[STREAM_PATH] = grpc.stream_stream_rpc_method_handler(self._stream)
        if settings.reflection:
            for path in REFLECTION_PATHS:
                self._handlers[path] = grpc.stream_stream_rpc_method_handler(self._reflect)
        self._server: grpc.aio.Server | None = None
        self._calls = InFlight()

    def __repr__(self) -> str:
        return f"<GrpcServer {self._calls!r}>"

    async def start(self) -> int:
        """Listen and serve; returns the port.

        Raises OSError when the port cannot be had, InvalidArgumentError for wrong files of TLS.
        """
        credentials = server_credentials(self._settings.tls)
        server = grpc.aio.server(options=_channel_options(self._settings))
        server.add_generic_rpc_handlers(_by_service(self._handlers))
        address, port = self._settings.address, self._settings.port
        host = name_of(address, port)
        try:
            if credentials is None:
                bound: int = server.add_insecure_port(host)
            else:
                bound = server.add_secure_port(host, credentials)
        except RuntimeError:  # grpcio's own text says no more, and repeats it
            bound = 0
        if not bound:
            raise cannot_listen(address, port)
        await server.start()
        self._server = server
        self._calls.state = State.SERVING
        return bound

    def refuse(self) -> None:
        """Refuse new calls from now on; those in flight go on."""
        self._calls.refuse()

    async def stop(self, grace: float) -> None:
        """Refuse new calls, let those in flight end within `grace` seconds, and close the port."""
        if self._server is None:
            return
        in_time = await self._calls.drain(grace)
        # A call that has returned is not on its way yet: grpcio still has to send its answer.
        rest = _SEND_TIMEOUT if in_time else None
        await self._server.stop(rest)
        self._server = None
        self._calls.state = State.STOPPED

    def _unary(self, path: str, call: UnaryCall) -> Callable[[bytes, _Context], Awaitable[bytes]]:
        rule = RULES[path]
        access = self._access
        guarded = rule.changes is not None or access.guards_everything
        forwarding = self._forwarding if path == INFER_PATH else None
        traces = self._dataplane.traces

        async def behavior(data: bytes, context: _Context) -> bytes:
            if not self._calls.is_serving:
                _fail(context, Status.UNAVAILABLE, SHUTTING_DOWN)
                return b""
            if guarded:
                refused = refusal(access, rule, data, context)
                if refused is not None:
                    _fail(context, REASON_STATUS[refused.reason], refused.message)
                    return b""
            self._calls.enter()
            if self._exempts and path != INFER_PATH:
                context.disable_next_message_compression()
            if traces.on:
                TRACEPARENT.set(_traceparent(context))
            try:
                if forwarding is not None:
                    forwarded = forwarding.collect(_metadata(context))
                    return await self._service.model_infer(data, forwarded)
                return await call(data)
            except StatusError as error:
                _fail(context, STATUS[error.code], error.message)
            except Exception:  # a fault of ours: the client is told no more than that
                _fail(context, Status.INTERNAL, log_fault(path))
            finally:
                self._calls.leave()
            return b""

        return behavior

    async def _stream(self, _: object, context: _Context) -> None:
        if not self._calls.is_serving:
            _fail(context, Status.UNAVAILABLE, SHUTTING_DOWN)
            return
        refused = refusal(self._access, RULES[STREAM_PATH], b"", context)
        if refused is not None:
            _fail(context, REASON_STATUS[refused.reason], refused.message)
            return

        async def receive() -> bytes | None:
            data = await context.read()
            return None if data is _END else data

        metadata = _metadata(context)
        close_on_error = ("triton_grpc_error", "true") in metadata
        forward = None if self._forwarding is None else partial(self._forwarding.collect, metadata)
        stream = InferStream(self._dataplane, receive, context.write, close_on_error, forward)
        if self._dataplane.traces.on:
            TRACEPARENT.set(_traceparent(context))
        self._calls.enter(stream)
        try:
            await stream.run()
        except StatusError as error:
            _fail(context, STATUS[error.code], error.message)
        except Exception:  # a fault of ours: the client is told no more than that
            _fail(context, Status.INTERNAL, log_fault(STREAM_PATH))
        finally:
            self._calls.leave(stream)

    async def _reflect(self, _: object, context: _Context) -> None:
        # These streams change nothing and may idle: no stop waits for them.
        if not self._calls.is_serving:
            _fail(context, Status.UNAVAILABLE, SHUTTING_DOWN)
            return
        refused = refusal(self._access, RULES[REFLECTION_PATHS[0]], b"", context)
        if refused is not None:
            _fail(context, REASON_STATUS[refused.reason], refused.message)
            return
        try:
            while (data := await context.read()) is not _END:
                await context.write(reflect(data))
        except StatusError as error:
            _fail(context, STATUS[error.code], error.message)
        except Exception:  # a fault of ours: the client is told no more than that
            _fail(context, Status.INTERNAL, log_fault(REFLECTION_PATHS[0]))


def _traceparent(context: _Context) -> str:
    """The W3C header by which a client's own trace goes on here, or ""."""
    for key, value in _metadata(context):
        if key == "traceparent":
            return str(value)
    return ""


def _by_service(
    handlers: dict[str, _Handler],
) -> tuple[grpc.GenericRpcHandler, ...]:
    """Group handlers by the service in their paths, as grpcio wants them."""
    services: dict[str, dict[str, _Handler]] = {}
    for path, handler in handlers.items():
        _, service, method = path.split("/")
        services.setdefault(service, {})[method] = handler
    known = tuple(
        grpc.method_handlers_generic_handler(service, methods)
        for service, methods in services.items()
    )
    return (*known, _Unknown())


class _Unknown(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Answers calls that there are not; gRPC itself would add words that Triton's does not."""

    def service(self, handler_call_details: object) -> _Handler:
        """The handler of any path that nobody else has taken."""
        return grpc.stream_stream_rpc_method_handler(_refuse_unknown)


async def _refuse_unknown(_: object, context: _Context) -> None:
    _fail(context, Status.UNIMPLEMENTED, "")


def _channel_options(settings: GrpcSettings) -> list[tuple[str, int]]:
    options = [
        ("grpc.max_send_message_length", _INT32_MAX),
        ("grpc.max_receive_message_length", _INT32_MAX),
        ("grpc.so_reuseport", int(settings.reuse_port)),
        ("grpc.keepalive_time_ms", settings.keepalive_time_ms),
        ("grpc.keepalive_timeout_ms", settings.keepalive_timeout_ms),
        ("grpc.keepalive_permit_without_calls", int(settings.keepalive_permit_without_calls)),
        ("grpc.http2.max_pings_without_data", settings.max_pings_without_data),
        ("grpc.http2.min_ping_interval_without_data_ms", settings.min_recv_ping_interval_ms),
        ("grpc.http2.max_ping_strikes", settings.max_ping_strikes),
    ]
    if settings.keepalive_time_ms != GrpcSettings().keepalive_time_ms:
        # gRPC would wait a minute for the answer to a ping, whatever the keep-alive timeout.
        # Left alone where nobody asked for keep-alive: on a slow line answers may take long.
        options.append(("grpc.http2.ping_timeout_ms", settings.keepalive_timeout_ms))
    if settings.compression != "none":
        # By level gRPC picks, like Triton's, an algorithm that the client takes, or none.
        level = _COMPRESSION_LEVEL[settings.compression]
        options.append(("grpc.default_compression_level", level))
    if settings.max_connection_age_ms is not None:
        options.append(("grpc.max_connection_age_ms", settings.max_connection_age_ms))
    if settings.max_connection_age_grace_ms is not None:
        options.append(("grpc.max_connection_age_grace_ms", settings.max_connection_age_grace_ms))
    return options


def _metadata(context: _Context) -> Iterable[tuple[str, str | bytes]]:
    return context.invocation_metadata() or ()


def _fail(context: _Context, status: Status, details: str) -> None:
    """Let the call end with this status; grpcio then drops whatever it returns."""
    context.set_code(_CODES[status])
    context.set_details(shorten(details))

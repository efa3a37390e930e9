"""The routes of the v2 protocol, and the one place where an error becomes an HTTP answer."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote, unquote

from aiohttp import web

from ...ipc.errors import InternalError, InvalidArgumentError, StatusError, UnsupportedError
from ..forwarding import HeaderForwarding
from ..repository.layout import is_name
from .access import refusal
from .cors import Cors
from .generate import Generate
from .infer import InferEndpoint
from .load_report import no_metrics
from .management import Management
from .reply import JSON, TEXT, Reply, error_body, error_reply
from .settings import SettingsEndpoints
from .shared_memory import SharedMemoryEndpoints

if TYPE_CHECKING:
    from ..access import Access
    from ..controlplane import ControlPlane
    from ..dataplane import DataPlane
    from ..restricted import Category

_logger = logging.getLogger(__name__)

Endpoint = Callable[..., Awaitable[Reply]]

_MODELS = "/v2/models/"
#: What is asked of a model and not of one of its versions.
_OF_ALL_VERSIONS = ("trace/setting", "traffic")
_REPOSITORY = re.compile(r"/v2/repository(?:/([^/]+))?/(?:(index)|models/([^/]+)/(load|unload))")
_SHARED_MEMORY = re.compile(
    r"/v2/(system|cuda)sharedmemory(?:/region/([^/]+))?/(status|register|unregister)"
)


class Route(NamedTuple):
    """An endpoint, and what is known of it before it is called.

    `method` is the one that it takes, "" for any. `category` is its group among the restricted
    APIs and the scopes of API keys, by which access to it is decided centrally. `errors` is the
    content type of its errors. `changes` is whether calls other than GET change what the server
    does or is told: those are for local peers and for keys.
    """

    method: str
    category: Category
    endpoint: Endpoint
    errors: bytes = JSON
    changes: bool = False


class App:
    """Answers every request of the HTTP service.

    `__call__` is what aiohttp's server calls; it raises nothing but cancellation.
    """

    def __init__(
        self,
        dataplane: DataPlane,
        controlplane: ControlPlane,
        access: Access,
        max_input_size: int,
        forwarding: HeaderForwarding | None = None,
        cors: Cors | None = None,
        metrics: Callable[[], str] = no_metrics,
    ) -> None:
        self._access = access
        self._cors = cors
        self._controlplane = controlplane
        management = Management(controlplane, max_input_size)
        settings = SettingsEndpoints(controlplane, max_input_size)
        generate = Generate(dataplane, max_input_size, metrics)
        self._exact = {
            "/v2/models": Route("GET", "metadata", management.models),
            "/v2/openapi.json": Route("GET", "metadata", management.openapi),
            "/v2/models/stats": Route("GET", "statistics", management.statistics),
            "/v2/logging": Route("", "logging", settings.logging, changes=True),
            "/v2": Route("GET", "metadata", management.server_metadata),
            "/v2/health/live": Route("GET", "health", management.live, TEXT),
            "/v2/health/ready": Route("GET", "health", management.ready, TEXT),
            "/v2/trace/setting": Route("", "trace", settings.trace, changes=True),
        }
        infer = InferEndpoint(dataplane, max_input_size, forwarding)
        self._model = {
            "infer": Route("POST", "inference", infer, TEXT),
            "generate": Route("POST", "inference", generate.generate),
            "generate_stream": Route("POST", "inference", generate.stream),
            "ready": Route("GET", "health", management.model_ready, TEXT),
            "config": Route("GET", "model-config", management.model_config),
            "stats": Route("GET", "statistics", management.statistics),
            "trace/setting": Route("", "trace", settings.trace, changes=True),
            "traffic": Route("", "model-repository", settings.traffic, changes=True),
            "instances": Route("", "model-repository", settings.instances, changes=True),
            "": Route("GET", "metadata", management.model_metadata),
        }
        self._repository = {
            "index": Route("POST", "model-repository", management.index),
            "load": Route("POST", "model-repository", management.load, changes=True),
            "unload": Route("POST", "model-repository", management.unload, changes=True),
        }
        memory = SharedMemoryEndpoints(controlplane, max_input_size)
        self._memory = {
            (kind, action): Route(
                "GET" if action == "status" else "POST",
                "shared-memory",
                endpoint,
                changes=action != "status",
            )
            for (kind, action), endpoint in memory.endpoints().items()
        }
        self._running = 0
        self._drained: asyncio.Event | None = None

    def __repr__(self) -> str:
        state = "serving" if self._drained is None else "draining"
        return f"<App {state}, {self._running} requests running>"

    def routes(self) -> Iterator[tuple[str, Route]]:
        """The tables of routes, their paths as in the OpenAPI document."""
        yield from self._exact.items()
        for kind, route in self._model.items():
            tail = f"/{kind}" if kind else ""
            yield f"/v2/models/{{model}}{tail}", route
            if kind not in _OF_ALL_VERSIONS:
                yield f"/v2/models/{{model}}/versions/{{version}}{tail}", route
        for action, route in self._repository.items():
            tail = action if action == "index" else f"models/{{model}}/{action}"
            yield f"/v2/repository/{tail}", route
            yield f"/v2/repository/{{repository}}/{tail}", route
        for (kind, action), route in self._memory.items():
            base = f"/v2/{kind}sharedmemory"
            yield f"{base}/region/{{region}}/{action}", route
            if action != "register":
                yield f"{base}/{action}", route

    async def __call__(self, http: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        self.begin()
        try:
            preflight = None if self._cors is None else self._cors.begin(http)
            reply = await self._answer(http) if preflight is None else preflight
            if self._drained is not None:
                reply.close_connection()
            return reply
        finally:
            self.end()

    @property
    def is_draining(self) -> bool:
        """Whether each connection is to end with its next answer."""
        return self._drained is not None

    def begin(self) -> None:
        """A request is being answered, here or on the lean path."""
        self._running += 1

    def end(self) -> None:
        """It has its answer."""
        self._running -= 1
        if self._drained is not None and not self._running:
            self._drained.set()

    async def drain(self, timeout_secs: float) -> None:
        """Close each connection with its next answer, and wait until no request is running."""
        self._drained = asyncio.Event()
        if not self._running:
            return
        try:
            async with asyncio.timeout(timeout_secs):
                await self._drained.wait()
        except TimeoutError:
            _logger.warning(
                "%d HTTP requests did not finish within %g seconds", self._running, timeout_secs
            )

    async def _answer(self, http: web.BaseRequest) -> Reply:
        errors = TEXT
        try:
            found = self._find(http.rel_url.raw_path)
            if found is None:
                return Reply(404, error_body("Not Found"))
            (method, category, endpoint, errors, changes), arguments = found
            if changes or self._access.guards_everything:
                refused = refusal(self._access, category, changes, http)
                if refused is not None:
                    return refused
            if method and http.method != method:
                return Reply(405, error_body("Method Not Allowed"), errors)
            return await endpoint(http, *arguments)
        except StatusError as error:
            return error_reply(error, errors)
        except web.RequestPayloadError as error:
            return error_reply(InvalidArgumentError(f"the request body is broken: {error}"), errors)
        except Exception:  # this request alone fails, and only the log has the traceback
            _logger.exception("%s %s failed", http.method, http.rel_url.raw_path)
            return error_reply(InternalError("the server failed; its log says why"), errors)

    def _find(self, path: str) -> tuple[Route, Sequence[object]] | None:
        route = self._exact.get(path)
        if route is not None:
            return route, ()
        if path.startswith(_MODELS):
            return self._find_model(path[len(_MODELS) :].split("/"))
        found = _SHARED_MEMORY.fullmatch(path)
        if found is not None:
            kind, region, action = found.groups()
            return self._memory[kind, action], (_name(region or ""),)
        found = _REPOSITORY.fullmatch(path)
        if found is None:
            return None
        repository, index, model, action = found.groups()
        if index:
            return self._repository["index"], ()
        if repository:
            return Route("POST", "model-repository", _refuse_repository), ()
        return self._repository[action], (_repository_name(model),)

    def _find_model(self, segments: list[str]) -> tuple[Route, Sequence[object]] | None:
        """Take apart `{model}[/versions/{version}][/{kind}]`."""
        name, *rest = segments
        version = None
        if len(rest) > 1 and rest[0] == "versions":
            version = self._version_digits(name, rest[1])
            rest = rest if version is None else rest[2:]
        kind = "/".join(rest)
        route = self._model.get(kind)
        if route is None or not name or (rest and not kind):
            return None
        if version is None:
            return route, (_name(name), None)
        if kind in _OF_ALL_VERSIONS:
            return None
        try:
            number = _version(version)
        except InvalidArgumentError as error:
            return route._replace(endpoint=_refusing(error)), ()
        return route, (_name(name), number)

    def _version_digits(self, name: str, segment: str) -> str | None:
        """A version as it is written, or as its label says; None for what is neither."""
        if segment.isascii() and segment.isdecimal():
            return segment
        found = self._controlplane.labelled(_name(name), segment)
        return str(found) if found is not None else None


def _name(segment: str) -> str:
    """The name that a path segment spells, where it is quoted as clients quote; else as it is."""
    if "%" not in segment:
        return segment
    name = unquote(segment)
    return name if quote(name) == segment else segment


def _repository_name(segment: str) -> str:
    """The name that a path segment spells, or the segment as it is where that can be no model's."""
    name = _name(segment)
    return name if is_name(name) else segment


def _version(digits: str) -> int:
    if len(digits) > 18:
        raise InvalidArgumentError(
            f"failed to get model version from specified version string '{digits}' "
            "(details: stol), version should be an integral value > 0"
        )
    return int(digits)


def _refusing(error: StatusError) -> Endpoint:
    async def refuse(http: web.BaseRequest) -> Reply:
        raise error

    return refuse


async def _refuse_repository(http: web.BaseRequest) -> Reply:
    raise UnsupportedError("'repository_name' specification is not supported")

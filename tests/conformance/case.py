"""What is asked of both servers: cases, the areas that they form, and how a server is set up."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Document = dict[str, Any]


@dataclass(frozen=True)
class Http:
    """An HTTP request on a connection of its own."""

    name: str
    method: str
    path: str
    body: bytes = b""
    #: Beside Host and Content-Length; a value of None leaves a header out.
    headers: Mapping[str, str | None] = field(default_factory=dict[str, "str | None"])
    #: Names of functions in normalisers.py, applied to the answer of either server.
    normalise: Sequence[str] = ()
    #: The real server never answers: the recorder waits for a moment only.
    unanswered: bool = False
    #: Whom it is sent to: "http", or "metrics".
    service: str = "http"

    def encoded(self) -> bytes:
        """The bytes that are sent."""
        lines: dict[str, str | None] = {"Host": "localhost"}
        if self.body or self.method not in ("GET", "HEAD"):
            lines["Content-Length"] = str(len(self.body))
        if "Transfer-Encoding" in self.headers:
            del lines["Content-Length"]
        lines |= self.headers
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items() if value is not None)
        return f"{self.method} {self.path} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + self.body


@dataclass(frozen=True)
class Wire:
    """Bytes for the HTTP port that are no HTTP/1.1 request as clients write it."""

    name: str
    data: bytes
    normalise: Sequence[str] = ()
    unanswered: bool = False

    def encoded(self) -> bytes:
        """The bytes that are sent."""
        return self.data


@dataclass(frozen=True)
class Grpc:
    """A unary call; `rpc` is a method of the inference service, or a whole path.

    The message is protobuf's JSON form with the fields' own names, apart from bytes, which are
    themselves; or the bytes of the message, well formed or not.
    """

    name: str
    rpc: str
    message: Document | bytes = field(default_factory=dict[str, Any])
    normalise: Sequence[str] = ()
    unanswered: bool = False

    def encoded(self) -> bytes:
        """What distinguishes the request from others."""
        return f"{self.rpc}\n{_canonical(self.message)}".encode()


@dataclass(frozen=True)
class Stream:
    """Requests on one ModelStreamInfer call, all of them sent before an answer is awaited."""

    name: str
    messages: Sequence[Document]
    normalise: Sequence[str] = ()

    def encoded(self) -> bytes:
        """What distinguishes the request from others."""
        return "\n".join(map(_canonical, self.messages)).encode()


@dataclass(frozen=True)
class Settled:
    """Not a case: wait until the index has a state for every version of a model."""

    model: str
    state: str


@dataclass(frozen=True)
class Counted:
    """Not a case: wait until the statistics of a model count so many answered requests.

    The real server counts a request after it has answered it.
    """

    model: str
    requests: int


@dataclass(frozen=True)
class Meanwhile:
    """A call that takes long, and cases while it does.

    The call is sent, the model awaited in the state, the cases played, the file made in the
    repository, upon which the call is answered.
    """

    call: Http
    settled: Settled
    cases: Sequence[Case]
    file: str


Case = Http | Wire | Grpc | Stream
Step = Case | Settled | Counted | Meanwhile


@dataclass(frozen=True)
class Setup:
    """How a server is started: a repository of repositories.py and more arguments.

    `folders` are those of the repository that are repositories by themselves, if it is none, and
    `backends` the one that holds python-based backends.
    """

    repository: str
    arguments: Sequence[str] = ()
    folders: Sequence[str] = ()
    backends: str = ""

    def options(self, repository: Path) -> list[str]:
        """The arguments that the server is given beside its repositories."""
        backends = [f"--backend-directory={repository / self.backends}"] if self.backends else []
        return [*backends, *self.arguments]

    def repositories(self, repository: Path) -> list[Path]:
        """The repositories that the server is given."""
        return [repository / folder for folder in self.folders] or [repository]


@dataclass(frozen=True)
class Area:
    """Steps on a server of their own, or on one that areas of the same set-up share, in order."""

    name: str
    setup: Setup
    steps: Sequence[Step]

    def cases(self) -> Iterator[tuple[str, Case]]:
        """Every case with its id, which is "area: name"."""
        for step in self.steps:
            match step:
                case Settled() | Counted():
                    continue
                case Meanwhile():
                    for case in (*step.cases, step.call):
                        yield self.id(case), case
                case _:
                    yield self.id(step), step

    def id(self, case: Case) -> str:
        """The id of one of the cases."""
        return f"{self.name}: {case.name}"


def digest(case: Case) -> str:
    """What a record remembers of its question, so that no case is compared with another's."""
    return hashlib.sha256(case.encoded()).hexdigest()[:12]


def _canonical(message: Document | bytes) -> str:
    return json.dumps(message, sort_keys=True, default=bytes.hex)

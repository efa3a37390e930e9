"""The composition root: the order of starting and stopping, and the ways in which a start fails."""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from support.surroundings import real_surroundings

from tritonpy.ipc.errors import InvalidArgumentError, UnavailableError
from tritonpy.supervisor import server
from tritonpy.supervisor.server import Server
from tritonpy.supervisor.settings import (
    GrpcSettings,
    HttpSettings,
    LogSettings,
    MetricsSettings,
    Settings,
)

Make = Callable[..., Server]


def settings(repository: Path, **more: object) -> Settings:
    """Free ports on this machine alone; gRPC has tests of its own."""
    defaults: dict[str, object] = {
        "http": HttpSettings(address="127.0.0.1", port=0),
        "grpc": GrpcSettings(enabled=False),
        "metrics": MetricsSettings(address="127.0.0.1", port=0, host=False),
    }
    return Settings(repositories=(str(repository),), **{**defaults, **more})  # type: ignore[arg-type]


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Make]:
    """Makes servers over an empty repository, and stops them."""
    made: list[Server] = []
    with real_surroundings() as surroundings:

        def make(repository: Path = tmp_path, **more: object) -> Server:
            made.append(
                Server(
                    settings(repository, **more),
                    surroundings.runtime_directory,
                    surroundings.sentinel,
                )
            )
            return made[-1]

        yield make
        for one in made:
            await one.stop()
        made.clear()


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that somebody else listens at."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


async def get(port: int, path: str) -> int:
    """The status of a GET."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    status = int((await reader.readline()).split()[1])
    await reader.read()
    writer.close()
    await writer.wait_closed()
    return status


def port_of(caplog: pytest.LogCaptureFixture, service: str) -> int:
    (line,) = (one for one in caplog.messages if one.startswith(f"Started {service}"))
    return int(line.rpartition(":")[2])


@pytest.mark.anyio
async def test_a_server_without_models_is_live_and_ready_and_stops(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    made = make()

    assert await made.start() is True

    port = port_of(caplog, "HTTPService")
    assert await get(port, "/v2/health/live") == 200
    assert await get(port, "/v2/health/ready") == 200
    assert await get(port_of(caplog, "Metrics Service"), "/metrics") == 200
    assert any("server_id" in message for message in caplog.messages)
    assert await made.stop() is True
    with pytest.raises(ConnectionRefusedError):
        await get(port, "/v2/health/live")


@pytest.mark.anyio
@pytest.mark.parametrize("fails", [False, True], ids=["serves the rest", "or ends"])
async def test_a_model_that_fails_is_listed_and_ends_the_server_only_when_that_is_wanted(
    make: Make, tmp_path: Path, fails: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    (tmp_path / "broken" / "1").mkdir(parents=True)
    (tmp_path / "broken" / "config.pbtxt").write_text("what is this")

    assert await make(exit_on_error=fails).start() is not fails

    assert ("creating server: Internal - failed to load all models" in caplog.text) is fails
    assert any("| broken" in message and "UNAVAILABLE" in message for message in caplog.messages)


@pytest.mark.anyio
@pytest.mark.parametrize("service", ["http", "metrics"])
async def test_a_port_that_is_taken_ends_the_start(make: Make, taken: int, service: str) -> None:
    more: dict[str, object] = {
        "http": HttpSettings(address="127.0.0.1", port=taken),
        "metrics": MetricsSettings(address="127.0.0.1", port=taken),
    }
    with pytest.raises(UnavailableError, match=f"cannot listen at '127.0.0.1:{taken}'"):
        await make(**{service: more[service]}).start()


@pytest.mark.anyio
async def test_a_repository_that_cannot_be_read_ends_the_start(make: Make, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="does not exist"):
        await make(tmp_path / "missing").start()


@pytest.mark.anyio
async def test_a_server_that_never_started_stops(make: Make) -> None:
    assert await make(exit_timeout_secs=0).stop() is True


@pytest.fixture
def handlers() -> Iterator[None]:
    """`run` ends with signals ignored, because its process ends too."""
    before = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("handlers")
def test_a_start_that_fails_is_one_line_and_status_1(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = tmp_path / "run"
    runtime.mkdir()
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(runtime))

    assert server.run(settings(tmp_path / "missing")) == 1

    errors = [line for line in capfd.readouterr().err.splitlines() if line.startswith("E")]
    assert len(errors) == 1
    assert "error: creating server: model repository" in errors[0]
    assert "does not exist" in errors[0]
    assert list(runtime.iterdir()) == []


@pytest.mark.usefixtures("handlers")
def test_a_runtime_directory_that_is_not_there_is_one_line_and_status_1(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path / "missing"))

    assert server.run(settings(tmp_path)) == 1

    assert "no runtime directory" in capfd.readouterr().err


@pytest.mark.usefixtures("handlers")
def test_the_garbage_collector_is_calm_as_long_as_the_server_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = gc.get_threshold()
    seen: list[tuple[int, bool]] = []

    async def serve(_settings: Settings, _server: Server) -> int:
        seen.append((gc.get_threshold()[0], gc.get_freeze_count() > 10_000))
        return 0

    monkeypatch.setattr(server, "_serve", serve)

    assert server.run(settings(tmp_path)) == 0

    assert seen == [(20_000, True)]
    assert (gc.get_threshold(), gc.get_freeze_count()) == (before, 0)


def test_a_log_that_cannot_be_written_is_one_line_and_status_1(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    log = LogSettings(file=str(tmp_path / "missing" / "log"))

    assert server.run(settings(tmp_path, log=log)) == 1

    assert "error: cannot open the log file" in capfd.readouterr().err

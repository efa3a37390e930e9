"""`run-model`: the worker in a terminal, its endpoints beside it, as a developer uses them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import pytest
import tritonclient.http as httpclient
from support import models
from support.clients import eventually
from support.terminal import CTRL_C, Terminal, terminal
from tritonclient.utils import InferenceServerException

MODEL = """
    import os
    import sys

    import numpy as np
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def initialize(self, args):
            print("initialized", args["model_instance_name"], "in", os.getpid(), sys.stdin.isatty())

        def execute(self, requests):
            responses = []
            for request in requests:
                array = pb_utils.get_input_tensor_by_name(request, "IN").as_numpy()
                answer = array * 2
                # here
                responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("OUT", answer)]))
            return responses

        def finalize(self):
            print("finalized")
"""
SERVED = "model 'm' is served from the foreground"


class Session:
    """A model in a terminal, and a client of it."""

    def __init__(self, folder: Path, shown: Terminal, *, ports: bool = True) -> None:
        self.folder = folder
        self.terminal = shown
        self.http = ""
        if not ports:
            return
        port = shown.wait_for(r"Started HTTPService at 127.0.0.1:(\d+)")[1]
        self.http = f"127.0.0.1:{port}"

    @property
    def pid(self) -> int:
        return self.terminal.process.pid

    @property
    def endpoints(self) -> psutil.Process:
        (found,) = (
            child
            for child in psutil.Process(self.pid).children()
            if "tritonpy.supervisor.development" in child.cmdline()
        )
        return found

    def served(self) -> None:
        self.terminal.wait_for(SERVED)

    def ask(self, number: float = 21, model: str = "m") -> float:
        """The model's answer to a number, by Triton's client."""
        with httpclient.InferenceServerClient(self.http, network_timeout=60) as client:
            tensor = httpclient.InferInput("IN", [1], "FP32")
            tensor.set_data_from_numpy(np.array([number], np.float32))
            return float(client.infer(model, [tensor]).as_numpy("OUT")[0])

    def is_live(self) -> tuple[bool, bool]:
        """Whether the server is live, and whether it is ready."""
        with httpclient.InferenceServerClient(self.http) as client:
            return client.is_server_live(), client.is_server_ready()

    def save(self, old: str, new: str, path: str = "1/model.py") -> None:
        """Edit a file of the model."""
        file = self.folder / path
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The model's folder."""
    return models.python_model(tmp_path / "repository", "m", MODEL, models.identity_config())


@contextmanager
def running(folder: Path, *arguments: str, ports: bool = True) -> Iterator[Session]:
    """The model in a terminal; afterwards nothing is left of it."""
    runtime = folder.parent.parent / "runtime"
    runtime.mkdir(exist_ok=True)
    command = [
        sys.executable, "-P", "-m", "tritonpy.supervisor", "run-model", str(folder),
        "--http-address=127.0.0.1", "--grpc-address=127.0.0.1", "--http-port=0", "--grpc-port=0",
        "--metrics-port=0", *arguments,
    ]  # fmt: skip
    with terminal(command, {"RUNTIME_DIRECTORY": str(runtime)}) as shown:
        yield Session(folder, shown, ports=ports)
    # Behind a server that was killed its sentinel cleans up.
    eventually(lambda: not list(runtime.iterdir()), "the runtime directory is gone")


@pytest.fixture
def clients() -> Iterator[ThreadPoolExecutor]:
    """Somebody who waits for answers meanwhile."""
    with ThreadPoolExecutor() as pool:
        yield pool


def ended(session: Session) -> int:
    """Press Ctrl-C, and return the exit status."""
    session.terminal.type(CTRL_C)
    return session.terminal.wait()


def test_the_worker_is_the_process_in_the_terminal(folder: Path) -> None:
    with running(folder) as session:
        found = session.terminal.wait_for(r"initialized m_0 in (\d+) True")
        assert int(found[1]) == session.pid
        session.served()
        assert session.ask(21) == 42
        assert session.is_live() == (True, True)
        endpoints = session.endpoints.pid
        assert endpoints != session.pid
        assert os.getsid(endpoints) != os.getsid(session.pid), "keys reach the worker alone"


def test_a_debugger_stops_in_execute_while_the_client_waits(
    folder: Path, clients: ThreadPoolExecutor
) -> None:
    with running(folder) as session:
        session.served()
        session.save("# here", "breakpoint()")
        session.terminal.wait_for("changed: .*model.py")
        session.served()
        answer: Future[float] = clients.submit(session.ask, 21)

        session.terminal.wait_for(r"\(Pdb\) ")
        session.terminal.type("p float(answer[0])\n")
        session.terminal.wait_for(r"\n42\.0\n\(Pdb\) ")
        assert not answer.done()
        session.terminal.type("answer = answer + 1\nc\n")

        assert answer.result(60) == 43
        assert ended(session) == 0
        assert "finalized" in session.terminal.shown


def test_a_saved_file_is_loaded_anew_in_the_same_process(folder: Path) -> None:
    with running(folder) as session:
        session.served()
        session.save("array * 2", "array * 3")
        session.terminal.wait_for("changed: .*/1/model.py")
        session.terminal.wait_for("finalized")
        found = session.terminal.wait_for(r"initialized m_0 in (\d+)")
        assert int(found[1]) == session.pid
        session.served()
        assert session.ask(2) == 6


def test_a_saved_configuration_or_other_file_is_loaded_too(folder: Path) -> None:
    with running(folder) as session:
        session.served()
        session.save("max_batch_size: 0", "max_batch_size: 0 # changed", "config.pbtxt")
        session.served()
        models.write(folder / "1" / "beside.txt", "x")
        session.served()


def test_a_syntax_error_leaves_the_model_as_it_was_until_the_next_save(folder: Path) -> None:
    with running(folder) as session:
        session.served()
        session.save("array * 2", "array * (2")
        session.terminal.wait_for(
            r"model.py:\d+: SyntaxError: .*; what was loaded before serves on"
        )
        assert session.ask(2) == 4
        assert session.is_live() == (True, True)
        session.save("array * (2", "array * 5")
        session.served()
        assert session.ask(2) == 10


def test_a_model_that_fails_to_load_leaves_the_endpoints_and_recovers(folder: Path) -> None:
    models.python_model(folder.parent, "m", f"    raise_\n{MODEL}", models.identity_config())
    with running(folder) as session:
        session.terminal.wait_for("NameError: name 'raise_' is not defined")
        session.terminal.wait_for("model 'm' is not served; it is loaded again when a file is sav")
        assert session.is_live() == (True, False)
        with pytest.raises(InferenceServerException):
            session.ask()
        session.save("raise_", "")
        session.served()
        assert session.ask(1) == 2


def test_what_the_model_started_ends_with_it(folder: Path) -> None:
    with running(folder) as session:
        session.served()
        starts = "import subprocess; print('started', subprocess.Popen(['sleep', '1000']).pid)"
        session.save("import os\n", f"import os\n{starts}\n")
        child = int(session.terminal.wait_for(r"started (\d+)")[1])
        session.served()
        assert psutil.pid_exists(child)
        session.save(starts, "")
        session.served()
        eventually(lambda: not psutil.pid_exists(child), "the child is gone")


def test_ctrl_c_ends_everything_and_leaves_the_terminal_as_it_was(folder: Path) -> None:
    with running(folder) as session:
        before = session.terminal.modes()
        session.served()
        endpoints = session.endpoints
        assert ended(session) == 0
        assert session.terminal.shown.count("finalized") == 1
        assert not endpoints.is_running()
        assert session.terminal.modes() == before


def test_ctrl_c_at_the_debugger_s_prompt_ends_everything(
    folder: Path, clients: ThreadPoolExecutor
) -> None:
    models.python_model(
        folder.parent, "m", MODEL.replace("# here", "breakpoint()"), models.identity_config()
    )
    with running(folder, "--exit-timeout-secs=1") as session:
        before = session.terminal.modes()
        session.served()
        answer = clients.submit(session.ask)
        session.terminal.wait_for(r"\(Pdb\) ")
        endpoints = session.endpoints
        assert ended(session) == 1  # a request was given up
        assert answer.exception(60) is not None
        assert not endpoints.is_running()
        assert session.terminal.modes() == before


def test_ctrl_c_a_second_time_ends_at_once(folder: Path, clients: ThreadPoolExecutor) -> None:
    code = MODEL.replace("# here", "print('hanging'); import time; time.sleep(1000)")
    models.python_model(folder.parent, "m", code, models.identity_config())
    with running(folder, "--exit-timeout-secs=1000") as session:
        session.served()
        answer = clients.submit(session.ask)
        session.terminal.wait_for("hanging")
        session.terminal.type(CTRL_C)
        session.terminal.wait_for("press Ctrl-C again to stop at once")
        session.terminal.type(CTRL_C)
        assert session.terminal.wait() == 130
        assert answer.exception(60) is not None


@pytest.mark.parametrize("end", ["os._exit(3)", "os.kill(os.getpid(), 9)"])
def test_when_the_process_dies_so_do_the_endpoints(
    folder: Path, clients: ThreadPoolExecutor, end: str
) -> None:
    models.python_model(folder.parent, "m", MODEL.replace("# here", end), models.identity_config())
    with running(folder) as session:
        session.served()
        endpoints = session.endpoints
        answer = clients.submit(session.ask)
        assert session.terminal.wait() in (3, -9)
        assert answer.exception(60) is not None
        endpoints.wait(60)


def test_when_the_endpoints_die_so_does_the_process(folder: Path) -> None:
    with running(folder) as session:
        session.served()
        session.endpoints.kill()
        assert session.terminal.wait() == 1


def test_any_backend_runs_in_the_foreground(tmp_path: Path) -> None:
    folder = models.identity(tmp_path / "repository", "m")
    with running(folder) as session:
        session.served()
        assert session.is_live() == (True, True)
        assert ended(session) == 0


def test_a_model_s_own_environment_is_used(folder: Path) -> None:
    environment = folder.parent.parent / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    more = f"""parameters {{
        key: "EXECUTION_ENV_PATH" value {{ string_value: "{environment}" }} }}"""
    code = MODEL.replace('print("initialized"', 'print("in", sys.prefix, "initialized"')
    models.python_model(folder.parent, "m", code, models.identity_config(more=more))
    cache = f"--environment-cache-directory={folder.parent.parent / 'cache'}"
    with running(folder, cache) as session:
        session.terminal.wait_for(f"in {environment} initialized m_0 in {session.pid} True")
        session.served()
        assert session.ask(21) == 42


def test_one_instance_runs_whatever_the_configuration_says(folder: Path) -> None:
    more = "instance_group [ { count: 3 kind: KIND_CPU } ]"
    models.python_model(folder.parent, "m", MODEL, models.identity_config(more=more))
    with running(folder) as session:
        session.served()
        assert session.terminal.shown.count("initialized") == 1


def test_other_models_have_workers_of_their_own(folder: Path) -> None:
    models.python_identity(folder.parent, "other")
    with running(folder, "--load-model=other") as session:
        session.served()
        with httpclient.InferenceServerClient(session.http) as client:
            assert client.is_model_ready("other")
        assert len(session.endpoints.children()) == 2, "the sentinel and a worker"


def ensemble(repository: Path) -> Path:
    """An ensemble of nothing but the model."""
    config = """
        platform: "ensemble"
        input [ { name: "IN" data_type: TYPE_FP32 dims: [ -1 ] } ]
        output [ { name: "OUT" data_type: TYPE_FP32 dims: [ -1 ] } ]
        ensemble_scheduling { step [ {
          model_name: "m" model_version: -1
          input_map { key: "IN" value: "IN" } output_map { key: "OUT" value: "OUT" }
        } ] }
    """
    models.write(repository / "whole" / "config.pbtxt", config)
    (repository / "whole" / "1").mkdir()
    return repository / "whole"


def test_an_ensemble_of_the_model_runs_on_it_and_comes_back_with_it(folder: Path) -> None:
    ensemble(folder.parent)
    with running(folder, "--load-model=whole") as session:
        session.served()
        assert session.ask(2, model="whole") == 4
        session.save("array * 2", "array * 7")
        session.terminal.wait_for("changed: ")
        session.terminal.wait_for("successfully loaded 'whole'")
        assert session.ask(2, model="whole") == 14


def test_an_ensemble_has_no_worker_to_run(folder: Path) -> None:
    with running(ensemble(folder.parent), ports=False) as session:
        session.terminal.wait_for("model 'whole' is an ensemble, which no worker runs")
        assert session.terminal.wait() == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the folder of a model comes first"),
        (["/no/such/folder"], "'/no/such/folder' is not the folder of a model"),
        ([".", "--http-prot=1"], "unknown option --http-prot"),
        ([".", "--model-repository=/x"], "--model-repository is the folder that holds the model"),
        ([".", "--model-namespacing=true"], "makes no sense for a single repository"),
    ],
)
def test_wrong_arguments_end_with_status_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from tritonpy.supervisor import cli

    assert cli.main(["run-model", *arguments]) == 2
    assert message in capsys.readouterr().err

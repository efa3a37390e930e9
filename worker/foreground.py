"""A worker in the process that a person started in a terminal, with its standard streams.

    python -P -m tritonpy.worker foreground CONTROL SERVER [CHANNEL LIFELINE NAME]

CONTROL is the inherited socket of ipc/foreground.py, and SERVER the process of the server, which is
our child. With the rest the process is a worker; when that has ended, or without, it waits to be
told what to be next, and becomes it as a fresh program in the same process: whoever debugs it, and
the terminal, see one process all the time.
"""

from __future__ import annotations

import contextlib
import faulthandler
import inspect
import os
import pdb
import signal
import socket
import sys
import termios
import threading
import traceback
from collections.abc import Callable
from typing import Any

import msgspec

from ..ipc import foreground
from ..ipc.foreground import Attach, Ended, Kill

#: What a shell says of a program that ended by Ctrl-C.
_INTERRUPTED = 130

#: What a person, or whoever else watches over the process, ends it with.
_ENDING = (signal.SIGINT, signal.SIGTERM)

#: What is called with the numbers of the inherited sockets, of messages and of descriptors.
Work = Callable[[int, int], None]


def main(arguments: list[str], work: Work) -> int:
    """Be the terminal's process until the server has ended; returns the exit status."""
    control, server, *inherited = arguments
    terminal = Terminal(socket.socket(fileno=int(control)), int(server))
    terminal.start()
    if inherited:
        channel, lifeline, _name = inherited
        terminal.work(work, int(channel), int(lifeline))
    return terminal.wait()


class Terminal:
    """The process in the terminal: what it is now, and what it becomes next."""

    def __init__(self, control: socket.socket, server: int) -> None:
        self._control = control
        self._server = server
        self._modes = _terminal_modes()
        #: Whether it is a worker now. Whoever sets it back tells the server, once.
        self._works = False
        self._lock = threading.Lock()
        self._ending = False
        #: What the process ends with when the server is killed.
        self._killed_status = 1
        self._status = 1
        self._reader = threading.Thread(target=self._obey, name="foreground", daemon=True)

    def start(self) -> None:
        """Take signals, and begin to listen to the server."""
        faulthandler.enable()
        os.set_inheritable(self._control.fileno(), False)
        if sys.breakpointhook is sys.__breakpointhook__ and "PYTHONBREAKPOINT" not in os.environ:
            sys.breakpointhook = _breakpoint
        self._take_signals()
        os.register_at_fork(after_in_child=_default_signals)
        self._reader.start()

    def _take_signals(self) -> None:
        """Have a thread notice Ctrl-C: the main thread may be in a library, or at a debugger's
        prompt, where a handler in Python would sometimes have to wait for the next key.
        """
        heard, told = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(told, False)
        signal.set_wakeup_fd(told, warn_on_full_buffer=False)
        for number in _ENDING:
            signal.signal(number, lambda _number, _frame: None)
            signal.siginterrupt(number, False)
        threading.Thread(target=self._listen, args=(heard,), name="signals", daemon=True).start()

    def work(self, work: Work, channel: int, lifeline: int) -> None:
        """Be a worker until it is told to stop."""
        status = 1
        self._works = True
        try:
            work(channel, lifeline)
            status = 0
        except BaseException:  # whatever it is, the server may attach another one
            traceback.print_exc()
        self._ended(status)

    def wait(self) -> int:
        """Wait for the server's end; this process may become another program meanwhile."""
        self._reader.join()
        return self._status

    # --- the server's words, in a thread ----------------------------------------------------------

    def _obey(self) -> None:
        try:
            while (received := foreground.receive(self._control)) is not None:
                message, descriptors = received
                if isinstance(message, Attach):
                    self._become(message, *descriptors)
                elif isinstance(message, Kill):
                    # What runs in the main thread ends when the next program begins.
                    self._ended(-signal.SIGKILL)
        except (OSError, msgspec.DecodeError):
            traceback.print_exc()
        self._server_ended()

    def _become(self, what: Attach, channel: int, lifeline: int) -> None:
        """Begin anew as a worker. Does not return, unless the system refuses."""
        self._leave()
        inherited = (self._control.fileno(), channel, lifeline)
        for descriptor in inherited:
            os.set_inheritable(descriptor, True)
        arguments = [
            *what.command, "foreground", str(inherited[0]), str(self._server),
            str(channel), str(lifeline), what.name,
        ]  # fmt: skip
        # Only what the worker starts carries the marks: the server ends all who do.
        carried = {f"{_CARRIED}{name}": value for name, value in what.marks.items()}
        os.execve(what.command[0], arguments, {**what.environment, **carried})

    def _server_ended(self) -> None:
        _pid, status = os.waitpid(self._server, 0)
        self._status = os.waitstatus_to_exitcode(status)
        if self._status < 0:
            self._status = self._killed_status
        self._leave()
        os._exit(self._status)

    def _ended(self, status: int) -> None:
        """Tell that it is no worker any more, unless that is told."""
        with self._lock:
            works, self._works = self._works, False
        if not works:
            return
        try:
            foreground.send(self._control, Ended(status))
        except OSError:
            pass  # the server is ending, and its end is all that is waited for

    # --- the person's -----------------------------------------------------------------------------

    def _listen(self, heard: int) -> None:
        while True:
            for number in os.read(heard, 64):
                if number in _ENDING:
                    self._interrupted()

    def _interrupted(self) -> None:
        """Have the server end, which has us finish; the second time end at once."""
        if self._ending:
            self._killed_status = _INTERRUPTED  # the other thread may see its end before we go on
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._server, signal.SIGKILL)
            self._leave()
            os._exit(_INTERRUPTED)
        self._ending = True
        os.write(2, b"\nstopping; press Ctrl-C again to stop at once\n")
        with contextlib.suppress(ProcessLookupError):  # it has ended just now
            os.kill(self._server, signal.SIGTERM)

    def _leave(self) -> None:
        """Leave the terminal and nobody behind."""
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError):
                pass  # closed by the model, or nobody reads it
        if self._modes is not None:
            try:
                termios.tcsetattr(0, termios.TCSANOW, self._modes)
            except termios.error:
                pass  # it is not ours any more
        _end_children(self._server)


#: How variables for what a worker starts are called in its own environment.
_CARRIED = "TRITONPY_CARRIED_"


def uncover_marks() -> None:
    """Give the variables for what the worker starts their own names."""
    for name in [name for name in os.environ if name.startswith(_CARRIED)]:
        os.environ[name.removeprefix(_CARRIED)] = os.environ.pop(name)


def _terminal_modes() -> list[Any] | None:
    """How the terminal is set; None without one."""
    try:
        return termios.tcgetattr(0)
    except termios.error:
        return None


def _breakpoint(*_arguments: object, **_keywords: object) -> None:
    """A breakpoint() that leaves Ctrl-C alone: it ends the server, here as anywhere else."""
    frame = inspect.currentframe()
    assert frame is not None
    pdb.Pdb(nosigint=True).set_trace(frame.f_back)


def _default_signals() -> None:
    """A model's forked child is not the terminal's process."""
    signal.set_wakeup_fd(-1)
    for number in _ENDING:
        signal.signal(number, signal.SIG_DFL)


def _end_children(spared: int) -> None:
    """Kill the processes that the model has started and not ended."""
    for thread in os.listdir("/proc/self/task"):
        try:
            with open(f"/proc/self/task/{thread}/children") as file:
                children = [int(child) for child in file.read().split()]
        except OSError:
            continue  # the thread is gone, or this kernel does not tell
        for child in children:
            if child != spared:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)

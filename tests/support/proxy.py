"""A TCP proxy that counts, to see what libraries hide: how much really went over the wire."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Proxy:
    """Passes connections on to a server; counts what either side has sent."""

    def __init__(self, host: str, port: int) -> None:
        self._server = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads = [threading.Thread(target=self._accept)]
        self._sockets: list[socket.socket] = []
        self.requested = 0
        self.answered = 0

    @property
    def address(self) -> str:
        """Where clients connect to."""
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    def start(self) -> None:
        """Take connections."""
        self._threads[0].start()

    def stop(self) -> None:
        """Break all connections; a second time does nothing."""
        for connection in (self._listener, *self._sockets):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:  # its other end was faster
                pass
        for thread in self._threads:
            thread.join()
        for connection in (self._listener, *self._sockets):
            connection.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:  # stopped
                return
            server = socket.create_connection(self._server)
            self._sockets += (client, server)
            for source, target, is_request in ((client, server, True), (server, client, False)):
                thread = threading.Thread(target=self._pass, args=(source, target, is_request))
                self._threads.append(thread)
                thread.start()

    def _pass(self, source: socket.socket, target: socket.socket, is_request: bool) -> None:
        try:
            while data := source.recv(1 << 16):
                if is_request:
                    self.requested += len(data)
                else:
                    self.answered += len(data)
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:  # the other end is gone
            return


@contextmanager
def proxy(address: str) -> Iterator[Proxy]:
    """A proxy in front of a server's `host:port`."""
    host, _, port = address.rpartition(":")
    running = Proxy(host, int(port))
    running.start()
    try:
        yield running
    finally:
        running.stop()

"""A small Google Cloud Storage: the part of its XML interface that reading a repository needs."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape


class SmallGcs:
    """Objects by name in one bucket, and what was asked of it."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.reads: list[str] = []
        #: Objects that a listing shows and that are gone when they are read.
        self.vanished: set[str] = set()
        self.url = ""


@contextmanager
def serving_gcs(bucket: str) -> Iterator[SmallGcs]:
    """Serve a bucket at a free port of this host."""
    gcs = SmallGcs()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:
            """Keep quiet."""

        def do_GET(self) -> None:
            url = urlsplit(self.path)
            name = unquote(url.path).removeprefix(f"/{bucket}").lstrip("/")
            query = parse_qs(url.query)
            if not unquote(url.path).startswith(f"/{bucket}"):
                self._send(404, b"<Error><Code>NoSuchBucket</Code></Error>")
            elif "list-type" in query:
                self._send(200, _listing(gcs, query.get("prefix", [""])[0]))
            elif name not in gcs.objects or name in gcs.vanished:
                self._send(404, b"<Error><Code>NoSuchKey</Code></Error>")
            else:
                self._object(name)

        def _object(self, name: str) -> None:
            gcs.reads.append(name)
            content = gcs.objects[name]
            wanted = self.headers.get("Range")
            headers = {"ETag": _etag(content), "Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT"}
            if wanted is None:
                self._send(200, content, headers)
                return
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            part = content[int(first) : int(last) + 1]
            end = int(first) + len(part) - 1
            headers["Content-Range"] = f"bytes {first}-{end}/{len(content)}"
            self._send(206, part, headers)

        def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for key, value in (headers or {}).items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    gcs.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield gcs
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _etag(content: bytes) -> str:
    return f'"{hashlib.md5(content, usedforsecurity=False).hexdigest()}"'


def _listing(gcs: SmallGcs, prefix: str) -> bytes:
    contents = "".join(
        f"<Contents><Key>{escape(name)}</Key><Size>{len(content)}</Size>"
        f"<LastModified>2024-01-01T00:00:00.000Z</LastModified>"
        f"<ETag>{escape(_etag(content))}</ETag></Contents>"
        for name, content in sorted(gcs.objects.items())
        if name.startswith(prefix)
    )
    return (
        f"<ListBucketResult><IsTruncated>false</IsTruncated>{contents}</ListBucketResult>"
    ).encode()

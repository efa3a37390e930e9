"""Where a model repository is: Triton's path syntax for repositories in the cloud, read into parts.

s3://bucket/path    s3://host:port/bucket/path    s3://https://host:port/bucket/path
gs://bucket/path    as://account/container/path   as://account.blob.core.windows.net/...
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ...ipc.errors import InvalidArgumentError

SERVICES = {"s3": "S3", "gs": "Google Cloud Storage", "as": "Azure Storage"}

_ENDPOINT = re.compile(r"(?P<scheme>https?://)?(?P<host>[^/:]+):(?P<port>\d+)/(?P<rest>.*)")
_EXPLICIT = re.compile(r"(?P<scheme>https?)://(?P<host>[^/]+)/(?P<rest>.*)")


@dataclass(frozen=True, slots=True)
class CloudLocation:
    """A repository in the cloud: `endpoint` and `account` are empty where the text has none.

    `prefix` has no slash at its ends, and is empty for a whole bucket.
    """

    text: str
    scheme: str
    bucket: str
    prefix: str
    endpoint: str = ""
    account: str = ""

    @property
    def service(self) -> str:
        """The name of the service, for people."""
        return SERVICES[self.scheme]


def is_cloud(text: str) -> bool:
    """Whether a repository's name says that it is in the cloud."""
    return text.partition("://")[0] in SERVICES and "://" in text


def parse(text: str) -> CloudLocation:
    """Read the name of a repository in the cloud. Raises InvalidArgumentError for a wrong one."""
    scheme, _, rest = text.partition("://")
    endpoint = account = ""
    if scheme == "s3":
        if found := _ENDPOINT.fullmatch(rest):
            endpoint = f"{found['scheme'] or 'http://'}{found['host']}:{found['port']}"
            rest = found["rest"]
        elif found := _EXPLICIT.fullmatch(rest):
            endpoint, rest = f"{found['scheme']}://{found['host']}", found["rest"]
    elif scheme == "as":
        host, _, rest = rest.partition("/")
        account = host.partition(".")[0]
        endpoint = f"https://{host}" if "." in host else ""
        if not account:
            raise _wrong(text, "names no storage account", "as://account/container/path")
    bucket, *folders = [part for part in rest.split("/") if part] or [""]
    if not bucket:
        word = "container" if scheme == "as" else "bucket"
        start = "as://account/container" if scheme == "as" else f"{scheme}://bucket"
        raise _wrong(text, f"names no {word}", f"{start}/path")
    if any(part in (".", "..") for part in folders):
        raise _wrong(text, "has '.' or '..' in its path", "the path without them")
    return CloudLocation(text, scheme, bucket, "/".join(folders), endpoint, account)


def _wrong(text: str, what: str, remedy: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"model repository '{text}' {what}: write {remedy}")

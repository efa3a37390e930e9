"""Triton's path syntax for repositories in the cloud."""

from __future__ import annotations

import pytest

from tritonpy.ipc.errors import InvalidArgumentError
from tritonpy.supervisor.repository.location import is_cloud, parse


@pytest.mark.parametrize(
    ("text", "bucket", "prefix", "endpoint", "account"),
    [
        ("s3://bucket", "bucket", "", "", ""),
        ("s3://bucket/a/b/", "bucket", "a/b", "", ""),
        ("s3://host:9000/bucket/a", "bucket", "a", "http://host:9000", ""),
        ("s3://https://host:9000/bucket/a", "bucket", "a", "https://host:9000", ""),
        ("s3://http://host:9000/bucket", "bucket", "", "http://host:9000", ""),
        ("s3://https://host/bucket/a", "bucket", "a", "https://host", ""),
        ("gs://bucket/a", "bucket", "a", "", ""),
        ("as://account/container/a", "container", "a", "", "account"),
        (
            "as://me.blob.core.windows.net/container",
            "container",
            "",
            "https://me.blob.core.windows.net",
            "me",
        ),
    ],
)
def test_a_location_is_read_as_triton_writes_it(
    text: str, bucket: str, prefix: str, endpoint: str, account: str
) -> None:
    found = parse(text)
    assert (found.bucket, found.prefix) == (bucket, prefix)
    assert (found.endpoint, found.account) == (endpoint, account)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("s3://", "names no bucket: write s3://bucket/path"),
        ("s3://host:9000/", "names no bucket"),
        ("as://account", "names no container: write as://account/container/path"),
        ("as:///container", "names no storage account"),
        ("gs://bucket/../other", "has '.' or '..' in its path"),
    ],
)
def test_an_incomplete_location_is_refused(text: str, message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        parse(text)


def test_a_local_path_is_no_location_in_the_cloud() -> None:
    assert is_cloud("gs://bucket")
    assert not is_cloud("/srv/s3")
    assert not is_cloud("s3")

"""From the environment and Triton's credential file to a store's settings."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tritonpy.ipc.errors import InvalidArgumentError
from tritonpy.supervisor.repository.credentials import CREDENTIAL_FILE, store_options
from tritonpy.supervisor.repository.location import parse

_KEYS = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret"}


def test_s3_takes_the_keys_of_the_environment() -> None:
    options = store_options(parse("s3://bucket"), {**_KEYS, "AWS_DEFAULT_REGION": "eu-west-1"})
    assert options["access_key_id"] == "id"
    assert options["region"] == "eu-west-1"
    assert options["virtual_hosted_style_request"] is True


def test_a_host_in_the_path_means_path_style() -> None:
    options = store_options(parse("s3://host:1/bucket"), _KEYS)
    assert options["endpoint"] == "http://host:1"
    assert options["virtual_hosted_style_request"] is False


def test_the_longest_prefix_of_the_credential_file_wins_over_the_environment(
    tmp_path: Path,
) -> None:
    file = tmp_path / "credentials.json"
    entries = {"": {"key_id": "any"}, "s3://bucket": {"key_id": "its"}, "s3://o": {"key_id": "o"}}
    file.write_text(json.dumps({"s3": entries}))
    environment = {**_KEYS, CREDENTIAL_FILE: str(file)}
    assert store_options(parse("s3://bucket/a"), environment)["access_key_id"] == "its"
    assert store_options(parse("s3://third"), environment)["access_key_id"] == "any"


def test_a_credential_file_that_is_no_json_is_told(tmp_path: Path) -> None:
    file = tmp_path / "credentials.json"
    file.write_text("{")
    with pytest.raises(InvalidArgumentError, match=r"credentials\.json cannot be read"):
        store_options(parse("s3://bucket"), {CREDENTIAL_FILE: str(file)})


def test_a_profile_with_keys_is_read_and_another_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "aws"
    file.write_text("[me]\naws_access_key_id = mine\naws_secret_access_key = s\n[sso]\n")
    environment = {"AWS_SHARED_CREDENTIALS_FILE": str(file)}
    mine = store_options(parse("s3://bucket"), {**environment, "AWS_PROFILE": "me"})
    assert mine["access_key_id"] == "mine"
    with pytest.raises(InvalidArgumentError, match="profile 'sso' has no aws_access_key_id"):
        store_options(parse("s3://bucket"), {**environment, "AWS_PROFILE": "sso"})


def test_azure_takes_the_key_unless_a_managed_identity_is_wanted() -> None:
    environment = {"AZURE_STORAGE_KEY": "key", "AZURE_STORAGE_CLIENT_ID": "me"}
    assert store_options(parse("as://account/box"), environment) == {
        "account_name": "account",
        "account_key": "key",
    }
    environment["AZURE_STORAGE_AUTH_TYPE"] = "managed_identity"
    assert store_options(parse("as://account/box"), environment) == {
        "account_name": "account",
        "client_id": "me",
    }

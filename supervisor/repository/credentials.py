"""Pure but for files: from the environment, or Triton's credential file, to a store's settings."""

from __future__ import annotations

import configparser
import json
import os
from collections.abc import Mapping
from typing import cast

from ...ipc.errors import InvalidArgumentError
from .location import CloudLocation

CREDENTIAL_FILE = "TRITON_CLOUD_CREDENTIAL_PATH"

#: What a store is made of besides its bucket, by obstore's names.
StoreOptions = dict[str, str | bool]

_AWS = {
    "AWS_ACCESS_KEY_ID": "access_key_id",
    "AWS_SECRET_ACCESS_KEY": "secret_access_key",
    "AWS_SESSION_TOKEN": "session_token",
    "AWS_DEFAULT_REGION": "region",
    "AWS_REGION": "region",
    "AWS_ENDPOINT_URL": "endpoint",
}


def store_options(location: CloudLocation, environment: Mapping[str, str]) -> StoreOptions:
    """What opens the store of a location; the credential file wins over the environment. Blocking.

    Raises InvalidArgumentError for a credential file or a profile that cannot be read.
    """
    entry = _from_file(location, environment.get(CREDENTIAL_FILE, ""))
    match location.scheme:
        case "s3":
            return _s3(location, entry, environment)
        case "gs":
            return _gs(entry, environment)
        case _:
            return _azure(location, entry, environment)


def _s3(location: CloudLocation, entry: object, environment: Mapping[str, str]) -> StoreOptions:
    options: StoreOptions
    if isinstance(entry, dict):
        written = cast("dict[str, object]", entry)
        names = {
            "key_id": "access_key_id",
            "secret_key": "secret_access_key",
            "session_token": "session_token",
            "region": "region",
        }
        options = {
            names[key]: str(value) for key, value in written.items() if key in names and value
        }
        profile = str(written.get("profile", ""))
    else:
        options = {name: environment[key] for key, name in _AWS.items() if environment.get(key)}
        profile = environment.get("AWS_PROFILE", "")
    if "access_key_id" not in options and profile:
        options |= _profile(profile, environment)
    if environment.get("AWS_SKIP_SIGNATURE", "").lower() in ("1", "true"):
        options["skip_signature"] = True
    if location.endpoint:
        options["endpoint"] = location.endpoint
    options.setdefault("region", "us-east-1")
    options["virtual_hosted_style_request"] = "endpoint" not in options
    return options


def _profile(profile: str, environment: Mapping[str, str]) -> StoreOptions:
    path = environment.get("AWS_SHARED_CREDENTIALS_FILE") or os.path.expanduser(
        "~/.aws/credentials"
    )
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(path)
    if not parser.has_section(profile) or "aws_access_key_id" not in parser[profile]:
        raise InvalidArgumentError(
            f"AWS profile '{profile}' has no aws_access_key_id in {path}; other kinds of profile "
            "are not supported: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    names = {
        "aws_access_key_id": "access_key_id",
        "aws_secret_access_key": "secret_access_key",
        "aws_session_token": "session_token",
        "region": "region",
    }
    return {names[key]: value for key, value in parser[profile].items() if key in names}


def _gs(entry: object, environment: Mapping[str, str]) -> StoreOptions:
    path = entry if isinstance(entry, str) else environment.get("GOOGLE_APPLICATION_CREDENTIALS")
    if not path:
        return {}
    content = _json(path)
    if content.get("type") == "authorized_user":
        return {"application_credentials": path}
    return {"service_account": path}


def _azure(location: CloudLocation, entry: object, environment: Mapping[str, str]) -> StoreOptions:
    if isinstance(entry, dict):
        names = {"account_str", "account_key", "auth_type", "client_id"}
        written = cast("dict[str, object]", entry)
        given = {key: str(value) for key, value in written.items() if key in names and value}
    else:
        given = {
            "account_str": environment.get("AZURE_STORAGE_ACCOUNT", ""),
            "account_key": environment.get("AZURE_STORAGE_KEY", ""),
            "auth_type": environment.get("AZURE_STORAGE_AUTH_TYPE", ""),
            "client_id": environment.get("AZURE_STORAGE_CLIENT_ID", ""),
        }
    options: StoreOptions = {"account_name": location.account or given.get("account_str", "")}
    if given.get("auth_type") in ("managed_identity", "default"):
        if client := given.get("client_id"):
            options["client_id"] = client
    elif key := given.get("account_key"):
        options["account_key"] = key
    else:
        options["skip_signature"] = True
    if endpoint := location.endpoint or environment.get("AZURE_STORAGE_ENDPOINT", ""):
        options["endpoint"] = endpoint
    return options


def _from_file(location: CloudLocation, path: str) -> object:
    """The entry with the longest prefix of the location; None without one."""
    if not path:
        return None
    entries = _json(path).get(location.scheme)
    if not isinstance(entries, dict):
        return None
    by_prefix = cast("dict[str, object]", entries)
    prefixes = [prefix for prefix in by_prefix if location.text.startswith(prefix)]
    return by_prefix[max(prefixes, key=len)] if prefixes else None


def _json(path: str) -> dict[str, object]:
    try:
        with open(path, "rb") as file:
            content = json.load(file)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InvalidArgumentError(f"credential file {path} cannot be read: {reason}") from None
    if not isinstance(content, dict):
        raise InvalidArgumentError(f"credential file {path} must hold a JSON object")
    return cast("dict[str, object]", content)

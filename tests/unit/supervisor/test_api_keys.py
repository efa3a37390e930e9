"""The file of API keys: what it grants, and what is wrong with it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tritonpy.ipc.errors import InvalidArgumentError
from tritonpy.supervisor.api_keys import read

DIGEST = hashlib.sha256(b"s3cret").hexdigest()


def write(folder: Path, text: str, mode: int = 0o600) -> str:
    file = folder / "keys.toml"
    file.write_text(text)
    file.chmod(mode)
    return str(file)


def test_keys_are_found_by_their_digest_or_as_they_are(tmp_path: Path) -> None:
    keys = read(
        write(
            tmp_path,
            f"""
            [[key]]
            name = "hashed"
            sha256 = "{DIGEST.upper()}"
            scopes = ["inference", "trace:read"]

            [[key]]
            name = "plain"
            key = "pl4in"
            scopes = []
            """,
        )
    )
    hashed, plain = keys.find("s3cret"), keys.find("pl4in")
    assert hashed is not None
    assert plain is not None
    assert (hashed.name, plain.name) == ("hashed", "plain")
    assert hashed.opens("inference", changes=True)
    assert hashed.opens("trace", changes=False)
    assert not hashed.opens("trace", changes=True)
    assert not plain.opens("inference", changes=False)


@pytest.mark.parametrize("key", ["", "S3cret", "s3cret ", DIGEST, "\udce9"])
def test_other_keys_are_not_found(tmp_path: Path, key: str) -> None:
    file = write(tmp_path, f'[[key]]\nname = "a"\nsha256 = "{DIGEST}"\nscopes = ["all"]')
    assert read(file).find(key) is None


def test_nobody_may_anything_without_a_key_unless_it_is_said(tmp_path: Path) -> None:
    assert not read(write(tmp_path, "")).anonymous.opens("health", changes=False)
    keys = read(write(tmp_path, '[anonymous]\nscopes = ["health"]'))
    assert keys.anonymous.opens("health", changes=False)
    assert not keys.anonymous.opens("metadata", changes=False)


KEY = '[[key]]\nname = "a"\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[key]", "'.*keys.toml'"),
        ("[[key]]\nscopes = []", "name"),
        (KEY + 'key = "k"', "scopes"),
        (KEY + 'key = "k"\nscopes = "all"', "scopes"),
        (KEY + 'key = "k"\nscopes = []\nmore = 1', "more"),
        ("[other]", "other"),
        (KEY + "scopes = []", "key 'a': give either sha256 or key"),
        (KEY + f'key = "k"\nsha256 = "{DIGEST}"\nscopes = []', "give either sha256 or key"),
        (KEY + 'sha256 = "abc"\nscopes = []', "64 hexadecimal digits"),
        (KEY + f'sha256 = "{DIGEST[:-1]}x"\nscopes = []', "64 hexadecimal digits"),
        (KEY + 'key = "two words"\nscopes = []', "without spaces"),
        (KEY + 'key = "k"\nscopes = ["admin"]', "unknown scope 'admin': the scopes are health"),
        (KEY + 'key = "k"\nscopes = ["health:write"]', "unknown scope 'health:write'"),
        ('[anonymous]\nscopes = ["*"]', r"anonymous: unknown scope '\*'"),
        (
            KEY + 'key = "s3cret"\nscopes = []\n[[key]]\nname = "b"\nscopes = []\n'
            f'sha256 = "{DIGEST}"',
            "'a' and 'b' have the same key",
        ),
    ],
)
def test_what_is_wrong_is_said_and_no_key_with_it(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message) as raised:
        read(write(tmp_path, text))
    assert raised.value.message.startswith("--api-keys-file: ")
    assert "s3cret" not in raised.value.message


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match=r"cannot read '.*nope': No such file"):
        read(str(tmp_path / "nope"))
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidArgumentError, match="binary"):
        read(str(tmp_path / "binary"))


def test_keys_as_they_are_must_not_be_readable_by_everybody(tmp_path: Path) -> None:
    plain = KEY + 'key = "k"\nscopes = []'
    with pytest.raises(InvalidArgumentError, match="everybody can read it: run chmod o-r"):
        read(write(tmp_path, plain, 0o604))
    assert read(write(tmp_path, plain, 0o640)).find("k") is not None
    hashed = KEY + f'sha256 = "{DIGEST}"\nscopes = []'
    assert read(write(tmp_path, hashed, 0o644)).find("s3cret") is not None


def test_neither_keys_nor_digests_are_shown(tmp_path: Path) -> None:
    keys = read(write(tmp_path, KEY + 'key = "s3cret"\nscopes = ["health"]'))
    shown = f"{keys!r} {keys.find('s3cret')!r}"
    assert "s3cret" not in shown
    assert DIGEST not in shown

"""What lies in the repositories, and what the files say of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.fakes import repository

from tritonpy.ipc.errors import InvalidArgumentError, NotFoundError
from tritonpy.supervisor.config.schema import ModelConfig
from tritonpy.supervisor.models.catalogue import Catalogue
from tritonpy.supervisor.models.identifier import ModelIdentifier
from tritonpy.supervisor.models.load_request import LoadRequest
from tritonpy.supervisor.settings import ModelControlSettings, Settings

pytestmark = pytest.mark.anyio


def catalogue(*paths: Path, **control: object) -> Catalogue:
    return Catalogue(
        Settings(
            repositories=tuple(map(str, paths)),
            models=ModelControlSettings(**control),  # type: ignore[arg-type]
        )
    )


async def test_a_look_finds_all_models_and_forgets_those_that_are_gone(tmp_path: Path) -> None:
    repository(tmp_path, "a", "b")
    found = catalogue(tmp_path)
    await found.look()
    assert sorted(found.identifiers) == [("", "a"), ("", "b")]
    assert repr(found) == "<Catalogue of 2 models>"

    (tmp_path / "a").rename(tmp_path / "c")
    await found.look()

    assert sorted(found.identifiers) == [("", "b"), ("", "c")]


async def test_a_look_at_one_model_leaves_the_others_alone(tmp_path: Path) -> None:
    repository(tmp_path, "a", "b")
    found = catalogue(tmp_path)
    await found.look()
    repository(tmp_path, "c", "d")
    (tmp_path / "a").rename(tmp_path / ".gone")

    await found.look("c")
    await found.look("a")

    assert sorted(found.identifiers) == [("", "b"), ("", "c")]


async def test_what_looks_like_a_version_and_is_none_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    repository(tmp_path, "a")
    (tmp_path / "a" / "007").mkdir()
    await catalogue(tmp_path).look()
    assert "a version has no leading zero" in caplog.text


async def test_a_model_has_one_place(tmp_path: Path) -> None:
    first, second = repository(tmp_path / "1", "a", "b"), repository(tmp_path / "2", "b")
    found = catalogue(first, second)
    await found.look()

    assert found.place(ModelIdentifier("", "a")).directory == str(first / "a")
    with pytest.raises(InvalidArgumentError, match=r"'b': not unique.*1, .*2"):
        found.place(ModelIdentifier("", "b"))
    with pytest.raises(NotFoundError, match="'c'"):
        found.place(ModelIdentifier("", "c"))


async def test_a_fingerprint_changes_with_the_files_of_every_place(tmp_path: Path) -> None:
    first, second = repository(tmp_path / "1", "a"), repository(tmp_path / "2", "a")
    found = catalogue(first, second)
    await found.look()
    seen = [found.fingerprint(ModelIdentifier("", "a"))]
    for place in (first, second):
        (place / "a" / "1" / "weights").write_bytes(b"1234")
        seen.append(found.fingerprint(ModelIdentifier("", "a")))

    assert seen[0] != seen[1] != seen[2] != seen[0]
    assert found.fingerprint(ModelIdentifier("", "nobody")) == {}


async def test_a_configuration_comes_from_the_file_the_override_or_the_model_itself(
    tmp_path: Path,
) -> None:
    repository(tmp_path, "a", "bare")
    (tmp_path / "bare" / "config.pbtxt").unlink()
    (tmp_path / "bare" / "1" / "model.py").touch()
    found = catalogue(tmp_path)
    await found.look()

    assert found.config(found.place(ModelIdentifier("", "a")))[0].backend == "identity"
    override = ModelConfig(backend="repeat")
    assert (
        found.config(found.place(ModelIdentifier("", "a")), LoadRequest(override))[0].backend
        == "repeat"
    )
    config, source = found.config(found.place(ModelIdentifier("", "bare")))
    assert (config.name, config.backend) == ("bare", "python")
    assert "bare" in source.place(("name",))


async def test_without_auto_completion_a_model_needs_its_file(tmp_path: Path) -> None:
    repository(tmp_path, "bare")
    (tmp_path / "bare" / "config.pbtxt").unlink()
    found = catalogue(tmp_path, strict_config=True)
    await found.look()

    with pytest.raises(InvalidArgumentError, match=r"no config\.pbtxt in"):
        found.config(found.place(ModelIdentifier("", "bare")))


async def test_a_configuration_of_another_model_is_refused(tmp_path: Path) -> None:
    repository(tmp_path, "a")
    (tmp_path / "a" / "config.pbtxt").write_text('name: "b" backend: "identity"')
    found = catalogue(tmp_path)
    await found.look()

    with pytest.raises(InvalidArgumentError, match="directory name must equal model name"):
        found.config(found.place(ModelIdentifier("", "a")))


async def test_a_version_that_the_policy_names_and_that_is_not_there_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    repository(tmp_path, "a")
    policy = "version_policy { specific { versions: [1, 9] } }"
    (tmp_path / "a" / "config.pbtxt").write_text(f'backend: "identity" {policy}')
    found = catalogue(tmp_path)
    await found.look()

    found.config(found.place(ModelIdentifier("", "a")))

    assert "names version 9, which is not there" in caplog.text


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("max_batch_size: -1", "must be non-negative, and is -1"),
        ("max_batch_size: 4 dynamic_batching { preferred_batch_size: [ 8 ] }", "size 8 is not"),
        ("max_batch_size: 4 dynamic_batching { preferred_batch_size: [ 0 ] }", "size 0 is not"),
    ],
)
async def test_what_no_completion_can_mend_is_refused_at_once(
    tmp_path: Path, text: str, complaint: str
) -> None:
    repository(tmp_path, "a")
    (tmp_path / "a" / "config.pbtxt").write_text(f'backend: "identity" {text}')
    found = catalogue(tmp_path)
    await found.look()
    with pytest.raises(InvalidArgumentError, match=complaint):
        found.config(found.place(ModelIdentifier("", "a")))

"""What is wrong with models is told all at once, with its place and its remedy."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from support import models

from tritonpy.supervisor.check.examiner import examined
from tritonpy.supervisor.check.findings import Finding, ModelReport, Severity
from tritonpy.supervisor.models.catalogue import Catalogue
from tritonpy.supervisor.settings import ModelControlSettings, Settings, WorkerSettings

COMPLETING = (
    models.IDENTITY_PY
    + """
        @staticmethod
        def auto_complete_config(config):
            return config
"""
)


def reports(*repositories: Path, **control: object) -> dict[str, ModelReport]:
    settings = Settings(
        repositories=tuple(map(str, repositories)),
        models=ModelControlSettings(**control),  # type: ignore[arg-type]
        workers=WorkerSettings(backend_directory=str(repositories[0].parent / "backends")),
    )
    catalogue = Catalogue(settings)
    asyncio.run(catalogue.look())
    return {str(one.model): one for one in examined(settings, catalogue, catalogue.identifiers)}


def report(repository: Path, name: str = "m", **control: object) -> ModelReport:
    return reports(repository, **control)[name]


def only(found: ModelReport) -> Finding:
    (finding,) = found.findings
    return finding


def ensemble(repository: Path, name: str, *steps: str, config: str = "") -> None:
    models.write(
        repository / name / "config.pbtxt",
        f"""
        platform: "ensemble"
        input [ {{ name: "IN" data_type: TYPE_FP32 dims: [ -1 ] }} ]
        output [ {{ name: "OUT" data_type: TYPE_FP32 dims: [ -1 ] }} ]
        ensemble_scheduling {{ step [ {", ".join(steps)} ] }}
        {config}
        """,
    )
    (repository / name / "1").mkdir(parents=True)


def step(model: str, inputs: str = "IN", outputs: str = "OUT", version: int = -1) -> str:
    return (
        f'{{ model_name: "{model}" model_version: {version} '
        f'input_map {{ key: "{inputs}" value: "IN" }} '
        f'output_map {{ key: "{outputs}" value: "OUT" }} }}'
    )


def test_a_good_model_has_no_findings(tmp_path: Path) -> None:
    models.python_identity(tmp_path, "m")
    found = report(tmp_path)
    assert not found.failed
    assert not found.findings
    assert (found.backend, found.versions) == ("python", [1])


def test_every_rule_that_is_broken_is_told_with_line_field_and_remedy(tmp_path: Path) -> None:
    config = """
        backend: "python"
        max_batch_size: -1
        input [ { name: "IN" data_type: TYPE_FP32 dims: [ 0 ] } ]
        output [ { name: "" data_type: TYPE_FP32 dims: [ -1 ] } ]
        instance_group [ { kind: KIND_CPU gpus: [ 0 ] } ]
    """
    models.python_model(tmp_path, "m", models.IDENTITY_PY, config)

    found = report(tmp_path)

    errors = {finding.field: finding for finding in found.findings}
    assert {
        ("max_batch_size", 2),
        ("input[0].dims", 3),
        ("instance_group[0].gpus", 5),
    } <= {(field, finding.line) for field, finding in errors.items()}
    assert len(found.findings) >= 4
    assert all(finding.severity is Severity.ERROR for finding in found.findings)
    assert errors["max_batch_size"].file == str(tmp_path / "m" / "config.pbtxt")
    assert errors["max_batch_size"].remedy == "write 0 for a model that does not batch"


def test_more_problems_than_a_client_is_told_are_all_told(tmp_path: Path) -> None:
    inputs = "".join(
        f'input [ {{ name: "I{n}" data_type: TYPE_FP32 dims: [ 0 ] }} ]\n' for n in range(9)
    )
    models.python_model(tmp_path, "m", models.IDENTITY_PY, 'backend: "python"\n' + inputs)
    assert report(tmp_path).count(Severity.ERROR) >= 9


def test_a_configuration_that_is_no_text_of_protobuf_is_told_with_its_line(tmp_path: Path) -> None:
    models.python_model(tmp_path, "m", models.IDENTITY_PY, 'backend: "python"\nimput { }\n')
    finding = only(report(tmp_path))
    assert (finding.file, finding.line) == (str(tmp_path / "m" / "config.pbtxt"), 2)
    assert "did you mean 'input'?" in finding.message


def test_mistakes_of_the_configuration_and_the_code_and_the_files_come_together(
    tmp_path: Path,
) -> None:
    config = models.identity_config(
        more="""
        parameters { key: "version_labels" value { string_value: "1=one" } }
        parameters { key: "traffic" value { string_value: "{" } }
        parameters { key: "residency" value { string_value: "perhaps" } }
        parameters { key: "FORCE_CPU_ONLY_INPUT_TENSOR" value { string_value: "no" } }
        model_repository_agents { agents [ { name: "nobody" } ] }
        """
    ).replace('name: "OUT"', 'name: "OUT" label_filename: "labels.txt"')
    models.python_model(tmp_path, "m", "class TritonPythonModel:\n    x = 1\n", config)
    (tmp_path / "m" / "v2").mkdir()

    found = report(tmp_path)

    text = "\n".join(finding.message for finding in found.findings)
    for part in (
        "'version_labels'", "'traffic'", "'residency'", "agent", "labels.txt", "`execute`",
        "did you mean 'FORCE_CPU_ONLY_INPUT_TENSORS'?", "v2 is not a version",
    ):  # fmt: skip
        assert part in text, part
    assert found.count(Severity.WARNING) == 2


def test_an_unknown_backend_is_told_with_the_rest(tmp_path: Path) -> None:
    config = models.identity_config(backend="nonesuch").replace("dims: [-1]", "dims: [ 0 ]")
    models.write(tmp_path / "m" / "config.pbtxt", config)
    (tmp_path / "m" / "1").mkdir()
    messages = "\n".join(finding.message for finding in report(tmp_path).findings)
    assert "unable to find backend library for backend 'nonesuch'" in messages
    assert {"input[0].dims", "output[0].dims"} <= {one.field for one in report(tmp_path).findings}


@pytest.mark.parametrize(
    ("config", "missing"),
    [
        ('backend: "python"', "model.py"),
        ('backend: "python" default_model_filename: "mine.py"', "mine.py"),
        ('backend: "onnxruntime"', "model.onnx"),
        ('platform: "pytorch_libtorch"', "model.pt"),
        ('backend: "pytorch" runtime: "model.py"', "model.py or model.pt"),
    ],
)
def test_a_version_without_its_file_is_told(tmp_path: Path, config: str, missing: str) -> None:
    models.write(tmp_path / "m" / "config.pbtxt", config)
    (tmp_path / "m" / "1").mkdir()
    messages = [one.message for one in report(tmp_path).findings if one.version == 1]
    assert any(missing in message for message in messages), messages


def test_files_of_a_package_s_backend_are_its_own_affair(tmp_path: Path) -> None:
    models.identity(tmp_path, "m")
    assert not report(tmp_path).findings


def test_a_version_that_the_policy_names_and_that_is_missing_is_a_warning(tmp_path: Path) -> None:
    policy = "version_policy { specific { versions: [ 1, 7 ] } }"
    models.python_identity(tmp_path, "m", more=policy)
    finding = only(report(tmp_path))
    assert finding.severity is Severity.WARNING
    assert "names version 7, which is not there" in finding.message
    assert finding.line is not None


def test_a_model_without_versions_is_refused(tmp_path: Path) -> None:
    models.write(tmp_path / "m" / "config.pbtxt", models.identity_config())
    assert "at least one version must be available" in only(report(tmp_path)).message


def test_every_version_that_would_be_served_is_looked_at(tmp_path: Path) -> None:
    models.python_identity(tmp_path, "m", more="version_policy { all { } }")
    models.write(tmp_path / "m" / "3" / "model.py", "x = (\n")
    models.write(tmp_path / "m" / "4" / "model.py", models.IDENTITY_PY)
    found = report(tmp_path)
    assert found.versions == [1, 3, 4]
    assert (only(found).version, only(found).file) == (3, str(tmp_path / "m" / "3" / "model.py"))


def test_what_the_model_may_mend_is_a_warning(tmp_path: Path) -> None:
    config = models.identity_config().replace("dims: [-1]", "dims: [ 0 ]")
    models.python_model(tmp_path, "m", models.IDENTITY_PY, config)
    models.python_model(tmp_path, "completing", COMPLETING, config)
    found = reports(tmp_path)
    assert found["m"].failed
    assert not found["completing"].failed
    assert found["completing"].count(Severity.WARNING) == found["m"].count(Severity.ERROR)
    assert "unless the model mends that itself" in found["completing"].findings[0].remedy


def test_what_is_wrong_with_all_versions_is_told_once(tmp_path: Path) -> None:
    config = models.identity_config(more="version_policy { all { } }").replace(
        "dims: [-1]", "dims: [ 0 ]"
    )
    models.python_model(tmp_path, "m", models.IDENTITY_PY, config)
    models.python_model(tmp_path, "m", models.IDENTITY_PY, config, version=2)
    found = report(tmp_path)
    assert found.versions == [1, 2]
    assert len({finding.field for finding in found.findings}) == len(found.findings)


def test_without_completion_nothing_is_mended(tmp_path: Path) -> None:
    config = models.identity_config().replace("dims: [-1]", "dims: [ 0 ]")
    models.python_model(tmp_path, "m", COMPLETING, config)
    assert report(tmp_path, strict_config=True).failed


def test_another_python_than_ours_may_understand_the_file(tmp_path: Path) -> None:
    more = f'parameters {{ key: "EXECUTION_ENV_PATH" value {{ string_value: "{tmp_path}" }} }}'
    models.python_model(tmp_path, "m", "x = (\n", models.identity_config(more=more))
    assert only(report(tmp_path)).severity is Severity.WARNING


def test_an_environment_that_is_not_there_is_told(tmp_path: Path) -> None:
    more = 'parameters { key: "EXECUTION_ENV_PATH" value { string_value: "/no/such/env" } }'
    models.python_identity(tmp_path, "m", more=more)
    assert "canonical path for /no/such/env" in only(report(tmp_path)).message


def test_samples_that_the_model_cannot_take_are_told(tmp_path: Path) -> None:
    warmup = """model_warmup [ { name: "w" batch_size: 1 inputs { key: "NOPE" value {
        data_type: TYPE_FP32 dims: [ 4 ] zero_data: true } } } ]"""
    models.python_identity(tmp_path, "m", more=warmup)
    assert "NOPE" in only(report(tmp_path)).message
    config = models.identity_config(more=warmup)
    models.python_model(tmp_path, "completing", COMPLETING, config)
    assert not report(tmp_path, "completing").findings
    assert report(tmp_path, "completing", strict_config=True).failed


def test_a_python_based_backend_s_file_is_looked_at(tmp_path: Path) -> None:
    repository, backends = tmp_path / "repository", tmp_path / "backends"
    models.write(repository / "m" / "config.pbtxt", models.identity_config(backend="mine"))
    (repository / "m" / "1").mkdir()
    models.write(backends / "mine" / "model.py", "x = (\n")
    assert only(report(repository)).file == str(backends / "mine" / "model.py")


def test_a_name_in_two_repositories_is_refused_without_namespaces(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for repository in (one, other):
        models.python_identity(repository, "m")
    assert "not unique across all model repositories" in only(reports(one, other)["m"]).message
    found = reports(one, other, namespacing=True)
    assert found.keys() == {f"{one}::m", f"{other}::m"}
    assert not any(report.failed for report in found.values())


# --- ensembles ------------------------------------------------------------------------------------


def test_an_ensemble_of_good_models_is_good(tmp_path: Path) -> None:
    models.python_identity(tmp_path, "part")
    ensemble(tmp_path, "inner", step("part"))
    ensemble(tmp_path, "m", step("inner"))
    assert not any(report.findings for report in reports(tmp_path).values())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (step("nobody"), "ensemble m contains models that are not available or ambiguous: nobody"),
        (step("part", inputs="NOPE"), "mapping to non-existing input NOPE in model part"),
        (step("part", outputs="NOPE"), "NOPE"),
        (step("part", version=7), "whose required version 7 is not loaded"),
        (step("integers"), "integers"),
        (step("broken"), "depends on 'broken' which has no loaded version"),
        (step("m"), "circular dependency between ensembles"),
        (step("turn"), "circular dependency between ensembles"),
    ],
)
def test_steps_that_do_not_fit_are_told(tmp_path: Path, wrong: str, message: str) -> None:
    models.python_identity(tmp_path, "part")
    models.python_identity(tmp_path, "integers", "TYPE_INT32")
    models.python_model(tmp_path, "broken", "x = (\n", models.identity_config())
    ensemble(tmp_path, "turn", step("m"))
    ensemble(tmp_path, "m", wrong)
    found = report(tmp_path)
    assert found.failed
    assert message in "\n".join(finding.message for finding in found.findings)


def test_what_is_known_only_after_a_load_is_noted(tmp_path: Path) -> None:
    models.python_model(tmp_path, "part", COMPLETING, 'backend: "python"')
    ensemble(tmp_path, "m", step("part"))
    finding = only(report(tmp_path))
    assert finding.severity is Severity.NOTE
    assert "whether it fits 'part' is not known" in finding.message
    assert "--load" in finding.remedy


def test_what_parts_may_mend_is_a_warning(tmp_path: Path) -> None:
    models.python_model(tmp_path, "part", COMPLETING, models.identity_config())
    ensemble(tmp_path, "m", step("part", inputs="NOPE"))
    finding = only(report(tmp_path))
    assert finding.severity is Severity.WARNING
    assert "unless the models complete their configurations otherwise" in finding.message

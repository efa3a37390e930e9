"""Names that a configuration gives to versions."""

from __future__ import annotations

import pytest

from tritonpy.ipc.errors import InvalidArgumentError
from tritonpy.supervisor.config.labels import version_labels
from tritonpy.supervisor.config.schema import ModelConfig, ModelParameter


def labels(text: str) -> dict[str, int]:
    parameter = ModelParameter(string_value=text)
    return version_labels(ModelConfig(name="m", parameters={"version_labels": parameter}))


def test_labels_name_versions() -> None:
    assert version_labels(ModelConfig(name="m")) == {}
    assert labels("") == {}
    assert labels("stable=3, canary-2.x=4") == {"stable": 3, "canary-2.x": 4}


@pytest.mark.parametrize(
    "text", ["stable", "stable=", "=3", "3=3", "a=0", "a=x", "a=1,a=2", "a b=1"]
)
def test_what_is_no_list_of_labels_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match="parameter 'version_labels' of model 'm' must"):
        labels(text)

"""What this version cannot do is refused or told, depending on whether answers would be wrong."""

from __future__ import annotations

import pytest

from tritonpy.ipc.errors import UnsupportedError
from tritonpy.supervisor.config.parse import from_text
from tritonpy.supervisor.models.unsupported import missing_features, refuse_unsupported


@pytest.mark.parametrize(
    ("text", "feature"),
    [
        ("ensemble_scheduling {}", "ensemble_scheduling"),
        ('platform: "ensemble"', "ensemble_scheduling"),
    ],
)
def test_a_model_whose_answers_would_be_wrong_is_refused(text: str, feature: str) -> None:
    with pytest.raises(UnsupportedError, match=f"'m' cannot be served: .*{feature}"):
        refuse_unsupported(from_text(f'name: "m" {text}', "config.pbtxt"))


@pytest.mark.parametrize(
    ("text", "feature"),
    [
        ("instance_group [{ rate_limiter {} }]", "instance_group.rate_limiter"),
    ],
)
def test_a_model_that_still_answers_rightly_is_served_with_a_word_in_the_log(
    text: str, feature: str
) -> None:
    config = from_text(f'name: "m" {text}', "config.pbtxt")
    refuse_unsupported(config)
    assert missing_features(config) == [feature]


def test_a_plain_model_misses_nothing() -> None:
    config = from_text(
        'name: "m" dynamic_batching {} response_cache { enable: true }', "config.pbtxt"
    )
    refuse_unsupported(config)
    assert missing_features(config) == []

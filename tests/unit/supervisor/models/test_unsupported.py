"""What this version cannot do is told."""

from __future__ import annotations

import pytest

from tritonpy.supervisor.config.parse import from_text
from tritonpy.supervisor.models.unsupported import missing_features


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
    assert missing_features(config) == [feature]


def test_a_plain_model_misses_nothing() -> None:
    config = from_text(
        'name: "m" dynamic_batching {} response_cache { enable: true }', "config.pbtxt"
    )
    assert missing_features(config) == []

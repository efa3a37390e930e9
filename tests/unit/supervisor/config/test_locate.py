"""Finding lines again that the protobuf parser threw away."""

from __future__ import annotations

import pytest

from tritonpy.supervisor.config.locate import MapKey, Path, Source, field_before, spell

TEXT = """\
# input { name: "in a comment" }
name: "m { not a bracket"  # input {
input [
  {
    name: "a"
    dims: [ 1,
      2 ]
  },
  { name: "b" dims: -1 }
]
input <
  name: 'c:0' ; data_type: TYPE_FP32,
  reshape: { shape: [ ] }
>
dynamic_batching {
  priority_queue_policy { key: 1 value { max_queue_size: 4 } }
  priority_queue_policy {
    key: 2
    value {
      timeout_action: DELAY
    }
  }
}
output
{
  dims
  :
  4
}
"""


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("name",), 2),
        (("input",), 4),
        (("input", 0), 4),
        (("input", 0, "name"), 5),
        (("input", 0, "dims"), 6),
        (("input", 1, "dims"), 9),
        (("input", 2), 11),
        (("input", 2, "reshape", "shape"), 13),
        (("dynamic_batching",), 15),
        (("dynamic_batching", "priority_queue_policy", MapKey(1), "max_queue_size"), 16),
        (("dynamic_batching", "priority_queue_policy", MapKey(2)), 17),
        (("dynamic_batching", "priority_queue_policy", MapKey(2), "timeout_action"), 20),
        (("output", 0, "dims"), 26),
        # What is not in the text is placed where it would belong.
        (("input", 1, "data_type"), 9),
        (("dynamic_batching", "preserve_ordering"), 15),
        (("dynamic_batching", "priority_queue_policy", MapKey(7)), 15),
        (("input", 3), None),
        (("platform",), None),
        ((), None),
    ],
)
def test_a_field_is_found_at_its_line(path: Path, line: int | None) -> None:
    source = Source("config.pbtxt", TEXT)
    assert source.line(path) == line
    assert source.place(path) == (f"config.pbtxt:{line}" if line else "config.pbtxt")


def test_a_source_without_text_has_no_lines() -> None:
    assert Source("an override").place(("input", 0)) == "an override"


@pytest.mark.parametrize("text", ['name: "open', "}}}]]>", "input [[[{", ":::,,;;", "\x00'\\", "["])
def test_broken_text_is_read_without_complaint(text: str) -> None:
    assert Source("x", text).line(("nothing",)) is None


def test_paths_are_spelled_as_people_write_them() -> None:
    assert spell(("input", 0, "dims")) == "input[0].dims"
    assert spell(("parameters", MapKey("a.b"), "string_value")) == 'parameters["a.b"].string_value'
    assert spell(()) == ""


@pytest.mark.parametrize(
    ("line", "column", "field"),
    [
        (2, 7, "name"),
        (5, 11, "input[0].name"),
        (9, 21, "input[1].dims"),
        (13, 14, "input[2].reshape"),
    ],
)
def test_the_field_being_written_is_known_at_any_place(line: int, column: int, field: str) -> None:
    assert field_before(TEXT, line, column) == field


def test_beyond_the_text_no_field_is_being_written() -> None:
    assert field_before("", 1, 1) == ""
    assert field_before("a: 1", 9, 9) == ""
    assert field_before("input { name:", 9, 9) == "input[0].name"

"""What runs when in an ensemble, and what is answered: by hand, and against a slow reference."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tritonpy.supervisor.scheduling.ensemble_flow import Answer, Flow, Run
from tritonpy.supervisor.scheduling.ensemble_graph import (
    Graph,
    MixedOriginsError,
    Step,
    fitted,
)


def step(model: str, reads: str, writes: str, *, decoupled: bool = False) -> Step:
    """A step whose model's tensors are called as the ensemble's."""
    inputs = {name.upper(): name for name in reads.split()}
    outputs = {name.upper(): name for name in writes.split()}
    return Step(model, None, inputs, outputs, decoupled)


def flow(graph: Graph, *wanted: str, limit: int = 0) -> Flow[str]:
    """A flow of texts."""
    return Flow(graph, graph.plan(wanted), limit)


def runs(todo: list[Run[str] | Answer[str]]) -> list[Run[str]]:
    """The runs among the instructions."""
    return [each for each in todo if isinstance(each, Run)]


DIAMOND = Graph(
    [step("split", "in", "a b"), step("left", "a", "l"), step("right", "b", "r"),
     step("join", "l r", "out"), step("aside", "b", "unwanted")],
    ["in"], ["out", "unwanted"],
)  # fmt: skip


def test_steps_run_when_all_that_they_read_is_known() -> None:
    one = flow(DIAMOND, "out")
    (split,) = runs(one.begin({"in": "x"}))
    assert split.inputs == {"IN": "x"}
    left, right = runs(one.responded(split, {"A": "a", "B": "b"}, True))
    assert one.responded(right, {"R": "r"}, True) == []
    (join,) = runs(one.responded(left, {"L": "l"}, True))
    assert join.inputs == {"L": "l", "R": "r"}
    assert one.responded(join, {"OUT": "o"}, True) == [Answer({"out": "o"}, final=True)]


def test_steps_that_contribute_nothing_do_not_run() -> None:
    plan = DIAMOND.plan(["out"])
    assert set(plan.needs) == {0, 1, 2, 3}
    assert set(DIAMOND.plan(["unwanted"]).needs) == {0, 4}
    assert DIAMOND.plan(["unwanted"]).outputs(DIAMOND.steps[0]) == ["B"]


def test_readers_are_counted_with_the_answer() -> None:
    graph = Graph([step("a", "in", "m"), step("b", "m", "out")], ["in"], ["m", "out"])
    assert graph.plan(["out"]).uses == {"in": 1, "m": 1, "out": 1}
    assert graph.plan(["m", "out"]).uses["m"] == 2
    twice = Graph([Step("a", None, {"X": "in", "Y": "in"}, {"O": "out"})], ["in"], ["out"])
    assert twice.plan(["out"]).uses["in"] == 2


def test_what_is_not_given_is_left_out_of_a_run() -> None:
    one = flow(Graph([step("a", "in more", "out")], ["in", "more"], ["out"]), "out")
    (run,) = runs(one.begin({"in": "x"}))
    assert run.inputs == {"IN": "x"}
    assert one.responded(run, {}, True) == [Answer({}, final=True)]


def test_an_ordinary_step_may_end_after_its_answer() -> None:
    one = flow(Graph([step("a", "in", "out")], ["in"], ["out"]), "out")
    (run,) = runs(one.begin({"in": "x"}))
    assert one.responded(run, {}, False) == []
    assert one.responded(run, {"OUT": "o"}, False) == [Answer({"out": "o"})]
    assert one.responded(run, {}, True) == [Answer({}, final=True)]


DECOUPLED = Graph(
    [step("many", "in", "m", decoupled=True), step("each", "m", "out")], ["in"], ["m", "out"]
)


def test_each_response_of_a_decoupled_step_goes_on_by_itself() -> None:
    one = flow(DECOUPLED, "out")
    (many,) = runs(one.begin({"in": "x"}))
    (first,) = runs(one.responded(many, {"M": "1"}, False))
    (second,) = runs(one.responded(many, {"M": "2"}, False))
    assert one.responded(second, {"OUT": "two"}, True) == [Answer({"out": "two"})]
    assert one.responded(many, {}, True) == []
    assert one.responded(first, {"OUT": "one"}, True) == [Answer({"out": "one"}, final=True)]


def test_no_response_of_a_decoupled_step_is_an_empty_end() -> None:
    one = flow(DECOUPLED, "out")
    (many,) = runs(one.begin({"in": "x"}))
    assert one.responded(many, {}, True) == [Answer({}, final=True)]


def test_a_response_that_is_no_answer_yet_is_waited_for() -> None:
    one = flow(DECOUPLED, "m", "out")
    (many,) = runs(one.begin({"in": "x"}))
    (each,) = runs(one.responded(many, {"M": "1"}, True))
    assert one.responded(each, {"OUT": "o"}, True) == [Answer({"m": "1", "out": "o"}, final=True)]


def test_no_more_runs_than_the_limit_of_a_step_behind_a_decoupled_one() -> None:
    one = flow(DECOUPLED, "out", limit=2)
    (many,) = runs(one.begin({"in": "x"}))
    started = [run for n in "1234" for run in runs(one.responded(many, {"M": n}, False))]
    assert [run.inputs["M"] for run in started] == ["1", "2"]
    assert one.responded(many, {}, True) == []
    for ended, next_one in ((started[1], "3"), (started[0], "4")):
        answer, run = one.responded(ended, {"OUT": "o"}, True)
        assert answer == Answer({"out": "o"})
        assert isinstance(run, Run)
        assert run.inputs["M"] == next_one
        started.append(run)
    assert one.responded(started[2], {"OUT": "o"}, True) == [Answer({"out": "o"})]
    assert one.responded(started[3], {"OUT": "o"}, True) == [Answer({"out": "o"}, final=True)]


@pytest.mark.parametrize(
    ("steps", "outputs", "culprit"),
    [
        ([step("d", "in", "m", decoupled=True), step("s", "m in", "out")], ["out"], 1),
        (
            [step("d", "in", "m", decoupled=True), step("e", "in", "n", decoupled=True),
             step("s", "m n", "out")], ["out"], 2,
        ),
        ([step("d", "in", "m", decoupled=True), step("s", "in", "out")], ["m", "out"], None),
    ],
    ids=["request and decoupled", "two decoupled", "the answer"],
)  # fmt: skip
def test_tensors_of_different_origins_do_not_meet(
    steps: list[Step], outputs: list[str], culprit: int | None
) -> None:
    with pytest.raises(MixedOriginsError) as raised:
        Graph(steps, ["in"], outputs)
    assert raised.value.step == culprit


@pytest.mark.parametrize(
    ("shape", "rank", "batches", "expected"),
    [
        ((4,), 2, True, (1, 4)),
        ((1, 4), 1, False, (4,)),
        ((2, 4), 1, False, (2, 4)),
        ((2, 4), 2, True, (2, 4)),
        ((4,), 1, False, (4,)),
    ],
)
def test_a_batch_of_one_comes_and_goes(
    shape: tuple[int, ...], rank: int, batches: bool, expected: tuple[int, ...]
) -> None:
    assert fitted(shape, rank, batches) == expected


# --- any graph ------------------------------------------------------------------------------------


@st.composite
def graphs(draw: st.DrawFn) -> tuple[Graph, list[str]]:
    """A graph without circles, where every step reads of one origin, and some outputs of it."""
    tensors: dict[int, list[str]] = {-1: ["i0", "i1"]}
    steps: list[Step] = []
    for index in range(draw(st.integers(1, 7))):
        origin = draw(st.sampled_from(sorted(tensors)))
        reads = draw(st.lists(st.sampled_from(tensors[origin]), min_size=1, max_size=3))
        writes = [f"t{index}_{n}" for n in range(draw(st.integers(1, 2)))]
        decoupled = draw(st.booleans())
        inputs = {f"I{n}": tensor for n, tensor in enumerate(reads)}
        outputs = {f"O{n}": tensor for n, tensor in enumerate(writes)}
        steps.append(Step(f"m{index}", None, inputs, outputs, decoupled))
        tensors.setdefault(index if decoupled else origin, []).extend(writes)
    origin = draw(st.sampled_from(sorted(tensors)))
    wanted = draw(st.lists(st.sampled_from(tensors[origin]), min_size=1, max_size=3, unique=True))
    return Graph(steps, ["i0", "i1"], wanted), wanted


def responses_of(step_index: int, inputs: dict[str, str], steps: tuple[Step, ...]) -> list[str]:
    """What a step answers: text that tells all it was made from; decoupled ones so often."""
    made = f"m{step_index}({','.join(f'{k}={v}' for k, v in sorted(inputs.items()))})"
    if not steps[step_index].decoupled:
        return [made]
    return [f"{made}#{number}" for number in range(len(made) % 3)]


def expected_answers(graph: Graph, wanted: list[str]) -> Counter[tuple[tuple[str, str], ...]]:
    """By brute force: all ways through the graph, one tensor after the other."""
    writer = {t: i for i, s in enumerate(graph.steps) for t in s.outputs.values()}
    worlds: list[dict[str, str]] = [{"i0": "x", "i1": "y"}]

    def lineage(tensor: str) -> list[int]:
        index = writer.get(tensor)
        if index is None:
            return []
        return [n for t in graph.steps[index].inputs.values() for n in lineage(t)] + [index]

    needed = sorted({index for tensor in wanted for index in lineage(tensor)})
    for index in needed:
        one = graph.steps[index]
        grown: list[dict[str, str]] = []
        for world in worlds:
            inputs = {name: world[tensor] for name, tensor in one.inputs.items()}
            for text in responses_of(index, inputs, graph.steps):
                grown.append({**world, **{t: f"{text}.{n}" for n, t in one.outputs.items()}})
        worlds = grown
    return Counter(tuple((name, world[name]) for name in wanted) for world in worlds)


@given(graphs(), st.randoms(use_true_random=False), st.integers(0, 2))
def test_any_graph_answers_as_the_slow_reference(
    drawn: tuple[Graph, list[str]], chance: random.Random, limit: int
) -> None:
    graph, wanted = drawn
    one: Flow[str] = Flow(graph, graph.plan(wanted), limit)
    answers: list[Answer[str]] = []
    #: Runs with the responses that they have still to give.
    open_runs: list[tuple[Run[str], list[str]]] = []
    ran: Counter[int] = Counter()

    def do(todo: list[Run[str] | Answer[str]]) -> None:
        for each in todo:
            if isinstance(each, Answer):
                answers.append(each)
            else:
                ran[each.step] += 1
                open_runs.append((each, responses_of(each.step, each.inputs, graph.steps)))

    do(one.begin({"i0": "x", "i1": "y"}))
    while open_runs:
        at = chance.randrange(len(open_runs))
        run, left = open_runs[at]
        step_here = graph.steps[run.step]
        final = not left or (len(left) == 1 and (not step_here.decoupled or chance.random() < 0.5))
        outputs = {name: f"{left[0]}.{name}" for name in step_here.outputs} if left else {}
        del left[:1]
        if final:
            del open_runs[at]
        do(one.responded(run, outputs, final))
        if limit:
            busy = Counter(run.step for run, _ in open_runs if graph.origin(run.step) >= 0)
            assert all(count <= limit for count in busy.values())

    assert [answer.final for answer in answers] == [False] * (len(answers) - 1) + [True]
    given_answers = Counter(tuple(a.outputs.items()) for a in answers if a.outputs)
    assert given_answers == expected_answers(graph, wanted)
    assert set(ran) <= set(graph.plan(wanted).needs)

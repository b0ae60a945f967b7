"""Which rows a trial begins with, and what becomes of them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from llm_datagen import (
    ConfigError,
    FunctionOperator,
    StreamFactory,
    UnifiedNode,
    UnifiedNodePipeline,
    UnifiedPipeline,
)
from llm_datagen.cli.projection import project
from llm_datagen.pipeline.preview import (
    NodePreview,
    Sample,
    external_inputs,
    first_rows,
    random_rows,
    rows_at,
    run_preview,
)
from llm_datagen.streams.ids import RootNames

from ..kit.support import numbered, write_jsonl
from .test_stateless import Counting, Meant, Stateless


def _trial(folder: Path, operators: list[Any], rows: int, sample: Sample, **settings: Any) -> list[NodePreview]:
    pipeline = UnifiedPipeline(operators, "jsonl://in.jsonl", "jsonl://out.jsonl", log_file=None, **settings)
    run_state, given = pipeline.blueprint()
    ((stream, _),) = external_inputs(run_state)
    return list(run_preview(run_state, given, {stream.place: sample}, rows=rows, folder=folder))


def test_state_between_calls_is_told_and_what_setup_sets_is_none(tmp_path: Path) -> None:
    sample = Sample([(n, {"n": n}) for n in range(3)])
    stages = _trial(tmp_path, [Counting(), Stateless(), Meant()], 3, sample)
    assert [list(stage.state) for stage in stages] == [["attribute count"], [], []]


def test_random_rows_are_drawn_from_the_whole_input_each_with_the_same_chance(tmp_path: Path) -> None:
    stream = StreamFactory.create(f"jsonl://{write_jsonl(tmp_path / 'in.jsonl', numbered(40))}")
    drawn: Counter[Any] = Counter()
    for seed in range(300):
        sample = random_rows(stream, 10, seed=seed, root=RootNames())
        assert sample.count == 40
        assert [row_id for row_id, _ in sample.rows] == sorted({row_id for row_id, _ in sample.rows})
        drawn.update(row_id for row_id, _ in sample.rows)
    assert set(drawn) == set(range(40))
    assert all(40 < times < 115 for times in drawn.values())  # 75 are expected; five deviations are 38
    assert random_rows(stream, 10, seed=1, root=RootNames()) == random_rows(stream, 10, seed=1, root=RootNames())
    assert len(random_rows(stream, 99, seed=0, root=RootNames()).rows) == 40


def test_chosen_rows_keep_their_numbers_and_what_is_no_row_is_named(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "in.jsonl", [{"_i": "own"}, "bare", {"n": 2}])
    with path.open("a") as file:
        file.write("{torn\n")
    stream = StreamFactory.create(f"jsonl://{path}")
    sample = rows_at(stream, [3, 1], root=RootNames())
    assert sample == Sample([(1, "bare")], sample.unreadable)
    assert list(sample.unreadable) == [3]
    assert "line 1 column 2" in sample.unreadable[3]
    first = first_rows(stream, 9, root=RootNames())
    assert first.rows == [(0, {"_i": 0, "_i_in": "own"}), (1, "bare"), (2, {"n": 2, "_i": 2})]
    assert first_rows(stream, 1, root=None).rows == [("own", {"_i": "own"})]
    with pytest.raises(ConfigError, match="no row 4"):
        rows_at(stream, [4], root=RootNames())


@pytest.mark.parametrize("scheme", ["path", "numeric"])
def test_rows_go_through_all_nodes_with_the_ids_of_the_run(tmp_path: Path, scheme: Any) -> None:
    def three(item: Any) -> list[dict[str, Any]]:
        return [{"of": item, "k": k} for k in range(3)]

    sample = Sample([(17, "bare"), (40, {"n": 1, "_i": 40})])
    first, second = _trial(tmp_path, [three, lambda row: row if row["k"] != 1 else None], 4, sample, id_scheme=scheme)
    assert first.given == sample.rows
    assert [row["of"] for _, row in first.made] == ["bare"] * 3 + [{"n": 1, "_i": 40}] * 3
    assert {row_id: len(made) for row_id, made in (first.made_of() or {}).items()} == {17: 3, 40: 3}
    assert (len(second.given), second.waiting) == (4, 2)
    ids = [17 * 10_000, 17 * 10_000 + 1, 40 * 10_000, 40 * 10_000 + 1]
    assert [row_id for row_id, _ in second.given] == (ids if scheme == "numeric" else ["17_0", "17_1", "40_0", "40_1"])
    assert {row_id: len(made) for row_id, made in (second.made_of() or {}).items()} == dict(
        zip([row_id for row_id, _ in second.given], [1, 0, 1, 0], strict=True)
    )


def test_of_rows_made_of_a_whole_batch_nobody_says_which_row_gave_them(tmp_path: Path) -> None:
    fold = FunctionOperator(lambda items: [{"sum": len(items)}], batch=True)
    sample = Sample([(number, {"_i": number}) for number in range(4)])
    (stage,) = _trial(tmp_path, [fold], 4, sample, batch_size=2)
    assert [row["sum"] for _, row in stage.made] == [2, 2]
    assert stage.made_of() is None


def test_a_node_with_several_inputs_gets_rows_of_each_as_the_run_has_them(tmp_path: Path) -> None:
    """What lies behind a merge is tried, too, from what the trial made, not from what an earlier run has left."""
    write_jsonl(tmp_path / "in.jsonl", numbered(90))
    write_jsonl(tmp_path / "few.jsonl", numbered(10))
    write_jsonl(tmp_path / "twice.jsonl", numbered(1)).with_suffix(".jsonl.done").touch()  # of an earlier run
    twice = UnifiedNode("twice", follow_input=False).bind_io(f"{tmp_path}/in.jsonl", f"{tmp_path}/twice.jsonl")
    both = UnifiedNode("both", follow_input=False).bind_io(
        {"a": f"{tmp_path}/twice.jsonl", "b": f"{tmp_path}/few.jsonl"}, f"{tmp_path}/both.jsonl"
    )
    twice.set_operator(lambda row: [{"of": "in"}, {"of": "in"}])
    both.set_operator(lambda row: row)
    run_state, operators = UnifiedNodePipeline([twice, both], log_file=None).blueprint()
    inputs = external_inputs(run_state)
    assert [Path(stream.path).name for stream, _ in inputs] == ["in.jsonl", "few.jsonl"]
    samples = {stream.place: random_rows(stream, 10, seed=0, root=root) for stream, root in inputs}
    first, merge, last = run_preview(run_state, operators, samples, rows=10, folder=tmp_path)
    of = Counter("in" if item.get("of") else "few" for _, item in last.given)
    assert of == {"in": 9, "few": 1}  # as 180 rows to 10
    assert all(str(row_id).endswith("_a" if item.get("of") else "_b") for row_id, item in last.given)
    assert (len(merge.given), merge.waiting) == (10, 20)
    counts = {place: sample.count or 0 for place, sample in samples.items()}
    uses = project([(stage, []) for stage in (first, merge, last)], counts)
    assert [use.rows_in.value for use in uses] == [90, 190, 190]

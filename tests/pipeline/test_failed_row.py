"""A run that failed says which row it failed of, where that row stands, and its input in short; the log does not."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from llm_datagen import BaseOperator, FatalError, NodeFailedError, UnifiedPipeline
from llm_datagen.runs.status import Status

LONG = "x" * 300


class Picky(BaseOperator):
    """Fails of the row whose `n` is 2."""

    def process_item(self, item: Any, ctx: Any) -> Any:
        if int(item["n"]) == 2:
            item["n"] = "changed"  # the input that is shown is that of the file
            raise ValueError("two is not wanted")
        return item


class PickyOfBatches(BaseOperator):
    bisect = False

    def process_batch(self, items: Sequence[Any], ctx: Any) -> Sequence[Any]:
        if any(item["n"] == 2 for item in items):
            raise ValueError("two is not wanted")
        return items


class Fatal(BaseOperator):
    def process_item(self, item: Any, ctx: Any) -> Any:
        raise FatalError("no call can succeed")


def double(item: Any) -> list[Any]:
    return [item, item]


def fail(folder: Path, operators: list[Any], text: str, name: str = "in.jsonl", **settings: Any) -> NodeFailedError:
    """Run a pipeline that fails, and return its error."""
    (folder / name).write_text(text)
    pipeline = UnifiedPipeline(
        operators,
        f"{Path(name).suffix[1:]}://{folder / name}",
        f"jsonl://{folder / 'out.jsonl'}",
        results_dir=str(folder / "results"),
        log_file=str(folder / "run.log"),
        **settings,
    ).create("a")
    with pytest.raises(NodeFailedError) as caught:
        pipeline.run()
    run_state = json.loads((folder / "results" / "a" / "runtime.json").read_text())
    assert (run_state["status"], run_state["failed_row"]) == ("failed", caught.value.failed_row)
    if caught.value.failed_row:
        assert f"; at {caught.value.failed_row}; mend the cause" in str(caught.value)
    assert "SECRET" not in (folder / "run.log").read_text()
    return caught.value


ROWS = '{"n": 0}\n\n{"n": 1}\n{"n": 2, "text": "SECRET\\u001b[31m\N{RIGHT-TO-LEFT OVERRIDE}"}\n{"n": 3}\n'
SHOWN = '{"n": 2, "text": "SECRET\\u001b[31m\\u202e"}'


@pytest.mark.parametrize(
    ("make", "name", "text", "row"),
    [
        (lambda: [Picky()], "in.jsonl", ROWS, f"row 2 (FOLDER/in.jsonl, line 4): {SHOWN}"),
        (lambda: [Picky()], "in.csv", "n,text\n1,a\n2,SECRET\n", "row 1 (FOLDER/in.csv, line 3): 2,SECRET"),
        (
            lambda: [PickyOfBatches()],
            "in.jsonl",
            ROWS,
            'row 0 and 3 more with it (FOLDER/in.jsonl, line 1): {"n": 0}',
        ),
        (
            lambda: [Picky()],
            "in.jsonl",
            json.dumps({"n": 2, "text": LONG}),
            "row 0 (FOLDER/in.jsonl, line 1): " + f'{{"n": 2, "text": "{LONG}'[:199] + "…",
        ),
        (lambda: [Picky()], "in.jsonl", '{"n": 1}\n{"n": SECRET}\n', 'row 1 (FOLDER/in.jsonl, line 2): {"n": SECRET}'),
        (lambda: [Fatal()], "in.jsonl", ROWS, None),
    ],
    ids=["jsonl", "csv", "batch", "long", "no row", "fatal"],
)
def test_the_row_is_named(tmp_path: Path, make: Callable[[], list[Any]], name: str, text: str, row: str | None) -> None:
    error = fail(tmp_path, make(), text, name, batch_size=4)
    assert error.failed_row == (row and row.replace("FOLDER", str(tmp_path)))


def test_a_row_of_a_later_node_is_named_by_the_stream_that_the_node_reads(tmp_path: Path) -> None:
    error = fail(tmp_path, [double, Picky()], ROWS)
    assert error.node_id == "node_1"
    assert error.failed_row is not None
    assert error.failed_row.startswith("row 2_0 (tmp/a/node_0.jsonl, line 5): {")


@pytest.mark.process
def test_a_worker_process_names_the_row_as_well(tmp_path: Path) -> None:
    error = fail(tmp_path, [Picky()], ROWS, executor="process")
    assert error.failed_row == f"row 2 ({tmp_path}/in.jsonl, line 4): {SHOWN}"


def test_the_row_is_forgotten_when_the_run_goes_on(tmp_path: Path) -> None:
    fail(tmp_path, [Picky()], '{"n": 2}\n')
    pipeline = UnifiedPipeline(
        [Picky()], f"jsonl://{tmp_path / 'in.jsonl'}", f"jsonl://{tmp_path / 'out.jsonl'}",
        results_dir=str(tmp_path / "results"), log_file=None,
    )  # fmt: skip
    report = pipeline.resume("a", on_error="skip").run()
    assert (report.status, report.failed_row) == (Status.COMPLETED, None)

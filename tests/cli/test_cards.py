"""`--card`: what a README.md beside exported files says, when it is made anew, and when it is left alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import llm_datagen
from llm_datagen import StreamExistsError, UnifiedPipeline
from llm_datagen.cli.app import app
from llm_datagen.llm import LLMOperator
from llm_datagen.runs import card_parts, export_run
from llm_datagen.streams.outputs import columns as columns_module
from llm_datagen.streams.outputs import export_rows
from llm_datagen.streams.outputs.source_rows import SourceRows
from llm_datagen.testing import FakeLLMServer

from ..kit.support import write_jsonl

ROWS = [{"n": 1, "t": "x", "f": 1.5, "big": 1 << 70, "m": 1}, {"n": 2, "t": None, "f": 2.5, "big": 2, "m": "a"}]


def same(row: Any) -> Any:
    return row


def asked(row: Any) -> Any:
    return {**row, "asked": True}


def run(folder: Path, pipeline_id: str = "job", rows: Sequence[Any] = ROWS) -> None:
    """Run a pipeline of two nodes, afresh if there is one."""
    write_jsonl(folder / "in.jsonl", rows)
    pipeline = UnifiedPipeline(
        [same, asked],
        str(folder / "in.jsonl"),
        str(folder / f"{pipeline_id}.jsonl"),
        base_path=str(folder / "between"),
        results_dir=folder / "results",
        log_file=None,
    )
    pipeline.create(pipeline_id, if_exists="overwrite").run(progress=False)


def export(folder: Path, to: str, pipeline_id: str = "job", **options: Any) -> str:
    """Export into a folder, with a card, and return that."""
    kind, colon, name = to.rpartition(":")
    llm_datagen.export(
        pipeline_id, f"{kind}{colon}{folder / name}", results_dir=folder / "results", **{"card": True, **options}
    )
    return (folder / name).parent.joinpath("README.md").read_text()


def columns(card: str) -> dict[str, str]:
    """Return the columns of a card, with their types."""
    table = card.partition("## Columns\n\n")[2].partition("\n\n")[0]
    return dict(line.strip("| ").split(" | ") for line in table.splitlines()[2:])


@pytest.mark.parametrize("has_arrow", [True, False])
def test_the_types_of_csv_and_of_json_lines_are_those_of_the_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, has_arrow: bool
) -> None:
    if not has_arrow:
        monkeypatch.setattr(columns_module, "find_spec", lambda name: None)
    run(tmp_path)
    types = {"n": "int64", "t": "string", "f": "float64", "big": "decimal", "m": "json", "asked": "bool"}
    assert columns(export(tmp_path, "a/x.csv")) == {"_i": "string", **types}
    assert columns(export(tmp_path, "b/x.jsonl")) == {"_i": "int64", **types}
    assert columns(export(tmp_path, "c/x.jsonl.gz", keep_ids=False)) == types
    schema = {"n": "int8", **{name: types[name] for name in types if name != "n"}}
    assert columns(export(tmp_path, "d/x.csv", keep_ids=False, schema=schema)) == {**types, "n": "int8"}


def test_chat_messages_have_no_columns_of_the_rows(tmp_path: Path) -> None:
    run(tmp_path)
    assert "## Columns" not in export(tmp_path, "chatml:a/x.jsonl", prompt="t", answer="t")


def test_what_models_used_is_on_the_card(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "in.jsonl", [{"t": "x"}, {"t": "y"}])
    with FakeLLMServer(answer="yes") as server:
        pipeline = UnifiedPipeline(
            [LLMOperator("{{ t }}", model="fake", base_url=server.base_url, api_key="none")],
            str(tmp_path / "in.jsonl"),
            str(tmp_path / "out.jsonl"),
            results_dir=tmp_path / "results",
            log_file=None,
        )
        report = pipeline.create("job").run(progress=False)
    [usage] = report.usage
    assert usage["requests"] == 2
    line = f"| fake | 2 | {usage['prompt_tokens']} | {usage['completion_tokens']} |\n"
    for name in ("a/x.csv", "b/x.parquet", "c/x.jsonl"):
        assert line in export(tmp_path, name)


def test_a_card_is_made_anew_with_all_exports_of_the_run_in_its_folder(tmp_path: Path) -> None:
    run(tmp_path)
    run(tmp_path, "other")
    llm_datagen.export("other", tmp_path / "a" / "of_other.csv", results_dir=tmp_path / "results")
    first = export(tmp_path, "a/x.csv", license="mit", keep_ids=False)
    assert "# x\n" in first
    assert "- config_name: default\n  data_files:\n  - 'x.csv'\n---" in first
    assert export(tmp_path, "a/x.csv", license="mit", keep_ids=False) == first

    second = export(tmp_path, "a/y-{shard}.jsonl", rows_per_shard=1, keep_ids=False)
    assert "license: mit\n" in second
    assert "# a\n" in second
    assert "- config_name: 'x.csv'\n  data_files:\n  - 'x.csv'\n" in second
    assert "- config_name: 'y.jsonl'\n  data_files:\n  - 'y-0.jsonl'\n  - 'y-1.jsonl'\n" in second
    assert "- `x.csv`: 2 rows in 1 file, made by llm-datagen.\n- `y.jsonl`: 2 rows in 2 files," in second
    assert second.count("## Columns\n") == 1
    assert "of_other" not in second

    third = export(tmp_path, "a/z.parquet", node="node_0", keep_ids=False, mixed="json", license="cc0-1.0")
    assert "license: cc0-1.0\n" in third
    assert "## Columns of `z.parquet`\n" in third
    assert "## Columns of `x.csv`, `y.jsonl`\n" in third
    assert third.count("| same | 2 | 2 | 0 | 0 | 0 |") == 1

    run(tmp_path, rows=ROWS[:1])  # no other file there is made of these rows
    again = export(tmp_path, "a/x.csv", keep_ids=False, overwrite=True)
    assert "- config_name: default\n  data_files:\n  - 'x.csv'\n---" in again
    assert "\n1 row in 1 file, made by llm-datagen.\n" in again


def test_a_folder_for_datasets_has_a_card_with_what_lies_in_it(tmp_path: Path) -> None:
    run(tmp_path)
    options: dict[str, Any] = {"mixed": "json", "long_ints": "text"}
    llm_datagen.export("job", f"hf-folder:{tmp_path}/set", results_dir=tmp_path / "results", **options)
    card = export(tmp_path, "set/x.csv")
    assert "- `set`: 2 rows in 1 file" in card
    assert "- `x.csv`: 2 rows in 1 file" in card


@pytest.mark.parametrize("kind", ["theirs", "edited", "older", "of another run"])
def test_a_readme_that_is_not_ours_is_refused_before_anything_is_written(tmp_path: Path, kind: str) -> None:
    run(tmp_path)
    run(tmp_path, "other")
    readme = tmp_path / "a" / "README.md"
    if kind in {"edited", "older", "of another run"}:
        export(tmp_path, "a/x.csv", "other" if kind == "of another run" else "job")
        text = readme.read_text()
        readme.write_text(
            {"edited": text.replace("unknown", "mit"), "older": text.partition("\n<!--")[0]}.get(kind, text)
        )
    else:
        readme.parent.mkdir()
        readme.write_text("# Mine\n")
    before = {path.name: path.read_bytes() for path in readme.parent.iterdir()}
    says = "is the card of the run 'other'" if kind == "of another run" else "is left as it is; leave card=True out, or"
    with pytest.raises(StreamExistsError, match=f"README.md.*{says}"):
        export(tmp_path, "a/y.csv")
    assert {path.name: path.read_bytes() for path in readme.parent.iterdir()} == before
    if kind == "of another run":
        assert "'y.csv'" in export(tmp_path, "a/y.csv", overwrite=True)
    else:
        with pytest.raises(StreamExistsError):
            export(tmp_path, "a/y.csv", overwrite=True)
        llm_datagen.export("job", tmp_path / "a" / "y.csv", results_dir=tmp_path / "results")
        assert readme.read_bytes() == before["README.md"]


def test_the_licence_of_another_run_is_not_taken_over(tmp_path: Path) -> None:
    run(tmp_path)
    run(tmp_path, "other")
    assert "license: cc-by-4.0\n" in export(tmp_path, "a/x.csv", "other", license="cc-by-4.0")
    assert "license: unknown\n" in export(tmp_path, "a/y.csv", overwrite=True)


def test_a_licence_that_is_not_known_yet_is_said_by_exporting_again(tmp_path: Path) -> None:
    run(tmp_path)
    card = export(tmp_path, "a/x.csv")
    assert "The licence is not known yet: export again with `--license` (`license=` in Python).\n" in card
    card = export(tmp_path, "a/x.csv", license="mit")
    assert "license: mit\n" in card
    assert "not known" not in card


def test_rows_are_read_once_for_the_types_of_all_exports_on_a_card(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path)
    ids: dict[str, dict[str, Any]] = {"a": {}, "b": {"keep_ids": False}, "c": {"id_column": "row"}}
    for name, options in ids.items():
        llm_datagen.export("job", tmp_path / "a" / f"{name}.jsonl", results_dir=tmp_path / "results", **options)
    read = []

    def counted(source: SourceRows) -> Any:
        read.append(source)
        return columns_module.types_of_rows(source)

    monkeypatch.setattr(card_parts, "types_of_rows", counted)

    card = export(tmp_path, "a/d.csv", keep_ids=False)
    assert len(read) == 1
    assert "## Columns of `a.jsonl`\n\n| column | type |\n|---|---|\n| _i | int64 |\n| n | int64 |\n" in card
    assert "## Columns of `b.jsonl`, `d.csv`\n\n| column | type |\n|---|---|\n| n | int64 |\n" in card
    assert "## Columns of `c.jsonl`\n\n| column | type |\n|---|---|\n| row | int64 |\n| n | int64 |\n" in card

    export(tmp_path, "a/e.csv", node="node_0")
    assert len(read) == 3  # those of two nodes


def during_the_export(monkeypatch: pytest.MonkeyPatch, happens: Callable[[], object]) -> None:
    """Have something happen while the next export makes its files."""

    def slow(*args: Any, **options: Any) -> Any:
        monkeypatch.setattr(export_run, "export_rows", export_rows)
        happens()
        return export_rows(*args, **options)

    monkeypatch.setattr(export_run, "export_rows", slow)


@pytest.mark.parametrize("was_there", [True, False])
@pytest.mark.parametrize("kind", ["theirs", "of another run"])
def test_a_readme_that_comes_during_the_export_is_left_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, *, was_there: bool
) -> None:
    run(tmp_path)
    run(tmp_path, "other")
    readme = tmp_path / "a" / "README.md"
    readme.parent.mkdir()
    if was_there:
        export(tmp_path, "a/x.csv")
    export(tmp_path, "b/z.csv", "other")
    text = "# Mine\n" if kind == "theirs" else (tmp_path / "b" / "README.md").read_text()

    during_the_export(monkeypatch, lambda: readme.write_text(text))
    results = ["--results-dir", str(tmp_path / "results")]
    done = CliRunner().invoke(
        app, ["export", "job", "--to", str(tmp_path / "a" / "y.csv"), "--card", "--json", *results]
    )
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["warnings"] == [
        f"{readme} was written by somebody else during the export, so it is left as it is, and no card is made; move "
        "it away, and export again"
    ]
    assert (tmp_path / "a" / "y.csv").exists()
    assert readme.read_text() == text
    readme.unlink()
    assert "'y.csv'" in export(tmp_path, "a/y.csv")


def test_a_card_that_another_export_of_the_run_makes_meanwhile_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path)
    during_the_export(monkeypatch, lambda: export(tmp_path, "a/x.csv", license="mit"))
    card = export(tmp_path, "a/y.csv")
    assert "license: mit\n" in card
    assert "- config_name: 'x.csv'\n" in card
    assert "- config_name: 'y.csv'\n" in card

"""`--card`: what a README.md beside exported files says, when it is made anew, and when it is left alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import llm_datagen
from llm_datagen import StreamExistsError, UnifiedPipeline
from llm_datagen.llm import LLMOperator
from llm_datagen.streams.outputs import columns as columns_module
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

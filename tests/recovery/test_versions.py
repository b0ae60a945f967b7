"""Earlier versions of a run: what an edit has replaced stays readable, whatever becomes of the run."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from llm_datagen import (
    ConfigError,
    NodeFailedError,
    PipelineExistsError,
    PipelineNotFoundError,
    RunStateError,
    StreamError,
    UnifiedPipeline,
)
from llm_datagen.runs import RunFolder
from llm_datagen.runs.verify import verify
from llm_datagen.runs.versions import find_run
from llm_datagen.shards.export_run import export
from llm_datagen.streams.storage.local import LocalStorage

from ..kit import programs
from ..kit.s3 import S3Bucket, at_write
from ..kit.support import Bench, lines, numbered, stored
from .edited_steps import CALLS, Step, line, steps

pytestmark = pytest.mark.stores("s3", "gs")

ROWS = 12


def marks_of(bench: Bench, version: str) -> list[str]:
    """Return the marks of the rows of a version, in the order of the input."""
    rows = stored(bench.run_state(version)["nodes"][-1]["output_uri"])
    return ["".join(row["by"]) for row in sorted(rows, key=lambda row: row["n"])]


def findings(bench: Bench, *versions: str) -> list[str]:
    return [text for version in versions for each in verify(bench.run_state(version)) for text in each.findings]


def data_of(bench: Bench, version: str) -> list[Path]:
    """Return where the rows of each node of a version lie."""
    return [Path(entry["output_uri"].partition("://")[2]) for entry in bench.run_state(version)["nodes"]]


@pytest.fixture
def edited(bench: Bench) -> Bench:
    """A run "a" of the steps A, B and C that is completed, and was done again with another step B."""
    bench.give(numbered(ROWS))
    line(bench, steps("ABC")).create("a").run()
    CALLS.clear()
    line(bench, steps("AbC")).resume("a", on_change="rerun").run()
    assert dict(CALLS) == {"B": ROWS, "C": ROWS}
    return bench


def test_what_was_there_stays_under_its_number_and_the_paths_have_what_is_new(edited: Bench) -> None:
    assert ["".join(row["by"]) for row in lines(edited.output)] == ["AbC"] * ROWS
    assert marks_of(edited, "a") == ["AbC"] * ROWS
    assert marks_of(edited, "a@1") == ["ABC"] * ROWS
    assert findings(edited, "a", "a@1") == []
    assert edited.run_state("a")["version"] == 2
    assert [each["version"] for each in edited.run_state("a")["versions_ended"]] == [1]
    state = edited.run_state("a@1")
    assert [state[key] for key in ("pipeline_id", "version", "version_of", "status")] == ["a@1", 1, "a", "completed"]
    assert data_of(edited, "a@1") == [
        edited.folder / "between" / "a@1" / "node_0.jsonl",
        edited.folder / "between" / "a@1" / "node_1.jsonl",
        edited.folder / "a@1" / "out.jsonl",
    ]
    shared = [data_of(edited, version)[0].stat() for version in ("a", "a@1")]
    assert shared[0].st_ino == shared[1].st_ino, "rows of both lie on the disk once"


def test_each_rerun_makes_a_version_and_the_plain_id_is_the_latest(edited: Bench) -> None:
    line(edited, steps("Abc")).resume("a", on_change="rerun").run()
    assert [marks_of(edited, version)[0] for version in ("a@1", "a@2", "a")] == ["ABC", "AbC", "Abc"]
    assert findings(edited, "a", "a@1", "a@2") == []
    assert find_run(edited.results, "a@3").pipeline_id == "a"
    assert find_run(edited.results, "a@2").pipeline_id == "a@2"
    with pytest.raises(PipelineNotFoundError, match="a@4"):
        find_run(edited.results, "a@4").load()
    CALLS.clear()
    line(edited, steps("Abc")).resume("a@3", on_change="rerun").run()  # nothing is left to be done
    assert not CALLS
    assert not (edited.results / "a@3").exists()


def test_a_run_that_was_never_done_again_is_its_own_first_version(bench: Bench) -> None:
    bench.give(numbered(3))
    line(bench, steps("A")).create("a").run()
    assert find_run(bench.results, "a@1").pipeline_id == "a"
    assert line(bench, steps("A")).resume("a@1").pipeline_id == "a"
    line(bench, steps("A")).create("a@1", if_exists="resume")
    for if_exists in ("error", "overwrite"):
        with pytest.raises(ConfigError, match="name a version of a run"):
            line(bench, steps("A")).create("a@1", if_exists=if_exists)
    with pytest.raises(ConfigError, match="name a version of a run"):
        line(bench, steps("A")).create("b@1", if_exists="resume")


@pytest.mark.parametrize("verb", ["resume", "replay"])
def test_an_earlier_version_does_not_go_on(edited: Bench, verb: str) -> None:
    with pytest.raises(ConfigError, match="'a@1' is an earlier version of the run 'a'"):
        getattr(line(edited, steps("ABC")), verb)("a@1")


@pytest.mark.parametrize("deleted", ["a", "a@1"])
def test_each_version_stays_when_the_other_one_is_deleted(edited: Bench, deleted: str) -> None:
    kept = ({"a", "a@1"} - {deleted}).pop()
    for path in data_of(edited, deleted):
        for one in path.parent.glob(f"{path.name}*"):
            one.unlink()
    shutil.rmtree(edited.results / deleted)
    assert marks_of(edited, kept) == [{"a": "AbC", "a@1": "ABC"}[kept]] * ROWS
    assert findings(edited, kept) == []


def test_a_run_that_is_started_afresh_leaves_its_versions(edited: Bench) -> None:
    line(edited, steps("X")).create("a", if_exists="overwrite").run()
    assert marks_of(edited, "a@1") == ["ABC"] * ROWS
    assert edited.run_state("a")["version"] == 2
    line(edited, steps("x")).resume("a", on_change="rerun").run()
    assert [marks_of(edited, version)[0] for version in ("a@1", "a@2", "a")] == ["ABC", "X", "x"]
    assert findings(edited, "a", "a@1", "a@2") == []


def test_rows_that_are_added_to_the_input_come_to_the_latest_version_only(edited: Bench) -> None:
    with edited.input.open("a") as file:
        file.writelines(f'{{"n": {n}}}\n' for n in range(ROWS, ROWS + 5))
    CALLS.clear()
    line(edited, steps("AbC")).resume("a").run()
    assert dict(CALLS) == dict.fromkeys("ABC", 5)
    assert marks_of(edited, "a") == ["AbC"] * (ROWS + 5)
    assert marks_of(edited, "a@1") == ["ABC"] * ROWS
    assert findings(edited, "a", "a@1") == []
    assert [len(lines(path)) for path in data_of(edited, "a@1")] == [ROWS] * 3


def test_an_edit_rows_that_were_added_and_dead_letters_go_together(bench: Bench) -> None:
    """Each row is done by the operators of today, and only what has to be done is called: exact counts."""
    bench.give(numbered(ROWS))
    line(bench, [Step("A"), Step("B", fail_at=3), Step("C", fail_at=5)], on_error="dead_letter").create("a").run()
    with bench.input.open("a") as file:
        file.write('{"n": 12}\n{"n": 13}\n')
    CALLS.clear()
    line(bench, steps("ABc"), on_error="dead_letter").replay("a", on_change="rerun").run()
    # A: the two new rows. B: these, and the one that failed. C: all that B has made by now.
    assert dict(CALLS) == {"A": 2, "B": 3, "C": 14}
    assert marks_of(bench, "a") == ["ABc"] * 14
    old = [node["rows_in"] for node in bench.run_state("a@1")["nodes"]]
    dead = [node["dead_letters"] for node in bench.run_state("a@1")["nodes"]]
    assert (old, dead) == ([12, 12, 11], [0, 1, 1])
    assert marks_of(bench, "a@1") == ["ABC"] * 10
    assert findings(bench, "a", "a@1") == []


def test_a_run_that_had_not_ended_is_kept_as_it_was(bench: Bench) -> None:
    bench.give(numbered(ROWS))
    with pytest.raises(NodeFailedError):
        line(bench, [Step("A"), Step("B", fail_at=7), Step("C")], streaming=True).create("a").run()
    line(bench, steps("AbC")).resume("a", on_change="rerun").run()
    assert marks_of(bench, "a") == ["AbC"] * ROWS
    state = bench.run_state("a@1")
    assert state["status"] == "failed"
    assert state["nodes"][1]["rows_in"] == 7
    assert findings(bench, "a", "a@1") == []


def test_replace_keeps_nothing(bench: Bench) -> None:
    bench.give(numbered(ROWS))
    line(bench, steps("ABC")).create("a").run()
    line(bench, steps("AbC")).resume("a", on_change="replace").run()
    assert marks_of(bench, "a") == ["AbC"] * ROWS
    assert "version" not in bench.run_state("a")
    assert [path.name for path in bench.results.iterdir()] == ["a"]
    assert not list(bench.folder.rglob("*@1"))


def test_an_accepted_edit_makes_no_version_and_neither_does_a_run_without_rows(bench: Bench) -> None:
    bench.give(numbered(ROWS))
    line(bench, steps("ABC")).create("a")
    line(bench, steps("ABCD")).resume("a", on_change="rerun").run()
    line(bench, steps("ABCd")).resume("a", on_change="accept").run()
    assert [path.name for path in bench.results.iterdir()] == ["a"]


@pytest.mark.parametrize("names_are_shared", [True, False])
def test_a_file_system_without_links_has_copies(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, names_are_shared: bool
) -> None:
    def refuse(self: LocalStorage, path: str, target: str) -> None:
        raise PermissionError(1, "Operation not permitted")

    if not names_are_shared:
        monkeypatch.setattr(LocalStorage, "link", refuse)
    bench.give(numbered(ROWS))
    line(bench, steps("ABC")).create("a").run()
    line(bench, steps("AbC")).resume("a", on_change="rerun").run()
    assert marks_of(bench, "a@1") == ["ABC"] * ROWS
    assert data_of(bench, "a@1")[0].stat().st_nlink == (2 if names_are_shared else 1)
    assert findings(bench, "a", "a@1") == []


def test_an_input_that_was_copied_is_kept_with_the_version(bench: Bench) -> None:
    def pipeline(marks: str, rows: list[Any]) -> UnifiedPipeline:
        return line(bench, steps(marks), input_uri=None, input=rows)

    pipeline("A", numbered(4)).create("a").run()
    pipeline("a", numbered(4)).resume("a", on_change="rerun").run()
    pipeline("x", numbered(2)).create("a", if_exists="overwrite").run()
    assert marks_of(bench, "a@1") == ["A"] * 4
    assert findings(bench, "a", "a@1") == []


def test_what_lies_where_a_version_would_be_is_not_touched(bench: Bench) -> None:
    bench.give(numbered(3))
    line(bench, steps("AB")).create("a").run()
    other = bench.folder / "a@1" / "out.jsonl"
    other.parent.mkdir()
    other.write_text("mine")
    with pytest.raises(PipelineExistsError, match=r"a@1/out\.jsonl is there already"):
        line(bench, steps("Ab")).resume("a", on_change="rerun")
    assert other.read_text() == "mine"
    assert "reset" not in bench.run_state("a")
    line(bench, steps("Ab")).resume("a", on_change="replace").run()
    assert marks_of(bench, "a") == ["Ab"] * 3


def test_two_streams_that_would_be_kept_in_one_place_are_refused_and_stay(bench: Bench) -> None:
    """`between/node_0.jsonl` and `between/a/node_0.jsonl`: the rows of one took the place of the other's."""
    bench.give(numbered(ROWS))
    output = f"jsonl://{bench.folder / 'between' / 'node_0.jsonl'}"
    line(bench, steps("AB"), output_uri=output).create("a").run()
    for _ in range(2):
        edited = line(bench, steps("aB"), output_uri=output)
        with pytest.raises(StreamError, match=r"would both be kept as .*a@1/node_0.jsonl; say on_change='replace'"):
            edited.resume("a", on_change="rerun")
    assert marks_of(bench, "a") == ["AB"] * ROWS
    assert findings(bench, "a") == []
    assert not (bench.folder / "between" / "a@1").exists()
    line(bench, steps("aB"), output_uri=output).resume("a", on_change="replace").run()
    assert marks_of(bench, "a") == ["aB"] * ROWS


def test_a_program_that_knows_no_versions_does_not_finish_one(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """While streams are taken away, the run state has a format that an older version of the package refuses."""
    bench.give(numbered(3))
    line(bench, steps("AB")).create("a").run()

    def die(self: LocalStorage, path: str, target: str) -> None:
        raise OSError(28, os.strerror(28))

    with monkeypatch.context() as patch:
        patch.setattr(LocalStorage, "link", die)
        with pytest.raises(OSError, match="No space"):
            line(bench, steps("Ab")).resume("a", on_change="rerun")
    path = bench.results / "a" / "runtime.json"
    assert json.loads(path.read_bytes())["format"] == 3
    line(bench, steps("Ab")).resume("a").run()
    assert json.loads(path.read_bytes())["format"] == 2
    assert [marks_of(bench, version)[0] for version in ("a@1", "a")] == ["AB", "Ab"]
    path.write_bytes(path.read_bytes().replace(b'"format": 2', b'"format": 4'))
    with pytest.raises(RunStateError, match="has format 4"):
        RunFolder(bench.results, "a").load()


@pytest.mark.slow
def test_an_output_on_a_store_is_kept_as_a_copy(bench: Bench, s3: S3Bucket) -> None:
    """With the data between on the store as well; the copies go nowhere when the run grows, or is deleted."""
    bench.give(numbered(3))
    settings = {"output_uri": s3.uri("out.jsonl.zst"), "base_path": s3.uri("between"), "on_error": "dead_letter"}
    line(bench, [Step("A", fail_at=1), Step("B")], **settings).create("a").run()
    line(bench, steps("Ab"), **settings).resume("a", on_change="rerun").run()
    with bench.input.open("a") as file:
        file.write('{"n": 3}\n')
    line(bench, steps("Ab"), **settings).replay("a").run()
    assert marks_of(bench, "a") == ["Ab"] * 4
    assert marks_of(bench, "a@1") == ["AB"] * 2
    assert bench.run_state("a@1")["nodes"][0]["output_uri"] == s3.uri("between/a@1/node_0.jsonl")
    assert bench.run_state("a@1")["nodes"][1]["output_uri"] == s3.uri("a@1/out.jsonl.zst")
    assert findings(bench, "a", "a@1") == []
    line(bench, steps("X"), **settings).create("a", if_exists="overwrite").run()
    assert marks_of(bench, "a@1") == ["AB"] * 2


class Death(BaseException):
    """The process dies here."""


def die() -> None:
    raise Death


@pytest.mark.slow
@pytest.mark.parametrize("at", range(1, 7))
def test_a_version_on_a_store_is_whole_wherever_it_was_cut_short(bench: Bench, s3: S3Bucket, at: int) -> None:
    """At a write of the resume, before it or behind it; the next resume finishes it."""
    bench.give(numbered(2))
    output = s3.uri("out.jsonl")
    line(bench, steps("AB"), output_uri=output).create("a").run()
    with pytest.MonkeyPatch.context() as patch:
        at_write(patch.setattr, at, die, is_late=at % 2 == 0)
        with pytest.raises(Death):
            line(bench, steps("Ab"), output_uri=output).resume("a", on_change="rerun")
    line(bench, steps("Ab"), output_uri=output).resume("a", on_change="rerun").run()
    assert [marks_of(bench, version) for version in ("a", "a@1")] == [["Ab"] * 2, ["AB"] * 2]
    assert findings(bench, "a", "a@1") == []


@pytest.mark.slow
def test_an_output_on_a_store_that_has_not_ended_is_replaced_only_when_that_is_said(bench: Bench, s3: S3Bucket) -> None:
    bench.give(numbered(3))
    output = s3.uri("out.jsonl")
    with pytest.raises(NodeFailedError):
        line(bench, [Step("A"), Step("B", fail_at=2)], output_uri=output).create("a").run()
    before = s3.all_keys()
    with pytest.raises(
        StreamError, match=r"cannot be kept .*; resume the run as it was first, or say on_change='replace'"
    ):
        line(bench, steps("Ab"), output_uri=output).resume("a", on_change="rerun")
    (note,) = line(bench, steps("Ab"), output_uri=output).diff("a").notes
    assert note.startswith("a rerun is refused: ")
    assert s3.all_keys() == before
    line(bench, steps("Ab"), output_uri=output).resume("a", on_change="replace").run()
    assert ["".join(row["by"]) for row in stored(output)] == ["Ab"] * 3


def test_an_output_behind_a_link_stays_behind_it(bench: Bench) -> None:
    """The file moves, and the link stays: new rows go where it leads."""
    bench.give(numbered(3))
    (bench.folder / "disk").mkdir()
    bench.output.symlink_to("disk/real.jsonl")
    bench.between("a", 0).parent.mkdir(parents=True)
    bench.between("a", 0).symlink_to(bench.folder / "disk" / "first.jsonl")
    line(bench, steps("AB")).create("a").run()
    line(bench, steps("Ab")).resume("a", on_change="rerun").run()
    with bench.input.open("a") as file:
        file.write('{"n": 3}\n')
    line(bench, steps("Ab")).resume("a").run()
    assert bench.output.is_symlink()
    assert [row["by"] for row in lines(bench.folder / "disk" / "real.jsonl")] == [["A", "b"]] * 4
    assert not any(path.is_symlink() for path in data_of(bench, "a@1"))
    assert marks_of(bench, "a@1") == ["AB"] * 3
    assert findings(bench, "a", "a@1") == []


@pytest.mark.slow
def test_a_run_on_a_store_keeps_versions_of_streams_on_this_machine(
    bench: Bench, s3: S3Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(bench.folder / "state"))
    results = s3.uri("runs")
    bench.give(numbered(3))
    line(bench, steps("AB"), results_dir=results).create("a").run()
    line(bench, steps("Ab"), results_dir=results).resume("a", on_change="rerun").run()
    assert find_run(results, "a@2").pipeline_id == "a"
    version = find_run(results, "a@1").load()
    assert (version["version_of"], version["status"]) == ("a", "completed")
    with RunFolder(results, "a@1").files_to_look_at() as files:
        assert files == RunFolder(results, "a@1").files_path, "calls are looked for on this machine"
    rows = stored(version["nodes"][-1]["output_uri"])
    assert [row["by"] for row in rows] == [["A", "B"]] * 3
    assert not [text for each in verify(version) for text in each.findings]
    with pytest.raises(ConfigError, match="earlier version"):
        line(bench, steps("AB"), results_dir=results).resume("a@1")


@pytest.mark.slow
@pytest.mark.process
def test_an_edit_new_rows_and_replayed_rows_survive_kills_together(bench: Bench) -> None:
    """SIGKILL before every 37th of the disk's steps, from the first to the last; each time another process finishes."""
    killed = 0
    for at in itertools.count(0, 37):
        folder = Bench(bench.folder / str(at))
        folder.folder.mkdir()
        folder.give(numbered(6))
        failing = [Step("A"), Step("B", fail_at=3), Step("C", fail_at=5)]
        line(folder, failing, on_error="dead_letter").create("a").run()
        line(folder, steps("ABc"), on_error="dead_letter").resume("a", on_change="rerun").run()
        with folder.input.open("a") as file:
            file.write('{"n": 6}\n{"n": 7}\n')
        command = ["-m", f"{__package__}.rerun_job", folder.folder, "ABC", at, "replay"]
        status = programs.run(command, cwd=Path(__file__).parents[2]).returncode
        assert status in (0, -signal.SIGKILL)
        line(folder, steps("ABC"), on_error="dead_letter").replay("a", on_change="rerun").run()
        assert marks_of(folder, "a") == ["ABC"] * 8, at
        assert marks_of(folder, "a@1") == ["ABC"] * 4, at
        assert marks_of(folder, "a@2") == ["ABc"] * 5, at
        assert sorted(path.name for path in folder.results.iterdir()) == ["a", "a@1", "a@2"], at
        assert findings(folder, "a", "a@1", "a@2") == [], at
        if status == 0:
            break
        killed += 1
    assert killed > 5


def test_exports_are_made_anew_and_those_of_before_can_be_made_again(bench: Bench) -> None:
    bench.give(numbered(2))
    made = bench.folder / "out.csv"
    settings = {"also": [str(made)], "keep_ids": False}
    line(bench, steps("AB"), **settings).create("a").run()
    before = made.read_text()
    line(bench, steps("Ab"), **settings).resume("a", on_change="rerun").run()
    assert made.read_text() == before.replace("B", "b") != before
    export("a@1", bench.folder / "old.csv", results_dir=bench.results, keep_ids=False)
    assert (bench.folder / "old.csv").read_text() == before
    assert "_i" not in bench.output.read_text() + (bench.folder / "a@1" / "out.jsonl").read_text()
    assert findings(bench, "a", "a@1") == []

"""No two paths of a run are one file, and none is another run's: refused by name, before anything is touched."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llm_datagen import (
    BaseOperator,
    ConfigError,
    DatagenError,
    JsonlStream,
    LogFile,
    NodeFailedError,
    PipelineExistsError,
    StreamExistsError,
    UnifiedNode,
    UnifiedNodePipeline,
    UnifiedPipeline,
)
from llm_datagen.llm import LLMOperator
from llm_datagen.pipeline import path_checks

from ..kit.support import Bench, numbered


class Keeps(BaseOperator):
    """Keeps files."""

    name = "keeps"

    def __init__(self, path: Path | None = None, what: str = "cache") -> None:
        self.files = {what: str(path)} if path else {}

    def kept_files(self) -> dict[str, str]:
        return self.files

    def process_item(self, item: Any, ctx: object) -> Any:
        return item


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def linked(folder: Path, make: Callable[[Path, Path], object]) -> Path:
    """Return a path that a link makes the input's."""
    link = folder / "link.jsonl"
    make(folder / "in.jsonl", link)
    return link


SETTINGS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "log is input": lambda here: {"log_file": here / "in.jsonl"},
    "log is input, spelled otherwise": lambda here: {"log_file": here / "x" / ".." / "in.jsonl"},
    "log is a symbolic link to input": lambda here: {"log_file": linked(here, os.symlink)},
    "log is a hard link of input": lambda here: {"log_file": linked(here, os.link)},
    "log is the seal of input": lambda here: {"log_file": here / "in.jsonl.done"},
    "log is output": lambda here: {"log_file": here / "out.jsonl"},
    "log is the seal": lambda here: {"log_file": here / "out.jsonl.done"},
    "log is the commit log": lambda here: {"log_file": here / "out.jsonl.commits"},
    "log is the seal, half written": lambda here: {"log_file": here / "out.jsonl.done.tmp"},
    "log is dead letters": lambda here: {"log_file": here / "out.jsonl.errors.jsonl"},
    "log is dispatch log": lambda here: {"log_file": here / "out.jsonl.dispatched"},
    "log is between": lambda here: {"log_file": here / "between" / "a" / "node_0.jsonl"},
    "log is run state": lambda here: {"log_file": here / "results" / "a" / "runtime.json"},
    "log is checkpoint": lambda here: {"log_file": here / "results" / "a" / "checkpoint.json"},
    "log is timeline": lambda here: {"log_file": here / "results" / "a" / "timeline.jsonl"},
    "output is another run's timeline": lambda here: {"output_uri": f"jsonl://{here}/results/other/timeline.jsonl"},
    "log is run lock": lambda here: {"log_file": here / "results" / "a" / "lock"},
    "log is owner": lambda here: {"log_file": here / "results" / "a" / "owner.json.tmp"},
    "log is origin": lambda here: {"log_file": here / "results" / "a" / "origin.json"},
    "output is origin": lambda here: {"output_uri": f"jsonl://{here}/results/a/origin.json"},
    "output is origin, half written": lambda here: {"output_uri": f"jsonl://{here}/results/a/origin.json.tmp"},
    "output is another run's origin": lambda here: {"output_uri": f"jsonl://{here}/results/other/origin.json"},
    "log is in the operators' folder": lambda here: {"log_file": here / "results" / "a" / "files" / "x.log"},
    "log in output": lambda here: {"log_file": here / "out.jsonl" / "platform.log"},
    "older log is output": lambda here: {
        "log_file": LogFile(here / "log", max_bytes=100),
        "output_uri": f"jsonl://{here}/log.3",
    },
    "lock of log is output": lambda here: {
        "log_file": LogFile(here / "log", max_bytes=100),
        "output_uri": f"jsonl://{here}/log.lock",
    },
    "cache is input": lambda here: {"operators": [Keeps(here / "in.jsonl"), Keeps()]},
    "cache is output": lambda here: {"operators": [Keeps(), Keeps(here / "out.jsonl")]},
    "a file of the cache is output": lambda here: {
        "operators": [Keeps(), Keeps(here / "c")],
        "output_uri": f"jsonl://{here}/c-wal",
    },
    "cache is log": lambda here: {"operators": [Keeps(here / "log"), Keeps()], "log_file": here / "log"},
    "cache is cassette": lambda here: {"operators": [Keeps(here / "c"), Keeps(here / "c", "cassette")]},
    "cache of a model is input": lambda here: {
        "operators": [Keeps(), LLMOperator("{{ n }}", model="m", cache=str(here / "in.jsonl"))],
    },
    "output is a hard link of input": lambda here: {"output_uri": f"jsonl://{linked(here, os.link)}"},
    "output is run state": lambda here: {"output_uri": f"jsonl://{here}/results/a/runtime.json"},
    "output is another run's run state": lambda here: {"output_uri": f"jsonl://{here}/results/other/runtime.json"},
    "log is another run's lock": lambda here: {"log_file": here / "results" / "other" / "lock"},
    "results in output": lambda here: {"results_dir": here / "out.jsonl"},
    "results in input": lambda here: {"results_dir": here / "in.jsonl"},
}


@pytest.mark.sampled(12)
@pytest.mark.parametrize("case", SETTINGS)
def test_two_paths_of_a_run_that_are_one_file_are_refused_and_nothing_is_touched(bench: Bench, case: str) -> None:
    bench.give(numbered(3))
    settings = SETTINGS[case](bench.folder)
    pipeline = bench.pipeline(settings.pop("operators", [Keeps(), Keeps()]), **settings)
    before = contents(bench.folder)
    for if_exists in ("error", "overwrite"):
        with pytest.raises(ConfigError, match="give one of them another path"):
            pipeline.create("a", if_exists=if_exists)
    assert contents(bench.folder) == before


def test_the_error_names_both_and_says_how_they_are_one(bench: Bench) -> None:
    bench.give(numbered(3))
    with pytest.raises(ConfigError) as refused:
        bench.pipeline([Keeps()], log_file=bench.input).create("a")
    assert str(refused.value) == (
        f"{bench.input} would be the input, and the platform log as well; give one of them another path"
    )
    link = linked(bench.folder, os.link)
    with pytest.raises(ConfigError, match=rf"{link} \(the platform log\) are one file: by a link, or by a spelling"):
        bench.pipeline([Keeps()], log_file=link).create("a")


def test_a_resume_and_a_run_look_again(bench: Bench) -> None:
    """The log is not part of the run state, and links are made at any time."""
    bench.give(numbered(3))
    created = bench.pipeline([Keeps()]).create("a")
    before = contents(bench.folder)
    with pytest.raises(ConfigError, match="the input, and the platform log as well"):
        bench.pipeline([Keeps()], log_file=bench.input).resume("a")
    bench.log.symlink_to(bench.input)
    with pytest.raises(ConfigError, match="are one file"):
        created.run()
    bench.log.unlink()
    assert contents(bench.folder) == before
    assert created.run().rows_out == 3


def test_a_node_that_runs_by_itself_looks_too(bench: Bench) -> None:
    bench.give(numbered(3))
    before = contents(bench.folder)
    node = UnifiedNode("n", follow_input=False, log_file=bench.input)
    node.bind_io(f"jsonl://{bench.input}", f"jsonl://{bench.output}").set_operator(Keeps())
    for begin in (node.run, node.open):
        with pytest.raises(ConfigError, match="the platform log as well"):
            begin()
    assert contents(bench.folder) == before


def test_of_several_inputs_and_outputs_each_is_looked_at(bench: Bench) -> None:
    bench.give(numbered(3))
    other = bench.folder / "other.jsonl"
    other.write_bytes(b'{"n": 9}\n')

    def pipeline(log: Path) -> UnifiedNodePipeline:
        node = UnifiedNode("n", follow_input=False)
        node.bind_io(
            {"left": f"jsonl://{bench.input}", "right": f"jsonl://{other}"},
            {"a": f"jsonl://{bench.folder}/a.jsonl", "b": f"jsonl://{bench.folder}/b.jsonl"},
            route=lambda row: "a",
        ).set_operator(Keeps(bench.folder / "kept"))
        return UnifiedNodePipeline([node], results_dir=bench.results, log_file=log)

    for name in ("other.jsonl", "b.jsonl.done", "a.jsonl.routed", "a.jsonl.merged", "kept"):
        with pytest.raises(ConfigError, match=r"as well|are one file"):
            pipeline(bench.folder / name).create("a")
    assert pipeline(bench.log).create("a").run().status == "completed"


def test_what_operators_share_is_theirs(bench: Bench) -> None:
    """The journal of two nodes may be one file; so may the log and the input of several runs."""
    bench.give(numbered(3))
    shared = [Keeps(bench.folder / "cache"), Keeps(bench.folder / "cache")]
    assert bench.pipeline(shared).create("a").run().rows_out == 3
    again = bench.pipeline(shared, output_uri=f"jsonl://{bench.folder}/second.jsonl").create("b").run()
    assert again.rows_out == 3


def test_where_case_does_not_count_two_spellings_are_one_file(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.give(numbered(3))
    pipeline = bench.pipeline([Keeps()], output_uri=f"jsonl://{bench.folder}/IN.jsonl")
    monkeypatch.setattr(path_checks, "_ignores_case", lambda path: True)
    with pytest.raises(ConfigError, match="a spelling that this file system takes for the same"):
        pipeline.create("a")
    monkeypatch.undo()
    assert pipeline.create("a").run().rows_out == 3


# Across runs, processes and results folders.


class Fails(Keeps):
    """Fails for some rows."""

    def process_item(self, item: Any, ctx: object) -> Any:
        if item["n"] % 2:
            raise ValueError("no")
        return item


def beside(bench: Bench, ending: str, **settings: Any) -> UnifiedPipeline:
    """Return a pipeline that writes where the output of `bench` has a file; its runs are kept elsewhere."""
    return bench.pipeline(
        [Keeps()], output_uri=f"jsonl://{bench.output}{ending}", results_dir=bench.folder / "elsewhere", **settings
    )


@pytest.mark.parametrize("ending", [".errors.jsonl", ".done", ".commits", ".dispatched"])
def test_an_output_where_another_run_keeps_its_files_is_refused(bench: Bench, ending: str) -> None:
    bench.give(numbered(4))
    bench.pipeline([Fails()], on_error="dead_letter").create("a").run()
    before = contents(bench.folder)
    for if_exists in ("error", "overwrite"):
        with pytest.raises(StreamExistsError, match=rf"out.jsonl{ending} is where the .* of .*out.jsonl lie"):
            beside(bench, ending).create("b", if_exists=if_exists)
    with pytest.raises(StreamExistsError, match="is where the"):
        JsonlStream(f"jsonl://{bench.output}{ending}").get_writer()
    assert contents(bench.folder) == before


def test_dead_letters_where_another_run_has_written_its_output_are_refused(bench: Bench) -> None:
    bench.give(numbered(4))
    beside(bench, ".errors.jsonl").create("b").run()
    before = contents(bench.folder)
    with pytest.raises(StreamExistsError, match=r"where the dead letters of .*out.jsonl would lie, is a stream of ano"):
        bench.pipeline([Fails()], on_error="dead_letter").create("a")
    assert contents(bench.folder) == before


@pytest.mark.parametrize("kind", ["log", "cache"])
@pytest.mark.parametrize("ending", ["", ".done", ".errors.jsonl"])
def test_a_log_or_a_cache_where_another_run_has_a_stream_is_refused(bench: Bench, kind: str, ending: str) -> None:
    """Line 12: of the same folder, by the run's name; it was appended to the other run's rows."""
    bench.give(numbered(4))
    bench.pipeline([Fails()], on_error="dead_letter").create("a").run()
    place, before = f"{bench.output}{ending}", contents(bench.folder)
    settings: dict[str, Any] = {"log_file": place} if kind == "log" else {}
    other = bench.pipeline(
        [Keeps(Path(place) if kind == "cache" else None)], output_uri=f"jsonl://{bench.folder}/other.jsonl", **settings
    )
    for if_exists in ("error", "overwrite"):
        with pytest.raises(ConfigError, match=rf"{place} would be the .* of run 'a'"):
            other.create("b", if_exists=if_exists)
    assert contents(bench.folder) == before


CLAIMS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "output": lambda here: {},
    "dead letters": lambda here: {"output_uri": f"jsonl://{here}/out.jsonl.errors.jsonl"},
    "log": lambda here: {"output_uri": f"jsonl://{here}/other.jsonl", "log_file": here / "out.jsonl"},
}


@pytest.mark.parametrize("case", CLAIMS)
def test_what_a_run_is_to_write_that_was_only_created_is_refused(bench: Bench, case: str) -> None:
    """Lines 12 and 13.12: by `create()`, which names the other run and the path; it was told when the run began."""
    bench.give(numbered(4))
    first = bench.pipeline([Fails()], on_error="dead_letter").create("a")
    before = contents(bench.folder)
    second = bench.pipeline([Keeps()], **CLAIMS[case](bench.folder))
    for if_exists in ("error", "resume"):
        with pytest.raises(
            PipelineExistsError, match=r"out\.jsonl\S* would be .* the run 'a', which was created and has no"
        ):
            second.create("b", if_exists=if_exists)
    assert contents(bench.folder) == before
    assert second.create("b", if_exists="overwrite").status == "pending", "who asks for it takes the place"
    assert first.run().failed == 2


def test_a_run_that_could_not_begin_claims_nothing(bench: Bench) -> None:
    """`run()` alone makes an id up: what is left of it is nothing."""
    bench.give(numbered(4))
    pipeline = bench.pipeline([Keeps()], follow_input=False)
    held = JsonlStream(f"jsonl://{bench.folder}/held.jsonl").get_writer()
    blocked = bench.pipeline([Keeps()], input_uri=f"jsonl://{bench.folder}/held.jsonl")
    with pytest.raises(DatagenError, match="held"):
        blocked.run()
    held.close()
    assert list(bench.results.iterdir()) == []
    assert pipeline.run().rows_out == 4


def test_a_stream_that_comes_to_lie_there_while_a_run_goes_on_is_not_written_into(bench: Bench) -> None:
    """Two runs that start at the same moment see nothing of each other yet: who comes second is refused."""
    bench.give(numbered(4))
    second = beside(bench, ".errors.jsonl").create("b")
    dead_letters = Path(f"{bench.output}.errors.jsonl")

    class Slow(Keeps):
        def process_item(self, item: Any, ctx: object) -> Any:
            if item["n"] == 1:
                with pytest.raises(StreamExistsError, match="is where the dead letters"):
                    second.run()
                dead_letters.write_text("data of somebody else\n")
                Path(f"{dead_letters}.done").touch()
                raise ValueError("a dead letter")
            return item

    with pytest.raises(NodeFailedError, match="where the dead letters of"):
        bench.pipeline([Slow()], on_error="dead_letter").create("a").run()
    assert dead_letters.read_text() == "data of somebody else\n"


@pytest.mark.parametrize("make", [Path.symlink_to, Path.hardlink_to])
def test_a_log_that_is_a_link_to_data_is_refused_and_nothing_is_written(bench: Bench, make: Any) -> None:
    """12.2.9, 13.12: an output of another run, whatever the name under which it is found."""
    bench.give(numbered(3))
    bench.pipeline([lambda row: row]).create("a").run()
    before = bench.output.read_bytes()
    log = bench.folder / "a.log"
    make(log, bench.output)
    with pytest.raises(ConfigError, match=r"a\.log would be the platform log, and is"):
        bench.pipeline([lambda row: row], output_uri=f"jsonl://{bench.folder}/b.jsonl", log_file=log).create("b")
    assert bench.output.read_bytes() == before


@pytest.mark.parametrize("head", [b'{"n": 1}\n', b"n,text\n1,a\n", b'{"n": 1}', b"some words\n"])
def test_a_log_is_not_appended_to_what_is_none(bench: Bench, head: bytes) -> None:
    """13.12: such as the input of another run, which nothing beside it tells."""
    bench.give(numbered(3))
    log = bench.folder / "other"
    log.write_bytes(head)
    with pytest.raises(ConfigError, match="it does not begin with events of a log"):
        bench.pipeline([lambda row: row], log_file=log).create("a")
    assert log.read_bytes() == head


@pytest.mark.parametrize("head", [b"", b"\n", b'{"event": "torn'])
def test_a_log_goes_on_behind_what_may_be_one(bench: Bench, head: bytes) -> None:
    bench.give(numbered(3))
    log = bench.folder / "a.log"
    log.write_bytes(head)
    for name in ("a", "b"):
        bench.pipeline([lambda row: row], log_file=log, output_uri=f"jsonl://{bench.folder}/{name}.jsonl").create(
            name
        ).run()
    assert log.read_bytes().startswith(head)
    assert log.read_bytes().count(b"[Run Ended]") == 2


FILES: dict[str, Callable[[Path], tuple[dict[str, Any], dict[str, Any]]]] = {
    "output on a log": lambda here: ({"log_file": here / "a.log"}, {"output_uri": f"jsonl://{here}/a.log"}),
    "output on an older log": lambda here: (
        {"log_file": LogFile(here / "a.log", max_bytes=10_000)},
        {"output_uri": f"jsonl://{here}/a.log.5"},
    ),
    "dead letters on a cache": lambda here: (
        {"operators": [Keeps(here / "b.jsonl.errors.jsonl")]},
        {"output_uri": f"jsonl://{here}/b.jsonl"},
    ),
    "output on a file of a cache": lambda here: (
        {"operators": [Keeps(here / "a.db")]},
        {"output_uri": f"jsonl://{here}/a.db-wal"},
    ),
    "log on a cache": lambda here: ({"operators": [Keeps(here / "a.db")]}, {"log_file": here / "a.db"}),
    "cache on a log": lambda here: ({"log_file": here / "a.log"}, {"operators": [Keeps(here / "a.log")]}),
}


@pytest.mark.parametrize("state", ["pending", "completed"])
@pytest.mark.parametrize("case", FILES)
def test_files_of_another_run_are_known_whether_it_has_begun_or_not(bench: Bench, case: str, state: str) -> None:
    """All that it writes besides its streams, also what is not there yet; by `create()`, and nothing is touched."""
    bench.give(numbered(4))
    own, others = FILES[case](bench.folder)
    first = bench.pipeline(own.pop("operators", [Keeps()]), **own).create("a")
    if state == "completed":
        first.run()
    before = contents(bench.folder)
    settings: dict[str, Any] = {"output_uri": f"jsonl://{bench.folder}/other.jsonl", **others}
    second = bench.pipeline(settings.pop("operators", [Keeps()]), **settings)
    with pytest.raises((PipelineExistsError, ConfigError), match=r"run 'a'|is a file of something else"):
        second.create("b")
    assert contents(bench.folder) == before


def test_an_overwrite_does_not_delete_the_log_of_another_run(bench: Bench) -> None:
    bench.give(numbered(4))
    bench.pipeline([Keeps()], log_file=bench.folder / "a.log").create("a").run()
    before = contents(bench.folder)
    with pytest.raises(PipelineExistsError, match="was made by the run 'a'"):
        bench.pipeline([Keeps()], output_uri=f"jsonl://{bench.folder}/a.log").create("b", if_exists="overwrite")
    assert contents(bench.folder) == before


def test_runs_share_a_log_and_a_cache(bench: Bench) -> None:
    bench.give(numbered(4))
    for number, pipeline_id in enumerate("ab"):
        output = f"jsonl://{bench.folder}/out{number}.jsonl"
        log = LogFile(bench.folder / "shared.log", max_bytes=10_000)
        bench.pipeline([Keeps(bench.folder / "c.db")], output_uri=output, log_file=log).create(pipeline_id).run()


def test_a_resume_with_another_log_is_known_by_it(bench: Bench) -> None:
    bench.give(numbered(4))
    bench.pipeline([Keeps()], log_file=bench.folder / "a.log").create("a")
    bench.pipeline([Keeps()], log_file=bench.folder / "new.log").resume("a")
    assert bench.run_state("a")["files"] == {str(bench.folder / "new.log"): "the platform log"}

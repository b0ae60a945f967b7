"""Wrong values and bad files: each is an error of our own that says what is wrong and where; nothing is touched."""

from __future__ import annotations

import json
import math
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llm_datagen import (
    BaseOperator,
    ConfigError,
    DatagenError,
    DefaultPipelineHooks,
    FunctionOperator,
    INodeContext,
    InputWarning,
    NodeConfig,
    NodeFailedError,
    OperatorMismatchError,
    PipelineBusyError,
    PipelineExistsError,
    PipelineNotFoundError,
    RowFormatError,
    RunStateError,
    Status,
    StreamBusyError,
    StreamMissingError,
    UnifiedNode,
    UnifiedNodePipeline,
    UnifiedPipeline,
    UnknownProtocolError,
    WriterConfig,
    logs,
)
from llm_datagen.runs import RunFolder
from llm_datagen.runs.logs import events

from ..kit.programs import Program
from ..kit.support import PATIENCE_SECONDS, Bench, bag, eventually, lines, numbered, pairwise, write_jsonl


def same(item: Any) -> Any:
    return item


def other(item: Any) -> Any:
    return item


class Nothing(BaseOperator):
    """An operator that forgot its method."""


class NotAnOperator:
    """Has neither method, and cannot be called."""


class TooManyArguments(BaseOperator):
    def process_item(self, item: Any, ctx: INodeContext, more: Any) -> Any:  # type: ignore[override]
        return item


class Fine(BaseOperator):
    def process_item(self, item: Any, ctx: INodeContext) -> Any:
        return item


# --- wrong values --------------------------------------------------------------------------------------------------

WRONG: list[Any] = [
    ({"operators": []}, "at least one operator"),
    ({"operators": None}, "operators"),
    ({"operators": "same"}, "operators"),
    ({"operators": [Nothing()]}, "Nothing overrides neither"),
    ({"operators": [NotAnOperator()]}, "NotAnOperator"),
    ({"operators": [Fine]}, r"Fine is a class; give an instance: Fine\(\)"),
    ({"operators": [None]}, "None"),
    ({"operators": [TooManyArguments()]}, "TooManyArguments"),
    ({"operators": [lambda: 1]}, "must take"),
    ({"operators": [lambda a, b, c: 1]}, "must take"),
    ({"input_uri": "nope://x"}, r"nope:// is not known; known are jsonl://, csv://, .*memory://, file://"),
    ({"output_uri": "nope://x"}, "nope://"),
    ({"input_uri": ""}, "URI"),
    ({"input_uri": None}, "input_uri is missing"),
    ({"input_uri": "jsonl://"}, "names a protocol but no stream"),
    ({"output_uri": 7}, "7"),
    ({"output_uri": "file://data.parquet"}, "parquet"),
    ({"default_protocol": "nope://"}, "nope://"),
    ({"default_protocol": "jsonl"}, "default_protocol"),
    ({"default_protocol": "file://"}, "file://"),
    ({"default_protocol": None}, "default_protocol"),
    ({"parallel_size": 0}, "parallel_size .* 0"),
    ({"parallel_size": -4}, "parallel_size .* -4"),
    ({"parallel_size": 2.0}, "parallel_size"),
    ({"parallel_size": True}, "parallel_size"),
    ({"batch_size": 0}, "batch_size"),
    ({"batch_size": "10"}, "batch_size .* '10'"),
    ({"streaming": "yes"}, "streaming"),
    ({"ordered": 1}, "ordered"),
    ({"follow_input": None}, "follow_input"),
    ({"id_scheme": "uuid"}, "id_scheme .*'path', 'numeric'.* 'uuid'"),
    ({"on_error": "ignore"}, "on_error"),
    ({"idle_timeout": -1}, "idle_timeout"),
    ({"idle_timeout": 0}, "idle_timeout"),
    ({"protocol_prefix": 3}, "protocol_prefix"),
    ({"writer_config": {"queue_size": 0}}, "queue_size"),
    ({"writer_config": {"flush_batch_size": -1}}, "flush_batch_size"),
    ({"writer_config": {"flush_interval": 0}}, "flush_interval"),
    ({"writer_config": {"retry_interval": "fast"}}, "retry_interval"),
    ({"writer_config": {"fsync": "always"}}, "fsync .*'never', 'close', 'flush'"),
    ({"writer_config": {"async_mode": "yes"}}, "async_mode"),
    ({"writer_config": {"queue": 1}}, "no setting 'queue'; did you mean 'queue_size'"),
    ({"writer_config": 5}, "writer_config"),
    ({"batch_by": "parent"}, "no setting 'batch_by'; it is a setting of a node: give it in node_configs="),
]


def construct(bench: Bench, **wrong: Any) -> UnifiedPipeline:
    given: dict[str, Any] = {
        "operators": [same, other],
        "input_uri": f"jsonl://{bench.input}",
        "output_uri": f"jsonl://{bench.output}",
        "base_path": bench.folder / "between",
        "results_dir": bench.results,
        **wrong,
    }
    return UnifiedPipeline(**given)


@pytest.mark.sampled(1)
@pytest.mark.parametrize(("wrong", "names"), WRONG, ids=lambda value: str(value)[:40])
def test_a_wrong_value_is_named_at_construction_or_at_create_and_nothing_is_touched(
    bench: Bench, wrong: dict[str, Any], names: str
) -> None:
    """M3, M4: a ConfigError that names the value; as an argument of the constructor, and as an override of create()."""
    bench.give(numbered(3))
    before = bench.files()
    with pytest.raises(ConfigError, match=names):
        construct(bench, **wrong).create("a")
    fine = construct(bench)
    with pytest.raises(ConfigError, match=names):
        fine.create("a", **wrong)
    assert bench.files() == before
    fine.create("a").run()  # the object is none the worse for it
    assert len(lines(bench.output)) == 3


def test_a_setting_of_a_node_that_is_given_to_nodes_wired_by_hand_says_where_it_belongs(bench: Bench) -> None:
    """M3, M31: by the constructor, and by create()."""
    says = r"no setting 'parallel_size'; it is a setting of a node: give it to UnifiedNode\(…, parallel_size=…\)"
    node = UnifiedNode("a", 2).bind_io(f"jsonl://{bench.input}", f"jsonl://{bench.output}").set_operator(same)
    with pytest.raises(ConfigError, match=says):
        UnifiedNodePipeline([node], parallel_size=3)  # type: ignore[call-arg]
    with pytest.raises(ConfigError, match=says):
        UnifiedNodePipeline([node]).create("a", parallel_size=3)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("configs", "names"),
    [
        ([{}, {}, {}], "3 entries for 2 operators"),
        ([{"batch": 3}], "no setting 'batch'; did you mean 'batch_by'"),
        ([{"batch_size": -3}], "batch_size"),
        ([{"parallel_size": "x"}], "parallel_size"),
        ([{"output_uri": "nope://x"}], "nope://"),
        ([{"input_uri": ""}], "input_uri"),
        ([{"writer_config": {"queue": 3}}], "'queue'"),
        ([{"on_error": "x"}], "on_error"),
        ([7], "node_configs"),
        (
            [{"output_uri": "jsonl://a.jsonl"}, {"input_uri": "jsonl://b.jsonl"}],
            "node_0 writes 'jsonl://a.jsonl', but ",
        ),
        ([{"output_uri": "jsonl://a.jsonl"}, {"input_uri": "jsonl://b.jsonl"}], "node_1 reads 'jsonl://b.jsonl'"),
        ([{"output_uri": "jsonl://a.jsonl"}, {"output_uri": "jsonl://a.jsonl"}], "same stream|both write"),
        ([{"output_uri": "jsonl://in.jsonl"}, {"output_uri": "jsonl://x"}], "same stream|both write|cycle"),
    ],
)
def test_wrong_node_configs_are_named_and_nothing_is_touched(bench: Bench, configs: Any, names: str) -> None:
    """M4: unknown keys, too many entries, adjacent nodes whose URIs disagree (both are named)."""
    bench.give(numbered(3))
    before = bench.files()
    with pytest.raises(ConfigError, match=names):
        construct(bench, input_uri="jsonl://in.jsonl").create("a", node_configs=configs)
    assert bench.files() == before


@pytest.mark.parametrize("make", [NodeConfig, WriterConfig])
def test_configurations_are_checked_when_they_are_made(make: Callable[..., Any]) -> None:
    """M3: also the configuration classes themselves."""
    with pytest.raises(ConfigError):
        make(**({"batch_size": 0} if make is NodeConfig else {"queue_size": 0}))


def test_an_unknown_override_is_named_with_the_known_ones(bench: Bench) -> None:
    """M4: create() takes what the constructor takes, and says so of anything else."""
    bench.give(numbered(3))
    before = bench.files()
    with pytest.raises(ConfigError, match=r"no setting 'paralel_size'; did you mean 'parallel_size'"):
        construct(bench).create("a", paralel_size=3)  # type: ignore[call-arg]
    with pytest.raises(ConfigError, match=r"if_exists .*'error', 'resume', 'overwrite'.* 'replace'"):
        construct(bench).create("a", if_exists="replace")  # type: ignore[arg-type]
    assert bench.files() == before


@pytest.mark.parametrize("pipeline_id", ["a/b", "..", ".", "../up", "/abs", "a\0b", 5, ["x"], "back\\slash"])
def test_an_id_that_cannot_be_a_folder_is_refused(bench: Bench, pipeline_id: Any) -> None:
    """M4: the id is a folder's name, and no way out of `results_dir`."""
    bench.give(numbered(3))
    before = bench.files()
    with pytest.raises(ConfigError, match="pipeline_id"):
        construct(bench).create(pipeline_id)
    assert bench.files() == before


def test_every_constructor_parameter_can_be_overridden(bench: Bench) -> None:
    """M4: the operators, the URIs, the folders and the rest."""
    given = write_jsonl(bench.folder / "other.jsonl", numbered(4))
    pipeline = construct(bench, input_uri="jsonl://nowhere.jsonl")
    output = bench.folder / "o2.jsonl"
    pipeline.create(
        "b",
        operators=[same],
        input_uri=f"jsonl://{given}",
        output_uri=f"jsonl://{output}",
        streaming=True,
        parallel_size=3,
        batch_size=2,
        writer_config={"queue_size": 9},
        base_path=bench.folder / "b2",
        protocol_prefix="p",
        default_protocol="csv://",
        results_dir=bench.folder / "r2",
        id_scheme="numeric",
        ordered=True,
        log_file=None,
    ).run()
    assert lines(output) == [{"n": n, "_i": n} for n in range(4)]
    run_state = json.loads((bench.folder / "r2" / "b" / "runtime.json").read_bytes())
    (node,) = run_state["nodes"]
    assert (node["parallel_size"], node["batch_size"], node["writer_config"]["queue_size"]) == (3, 2, 9)
    assert not (bench.folder / "logs").exists()
    assert not bench.results.exists()


def test_streams_between_lie_below_base_path_prefix_and_id(bench: Bench) -> None:
    """M4: `base_path/protocol_prefix/<pipeline_id>/node_k.<ext>`, and runtime.json in `results_dir/<pipeline_id>`."""
    bench.give(numbered(3))
    construct(bench, protocol_prefix="pre", operators=[same, same, same], default_protocol="csv://").create("a").run()
    between = bench.folder / "between" / "pre" / "a"
    assert sorted(path.name for path in between.glob("*.csv")) == ["node_0.csv", "node_1.csv"]
    assert [node["node_id"] for node in bench.run_state("a")["nodes"]] == ["node_0", "node_1", "node_2"]
    assert (bench.results / "a" / "runtime.json").exists()


# --- files ---------------------------------------------------------------------------------------------------------


def test_a_missing_input_is_named_and_can_be_supplied_later(bench: Bench) -> None:
    """M5: the error names the path; nothing is made for it; the same object runs once the file is there."""
    pipeline = bench.pipeline([same, other], streaming=True)
    with pytest.warns(InputWarning, match=f"{bench.input} does not exist.*follow_input=True"):
        pipeline.create("a")
    with pytest.raises(StreamMissingError, match=str(bench.input)):
        pipeline.run()
    assert not bench.output.exists()
    bench.give(numbered(3))
    assert pipeline.run().status == Status.COMPLETED


def test_a_run_that_waits_for_its_input_is_created_without_a_word(bench: Bench) -> None:
    """M18: and so is one that is created again; warnings are errors here."""
    for _ in range(2):
        bench.pipeline([same], follow_input=True).create("a")


def test_a_run_that_has_not_begun_is_replaced_and_another_input_is_told(bench: Bench) -> None:
    """M4: as a warning, in the log and to the hooks."""
    told: list[str] = []

    class Hooks(DefaultPipelineHooks):
        def on_log(self, cid: str, nid: str, level: str, message: str) -> None:
            told.append(message)

    other_input = bench.folder / "other.jsonl"
    write_jsonl(other_input, numbered(2))
    bench.give(numbered(3))
    bench.pipeline([same]).create("a")
    pipeline = bench.pipeline([same], input_uri=f"jsonl://{other_input}", hooks=Hooks())
    says = r"run 'a' was created before, and had not begun: .* now reads .*other.jsonl, not .*in.jsonl"
    with pytest.warns(InputWarning, match=says):
        pipeline.create("a")
    pipeline.run()
    assert len(lines(bench.output)) == 2
    assert [bool(re.match(says, text)) for text in told] == [True]
    (event,) = [each for each in logs.read(bench.log) if each.event == events.NOT_USED]
    assert event.fields["message"] == told[0]


MALFORMED = [
    '{"n": 3',
    "{'n': 3}",
    '{"n": 3}{"n": 4}',
    "nonsense",
    '{"n": NaN}',
    '{"n": "\x01"}',
    "\ufffd\x00",
    '"open',
]


@pytest.mark.sampled(8)
@pytest.mark.parametrize(("bad", "blanks", "streaming"), pairwise(MALFORMED, [0, 3], [True, False]))
def test_a_malformed_line_is_named_by_file_and_number(bench: Bench, bad: str, blanks: int, streaming: bool) -> None:
    """M24: file name and line number, blank lines counted; the rows before it are saved."""
    good = [json.dumps({"n": n}) for n in range(30)]
    text = "\n".join([*good[:10], *[""] * blanks, *good[10:], bad, json.dumps({"n": 31})]) + "\n"
    bench.input.write_text(text)
    pipeline = bench.pipeline([same, other], streaming=streaming).create("a")
    with pytest.raises(NodeFailedError) as caught:
        pipeline.run()
    assert isinstance(caught.value.__cause__, RowFormatError)
    assert f"{bench.input}, line {31 + blanks}:" in str(caught.value)
    assert lines(bench.between("a")) == [{"n": n, "_i": n} for n in range(30)]
    assert not bench.is_sealed()


def test_nan_of_an_operator_says_what_works_and_that_does(bench: Bench) -> None:
    """A resume keeps the data_config of the run, so it is not advised."""
    bench.give(numbered(3))

    def odd(item: Any) -> Any:
        return {**item, "x": math.nan}

    with pytest.raises(NodeFailedError, match=r"return None, or set data_config nan='null' and create the run anew"):
        bench.pipeline([odd]).create("a").run(progress=False)
    anew = bench.pipeline([odd], data_config={"nan": "null"}).create("a", if_exists="overwrite").run(progress=False)
    assert [row["x"] for row in anew.rows()] == [None] * 3


def test_a_malformed_line_can_be_mended_and_the_run_resumed(bench: Bench) -> None:
    """M6, M24: "mend or remove the line", says the error; what was done before it is not done again."""
    good = [json.dumps({"n": n}) for n in range(20)]
    bench.input.write_text("\n".join([*good[:10], "oops", *good[11:]]) + "\n")
    called: list[int] = []

    def work(item: Any) -> Any:
        called.append(item["n"])
        return item

    pipeline = bench.pipeline([work]).create("a")
    with pytest.raises(NodeFailedError, match="line 11"):
        pipeline.run()
    bench.input.write_text("\n".join(good) + "\n")
    pipeline.resume("a").run()
    assert lines(bench.output) == [{"n": n, "_i": n} for n in range(20)]
    assert sorted(called) == list(range(20))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a,b\n1,2\n3\n5,6\n", "line 3.*1 cells where the header has 2 columns"),
        ("a,b\n1,2\n3,4,5\n5,6\n", "line 3.*3 cells where the header has 2 columns"),
        ('a,b\n1,2\n"3,4\n5,6\n', "line 3"),
        ("a,a\n1,2\n", "column 'a' more than once"),
    ],
)
def test_a_malformed_csv_row_is_named_by_file_and_line(bench: Bench, text: str, says: str) -> None:
    """M19, M24: too many or too few cells, a quote that is never closed, a header that repeats itself."""
    given = bench.folder / "in.csv"
    given.write_text(text)
    with pytest.raises(DatagenError, match=says) as caught:
        bench.pipeline([same], input_uri=f"csv://{given}").run()
    assert str(given) in str(caught.value)
    assert not bench.is_sealed()


def test_an_output_that_belongs_to_no_run_is_left_alone(bench: Bench) -> None:
    """M4: nothing that a user paid for is deleted silently; `overwrite` deletes it."""
    bench.give(numbered(3))
    bench.output.write_text("precious\n")
    with pytest.raises(PipelineExistsError, match=str(bench.output)) as caught:
        bench.pipeline([same]).create("a")
    assert "overwrite" in str(caught.value)
    assert bench.output.read_text() == "precious\n"
    assert not (bench.results / "a" / "runtime.json").exists()
    bench.pipeline([same]).create("a", if_exists="overwrite").run()
    assert len(lines(bench.output)) == 3


@pytest.mark.parametrize("if_exists", ["error", "overwrite"])
@pytest.mark.parametrize("way", ["in.jsonl", "./in.jsonl", "../{here}/in.jsonl", "link.jsonl"])
def test_the_input_is_never_the_output_however_it_is_spelled(bench: Bench, way: str, if_exists: Any) -> None:
    """M4: not even `overwrite` may delete what the pipeline is to read."""
    bench.give(numbered(3))
    (bench.folder / "link.jsonl").symlink_to("in.jsonl")
    before = bench.input.read_bytes()
    for operators in ([same], [same, other]):
        with pytest.raises(DatagenError):
            construct(
                bench,
                operators=operators,
                input_uri="jsonl://in.jsonl",
                output_uri="jsonl://" + way.format(here=bench.folder.name),
            ).create("a", if_exists=if_exists).run()
        assert bench.input.read_bytes() == before


# --- ids that are there already ------------------------------------------------------------------------------------


def test_an_id_that_has_a_run_is_refused_with_what_to_do(bench: Bench) -> None:
    """M4: "error" is the default, and changes nothing."""
    bench.give(numbered(3))
    bench.pipeline([same, other]).create("a").run()
    before = {path: path.read_bytes() for path in bench.folder.rglob("*") if path.is_file()}
    with pytest.raises(PipelineExistsError, match=r"'a'.*completed.*resume.*overwrite"):
        bench.pipeline([same, other]).create("a")
    with pytest.raises(PipelineExistsError, match="'a'"):
        bench.pipeline([same], output_uri=f"jsonl://{bench.folder / 'new.jsonl'}").create("a")
    assert {path: path.read_bytes() for path in bench.folder.rglob("*") if path.is_file()} == before


def test_an_id_that_was_created_and_never_run_may_be_created_again(bench: Bench) -> None:
    """M4 (3.1 of the manual): create() again updates the blueprint."""
    bench.give(numbered(3))
    pipeline = bench.pipeline([same]).create("a")
    pipeline.create("a", parallel_size=3).run()
    assert bench.run_state("a")["nodes"][0]["parallel_size"] == 3


def test_overwrite_starts_afresh_and_deletes_the_outputs_of_that_run_alone(bench: Bench) -> None:
    """M4: the run's own streams go, with their seals; neighbours, other runs and the input stay."""
    bench.give(numbered(10))
    bench.pipeline([same, other]).create("a").run()
    bench.pipeline([same, other], output_uri=f"jsonl://{bench.folder / 'b.jsonl'}").create("b").run()
    (bench.folder / "notes.txt").write_text("mine")
    (bench.between("a").parent / "notes.txt").write_text("mine")
    kept = {path: path.read_bytes() for path in bench.folder.rglob("*") if path.is_file() and path != bench.log}
    bench.give(numbered(4))
    pipeline = bench.pipeline([same, other]).create("a", if_exists="overwrite")
    assert not bench.output.exists()
    assert not bench.is_sealed()
    assert not bench.between("a").exists()
    pipeline.run()
    assert len(lines(bench.output)) == 4
    for path, data in kept.items():
        if path != bench.input and path.parent != bench.results / "a" and "out.jsonl" not in path.name:
            assert path.name.startswith("node_0") or path.read_bytes() == data, path
    assert bag(lines(bench.folder / "b.jsonl")) == bag({"n": n, "_i": n} for n in range(10))


def test_overwrite_deletes_what_the_old_run_wrote_elsewhere(bench: Bench) -> None:
    """M4: the outputs are those that the old run state names."""
    bench.give(numbered(10))
    old = bench.folder / "old.jsonl"
    bench.pipeline([same], output_uri=f"jsonl://{old}").create("a").run()
    bench.pipeline([same]).create("a", if_exists="overwrite").run()
    assert not old.exists()
    assert len(lines(bench.output)) == 10


def test_overwrite_does_not_delete_what_the_new_run_reads(bench: Bench) -> None:
    """M4: the output of the old run of this id may be the input of the new one."""
    bench.give(numbered(10))
    bench.pipeline([same]).create("a").run()
    again = bench.folder / "again.jsonl"
    try:
        bench.pipeline([same], input_uri=f"jsonl://{bench.output}", output_uri=f"jsonl://{again}").create(
            "a", if_exists="overwrite"
        ).run()
    except DatagenError:
        pass
    else:
        assert len(lines(again)) == 10
    assert len(lines(bench.output)) == 10


def test_if_exists_resume_continues_or_creates(bench: Bench) -> None:
    """M4: the way to write a script that can be started again after anything."""
    bench.give(numbered(50))
    fail = True

    def work(item: Any) -> Any:
        if fail and item["n"] == 20:
            raise RuntimeError
        return item

    with pytest.raises(NodeFailedError):
        bench.pipeline([work]).create("a", if_exists="resume").run()
    fail = False
    pipeline = bench.pipeline([work]).create("a", if_exists="resume")
    assert pipeline.status == Status.RESUMING
    assert pipeline.run().status == Status.COMPLETED
    assert bag(lines(bench.output)) == bag({"n": n, "_i": n} for n in range(50))
    assert bench.pipeline([work]).create("a", if_exists="resume").run().status == Status.COMPLETED


# --- who runs it ---------------------------------------------------------------------------------------------------


def test_a_second_run_of_an_id_is_refused_in_one_process(bench: Bench) -> None:
    """M23: by run(), resume(), create() of any object; the first is not disturbed."""
    bench.give(numbered(20))
    here, go_on = threading.Event(), threading.Event()

    def work(item: Any) -> Any:
        here.set()
        go_on.wait(PATIENCE_SECONDS)
        return item

    first = bench.pipeline([work]).create("a")
    second = bench.pipeline([work]).create("a")  # neither has run yet
    first.start()
    here.wait(PATIENCE_SECONDS)
    try:
        for attempt in (
            second.run,
            second.start,
            lambda: bench.pipeline([work]).create("a"),
            lambda: bench.pipeline([work]).create("a", if_exists="resume"),
            lambda: bench.pipeline([work]).create("a", if_exists="overwrite"),
            lambda: bench.pipeline([work]).resume("a"),
        ):
            with pytest.raises(PipelineBusyError, match=r"'a'.*process \d+"):
                attempt()
        for attempt in (lambda: first.create("b"), lambda: first.resume("a"), lambda: first.replay("a")):
            with pytest.raises(PipelineBusyError, match="this object is still running 'a'; wait"):
                attempt()
        assert first.status == Status.RUNNING, "it still holds on to its run"
        with pytest.raises(PipelineBusyError, match="running already"):
            first.run()
    finally:
        go_on.set()
    report = first.wait(PATIENCE_SECONDS)
    assert report.status == Status.COMPLETED
    assert len(lines(bench.output)) == 20
    with pytest.raises(PipelineExistsError, match="has ended"):
        first.run()


HOLDER = """
import sys, time
from llm_datagen import UnifiedPipeline
def same(item):
    time.sleep(0.02 if item["n"] < 100 else 600)  # it is killed before it is over
    return item
same.version = "an instrument"
folder = sys.argv[1]
UnifiedPipeline([same], f"jsonl://{folder}/in.jsonl", f"jsonl://{folder}/out.jsonl", results_dir=f"{folder}/results",
                log_file=None).create("a").run()
"""


@pytest.mark.process
def test_a_second_run_of_an_id_is_refused_across_processes(bench: Bench) -> None:
    """M23: another process holds it; its pid is in the message; when it is gone, the id is free."""
    bench.give(numbered(300))
    with Program(["-c", HOLDER, bench.folder]) as holder:
        try:
            eventually(lambda: bench.output.exists() and bench.output.stat().st_size > 100)
            with pytest.raises(PipelineBusyError, match=f"process {holder.pid} "):
                bench.pipeline([same]).resume("a")
            with pytest.raises(PipelineBusyError, match=f"process {holder.pid} "):
                bench.pipeline([same]).create("a", if_exists="overwrite")
            with pytest.raises((StreamBusyError, PipelineExistsError), match=str(bench.output)):
                bench.pipeline([same]).create("b").run()
        finally:
            holder.kill()
    bench.pipeline([same]).resume("a").run()
    assert bag(lines(bench.output)) == bag({"n": n, "_i": n} for n in range(300))


def test_an_output_that_another_run_is_writing_is_not_overwritten(bench: Bench) -> None:
    """M4, S1: `overwrite` of one id must not pull the file from under the run of another."""
    bench.give(numbered(50))
    here, go_on = threading.Event(), threading.Event()

    def work(item: Any) -> Any:
        if item["n"] == 30:
            here.set()
            go_on.wait(PATIENCE_SECONDS)
        return item

    first = bench.pipeline([work]).create("a")
    first.start()
    here.wait(PATIENCE_SECONDS)
    try:
        with pytest.raises(DatagenError):
            bench.pipeline([same]).create("b", if_exists="overwrite").run()
    finally:
        go_on.set()
        report = first.wait(PATIENCE_SECONDS)
    assert report is not None
    assert report.status == Status.COMPLETED
    assert len(lines(bench.output)) == 50


# --- run states ----------------------------------------------------------------------------------------------------


def test_operators_that_do_not_match_the_run_state_are_refused(bench: Bench) -> None:
    """M6: number and identity; the message shows both sides, and how to keep an identity."""
    bench.give(numbered(20))
    pipeline = bench.pipeline([same, other], follow_input=True).create("a")
    pipeline.start()
    pipeline.cancel()
    pipeline.wait()
    for operators in ([same], [other, same], [same, other, same], [same, FunctionOperator(other, name="new")]):
        with pytest.raises(OperatorMismatchError, match=r"\['same', 'other'\].*name="):
            bench.pipeline(operators).resume("a")
    renamed = FunctionOperator(lambda item: item, name="other")
    bench.pipeline([same, renamed]).resume("a")


def test_an_unknown_run_is_named_with_the_known_ones(bench: Bench) -> None:
    """M6: resume() of what is not there says what there is; it makes nothing."""
    bench.give(numbered(3))
    with pytest.raises(PipelineNotFoundError, match=r"'a' .*none"):
        bench.pipeline([same]).resume("a")
    assert not bench.results.exists()
    bench.pipeline([same]).create("real")
    with pytest.raises(PipelineNotFoundError, match=r"'a' .*real"):
        bench.pipeline([same]).resume("a")
    assert not (bench.results / "a").exists()


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"format": 99}', '{"format": 1}', "null"])
def test_a_damaged_run_state_is_an_error_that_names_it(bench: Bench, damage: str) -> None:
    """M6: `runtime.json` that cannot be read is not taken for something else."""
    bench.give(numbered(3))
    bench.pipeline([same]).create("a").run()
    run_state = bench.results / "a" / "runtime.json"
    run_state.write_text(damage)
    with pytest.raises(RunStateError, match=str(run_state)):
        bench.pipeline([same]).resume("a")


@pytest.mark.parametrize("key", ["status", "updated_at", "nodes.node_id", "nodes.retries", "nodes.rows_in"])
def test_a_key_that_is_missing_in_a_run_state_is_named(bench: Bench, key: str) -> None:
    """M6: whoever reads it, and whichever it is."""
    bench.give(numbered(3))
    bench.pipeline([same]).create("a").run()
    run_state = {**bench.run_state("a"), "format": 1}
    del run_state["check"]  # format 1 had no checksum
    place, _, name = key.rpartition(".")
    del (run_state["nodes"][0] if place else run_state)[name]
    (bench.results / "a" / "runtime.json").write_text(json.dumps(run_state))
    with pytest.raises(RunStateError, match=f"runtime.json is not a run state: '{name}' is missing; restore"):
        bench.pipeline([same]).resume("a")


def test_a_run_state_that_was_edited_is_refused_and_one_of_the_version_before_is_not(bench: Bench) -> None:
    """M6: a setting that changes between two runs changes the rows; format 1 had no checksum."""
    bench.give(numbered(3))
    bench.pipeline([same]).create("a").run()
    path = bench.results / "a" / "runtime.json"
    data = path.read_bytes()
    path.write_bytes(data.replace(b'"batch_size": 1', b'"batch_size": 7'))
    with pytest.raises(RunStateError, match="was edited: its checksum differs"):
        bench.pipeline([same]).resume("a")
    path.write_bytes(data.replace(b'"format": 2', b'"format": 1'))
    with pytest.raises(RunStateError, match="was edited: its checksum differs"):
        bench.pipeline([same]).resume("a")
    older = {**json.loads(data), "format": 1}
    del older["check"]
    path.write_text(json.dumps(older))
    assert bench.pipeline([same]).resume("a").run().status == Status.COMPLETED
    assert bench.run_state("a")["format"] == 2


def test_a_node_without_streams_or_operator_says_so(tmp_path: Path) -> None:
    """M9: the error says which call is missing."""
    with pytest.raises(ConfigError, match="bind_io"):
        UnifiedNode("n").set_operator(same).run()
    with pytest.raises(ConfigError, match="set_operator"):
        UnifiedNode("n").bind_io(f"jsonl://{tmp_path}/a.jsonl", f"jsonl://{tmp_path}/b.jsonl").run()
    with pytest.raises(ConfigError, match="input_bus"):
        UnifiedNode("n").bind_io(3, "jsonl://x")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="same stream"):
        UnifiedNode("n").bind_io("jsonl://x.jsonl", "jsonl://x.jsonl")
    with pytest.raises(UnknownProtocolError):
        UnifiedNode("n").bind_io("what://x", "jsonl://x")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_who_looks_whether_a_run_is_going_on_does_not_keep_it_from_beginning(bench: Bench) -> None:
    """M23: `is_held()` (of a dashboard, say) takes the lock for a moment; that is no second run."""
    bench.give(numbered(1))
    is_over = threading.Event()

    def look() -> None:
        folder = RunFolder(bench.results, "a")
        while not is_over.is_set():
            folder.lock.is_held()

    looker = threading.Thread(target=look)
    looker.start()
    try:
        for _ in range(60):
            bench.pipeline([same]).create("a")
    finally:
        is_over.set()
        looker.join()


def test_an_unfinished_output_of_another_run_is_no_input_yet(bench: Bench) -> None:
    """M17, S1: what another run has left half-done is not the whole input; `follow_input=True` waits for its end."""
    bench.give(numbered(50))
    fail = True

    def work(item: Any) -> Any:
        if fail and item["n"] == 30:
            raise RuntimeError
        return item

    first = bench.pipeline([work]).create("a")
    with pytest.raises(NodeFailedError):
        first.run()
    target = bench.folder / "second.jsonl"
    second = bench.pipeline([same], input_uri=f"jsonl://{bench.output}", output_uri=f"jsonl://{target}")
    with pytest.raises(StreamBusyError, match=str(bench.output)):
        second.create("b").run()
    second.create("c", follow_input=True, if_exists="overwrite")
    second.start()
    fail = False
    first.resume("a").run()
    report = second.wait(PATIENCE_SECONDS)
    assert report.status == Status.COMPLETED
    made = lines(bench.output)
    assert bag(lines(target)) == bag({"n": row["n"], "_i": at, "_i_in": row["_i"]} for at, row in enumerate(made))


def test_what_of_the_data_is_refused_is_a_setting_that_is_kept(bench: Bench) -> None:
    """12.2.6: of the pipeline or of a node; in the run state, so that a resume reads as the run did."""
    bench.input.write_text('{"a":NaN}\n{"a":12345678901234567890123}\n"' + "x" * 200 + '"\n{"a":1,"a":2}\n')
    pipeline = bench.pipeline([same, same], on_error="dead_letter", data_config={"nan": "null"})
    pipeline.create("a", node_configs=[{"data_config": {"nan": "null", "max_record_bytes": 100, "strict": True}}])
    nodes = bench.run_state("a")["nodes"]
    assert [node["data_config"]["max_record_bytes"] for node in nodes] == [100, None]
    bench.pipeline([same, same]).resume("a").run()
    assert lines(bench.output) == [{"a": None, "_i": 0}, {"a": 12345678901234567890123, "_i": 1}]
    told = [
        dead_letter["error"]["text"] for dead_letter in lines(bench.between("a").with_name("node_0.jsonl.errors.jsonl"))
    ]
    assert ["line 3" in text and "max_record_bytes" in text for text in told] == [True, False]
    assert "line 4" in told[1]
    with pytest.raises(ConfigError, match=r"DataConfig\.nan must be one of"):
        bench.pipeline([same], data_config={"nan": "zero"})


@pytest.mark.process
@pytest.mark.parametrize("executor", ["thread", "process"])
def test_nan_in_a_result_is_its_rows_failure(bench: Bench, executor: Any) -> None:
    """12.2.6: of that row only, in worker processes as on threads; and the input names its line."""
    bench.give([{"n": 0}, {"n": 1}, {"n": 2}])
    with bench.input.open("a") as file:
        file.write('{"n":NaN}\n{"n":"\\ud83d"}\n')
    operator = FunctionOperator(_odd, name="odd")
    report = bench.pipeline([operator], on_error="dead_letter", executor=executor).create("a").run()
    assert (report.rows_out, report.failed) == (2, 3)
    told = {
        dead_letter["_i"]: dead_letter["error"]["text"]
        for dead_letter in lines(bench.output.with_name("out.jsonl.errors.jsonl"))
    }
    assert "row 1 cannot be written: column 'x'[0] holds nan" in told[1]
    assert "line 4" in told[3] and "nan='null'" in told[3]  # noqa: PT018
    assert "line 5" in told[4] and "half a surrogate pair" in told[4]  # noqa: PT018


def _odd(item: Any) -> Any:
    return {**item, "x": [float("nan") if item["n"] == 1 else 2**70]}

"""Inputs that are computed: `Generate` and `Cycle`, with an end and without, stopped, killed and resumed."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any, cast

import pytest

from llm_datagen import Cycle, Generate, StopRun, UnifiedNode, UnifiedNodePipeline
from llm_datagen.errors import ConfigError, IdError, StreamChangedError, StreamError, StreamMissingError
from llm_datagen.runs.graph import stream_nodes_of
from llm_datagen.runs.verify import verify

from ..kit import programs
from ..kit.support import Bench, lines, write_jsonl

SPEC = Generate({"topic": ["birds", "trees", "stars"], "level": [1, 2], "lang": "en"}, seed=5)


def same(item: Any) -> Any:
    return item


class Stopping:
    """Passes rows on; stops the run at the row with an id. It may be another one after a stop."""

    name = "stopping"
    version = "1"

    def __init__(self, at: int | None = None) -> None:
        self.at = at

    def process_item(self, item: Any, ctx: Any) -> Any:
        if item["_i"] == self.at:
            raise StopRun("enough")
        return item


def expected(count: int, spec: Generate = SPEC) -> list[dict[str, Any]]:
    return [{**spec.row(number), "_i": number} for number in range(count)]


def findings(bench: Bench, pipeline_id: str = "a") -> list[str]:
    return [finding for account in verify(bench.run_state(pipeline_id)) for finding in account.findings]


def test_rows_are_drawn_from_lists_and_are_the_same_for_the_same_seed() -> None:
    rows = [SPEC.row(number) for number in range(6000)]
    assert rows[:3] == [
        {"topic": "trees", "level": 2, "lang": "en"},
        {"topic": "trees", "level": 1, "lang": "en"},
        {"topic": "stars", "level": 1, "lang": "en"},
    ]
    pairs = [(row["topic"], row["level"]) for row in rows]
    assert all(900 < pairs.count((topic, level)) < 1100 for topic in ("birds", "trees", "stars") for level in (1, 2))
    assert rows == [Generate(SPEC.rows, seed=5).row(number) for number in range(6000)]
    assert rows != [Generate(SPEC.rows, seed=6).row(number) for number in range(6000)]


def test_one_of_several_rows_is_drawn(bench: Bench) -> None:
    spec = Generate([{"a": [1, 2]}, {"b": 10**30}], n=50)
    bench.pipeline([same], input=spec, input_uri=None).create("a").run()
    rows = lines(bench.output)
    assert rows == expected(50, spec)
    assert {"a": [1, 2]} in [spec.row(n) for n in range(50)]
    assert {"b": 10**30} in [spec.row(n) for n in range(50)]


@pytest.mark.sampled(1)
@pytest.mark.parametrize("stop", [0, 1, 511, 700])
def test_a_run_without_an_end_is_stopped_and_goes_on(bench: Bench, stop: int) -> None:
    settings = {"input": SPEC, "input_uri": None, "streaming": True}
    first = bench.pipeline([Stopping(stop), same], **settings).create("a").run()
    assert first.status == "stopped"
    assert findings(bench) == []
    second = bench.pipeline([Stopping(1000), same], **settings).resume("a").run()
    assert (second.status, second.nodes[0].total) == ("stopped", None)
    rows = sorted(lines(bench.output), key=lambda row: int(row["_i"]))
    assert rows == expected(len(rows))
    assert len(rows) >= stop
    (source, *_) = stream_nodes_of(bench.run_state("a"))
    assert [row["_i"] for row in lines(bench.between("a"))][:1] == [next(iter(source.rows()))[0]]
    assert findings(bench) == []


DYING = """
import os, signal, sys
from llm_datagen import Generate, UnifiedPipeline

class Dying:
    name = "dying"
    def process_item(self, item, ctx):
        if item["_i"] == int(sys.argv[1]):
            os.kill(os.getpid(), signal.SIGKILL)
        return item

UnifiedPipeline([Dying()], output_uri="out.jsonl", log_file=None, parallel_size=3,
    input=Generate({"topic": ["birds", "trees", "stars"], "level": [1, 2], "lang": "en"}, n=1500, seed=5),
).create("a", if_exists="resume").run()
"""


def test_a_killed_run_has_each_row_once(tmp_path: Path) -> None:
    for stop in (3, 600, 1499):
        assert programs.run(["-c", DYING, str(stop)], cwd=tmp_path).returncode == -signal.SIGKILL
    assert programs.run(["-c", DYING, "-1"], cwd=tmp_path).returncode == 0
    assert sorted(lines(tmp_path / "out.jsonl"), key=lambda row: int(row["_i"])) == expected(1500)


def test_the_file_of_a_run_says_what_was_generated_and_may_not_be_edited(bench: Bench) -> None:
    bench.pipeline([Stopping(10)], input=Generate({"a": [1]}, n=100), input_uri=None).create("a").run()
    (path,) = (bench.folder / "results" / "a").glob("spooled-input.json")
    assert json.loads(path.read_text()) == {"rows": {"a": [1]}, "n": 100, "seed": 0}
    path.write_text(path.read_text().replace("[1]", "[2]"))
    with pytest.raises(StreamChangedError, match=r"was edited since the run was made .column 'a'"):
        bench.pipeline([Stopping()], input_uri=None).resume("a")


def test_a_run_that_was_stopped_goes_on_to_a_larger_n(bench: Bench) -> None:
    def spec(n: int | None, seed: int = 5) -> dict[str, Any]:
        return {"input": Generate(SPEC.rows, n=n, seed=seed), "input_uri": None}

    bench.pipeline([Stopping(10)], **spec(100)).create("a").run()
    with pytest.raises(StreamChangedError, match=r"input was edited since the run was made .seed"):
        bench.pipeline([Stopping()], **spec(100, seed=6)).resume("a")
    with pytest.raises(StreamChangedError, match=r"with n=5 there are 5 rows, and .* were read"):
        bench.pipeline([Stopping()], **spec(5)).resume("a")
    done = len(lines(bench.output))
    (node,) = bench.pipeline([Stopping()], **spec(700)).diff("a").nodes
    assert (node.rows_kept, node.rows_to_do) == (done, 700 - done)
    bench.pipeline([Stopping(300)], **spec(700)).resume("a").run()
    report = bench.pipeline([Stopping()], input_uri=None).resume("a").run()  # as the run state says
    assert (report.status, report.nodes[0].total) == ("completed", 700)
    assert sorted(lines(bench.output), key=lambda row: int(row["_i"])) == expected(700)
    assert findings(bench) == []


def seeds(folder: Path, kind: str) -> str:
    """Make five rows in a format; return their URI."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [{"n": n} for n in range(5)]
    if kind == "jsonl":
        return str(write_jsonl(folder / "s.jsonl", rows))
    if kind == "csv":
        (folder / "s.csv").write_text("n\n" + "".join(f"{n}\n" for n in range(5)))
        return f"csv://{folder}/s.csv"
    if kind == "parquet":
        pq.write_table(pa.table({"n": list(range(5)), "more": ["x"] * 5}), folder / "s.parquet")
        return f"{folder}/s.parquet?columns=n"
    (folder / "many").mkdir()
    write_jsonl(folder / "many" / "a.jsonl", rows[:2])
    (folder / "many" / "b.csv").write_text("n\n2\n3\n4\n")
    return f"{folder}/many/"


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet", "many"])
def test_an_input_is_read_again_and_again(bench: Bench, kind: str) -> None:
    cycle = Cycle(seeds(bench.folder, kind), times=4, n=17)
    settings: dict[str, Any] = {
        "input": cycle,
        "input_uri": None,
        "source_column": "_source",
        "data_config": {"dtypes": {"n": "int"}},
    }
    bench.pipeline([Stopping(8)], **settings).create("a").run()
    report = bench.pipeline([Stopping()], **settings).resume("a").run()
    assert (report.status, report.nodes[0].total) == ("completed", 17)
    rows = sorted(lines(bench.output), key=lambda row: int(row["_i"]))
    assert [(row["_i"], row["n"]) for row in rows] == [(number, number % 5) for number in range(17)]
    assert [(row["_source"]["round"], row["_source"]["row"]) for row in rows] == [
        divmod(number, 5) for number in range(17)
    ]
    assert findings(bench) == []


def test_a_cycle_without_an_end_goes_on_until_it_is_stopped(bench: Bench) -> None:
    settings = {"input": Cycle(seeds(bench.folder, "jsonl")), "input_uri": None}
    assert bench.pipeline([Stopping(1234)], **settings).create("a").run().status == "stopped"
    rows = sorted(lines(bench.output), key=lambda row: int(row["_i"]))
    assert [row["n"] for row in rows] == [number % 5 for number in range(len(rows))]
    assert len(rows) >= 1234


@pytest.mark.parametrize(
    ("edit", "error"),
    [
        (lambda path: path.write_text(path.read_text() + '{"n":5}\n'), "has 6 rows, and had 5"),
        (lambda path: path.write_text(path.read_text().replace("4", "7")), "was edited"),
    ],
)
def test_a_cycled_file_must_stay_as_it_was(bench: Bench, edit: Any, error: str) -> None:
    settings = {"input": Cycle(seeds(bench.folder, "jsonl"), times=9), "input_uri": None}
    bench.pipeline([Stopping(8)], **settings).create("a").run()
    edit(bench.folder / "s.jsonl")
    with pytest.raises(StreamChangedError, match=error):
        bench.pipeline([Stopping()], **settings).resume("a")


def test_a_row_that_cannot_be_read_is_named_with_its_round(bench: Bench) -> None:
    (bench.folder / "s.jsonl").write_text('{"n":0}\nno\n')
    cycle = Cycle(str(bench.folder / "s.jsonl"), times=2)
    bench.pipeline([same], input=cycle, input_uri=None, on_error="dead_letter").create("a").run()
    texts = [row["error"]["text"] for row in lines(Path(f"{bench.output}.errors.jsonl"))]
    assert [text[: text.index(":")] for text in texts] == [
        f"{bench.folder}/s.jsonl, row 1 in round 0",
        f"{bench.folder}/s.jsonl, row 1 in round 1",
    ]
    assert [row["_i"] for row in lines(bench.output)] == [0, 2]


def test_a_cycle_of_nothing_is_refused(bench: Bench) -> None:
    empty = bench.folder / "s.jsonl"
    with pytest.warns(UserWarning, match="does not exist"):
        pipeline = bench.pipeline([same], input=Cycle(str(empty)), input_uri=None).create("a")
    with pytest.raises(StreamMissingError, match=r"s\.jsonl does not exist"):
        pipeline.run()
    empty.touch()
    with pytest.raises(StreamError, match="has no rows, so there is nothing to read again and again"):
        bench.pipeline([same], input=Cycle(str(empty)), input_uri=None).create("b", if_exists="overwrite").run()


@pytest.mark.parametrize("endless", [SPEC, Cycle("s.jsonl")])
def test_an_input_without_an_end_needs_nodes_that_run_at_once(bench: Bench, endless: Any) -> None:
    write_jsonl(Path("s.jsonl") if isinstance(endless, Cycle) else bench.folder / "x.jsonl", [{"n": 1}])
    with pytest.raises(ConfigError, match="the input has no end, and nodes that run one after the other wait for it"):
        bench.pipeline([same, same], input=endless, input_uri=None).create("a")
    assert not (bench.folder / "results" / "a").exists()
    bench.pipeline([same, same], input=endless, input_uri=None, streaming=True).create("a")


def test_nodes_that_are_wired_by_hand_read_a_file_that_says_what_to_generate(bench: Bench) -> None:
    uri = Generate({"a": [1, 2]}, seed="s").save(bench.folder / "spec.json")
    nodes = [
        UnifiedNode("one").bind_io(uri, str(bench.folder / "one.jsonl")).set_operator(Stopping(40)),
        UnifiedNode("two").bind_io(str(bench.folder / "one.jsonl"), str(bench.output)).set_operator(same),
    ]
    settings: dict[str, Any] = {"results_dir": bench.folder / "results", "log_file": None}
    with pytest.raises(ConfigError, match="the input has no end"):
        UnifiedNodePipeline(nodes, streaming=False, **settings).create("a")
    UnifiedNodePipeline(nodes, **settings).create("a").run()
    rows = sorted(lines(bench.folder / "one.jsonl"), key=lambda row: int(row["_i"]))
    assert len(rows) >= 40
    assert [row["a"] for row in rows] == [Generate({"a": [1, 2]}, seed="s").row(n)["a"] for n in range(len(rows))]


def test_rows_with_ids_are_no_cycle_for_a_node_that_keeps_them(bench: Bench) -> None:
    write_jsonl(bench.input, [{"n": 1}, {"n": 2, "_i": 7}])
    node = UnifiedNode("one", log_file=None).bind_io(f"cycle://{bench.input}?times=2", str(bench.output))
    with pytest.raises(IdError, match="row 1 in round 0: the row has an id, the same in each round"):
        node.set_operator(same).run()
    bench.pipeline([same], input_uri=f"cycle://{bench.input}?times=2").create("a").run()
    assert [(row["_i"], row.get("_i_in")) for row in lines(bench.output)] == [(0, None), (1, 7), (2, None), (3, 7)]


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: Generate({}), "a row must be"),
        (lambda: Generate([]), r"rows must be \{column: list of values"),
        (lambda: Generate({"a": []}), "column 'a' has an empty list"),
        (lambda: Generate({"_i": [1]}), "a column cannot be called '_i'"),
        (lambda: Generate({"a": [float("nan")]}), "a row holds what JSON cannot"),
        (lambda: Generate({"a": [{1}]}), "a row holds what JSON cannot"),
        (lambda: Generate({"a": 1}, n=0), "n must be a whole number from 1 on"),
        (lambda: Generate({"a": 1}, seed=cast(int, 1.5)), "seed must be"),
        (lambda: Cycle("s.jsonl", times=0), "times must be a whole number from 1 on"),
        (lambda: Cycle("s?times=3.jsonl", times=2), "would be read as a file with bounds"),
        (lambda: Cycle(""), "Cycle needs the URI of an input"),
    ],
)
def test_what_cannot_be_an_input_is_refused(make: Any, error: str) -> None:
    with pytest.raises(ConfigError, match=error):
        make()


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ({"generate": {"a": 1}, "m": 3}, "input: 'm' is not known; known are generate, n, seed|did you mean 'n'"),
        ({"cycle": "s.jsonl", "time": 3}, "input: 'time' is not known; did you mean 'times'"),
        ({"generate": {"a": []}}, "input: column 'a' has an empty list"),
        ({"rows": 3}, "input must be rows: .*, not dict with other keys .rows"),
    ],
)
def test_an_error_of_yaml_names_the_key(value: Any, error: str) -> None:
    from llm_datagen.pipeline.made_inputs import check_input_rows

    with pytest.raises(ConfigError, match=error.replace("{", r"\{")):
        check_input_rows("input", value)


@pytest.mark.parametrize(
    "uri",
    ["cycle://s.jsonl?times=x", "cycle://s.jsonl?n=0", "cycle://s.jsonl?times=2&times=3", "cycle://cycle://s.jsonl"],
)
def test_a_wrong_uri_is_refused(uri: str, bench: Bench) -> None:
    with pytest.raises(ConfigError, match=r"whole number|given twice|cannot be read again"):
        bench.pipeline([same], input_uri=uri)


def test_nothing_is_written_to_a_computed_input(bench: Bench) -> None:
    write_jsonl(bench.input, [{"n": 1}])
    with pytest.raises(StreamError, match="is only read: its rows are computed"):
        bench.pipeline([same], output_uri=f"cycle://{bench.folder}/x.jsonl").create("a").run()

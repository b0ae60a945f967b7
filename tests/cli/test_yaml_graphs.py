"""Graphs in a pipeline file: nodes with `from` and `to`, run by every command, the same run as from Python (M31)."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path
from typing import Any

import pytest

from llm_datagen import Generate, NodeFailedError, UnifiedNode, UnifiedNodePipeline, ops
from llm_datagen.cli.target import find_target
from llm_datagen.cli.yaml_nodes import GRAPH, NODE
from llm_datagen.config import settings_in
from llm_datagen.errors import ResumeWarning
from llm_datagen.operators import FunctionOperator
from llm_datagen.pipeline.settings import NodeAloneSettings, NodePipelineOptions
from llm_datagen.runs import RunFolder, told_waits
from llm_datagen.runs.verify import verify

from ..kit.support import lines, numbered, write_jsonl
from .conftest import Command
from .shell import Shell

GRAPH_FILE = """\
input_uri: jsonl://in.jsonl
output_uri: jsonl://out.jsonl
on_error: dead_letter
nodes:
  sort:
    use: ops:odd_or_even
    from: input
    to: [odd, even]
    route: {use: ops.RouteBy, with: {column: kind}}
  left:
    use: ops:picky
    from: sort.odd
    parallel_size: 2
  right:
    use: ops:twice
    from: sort.even
    to: csv://right.csv
  both:
    use: ops:counted
    from: {left: left, right: right}
    to: output
    on_error: fail
"""

OPERATORS = '''

def odd_or_even(item):
    return {**item, "kind": "odd" if item["n"] % 2 else "even"}


def counted(item):
    """Notes each call; fails of a row, until a file is made."""
    if int(item["n"]) == 33 and not Path("whole").exists():
        raise ValueError("33 is too much")
    with open("calls", "a") as calls:
        calls.write(f"{item['n']}\\n")
    return item


def mortal(item, rows=("101", "301", "304", "503", "552")):
    """Kills the process once for each of some rows, after some milliseconds in which others are committed."""
    time.sleep(0.001)
    died = Path(f"died-{item['n']}")
    if str(item["n"]) in rows and not died.exists():
        time.sleep(0.02)
        died.touch()
        os.kill(os.getpid(), 9)
    return item


def mortal_sort(item):
    return odd_or_even(mortal(item, rows=("200", "400")))


def rule(item):
    return item["kind"] if item["n"] % 5 else None
'''


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """A folder with operators, an input and a graph."""
    shell = Shell(tmp_path)
    with (tmp_path / "ops.py").open("a") as file:
        file.write(OPERATORS)
    shell.text(GRAPH_FILE, "g.yaml")
    return shell


def test_a_graph_is_described_run_looked_at_and_replayed(shell: Shell, command: Command) -> None:
    """C1: everything that runs a line runs it; streams that the file does not name lie in the folder of the run."""
    assert command("describe", "g.yaml").stdout.splitlines() == [
        "streaming: all nodes at once",
        "jsonl://in.jsonl",
        "↓ sort: odd_or_even (parallel_size=1, batch_size=1)",
        "jsonl://tmp/PIPELINE_ID/sort.odd.jsonl.routed",
        "├─ sort.odd: select(odd) (parallel_size=1, batch_size=1)",
        "│  jsonl://tmp/PIPELINE_ID/sort.odd.jsonl",
        "│  ↓ left: picky (parallel_size=2, batch_size=1)",
        "│  jsonl://tmp/PIPELINE_ID/left.jsonl",
        "│  ↓ both.merge [left], below",
        "└─ sort.even: select(even) (parallel_size=1, batch_size=1)",
        "   jsonl://tmp/PIPELINE_ID/sort.even.jsonl",
        "   ↓ right: twice (parallel_size=1, batch_size=1)",
        "   csv://right.csv",
        "   ↓ both.merge [right]: merge(left, right) (parallel_size=1, batch_size=1)",
        "   jsonl://out.jsonl.merged",
        "   ↓ both: counted (parallel_size=1, batch_size=1)",
        "   jsonl://out.jsonl",
    ]
    mermaid = command("describe", "g.yaml", "--format", "mermaid").stdout
    assert mermaid.startswith("flowchart TD\n")
    assert ' -- "left" --> node5\n' in mermaid
    assert "both counted: 3 rows in, 3 out" in command("preview", "g.yaml", "-n", "4").stdout
    planned = json.loads(command("plan", "g.yaml", "--json").stdout)
    assert (planned["rows"], [node["node_id"] for node in planned["nodes"]][-1]) == (50, "both")

    (shell.folder / "calls").unlink()
    (shell.folder / "whole").touch()
    command("run", "g.yaml", "--id", "a")
    told = json.loads(command("status", "a", "--json").stdout)
    assert {node["node_id"]: node["rows_out"] for node in told["nodes"]} == {
        **{"sort": 50, "sort.odd": 25, "sort.even": 25, "left": 20, "right": 50, "both.merge": 70, "both": 70}
    }
    assert sorted(path.name for path in (shell.folder / "tmp/a").glob("*.jsonl")) == [
        "left.jsonl",
        "left.jsonl.errors.jsonl",
        "sort.even.jsonl",
        "sort.odd.jsonl",
    ]
    assert "left picky: ValueError, 4 rows" in command("errors", "a").stdout
    shell.mend()
    assert f"{shell.folder}/g.yaml\n" in command("replay", "a").stdout
    assert "nothing is wrong" in command("verify", "a").stdout
    assert "both counted  jsonl://out.jsonl\n  itself  7 " in command("trace", "a", "7").stdout
    rows = sorted(lines(shell.output), key=lambda row: str(row["_i"]))
    assert rows == sorted(
        [{"n": n, "_i": n, "kind": "odd"} for n in range(1, 50, 2)]
        + [{"n": str(n), "_i": f"{n}_{k}", "k": str(k)} for n in range(0, 50, 2) for k in range(2)],
        key=lambda row: str(row["_i"]),
    )
    assert len(shell.calls()) == 75


def in_python(inner: str = "tmp/{}") -> UnifiedNodePipeline:
    """Return the graph of the file, in Python."""
    import ops as module  # type: ignore[import-not-found]

    def nodes(run: str) -> list[UnifiedNode]:
        def between(name: str) -> str:
            return f"jsonl://{inner.format(run)}/{name}.jsonl"

        def node(name: str, operator: Any, **settings: Any) -> UnifiedNode:
            return UnifiedNode(name, **{"on_error": "dead_letter", **settings}).set_operator(operator)

        outputs = {name: between(f"sort.{name}") for name in ("odd", "even")}
        merged = {"left": between("left"), "right": "csv://right.csv"}
        return [
            node("sort", module.odd_or_even, follow_input=False).bind_io(
                "jsonl://in.jsonl", outputs, route=ops.RouteBy("kind")
            ),
            node("left", FunctionOperator(module.picky), parallel_size=2).bind_io(between("sort.odd"), between("left")),
            node("right", module.twice).bind_io(between("sort.even"), "csv://right.csv"),
            node("both", module.counted, on_error="fail").bind_io(merged, "jsonl://out.jsonl"),
        ]

    return UnifiedNodePipeline(nodes)


@pytest.mark.sampled(1)
@pytest.mark.parametrize("begins", ["file", "python"])
def test_a_run_from_a_file_and_one_from_python_are_the_same_and_go_on_with_each_other(
    shell: Shell, begins: str, recwarn: pytest.WarningsRecorder
) -> None:
    """M6: the run states say the same; each resumes what the other began, tells nothing, and calls nothing again."""
    of_file = find_target("g.yaml").pipeline.blueprint()[0]["nodes"]
    pipelines = [find_target("g.yaml").pipeline, in_python()]
    first, second = pipelines if begins == "file" else pipelines[::-1]
    apart = {"operator_ref": None, "is_output": None}  # only a file calls an output the one
    assert [{**node, **apart} for node in first.blueprint()[0]["nodes"]] == [
        {**node, **apart} for node in second.blueprint()[0]["nodes"]
    ]
    assert len(of_file) == 7
    assert isinstance(first, UnifiedNodePipeline)
    with pytest.raises(NodeFailedError, match="33 is too much"):
        first.create("a").run(progress=False)
    assert 0 < len(shell.calls()) < 75
    (shell.folder / "whole").touch()
    assert second.resume("a").run(progress=False).status == "completed"
    assert shell.calls() == sorted(
        [*(n for n in range(1, 50, 2) if n % 7 and n != 11), *range(0, 50, 2), *range(0, 50, 2)]
    )
    assert not [each for each in recwarn if issubclass(each.category, ResumeWarning)]
    assert [account.findings for account in verify(RunFolder(shell.folder / "tmp/results", "a").load())] == [[]] * 7


SHORT = """input_uri: in.jsonl
output_uri: out.jsonl
nodes:
  sort:
    use: ops:odd_or_even
    from: input
    to: [odd, even]
    route: ops:rule
  left:
    use: ops:odd
    from: sort.odd
  both:
    use: ops:odd
    from: {left: left, even: sort.even}
    to: output
"""

WRONG: list[tuple[str, str, int, str]] = [
    ("sort.odd", "sortt", 11, "nodes.left.from: there is no node 'sortt'; did you mean 'sort'?"),
    ("sort.odd", "sort.ood", 11, "nodes.left.from: node 'sort' has no output 'ood'; did you mean 'odd'?"),
    ("sort.odd", "sort", 11, "nodes.left.from: node 'sort' has several outputs: say which one, of sort.odd, sort.even"),
    ("sort.odd", "srot.odd", 11, "nodes.left.from: srot.odd: the extension '.odd' names no format; use one of .jsonl,"),
    ("sort.odd", "left", 11, "nodes.left.from: a circle: left → left; each reads what the one before it writes"),
    ("sort.odd", "both", 11, "nodes.left.from: a circle: left → both → left; each reads"),
    ("sort.odd", "output", 11, "nodes.left.from: 'output' is what the pipeline writes; name the node"),
    ("sort.odd", "'-'", 11, "nodes.left.from: '-' is standard input, which only a line of 'operators' reads"),
    ("sort.odd", "no://x", 11, "nodes.left.from: 'no://x': the protocol no:// is not known"),
    (
        "sort.odd",
        "5",
        11,
        "nodes.left.from: must be the name of a node, NODE.OUTPUT, 'input', or a path or URI; several",
    ),
    ("sort.odd", "[]", 11, "nodes.left.from: must be the name of a node"),
    ("{left: left, even: sort.even}", "[left, lft]", 14, "nodes.both.from[1]: there is no node 'lft'; did you mean"),
    ("{left: left, even: sort.even}", "{l: left, e: lft}", 14, "nodes.both.from.e: there is no node 'lft'; did you"),
    (
        "{left: left, even: sort.even}",
        "[left, left, sort.even]",
        12,
        "nodes.both would read the same stream twice, as in0 and",
    ),
    (
        "{left: left, even: sort.even}",
        "left",
        7,
        "nodes.sort.to.even: nobody reads its rows: let a node do so (from: sort.even), or say where they go (even: "
        "output, or even: PATH)",
    ),
    ("from: left,", "from: sort.odd,", 9, "nodes.left: nobody reads its rows: let a node do so (from: left), or say"),
    (
        "to: output",
        "to: left",
        15,
        "nodes.both.to: 'left' is a node: nodes say what they read, so write it there, from: b",
    ),
    ("to: output", "to: outputt", 15, "nodes.both.to: outputt: the extension '' names no format"),
    ("to: output", "to: o.parquet", 15, "nodes.both.to: 'o.parquet' is made from a finished stream; a graph writes"),
    ("to: output", "to: '-'", 15, "nodes.both.to: '-' is standard output; a graph writes streams"),
    ("to: output", "to: o.jsonl", 2, "output_uri: no node writes it: give one of them to: output"),
    ("from: input", "from: in.jsonl", 1, "input_uri: no node reads it: give one of them from: input"),
    ("input_uri: in.jsonl\n", "", 5, "nodes.sort.from: 'input' is input_uri, which the file does not say"),
    ("output_uri: out.jsonl\n", "", 14, "nodes.both.to: 'output' is output_uri, which the file does not say"),
    ("[odd, even]", "{odd: output, even: }", 15, "nodes.both.to: nodes.sort.to.odd writes 'out.jsonl', too: each"),
    ("[odd, even]", "{odd: x.jsonl, even: ./x.jsonl}", 7, "nodes.sort.to.even: nodes.sort.to.odd writes './x.jsonl'"),
    ("[odd, even]", "[odd, odd, even]", 7, "nodes.sort.to: an output is named twice: odd, odd, even"),
    (
        "[odd, even]",
        "[odd, even, a.b]",
        7,
        "nodes.sort.to: the name of an output must be letters, digits, _ and -, not",
    ),
    ("[odd, even]", "[yes, no]", 7, "nodes.sort.to: has an output True, and names must be text: quote it"),
    ("[odd, even]", "{no: a.jsonl}", 7, "nodes.sort.to: has an output False, and names must be text: quote it"),
    ("ops:rule", "ops:ruel", 8, "nodes.sort.route.use: ops has no 'ruel'; did you mean 'rule'?"),
    (
        "ops:rule",
        "{use: ops.RouteWhen, with: {conditions: {ood: n > 1}}}",
        8,
        "nodes.sort.route sends rows to 'ood'; the outputs are odd, even",
    ),
    (
        "ops:rule",
        "{use: ops.RouteBy, wiht: {}}",
        8,
        "nodes.sort.route.wiht: this key is not known; did you mean 'with'?",
    ),
    ("ops:rule", "{use: ops.RouteBy}", 8, "nodes.sort.route.with.column: this key is missing"),
    ("ops:rule", "ops:OPERATORS", 8, "nodes.sort.route.use: "),
    ("from: input", "form: input", 6, "nodes.sort.form: this key is not known; did you mean 'from'?"),
    (
        "from: input",
        "form: input",
        4,
        "nodes.sort.from: this key is missing; say what the node reads, such as from: input",
    ),
    (
        "    from: input\n",
        "    needs: input\n",
        6,
        "nodes.sort.needs: this key is not known; what a node reads is said",
    ),
    (
        "  left:\n",
        "  left:\n    route: ops:rule\n",
        10,
        "nodes.left.route: it is for several outputs: give their names",
    ),
    ("  left:\n", "  left:\n    ids: keep\n", 10, "nodes.left.ids: it is for several inputs: from: [NODE, NODE]"),
    ("  left:\n", "  left:\n    ids: none\n", 10, "nodes.left.ids: must be one of 'keep', 'rename', not 'none'"),
    ("  left:\n", "  left:\n    retries: -1\n", 10, "nodes.left.retries: must be a whole number of at least 0, not -1"),
    ("  left:\n", "  left:\n    follow_input: true\n", 10, "nodes.left.follow_input is of nodes that read a file"),
    ("  left:\n", "  le ft:\n", 9, "nodes.le ft: the name of a node must be letters, digits, _ and -, and begin with"),
    ("  left:\n", "  input:\n", 9, "nodes.input: 'input' is what the pipeline's own input is called: choose another"),
    ("  left:\n", "  sort:\n", 9, "this is not YAML: the key 'sort' is there already, in line 4"),
    ("  left:\n", "  7:\n", 3, "nodes: keys must be text, not 7"),
    ("use: ops:odd\n", "use: ops:ood\n", 10, "nodes.left.use: ops has no 'ood'; did you mean 'odd'?"),
    ("nodes:\n", "keep_ids: true\nnodes:\n", 3, "keep_ids: this key is not known; it is of a line of 'operators'"),
    (
        "nodes:\n",
        "input: [{n: 1}]\nnodes:\n",
        3,
        "input: this key is not known; a graph reads streams: input_uri, or from:",
    ),
    ("nodes:\n", "default_protocol: jsonl\nnodes:\n", 3, "default_protocol must be such as 'jsonl://', not 'jsonl'"),
    ("  left:\n", "  no:\n", 3, "nodes: keys must be text, not False: quote it"),
    ("nodes:\n", "batch_by: parent\nnodes:\n", 3, "batch_by: this key is not known; it is said of a node: put it into"),
    ("nodes:\n", "operators: [ops:odd]\nnodes:\n", 4, "nodes: the file has 'operators', too; a line has these"),
    ("nodes:\n", "noeds:\n", 3, "noeds: this key is not known; did you mean 'nodes'?"),
    ("nodes:\n", "streamin: true\nnodes:\n", 3, "streamin: this key is not known; did you mean 'streaming'?"),
]


@pytest.mark.sampled(5)
@pytest.mark.parametrize(("old", "new", "line", "message"), WRONG, ids=[each[3][:50] for each in WRONG])
def test_what_is_wrong_with_a_graph_is_said_with_its_line_and_its_key(
    shell: Shell, command: Command, old: str, new: str, line: int, message: str
) -> None:
    """And with what to do; nothing is touched."""
    text = SHORT
    if old == "from: left,":  # two nodes read the same output, and one of them is read by nobody
        text = SHORT.replace("{left: left, even: sort.even}", "{left: sort.odd, even: sort.even}")
    else:
        assert old in text
        text = text.replace(old, new, 1)
    (shell.folder / "p.yaml").write_text(text)
    output = command("run", "p.yaml", code=2).stderr
    assert re.search(rf"(Error: p\.yaml,|^ ) line {line}(, column \d+)?: {re.escape(message)}", output, re.M), output
    assert not (shell.folder / "tmp").exists()


def test_a_file_without_operators_and_nodes_is_refused(shell: Shell, command: Command) -> None:
    shell.text("input_uri: in.jsonl\noutput_uri: out.jsonl\n")
    assert "operators: this key is missing; or 'nodes', for a graph" in command("run", "p.yaml", code=2).stderr
    shell.text("nodes: {}\n")
    assert "p.yaml, line 1: nodes: must not be empty" in command("run", "p.yaml", code=2).stderr


def test_settings_are_of_all_nodes_or_of_one(shell: Shell, command: Command) -> None:
    """What is about an input is of nodes that read files; a node's own writer_config changes what it names."""
    of_all = {"retries": 1, "grace": 5, "idle_timeout": 9, "source_column": "_source", "id_scheme": "numeric"}
    of_all |= {"writer_config": {"queue_size": 7, "fsync": "never"}, "streaming": False, "base_path": "between"}
    own = {"retries": 3, "parallel_size": 2, "writer_config": {"fsync": "flush"}, "idle_timeout": 4}
    text = SHORT.replace("nodes:\n", "".join(f"{key}: {json.dumps(of_all[key])}\n" for key in of_all) + "nodes:\n")
    text = text.replace("  left:\n", "  left:\n" + "".join(f"    {key}: {json.dumps(own[key])}\n" for key in own))
    (shell.folder / "p.yaml").write_text(text.replace("[odd, even]", "{odd: , even: even.jsonl}"))
    command("run", "p.yaml", "--id", "a", "--set", "grace=6", "--output", "other.jsonl")
    state = RunFolder(shell.folder / "tmp/results", "a").load()
    assert state["config"] == {"streaming": False}
    nodes = {node["node_id"]: node for node in state["nodes"]}
    names = ("retries", "grace", "idle_timeout", "source_column", "id_scheme", "follow_input")
    assert [nodes["sort"][name] for name in names] == [1, 6, 9, "_source", "numeric", False]
    assert [nodes["left"][name] for name in names] == [3, 6, 4, None, "numeric", True]
    assert (nodes["left"]["parallel_size"], nodes["both"]["parallel_size"]) == (2, 1)
    writers = [nodes[name]["writer_config"] for name in ("sort", "left", "both")]
    assert [(writer["queue_size"], writer["fsync"]) for writer in writers] == [(7, "never"), (7, "flush"), (7, "never")]
    assert [nodes[name]["output_uri"] for name in ("sort.odd", "sort.even", "both")] == [
        "jsonl://between/a/sort.odd.jsonl",
        "even.jsonl",
        "other.jsonl",
    ]
    assert [row["n"] for row in lines(shell.folder / "even.jsonl")] == [n for n in range(0, 50, 2) if n % 5]


@pytest.mark.slow
def test_two_runs_of_a_graph_share_no_stream(shell: Shell, command: Command) -> None:
    command("run", shell.text(SHORT), "--id", "a")
    command("run", "p.yaml", "--id", "b", "--output", "b.jsonl")
    assert (shell.folder / "tmp/a/left.jsonl").read_bytes() == (shell.folder / "tmp/b/left.jsonl").read_bytes()
    assert len(lines(shell.folder / "b.jsonl")) == len(lines(shell.output)) == 20


def test_files_nobody_writes_are_read_side_by_side_and_files_of_nodes_are_joined(
    shell: Shell, command: Command
) -> None:
    """Inputs of a list are in0, in1; a list of one is that one. A path that a node writes is that node."""
    write_jsonl(shell.folder / "more.jsonl", numbered(3))
    shell.text("""
        nodes:
          both: {use: "ops:odd", from: [in.jsonl, ./more.jsonl], to: both.jsonl}
          last: {use: "ops:odd", from: [./both.jsonl], to: out.jsonl}
    """)
    command("run", "p.yaml", "--id", "a")
    ids = [row["_i"] for row in lines(shell.output)]
    assert sorted(ids) == sorted([*(f"{n}_in0" for n in range(1, 50, 2)), "1_in1"])


def test_inputs_that_are_computed_are_read_and_previewed(shell: Shell, command: Command) -> None:
    (shell.folder / "spec.json").write_text(Generate({"n": [7]}, n=3).dump().decode())
    shell.text("""
        input_uri: generate://spec.json
        nodes:
          both: {use: "ops:odd", from: [input, "cycle://in.jsonl?times=2&n=60"], to: out.jsonl}
    """)
    assert "both odd: 2 rows in, 1 out" in command("preview", "p.yaml", "-n", "2").stdout
    command("run", "p.yaml", "--id", "a")
    assert sorted(row["n"] for row in lines(shell.output)) == sorted([7] * 3 + [*range(1, 50, 2), *range(1, 10, 2)])


@pytest.mark.slow
def test_a_target_is_for_the_rows_of_the_output_or_for_those_of_a_node(shell: Shell, command: Command) -> None:
    """Exactly so many, of an input without end."""
    text = SHORT.replace("input_uri: in.jsonl", "input_uri: cycle://in.jsonl")
    shell.text(text.replace("nodes:\n", "target: 70\nnodes:\n"))
    command("run", "p.yaml", "--id", "a")
    nodes = {node["node_id"]: node for node in RunFolder(shell.folder / "tmp/results", "a").load()["nodes"]}
    assert {name: nodes[name]["target"] for name in ("sort", "left", "both")} == {
        "sort": None,
        "left": None,
        "both": 70,
    }
    assert len(lines(shell.output)) == 70
    assert "nothing is wrong" in command("verify", "a").stdout
    told = command("run", "p.yaml", "--id", "b", "--output", "b.jsonl", "--set", "target=0", code=2).stderr
    assert "p.yaml: target: must be a whole number of at least 1, not 0" in told
    shell.text("target: 5\n" + SHORT.replace("output_uri: out.jsonl\n", "").replace("to: output", "to: out.jsonl"))
    told = command("run", "p.yaml", "--id", "c", code=2).stderr
    assert "p.yaml, line 1: target: it is for the rows of the pipeline's output, and no node has to: output" in told


@pytest.mark.slow
def test_a_changed_rule_is_named_by_a_resume(shell: Shell, command: Command) -> None:
    """M6: a rule is a part of its node: what it sent where is not mixed with what it would send now."""
    rule = "{use: ops.RouteWhen, with: {conditions: {odd: n % 2 == 1}, otherwise: even}}"
    text = SHORT.replace("ops:rule", rule).replace("use: ops:odd\n    from: {", "use: ops:counted\n    from: {")
    (shell.folder / "p.yaml").write_text(text)
    command("run", "p.yaml", "--id", "a", code=1)
    (shell.folder / "whole").touch()
    (shell.folder / "p.yaml").write_text(text.replace("== 1", "== 0"))
    told = command("resume", "a", code=1).stderr
    assert "sort (odd_or_even): route: condition of odd 'n % 2 == 1' → 'n % 2 == 0'" in told
    command("resume", "a", "--rerun")
    assert sorted(row["n"] for row in lines(shell.folder / "tmp/a/sort.odd.jsonl")) == list(range(0, 50, 2))
    assert "nothing is wrong" in command("verify", "a").stdout


@pytest.mark.slow
def test_nodes_that_are_added_to_a_file_do_their_rows_and_what_is_before_them_stays(
    shell: Shell, command: Command
) -> None:
    """M6: also the streams of new nodes lie in the folder of the run; `diff` says it before."""
    text = "input_uri: in.jsonl\noutput_uri: out.jsonl\nnodes:\n  a: {use: 'ops:odd', from: input}\n"
    shell.text(text + "  b: {use: 'ops:twice', from: a, to: output}\n")
    command("run", "p.yaml", "--id", "a")
    before = (shell.folder / "tmp/a/a.jsonl").stat().st_mtime_ns
    added = "  mid: {use: 'ops:odd_or_even', from: a}\n  b: {use: 'ops:twice', from: mid, to: output}\n"
    shell.text(text + added + "  c: {use: 'ops:odd', from: mid, to: c.jsonl}\n")
    told = command("resume", "a", code=1).stderr
    assert "Changed: mid (odd_or_even): it was added; b (twice): it reads something else (25 rows are done)" in told
    assert "* mid: it was added" in command("diff", "a").stdout
    command("resume", "a", "--rerun")
    assert (shell.folder / "tmp/a/a.jsonl").stat().st_mtime_ns == before
    counts = [len(lines(shell.folder / name)) for name in ("tmp/a/mid.jsonl", "out.jsonl", "c.jsonl")]
    assert counts == [25, 50, 25]
    assert "nothing is wrong" in command("verify", "a").stdout


def test_a_loop_is_an_operator_of_a_node(shell: Shell, command: Command) -> None:
    loop = {"body": [{"use": "ops:add", "with": {"much": 2}}], "until": "n > 50", "max_rounds": 30}
    shell.text(f"nodes: {{a: {{use: ops.Loop, from: in.jsonl, to: out.jsonl, with: {json.dumps(loop)}}}}}\n")
    command("run", "p.yaml", "--id", "a")
    assert sorted({row["n"] for row in lines(shell.output)}) == [51, 52]


def test_a_node_with_several_outputs_may_keep_some_of_the_rows(shell: Shell, command: Command) -> None:
    shell.text(
        "nodes: {a: {use: ops.Keep, with: {condition: n >= 40}, from: in.jsonl, to: {odd: odd.jsonl, even: output}, "
        "route: {use: ops.RouteWhen, with: {conditions: {odd: n % 2 == 1}, otherwise: even}}}}\noutput_uri: out.jsonl\n"
    )
    command("run", "p.yaml", "--id", "a")
    assert sorted(row["n"] for row in lines(shell.folder / "odd.jsonl")) == [41, 43, 45, 47, 49]
    assert sorted(row["n"] for row in lines(shell.output)) == [40, 42, 44, 46, 48]


def test_the_keys_are_the_settings_of_nodes_and_of_their_pipeline() -> None:
    of_node = {*settings_in(NodeAloneSettings)} - {"hooks", "log_file"}
    assert set(NODE.model_fields) == of_node | {"use", "with_", "name", "batch", "from_", "to", "route", "ids"}
    of_run = {*settings_in(NodePipelineOptions)} - {"hooks"}
    between = {"base_path", "protocol_prefix", "default_protocol"}
    ends = {"nodes", "input_uri", "output_uri", "pipeline_id"}
    assert set(GRAPH.model_fields) == of_node - {"batch_by"} | of_run | between | ends


@pytest.mark.slow
@pytest.mark.process
def test_a_graph_that_is_killed_again_and_again_gives_each_row_once(shell: Shell, command: Command) -> None:
    """M21, S4: `resume ID` needs no file; the output is that of an uninterrupted run."""
    write_jsonl(shell.folder / "in.jsonl", numbered(600))
    text = GRAPH_FILE.replace("ops:odd_or_even", "ops:mortal_sort").replace("ops:picky", "ops:mortal")
    (shell.folder / "g.yaml").write_text(text.replace("ops:counted", "ops:mortal"))
    ended = [shell.run("run", "g.yaml", "--id", "a").returncode]
    while ended[-1] and len(ended) < 9:
        ended.append(shell.run("resume", "a").returncode)
    deaths = len(list(shell.folder.glob("died-*")))
    assert ended == [-signal.SIGKILL] * deaths + [0]
    assert deaths >= 3
    assert "nothing is wrong" in command("verify", "a").stdout
    wanted = [str(n) for n in range(1, 600, 2)] + [f"{n}_{k}" for n in range(0, 600, 2) for k in range(2)]
    assert sorted(str(row["_i"]) for row in lines(shell.output)) == sorted(wanted)


def test_a_long_look_at_an_input_is_told_on_standard_error(
    shell: Shell, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Standard output stays what it is, also where a program reads it."""
    monkeypatch.setattr(told_waits, "SECONDS_BEFORE_FIRST_LINE", 0)
    node = {"use": "ops:odd_or_even", "from": "input", "to": "output"}
    file = shell.text(
        json.dumps({"input_uri": "in.jsonl", "output_uri": "out.jsonl", "nodes": {"a": node}}), "one.yaml"
    )
    done = command("run", file, "--id", "one")
    assert done.stderr.splitlines() == ["in.jsonl: looking for ids that are there twice, 0 rows so far"]
    assert "looking for" not in done.stdout

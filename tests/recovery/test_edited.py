"""Operators and steps that were edited between two runs of one id: refused by name, accepted, or done again."""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llm_datagen import (
    ConfigError,
    DefaultPipelineHooks,
    NodeFailedError,
    OperatorChangedError,
    OperatorMismatchError,
    OperatorWarning,
    PipelineExistsError,
    UnifiedNode,
    UnifiedNodePipeline,
    UnifiedPipeline,
)
from llm_datagen.runs.verify import verify
from llm_datagen.streams.storage.local import LOCAL_STORAGE, LocalStorage

from ..kit import programs
from ..kit.support import Bench, lines, numbered, stored, write_jsonl
from ..pipeline import parts
from .edited_steps import CALLS, Step, Trouble, line, steps

ROWS = 12


class Heard(DefaultPipelineHooks):
    """What was logged."""

    def __init__(self) -> None:
        self.texts: list[tuple[str, str, str]] = []

    def on_log(self, cid: str, nid: str, level: str, message: str) -> None:
        self.texts.append((nid, level, message))


@pytest.fixture
def begun(bench: Bench) -> Bench:
    """A run "a" of three steps whose second one failed in the middle."""
    bench.give(numbered(ROWS))
    CALLS.clear()
    with pytest.raises(NodeFailedError):
        line(bench, [Step("A"), Step("B", fail_at=7), Step("C")]).create("a").run()
    return bench


def marks(bench: Bench) -> list[str]:
    return ["".join(row["by"]) for row in sorted(lines(bench.output), key=lambda row: row["n"])]


def kept_marks(bench: Bench, version: str = "a@1") -> list[str]:
    """Return the marks of the rows of an earlier version."""
    rows = stored(bench.run_state(version)["nodes"][-1]["output_uri"])
    return ["".join(row["by"]) for row in sorted(rows, key=lambda row: row["n"])]


def state(bench: Bench) -> dict[str, bytes]:
    return {
        str(path): path.read_bytes()
        for path in bench.folder.rglob("*")
        if path.is_file() and path.name not in {"lock", "owner.json", "platform.log"}
    }


def test_the_same_operators_go_on(begun: Bench) -> None:
    line(begun, [Step("A"), Step("B"), Step("C")]).resume("a").run()
    assert marks(begun) == ["ABC"] * ROWS
    assert CALLS["A"] == ROWS


def test_an_edited_operator_is_refused_by_name_and_nothing_is_changed(begun: Bench) -> None:
    before = state(begun)
    with pytest.raises(OperatorChangedError, match=r"node_1 \(B\): attribute mark \(7 rows are done\)") as caught:
        line(begun, [Step("A"), Step("B", "b"), Step("C")]).resume("a")
    assert caught.value.changes == {"node_1": ("attribute mark",)}
    assert "give create() or resume() on_change='accept'" in str(caught.value)
    assert "give create() or resume() on_change='rerun'" in str(caught.value)
    assert str(caught.value).endswith("before anything is spent: pipeline.diff('a')")
    assert "--" not in str(caught.value)
    assert isinstance(caught.value, OperatorMismatchError)
    assert state(begun) == before


def test_a_finished_node_of_an_unfinished_run_is_refused_as_well(begun: Bench) -> None:
    with pytest.raises(OperatorChangedError, match="node_0"):
        line(begun, [Step("A", "a"), Step("B"), Step("C")]).resume("a")


def test_an_operator_that_has_done_no_row_may_be_edited(begun: Bench) -> None:
    line(begun, [Step("A"), Step("B"), Step("C", "c")]).resume("a").run()
    assert marks(begun) == ["ABc"] * ROWS


def test_accepted_changes_are_noted_in_run_state_log_and_hooks(begun: Bench) -> None:
    heard = Heard()
    pipeline = line(begun, [Step("A"), Step("B", "b"), Step("C")], hooks=heard)
    pipeline.resume("a", on_change="accept")
    pipeline.run()
    assert marks(begun) == ["ABC"] * 7 + ["AbC"] * 5
    (note,) = begun.run_state("a")["nodes"][1]["changes"]
    assert (note["on_change"], note["parts"], note["rows"]) == ("accept", ["attribute mark"], 7)
    (logged,) = [entry for entry in begun.log_lines() if entry["event"] == "[Operator Changed]"]
    assert (logged["level"], logged["node_id"], logged["parts"]) == ("warning", "node_1", ["attribute mark"])
    assert [text[:2] for text in heard.texts] == [("node_1", "warning")]
    line(begun, [Step("A"), Step("B", "b"), Step("C")]).resume("a")  # the new one is the run's from now on
    with pytest.raises(OperatorChangedError):
        line(begun, [Step("A"), Step("B"), Step("C")]).resume("a")


@pytest.mark.slow
@pytest.mark.parametrize("edited", [0, 1])
def test_a_rerun_after_an_accepted_edit_does_its_rows_again(begun: Bench, edited: int) -> None:
    """Whether the node was done or not when the edit was accepted; what is before it stays, what follows does not."""
    now = ["aBC", "AbC"][edited]
    line(begun, steps(now)).resume("a", on_change="accept").run()
    assert "ABC" in marks(begun)
    CALLS.clear()
    heard = Heard()
    line(begun, steps(now), hooks=heard).resume("a", on_change="rerun").run()
    assert marks(begun) == [now] * ROWS
    assert dict(CALLS) == dict.fromkeys("ABC"[edited:], ROWS)
    ((node_id, level, text),) = heard.texts
    assert (node_id, level) == (f"node_{edited}", "warning")
    rows = (12, 7)[edited]
    assert text.startswith(f"{rows} rows are of an earlier version of the operator")
    assert "(attribute mark); done again" in text
    notes = begun.run_state("a")["nodes"][edited]["changes"]
    assert [(note["on_change"], note["parts"]) for note in notes] == [("accept", ["attribute mark"]), ("rerun", [])]
    CALLS.clear()
    line(begun, steps(now)).resume("a", on_change="rerun").run()  # none are left
    assert not CALLS


def test_an_accepted_edit_behind_an_edited_node_is_settled_by_its_rerun(begun: Bench) -> None:
    line(begun, steps("AbC")).resume("a", on_change="accept").run()
    line(begun, steps("abC")).resume("a", on_change="rerun").run()
    assert marks(begun) == ["abC"] * ROWS
    CALLS.clear()
    line(begun, steps("abC")).resume("a", on_change="rerun").run()
    assert not CALLS


def test_a_rerun_with_nothing_to_do_again_says_so(begun: Bench) -> None:
    heard = Heard()
    line(begun, steps("ABC"), hooks=heard).resume("a", on_change="rerun").run()
    ((node_id, level, text),) = heard.texts
    assert (node_id, level) == ("node_0", "warning")
    assert "nothing of this run is done again" in text
    (logged,) = [entry for entry in begun.log_lines() if entry["event"] == "[Not Used]"]
    assert (logged["node_id"], logged["message"]) == ("node_0", text)
    assert CALLS["A"] == ROWS
    assert not any("changes" in entry for entry in begun.run_state("a")["nodes"])


def test_a_refusal_tells_the_old_value_and_the_new_one(bench: Bench) -> None:
    bench.give(numbered(ROWS))

    def limited(limit: int) -> Step:
        step = Step("A")
        step.limit = limit  # type: ignore[attr-defined]
        return step

    line(bench, [limited(3)]).create("a").run()
    with pytest.raises(OperatorChangedError, match="attribute limit 3 → 4") as caught:
        line(bench, [limited(4)]).resume("a")
    assert caught.value.changes == {"node_0": ("attribute limit",)}


def test_a_rerun_keeps_what_is_before_the_edited_node(begun: Bench) -> None:
    line(begun, [Step("A"), Step("B", "b"), Step("C")]).resume("a", on_change="rerun").run()
    assert marks(begun) == ["AbC"] * ROWS
    assert CALLS["A"] == ROWS
    assert begun.run_state("a")["status"] == "completed"
    assert "reset" not in begun.run_state("a")


@pytest.mark.parametrize("on_change", ["refuse", "accept", "rerun"])
def test_a_finished_run_with_an_edited_operator_is_not_silently_completed(bench: Bench, on_change: Any) -> None:
    bench.give(numbered(ROWS))
    line(bench, [Step("A"), Step("B")]).create("a").run()
    pipeline = line(bench, [Step("A"), Step("B", "b")])
    if on_change == "refuse":
        with pytest.raises(OperatorChangedError):
            pipeline.resume("a")
        return
    pipeline.resume("a", on_change=on_change)
    report = pipeline.run()
    assert report.status == "completed"
    assert marks(bench) == ["AB" if on_change == "accept" else "Ab"] * ROWS
    assert len(bench.run_state("a")["nodes"][1]["changes"]) == 1


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    ("before", "after", "kept"),
    [
        ("ABC", "AC", "A"),
        ("ABC", "AB", "AB"),
        ("AB", "ABC", "AB"),
        ("A", "AB", "A"),
        ("AB", "A", "A"),
        ("ABC", "ACB", "A"),
        ("ABC", "AXBC", "A"),
        ("ABC", "XABC", ""),
        ("ABC", "BC", ""),
    ],
)
def test_steps_that_were_added_removed_or_moved(bench: Bench, before: str, after: str, kept: str) -> None:
    """What is before the first difference stays, also when its place is another one; no old file is mistaken."""
    bench.give(numbered(ROWS))
    line(bench, [Step(name) for name in before]).create("a").run()
    files = state(bench)
    for choice in ("refuse", "accept"):
        with pytest.raises(OperatorChangedError):
            line(bench, [Step(name) for name in after]).resume("a", on_change=choice)
    assert state(bench) == files
    CALLS.clear()
    line(bench, [Step(name) for name in after]).resume("a", on_change="rerun").run()
    assert marks(bench) == [after] * ROWS
    assert set(CALLS) == set(after[len(kept) :])
    for version, names in (("a", after), ("a@1", before)):
        data = {path.name for path in (bench.folder / "between" / version).glob("*.jsonl")}
        assert data == {f"node_{number}.jsonl" for number in range(len(names) - 1)}
        assert [account.findings for account in verify(bench.run_state(version))] == [[]] * len(names)
    assert kept_marks(bench) == [before] * ROWS
    line(bench, [Step(name) for name in after]).resume("a")  # and nothing is left to be said


class Death(BaseException):
    """The process dies here."""


def die_at(monkeypatch: pytest.MonkeyPatch, method: str, at: int) -> None:
    """Let the disk die at a step: before it, or behind it when `at` is odd."""
    plain = getattr(LocalStorage, method)
    left = [at // 2]

    def step(self: LocalStorage, *args: Any) -> Any:
        if "owner.json" in str(args[0]):  # when it lets go of the run
            return plain(self, *args)
        if self is LOCAL_STORAGE and left[0] == 0:
            if at % 2:
                with contextlib.suppress(FileNotFoundError):
                    plain(self, *args)
            raise Death
        left[0] -= 1
        return plain(self, *args)

    monkeypatch.setattr(LocalStorage, method, step)


@pytest.mark.slow
@pytest.mark.sampled(1, of=6)
@pytest.mark.parametrize(
    ("on_change", "method"), [("replace", "unlink"), ("replace", "rename"), ("rerun", "rename"), ("rerun", "link")]
)
@pytest.mark.parametrize("after", ["AC", "AXB", "A", "ABCD"])
def test_a_rerun_that_is_cut_short_at_any_step_is_finished_by_the_next_resume(
    bench: Bench, on_change: Any, method: str, after: str
) -> None:
    """Kill -9 while streams are taken away, shared or moved: never a mixture, never a refusal; no version is lost."""
    for at in range(0, 200, 5):  # before some steps, and behind others
        folder = Bench(bench.folder / str(at))
        folder.folder.mkdir()
        folder.give(numbered(3))
        line(folder, [Step(name) for name in "ABC"]).create("a").run()
        died = False
        with pytest.MonkeyPatch.context() as patch:
            die_at(patch, method, at)
            try:
                line(folder, [Step(name) for name in after]).resume("a", on_change=on_change)
            except Death:
                died = True
        line(folder, [Step(name) for name in after]).resume("a", on_change=on_change).run()
        assert marks(folder) == [after] * 3, at
        versions = {path.name for path in folder.results.iterdir()}
        assert versions == ({"a", "a@1"} if on_change == "rerun" else {"a"}), at
        for version in versions:
            assert not any(account.findings for account in verify(folder.run_state(version))), at
        if on_change == "rerun":
            assert kept_marks(folder) == ["ABC"] * 3, at
        if not died:
            return
    pytest.fail("it dies at every step")


def kill_rerun(bench: Bench, after: str, at: int) -> int:
    """Do a run again in a process that is killed at a disk step; return its exit status."""
    command = ["-m", f"{__package__}.rerun_job", bench.folder, after, at]
    return programs.run(command, cwd=Path(__file__).parents[2]).returncode


@pytest.mark.slow
@pytest.mark.sampled(1, of=2)
@pytest.mark.process
@pytest.mark.parametrize("after", ["AbC", "AXC", "A"])
def test_a_rerun_that_is_killed_is_never_a_mixture(bench: Bench, after: str) -> None:
    """SIGKILL before every 29th of the disk's steps of a rerun, from the first to the last."""
    killed = 0
    for at in itertools.count(0, 29):
        folder = Bench(bench.folder / str(at))
        folder.folder.mkdir()
        folder.give(numbered(3))
        line(folder, steps("ABC")).create("a").run()
        status = kill_rerun(folder, after, at)
        assert status in (0, -signal.SIGKILL)
        assert [account.findings for account in verify(folder.run_state("a")) if account.findings] == [], at
        line(folder, steps(after)).resume("a", on_change="rerun").run()
        assert marks(folder) == [after] * 3, at
        assert kept_marks(folder) == ["ABC"] * 3, at
        for version in ("a", "a@1"):
            accounts = verify(folder.run_state(version))
            assert not any(account.findings or account.unsettled for account in accounts), at
        if status == 0:
            break
        killed += 1
    assert killed > 2


@pytest.mark.sampled(3)
@pytest.mark.process
@pytest.mark.parametrize(
    "settings",
    [
        {"delivery": "at_most_once"},
        {"executor": "process", "parallel_size": 2},
        {"default_protocol": "memory://"},
        {"streaming": True},
        {"on_error": "dead_letter"},
    ],
)
def test_a_rerun_gives_only_rows_of_the_new_operators(bench: Bench, settings: dict[str, Any]) -> None:
    bench.give(numbered(ROWS))
    fail = "on_error" not in settings
    cut = [Step("A"), Step("B", fail_at=7), Step("C")]
    with pytest.raises(NodeFailedError) if fail else contextlib.nullcontext():
        line(bench, cut, **settings).create("a").run()
    line(bench, steps("AbC"), **settings).resume("a", on_change="rerun").run()
    assert marks(bench) == ["AbC"] * ROWS
    assert not [path for path in bench.folder.rglob("*.errors.jsonl") if path.parent.name != "a@1"]
    assert not any(account.findings for account in verify(bench.run_state("a")))


def test_a_foreign_file_where_a_new_stream_would_lie_is_not_deleted(bench: Bench) -> None:
    bench.give(numbered(3))
    line(bench, [Step("A"), Step("B")]).create("a").run()
    foreign = write_jsonl(bench.between("a", 1), [{"mine": True}])
    before = state(bench)
    with pytest.raises(PipelineExistsError, match=r"node_1\.jsonl"):
        line(bench, [Step("A"), Step("B"), Step("C")]).resume("a", on_change="rerun")
    assert state(bench) == before
    assert lines(foreign) == [{"mine": True}]


def test_an_edit_between_resume_and_run_is_noticed(begun: Bench) -> None:
    step = Step("B")
    pipeline = line(begun, [Step("A"), step, Step("C")]).resume("a")
    step.mark = "b"
    with pytest.raises(OperatorChangedError, match="attribute mark"):
        pipeline.run()


def test_what_an_operator_changes_itself_is_no_edit(bench: Bench) -> None:
    """In one process, the same objects go on, though their counters and caches have moved."""
    bench.give(numbered(ROWS))
    seen: list[int] = []
    trouble = Trouble(5)

    def remember(item: Any) -> Any:
        seen.append(item["n"])
        trouble.strike(item)
        return item

    remember.stateful = True  # type: ignore[attr-defined]
    with pytest.raises(NodeFailedError):
        line(bench, [remember]).create("a").run()
    line(bench, [remember]).resume("a").run()
    assert len(lines(bench.output)) == ROWS


def test_a_version_is_all_that_is_compared(bench: Bench) -> None:
    bench.give(numbered(ROWS))

    def versioned(mark: str, version: str) -> Step:
        step = Step("A", mark)
        step.version = version  # type: ignore[attr-defined]
        return step

    line(bench, [versioned("x", "1")]).create("a").run()
    line(bench, [versioned("y", "1")]).resume("a")
    with pytest.raises(OperatorChangedError, match="version"):
        line(bench, [versioned("y", "2")]).resume("a")


def test_a_run_state_of_an_older_version_is_resumed_with_a_warning(begun: Bench) -> None:
    path = begun.results / "a" / "runtime.json"
    run_state = json.loads(path.read_bytes())
    for entry in run_state["nodes"]:
        del entry["fingerprint"]
    run_state["format"] = 1
    del run_state["check"]
    path.write_text(json.dumps(run_state))
    heard = Heard()
    pipeline = line(begun, [Step("A"), Step("B", "b"), Step("C")], hooks=heard)
    with pytest.warns(OperatorWarning, match="not known") as given:
        pipeline.resume("a")
    assert [str(entry.message).split(":")[0] for entry in given] == ["node_0", "node_1"]
    pipeline.run()
    assert [(nid, level) for nid, level, text in heard.texts if "not known" in text] == [
        ("node_0", "warning"),
        ("node_1", "warning"),
    ]
    assert all(entry["fingerprint"] for entry in begun.run_state("a")["nodes"])


def test_a_wrong_choice_is_named(begun: Bench) -> None:
    with pytest.raises(ConfigError, match="on_change must be one of"):
        line(begun, [Step("A")]).resume("a", on_change="maybe")  # type: ignore[arg-type]


def test_create_that_resumes_takes_the_same_choices(begun: Bench) -> None:
    pipeline = line(begun, [Step("A"), Step("B", "b"), Step("C")])
    with pytest.raises(OperatorChangedError):
        pipeline.create("a", if_exists="resume")
    pipeline.create("a", if_exists="resume", on_change="rerun").run()
    assert marks(begun) == ["AbC"] * ROWS


def test_replay_takes_the_same_choices(bench: Bench) -> None:
    bench.give(numbered(ROWS))
    line(bench, [Step("A", fail_at=3), Step("B")], on_error="dead_letter").create("a").run()
    edited = line(bench, [Step("A", "a"), Step("B")])
    with pytest.raises(OperatorChangedError):
        edited.replay("a")
    edited.replay("a", on_change="accept")
    edited.run()
    assert marks(bench) == ["AB"] * 3 + ["aB"] + ["AB"] * 8


def left_or_right(row: Any) -> str:
    return "left" if row["n"] % 2 else "right"


def right_or_left(row: Any) -> str:
    return "right" if row["n"] % 2 else "left"


def graph(folder: Path, marks: str = "ABC", rule: Callable[[Any], str] = left_or_right) -> UnifiedNodePipeline:
    """Return a router with two outputs; B reads one, and C merges what B makes with the other one."""
    uri = {name: f"jsonl://{folder}/{name}.jsonl" for name in ("in", "left", "right", "b", "out")}
    nodes = [
        UnifiedNode("A", follow_input=False).bind_io(
            uri["in"], {"left": uri["left"], "right": uri["right"]}, route=rule
        ),
        UnifiedNode("B").bind_io(uri["left"], uri["b"]),
        UnifiedNode("C").bind_io({"b": uri["b"], "right": uri["right"]}, uri["out"]),
    ]
    for node, mark in zip(nodes, marks, strict=True):
        node.set_operator(Step(node.node_id, mark))
    return UnifiedNodePipeline(nodes, results_dir=folder / "results", log_file=None)


@pytest.mark.slow
@pytest.mark.sampled(1)
@pytest.mark.parametrize(("edit", "again"), [("aBC", "ABC"), ("AbC", "BC"), ("ABc", "C"), ("rule", "ABC")])
def test_in_a_graph_the_edited_node_and_all_downstream_of_it_are_done_again(
    bench: Bench, edit: str, again: str
) -> None:
    folder = bench.folder
    bench.give(numbered(ROWS))
    graph(folder).create("a").run()
    rule = right_or_left if edit == "rule" else left_or_right
    now = "ABC" if edit == "rule" else edit
    edited = graph(folder, now, rule)
    with pytest.raises(OperatorChangedError):
        edited.resume("a")
    CALLS.clear()
    edited.resume("a", on_change="rerun").run()
    assert set(CALLS) == set(again)
    through_b, past_b = now, now[0] + now[2]
    assert {row["n"]: "".join(row["by"]) for row in lines(folder / "out.jsonl")} == {
        n: through_b if rule({"n": n}) == "left" else past_b for n in range(ROWS)
    }
    for version in ("a", "a@1"):
        assert not any(account.findings for account in verify(bench.run_state(version)))
    assert kept_marks(bench) == ["AC" if n % 2 == 0 else "ABC" for n in range(ROWS)]


def test_in_a_graph_a_node_that_was_added_is_done_and_others_are_kept(bench: Bench) -> None:
    folder = bench.folder
    bench.give(numbered(ROWS))

    def pipeline(*ids: str) -> UnifiedNodePipeline:
        nodes = [
            UnifiedNode(one, follow_input=False)
            .bind_io(f"jsonl://{bench.input}", f"jsonl://{folder}/{one}.jsonl")
            .set_operator(Step(one))
            for one in ids
        ]
        return UnifiedNodePipeline(nodes, results_dir=bench.results, log_file=None)

    pipeline("A", "B").create("a").run()
    with pytest.raises(OperatorChangedError, match="it was added"):
        pipeline("A", "B", "C").resume("a")
    CALLS.clear()
    pipeline("A", "B", "C").resume("a", on_change="rerun").run()
    assert dict(CALLS) == {"C": ROWS}
    with pytest.raises(OperatorChangedError, match="it was removed"):
        pipeline("A", "C").resume("a")
    pipeline("A", "C").resume("a", on_change="rerun").run()
    assert dict(CALLS) == {"C": ROWS}
    assert not (folder / "B.jsonl").exists()


def tripled(row: dict[str, Any], by: int = 1) -> dict[str, Any]:
    return {**row, "n": (row["n"] + by) * 3}


def stops(row: dict[str, Any]) -> dict[str, Any]:
    if row["n"] == 4:
        raise RuntimeError("cut short")
    return row


@pytest.mark.parametrize("choice", ["refuse", "accept", "rerun"])
def test_operators_that_are_made_again_from_the_run_state_are_compared_as_well(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, choice: Any
) -> None:
    """A resume by the id alone: the arguments are those of the run state, the code is that of today."""
    bench.give(numbered(6))
    with pytest.raises(NodeFailedError):
        line(bench, [parts.add, stops, parts.double]).create("a").run()
    monkeypatch.setattr(parts.add, "__code__", tripled.__code__)
    pipeline = UnifiedPipeline(results_dir=bench.results, log_file=None)
    before = state(bench)
    with pytest.raises(OperatorChangedError, match=r"node_0 \(add\): code"):
        pipeline.resume("a")
    assert state(bench) == before
    if choice == "refuse":
        return
    monkeypatch.setattr(stops, "__code__", parts.pairs.__code__)  # it has done rows, too
    for verb in ("resume", "replay"):  # what else the program edits, such as an argument, is not seen
        with pytest.raises(ConfigError, match=rf"not read.*operators=\[…\], results_dir=…\).{verb}\('a'"):
            getattr(pipeline, verb)("a", on_change=choice)
    assert state(bench) == before
    line(bench, [parts.add, stops, parts.double]).resume("a", on_change=choice).run()
    made = [(n + 1) * (3 if choice == "rerun" else 1) for n in range(6)]
    assert [row["n"] for row in lines(bench.output)] == [2 * n for n in made]


def test_after_a_rerun_the_run_state_names_the_new_operators(bench: Bench) -> None:
    bench.give(numbered(6))
    line(bench, [functools.partial(parts.add, by=1), parts.double]).create("a").run()
    line(bench, [functools.partial(parts.add, by=3), parts.double]).resume("a", on_change="rerun")
    UnifiedPipeline(results_dir=bench.results, log_file=None).resume("a").run()
    assert [row["n"] for row in lines(bench.output)] == [2 * (n + 3) for n in range(6)]
    line(bench, [parts.double]).resume("a", on_change="rerun")
    UnifiedPipeline(results_dir=bench.results, log_file=None).resume("a").run()
    assert [row["n"] for row in lines(bench.output)] == [2 * n for n in range(6)]


class Unreadable(Step):
    """A step with data that raises when it is looked at."""

    def __init__(self, name: str, **settings: Any) -> None:
        super().__init__(name, **settings)
        self.held = _Closed(a=1)


class _Closed(dict[str, Any]):
    def items(self) -> Any:
        raise RuntimeError("closed")


def test_of_what_cannot_be_read_a_resume_warns(bench: Bench) -> None:
    """13: its value may have been edited, and nobody can say so."""
    bench.give(numbered(ROWS))
    CALLS.clear()
    with pytest.raises(NodeFailedError):
        line(bench, [Unreadable("A", fail_at=7)]).create("a").run()
    with pytest.warns(OperatorWarning, match=r"node_0: of the operator, attribute held cannot be read .* not known"):
        resumed = line(bench, [Unreadable("A")]).resume("a")
    assert resumed.run().rows_out == ROWS

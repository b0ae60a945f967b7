"""Whatever is altered in the files of a run, `verify` names the file, and where (C1, S3)."""

from __future__ import annotations

import contextlib
import re
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from llm_datagen import NodeFailedError, StreamFactory
from llm_datagen.runs.verify import verify
from llm_datagen.streams.recovery import position_of

from ..kit.support import Bench, numbered
from ..pipeline.chains import Fate
from .helpers import PoisonError, accounts_of, double, no_fifths, some_children

PLACE = re.compile(r"bytes? \d|line \d|row \d|\d+ bytes|\d+ rows|at byte \d")
"""How a place is said."""


def failing(fate: Fate, bad: set[int], name: str) -> Fate:
    def act(row: Any) -> Any:
        if int(row["n"]) in bad:
            raise PoisonError(f"{row['n']} is bad")
        return fate(row)

    act.__name__ = name
    return act


class Change:
    """One alteration of one file, drawn before the files are there: their lengths are not the same every time.

    Args:
        draw: hypothesis' source of choices.
    """

    def __init__(self, draw: st.DataObject) -> None:
        self.ending = draw.draw(st.sampled_from(["l", "v", ".errors.jsonl", ".done", ".commits"]), "of a file like")
        self.which = draw.draw(st.integers(0, 99), "which of them")
        self.place = draw.draw(st.integers(0, 10**6), "at millionth")
        self.kind = draw.draw(st.sampled_from(["flip", "insert", "delete", "cut", "line away", "line twice"]), "kind")
        self.byte = draw.draw(st.integers(1, 255), "changed by")

    def choose(self, files: list[tuple[Path, int]]) -> tuple[Path, int]:
        """Return one of the files, and how many of its bytes count."""
        alike = [(path, size) for path, size in files if path.name.endswith(self.ending)] or files
        return alike[self.which % len(alike)]

    def at(self, data: bytes) -> int:
        """Return the byte where the change is."""
        return min(len(data) - 1, len(data) * self.place // 10**6)

    def apply(self, data: bytes) -> bytes:
        """Return the file as it is then."""
        at = self.at(data)
        match self.kind:
            case "flip":
                return data[:at] + bytes([data[at] ^ self.byte]) + data[at + 1 :]
            case "insert":
                return data[:at] + bytes([self.byte]) + data[at:]
            case "delete":
                return data[:at] + data[at + 1 :]
            case "cut":
                return data[:at]
        begin = data.rfind(b"\n", 0, at) + 1
        end = data.find(b"\n", at) + 1 or len(data)
        line = data[begin:end]
        return data[:begin] + (b"" if self.kind == "line away" else line + line) + data[end:]


def run_some(draw: st.DataObject, bench: Bench) -> None:
    """Run a random pipeline; it ends well, or of a row that fails."""
    bench.give(numbered(draw.draw(st.integers(1, 60), "rows")))
    numbers = st.sets(st.integers(0, 20), max_size=4)
    fates = draw.draw(st.lists(st.sampled_from([double, no_fifths, some_children]), min_size=1, max_size=3), "fates")
    operators = [failing(fate, draw.draw(numbers, "bad"), f"node {n}") for n, fate in enumerate(fates)]
    pipeline = bench.pipeline(
        operators,
        streaming=draw.draw(st.booleans(), "streaming"),
        on_error=draw.draw(st.sampled_from(["fail", "skip", "dead_letter", "dead_letter"]), "on_error"),
        default_protocol=draw.draw(st.sampled_from(["jsonl://", "csv://"]), "protocol"),
        id_scheme=draw.draw(st.sampled_from(["path", "numeric"]), "ids"),
        writer_config={"flush_batch_size": draw.draw(st.sampled_from([1, 1000]), "flush"), "queue_size": 5},
        log_file=None,
    ).create("a")
    with contextlib.suppress(NodeFailedError):
        pipeline.run()


def promised(bench: Bench) -> list[tuple[Path, int]]:
    """Return the files for which somebody vouches, and for how many of their bytes."""
    found: list[tuple[Path, int]] = []
    for entry in bench.run_state("a")["nodes"]:
        stream = StreamFactory.create(entry["output_uri"])
        known = position_of(stream)
        if known is None:
            continue
        _, position = known
        seal, log = Path(stream.done_path), Path(stream.commits_path)
        found += [(Path(stream.path), position.bytes), (Path(stream.errors_path), position.errors_bytes)]
        found += [(seal, seal.stat().st_size)] if seal.exists() else [(log, log.stat().st_size - 1)]
    return [(path, size) for path, size in found if size]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
@pytest.mark.slow
def test_every_alteration_of_any_file_is_named_with_its_place(draw: st.DataObject) -> None:
    """C1, S3: a byte, a row, a seal, a commit, a letter; in runs that have ended well, and in runs that have not."""
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        change = Change(draw)
        run_some(draw, bench)
        accounts_of(bench)
        files = promised(bench)
        assume(files)
        path, size = change.choose(files)
        whole = path.read_bytes()
        changed = change.apply(whole[:size])
        # What a crash leaves at the end of a log, and what nobody has promised behind its end, is no alteration.
        is_tail = path.name.endswith(".commits") and (
            whole[:size].startswith(changed) or b"\n" not in whole[change.at(whole[:size]) :]
        )
        is_sealed = path.with_name(f"{path.name.removesuffix('.errors.jsonl')}.done").exists()
        is_tail = is_tail or (not is_sealed and (changed + whole[size:]).startswith(whole[:size]))
        assume(changed != whole[:size] and not is_tail)
        path.write_bytes(changed + whole[size:])
        findings = [finding for account in verify(bench.run_state("a")) for finding in account.findings]
        named = [finding for finding in findings if path.name in finding]
        assert named, (path.name, change.kind, findings)
        if not path.name.endswith(".done"):
            assert any(PLACE.search(finding) for finding in named), findings


@pytest.mark.slow
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_every_changed_byte_of_an_input_that_was_read_is_named(draw: st.DataObject) -> None:
    """C1, M22: by the fingerprint that the run state holds."""
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        bench.give(numbered(draw.draw(st.integers(1, 60), "rows")))
        bench.pipeline([double], log_file=None).create("a").run()
        data = bytearray(bench.input.read_bytes())  # the same every time
        data[draw.draw(st.integers(0, len(data) - 1))] ^= draw.draw(st.integers(1, 255))
        bench.input.write_bytes(data)
        (account,) = verify(bench.run_state("a"))
        assert any(re.search(r"in\.jsonl, bytes \d+ to \d+", finding) for finding in account.findings), account.findings


def test_a_commit_log_whose_last_line_was_changed_is_named(bench: Bench) -> None:
    """S3: a resume passes over it, and does its rows again; that it is not what it was is said.

    A log that ends within a line is what a process leaves that is killed within a write: nothing is wrong.
    """
    bench.give(numbered(9))
    pipeline = bench.pipeline([failing(double, {7}, "a")], writer_config={"async_mode": False, "flush_batch_size": 1})
    with pytest.raises(NodeFailedError):
        pipeline.create("a").run()
    log = Path(f"{bench.output}.commits")
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(lines)[:-5])
    assert verify(bench.run_state("a"))[0].findings == []
    log.write_bytes(b"".join(lines[:-1]) + lines[-1].replace(b'"rows":', b'"rowz":'))
    (finding,) = verify(bench.run_state("a"))[0].findings
    assert re.search(r"out\.jsonl\.commits, line \d+: the checksum of this last line differs", finding)


def test_every_line_of_a_commit_log_that_is_removed_or_doubled_is_named(bench: Bench) -> None:
    """S3: also the start record, which covers no row."""
    bench.give(numbered(9))
    config = {"async_mode": False, "flush_batch_size": 1}
    with pytest.raises(NodeFailedError):
        bench.pipeline([failing(double, {7}, "a")], writer_config=config, log_file=None).create("a").run()
    log = Path(f"{bench.output}.commits")
    lines = log.read_bytes().splitlines(keepends=True)
    assert len(lines) > 3
    assert verify(bench.run_state("a"))[0].findings == []
    for at in range(len(lines) - 1):
        for times in (0, 2):
            log.write_bytes(b"".join([*lines[:at], *lines[at : at + 1] * times, *lines[at + 1 :]]))
            findings = verify(bench.run_state("a"))[0].findings
            assert any("out.jsonl.commits" in finding and PLACE.search(finding) for finding in findings), (at, times)

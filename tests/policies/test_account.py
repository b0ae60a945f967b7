"""The account of a run, recounted from its files, finds nothing after honest runs, and every lie (C1)."""

from __future__ import annotations

import contextlib
import json
import random
import re
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pytest

from llm_datagen import NodeFailedError, Status, StreamFactory, UnifiedPipeline
from llm_datagen.config import OnError
from llm_datagen.runs.account import FINDINGS_SHOWN
from llm_datagen.runs.verify import verify
from llm_datagen.streams.checksums import with_check

from ..kit.support import Bench, eventually, numbered
from ..pipeline.chains import STYLES, Fate, operator
from .helpers import Seen, accounts_of, check_counts, double, failing_when, no_fifths, poisoned, some_children

FATES: list[Fate] = [double, no_fifths, some_children]


@pytest.mark.sampled(1, of=8)
@pytest.mark.parametrize("seed", [*range(6), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(6, 24))])
def test_after_whatever_happened_everything_is_accounted_for(bench: Bench, seed: int) -> None:
    """C1: random chains, policies, failures, cancels, resumes, replays: at every stop, and at the end."""
    chance = random.Random(seed)
    bench.give(numbered(chance.randrange(0, 250)))
    hurt = dict.fromkeys(range(3), True)
    seen = Seen()
    operators = []
    for number in range(chance.randrange(1, 4)):
        bad = {n for n in range(2000) if chance.random() < 0.06}
        fate = failing_when(lambda number=number: hurt[number], bad, chance.choice(FATES))  # type: ignore[misc]
        style = chance.choice([style for style in STYLES if style != "flat batch"])
        operators.append(operator(style, seen.of(f"node_{number}", fate), name=str(number)))
    pipeline = bench.pipeline(
        operators,
        streaming=chance.random() < 0.5,
        ordered=chance.random() < 0.3,
        parallel_size=chance.choice([1, 3]),
        batch_size=chance.choice([1, 4, 16]),
        on_error=chance.choice(["fail", "skip", "dead_letter"]),
        max_errors=chance.choice([None, None, 3]),
        retries=chance.choice([0, 0, 1]),
        retry_wait=0.001,
        delivery=chance.choice(["exactly_once", "at_most_once"]),
        default_protocol=chance.choice(["jsonl://", "csv://"]),
        writer_config={"async_mode": chance.random() < 0.5, "flush_batch_size": chance.choice([1, 1000])},
    ).create("a")
    for _ in range(chance.randrange(1, 5)):
        pipeline.start()
        if chance.random() < 0.6:
            wanted = len(seen.calls) + chance.randrange(1, 60)
            eventually(partial(_has_come, pipeline, seen, wanted))
            pipeline.cancel()
        _wait(pipeline)
        accounts_of(bench)
        change: OnError | None = chance.choice([None, "skip", "dead_letter"])
        pipeline.resume("a", on_error=change)
        accounts_of(bench)
    hurt.update(dict.fromkeys(hurt, False))
    pipeline.replay("a")
    accounts_of(bench)
    report = pipeline.run()
    assert report.status == Status.COMPLETED
    check_counts(bench, report)
    assert all(account.pending == 0 and account.complete for account in accounts_of(bench))


def _has_come(pipeline: UnifiedPipeline, seen: Seen, calls: int) -> bool:
    return len(seen.calls) >= calls or _is_over(pipeline)


def _is_over(pipeline: UnifiedPipeline) -> bool:
    try:
        pipeline.wait(0)
    except TimeoutError:
        return False
    except NodeFailedError:
        return True
    return True


def _wait(pipeline: UnifiedPipeline) -> None:
    with contextlib.suppress(NodeFailedError):
        pipeline.wait(30)


def test_a_run_that_has_not_begun_has_an_empty_account(bench: Bench) -> None:
    """C1: all rows are pending; a source that is not there yet is nothing wrong, and cannot be counted."""
    bench.give(numbered(7))
    bench.pipeline([double, double]).create("a")
    first, second = verify(bench.run_state("a"))
    assert (first.rows_in, first.covered, first.pending, first.findings) == (7, 0, 7, [])
    assert (second.rows_in, second.pending, second.findings) == (None, None, [])


def test_what_has_gone_with_the_memory_of_its_process_is_nothing_wrong(bench: Bench) -> None:
    """C1: what cannot be counted is None; what can, is."""
    bench.give(numbered(12))
    bench.pipeline([no_fifths, double], default_protocol="memory://").create("a").run()
    assert [(one.rows_in, one.kept, one.pending) for one in accounts_of(bench)] == [(12, 9, 0), (9, 9, 0)]
    StreamFactory.create(bench.run_state("a")["nodes"][0]["output_uri"]).delete()
    first, second = verify(bench.run_state("a"))
    assert (first.findings, first.rows_in, first.kept) == ([], 12, None)
    assert (second.findings, second.rows_in, second.kept, second.pending) == ([], None, None, None)
    assert (second.covered, second.rows_out, second.complete) == (9, 9, True)


def test_a_stream_between_two_nodes_that_vanished_is_named_by_both(bench: Bench) -> None:
    """C1: with all that belonged to it; what was made of it is still there, and cannot be checked."""
    bench.give(numbered(12))
    bench.pipeline([no_fifths, double]).create("a").run()
    for path in bench.between("a").parent.glob("node_0.jsonl*"):
        path.unlink()
    first, second = verify(bench.run_state("a"))
    assert "node_0.jsonl is gone, with its commit log and its seal, and 12 source rows were done" in first.findings[0]
    assert re.search(r"the source cannot be read: .*node_0\.jsonl", second.findings[0])


# --- lies --------------------------------------------------------------------------------------------------------


def edit_seal(**changes: Any) -> Callable[[Bench], None]:
    def edit(bench: Bench) -> None:
        path = Path(f"{bench.output}.done")
        path.write_text(json.dumps({**json.loads(path.read_bytes()), **changes}))

    return edit


def edit_rows(change: Callable[[list[bytes]], list[bytes]], *, of: str = "") -> Callable[[Bench], None]:
    def edit(bench: Bench) -> None:
        path = Path(f"{bench.output}{of}")
        path.write_bytes(b"".join(change(path.read_bytes().splitlines(keepends=True))))

    return edit


def replace(name: str, data: bytes) -> Callable[[Bench], None]:
    def edit(bench: Bench) -> None:
        (bench.folder / name).write_bytes(data)

    return edit


def edit_run_state(**changes: Any) -> Callable[[Bench], None]:
    def edit(bench: Bench) -> None:
        run_state = bench.run_state("a")
        run_state["nodes"][0].update(changes)
        bench.put_run_state("a", run_state)

    return edit


def remove_all(bench: Bench) -> None:
    for path in bench.folder.glob("out.jsonl*"):
        path.unlink()


def flip(lines: list[bytes], at: int = 5) -> list[bytes]:
    """Change one byte, so that it still is a row."""
    return [line.replace(b'"n":', b'"m":') if number == at else line for number, line in enumerate(lines)]


LENGTH = r"out.jsonl has \d+ bytes, but \d+ when it was sealed"

LIES: dict[str, tuple[Callable[[Bench], None], str]] = {
    "one byte": (edit_rows(flip), r"out.jsonl, bytes \d+ to \d+: the checksum is"),
    "the last byte": (edit_rows(lambda rows: [*rows[:-1], rows[-1][:-1] + b" "]), "out.jsonl.*checksum"),
    "a row removed": (
        edit_rows(lambda rows: rows[:5] + rows[6:]),
        r"out.jsonl has \d+ bytes, but \d+ when it was sealed",
    ),
    "a row twice": (edit_rows(lambda rows: [*rows, rows[3]]), LENGTH),
    "two rows exchanged": (edit_rows(lambda rows: [*rows[1:2], *rows[:1], *rows[2:]]), "out.jsonl.*checksum"),
    "the rows of the seal": (edit_seal(rows=3), "out.jsonl holds 25 different rows, and 3 were counted"),
    "the filtered of the seal": (edit_seal(filtered=0), "30 source rows are done, but .* are 25"),
    "the failed of the seal": (edit_seal(failed=[1, 2, 0]), "errors.jsonl holds 0 rows, and 2 were counted"),
    "the skipped of the seal": (edit_seal(failed=[7, 0, 0]), "30 source rows are done, but .* are 37"),
    "the size of the seal": (edit_seal(size=12), "out.jsonl has .* bytes, but 12 when it was sealed"),
    "the checksum of the seal": (edit_seal(crc=12), "out.jsonl.*: the checksum is .*, 0000000c was committed"),
    "the rows covered by the seal": (edit_seal(cover=[[0, 29, 0, 290]]), "29 source rows are done, but .* are 30"),
    "the format of the seal": (edit_seal(format=99), "out.jsonl.done is not the seal .* nothing accounts for"),
    "the time of the seal": (edit_seal(sealed_at="2020-01-01"), "out.jsonl.done: the checksum of the seal differs"),
    "the seal written anew": (edit_seal(), "out.jsonl.done: the checksum of the seal differs"),
    "a byte of the source": (
        lambda bench: replace("in.jsonl", bench.input.read_bytes().replace(b'"n": 3', b'"n": 4', 1))(bench),
        r"in.jsonl, bytes \d+ to \d+: the input was edited",
    ),
    "the source has grown": (lambda bench: bench.give(numbered(32)), "2 rows are pending: .*in.jsonl has grown since"),
    "all of it removed": (remove_all, "out.jsonl is gone, with its commit log and its seal, and 30 source rows"),
    "the rows of the run state": (
        edit_run_state(rows_out=24),
        "runtime.json says of node_0: rows_out 24; its files say 25",
    ),
    "a seal by hand": (replace("out.jsonl.done", b""), "out.jsonl.done is not the seal .* nothing accounts for"),
    "no seal": (lambda bench: Path(f"{bench.output}.done").unlink(), "nothing accounts for it"),
    "the output removed": (lambda bench: bench.output.unlink(), "out.jsonl is gone"),
    "the output emptied": (replace("out.jsonl", b""), "out.jsonl has 0 bytes"),
    "the source shortened": (lambda bench: bench.give(numbered(12)), "the output is sealed, and -18 rows are pending"),
    "the source removed": (lambda bench: bench.input.unlink(), "the source cannot be read: .*in.jsonl does not exist"),
}


@pytest.mark.sampled(8)
@pytest.mark.parametrize("lie", LIES)
def test_every_lie_is_found_and_named(bench: Bench, lie: str) -> None:
    """C1, S3: whatever was done to a finished run."""
    bench.give(numbered(30))
    bench.pipeline([operator("item", lambda row: None if row["n"] % 6 == 0 else row)]).create("a").run()
    accounts_of(bench)
    act, says = LIES[lie]
    act(bench)
    (account,) = verify(bench.run_state("a"))
    assert any(re.search(says, finding) for finding in account.findings), account.findings


def forged(dead_letter: bytes, **changes: Any) -> bytes:
    """Return a letter that says something else, with the right checksum."""
    value = {**json.loads(dead_letter), **changes}
    del value["check"]
    return with_check(orjson.dumps(value))


DEAD_LETTER_LIES: dict[str, tuple[Callable[[list[bytes]], list[bytes]], str]] = {
    "deleted": (lambda dead_letters: dead_letters[:-1], r"errors.jsonl has \d+ bytes, but \d+ were committed"),
    "all deleted": (lambda dead_letters: [], r"errors.jsonl has 0 bytes"),
    "torn": (lambda dead_letters: [*dead_letters[:-1], dead_letters[-1][:40]], "were committed"),
    "blanked": (
        lambda dead_letters: [dead_letters[0][:-1] + b" " * len(dead_letters[1]) + b"\n", *dead_letters[2:]],
        "errors.jsonl, line 1: not a dead letter .*checksum",
    ),
    "twice": (
        lambda dead_letters: [dead_letters[0], dead_letters[0], dead_letters[2]],
        "errors.jsonl, line 2: row 4 is dead-lettered twice",
    ),
    "one byte": (
        lambda dead_letters: [*dead_letters[:2], dead_letters[2].replace(b"is bad", b"is mad")],
        "errors.jsonl, line 3: not a dead letter .*checksum",
    ),
    "of another row": (
        lambda dead_letters: [*dead_letters[:2], forged(dead_letters[2], _i=18)],
        "errors.jsonl, line 3: row 18 is not row 19 of the source",
    ),
    "not a letter": (
        lambda dead_letters: [b"{" + b" " * (len(dead_letters[0]) - 3) + b"}\n", *dead_letters[1:]],
        "errors.jsonl, line 1: not a dead letter",
    ),
    "of a row that came out": (
        lambda dead_letters: [forged(dead_letters[0], _i=5), *dead_letters[1:]],
        "row 5 is dead-lettered, and in the output too",
    ),
}


@pytest.mark.sampled(3)
@pytest.mark.parametrize("lie", DEAD_LETTER_LIES)
def test_a_letter_that_is_not_what_it_was_is_named(bench: Bench, lie: str) -> None:
    """C1, S3: dead letters are accounted for like rows."""
    bench.give(numbered(30))
    bench.pipeline([poisoned({4, 7, 19})], on_error="dead_letter").create("a").run()
    accounts_of(bench)
    change, says = DEAD_LETTER_LIES[lie]
    edit_rows(change, of=".errors.jsonl")(bench)
    (account,) = verify(bench.run_state("a"))
    assert any(re.search(says, finding) for finding in account.findings), account.findings


def test_a_stream_in_the_middle_that_was_changed_is_named_by_both_its_nodes(bench: Bench) -> None:
    """C1: a row that was taken out of it comes from nowhere in the next one."""
    bench.give(numbered(20))
    bench.pipeline([double, some_children]).create("a").run()
    between = bench.between("a")
    rows = between.read_bytes().splitlines(keepends=True)
    between.write_bytes(b"".join(rows[:3] + rows[4:]))
    first, second = verify(bench.run_state("a"))
    assert any("node_0.jsonl has" in finding for finding in first.findings)
    assert any("cannot be read" in finding for finding in second.findings)


def test_an_unfinished_run_is_checked_up_to_its_last_commit(bench: Bench) -> None:
    """C1, S1: what lies behind it was promised to nobody; what lies before it was."""
    bench.give(numbered(40))
    with pytest.raises(NodeFailedError):
        bench.pipeline([poisoned({30})]).create("a").run()
    with bench.output.open("ab") as file:
        file.write(b'{"n": 1, "_i": 3')
    (account,) = accounts_of(bench)
    assert (account.covered, account.pending, account.rows_out, account.complete) == (30, 10, 30, False)
    edit_rows(flip)(bench)
    (account,) = verify(bench.run_state("a"))
    assert "the checksum is" in account.findings[0]
    Path(f"{bench.output}.commits").unlink()
    (account,) = verify(bench.run_state("a"))
    assert "nothing accounts for it" in account.findings[0]


def test_no_more_findings_are_kept_than_can_be_read(bench: Bench) -> None:
    """C1: a damaged file gives one for each row; twenty of a node are told."""
    bench.give(numbered(200))
    bench.pipeline([double]).create("a").run()
    done = Path(f"{bench.output}.done")
    seal = json.loads(done.read_bytes())
    rows = [row.replace(b'"_i":', b'"_i":9') for row in bench.output.read_bytes().splitlines(keepends=True)]
    data = b"".join(rows)
    bench.output.write_bytes(data)
    done.write_text(json.dumps({**seal, "size": len(data), "crc": zlib.crc32(data), "last": [0, 0]}))
    (account,) = verify(bench.run_state("a"))
    assert len(account.findings) == FINDINGS_SHOWN
    assert "the checksum of the seal differs" in account.findings[0]
    assert all("comes from no row of the source" in finding for finding in account.findings[1:])


@pytest.mark.parametrize("style", ["item", "batch", "async item"])
def test_numeric_ids_are_recounted_by_what_the_node_has_made(bench: Bench, style: str) -> None:
    """M14, C1: child 1 of row 0 has the id 1, and so has row 1: the seal says which ids are children's."""
    bench.give(numbered(12))

    def pairs(row: Any) -> Any:
        return [row, row] if row["n"] % 3 == 0 else None

    report = (
        bench.pipeline([operator(style, pairs), operator(style, lambda row: row, name="same")], id_scheme="numeric")
        .create("a")
        .run()
    )
    check_counts(bench, report)
    first, second = accounts_of(bench)
    assert (first.kept, first.filtered, second.kept, second.rows_out) == (4, 8, 8, 8)


def test_a_large_account_is_quick(bench: Bench) -> None:
    """C1: the time grows with the rows, not with their square."""
    bench.give(numbered(30_000))
    bench.pipeline([lambda row: [row, row]]).create("a").run()
    (account,) = accounts_of(bench)
    assert (account.kept, account.rows_out) == (30_000, 60_000)

"""Inputs that changed since they were read: grown, mended, edited, shortened (M22)."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_datagen import MemoryStream, NodeFailedError, Status, StreamFactory
from llm_datagen.errors import StreamChangedError, StreamMissingError
from llm_datagen.streams import Fingerprint, JsonlStream, Span
from llm_datagen.streams import fingerprint as fingerprint_module

from ..kit.support import Bench, bag, lines, numbered
from ..pipeline.chains import operator
from .helpers import Seen, accounts_of, check_counts, dead_letters_of, double, failing_when, some_children


def row(n: int) -> str:
    return json.dumps({"n": n, "text": f"{n:03}" * 5}) + "\n"


def children_of(count: int) -> list[dict[str, Any]]:
    return [{"n": 2 * n + k, "_i": f"{n}_{k}"} for n in range(count) for k in range(2 * n % 4)]


@pytest.mark.sampled(1)
@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize("style", ["item", "batch", "async item"])
def test_a_finished_run_goes_on_with_the_rows_that_were_added(bench: Bench, style: str, streaming: bool) -> None:
    """M22, R2: again and again; only what is new is called, in both nodes, and the ids go on."""
    bench.give(numbered(30))
    seen = Seen()
    pipeline = bench.pipeline(
        [
            operator(style, seen.of("first", double), name="first"),
            operator("item", seen.of("second", some_children), name="second"),
        ],
        batch_size=4,
        streaming=streaming,
    ).create("a")
    pipeline.run()
    for count in (31, 50, 90):
        with bench.input.open("a") as file:
            file.write("".join(json.dumps(one) + "\n" for one in numbered(count)[len(lines(bench.input)) :]))
        pipeline.resume("a")
        assert pipeline.status == Status.RESUMING
        report = pipeline.run()
        assert report.status == Status.COMPLETED
        assert bag(lines(bench.output)) == bag(children_of(count))
        assert seen.by("first") == list(range(count))
        assert seen.by("second") == [2 * n for n in range(count)]
        check_counts(bench, report)
    pipeline.resume("a")
    assert pipeline.status == Status.COMPLETED, "nothing was added since"


@pytest.mark.parametrize("streaming", [True, False])
def test_an_unfinished_run_goes_on_with_the_rows_that_were_added(bench: Bench, streaming: bool) -> None:
    """M22: a run that failed half-way, of an input that has grown meanwhile."""
    bench.give(numbered(40))
    hurt = [1]
    pipeline = bench.pipeline([failing_when(lambda: bool(hurt), {25}), some_children], streaming=streaming).create("a")
    with pytest.raises(NodeFailedError):
        pipeline.run()
    hurt.clear()
    bench.give(numbered(70))
    report = pipeline.resume("a").run()
    assert bag(lines(bench.output)) == bag(children_of(70))
    check_counts(bench, report)


def test_dead_letters_stay_when_the_input_grows(bench: Bench) -> None:
    """M24, M22: and new ones come behind them."""
    bench.give(numbered(20))
    pipeline = bench.pipeline([failing_when(lambda: True, {3, 33}), double], on_error="dead_letter").create("a")
    pipeline.run()
    bench.give(numbered(40))
    report = pipeline.resume("a").run()
    assert [dead_letter["_i"] for dead_letter in dead_letters_of(bench.between("a"))] == [3, 33]
    check_counts(bench, report)


def test_a_csv_input_may_grow(bench: Bench) -> None:
    """M19, M22: behind the header that it has."""
    source = bench.folder / "in.csv"
    source.write_text("n,text\n" + "".join(f'{n},"a, ""b""\n{n}"\n' for n in range(20)))
    pipeline = bench.pipeline([double, double], input_uri=f"csv://{source}").create("a")
    pipeline.run()
    with source.open("a") as file:
        file.write("".join(f"{n},plain\n" for n in range(20, 45)))
    report = pipeline.resume("a").run()
    assert lines(bench.output) == [{"n": 4 * n, "_i": n} for n in range(45)]
    check_counts(bench, report)


def test_an_input_in_memory_may_grow(bench: Bench) -> None:
    """M16, M22: whatever the stream is made of."""
    source = MemoryStream("memory://grows", rows=numbered(10))
    try:
        pipeline = bench.pipeline([double], input_uri="memory://grows").create("a")
        pipeline.run()
        source.unseal()
        with source.get_writer() as writer:
            writer.write(numbered(15)[10:])
        pipeline.resume("a").run()
        assert lines(bench.output) == [{"n": 2 * n, "_i": n} for n in range(15)]
    finally:
        source.delete()


@pytest.mark.parametrize("end", ["", "\n", "\n\n", "\r\n"])
@pytest.mark.parametrize("added", ["\n{}\n", "\n\n{}"])
def test_the_last_line_may_have_got_its_newline_with_the_rows_behind_it(bench: Bench, end: str, added: str) -> None:
    """M18, M22: an input that ended without a newline is read to its end; that newline is no change."""
    bench.input.write_text("".join(row(n) for n in range(5)).rstrip("\n") + end)
    pipeline = bench.pipeline([lambda one: {"n": one["n"]}]).create("a")
    pipeline.run()
    with bench.input.open("a") as file:
        file.write(added.format(row(5).strip()))
    report = pipeline.resume("a").run()
    assert [one["n"] for one in lines(bench.output)] == list(range(6))
    check_counts(bench, report)


def test_a_row_that_was_glued_to_the_last_line_is_refused(bench: Bench) -> None:
    """M22: then the last row is not what was read."""
    bench.input.write_text("".join(row(n) for n in range(5)).rstrip("\n"))
    pipeline = bench.pipeline([lambda one: {"n": one["n"]}]).create("a")
    pipeline.run()
    size = bench.input.stat().st_size
    with bench.input.open("a") as file:
        file.write(row(5))
    with pytest.raises(StreamChangedError, match=f"{bench.input}: no row begins at byte {size}"):
        pipeline.resume("a")


def interrupted(bench: Bench, *, at: int = 50, rows: int = 100, streaming: bool = False) -> tuple[Any, list[int], Seen]:
    """Return a pipeline of two nodes whose first one has failed at a row."""
    bench.input.write_text("".join(row(n) for n in range(rows)))
    hurt, seen = [1], Seen()
    first = seen.of("first", failing_when(lambda: bool(hurt), {at}, lambda one: {"n": one["n"]}))
    pipeline = bench.pipeline(
        [first, seen.of("second", double)], streaming=streaming, writer_config={"async_mode": False}
    ).create("a")
    with pytest.raises(NodeFailedError):
        pipeline.run()
    return pipeline, hurt, seen


Edit = Callable[[str], str]

EDITS: dict[str, Edit] = {
    "a byte at the beginning": lambda text: text.replace('"n": 0,', '"n": 7,', 1),
    "a byte in the middle": lambda text: text.replace('"n": 23', '"n": 93', 1),
    "two rows in each other's place": lambda text: text.replace(row(3) + row(4), row(4) + row(3)),
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_an_input_that_was_edited_where_it_was_read_is_refused(bench: Bench, edit: Edit) -> None:
    """M22: naming the file and the bytes; nothing is called, nothing is changed."""
    pipeline, hurt, seen = interrupted(bench)
    text = bench.input.read_text()
    edited = edit(text)
    assert edited != text
    changed = [at for at, (old, new) in enumerate(zip(text, edited, strict=True)) if old != new]
    bench.input.write_text(edited)
    before = lines(bench.between("a"))
    called = len(seen.calls)
    hurt.clear()
    with pytest.raises(StreamChangedError, match="the input was edited where it had been read already") as caught:
        pipeline.resume("a")
    words = str(caught.value).split()
    begin, end = int(words[words.index("bytes") + 1]), int(words[words.index("bytes") + 3].rstrip(":"))
    assert str(bench.input) in str(caught.value)
    assert any(begin <= at < end for at in changed)
    assert len(seen.calls) == called
    assert lines(bench.between("a")) == before

    bench.input.write_text(text)
    assert pipeline.resume("a").run().rows_out == 100, "restored, it goes on"


def test_a_header_that_was_edited_is_refused(bench: Bench) -> None:
    """M19, M22: it was read with the first row, however long it is."""
    source = bench.folder / "in.csv"
    source.write_text(f"n,{'x' * 300}\n" + "".join(f"{n},text\n" for n in range(50)))
    hurt = [1]
    pipeline = bench.pipeline([failing_when(lambda: bool(hurt), {30})], input_uri=f"csv://{source}").create("a")
    with pytest.raises(NodeFailedError):
        pipeline.run()
    hurt.clear()
    text = source.read_text()
    source.write_text(text.replace("xx", "yy", 1))
    with pytest.raises(StreamChangedError, match=f"{source}, bytes 0 to 8: the input was edited"):
        pipeline.resume("a")
    source.write_text(text)
    assert pipeline.resume("a").run().rows_out == 50


def test_an_input_that_lost_a_row_where_it_was_read_is_refused(bench: Bench) -> None:
    """M22: all that follows has moved."""
    pipeline, hurt, _ = interrupted(bench)
    hurt.clear()
    text = bench.input.read_text()
    bench.input.write_text(text.replace(row(20), "", 1) + row(100) + row(101))
    with pytest.raises(StreamChangedError, match=str(bench.input)):
        pipeline.resume("a")


@pytest.mark.parametrize("streaming", [True, False])
def test_what_was_not_read_may_be_mended(bench: Bench, streaming: bool) -> None:
    """M22, M24: rows edited, rows taken out, rows added, behind what was read."""
    pipeline, hurt, seen = interrupted(bench, streaming=streaming)
    hurt.clear()
    text = bench.input.read_text()
    mended = text.replace(row(50), row(150) + row(250), 1).replace(row(99), "", 1) + row(300)
    bench.input.write_text(mended)
    report = pipeline.resume("a").run()
    numbers = [*range(50), 150, 250, *range(51, 99), 300]
    assert [one["n"] for one in lines(bench.output)] == [2 * n for n in numbers]
    assert [one["_i"] for one in lines(bench.output)] == list(range(len(numbers)))
    assert seen.by("first") == sorted([*numbers, 50])
    check_counts(bench, report)


@pytest.mark.parametrize("left", [50, 51, 90])
def test_an_input_may_be_shortened_behind_what_was_read(bench: Bench, left: int) -> None:
    """M22: what is gone was not read; it was a bare ValueError."""
    pipeline, hurt, _ = interrupted(bench)
    hurt.clear()
    text = bench.input.read_text()
    bench.input.write_text(text[: text.index(row(left))])
    assert pipeline.resume("a").run().rows_out == left
    assert [one["n"] for one in lines(bench.output)] == [2 * n for n in range(left)]


def test_a_run_that_has_read_nothing_takes_any_input(bench: Bench) -> None:
    """M22: there is nothing that could have changed."""
    pipeline, hurt, _ = interrupted(bench, at=0)
    hurt.clear()
    bench.give(numbered(7))
    assert pipeline.resume("a").run().rows_out == 7


@pytest.mark.parametrize("to", [0, 17, 0.3])
def test_an_input_that_was_shortened_is_refused(bench: Bench, to: float) -> None:
    """M22: naming the file, how long it is, and how far it was read."""
    pipeline, hurt, _ = interrupted(bench)
    hurt.clear()
    data = bench.input.read_bytes()
    short = data[: int(len(data) * to) if to < 1 else int(to)]
    bench.input.write_bytes(short)
    read = sum(len(row(n)) for n in range(50))
    with pytest.raises(
        StreamChangedError, match=f"{bench.input} has only {len(short)} bytes now, and {read} were read before"
    ):
        pipeline.resume("a")


def test_an_input_that_is_gone_is_refused_while_it_is_needed(bench: Bench) -> None:
    """M22: a finished run needs it no more."""
    pipeline, hurt, _ = interrupted(bench)
    hurt.clear()
    text = bench.input.read_bytes()
    bench.input.unlink()
    with pytest.raises((StreamChangedError, StreamMissingError), match=str(bench.input)):
        pipeline.resume("a")
    bench.input.write_bytes(text)
    pipeline.resume("a").run()
    bench.input.unlink()
    assert pipeline.resume("a").run().status == Status.COMPLETED


def test_rows_behind_a_hole_must_be_the_same_as_well(bench: Bench) -> None:
    """M22: one slow row at the beginning does not leave all that was done behind it unchecked."""
    bench.input.write_text("".join(row(n) for n in range(100)))
    hurt = [1]
    pipeline = bench.pipeline(
        [failing_when(lambda: bool(hurt), {0}, lambda one: {"n": one["n"]})], on_error="dead_letter"
    ).create("a")
    pipeline.run()
    hurt.clear()
    text = bench.input.read_text()
    bench.input.write_text(text.replace('"n": 80', '"n": 8 ', 1))
    pipeline.replay("a")
    with pytest.raises(StreamChangedError, match="the input was edited where it had been read already"):
        pipeline.run()
    bench.input.write_text(text.replace('"n": 0,', '"n": 5,', 1))
    pipeline.resume("a").run()
    assert {"n": 5, "_i": 0} in lines(bench.output), "the row that is done again may be mended"


def test_an_output_that_was_changed_keeps_its_seal_when_the_input_has_grown(bench: Bench) -> None:
    """M22: refused, naming the output; mended, it goes on."""
    bench.give(numbered(10))
    pipeline = bench.pipeline([double]).create("a")
    pipeline.run()
    whole = bench.output.read_bytes()
    bench.output.write_bytes(whole[:-1])
    bench.give(numbered(12))
    for _ in range(2):
        with pytest.raises(StreamChangedError, match=str(bench.output)):
            pipeline.resume("a")
        assert bench.is_sealed()
    bench.output.write_bytes(whole)
    assert pipeline.resume("a").run().rows_out == 12


def test_the_account_tells_of_rows_that_were_added(bench: Bench) -> None:
    """C1: they are pending; after the resume, all is well."""
    from llm_datagen.runs.verify import verify

    bench.give(numbered(10))
    pipeline = bench.pipeline([double]).create("a")
    pipeline.run()
    bench.give(numbered(13))
    (account,) = verify(bench.run_state("a"))
    assert account.pending == 3
    (finding,) = account.findings
    assert finding.startswith("the output is sealed, and 3 rows are pending: ")
    assert finding.endswith("in.jsonl has grown since; a resume does them")
    pipeline.resume("a").run()
    accounts_of(bench)


@given(
    st.binary(min_size=1, max_size=3000), st.data(), st.sampled_from([7, 64, 1000]), st.sampled_from([40, 500, 10**6])
)
@settings(max_examples=150, deadline=None)
def test_every_part_that_is_covered_is_compared_and_no_other(
    data: bytes, draw: st.DataObject, smallest: int, head: int
) -> None:
    """M22: whatever was edited, it is noticed if, and only if, its part lies within what was read."""
    stream = MemoryStream("memory://fingerprint")
    before = fingerprint_module._SMALLEST_PART, fingerprint_module.HEAD_BYTES
    fingerprint_module._SMALLEST_PART, fingerprint_module.HEAD_BYTES = smallest, head
    try:
        stream.storage.replace(stream.path, data, sync=False)
        known = Fingerprint.of(stream)
        assert known is not None
        assert len(known["crcs"]) <= 8 * max(fingerprint_module.PARTS, 1)
        first, last = sorted((draw.draw(st.integers(0, len(data))), draw.draw(st.integers(0, len(data)))))
        done = [Span(1, 2, first, last)]
        at = draw.draw(st.integers(0, len(data) - 1))
        edited = bytearray(data)
        edited[at] ^= 1
        stream.storage.replace(stream.path, bytes(edited) + b"more", sync=False)
        begin = at // known["part"] * known["part"]
        end = min(begin + known["part"], len(data), head)
        if at < head and first <= begin and end <= last:
            with pytest.raises(StreamChangedError, match=f"bytes {begin} to {end}"):
                Fingerprint.check(stream, known, done)
        else:
            Fingerprint.check(stream, known, done)
        stream.storage.replace(stream.path, data + b"more", sync=False)
        Fingerprint.check(stream, known, done)
        Fingerprint.check(stream, None, done)
        Fingerprint.check(stream, known, [])
    finally:
        fingerprint_module._SMALLEST_PART, fingerprint_module.HEAD_BYTES = before
        stream.delete()


def test_a_fingerprint_of_an_earlier_version_is_compared_and_a_shortened_input_is_no_crash(tmp_path: Path) -> None:
    """M22: its checksums were a list of numbers. What lies behind the rows that are done may be gone."""
    stream = JsonlStream(str(tmp_path / "in.jsonl"))
    data = b"".join(b'{"n": %d}\n' % n for n in range(1000, 1100))
    Path(stream.path).write_bytes(data)
    crcs = [zlib.crc32(data[at : at + 64]) for at in range(0, len(data), 64)]
    known = {"size": len(data), "part": 64, "crcs": crcs}
    for edited, is_seen in [
        (data[:600], False),
        (data[:10] + b"7" + data[11:], True),
        (data[:600] + b"x" * 900, False),
    ]:
        Path(stream.path).write_bytes(edited)
        if is_seen:
            with pytest.raises(StreamChangedError, match="bytes 0 to 64"):
                Fingerprint.check(stream, known, [Span(0, 40, 0, 480)])
        else:
            Fingerprint.check(stream, known, [Span(0, 40, 0, 480)])


@pytest.mark.parametrize("rows", [8, 10_000])
def test_rows_that_were_shuffled_after_the_first_were_done_are_noticed(bench: Bench, rows: int) -> None:
    """M22: also when few of many are done, or all are few bytes; up to the last row before the first that is not."""
    lines = [f'{{"n": {n}}}\n' for n in range(10**6, 10**6 + rows)]
    bench.input.write_text("".join(lines))
    stop = 10**6 + min(150, rows - 2)

    def work(row: Any) -> Any:
        if row["n"] == stop and not mended:
            raise ValueError("here it ends")
        return row

    mended: list[int] = []
    with pytest.raises(NodeFailedError):
        bench.pipeline([work], writer_config={"async_mode": False}).create("a").run()
    mended.append(1)
    done = stop - 10**6
    for one, other in [(0, 1), (done - 2, done - 1), (done - 1, rows - 1), (0, rows - 1)]:
        changed = lines.copy()
        changed[one], changed[other] = changed[other], changed[one]
        bench.input.write_text("".join(changed))
        with pytest.raises(StreamChangedError, match="edited where it had been read"):
            bench.pipeline([work]).resume("a")
    bench.input.write_text("".join([*lines[: done + 1], *lines[: done + 1 : -1]]))  # behind that, all may change
    assert bench.pipeline([work]).resume("a").run().status == Status.COMPLETED


def test_there_is_no_fingerprint_of_what_is_not_there(tmp_path: Path) -> None:
    """M22: and none is compared."""
    assert Fingerprint.of(JsonlStream(str(tmp_path / "none.jsonl"))) is None
    assert StreamFactory.create(f"jsonl://{tmp_path}/none.jsonl").exists() is False

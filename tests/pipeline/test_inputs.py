"""Inputs of every shape: empty, growing, without an end, with odd bytes, and very long rows (M14, M17-M19)."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any, ClassVar

import pytest

from llm_datagen import CsvStream, FileStream, JsonlStream, NodeFailedError, Status, StreamFactory
from llm_datagen.streams.formats.jsonl import JsonlCodec

from ..kit.support import PATIENCE_SECONDS, Bench, bag, eventually, lines, numbered, pairwise, stored


def same(item: Any) -> Any:
    return item


@pytest.mark.sampled(6)
@pytest.mark.parametrize(
    ("text", "streaming", "between"),
    pairwise([b"", b"\n", b"\n\r\n\n", b"\xef\xbb\xbf"], [True, False], ["jsonl", "csv", "memory"]),
)
def test_an_input_without_rows_gives_an_output_without_rows(
    bench: Bench, text: bytes, streaming: bool, between: str
) -> None:
    """M17: an empty file is an input like any other: completed, sealed, nothing in it."""
    bench.input.write_bytes(text)
    report = bench.pipeline([same, same], streaming=streaming, default_protocol=f"{between}://").run()
    assert report.status == Status.COMPLETED
    assert (report.rows_in, report.rows_out) == (0, 0)
    assert bench.output.read_bytes() == b""
    assert bench.is_sealed()


@pytest.mark.sampled(5)
@pytest.mark.parametrize(
    ("streaming", "between", "style"),
    pairwise([True, False], ["jsonl", "csv", "memory"], ["item", "async", "batch"]),
)
def test_rows_that_are_all_filtered_leave_nothing_behind_but_the_seal(
    bench: Bench, streaming: bool, between: str, style: str
) -> None:
    """M12, M19: the first node writes no row at all (in CSV: not even a header), and the second one ends."""
    bench.give(numbered(30))

    class Drop:
        name = "drop"

    if style == "item":
        Drop.process_item = lambda self, item, ctx: None  # type: ignore[attr-defined]
    elif style == "batch":
        Drop.process_batch = lambda self, items, ctx: []  # type: ignore[attr-defined]
    else:

        async def drop(self: Any, item: Any, ctx: Any) -> Any:
            return []

        Drop.process_item = drop  # type: ignore[attr-defined]
    report = bench.pipeline(
        [Drop(), same], streaming=streaming, default_protocol=f"{between}://", batch_size=4, parallel_size=2
    ).run()
    first, second = report.nodes
    assert (first.rows_in, first.rows_out, first.filtered, second.rows_in) == (30, 0, 30, 0)
    assert bench.output.read_bytes() == b""
    assert bench.is_sealed()


def test_the_last_line_needs_no_newline(bench: Bench) -> None:
    """M17, M18: in an input that is taken as it is, the rest is a row."""
    bench.input.write_text('{"n": 0}\n{"n": 1}')
    bench.pipeline([same, same]).run()
    assert lines(bench.output) == [{"n": 0, "_i": 0}, {"n": 1, "_i": 1}]


@pytest.mark.parametrize("streaming", [True, False])
def test_odd_bytes_are_read_right(bench: Bench, streaming: bool) -> None:
    """M14: a byte order mark, CRLF, blank lines (which have no number), unicode, escapes, deep rows."""
    rows: list[Any] = [
        {"n": 0, "text": "ünïcödé \U0001f600 \u2028 \u2029 \x7f"},
        {"n": 1, "text": 'tab\tquote"back\\slash\u0000nul'},
        {"n": 2, "deep": {"a": [{"b": [[[]]]}]}, "": "empty key", "_x": None},
        {"n": 3, "float": 1e-300, "int": 2**53 + 1, "neg": -0.5, "big": 2**63 - 1},
    ]
    data = b"\xef\xbb\xbf" + b"\r\n".join(
        json.dumps(row, ensure_ascii=bool(n % 2)).encode() + b"\r\n" * (n % 2) for n, row in enumerate(rows)
    )
    bench.input.write_bytes(data + b"\r\n\r\n  \n".replace(b"  \n", b"\n"))
    bench.pipeline([same, same], streaming=streaming).run()
    assert lines(bench.output) == [{**row, "_i": n} for n, row in enumerate(rows)]


@pytest.mark.slow
@pytest.mark.sampled(1)
@pytest.mark.parametrize("async_mode", [True, False])
def test_rows_of_a_megabyte_go_through(bench: Bench, async_mode: bool) -> None:
    """M20: rows far larger than any block; in JSONL and in CSV cells."""
    cell = "many words, " * 20 + 'a "quote"\n'
    rows = [{"n": n, "text": cell * (1_000_000 // len(cell)) + str(n)} for n in range(6)]
    bench.give(rows)
    bench.pipeline(
        [same, same],
        streaming=True,
        parallel_size=2,
        default_protocol="csv://",
        output_uri=f"csv://{bench.folder / 'out.csv'}",
        writer_config={"async_mode": async_mode, "queue_size": 2},
    ).run()
    found = stored(f"csv://{bench.folder / 'out.csv'}")
    assert bag(found) == bag({"n": str(row["n"]), "text": row["text"], "_i": row["n"]} for row in rows)


@pytest.mark.slow
def test_one_row_may_become_none_one_or_very_many(bench: Bench) -> None:
    """M12, M14: widths of 0, 1 and 30,000, also when the queue holds far fewer."""
    bench.give([{"width": width} for width in (0, 1, 30_000, 2, 0)])
    bench.pipeline(
        [lambda item: [{"k": k} for k in range(item["width"])], same],
        streaming=True,
        writer_config={"queue_size": 100, "flush_batch_size": 10},
    ).run()
    found = lines(bench.output)
    assert bag(found) == bag(
        {"k": k, "_i": f"{n}_{k}"} for n, width in enumerate((0, 1, 30_000, 2, 0)) for k in range(width)
    )


@pytest.mark.parametrize("protocol", ["jsonl", "csv"])
def test_an_input_that_grows_is_followed_until_its_seal(bench: Bench, protocol: str) -> None:
    """M17, M18: rows that another thread appends, torn in the middle of lines, arrive whole and once."""
    path = bench.folder / f"in.{protocol}"
    stream = (JsonlStream if protocol == "jsonl" else CsvStream)(f"{protocol}://{path}")
    count = 300

    def append() -> None:
        if protocol == "jsonl":
            data = b"".join(json.dumps({"n": str(n), "text": "two\nlines"}).encode() + b"\n" for n in range(count))
        else:
            data = b"n,text\n" + b"".join(f'{n},"two\nlines"\n'.encode() for n in range(count))
        with path.open("ab", buffering=0) as file:
            for first in range(0, len(data), 97):
                file.write(data[first : first + 97])
                if first % (97 * 8) == 0:
                    time.sleep(0.002)
        stream.seal()

    writer = threading.Thread(target=append)
    pipeline = bench.pipeline(
        [same, same],
        input_uri=f"{protocol}://{path}",
        streaming=True,
        parallel_size=3,
        batch_size=2,
        follow_input=True,
        writer_config={"retry_interval": 0.005},
    ).create("a")
    pipeline.start()
    writer.start()
    report = pipeline.wait(PATIENCE_SECONDS)
    writer.join()
    assert report is not None
    assert report.status == Status.COMPLETED
    assert bag(lines(bench.output)) == bag({"n": str(n), "text": "two\nlines", "_i": n} for n in range(count))


def test_a_half_written_line_is_no_row_until_it_is_whole(bench: Bench) -> None:
    """M18: not even when what is there would parse."""
    bench.input.write_text('{"n": 0}\n12')
    pipeline = bench.pipeline([same], follow_input=True, writer_config={"retry_interval": 0.01}).create("a")
    pipeline.start()
    eventually(lambda: bench.output.exists() and len(lines(bench.output)) == 1)
    time.sleep(0.15)
    assert len(lines(bench.output)) == 1
    with bench.input.open("a") as file:
        file.write("34")
    JsonlStream(f"jsonl://{bench.input}").seal()
    pipeline.wait(PATIENCE_SECONDS)
    assert lines(bench.output) == [{"n": 0, "_i": 0}, {"_i": 1, "data": 1234}]


def test_a_run_that_follows_its_input_is_resumed_where_it_was(bench: Bench) -> None:
    """M6, M17: cancelled while waiting; the input grows meanwhile; no row twice."""
    bench.give(numbered(20))
    pipeline = bench.pipeline([same, same], streaming=True, follow_input=True).create("a")
    pipeline.start()
    eventually(lambda: bench.output.exists() and len(lines(bench.output)) == 20)
    pipeline.cancel()
    pipeline.wait(PATIENCE_SECONDS)
    with bench.input.open("a") as file:
        file.writelines(json.dumps({"n": n}) + "\n" for n in range(20, 35))
    JsonlStream(f"jsonl://{bench.input}").seal()
    assert bench.pipeline([same, same]).resume("a").run().status == Status.COMPLETED
    assert bag(lines(bench.output)) == bag({"n": n, "_i": n} for n in range(35))


def test_slow_producers_and_whole_batches_do_not_wait_for_each_other_forever(bench: Bench) -> None:
    """M12, M17: a batch that is not full when the input ends is handed out short."""
    sizes: list[int] = []

    class Batches:
        name = "batches"

        def process_batch(self, items: list[Any], ctx: Any) -> Any:
            sizes.append(len(items))
            return items

    bench.give(numbered(3))
    pipeline = bench.pipeline(
        [Batches()], follow_input=True, batch_size=5, writer_config={"retry_interval": 0.01}
    ).create("a")
    pipeline.start()
    for n in range(3, 13):
        with bench.input.open("a") as file:
            file.write(json.dumps({"n": n}) + "\n")
        time.sleep(0.005)
    JsonlStream(f"jsonl://{bench.input}").seal()
    pipeline.wait(PATIENCE_SECONDS)
    assert sizes == [5, 5, 3]
    assert lines(bench.output) == [{"n": n, "_i": n} for n in range(13)]


def test_file_uris_and_bare_paths_go_by_their_extension(bench: Bench) -> None:
    """M16: `file://x.csv` is CSV; a path without a protocol is a file."""
    (bench.folder / "in.csv").write_text("n\n1\n2\n")
    bench.pipeline(
        [same], input_uri=str(bench.folder / "in.csv"), output_uri=f"file://{bench.folder / 'out.ndjson'}"
    ).run()
    assert lines(bench.folder / "out.ndjson") == [{"n": "1", "_i": 0}, {"n": "2", "_i": 1}]


def test_the_input_is_only_read(bench: Bench) -> None:
    """M17: the pipeline's own input gets no seal, no commit log, and keeps its bytes and its time."""
    bench.give(numbered(10))
    before = bench.input.read_bytes(), bench.input.stat().st_mtime_ns
    bench.pipeline([same]).run()
    assert (bench.input.read_bytes(), bench.input.stat().st_mtime_ns) == before
    assert not list(Path(bench.folder).glob("in.jsonl.*"))


class NamedStore(FileStream):
    """A protocol of the user's own, as 7.2 of the manual describes it: `store://name` lies in a folder."""

    codec = JsonlCodec()
    extension = "rows"
    folder: ClassVar[Path]

    @property
    def path(self) -> str:
        return str(self.folder / self.uri.partition("://")[2].replace("/", "-"))


@pytest.mark.parametrize("streaming", [True, False])
def test_a_protocol_of_the_users_own_works_for_every_stream_and_resumes(
    bench: Bench, streaming: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """M16 (7.2 of the manual): a subclass of FileStream that overrides `path`, as input, between and output."""
    NamedStore.folder = bench.folder / "bucket"
    monkeypatch.setattr(StreamFactory, "_protocols", dict(StreamFactory._protocols))
    StreamFactory.register("store", NamedStore)
    fail = True

    def work(item: Any) -> Any:
        if fail and item["n"] == 30:
            raise RuntimeError
        return item

    with StreamFactory.create("store://given").get_writer() as writer:
        writer.write(numbered(60))
    pipeline = bench.pipeline(
        [work, same],
        input_uri="store://given",
        output_uri="store://made",
        default_protocol="store://",
        base_path="deep/below",
        streaming=streaming,
    ).create("a")
    with pytest.raises(NodeFailedError):
        pipeline.run()
    fail = False
    bench.pipeline([work, same], input_uri="store://given", output_uri="store://made").resume("a").run()
    assert bag(stored("store://made")) == bag({"n": n, "_i": n} for n in range(60))
    names = {path.name for path in NamedStore.folder.iterdir()}
    assert names == {f"{name}{end}" for name in ("given", "made", "deep-below-a-node_0.rows") for end in ("", ".done")}


@pytest.mark.parametrize("name", ["with space", "ünï-çødé", "100%", "a#b?c=d&e", "quote's", "semi;colon", "{braces}"])
def test_folders_may_have_any_name(tmp_path: Path, name: str) -> None:
    """M16: a URI is a protocol and a path, and nothing in the path is taken for something else."""
    folder = tmp_path / name
    folder.mkdir()
    bench = Bench(folder)
    bench.give(numbered(5))
    bench.pipeline([same, same]).create(name).run()
    assert bench.pipeline([same, same]).resume(name).run().rows_out == 5
    assert len(lines(bench.output)) == 5


@pytest.mark.parametrize("streaming", [True, False])
def test_streams_in_memory_survive_a_failure_within_the_process(bench: Bench, streaming: bool) -> None:
    """M16, M6: `memory://` between the nodes: a resume in the same process goes on with it."""
    bench.give(numbered(60))
    fail = True

    def work(item: Any) -> Any:
        if fail and item["n"] == 30:
            raise RuntimeError
        return item

    settings = {"default_protocol": "memory://", "streaming": streaming, "parallel_size": 2}
    pipeline = bench.pipeline([same, work], **settings).create("a")
    with pytest.raises(NodeFailedError):
        pipeline.run()
    fail = False
    bench.pipeline([same, work]).resume("a").run()
    assert bag(lines(bench.output)) == bag({"n": n, "_i": n} for n in range(60))

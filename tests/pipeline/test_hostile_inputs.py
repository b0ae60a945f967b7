"""Inputs that are damaged, no files, or not what their names say: each is named, and no row is lost or read twice."""

from __future__ import annotations

import gzip
import os
import random
import socket
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from llm_datagen import DatagenError, InputWarning, StreamFactory
from llm_datagen.streams.storage.compression import compression_of

from ..kit.support import Bench, lines

ROW = b'{"n": 1}\n'
NOISE = random.Random(5).randbytes(1000)
KINDS = ("parquet", "arrow", "stream", "jsonl.gz", "jsonl.zst", "jsonl.xz", "jsonl.bz2", "json")


def same(row: Any) -> Any:
    return row


def packed(kind: str) -> bytes:
    """Return 100 rows as a file of a kind."""
    rows = [{"n": n, "noise": NOISE[n : n + 20].hex()} for n in range(100)]
    if kind in {"parquet", "arrow", "stream"}:
        import pyarrow as pa
        import pyarrow.parquet as pq

        out, table = pa.BufferOutputStream(), pa.Table.from_pylist(rows)
        if kind == "parquet":
            pq.write_table(table, out, row_group_size=30, write_page_checksum=True, use_dictionary=False)
        else:
            with (pa.ipc.new_file if kind == "arrow" else pa.ipc.new_stream)(out, table.schema) as writer:
                writer.write_table(table, 30)
        return bytes(out.getvalue().to_pybytes())
    text = ",\n".join(str(row).replace("'", '"') for row in rows).encode()
    if kind == "json":
        return b"[" + text + b"]"
    return compression_of(f".{kind.partition('.')[2]}").compress(text.replace(b"},", b"}") + b"\n")


def path_of(bench: Bench, kind: str) -> Path:
    return bench.folder / f"in.{'arrow' if kind == 'stream' else kind}"


def finish(bench: Bench, uri: str | Path) -> None:
    pipeline = bench.pipeline([same], input_uri=str(uri)).create("a", if_exists="resume")
    assert str(pipeline.run().status) == "completed"


@pytest.mark.sampled(6)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.002, 0.3, 0.9, 0.999])
def test_a_file_that_is_cut_short_is_named_and_read_when_it_is_whole(bench: Bench, kind: str, share: float) -> None:
    path, data = path_of(bench, kind), packed(kind)
    path.write_bytes(data[: max(1, int(len(data) * share))])
    with pytest.raises(DatagenError, match=rf"{path.name}"):
        finish(bench, path)
    path.write_bytes(data)
    finish(bench, path)
    assert sorted(row["n"] for row in lines(bench.output)) == list(range(100))


def flips(data: bytes, count: int) -> Iterator[bytes]:
    dice = random.Random(7)
    for _ in range(count):
        at = dice.randrange(len(data) // 10, len(data) * 6 // 10)
        yield data[:at] + bytes([data[at] ^ 1 << dice.randrange(8)]) + data[at + 1 :]


@pytest.mark.parametrize("kind", ["parquet", "jsonl.gz", "jsonl.zst", "jsonl.xz", "jsonl.bz2"])
def test_a_flipped_bit_where_there_are_checksums_is_found(tmp_path: Path, kind: str) -> None:
    for number, data in enumerate(flips(packed(kind), 5)):
        path = tmp_path / f"{number}.{kind}"
        path.write_bytes(data)
        with pytest.raises(DatagenError, match=rf"{path.name}.*(damaged|cut short)"):
            list(StreamFactory.create(str(path)).get_reader().read(10))


def test_exports_as_parquet_have_checksums_of_their_pages(bench: Bench) -> None:
    import pyarrow.parquet as pq

    bench.give([{"text": NOISE.hex()}])
    bench.pipeline([same], output_uri=f"{bench.folder}/out.parquet").create("a").run()
    column = pq.read_metadata(bench.folder / "out.parquet").row_group(0).column(1)
    data, at = (bench.folder / "out.parquet").read_bytes(), column.data_page_offset + column.total_compressed_size - 9
    (bench.folder / "bad.parquet").write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    with pytest.raises(OSError, match="CRC checksum"):
        pq.read_table(bench.folder / "bad.parquet", page_checksum_verification=True)


def listening(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(path))


SPECIAL: dict[str, Callable[[Path], object]] = {
    "pipe": os.mkfifo,
    "link in a circle": lambda path: path.symlink_to(path),
    "link to nothing": lambda path: path.symlink_to("nothing"),
    "link to a device": lambda path: path.symlink_to("/dev/zero"),
    "socket": listening,
}


def run_unwarned(bench: Bench, uri: str | Path, name: str) -> None:
    """Run without the warning of a file that is not there, which a run may wait for."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InputWarning)
        bench.pipeline([same], input_uri=str(uri), output_uri=f"{bench.folder}/{name}.jsonl").create(name).run()


@pytest.mark.sampled(6)
@pytest.mark.parametrize("ending", ["jsonl", "parquet", "arrow", "jsonl.gz", "json"])
@pytest.mark.parametrize("kind", SPECIAL)
def test_what_is_no_file_is_named_alone_and_among_others(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, kind: str, ending: str
) -> None:
    monkeypatch.chdir(bench.folder)
    folder = bench.folder / "in"
    folder.mkdir()
    (folder / "a.jsonl").write_bytes(ROW)
    SPECIAL[kind](folder / f"b.{ending}")
    for name, uri in {"alone": f"{folder}/b.{ending}", "folder": str(folder), "pattern": f"{folder}/*"}.items():
        with pytest.raises(DatagenError, match=rf"b\.{ending}"):
            run_unwarned(bench, uri, name)
    (folder / f"b.{ending}").unlink()
    finish(bench, f"{folder}/*")
    assert [row["n"] for row in lines(bench.output)] == [1]


def test_links_to_folders_that_lead_in_a_circle_give_no_row_twice(bench: Bench) -> None:
    (bench.folder / "in/sub").mkdir(parents=True)
    for name in ("a.jsonl", "sub/b.jsonl"):
        (bench.folder / "in" / name).write_bytes(ROW)
    (bench.folder / "in/sub/circle").symlink_to(bench.folder / "in")
    (bench.folder / "in/other").symlink_to(bench.folder / "elsewhere")
    (bench.folder / "elsewhere").mkdir()
    (bench.folder / "elsewhere/c.jsonl").write_bytes(ROW)
    finish(bench, f"{bench.folder}/in/**/*.jsonl")
    assert len(lines(bench.output)) == 3


@pytest.mark.sampled(6)
@pytest.mark.parametrize("ending", ["jsonl", "csv", "json", "txt", "jsonl.gz"])
@pytest.mark.parametrize(
    ("data", "says"),
    [
        (gzip.compress(ROW), "is no text, but gzip data: let its name end with .gz"),
        (b"PAR1\x15\x04\x15", "is no text, but Parquet: say parquet://"),
        (b"PK\x03\x04\x14\0", "a ZIP archive, or a file of Excel"),
        ('n\n"x"\n'.encode("utf-32"), "the file is UTF-32"),
    ],
    ids=["gzip", "parquet", "zip", "utf-32"],
)
def test_a_name_that_says_another_format_than_the_data_is_told(
    bench: Bench, ending: str, data: bytes, says: str
) -> None:
    path = bench.folder / f"in.{ending}"
    path.write_bytes(gzip.compress(data) if ending.endswith("gz") else data)
    with pytest.raises(DatagenError, match=rf"{path.name}.*{says}"):
        finish(bench, path)


def test_rows_behind_the_end_of_an_arrow_stream_are_told(bench: Bench) -> None:
    path = path_of(bench, "stream")
    path.write_bytes(packed("stream") * 2)
    with pytest.raises(DatagenError, match=r"in\.arrow .*its stream ends at byte \d+, and \d+ bytes stand behind it"):
        finish(bench, path)


@pytest.mark.parametrize("kind", ["arrow", "stream"])
def test_a_table_that_is_cut_while_it_is_read_is_an_error(tmp_path: Path, kind: str) -> None:
    """An access to what is mapped, and gone, would kill the process."""
    path = tmp_path / "in.arrow"
    path.write_bytes(packed(kind))
    with closing(StreamFactory.create(str(path)).cursor(follow=False)) as cursor:
        assert cursor.read(10) is not None
        os.truncate(path, 100)

        def read_on() -> None:
            while cursor.read(10) is not None:
                pass

        with pytest.raises(DatagenError, match=r"in\.arrow cannot be read behind row \d+: it was cut to 100 bytes"):
            read_on()


def test_rows_of_a_node_that_are_exported_keep_their_types_whatever_is_between(bench: Bench) -> None:
    import pyarrow.parquet as pq

    bench.give([{"n": 1, "tags": ["a"]}])
    pipeline = bench.pipeline([same], output_uri=f"{bench.folder}/out.parquet", default_protocol="csv://")
    pipeline.create("a").run()
    assert pq.read_table(bench.folder / "out.parquet").to_pylist() == [{"_i": "0", "n": 1, "tags": ["a"]}]


@pytest.mark.slow
def test_tables_with_very_many_columns_are_read(tmp_path: Path) -> None:
    """What is asked of each column must not take time for each other column: it took minutes for some thousand."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = [f"c{number}" for number in range(5_000)]
    table = pa.Table.from_arrays([pa.array([1, 2])] * len(names), names=names)
    pq.write_table(table, tmp_path / "in.parquet")
    ((rows, _),) = StreamFactory.create(f"{tmp_path}/in.parquet").get_reader().read(10)
    assert [len(row) for row in rows] == [len(names) + 1] * 2  # with `_i`

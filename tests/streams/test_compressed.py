"""Compressed streams: what they hold comes out, from any row on; what is damaged is named."""

from __future__ import annotations

import bz2
import gzip
import itertools
import json
import lzma
import random
import zlib
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from backports import zstd

from llm_datagen import StreamFactory
from llm_datagen.errors import StreamChangedError, StreamError
from llm_datagen.streams import Coverage, Segment, Span
from llm_datagen.streams.storage.compression import compression_of

from .storages import drain, read_now

PACK: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": compression_of(".zst").compress,
}
ROWS = [{"n": n, "text": "ü" * (n % 97)} for n in range(3000)]
TEXT = "".join(json.dumps(row) + "\n" for row in ROWS).encode()

endings = pytest.mark.parametrize("ending", PACK)


def members(data: bytes, pack: Callable[[bytes], bytes], count: int) -> bytes:
    """Return data as so many members, which end anywhere."""
    cuts = [0, *sorted(random.Random(count).sample(range(len(data)), count - 1)), len(data)]
    return b"".join(pack(data[begin:end]) for begin, end in itertools.pairwise(cuts))


def given(folder: Path, ending: str, data: bytes) -> Any:
    path = folder / f"in.jsonl{ending}"
    path.write_bytes(data)
    return StreamFactory.create(str(path))


def number_of(stream: Any) -> int:
    """Return how many records there are, undecoded."""
    with closing(stream.cursor(follow=False)) as cursor:
        return sum(len(block.records) for block in iter(lambda: cursor.read(1), None))


@pytest.mark.sampled(2)
@endings
@pytest.mark.parametrize("count", [1, 7])
def test_rows_come_out_from_any_row_on(tmp_path: Path, ending: str, count: int) -> None:
    stream = given(tmp_path, ending, members(TEXT, PACK[ending], count))
    assert read_now(stream) == list(enumerate(ROWS))
    done = Coverage(
        [
            Span(0, 1000, 0, TEXT.find(b'{"n": 1000')),
            Span(1001, 2000, TEXT.find(b'{"n": 1001'), TEXT.find(b'{"n": 2000')),
        ]
    )
    left = [1000, *range(2000, 3000)]
    assert read_now(stream, done.gaps()) == [(n, ROWS[n]) for n in left]


@endings
def test_what_is_written_is_whole_after_each_flush_and_other_programs_read_it(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"out.csv{ending}"
    stream = StreamFactory.create(f"csv://{path}")
    unpack: Any = {".gz": gzip, ".bz2": bz2, ".xz": lzma, ".zst": zstd}[ending].decompress
    sink = stream.sink()
    lines = ["a,b"]
    for number in range(3):
        sink.append(sink.encoder.encode({"a": number, "b": "x"}) + b"\n", rows=1)
        lines.append(f"{number},x")
        assert unpack(path.read_bytes()).decode().split() == lines
    sink.close()
    again = stream.sink()  # it knows the header
    again.append(again.encoder.encode({"a": 3, "b": "y"}) + b"\n", rows=1)
    again.seal()
    assert unpack(path.read_bytes()).decode().split() == [*lines, "3,y"]
    assert [row for _, row in read_now(stream)] == [{"a": str(n), "b": "y" if n == 3 else "x"} for n in range(4)]
    stream.verify()


@endings
def test_an_output_without_rows_is_a_whole_file(tmp_path: Path, ending: str) -> None:
    stream = StreamFactory.create(str(tmp_path / f"out.jsonl{ending}"))
    stream.sink().seal()
    unpack: Any = {".gz": gzip, ".bz2": bz2, ".xz": lzma, ".zst": zstd}[ending].decompress
    assert Path(stream.path).stat().st_size
    assert unpack(Path(stream.path).read_bytes()) == b""
    assert read_now(stream) == []
    stream.verify()


@endings
def test_a_reader_that_follows_sees_each_row_once(tmp_path: Path, ending: str) -> None:
    stream = StreamFactory.create(str(tmp_path / f"s.jsonl{ending}"))
    sink = stream.sink()
    cursor = stream.cursor(follow=True)
    seen = []
    for number in range(5):
        sink.append(b'{"n":%d}\n' % number, rows=1)
        cursor.extend(sink.position.bytes, stream.place)
        seen += drain(cursor)
    assert not cursor.ended()
    sink.seal()
    seen += drain(cursor)
    assert seen == [(number, {"n": number}) for number in range(5)]
    assert cursor.ended()
    cursor.close()


@endings
def test_a_file_that_is_cut_short_gives_its_rows_and_then_an_error(tmp_path: Path, ending: str) -> None:
    data = PACK[ending](TEXT[: len(TEXT) // 2]) + PACK[ending](TEXT[len(TEXT) // 2 :])
    stream = given(tmp_path, ending, data[:-20])
    rows: list[Any] = []

    def read_on() -> None:
        with closing(stream.cursor(follow=False)) as cursor:
            while (block := cursor.read(100)) is not None:
                rows.extend(block.decode(record) for record in block.records)

    with pytest.raises(StreamError, match=r"in\.jsonl.* is cut short: it ends at byte \d+, within"):
        read_on()
    assert rows == ROWS[: len(rows)]
    assert rows


@endings
@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda data: b'{"n": 1}\n', "is no .* data, though its name says so"),
        (lambda data: data + b"garbage at the end", r"has something else behind byte \d+ than"),
        (lambda data: data[:200] + bytes(64) + data[264:], "is damaged"),
    ],
    ids=["not compressed", "garbage behind", "damaged"],
)
def test_what_is_no_such_data_is_named(
    tmp_path: Path, ending: str, change: Callable[[bytes], bytes], says: str
) -> None:
    noise = random.Random(1).randbytes(3000).hex().encode()
    stream = given(tmp_path, ending, change(PACK[ending](b'{"x": "%b"}\n' % noise)))
    with pytest.raises(StreamError, match=says):
        number_of(stream)


@endings
def test_padding_and_empty_files_and_empty_members_are_no_rows(tmp_path: Path, ending: str) -> None:
    pack = PACK[ending]
    cases: list[tuple[bytes, list[Any]]] = [
        (b"", []),
        (pack(b""), []),
        (pack(b"") + pack(b"{}\n") + pack(b"") + bytes(512), [(0, {})]),
    ]
    for data, rows in cases:
        assert read_now(given(tmp_path, ending, data)) == rows


def skippable(length: int, number: int = 0) -> bytes:
    """Return a frame of Zstandard that holds nothing of the file (RFC 8878, 3.1.2)."""
    return bytes((0x50 + number, 0x2A, 0x4D, 0x18)) + length.to_bytes(4, "little") + bytes(length)


def test_frames_of_zstandard_that_hold_nothing_are_passed_over_wherever_they_stand(tmp_path: Path) -> None:
    pack = PACK[".zst"]
    half = TEXT.index(b'{"n": 1500')
    first, last = pack(TEXT[:half]), pack(TEXT[half:])
    for data in (
        skippable(4) + first + last,
        first + skippable(0) + skippable(700_000, 15) + last,  # longer than what is read at once
        first + last + skippable(4),
        first + last + skippable(4) + bytes(512) + skippable(300_000),
    ):
        stream = given(tmp_path, ".zst", data)
        assert read_now(stream) == list(enumerate(ROWS))
        later: Any = StreamFactory.create(stream.uri)
        later.use_seek_mark(stream.seek_mark(half))
        left = [Segment(1500, half)]
        assert read_now(later, left) == [(n, ROWS[n]) for n in range(1500, 3000)]
        assert number_of(stream) == 3000
    assert read_now(given(tmp_path, ".zst", skippable(4) + skippable(0))) == []


@pytest.mark.parametrize("left", [2, 6, 11])
def test_a_file_that_ends_within_a_frame_that_holds_nothing_is_cut_short(tmp_path: Path, left: int) -> None:
    for whole in (b"", PACK[".zst"](TEXT)):
        stream = given(tmp_path, ".zst", whole + skippable(4)[:left])
        with pytest.raises(StreamError, match=rf"is cut short: it ends at byte {len(whole) + left}, within Zstandard"):
            number_of(stream)


def test_headers_of_gzip_with_all_that_they_may_have_are_read(tmp_path: Path) -> None:
    plain = gzip.compress(b"{}\n", mtime=0)
    flags = bytes((plain[3] | 0x1E,))  # extra field, name, comment, checksum of the header
    head = plain[:3] + flags + plain[4:10] + b"\x04\0BC\x02\0" + b"name\0" + b"comment\0"
    with_all = head + (zlib.crc32(head) & 0xFFFF).to_bytes(2, "little") + plain[10:]
    stream = given(tmp_path, ".gz", with_all + bytes(3) + with_all + bytes(600_000) + plain)
    assert read_now(stream) == [(0, {}), (1, {}), (2, {})]


@pytest.mark.sampled(1)
@endings
def test_an_edited_file_is_refused_when_rows_of_it_were_read(tmp_path: Path, ending: str) -> None:
    stream = given(tmp_path, ending, PACK[ending](TEXT))
    known = stream.fingerprint(follow=False)
    done = Coverage([Span(0, 1, 0, TEXT.index(b"\n") + 1)])
    stream.check_fingerprint(known, done, follow=False)
    given(tmp_path, ending, Path(stream.path).read_bytes() + PACK[ending](b"{}\n"))  # it has grown
    stream.check_fingerprint(known, done, follow=False)
    given(tmp_path, ending, PACK[ending](TEXT.replace(b'"n": 2999', b'"n": 2998')))
    stream.check_fingerprint(known, [], follow=False)  # nothing was read
    with pytest.raises(StreamChangedError, match="the file must stay as it was"):
        stream.check_fingerprint(known, done, follow=False)


def test_a_process_that_goes_on_unpacks_from_the_member_that_the_last_one_knew(tmp_path: Path) -> None:
    text = b"".join(b'{"n": %d}\n' % n for n in range(100_000))
    data = members(text, gzip.compress, 40)
    stream = given(tmp_path, ".gz", data)
    assert len(read_now(stream)) == 100_000  # meets all members
    offset = text.index(b'{"n": 90000}')
    mark = stream.seek_mark(offset)
    assert 0 < mark[0] <= offset
    later: Any = StreamFactory.create(stream.uri)
    later.use_seek_mark(mark)
    with closing(later.open_data()) as file:
        assert file.read_at(offset, 12) == b'{"n": 90000}'
        assert mark[1] < file.raw_offset
        assert file.read_at(0, 9) == text[:9]  # and back
    with closing(later.open_data()) as file:
        began_at: list[int] = []
        begin = file._begin

        def counted(offset: int, raw: int) -> None:
            began_at.append(raw)
            begin(offset, raw)

        file._begin = counted
        file.read_at(offset, 12)
    assert began_at == [mark[1]]
    assert read_now(later, [Segment(90_000, offset)]) == [(n, {"n": n}) for n in range(90_000, 100_000)]


def test_lines_of_errors_are_counted_once_and_also_backwards(tmp_path: Path) -> None:
    text = b"".join(b'{"n": %d}\n' % n for n in range(200_000))
    stream = given(tmp_path, ".gz", gzip.compress(text))
    opened: list[Any] = []
    open_data = stream.open_data

    def counted() -> Any:
        opened.append(open_data())
        return opened[-1]

    stream.open_data = counted
    chance = random.Random(1)
    for line in sorted(chance.sample(range(200_000), 300), key=lambda line: line + chance.randrange(5000)):
        place = stream.line_place(text.index(b'{"n": %d}' % line))
        assert place.endswith(f"in.jsonl.gz, line {line + 1}")
    assert len(opened) == 1


def test_only_what_is_near_is_in_memory(tmp_path: Path) -> None:
    stream = given(tmp_path, ".gz", gzip.compress(b'{"n": 1}\n' * 3_000_000))
    assert len(read_now(stream, [Segment(2_999_000, 2_999_000 * 9)])) == 1000
    with closing(stream.open_data()) as file:
        assert file.read_at(9 * 2_900_000, 9) == b'{"n": 1}\n'
        held = file._pieces
        assert 4 << 20 <= held.end - held.base < 7 << 20

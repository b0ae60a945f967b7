"""Responses are read as they come, in whatever pieces, up to a bound; and what is no response is none."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib

import pytest

from llm_datagen.llm.http.body import DamagedBodyError
from llm_datagen.llm.http.direct.response_reader import ResponseReader
from llm_datagen.llm.http.network_errors import NoHttpError
from llm_datagen.llm.http.response import Response

BODY = b'{"choices": [{"message": {"content": "yes"}}]}'
PACKED = gzip.compress(BODY, mtime=0)
OK = b"HTTP/1.1 200 OK\r\n"
LENGTH = b"Content-Length: %d\r\n\r\n" % len(BODY)
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
PIECE = 1 << 16


def chunks(body: bytes, size: int, extension: bytes = b"", trailer: bytes = b"") -> bytes:
    """Return a body in chunks."""
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x%b\r\n%b\r\n" % (len(each), extension, each) for each in pieces) + b"0\r\n%b\r\n" % trailer


WHOLE = {
    "with a length": OK + LENGTH + BODY,
    "in chunks": OK + CHUNKED + chunks(BODY, 7),
    "in chunks of one byte": OK + CHUNKED + chunks(BODY, 1),
    "with extensions and trailers": OK
    + CHUNKED
    + chunks(BODY, 9, b';a=b;c="d"', b"X-A: b\r\nContent-Encoding: br\r\n"),
    "packed": OK + b"Content-Encoding: gzip\r\n" + CHUNKED + chunks(PACKED, 11),
    "packed, with a length": OK + b"CONTENT-ENCODING: GZip\r\nContent-length: %d\r\n\r\n%b" % (len(PACKED), PACKED),
    "after others": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nContent-Encoding: br\r\n\r\n"
    + OK
    + LENGTH
    + BODY,
    "with line feeds": (OK + LENGTH).replace(b"\r\n", b"\n") + BODY,
    "with odd bytes": b"HTTP/1.1 200 \xff\r\nX: \xff\xfe\x01\r\n" + LENGTH + BODY,
    "with a folded header": OK + b"X: a\r\n b\r\n" + LENGTH + BODY,
    "by HTTP/1.0": b"HTTP/1.0 200 OK\r\n" + LENGTH + BODY,
}


def read(*pieces: bytes) -> tuple[ResponseReader, list[int]]:
    """Have pieces read as a response; returns its reader, and the statuses that it told of."""
    reader, begun = ResponseReader(), list[int]()
    reader.begin(1 << 20, begun.append)
    for piece in pieces:
        reader.feed(piece)
    return reader, begun


@pytest.mark.parametrize("data", WHOLE.values(), ids=WHOLE)
def test_a_response_is_read_in_pieces_of_every_size(data: bytes) -> None:
    for size in range(1, len(data) + 1):
        reader, begun = read(*(data[at : at + size] for at in range(0, len(data), size)))
        response = reader.response()
        assert (reader.is_over, begun, response.status, response.content) == (True, [200], 200, BODY)
        assert "X-A" not in response.headers
        assert reader.is_last == data.startswith(b"HTTP/1.0")


@pytest.mark.parametrize("data", WHOLE.values(), ids=WHOLE)
def test_a_response_that_is_cut_at_any_byte_is_not_whole(data: bytes) -> None:
    for size in range(len(data)):
        reader, begun = read(data[:size])
        assert not reader.is_over
        assert not reader.end()
        assert len(begun) <= 1


@pytest.mark.parametrize("head", [OK, b"HTTP/1.0 200 OK\r\n", OK + b"Transfer-Encoding: chunked, identity\r\n"])
def test_a_response_that_says_no_length_ends_with_its_connection(head: bytes) -> None:
    reader, _ = read(head + b"\r\n" + BODY[:5], BODY[5:])
    assert not reader.is_over
    assert reader.end()
    assert (reader.is_over, reader.is_last, reader.response().content) == (True, True, BODY)


@pytest.mark.parametrize("first", [b"identity", b"gzip"])
def test_chunks_are_seen_also_where_two_headers_say_how_a_response_is_sent(first: bytes) -> None:
    data = OK + b"Transfer-Encoding: %b\r\n" % first + CHUNKED + chunks(BODY, 50)
    cut, _ = read(data[:-5])
    assert not cut.end()
    whole, _ = read(data)
    assert whole.response().content == BODY


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (BODY, "Expected HTTP/"),
        (b"HTTP/1.2 200 OK\r\n", "Invalid HTTP version"),
        (b"HTTP/1.1 20 OK\r\n", "Invalid status code"),
        (OK + b"Content-Length: 3\r\n" + CHUNKED, "Transfer-Encoding can't be present with Content-Length"),
        (OK + b"Content-Length: 3\r\nContent-Length: 3\r\n", "Duplicate Content-Length"),
        (OK + b"X: a\nContent-Length: 3\r\n" + LENGTH, "Duplicate Content-Length"),
        (OK + b"Content-Length: -1\r\n", "Invalid character in Content-Length"),
        (OK + b"Content-Length: 99999999999999999999\r\n", "Content-Length overflow"),
        (OK + b"X Y: 1\r\n", "Invalid header token"),
        (OK + CHUNKED + b"x\r\n", "Invalid character in chunk size"),
        (OK + CHUNKED + b"ffffffffffffffffff\r\n", "Chunk size overflow"),
        (OK + CHUNKED + b"3\r\nabcd\r\n", "Expected LF after chunk data"),
    ],
)
def test_what_is_no_http_is_an_error(data: bytes, why: str) -> None:
    with pytest.raises(NoHttpError, match=f"what came is no HTTP: {why}"):
        read(data)


@pytest.mark.parametrize(
    ("start", "more"),
    [
        (OK + b"X: ", b"x" * PIECE),
        (OK, b"X: y\r\n" * (PIECE // 6)),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * (PIECE // 25)),
        (OK + CHUNKED + b"1;", b"x" * PIECE),
        (OK + CHUNKED + chunks(b"x" * (1 << 19), 1 << 19)[:-2] + b"X: ", b"x" * PIECE),
    ],
    ids=["a header", "headers", "what stands before it", "the extension of a chunk", "what stands behind its body"],
)
def test_what_never_ends_is_given_up_after_a_megabyte(start: bytes, more: bytes) -> None:
    reader, _ = read(start)
    given = [more] * ((1 << 20) // len(more) - 1)
    for piece in given:
        reader.feed(piece)
    with pytest.raises(NoHttpError, match="more came than a response of this length may have"):
        read(start, *given, more, more, more)


def test_a_body_in_tiny_chunks_takes_no_more_memory_than_another() -> None:
    data = OK + CHUNKED + chunks(b"xy" * (1 << 14), 2)
    reader, _ = read()
    tracemalloc.start()
    try:
        reader.feed(data)
        assert tracemalloc.get_traced_memory()[1] < 1 << 18
    finally:
        tracemalloc.stop()
    assert reader.response().content == b"xy" * (1 << 14)


@pytest.mark.parametrize("status", [101, 204, 304, 0, 205, 999])
def test_other_statuses_are_read_like_others(status: int) -> None:
    has_body = status in (0, 205, 999)
    reader, begun = read(b"HTTP/1.1 %03d X\r\n" % status + LENGTH + BODY)
    assert (reader.is_over, begun, reader.is_last) == (True, [status], not has_body)
    response = reader.response()
    assert (response.status, response.content) == (status, BODY if has_body else b"")


def test_a_switch_to_another_protocol_ends_the_connection() -> None:
    reader, _ = read(b"HTTP/1.1 101 X\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nwhat another protocol says")
    assert (reader.is_over, reader.is_last) == (True, True)
    assert reader.response() == Response(101, reader.response().headers, b"", is_cut=False)


@pytest.mark.parametrize("surplus", [OK + LENGTH + BODY, b"H", b"junk"])
def test_what_follows_a_response_is_no_part_of_it_and_ends_its_connection(surplus: bytes) -> None:
    reader, begun = read(OK + LENGTH + BODY + surplus)
    assert (reader.is_over, reader.is_last, begun, reader.response().content) == (True, True, [200], BODY)


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        (b"gzip", BODY),
        (b"gzip", PACKED[:-8] + bytes(8)),
        (b"deflate", zlib.compress(BODY)[:-4] + bytes(4)),
        (b"br", BODY),
        (b"gzip, gzip", gzip.compress(PACKED, mtime=0)),
    ],
)
def test_a_body_that_cannot_be_unpacked_is_damaged(encoding: bytes, body: bytes) -> None:
    with pytest.raises(DamagedBodyError):
        read(OK + b"Content-Encoding: %b\r\nContent-Length: %d\r\n\r\n%b" % (encoding, len(body), body))


def test_a_body_that_is_packed_small_and_is_long_is_cut() -> None:
    bomb = gzip.compress(bytes(8 << 20))
    tracemalloc.start()
    try:
        reader, _ = read(OK + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%b" % (len(bomb), bomb))
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
    response = reader.response()
    assert (reader.is_last, response.is_cut, len(response.content)) == (True, True, 1 << 20)

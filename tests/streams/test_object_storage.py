"""Files in an object store, by a store in memory: pieces, who may write, and kills at every request."""

from __future__ import annotations

import random
import zlib
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import obstore
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from obstore.store import MemoryStore

from llm_datagen import (
    ConfigError,
    StreamChangedError,
    StreamError,
    StreamExistsError,
    StreamFactory,
    StreamSealedError,
    StreamTakenOverError,
)
from llm_datagen.streams.commit_log import CommitLog
from llm_datagen.streams.object_streams import ObjectStream
from llm_datagen.streams.position import Position
from llm_datagen.streams.seal import Seal
from llm_datagen.streams.sink import Sink
from llm_datagen.streams.storage import object_parts, object_writing
from llm_datagen.streams.storage.bucket import Bucket
from llm_datagen.streams.storage.object_clients import client_of
from llm_datagen.streams.storage.object_requests import Requests
from llm_datagen.streams.storage.object_uri import ObjectUri
from llm_datagen.streams.storage.objects import ObjectStorage

from ..kit.cut_off import CutOffError, Turns, Wire

PATH = "s3://bucket/out.jsonl"
FLUSHES = [b'{"_i":0}\n', b'{"_i":1}\n{"_i":2}\n', b'{"_i":3}\n']
DEAD = b'{"dead":1}\n'


def storage_of(client: Any) -> ObjectStorage:
    return ObjectStorage(lambda uri: Bucket(Requests(client, uri.place)))


def stream_of(storage: ObjectStorage, path: str = PATH) -> ObjectStream:
    stream = ObjectStream(path)
    stream.storage = storage
    return stream


def keys(client: Any) -> list[str]:
    return sorted(meta["path"] for page in obstore.list(client) for meta in page)


def test_bytes_are_read_as_they_were_appended_at_every_offset() -> None:
    storage = storage_of(MemoryStore())
    file = storage.open_append(PATH)
    assert storage.size(PATH) == 0
    for data in FLUSHES:
        file.append(data)
    whole = b"".join(FLUSHES)
    assert storage.size(PATH) == len(whole)
    reader = storage.open_read(PATH)
    for begin in range(len(whole) + 1):
        for length in (0, 1, 7, 100):
            assert reader.read_at(begin, length) == whole[begin : begin + length]
    file.append(b"more")
    assert reader.size() == len(whole) + 4
    assert reader.read_at(len(whole) - 1, 100) == b"\nmore"


def test_what_is_appended_after_a_cut_stands_in_place_of_what_was_cut() -> None:
    storage = storage_of(MemoryStore())
    file = storage.open_append(PATH)
    for data in FLUSHES:
        file.append(data)
    other = storage.open_append(PATH)
    other.truncate(len(FLUSHES[0]))
    other.append(b"new")
    assert storage.read_all(PATH) == FLUSHES[0] + b"new"
    file.append(b"late")  # lies where the head says that another one writes
    assert storage.read_all(PATH) == FLUSHES[0] + b"new"


def test_who_follows_never_reads_what_a_dead_writer_has_left_behind_its_last_commit() -> None:
    storage = storage_of(MemoryStore())
    first = storage.open_append(PATH)
    first.append(b"committed, ")
    first.append(b"never committed")
    reader = storage.open_read(PATH)
    assert reader.read_at(0, 11) == b"committed, "
    second = storage.open_append(PATH)
    second.truncate(11)
    second.append(b"what came in its place")
    assert reader.read_at(11, 22) == b"what came in its place"
    assert reader.read_at(0, 33) == b"committed, what came in its place"


def test_a_file_is_one_object_when_it_has_ended_and_not_before() -> None:
    client = MemoryStore()
    storage = storage_of(client)
    file = storage.open_append(PATH)
    for data in FLUSHES:
        file.append(data)
        assert "out.jsonl" not in keys(client)
    reader = storage.open_read(PATH)
    assert reader.read_at(0, 3) == FLUSHES[0][:3]
    file.finish(zlib.crc32(b"".join(FLUSHES)))
    storage.remove_pieces(PATH)
    assert keys(client) == ["out.jsonl"]
    assert reader.read_at(0, 1000) == b"".join(FLUSHES), "who has read pieces goes on with the object"


@pytest.mark.parametrize("asks", ["reads", "reads on", "opens", "size", "size of the file"])
def test_pieces_that_are_put_together_and_removed_while_they_are_listed_are_those_of_the_object(
    asks: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who is told of the last bytes of a stream may read them just when it is sealed."""
    storage = storage_of(MemoryStore())
    file = storage.open_append(PATH)
    file.append(FLUSHES[0])
    reader = storage.open_read(PATH)
    if asks == "reads on":
        assert reader.read_at(0, len(FLUSHES[0])) == FLUSHES[0]
    for data in FLUSHES[1:]:
        file.append(data)
    whole = b"".join(FLUSHES)
    listed = Bucket.list

    def end_then_list(bucket: Bucket, *given: Any) -> Any:
        monkeypatch.setattr(Bucket, "list", listed)
        file.finish(zlib.crc32(whole))
        storage.remove_pieces(PATH)
        return listed(bucket, *given)

    monkeypatch.setattr(Bucket, "list", end_then_list)
    match asks:
        case "size":
            assert storage.size(PATH) == len(whole)
        case "size of the file":
            assert reader.size() == len(whole)
        case "opens":
            assert storage.open_read(PATH).read_at(0, len(whole)) == whole
        case _:
            assert reader.read_at(0, len(whole)) == whole
    assert Bucket.list is listed


def test_an_object_that_is_appended_to_keeps_its_bytes() -> None:
    client = MemoryStore()
    storage = storage_of(client)
    storage.replace(PATH, b"old", sync=True)
    file = storage.open_append(PATH)
    file.append(b"new")
    assert storage.read_all(PATH) == b"oldnew"
    file.finish(zlib.crc32(b"oldnew"))
    storage.remove_pieces(PATH)
    assert keys(client) == ["out.jsonl"]
    assert storage.read_all(PATH) == b"oldnew"


def test_a_long_file_is_put_together_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_writing, "_COPY_BYTES", 1000)
    monkeypatch.setattr(object_writing, "_PIECE_BYTES", 3000)
    storage = storage_of(MemoryStore())
    data = random.Random(1).randbytes(20_000)
    file = storage.open_append(PATH)
    file.append(data[:12_345])
    file.append(data[12_345:])
    file.finish(zlib.crc32(data))
    assert storage.read_all(PATH) == data


def test_pieces_that_were_changed_are_never_put_together(monkeypatch: pytest.MonkeyPatch) -> None:
    for copy_bytes in (1 << 20, 5):  # one put, and one of several parts
        monkeypatch.setattr(object_writing, "_COPY_BYTES", copy_bytes)
        client = MemoryStore()
        storage = storage_of(client)
        file = storage.open_append(PATH)
        file.append(b"right and more")
        [piece] = [key for key in keys(client) if not key.endswith("head")]
        obstore.put(client, piece, b"wrong and more")
        with pytest.raises(StreamError, match="checksum of its pieces"):
            file.finish(zlib.crc32(b"right and more"))
        assert "out.jsonl" not in keys(client)


def test_a_head_that_cannot_be_read_is_an_error() -> None:
    client = MemoryStore()
    obstore.put(client, object_parts.head_of("out.jsonl"), b'{"format": 2}')
    with pytest.raises(StreamError, match="format 2 is not 1"):
        storage_of(client).size(PATH)


class _Writers:
    """Some writers of one stream, each as far as it believes to be, and what is committed in truth."""

    def __init__(self) -> None:
        self.storage = storage_of(MemoryStore())
        self.sinks: dict[int, Sink] = {}
        self.committed = b""
        self.owner: int | None = None

    def begin(self, number: int) -> None:
        self.sinks[number] = stream_of(self.storage).sink()
        self.owner = number

    def flush(self, number: int, data: bytes) -> None:
        sink = self.sinks.get(number)
        if sink is None:
            return
        try:
            sink.append(data, rows=1)
        except StreamTakenOverError:
            assert number != self.owner
            del self.sinks[number]
        else:
            assert number == self.owner, "a writer that was succeeded has committed"
            self.committed += data


ACTS = st.lists(st.tuples(st.sampled_from(["begin", "flush", "flush", "flush"]), st.integers(0, 2)), max_size=20)


@settings(max_examples=40)
@given(ACTS)
def test_of_several_writers_only_the_last_one_that_began_commits(acts: list[tuple[str, int]]) -> None:
    writers = _Writers()
    for turn, (act, number) in enumerate(acts):
        if act == "begin":
            writers.begin(number)
        else:
            writers.flush(number, b'{"_i":%d,"by":%d}\n' % (turn, number))
        size = len(writers.committed)
        if size:
            assert writers.storage.open_read(PATH).read_at(0, size) == writers.committed


def write_all(storage: ObjectStorage) -> None:
    """Write a stream to its end, going on where it is."""
    stream = stream_of(storage)
    if stream.is_sealed():
        stream.remove_leftovers()
        return
    sink = stream.sink(source="in")
    for number in range(sink.position.rows, 3):
        sink.append(FLUSHES[number], rows=1, dead=number == 1, dead_letters=DEAD if number == 1 else b"")
    sink.seal()


def check_at_any_time(client: Any) -> None:
    """Check what a program sees that knows nothing of pieces."""
    if "out.jsonl" in keys(client):
        assert bytes(obstore.get(client, "out.jsonl").bytes()) == b"".join(FLUSHES)
    else:
        assert "out.jsonl.done" not in keys(client)


@pytest.mark.parametrize("is_sent", [False, True])
def test_a_kill_at_any_request_leaves_what_a_resume_brings_to_its_end(
    is_sent: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = 0
    while True:
        client = MemoryStore()
        wire = Wire(at, is_sent=is_sent)
        with monkeypatch.context() as patch:
            wire.install(patch)
            try:
                write_all(storage_of(client))
            except CutOffError:
                pass
            else:
                break
        check_at_any_time(client)
        write_all(storage_of(client))
        assert bytes(obstore.get(client, "out.jsonl").bytes()) == b"".join(FLUSHES)
        assert bytes(obstore.get(client, "out.jsonl.errors.jsonl").bytes()) == DEAD
        left = [key for key in keys(client) if "probe" not in key]
        assert left == ["out.jsonl", "out.jsonl.done", "out.jsonl.errors.jsonl"], f"request {at}"
        at += 1
    assert at > 50


@pytest.mark.sampled(25, of=200)
@pytest.mark.parametrize("seed", range(600))
def test_writers_that_meet_at_any_request_lose_and_double_nothing(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two or three that begin when they like, each with a client of its own: who is succeeded is refused."""
    chance = random.Random(seed)
    client = MemoryStore()
    refused: list[bool] = []

    def program() -> None:
        try:
            write_all(storage_of(client))
        except (StreamTakenOverError, StreamSealedError, StreamExistsError):
            refused.append(True)
        check_at_any_time(client)

    with monkeypatch.context() as patch:
        writers = chance.choice([2, 2, 3])
        Turns(chance, [program] * writers).run(patch)
    write_all(storage_of(client))
    assert bytes(obstore.get(client, "out.jsonl").bytes()) == b"".join(FLUSHES)
    assert bytes(obstore.get(client, "out.jsonl.errors.jsonl").bytes()) == DEAD
    assert len(refused) < writers, "one of them has ended it"


def test_a_writer_that_was_succeeded_neither_seals_nor_removes_anything() -> None:
    client = MemoryStore()
    first = stream_of(storage_of(client)).sink()
    first.append(FLUSHES[0], rows=1)
    second = stream_of(storage_of(client)).sink()
    with pytest.raises(StreamTakenOverError, match="another writer has taken the stream over"):
        first.seal()
    assert "out.jsonl" not in keys(client)
    second.append(FLUSHES[1], rows=2)
    second.seal()
    assert bytes(obstore.get(client, "out.jsonl").bytes()) == FLUSHES[0] + FLUSHES[1]


def test_who_was_succeeded_while_it_began_removes_no_dead_letters_of_its_successor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    storage, start = storage_of(MemoryStore()), CommitLog.start
    successors: list[Sink] = []

    def begin_and_be_succeeded(log: CommitLog, position: Position) -> None:
        start(log, position)
        monkeypatch.setattr(CommitLog, "start", start)
        successors.append(stream_of(storage).sink())
        successors[0].append(FLUSHES[0], rows=1, dead=1, dead_letters=DEAD)

    monkeypatch.setattr(CommitLog, "start", begin_and_be_succeeded)
    first = stream_of(storage).sink()
    assert storage.read_all(f"{PATH}.errors.jsonl") == DEAD
    with pytest.raises(StreamTakenOverError):
        first.append(FLUSHES[0], rows=1)
    successors[0].seal()
    assert storage.read_all(f"{PATH}.errors.jsonl") == DEAD


def test_who_begins_while_another_one_ends_the_stream_writes_no_second_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The log is gone with the seal: to begin a new one is not to be the first."""
    client, start = MemoryStore(), CommitLog.start
    storage = storage_of(client)

    def begin_when_it_has_ended(log: CommitLog, position: Position) -> None:
        monkeypatch.setattr(CommitLog, "start", start)
        write_all(storage)
        start(log, position)

    monkeypatch.setattr(CommitLog, "start", begin_when_it_has_ended)
    with pytest.raises(StreamError):
        stream_of(storage).sink(source="in")
    assert bytes(obstore.get(client, "out.jsonl").bytes()) == b"".join(FLUSHES)
    write_all(storage)
    left = [key for key in keys(client) if "probe" not in key]
    assert left == ["out.jsonl", "out.jsonl.done", "out.jsonl.errors.jsonl"]


@pytest.mark.parametrize("kept", [b"", DEAD])
def test_dead_letters_that_were_never_committed_are_gone_when_the_stream_has_ended(kept: bytes) -> None:
    storage = storage_of(MemoryStore())
    first = stream_of(storage).sink()
    first.append(FLUSHES[0], rows=1, dead=len(kept) and 1, dead_letters=kept)
    torn = storage.open_append(f"{PATH}.errors.jsonl")
    torn.append(b"never committed")
    second = stream_of(storage).sink()
    second.append(FLUSHES[1], rows=2)
    second.seal()
    assert storage.read_all(f"{PATH}.errors.jsonl") == (kept or None)


def test_the_probe_of_a_killed_process_goes_when_the_stream_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    client = MemoryStore()
    with monkeypatch.context() as patch:
        Wire(3, is_sent=True).install(patch)
        with pytest.raises(CutOffError):
            storage_of(client).open_log(f"{PATH}.commits")
    [probe] = keys(client)
    assert probe.startswith("out.jsonl.parts/probe-")
    sink = stream_of(storage_of(client)).sink(source="jsonl://in.jsonl")
    sink.append(FLUSHES[0], rows=1)
    sink.seal()
    assert keys(client) == ["out.jsonl", "out.jsonl.done"]


def test_two_that_begin_at_once_do_not_both_go_on() -> None:
    storage = storage_of(MemoryStore())
    logs = [storage.open_log(f"{PATH}.commits") for _ in range(2)]
    logs[1].rewrite(b"second", sync=True)
    with pytest.raises(StreamTakenOverError):
        logs[0].rewrite(b"first", sync=True)


class _Unconditional:
    """A store that takes every put."""

    def __init__(self) -> None:
        self.client = MemoryStore()

    def install(self, patch: pytest.MonkeyPatch) -> None:
        put = obstore.put
        patch.setattr(obstore, "put", lambda client, key, data, mode=None, **more: put(client, key, data, **more))


def test_a_store_without_conditional_puts_is_refused_for_outputs(monkeypatch: pytest.MonkeyPatch) -> None:
    store = _Unconditional()
    store.install(monkeypatch)
    storage = storage_of(store.client)
    storage.replace(PATH, b"{}\n", sync=True)
    assert storage.read_all(PATH) == b"{}\n", "inputs are read"
    with pytest.raises(StreamError, match="two writers could both write"):
        stream_of(storage, "s3://bucket/other.jsonl").sink()
    assert keys(store.client) == ["out.jsonl"]


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment that knows no store."""
    import os

    for name in list(os.environ):
        if name.startswith(("AWS_", "AZURE_", "GOOGLE_")):
            monkeypatch.delenv(name)
    return monkeypatch


@pytest.mark.parametrize("scheme", ["s3", "gs", "az"])
def test_a_uri_leads_to_the_store_of_its_protocol(scheme: str, bare: pytest.MonkeyPatch) -> None:
    bare.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    bare.setenv("AZURE_STORAGE_ACCOUNT_KEY", "a2V5")
    bare.setenv("GOOGLE_SKIP_SIGNATURE", "true")
    stream = StreamFactory.create(f"{scheme}://bucket/a/b.jsonl.gz")
    assert isinstance(stream.storage, ObjectStorage)
    assert stream.path == f"{scheme}://bucket/a/b.jsonl.gz"
    assert stream.compression == ".gz"
    kind = {"s3": "S3Store", "gs": "GCSStore", "az": "AzureStore"}[scheme]
    assert type(client_of(scheme, "bucket")).__name__ == kind


def test_a_store_that_the_environment_does_not_know_is_refused_with_the_reason(bare: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="the environment does not say how to reach it"):
        client_of("az", "container")


@pytest.mark.parametrize(
    "uri",
    [
        "s3://",
        "s3://bucket",
        "s3://bucket/",
        "s3:///key.jsonl",
        "s3://bucket/a//b.jsonl",
        "s3://bucket/../b.jsonl",
        "s3://bucket/folder/",
    ],
)
def test_what_is_no_address_of_an_object_is_refused(uri: str) -> None:
    with pytest.raises(ConfigError):
        StreamFactory.create(uri)


@pytest.mark.parametrize(
    "uri",
    [
        "s3://AKIAKEY:secret@bucket/a.jsonl",
        "s3://secret@bucket/a.jsonl",
        "az://account.blob/a.jsonl?sig=secret&se=1",
        "s3://bucket/a.jsonl?X-Amz-Signature=secret",
    ],
)
def test_credentials_in_a_uri_are_refused_and_not_repeated(uri: str) -> None:
    with pytest.raises(ConfigError) as caught:
        StreamFactory.create(uri)
    assert "secret" not in str(caught.value)
    assert "AKIAKEY" not in str(caught.value)


@pytest.mark.parametrize("key", ["a b.jsonl", "ünï%20c.jsonl", "a?b#c.jsonl", "x/y=1/z.jsonl", "a+b&c.jsonl"])
def test_keys_are_taken_as_they_stand(key: str) -> None:
    client = MemoryStore()
    storage = storage_of(client)
    storage.replace(f"s3://bucket/{key}", b"x", sync=True)
    assert keys(client) == [key]
    assert storage.read_all(f"s3://bucket/{key}") == b"x"
    assert ObjectUri.parse(f"s3://bucket/{key}").key == key


def test_an_object_that_is_replaced_while_it_is_read_is_noticed() -> None:
    storage = storage_of(MemoryStore())
    storage.replace(PATH, b"x" * 1_000_000, sync=True)
    reader = storage.open_read(PATH)
    assert reader.read_at(0, 10) == b"x" * 10
    storage.replace(PATH, b"y" * 1_000_000, sync=True)
    with pytest.raises(StreamChangedError, match="was replaced while it was read"):
        reader.read_at(900_000, 10)


def test_a_store_that_heeds_no_condition_of_a_read_gives_no_mixture(monkeypatch: pytest.MonkeyPatch) -> None:
    storage = storage_of(MemoryStore())
    storage.replace(PATH, b"x" * 1_000_000, sync=True)
    reader = storage.open_read(PATH)
    assert reader.read_at(0, 10) == b"x" * 10
    storage.replace(PATH, b"y" * 1_000_000, sync=True)
    real = obstore.get

    def unconditional(client: Any, key: str, *, options: Any) -> Any:
        options.pop("if_match", None)
        return real(client, key, options=options)

    monkeypatch.setattr(obstore, "get", unconditional)
    with pytest.raises(StreamChangedError, match="was replaced while it was read"):
        reader.read_at(900_000, 10)


def test_an_input_that_is_replaced_before_it_is_opened_is_not_read() -> None:
    storage = storage_of(MemoryStore())
    stream = stream_of(storage)
    storage.replace(PATH, b'{"n":1}\n', sync=True)
    assert stream.fingerprint(follow=False)["size"] == 8  # a run has begun
    assert stream.open_data().read_at(0, 8) == b'{"n":1}\n'
    storage.replace(PATH, b'{"n":2}\n', sync=True)
    with pytest.raises(StreamChangedError, match="was replaced since the run began to read"):
        stream.open_data()


@pytest.mark.parametrize("copy_bytes", [1 << 20, 5], ids=["one request", "several"])
@pytest.mark.parametrize("was_there", [False, True])
def test_who_puts_a_file_together_replaces_no_object_of_another_one(
    copy_bytes: int, was_there: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one puts its own after this one has made sure that nobody has succeeded it."""
    monkeypatch.setattr(object_writing, "_COPY_BYTES", copy_bytes)
    storage = storage_of(MemoryStore())
    if was_there:
        storage.replace(PATH, b"before\n", sync=True)
    file = storage.open_append(PATH)
    if was_there:
        file.truncate(0)
    file.append(b"of the first one")
    file._confirm = lambda: storage.replace(PATH, b"of the other one", sync=True)
    with pytest.raises(StreamChangedError, match="was put by somebody else while it was put together"):
        file.finish(None)
    bucket, key = storage.bucket_and_key(PATH)
    found = bucket.get(key)
    assert found is not None
    assert found[0] == b"of the other one"


@pytest.mark.parametrize("other", [{}, {"crc": 1}, {"filtered": 1}], ids=["the same", "other bytes", "other rows"])
def test_a_seal_that_says_the_same_is_as_good_as_ones_own(
    other: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer that was stopped before its very last request, and succeeded, may wake up and make it."""
    client = MemoryStore()
    storage = storage_of(client)
    sink = stream_of(storage).sink(source="jsonl://in.jsonl")
    for data in FLUSHES:
        sink.append(data, rows=1)
    real = storage.put_new

    def beaten(path: str, data: bytes) -> bool:
        seal = Seal.parse(data)
        assert seal is not None
        storage.replace(path, replace(seal, sealed_at="2026-11-30T12:00:00+00:00", **other).dump(), sync=True)
        return real(path, data)

    monkeypatch.setattr(storage, "put_new", beaten)
    with pytest.raises(StreamTakenOverError) if other else nullcontext():
        sink.seal()
    sink.close()
    assert storage.read_all(PATH) == b"".join(FLUSHES)
    if not other:
        assert keys(client) == ["out.jsonl", "out.jsonl.done"]


@pytest.mark.parametrize("copy_bytes", [1 << 20, 5], ids=["one request", "several"])
def test_a_seal_of_another_writer_stays(copy_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_writing, "_COPY_BYTES", copy_bytes)
    storage = storage_of(MemoryStore())
    stream = stream_of(storage)
    sink = stream.sink(source="jsonl://in.jsonl")
    for data in FLUSHES:
        sink.append(data, rows=1)
    real = storage.put_new

    def beaten(path: str, data: bytes) -> bool:
        storage.replace(path, b'{"of": "another"}', sync=True)
        return real(path, data)

    monkeypatch.setattr(storage, "put_new", beaten)
    with pytest.raises(StreamTakenOverError, match="has taken the stream over and ended it"):
        sink.seal()
    sink.close()
    assert storage.read_all(stream.done_path) == b'{"of": "another"}'
    assert storage.read_all(PATH) == b"".join(FLUSHES)

"""What a gather makes of sealed streams: merged outputs and exports, whole or not there, whatever kills it."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from llm_datagen import DiskError, StreamBusyError, StreamCorruptError, StreamError, StreamExistsError, StreamFactory
from llm_datagen.errors import ConfigError
from llm_datagen.shards.gathered import Gathered, check_outputs
from llm_datagen.streams.outputs import Target, Work, place_of
from llm_datagen.testing import Fault, FaultPlan, inject, record

from ..kit import programs
from ..kit.support import stored
from .sealed import entry, export_to, shard_state, shards_of, whole, write_shard

PROGRAM = Path(__file__).with_name("gathering.py")
FORMATS = ["out.jsonl", "out.jsonl.gz", "out.csv", "out.csv.bz2"]


def rows_of(counts: Sequence[int]) -> list[list[dict[str, Any]]]:
    """Return rows for shards of ten source rows each, as many as `counts` says."""
    return [
        [{"_i": 10 * k + n, "a": str(n), "b": f"shard {k}"} for n in range(count)] for k, count in enumerate(counts)
    ]


def ids_in(rows: Sequence[Sequence[dict[str, Any]]]) -> list[int]:
    """Return the ids in the order in which `write_shard` writes them."""
    return [row["_i"] for each in rows for at in range(2) for row in each[at::2]]


def made(folder: Path) -> dict[str, bytes]:
    """Return the files that a gather has made, by their names; the time is taken out of seals."""
    found = {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "shards" not in path.relative_to(folder).parts
    }
    for name in [name for name in found if name.endswith(".done")]:
        found[name] = json.dumps(
            {key: value for key, value in json.loads(found[name]).items() if key not in {"sealed_at", "check"}}
        ).encode()
    return found


@pytest.mark.parametrize("name", FORMATS)
def test_shards_are_concatenated_in_the_order_of_the_input(tmp_path: Path, name: str) -> None:
    """A shard without rows adds nothing; a header stands once; the seal covers all source rows."""
    rows = rows_of([4, 0, 10, 3])
    gathered = whole(tmp_path, name, shards_of(tmp_path, name, rows), "concat")
    gathered.make()
    assert [row["_i"] for row in stored(str(tmp_path / name))] == ids_in(rows)
    seal = StreamFactory.create(str(tmp_path / name)).read_seal()
    assert seal is not None
    assert (seal.rows, seal.filtered, seal.ids, seal.complete) == (17, 23, (0, 31), True)
    assert [list(span) for span in seal.cover] == [[0, 40, 0, 400]]
    data = (tmp_path / name).read_bytes()
    plain = gzip.decompress(data) if name.endswith(".gz") else data
    if name == "out.csv":
        assert plain.startswith(b"_i,a,b\n")
        assert plain.count(b"_i,a,b") == 1
    assert gathered.findings() == []
    before = made(tmp_path)
    gathered.make()
    assert made(tmp_path) == before
    gathered.remove()
    assert made(tmp_path) == {}


@pytest.mark.parametrize("name", FORMATS)
def test_each_shard_becomes_a_file_under_one_manifest(tmp_path: Path, name: str) -> None:
    """Byte for byte what the shard has written; the manifest says rows, bytes, checksum and ids of each."""
    rows = rows_of([4, 0, 10])
    shards = shards_of(tmp_path, name, rows)
    gathered = whole(tmp_path, name, shards, "shards")
    gathered.make()
    stem, _, endings = name.partition(".")
    names = [f"{stem}-{k:05}-of-00003.{endings}" for k in range(3)]
    assert sorted(made(tmp_path)) == sorted([f".{stem}-of-00003.{endings}.manifest", "_SUCCESS", *names])
    for k, each in enumerate(names):
        assert (tmp_path / each).read_bytes() == (tmp_path / f"shards/{k:05}" / name).read_bytes()
        assert not (tmp_path / each).samefile(tmp_path / f"shards/{k:05}" / name)
    manifest = json.loads((tmp_path / f".{stem}-of-00003.{endings}.manifest").read_bytes())
    assert manifest["rows"] == 14
    told = [
        (part["path"], part["rows"], part["first_id"], part["last_id"], part["shard"]) for part in manifest["parts"]
    ]
    assert told == [(names[0], 4, 0, 3, 0), (names[1], 0, None, None, 1), (names[2], 10, 20, 29, 2)]
    assert [part["source_rows"] for part in manifest["parts"]] == [[[0, 10]], [[10, 20]], [[20, 30]]]
    assert gathered.findings() == []
    (tmp_path / names[0]).write_bytes(b"other")
    assert gathered.findings() == [f"{tmp_path / names[0]} has 5 bytes, not {manifest['parts'][0]['bytes']}"]


@pytest.mark.parametrize("name", FORMATS)
def test_an_export_reads_all_shards_as_one_stream(tmp_path: Path, name: str) -> None:
    rows = rows_of([4, 0, 10, 3])
    shards = shards_of(tmp_path, name, rows)
    state = export_to(f"{tmp_path}/e/out.parquet")
    gathered = whole(tmp_path, name, shards, "shards", **state)
    gathered.make()
    table = pyarrow.parquet.read_table(tmp_path / "e/out.parquet")
    assert [int(row_id) for row_id in table["_i"].to_pylist()] == ids_in(rows)
    assert table["b"].to_pylist()[-1] == "shard 3"
    assert state["exports"][0]["rows"] == 17


@pytest.mark.parametrize("merge", ["shards", "concat"])
def test_without_any_row_the_output_is_as_of_a_run_without_rows(tmp_path: Path, merge: str) -> None:
    shards = shards_of(tmp_path, "out.jsonl.gz", rows_of([0, 0]))
    gathered = whole(tmp_path, "out.jsonl.gz", shards, merge)
    gathered.make()
    files = list(tmp_path.glob("*.gz"))
    assert [gzip.decompress(path.read_bytes()) for path in files] == [b""] * (1 if merge == "concat" else 2)
    assert gathered.findings() == []
    assert list(gathered.rows().get_reader(follow=False).read(10)) == []


CASES = [
    ("out.jsonl", "concat", ""),
    ("out.csv.gz", "concat", ""),
    ("out.jsonl", "shards", "e/x-{shard}.jsonl"),
]


@pytest.mark.slow
@pytest.mark.parametrize("first", range(1, 6))
@pytest.mark.parametrize(("name", "merge", "export"), CASES)
def test_killed_at_any_step_a_gather_is_gone_on_with(
    tmp_path: Path, name: str, merge: str, export: str, first: int
) -> None:
    """Each step of the disk kills a process before it is taken, and some step the next one; a third ends it."""
    check_kills(tmp_path, name, merge, export, first=first, every=5)


@pytest.mark.parametrize(("name", "merge", "export"), CASES)
def test_killed_at_some_steps_a_gather_is_gone_on_with(tmp_path: Path, name: str, merge: str, export: str) -> None:
    check_kills(tmp_path, name, merge, export, first=11, every=37)


def check_kills(folder: Path, name: str, merge: str, export: str, *, first: int, every: int) -> None:
    """Kill a gather at each `every`th step; now and then again in the one that goes on; the last has to end it."""
    template = folder / "template"
    shards_of(template, name, rows_of([4, 0, 3]))

    def fresh(number: object) -> Gathered:
        where = Path(shutil.copytree(template, folder / f"case-{number}"))
        uris = [f"{where}/shards/{k:05}/{name}" for k in range(3)]
        shards = list(map(shard_state, range(3), uris))
        return whole(where, name, shards, merge, **(export_to(f"{where}/{export}") if export else {}))

    def gather(said: Path, plan: FaultPlan) -> int:
        return programs.run([PROGRAM, said], env={**os.environ, **plan.as_env()}).returncode

    with record() as storage:
        fresh("whole").make()
    expected = _placed(folder / "case-whole")
    hits, steps = storage.hits, list(range(first, len(storage.hits) + 1, every))
    assert len(steps) > 1
    for number, hit in enumerate(steps):
        case, where, said = fresh(number), folder / f"case-{number}", folder / "said.json"
        shards = [[shard.number, shard.run, shard.state] for shard in case.shards]
        said.write_text(json.dumps({"run_state": case.run_state, "shards": shards, "merge": merge}))
        plan = FaultPlan.of(Fault(hit=hit))
        assert gather(said, plan) == -signal.SIGKILL, hits[hit - 1]
        if number % 3 == 0:
            gather(said, FaultPlan.of(Fault(hit=7 + hit % 40)))  # may have ended before that
        case.make()
        assert _placed(where) == expected, hits[hit - 1]
        shutil.rmtree(where)


def _placed(where: Path) -> dict[str, bytes]:
    """Return what is made in a folder, without what differs from folder to folder."""
    plain = {path: data.replace(str(where).encode(), b"FOLDER") for path, data in made(where).items()}
    for path in [path for path in plain if path.endswith(".manifest")]:
        value = json.loads(plain[path])
        value.pop("check", None)
        plain[path] = json.dumps(value).encode()
    return plain


@pytest.mark.parametrize("merge", ["shards", "concat"])
def test_what_was_gathered_is_removed_though_it_is_cut_short(tmp_path: Path, merge: str) -> None:
    """By a disk that fails at each removal, once: what is left is still known, and goes the next time."""
    shards = shards_of(tmp_path, "out.jsonl", rows_of([4, 3]))
    gathered = whole(tmp_path, "out.jsonl", shards, merge)
    for hit in range(1, 5):
        gathered.make()
        fault = Fault(operation="remove", path=f"{tmp_path}/*out*", hit=hit, action="raise", error="EIO")
        with inject(fault), pytest.raises(DiskError):
            gathered.remove()
        gathered.remove()
        assert made(tmp_path) == {}


@pytest.mark.parametrize("merge", ["shards", "concat"])
def test_what_shards_have_made_again_takes_the_place_of_what_was_gathered(tmp_path: Path, merge: str) -> None:
    """As after a replay: another seal of one shard. Until then, nothing of what was gathered changes."""
    shards = shards_of(tmp_path, "out.jsonl", rows_of([4, 3]))
    gathered = whole(tmp_path, "out.jsonl", shards, merge)
    gathered.make()
    shutil.rmtree(tmp_path / "shards/00001")
    write_shard(str(tmp_path / "shards/00001/out.jsonl"), rows_of([0, 9])[1], 10, 20)
    assert len(gathered.findings()) == 1
    assert "as they were before; gather them again" in gathered.findings()[0]
    gathered.make()
    assert gathered.findings() == []
    paths = sorted(tmp_path.glob("out*.jsonl"))
    found = [json.loads(line)["_i"] for path in paths for line in path.read_text().splitlines()]
    assert found == ids_in(rows_of([4, 9]))


@pytest.mark.parametrize(("merge", "there"), [("shards", "out-00001-of-00002.jsonl"), ("concat", "out.jsonl")])
def test_a_file_of_somebody_else_is_never_written_over(tmp_path: Path, merge: str, there: str) -> None:
    shards = shards_of(tmp_path, "out.jsonl", rows_of([4, 3]))
    gathered = whole(tmp_path, "out.jsonl", shards, merge)
    (tmp_path / there).write_text('{"a": 1}\n')
    with pytest.raises(StreamExistsError, match=there):
        check_outputs(gathered.run_state, merge, 2)
    with pytest.raises(StreamExistsError, match=there):
        gathered.make()
    assert made(tmp_path) == {there: b'{"a": 1}\n'}
    (tmp_path / there).unlink()
    gathered.make()
    gathered.run_state["pipeline_id"] = "other"
    with pytest.raises(StreamExistsError, match="the run 'job'"):
        gathered.make()
    gathered.remove()
    assert (tmp_path / there).exists()


def test_an_output_of_an_ordinary_run_is_never_written_over(tmp_path: Path) -> None:
    shards = shards_of(tmp_path, "out.jsonl", rows_of([4, 3]))
    write_shard(str(tmp_path / "out.jsonl"), rows_of([2])[0], 0, 10)
    with pytest.raises(StreamExistsError, match=r"out.jsonl is there already, and no gather made it"):
        whole(tmp_path, "out.jsonl", shards, "concat").make()


@pytest.mark.parametrize("merge", ["shards", "concat"])
def test_a_shard_whose_file_was_changed_is_refused_by_name(tmp_path: Path, merge: str) -> None:
    """Nothing of it is gathered; when it is restored, the gather goes on."""
    shards = shards_of(tmp_path, "out.jsonl", rows_of([4, 3]))
    path = tmp_path / "shards/00001/out.jsonl"
    data = path.read_bytes()
    path.write_bytes(data.replace(b"shard 1", b"shard 2", 1))
    gathered = whole(tmp_path, "out.jsonl", shards, merge)
    with pytest.raises(StreamCorruptError, match=r"00001/out.jsonl: the checksum is .* when shard 1 sealed it"):
        gathered.make()
    path.write_bytes(data)
    gathered.make()
    assert gathered.findings() == []


def test_shards_whose_columns_differ_cannot_be_one_csv(tmp_path: Path) -> None:
    rows: list[list[dict[str, Any]]] = [[{"_i": 0, "a": "1", "b": "2"}], [{"_i": 10, "b": "3", "a": "4"}]]
    gathered = whole(tmp_path, "out.csv", shards_of(tmp_path, "out.csv", rows), "concat")
    with pytest.raises(StreamError, match=r"shard 1 begins with '_i,b,a', .* shard 0 with '_i,a,b'.*merge='shards'"):
        gathered.make()
    whole(tmp_path, "out.csv", gathered.shards, "shards").make()


def test_several_outputs_in_one_folder_have_a_word_of_their_own_that_they_are_whole(tmp_path: Path) -> None:
    shards = shards_of(tmp_path, "good.jsonl", rows_of([4, 3]))
    others = shards_of(tmp_path, "bad.jsonl", rows_of([1, 2]))
    for shard, other in zip(shards, others, strict=True):
        shard.state["nodes"].append({**other.state["nodes"][0], "node_id": "node_1"})
    gathered = whole(tmp_path, "good.jsonl", shards, "shards")
    gathered.run_state["nodes"].append(entry("node_1", str(tmp_path / "bad.jsonl")))
    check_outputs(gathered.run_state, "shards", 2)
    gathered.make()
    assert {path.name for path in tmp_path.glob("_SUCCESS*")} == {"_SUCCESS.good.jsonl", "_SUCCESS.bad.jsonl"}
    assert len(list(tmp_path.glob("*-of-00002.jsonl"))) == 4
    gathered.make()
    assert gathered.findings() == []


def test_two_that_gather_at_once_are_kept_apart(tmp_path: Path) -> None:
    shards = shards_of(tmp_path, "out.jsonl", rows_of([4, 3]))
    target = Target("jsonl", f"{tmp_path}/out-{{shard:05}}-of-00002.jsonl")
    with Work(target, place_of(target)).locked(), pytest.raises(StreamBusyError):
        whole(tmp_path, "out.jsonl", shards, "shards").make()


def test_a_name_with_braces_is_refused_before_there_is_a_run(tmp_path: Path) -> None:
    state = {"pipeline_id": "job", "config": {}, "nodes": [entry("node_0", f"{tmp_path}/{{x}}/out.jsonl")]}
    with pytest.raises(ConfigError, match="a name with braces cannot be that of many files; say merge='concat'"):
        check_outputs(state, "shards", 2)
    check_outputs(state, "concat", 2)
    with pytest.raises(ConfigError, match="merge"):
        check_outputs(state, "sideways", 2)

"""File sets: patterns and folders as one input, in a fixed order, also over resumes."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llm_datagen.config import DataConfig
from llm_datagen.errors import ConfigError, DatagenError, NodeFailedError, StreamChangedError, StreamMissingError
from llm_datagen.runs.trace import trace
from llm_datagen.runs.verify import verify
from llm_datagen.streams import Stream, StreamFactory
from llm_datagen.streams.inputs.file_set import FileSet
from llm_datagen.streams.inputs.noted_files import NotedFiles

from ..kit.support import Bench, Stopping, lines


def fill(folder: Path, count: int = 5, rows: int = 10) -> None:
    """Make files, of each kind some; their names do not sort as they are made."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in reversed(range(count)):
        one(folder, number, range(number * rows, (number + 1) * rows))


def one(folder: Path, number: int, values: Any) -> Path:
    text = "".join(f'{{"n": {n}}}\n' for n in values)
    if number % 2:
        path = folder / f"part-{number:03}.jsonl"
        path.write_text(text)
    else:
        path = folder / f"part-{number:03}.jsonl.gz"
        path.write_bytes(gzip.compress(text.encode(), mtime=0))
    return path


def ids_of(bench: Bench) -> list[tuple[int, int]]:
    return sorted((row["n"], row["_i"]) for row in lines(bench.output))


@pytest.mark.parametrize("uri", ["{}/in/*.jsonl*", "{}/in", "{}/in/", "file://{}/in/", "{}/**/part-*"])
def test_all_files_are_one_input_whose_rows_are_numbered_through(bench: Bench, uri: str) -> None:
    fill(bench.folder / "in")
    (bench.folder / "in" / "_SUCCESS").touch()
    (bench.folder / "in" / ".hidden.jsonl").write_text("no row")
    (bench.folder / "in" / "empty").mkdir()
    report = bench.pipeline([Stopping()], input_uri=uri.format(bench.folder)).create("a").run()
    assert (report.status, report.rows_out) == ("completed", 50)
    assert ids_of(bench) == [(n, n) for n in range(50)]


@pytest.mark.parametrize("stop", [0, 9, 10, 25, 49])
def test_a_resume_goes_on_in_the_same_order_with_files_that_have_come_since_at_the_end(bench: Bench, stop: int) -> None:
    fill(bench.folder / "in")
    settings = {"input_uri": f"{bench.folder}/in/*", "parallel_size": 3}
    bench.pipeline([Stopping(stop)], **settings).create("a").run()
    (bench.folder / "in" / "part-002b.jsonl").write_text('{"n": 50}\n{"n": 51}\n')
    report = bench.pipeline([Stopping()], **settings).resume("a").run()
    assert report.status == "completed"
    assert sorted(row["n"] for row in lines(bench.output)) == list(range(52))
    assert any("part-002b.jsonl came since the run began" in str(line) for line in bench.log_lines())
    assert ids_of(bench) == [(n, n) for n in range(52)]


def test_a_finished_run_takes_files_that_have_come_since(bench: Bench) -> None:
    fill(bench.folder / "in")
    bench.pipeline([Stopping()], input_uri=f"{bench.folder}/in/").create("a").run()
    assert bench.pipeline([Stopping()], input_uri=f"{bench.folder}/in/").resume("a").run().rows_out == 50
    one(bench.folder / "in", 0, []).rename(bench.folder / "in" / "empty.jsonl.gz")
    fill(bench.folder / "in", 1)
    (bench.folder / "in" / "a.jsonl").write_text('{"n": 50}\n')
    assert bench.pipeline([Stopping()], input_uri=f"{bench.folder}/in/").resume("a").run().status == "completed"
    assert ids_of(bench) == [(n, n) for n in range(51)]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda folder: (folder / "part-000.jsonl.gz").unlink(), r"part-000\.jsonl\.gz is gone"),
        (lambda folder: (folder / "part-004.jsonl.gz").unlink(), r"part-004\.jsonl\.gz is gone"),
        (lambda folder: one(folder, 1, range(11, 21)), r"part-001\.jsonl is not what it was"),
        (lambda folder: one(folder, 2, range(5)), r"part-002\.jsonl\.gz is not what it was"),
    ],
    ids=["first gone", "last gone", "edited", "shortened"],
)
def test_a_file_that_is_gone_or_was_changed_is_named(bench: Bench, change: Callable[[Path], object], says: str) -> None:
    fill(bench.folder / "in")
    settings = {"input_uri": f"{bench.folder}/in/*"}
    bench.pipeline([Stopping(25)], **settings).create("a").run()
    before = bench.output.read_bytes()
    change(bench.folder / "in")
    with pytest.raises(StreamChangedError, match=says):
        bench.pipeline([Stopping()], **settings).resume("a").run()
    assert bench.output.read_bytes() == before


def test_a_file_that_was_not_begun_may_be_edited(bench: Bench) -> None:
    fill(bench.folder / "in")
    settings = {"input_uri": f"{bench.folder}/in/*"}
    bench.pipeline([Stopping(25)], **settings).create("a").run()
    one(bench.folder / "in", 4, [40, 41])
    assert bench.pipeline([Stopping()], **settings).resume("a").run().status == "completed"
    assert ids_of(bench) == [(n, n) for n in range(42)]


def test_a_file_that_has_come_is_not_hidden_by_one_that_has_become_shorter(bench: Bench) -> None:
    fill(bench.folder / "in", 4)
    settings = {"input_uri": f"{bench.folder}/in/*"}
    bench.pipeline([Stopping()], **settings).create("a").run()
    one(bench.folder / "in", 1, range(10, 12))
    one(bench.folder / "in", 9, range(90, 92))
    with pytest.raises(StreamChangedError, match=r"part-001\.jsonl is not what it was"):
        bench.pipeline([Stopping()], **settings).resume("a").run()


def test_a_file_that_is_changed_while_those_before_it_are_read_ends_the_run_which_reads_it_then(bench: Bench) -> None:
    fill(bench.folder / "in", 4)
    settings = {"input_uri": f"{bench.folder}/in/*", "batch_size": 1}

    def change(item: Any) -> Any:
        if item["n"] == 0:  # before anything is known of the operator's speed, so that only some rows are read ahead
            one(bench.folder / "in", 3, range(130, 137))
        return item

    pipeline = bench.pipeline([change], **settings).create("a")
    with pytest.raises(NodeFailedError, match=r"part-003\.jsonl was changed .* resume"):
        pipeline.run()
    bench.pipeline([change], **settings).resume("a").run()
    assert [row["n"] for row in lines(bench.output)] == [*range(30), *range(130, 137)]
    assert [account.findings for account in verify(bench.run_state("a"))] == [[]]
    one(bench.folder / "in", 4, range(40, 43))
    assert bench.pipeline([change], **settings).resume("a").run().rows_out == 40


@pytest.mark.parametrize("was_folder", [True, False])
def test_a_file_that_has_become_a_folder_or_the_other_way_round_is_refused(bench: Bench, was_folder: bool) -> None:
    place, other = bench.folder / "in.jsonl", bench.folder / "other"
    text = "".join(f'{{"n": {n}}}\n' for n in range(10))
    for path, is_folder in ((place, was_folder), (other, not was_folder)):
        if is_folder:
            path.mkdir()
        (path / "a.jsonl" if is_folder else path).write_text(text)
    settings = {"input_uri": f"jsonl://{place}"}
    bench.pipeline([Stopping(5)], **settings).create("stopped").run()
    done = {**settings, "output_uri": f"jsonl://{bench.folder}/done.jsonl"}
    bench.pipeline([Stopping()], **done).create("done").run()
    place.rename(bench.folder / "before")
    other.rename(place)
    with pytest.raises(StreamChangedError, match=r"in\.jsonl was another kind of input"):
        bench.pipeline([Stopping()], **settings).resume("stopped")
    bench.pipeline([Stopping()], **done).resume("done").run()
    assert any("was edited or shortened since its rows were done" in str(line) for line in bench.log_lines())


def remove(folder: Path, number: int) -> None:
    next(folder.glob(f"part-{number:03}*")).unlink()


def rewrite(folder: Path, number: int) -> None:
    one(folder, number, range(10 * number + 1, 10 * number + 10))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({0: remove}, r"part-000.jsonl.gz is gone"),
        ({3: remove}, r"part-003.jsonl is gone"),
        ({1: rewrite}, r"part-001.jsonl is not what it was"),
        ({3: rewrite}, r"part-003.jsonl is not what it was"),
        (
            {0: remove, 1: rewrite, 3: rewrite},
            r"part-000.jsonl.gz is gone, and part-001.jsonl, part-003.jsonl are not what they were",
        ),
    ],
    ids=["first gone", "last gone", "edited", "last edited", "several"],
)
def test_a_finished_run_names_files_that_are_gone_or_were_edited_and_verify_does(
    bench: Bench, changes: dict[int, Callable[[Path, int], object]], says: str
) -> None:
    fill(bench.folder / "in", 4)
    settings = {"input_uri": f"{bench.folder}/in/*"}
    bench.pipeline([Stopping()], **settings).create("a").run()
    for number, change in changes.items():
        change(bench.folder / "in", number)
    assert bench.pipeline([Stopping()], **settings).resume("a").run().status == "completed"
    assert any(f"{says}; rows that are done stay as they are" in str(line) for line in bench.log_lines())
    (account,) = verify(bench.run_state("a"))
    assert len(account.findings) == 1
    assert says in account.findings[0]
    assert account.pending is None
    of_input, of_output = trace(bench.run_state("a"), 39)
    assert (of_input.where, of_input.row_id, of_input.relation, of_input.state) == ("input", 39, "itself", "unreadable")
    assert of_input.item == {"reason": says}
    assert (of_output.state, of_output.item["n"]) == ("row", 39)


class Fates:
    """Takes rows in pairs: filters the row 0, fails for 2, makes one row of 4 and 5, and doubles 6."""

    name = "fates"

    def process_batch(self, items: list[Any], ctx: Any = None) -> list[Any]:
        first = items[0]["n"]
        if first in {2, 3}:
            raise ValueError("no 2, nor 3")
        return {0: [], 4: [{"sum": 9}]}.get(first, [*items, *items])


def seen(bench: Bench, row_id: int | str) -> list[tuple[str, Any, str, str]]:
    """Return what a trace says: where, which row, its relation and its state."""
    return [(each.where, each.row_id, each.relation, each.state) for each in trace(bench.run_state("a"), row_id)]


@pytest.mark.parametrize("gone", [[0], [0, 1]], ids=["one of two", "all"])
def test_what_became_of_rows_is_traced_though_their_files_are_gone(bench: Bench, gone: list[int]) -> None:
    fill(bench.folder / "in", 2, 4)
    settings: dict[str, Any] = {"input_uri": f"{bench.folder}/in/*", "batch_size": 2, "on_error": "dead_letter"}
    bench.pipeline([Fates()], **settings).create("a").run()
    asked: list[int | str] = [0, 2, 4, "4~5_0", 6, 99]
    before = [seen(bench, row_id) for row_id in asked]
    assert [len(each) for each in before] == [2, 2, 2, 3, len(before[4]), 0]
    for number in gone:
        remove(bench.folder / "in", number)
    for row_id, found in zip(asked[:-1], before, strict=False):
        assert seen(bench, row_id) == [(*each[:3], "unreadable") if each[0] == "input" else each for each in found]
    with pytest.raises(StreamChangedError, match=r"part-000\.jsonl\.gz.* gone, so rows cannot be looked up") as raised:
        seen(bench, 99)
    assert "resume" not in str(raised.value)


def test_rows_before_a_file_that_is_gone_are_traced_as_before(bench: Bench) -> None:
    fill(bench.folder / "in", 3)
    bench.pipeline([Stopping()], input_uri=f"{bench.folder}/in/*").create("a").run()
    before = seen(bench, 9)
    remove(bench.folder / "in", 1)
    assert seen(bench, 9) == before == [("input", 9, "itself", "row"), ("node_0", 9, "itself", "row")]
    assert seen(bench, 10)[0] == ("input", 10, "itself", "unreadable")


def test_who_looks_at_rows_of_a_file_that_is_gone_is_not_told_to_resume(bench: Bench) -> None:
    fill(bench.folder / "in", 2)
    bench.pipeline([Stopping()], input_uri=f"{bench.folder}/in/*").create("a").run()
    remove(bench.folder / "in", 0)
    source = StreamFactory.input_of(bench.run_state("a")["nodes"][0])
    assert isinstance(source, FileSet)
    with pytest.raises(StreamChangedError, match=r"gz is gone since the run listed it; restore it: its rows") as raised:
        source.open_cursor().read(1)
    assert "resume" not in str(raised.value)


def test_an_input_of_one_file_that_was_shortened_is_not_counted(bench: Bench) -> None:
    bench.give([{"n": n} for n in range(10)])
    bench.pipeline([Stopping()]).create("a").run()
    bench.give([{"n": n} for n in range(5)])
    (account,) = verify(bench.run_state("a"))
    assert account.pending is None
    assert len(account.findings) == 1
    assert "has only 45 bytes now" in account.findings[0]


def test_what_is_added_to_a_file_after_others_were_begun_is_told(bench: Bench) -> None:
    fill(bench.folder / "in", 4)
    settings = {"input_uri": f"{bench.folder}/in/*"}
    bench.pipeline([Stopping(35)], **settings).create("a").run()
    for number in (1, 3):  # the last one that was begun is read to its end, whenever that is
        with (bench.folder / "in" / f"part-{number:03}.jsonl").open("a") as file:
            file.write('{"n": 40}\n')
    for _ in range(2):  # once it goes on, then it has ended
        bench.pipeline([Stopping()], **settings).resume("a").run()
        assert any("part-001.jsonl has grown after other files" in str(line) for line in bench.log_lines())
        assert ids_of(bench) == [(n, n) for n in range(41)]
    (account,) = verify(bench.run_state("a"))
    assert [each.partition(": give")[0] for each in account.findings] == [
        f"the output is sealed, and 1 rows are pending: {bench.folder}/in/*: part-001.jsonl has grown after other "
        "files were begun, and what was added may not have been read"
    ]


def test_a_bad_line_is_named_by_its_file(bench: Bench) -> None:
    fill(bench.folder / "in")
    (bench.folder / "in" / "part-001.jsonl").write_text('{"n": 10}\n\nno row\n')
    settings = {"input_uri": f"{bench.folder}/in/*", "on_error": "dead_letter"}
    report = bench.pipeline([Stopping()], **settings).create("a").run()
    assert (report.rows_out, report.failed) == (41, 1)
    letter = json.loads(Path(f"{bench.output}.errors.jsonl").read_text())
    assert "part-001.jsonl, line 3: this is not a row" in str(letter["error"])
    assert letter["_i"] == 11


@pytest.mark.parametrize(
    ("uri", "output", "error", "says"),
    [
        ("{}/none/*.jsonl", "out.jsonl", StreamMissingError, r"there is no file in .*none/\*\.jsonl; check"),
        ("{}/in/", "in/out.jsonl", ConfigError, "is one of the files that it reads"),
        ("{}/in/*.jsonl", "in/out.jsonl", ConfigError, "is one of the files that it reads"),
        ("{}/odd/", "out.jsonl", ConfigError, r"'\.xyz' names no format.*it is one of the files of .*odd/"),
    ],
    ids=["no file", "output in the folder", "output in the pattern", "no format"],
)
def test_what_cannot_be_is_refused(bench: Bench, uri: str, output: str, error: type[Exception], says: str) -> None:
    fill(bench.folder / "in")
    bench.give([{"n": 1}])
    (bench.folder / "odd").mkdir()
    (bench.folder / "odd" / "file.xyz").touch()
    there = sorted((bench.folder / "in").iterdir())
    with pytest.raises(error, match=says):
        bench.pipeline([Stopping()], input_uri=uri.format(bench.folder), output_uri=f"{bench.folder}/{output}").create(
            "a"
        ).run()
    assert sorted((bench.folder / "in").iterdir()) == there


def test_a_file_whose_name_is_the_pattern_is_that_file(bench: Bench) -> None:
    (bench.folder / "a[1].jsonl").write_text('{"n": 1}\n')
    (bench.folder / "a1.jsonl").write_text('{"n": 2}\n')
    bench.pipeline([Stopping()], input_uri=f"{bench.folder}/a[1].jsonl").create("a").run()
    assert ids_of(bench) == [(1, 0)]


@pytest.mark.parametrize("name", ["a[1]", "a?b", "a*b", "**"])
@pytest.mark.parametrize("uri", ["{}/", "{}", "{}/*.jsonl*", "{}/**/part-*"])
def test_a_folder_that_is_there_is_one_whatever_its_name(bench: Bench, name: str, uri: str) -> None:
    fill(bench.folder / name, count=2)
    fill(bench.folder / "a1", count=1)
    fill(bench.folder / "axb", count=1)
    uri = uri.format(bench.folder / name)
    bench.pipeline([Stopping(5)], input_uri=uri).create("a").run()
    one(bench.folder / name, 3, [20])
    bench.pipeline([Stopping()], input_uri=uri).resume("a").run()
    assert ids_of(bench) == [(n, n) for n in range(21)]
    for path in (f"{name}/part-9.jsonl", f"{name}/x/y/part-9.jsonl"):
        if "x/y" in path and "/*.jsonl" in uri:
            continue
        with pytest.raises(ConfigError, match="one of the files that it reads"):
            bench.pipeline([Stopping()], input_uri=uri, output_uri=f"{bench.folder}/{path}").create("b")


@pytest.mark.parametrize("end", ["/*.jsonl*", "/**/part-*"])
def test_a_folder_of_an_odd_name_that_is_gone_keeps_its_files_their_names(bench: Bench, end: str) -> None:
    """Its name is a pattern, too, which then means another folder."""
    folder, other = bench.folder / "a[1]", bench.folder / "a1"
    fill(folder, 2)
    fill(other, 3, 5)
    settings = {"input_uri": f"{folder}{end}"}
    bench.pipeline([Stopping(15)], **settings).create("a").run()
    folder.rename(bench.folder / "moved")
    of_input = next(trace(bench.run_state("a"), 12))
    assert of_input.item == {"reason": "part-000.jsonl.gz, part-001.jsonl are gone"}
    with pytest.raises(StreamMissingError, match=r"there is no file in .*a\[1\]"):
        bench.pipeline([Stopping()], **settings).resume("a").run()
    (bench.folder / "moved").rename(folder)
    bench.pipeline([Stopping()], **settings).resume("a").run()
    assert ids_of(bench) == [(n, n) for n in range(20)]


@pytest.mark.parametrize("when", ["while it runs", "before the resume"])
def test_a_folder_that_comes_under_the_name_of_a_pattern_does_not_take_its_place(bench: Bench, when: str) -> None:
    fill(bench.folder / "a1", 3)
    odd = bench.folder / "a[1]"
    settings = {"input_uri": f"{odd}/part-*", "batch_size": 1}

    class Makes(Stopping):
        def process_item(self, item: Any, ctx: Any) -> Any:
            if when == "while it runs" and item["n"] == 0:
                fill(odd, 1, 7)
            return super().process_item(item, ctx)

    bench.pipeline([Makes(15)], **settings).create("a").run()
    fill(odd, 1, 7)
    assert next(trace(bench.run_state("a"), 12)).item["n"] == 12
    bench.pipeline([Makes()], **settings).resume("a").run()
    assert ids_of(bench) == [(n, n) for n in range(30)]
    assert [account.findings for account in verify(bench.run_state("a"))] == [[]]


def test_a_run_of_a_pattern_whose_list_an_older_version_made_goes_on(bench: Bench) -> None:
    """It did not note what of the pattern was a folder."""
    fill(bench.folder / "a[1]", 3)
    settings = {"input_uri": f"{bench.folder}/a[1]/part-*"}
    bench.pipeline([Stopping(15)], **settings).create("a").run()
    state = bench.run_state("a")
    assert state["nodes"][0]["input_fingerprint"].pop("pattern") == "part-*"
    bench.put_run_state("a", state)
    bench.pipeline([Stopping()], **settings).resume("a").run()
    assert ids_of(bench) == [(n, n) for n in range(30)]


def test_it_is_verified_and_traced(bench: Bench) -> None:
    fill(bench.folder / "in")
    bench.pipeline([Stopping()], input_uri=f"{bench.folder}/in/*").create("a").run()
    assert [finding for account in verify(bench.run_state("a")) for finding in account.findings] == []
    assert [step.item["n"] for step in trace(bench.run_state("a"), 37) if step.item] == [37, 37]


def test_a_file_that_was_cut_short_is_replaced_and_the_run_goes_on(bench: Bench) -> None:
    whole = gzip.compress("".join(f'{{"n": {n}}}\n' for n in range(30_000)).encode())
    path = bench.folder / "in.jsonl.gz"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DatagenError, match=r"in\.jsonl\.gz is cut short: it ends at byte \d+, within gzip data"):
        bench.pipeline([Stopping()], input_uri=str(path)).create("a").run()
    done = len(lines(bench.output))
    path.write_bytes(whole)
    report = bench.pipeline([Stopping()], input_uri=str(path)).resume("a").run()
    assert report.status == "completed"
    assert ids_of(bench) == [(n, n) for n in range(30_000)]
    assert done


def test_a_run_that_failed_at_a_row_of_a_compressed_file_leaves_no_file_open(bench: Bench) -> None:
    path = bench.folder / "in.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"n": 1}\nno row\n'))
    pipeline = bench.pipeline([Stopping()], input_uri=str(path)).create("a")
    with pytest.raises(DatagenError, match=r"in\.jsonl\.gz, line 2: this is not a row"):
        pipeline.run()  # what is left open while the pipeline is there, the fixture of all runs finds


class Together:
    """Takes several rows at once, and gives them back."""

    def process_batch(self, items: list[Any], ctx: Any = None) -> list[Any]:
        return items


@pytest.mark.parametrize("executor", ["thread", "process"])
def test_a_batch_of_rows_of_several_files_has_each_under_the_header_of_its_own(bench: Bench, executor: str) -> None:
    """Files of a set have other headers, and other formats, and a batch may begin in one and end in the next."""
    folder = bench.folder / "in"
    folder.mkdir()
    for number in range(8):
        a, b = f"a{number}", f"b{number}"
        text = (f"a,b\n{a},{b}\n{a},{b}\n", f"b,a\n{b},{a}\n", f'{{"a":"{a}","b":"{b}"}}\n')[number % 3]
        (folder / f"{number}.{('csv', 'csv', 'jsonl')[number % 3]}").write_text(text)
    settings = {"input_uri": f"{folder}/*", "batch_size": 3, "executor": executor, "parallel_size": 1}
    assert bench.pipeline([Together()], **settings).create("a").run().rows_out == 11
    assert [(row["a"][0], row["b"]) for row in lines(bench.output)] == [
        ("a", f"b{number}") for number in (0, 0, 1, 2, 3, 3, 4, 5, 6, 6, 7)
    ]
    assert [finding for account in verify(bench.run_state("a")) for finding in account.findings] == []


def test_a_stream_is_made_of_each_file_when_it_is_its_turn(tmp_path: Path) -> None:
    for number in range(20):
        (tmp_path / f"{number:02}.jsonl").write_text('{"a": 1}\n')
    made: list[str] = []

    def create(uri: str) -> Stream:
        made.append(Path(uri).name)
        return StreamFactory.create(uri)

    files = FileSet(str(tmp_path / "*"), create)
    files.check_source()
    assert len(files.fingerprint(follow=False)["files"]) == 20
    assert files.size() == 20 * 9
    assert made == ["00.jsonl", "00.jsonl"]  # its kind of name, and itself

    (tmp_path / "zz.csv.gz").write_bytes(b"")
    (tmp_path / "zz.pdf").write_bytes(b"")
    made.clear()
    with pytest.raises(ConfigError, match="pdf"):
        _ = FileSet(str(tmp_path / "*"), create).streams
    assert sorted(made) == ["00.jsonl", "zz.csv.gz", "zz.pdf"]


def test_no_file_is_looked_for_to_tell_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path / "a[1]", 4)
    files = FileSet(str(tmp_path / "a[1]/part-*"), StreamFactory.create)
    paths = list(files.streams.paths)

    def refuse(path: str) -> bool:
        raise AssertionError(f"{path} is looked at")

    monkeypatch.setattr("os.path.isdir", refuse)
    names = [name for name, *_ in files.fingerprint(follow=False)["files"]]
    assert names == [Path(path).name for path in paths]


def test_files_that_are_read_otherwise_know_nothing_of_a_run(tmp_path: Path) -> None:
    fill(tmp_path, 3)
    files = FileSet(str(tmp_path / "part-*"), StreamFactory.create)
    known = files.fingerprint(follow=False)
    remove(tmp_path, 2)
    one(tmp_path, 4, [1])
    files.check_fingerprint(known, [], follow=False)
    files.know_first_row(0, 0)
    assert (files.noted.added, files.noted.changes.gone) == (["part-004.jsonl.gz"], ["part-002.jsonl.gz"])
    for other in (files.with_data(DataConfig(nan="null")), files.narrowed(0, 1)):
        assert other.noted == NotedFiles()
        assert not other._firsts
        assert other.streams.path(0).endswith("part-000.jsonl.gz")
    assert files.noted.added

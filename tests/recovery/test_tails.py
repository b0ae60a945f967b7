"""What was read last is compared by a resume, whatever the moment of a kill (M22)."""

from __future__ import annotations

import importlib.util
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from llm_datagen import NodeFailedError, Status, StreamChangedError, UnifiedNode, UnifiedPipeline
from llm_datagen.runs.verify import verify
from llm_datagen.streams import fingerprint
from llm_datagen.streams.checksum_chain import ChecksumChain
from llm_datagen.streams.commit_log import read_log
from llm_datagen.streams.storage.local import LOCAL_STORAGE

from ..kit.support import Bench, lines, numbered

ROWS, LONG = 600, 20_000
JOB = """
import os, signal
from llm_datagen import UnifiedPipeline

def work(row):
    if "DIES" in os.environ and int(row["n"]) == 590:
        os.kill(os.getpid(), signal.SIGKILL)
    return {"n": int(row["n"])}

def pipeline(folder, form):
    return UnifiedPipeline(
        [work], f"{form}://{folder}/in.{form}", f"jsonl://{folder}/out.jsonl", results_dir=f"{folder}/results",
        log_file=None, writer_config={"async_mode": False, "fsync": "never"},
    )
"""


def _imported(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location("job", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Killed:
    """A run of 12 MB of rows that was killed in row 590, some time after its run state was saved.

    Args:
        folder: an empty folder.
        form: the format of the input.
    """

    def __init__(self, folder: Path, form: str) -> None:
        self.folder, self.form = folder, form
        self.input, self.output = folder / f"in.{form}", folder / "out.jsonl"
        self.log = Path(f"{self.output}.commits")
        self.edit()
        path = folder / "job.py"
        path.write_text(JOB)
        program = f"import os, job; os.environ['DIES'] = '1'; job.pipeline({str(folder)!r}, {form!r}).create('a').run()"
        killed = subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, check=False)
        assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
        found = read_log(LOCAL_STORAGE, str(self.log))
        assert found is not None
        self.done = found[1].coverage.rows
        assert 450 < self.done <= 590  # behind the first 8 MiB
        self.job = _imported(path)

    def edit(self, row: int = -1) -> None:
        """Write the input, with one row edited, or none."""
        texts = [("y" if n == row else "x") * LONG for n in range(ROWS)]
        if self.form == "csv":
            rows = ["n,text", *(f"{n},{text}" for n, text in enumerate(texts))]
        else:
            rows = [json.dumps({"n": n, "text": text}) for n, text in enumerate(texts)]
        self.input.write_text("".join(f"{row}\n" for row in rows))

    def pipeline(self) -> UnifiedPipeline:
        """Return the pipeline, ready to go on."""
        pipeline: UnifiedPipeline = self.job.pipeline(self.folder, self.form).resume("a")
        return pipeline

    def is_refused(self) -> bool:
        """Return whether the input is refused, by a resume and by `verify` alike; no byte is changed if it is."""
        run_state = json.loads((self.folder / "results" / "a" / "runtime.json").read_bytes())
        found = [finding for account in verify(run_state) for finding in account.findings if "was edited" in finding]
        before, told = self.files(), ""
        try:
            self.pipeline()
        except StreamChangedError as error:
            told = str(error)
            assert self.files() == before
        assert found == ([told] if told else [])
        return "the input was edited where it had been read already" in told and str(self.input) in told

    def files(self) -> dict[Path, bytes]:
        """Return what is in all files of the run; `owner.json` goes with the process that had it."""
        results = [
            path for path in (self.folder / "results").rglob("*") if path.is_file() and path.name != "owner.json"
        ]
        return {path: path.read_bytes() for path in [*results, *self.folder.glob("out.*")]}

    def ends_well(self) -> bool:
        """Return whether all rows are there, each once, when the run has gone on."""
        assert self.pipeline().run(progress=False).status == Status.COMPLETED
        return lines(self.output) == [{"n": n, "_i": n} for n in range(ROWS)]


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_an_edit_of_what_was_done_last_before_a_kill_is_refused(tmp_path: Path, form: str) -> None:
    """Line 17: behind the first 8 MiB, in rows that no saved run state knows of; what was not done may be edited."""
    killed = Killed(tmp_path, form)
    run_state = json.loads((tmp_path / "results" / "a" / "runtime.json").read_bytes())
    assert "tail" not in run_state["nodes"][0]["input_fingerprint"]
    assert [row for row in (1, 2, 3) if not _is_seen(killed, killed.done - row)] == []
    assert not _is_seen(killed, killed.done - 20)  # the docs say so
    killed.edit(killed.done)
    assert killed.ends_well()


def _is_seen(killed: Killed, row: int) -> bool:
    killed.edit(row)
    if killed.is_refused():
        killed.edit()
        return True
    return False


@pytest.mark.slow
@pytest.mark.process
def test_of_a_torn_commit_the_one_before_it_tells_what_was_read(tmp_path: Path) -> None:
    """What it covered is done again then, so it may be edited."""
    killed = Killed(tmp_path, "jsonl")
    killed.log.write_bytes(killed.log.read_bytes()[:-5])
    found = read_log(LOCAL_STORAGE, str(killed.log))
    assert found is not None
    done = found[1].coverage.rows
    assert done < killed.done
    assert _is_seen(killed, done - 1)
    killed.edit(done)
    assert not killed.is_refused()
    assert killed.ends_well()


@pytest.mark.slow
@pytest.mark.process
def test_a_run_of_an_older_version_whose_commits_have_no_checksums_of_the_input_goes_on(tmp_path: Path) -> None:
    killed = Killed(tmp_path, "jsonl")
    reader, writer, found = ChecksumChain(), ChecksumChain(), []
    for line in killed.log.read_bytes().splitlines():
        record = json.loads(reader.read(line))
        record.pop("marks", None)
        found.append(writer.line(json.dumps(record).encode()))
    killed.log.write_bytes(b"".join(found))
    assert not _is_seen(killed, killed.done - 1)
    killed.edit()
    assert killed.ends_well()


def _fail_at(last: int) -> Any:
    def work(item: Any) -> Any:
        if item["n"] == last:
            raise RuntimeError("not yet")
        return item

    return work


@pytest.mark.parametrize("id_scheme", ["path", "numeric"])
def test_a_node_without_a_pipeline_knows_its_input_again(bench: Bench, id_scheme: Any) -> None:
    """It has no run state; and the numeric scheme keeps marks of its own."""
    bench.give({"n": n, "text": "x" * 100, "_i": n} for n in range(50))

    def node() -> UnifiedNode:
        made = UnifiedNode("alone", follow_input=False, id_scheme=id_scheme, log_file=None)
        return made.bind_io(f"jsonl://{bench.input}", f"jsonl://{bench.output}").set_operator(_fail_at(40))

    with pytest.raises(NodeFailedError):
        node().run()
    bench.give({"n": n, "text": ("y" if n == 39 else "x") * 100, "_i": n} for n in range(50))
    with pytest.raises(StreamChangedError, match=r"in\.jsonl, bytes 0 to .* edited where it had been read already"):
        node().run()


@pytest.mark.slow
def test_the_checksum_is_of_twice_what_it_must_be_of_at_most(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """An edit before that is not seen; each one behind it is, whether the run went on in between or not."""
    monkeypatch.setattr(fingerprint, "HEAD_BYTES", 1)
    monkeypatch.setattr("llm_datagen.streams.tails.TAIL_BYTES", 200)
    given: list[dict[str, Any]] = numbered(900)[100:]
    size = len(json.dumps(given[0])) + 1
    bench.give(given)
    for last in (300, 500):
        pipeline = bench.pipeline([_fail_at(last)], writer_config={"async_mode": False})
        with pytest.raises(NodeFailedError):
            (pipeline.create("a") if last == 300 else pipeline.resume("a", on_change="accept")).run()
        for n in range(last - 60, last + 10):
            given[n - 100] = {"n": n - 99 if n != 999 else 100}
            bench.give(given)
            given[n - 100] = {"n": n}
            behind = (last - n) * size
            if 0 < behind <= 200:
                with pytest.raises(StreamChangedError, match="edited"):
                    pipeline.resume("a")
            elif behind <= 0 or behind > 400 + size:
                pipeline.resume("a")
        bench.give(given)


SEVERAL = """
import os, signal
from llm_datagen import UnifiedNode, UnifiedNodePipeline
from llm_datagen.streams.storage.local import LocalStorage

write, written = LocalStorage.write, [0]

def kill_near_the_end(self, file, data):
    write(self, file, data)
    written[0] += len(data)
    if written[0] > 22_000_000:
        os.kill(os.getpid(), signal.SIGKILL)

def pipeline(folder):
    sources = {k: f"jsonl://{folder}/{k}.jsonl" for k in ("one", "two")}
    node = UnifiedNode("merge", follow_input=False, writer_config={"async_mode": False, "queue_size": 20})
    node.bind_io(sources, f"jsonl://{folder}/out.jsonl").set_operator(lambda row: {"k": row["k"], "n": row["n"]})
    return UnifiedNodePipeline([node], results_dir=f"{folder}/results", log_file=None)
"""


@pytest.mark.slow
@pytest.mark.process
def test_of_several_inputs_each_is_compared_up_to_its_own_end(tmp_path: Path) -> None:
    """They are killed as they are merged: each is read up to a place of its own."""

    def write(k: str, edited: int = -1) -> None:
        texts = [("y" if n == edited else "x") * LONG for n in range(ROWS)]
        rows = [json.dumps({"k": k, "n": n, "text": text}) for n, text in enumerate(texts)]
        (tmp_path / f"{k}.jsonl").write_text("".join(f"{row}\n" for row in rows))

    write("one")
    write("two")
    (tmp_path / "job.py").write_text(SEVERAL)
    program = (
        f"import job; job.LocalStorage.write = job.kill_near_the_end; job.pipeline({str(tmp_path)!r}).create('a').run()"
    )
    killed = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    found = read_log(LOCAL_STORAGE, str(tmp_path / "out.jsonl.merged.commits"))
    assert found is not None
    rows = lines(tmp_path / "out.jsonl.merged")[: found[1].rows]
    ends = {k: 1 + max(row["n"] for row in rows if row["k"] == k) for k in ("one", "two")}
    assert all(450 < end <= ROWS for end in ends.values())  # behind the first 8 MiB
    assert min(ends.values()) < ROWS  # one of them may have been read to its end
    job = _imported(tmp_path / "job.py")
    for k, end in ends.items():
        write(k, end - 1)
        with pytest.raises(StreamChangedError, match=f"{k}.jsonl.*was edited"):
            job.pipeline(tmp_path).resume("a")
        write(k, end)  # of an input that was read to its end, no row
        job.pipeline(tmp_path).resume("a")
        write(k)

"""``python -m tests.bench.formats``: Parquet and compressed lines, against a plain loop over the same rows.

Each turn makes one sample of each side, one after the other, in a process of its own, with all libraries imported
before the clock starts. The *ratio* is the plain loop's processor time by the engine's, of one turn, exports included;
figures are medians. *first* and *resume* are seconds from the pipeline's constructor to its first row, of a Parquet
file of 10 GB (sparse, 2,000 row groups) and of a pattern of 10,000 files; *cpu* is the processor time up to there,
which is about the same on a busy machine. *peak* is in MB.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .child import peak_mb

CASES = {
    "parquet": ("in.parquet", "out.parquet"),
    "parquet-jsonl": ("in.parquet", "out.jsonl"),
    "zst": ("in.jsonl.zst", "out.jsonl.zst"),
}
FIRST = {"large": "large.parquet", "many": "many/*.jsonl"}
PEER_CASES = {"datatrove": ("parquet", "zst"), "ray": ("parquet",)}
GROUP_ROWS = 65_536
LARGE_BYTES = 10_000_000_000
FILES = 10_000


def make(folder: Path, rows: int) -> None:
    """Make the inputs."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts = [" ".join(f"w{(n * 7 + k * k) % 1999}" for k in range(80)) for n in range(997)]
    with pq.ParquetWriter(folder / "in.parquet", _table(pa, range(1), texts).schema, compression="zstd") as writer:
        for start in range(0, rows, GROUP_ROWS):
            writer.write_table(_table(pa, range(start, min(start + GROUP_ROWS, rows)), texts))
    _plain_zst(folder / "in.parquet", folder / "in.jsonl.zst", is_parquet=True)
    large = folder / "large.parquet"
    pq.write_table(_table(pa, range(100_000), texts), large, row_group_size=50)
    data = large.read_bytes()
    footer = int.from_bytes(data[-8:-4], "little") + 8  # its offsets are absolute: a hole may lie before it
    with large.open("r+b") as file:
        file.truncate(len(data) - footer)
        file.seek(LARGE_BYTES - footer)
        file.write(data[-footer:])
    (folder / "many").mkdir()
    for number in range(FILES):
        lines = "".join(f'{{"n": {10 * number + n}}}\n' for n in range(10))
        (folder / "many" / f"{number:05}.jsonl").write_text(lines)


def _table(pa: Any, numbers: range, texts: list[str]) -> Any:
    return pa.table(
        {
            "id": [f"row-{n}" for n in numbers],
            "n": list(numbers),
            "text": [texts[n % len(texts)] for n in numbers],
            "score": [n / 7 for n in numbers],
            "tags": [["a", "b"] for _ in numbers],
        }
    )


def _plain_parquet(source: Path, target: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    writer, waiting, number = None, [], 0
    for batch in pq.ParquetFile(source, pre_buffer=False).iter_batches(4096, use_threads=False):
        rows = batch.to_pylist()
        for row in rows:
            row["_i"] = str(number)
            number += 1
        waiting.append(pa.RecordBatch.from_pylist(rows))
        writer = writer or pq.ParquetWriter(target, waiting[0].schema, compression="zstd", use_dictionary=False)
        if sum(each.num_rows for each in waiting) >= GROUP_ROWS:
            writer.write_table(pa.Table.from_batches(waiting))
            waiting = []
    assert writer is not None
    if waiting:
        writer.write_table(pa.Table.from_batches(waiting))
    writer.close()


def _plain_jsonl(source: Path, target: Path) -> None:
    import orjson
    import pyarrow.parquet as pq

    number = 0
    with target.open("wb") as file:
        for batch in pq.ParquetFile(source, pre_buffer=False).iter_batches(4096, use_threads=False):
            for row in batch.to_pylist():
                row["_i"] = number
                number += 1
                file.write(orjson.dumps(row, None, orjson.OPT_APPEND_NEWLINE))


def _plain_zst(source: Path, target: Path, *, is_parquet: bool = False) -> None:
    """Pack lines again, a frame for each mebibyte, as the engine does at best, at the same level."""
    import orjson
    import pyarrow.parquet as pq
    from backports import zstd

    def lines() -> Any:
        if is_parquet:
            for batch in pq.ParquetFile(source).iter_batches(4096):
                yield from batch.to_pylist()
        else:
            with zstd.open(source, "rb") as file:
                yield from map(orjson.loads, file)

    waiting: list[bytes] = []
    size = 0
    with target.open("wb") as file:
        for number, row in enumerate(lines()):
            row["_i"] = number
            waiting.append(orjson.dumps(row, None, orjson.OPT_APPEND_NEWLINE))
            size += len(waiting[-1])
            if size >= 1 << 20:
                file.write(zstd.compress(b"".join(waiting)))
                waiting, size = [], 0
        file.write(zstd.compress(b"".join(waiting)))


PLAIN: dict[str, Callable[[Path, Path], None]] = {
    "parquet": _plain_parquet,
    "parquet-jsonl": _plain_jsonl,
    "zst": _plain_zst,
}


class Pass:
    """Gives rows back; notes when the first came, and stops the run at one."""

    name, version, stateful = "pass", "1", True

    def __init__(self, stop: int = -1) -> None:
        self.stop = stop
        self.first: tuple[float, float] | None = None

    def process_item(self, row: Any, ctx: Any) -> Any:
        """Return the row."""
        if self.first is None:
            self.first = time.perf_counter(), time.process_time()
        if row["n"] == self.stop:
            from llm_datagen import StopRun

            raise StopRun("that is enough")
        return row


def child(side: str, case: str, folder: Path) -> dict[str, float]:
    """Do one job in this process."""
    from llm_datagen import UnifiedPipeline
    from llm_datagen.streams.arrow_library import arrow

    for module in ("pyarrow.compute", "pyarrow.parquet", "pyarrow.json"):
        arrow(module)

    given, made = CASES.get(case) or (FIRST[case], "out.jsonl")
    run = folder / "run"
    if side != "resume":
        shutil.rmtree(run, ignore_errors=True)
        run.mkdir()
    before, began, cpu = peak_mb(), time.perf_counter(), time.process_time()
    operator = Pass({"first": 50_000, "resume": 50_500}.get(side, -1))
    if side == "plain":
        PLAIN[case](folder / given, run / made)
    else:
        pipeline = UnifiedPipeline(
            [operator],
            str(folder / given),
            str(run / made),
            base_path=run / "between",
            results_dir=run / "results",
            log_file=None,
        )
        (pipeline.resume if side == "resume" else pipeline.create)("a").run(progress=False)
    found = {"cpu": time.process_time() - cpu, "peak": peak_mb(), "before": before}
    if operator.first is not None:
        found |= {"first": operator.first[0] - began, "first_cpu": operator.first[1] - cpu}
    return found


def _sample(side: str, case: str, folder: Path) -> dict[str, float]:
    command = [sys.executable, "-m", f"{__package__}.formats", "--child", side, case, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def _peer(python: str, peer: str, case: str, folder: Path) -> float:
    """Return the processor seconds of another system for the same work."""
    target = folder / "peer"
    shutil.rmtree(target, ignore_errors=True)
    source = folder / CASES[case][0]
    command = [python, "-m", f"{__package__}.format_peers", peer, case, str(source), str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout.splitlines()[-1])["cpu"])


def _median(samples: list[dict[str, float]], key: str) -> float:
    return statistics.median(sample[key] for sample in samples)


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE", default=[*CASES, *FIRST])
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--peer-python", metavar="PYTHON", help="where datatrove and Ray are installed")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        print(json.dumps(child(given.child[0], given.child[1], Path(given.child[2]))))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder, given.rows)
        for case in given.cases:
            sides = ("plain", "engine") if case in CASES else ("first", "resume")
            turns = [[_sample(side, case, folder) for side in sides] for _ in range(given.repeat)]
            one, two = ([turn[number] for turn in turns] for number in (0, 1))
            if case in CASES:
                ratio = statistics.median(plain["cpu"] / engine["cpu"] for plain, engine in turns)
                shown = f"ratio {ratio:.2f}  peak {_median(two, 'peak'):.0f} (plain {_median(one, 'peak'):.0f})"
            else:
                shown = f"first {_median(one, 'first'):.2f} (cpu {_median(one, 'first_cpu'):.2f})"
                shown += f"  resume {_median(two, 'first'):.2f} (cpu {_median(two, 'first_cpu'):.2f})"
                shown += f"  peak {_median(two, 'peak'):.0f}"
            for peer, cases in PEER_CASES.items() if given.peer_python else ():
                if case in cases:
                    took = statistics.median(_peer(given.peer_python, peer, case, folder) for _ in turns)
                    shown += f"  {peer} takes {took / _median(two, 'cpu'):.1f} times as long"
            print(f"{case:16}{shown}  (libraries alone {_median(two, 'before'):.0f} MB)", flush=True)


if __name__ == "__main__":
    main()

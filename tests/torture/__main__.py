"""``python -m tests.torture --seed S --kills N``: torture, report, and exit with 1 when something was found."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from .batch import batch
from .changes import changed_files
from .draws import ANY
from .exports import EXPORTS
from .faults import folders, frozen, full_and_broken
from .graphs import graphs
from .inputs import SOURCES
from .llm import llm
from .shard_limit import shard_limit
from .shards import shards
from .state_graphs import StateGraph
from .store_lab import SERVERS
from .stores import stores
from .table import between, claims_of, contradictions, measured, render
from .tally import Tally
from .tampering import tampering
from .tampering_llm import tampering_llm
from .targets import targets
from .torture import torture


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument(
        "what",
        nargs="?",
        default="kills",
        choices=[
            "kills",
            "graphs",
            "state",
            "targets",
            "llm",
            "batch",
            "stores",
            "shards",
            "shards-limit",
            "full",
            "frozen",
            "folders",
            "changes",
            "tampering",
            "tampering-llm",
            "table",
        ],
        help="kills (the default), with losses of power and full disks; graphs: random topologies, killed; "
        "state: the same, of operators that keep state; "
        "targets: runs that end with exactly so many rows, killed; "
        "llm: LLM operators at endpoints that fail, killed, --seeds cases; "
        "batch: rows as jobs of batch APIs that fail, killed at every step of a job; "
        "stores: inputs, outputs and run states in an object store, killed, with a --storm; "
        "shards: runs in shards, whose drivers, workers, tasks, services and gathers are killed; "
        "shards-limit: eight shards at an endpoint with a limit and a budget, killed, for --windows minutes; "
        "full: full and broken disks, at every step; "
        "frozen disks; folders taken away; changes: cut and flipped files; "
        "tampering, tampering-llm: --edits edits of any file; "
        "table: the one of docs/explanation/guarantees.md, measured with --kills accidents a cell",
    )
    parser.add_argument("--share", type=float, default=1.0, help="of all faults or changes, how many to try (0 to 1)")
    parser.add_argument("--seed", type=int, default=1, help="the first seed; a seed is a pipeline and its kills")
    parser.add_argument("--seeds", type=int, default=1_000_000, help="how many seeds at most, one after the other")
    parser.add_argument("--kills", type=int, default=200, help="kills in all; seeds are used up until they are done")
    parser.add_argument("--a-seed", type=int, default=20, help="kills a seed, about")
    parser.add_argument("--edits", type=int, default=2000, help="of tampering: how many edits, one after the other")
    parser.add_argument("--storm", type=float, default=0.01, help="of stores: the share of requests that fail")
    parser.add_argument("--store", default="s3", choices=list(SERVERS), help="of stores: which kind of store")
    parser.add_argument("--windows", type=int, default=4, help="of shards-limit: for how many windows of the limit")
    parser.add_argument("--window", type=float, default=60.1, help="of shards-limit: seconds of a window")
    parser.add_argument("--accident", default="", choices=["", "kill", "power", "full"], help="only that")
    parser.add_argument("--every", action="store_true", help="kill at every failpoint of each seed, not at some")
    parser.add_argument("--processes", action="store_true", help="run the operators in worker processes")
    parser.add_argument("--mischief", action="store_true", help="let operators fork, start pools and change folder")
    parser.add_argument("--compression", default="", help="of input and output: .gz, .bz2, .xz or .zst")
    parser.add_argument("--files", type=int, default=1, help="of how many files the input is made")
    parser.add_argument("--input", default="jsonl", choices=[*SOURCES, ANY], help="the kind of input")
    parser.add_argument("--output", default="", choices=["", *EXPORTS, ANY], help="what is exported")
    parser.add_argument("--jobs", type=int, default=1, help="drivers side by side; more of them make timing wilder")
    parser.add_argument("--seconds", type=float, default=1e9, help="begin nothing new after so many seconds")
    parser.add_argument("--folder", type=Path, help="where to work; what fails is left there")
    parser.add_argument("--delivery", help="this delivery for all nodes")
    parser.add_argument("--fsync", help="this kind of fsync for all seeds")
    parser.add_argument("--write", type=Path, help="of table: the page to put it into")
    parser.add_argument("--check", type=Path, help="of table: the page that must not promise more than was found")
    parser.add_argument("--json", action="store_true", help="print the tally as one JSON object")
    given = parser.parse_args()

    folder = (given.folder or Path(tempfile.mkdtemp(prefix="torture-"))).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)  # for those who are nobody for a while
    began = time.monotonic()
    if given.what == "table":
        return _table(given, folder)
    if given.what != "kills":
        tally = {
            "full": lambda: full_and_broken(folder, share=given.share, seed=given.seed),
            "graphs": lambda: graphs(folder, seed=given.seed, kills=given.kills),
            "state": lambda: graphs(folder, seed=given.seed, kills=given.kills, make=StateGraph.of, rows=600),
            "targets": lambda: targets(folder, seed=given.seed, kills=given.kills),
            "llm": lambda: llm(folder, seed=given.seed, cases=given.seeds, seconds=given.seconds),
            "batch": lambda: batch(folder, seed=given.seed, kills=given.kills, seconds=given.seconds),
            "stores": lambda: stores(
                folder,
                seed=given.seed,
                kills=given.kills,
                storm=given.storm,
                seconds=given.seconds,
                scheme=given.store,
            ),
            "shards": lambda: shards(
                folder, seed=given.seed, kills=given.kills, seeds=given.seeds, seconds=given.seconds
            ),
            "shards-limit": lambda: shard_limit(folder, window=given.window, windows=given.windows),
            "frozen": lambda: frozen(folder, share=given.share, seed=given.seed),
            "folders": lambda: folders(folder, share=given.share, seed=given.seed),
            "changes": lambda: changed_files(folder, share=given.share, seed=given.seed),
            "tampering": lambda: tampering(folder, edits=given.edits, seed=given.seed),
            "tampering-llm": lambda: tampering_llm(folder, edits=given.edits, seed=given.seed),
        }[given.what]()
        last = given.seed + (tally.runs - 1 if given.what == "llm" else 0)
        return _tell(given, folder, tally, [given.seed, last], time.monotonic() - began)
    drivers = []
    for job in range(1, given.jobs):  # before anything else is in this process: drivers have one thread
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                code = _drive(given, folder, job, began)
            finally:
                os._exit(code)
        drivers.append(pid)
    _drive(given, folder, 0, began)
    if any(os.waitpid(pid, 0)[1] for pid in drivers):
        raise RuntimeError("a driver has failed; see what it said above")

    tally, seeds = Tally(), []
    for path in sorted(folder.glob("tally-*.json")):
        for line in path.read_text().splitlines():
            value = json.loads(line)
            seeds.append(value.pop("seed"))
            tally.add(value)
        path.unlink()
    return _tell(given, folder, tally, seeds, time.monotonic() - began)


def _table(given: argparse.Namespace, folder: Path) -> int:
    """Measure the table; print it, write it into a page, or compare it with the one that is there."""
    tallies = measured(folder, seed=given.seed, accidents=given.kills, jobs=given.jobs)
    section = render(tallies, f"python -m tests.torture table --seed {given.seed} --kills {given.kills}")
    total = Tally()
    for tally in tallies.values():
        total.add(tally)
    if given.write is not None:
        page = given.write.read_text()
        given.write.write_text(page.replace(between(page), section))
    if given.check is not None:
        total.findings += contradictions(claims_of(given.check.read_text()), tallies)
    if not given.json:
        print(section)
    return _tell(given, folder, total, [given.seed], 0.0)


def _tell(given: argparse.Namespace, folder: Path, tally: Tally, seeds: list[int], seconds: float) -> int:
    if given.json:
        print(json.dumps({**asdict(tally), "seeds": sorted(seeds), "seconds": round(seconds, 1)}))
    else:
        for finding in tally.findings:
            print("FOUND:", finding)
        print(f"{given.what}, seeds {min(seeds)} to {max(seeds)}, {seconds:.0f} s: {tally}")
        print(f"{len(tally.findings)} findings" + (f"; the files are in {folder}" if tally.findings else ""))
    if not tally.findings and given.folder is None:
        shutil.rmtree(folder)
    return 1 if tally.findings else 0


def _drive(given: argparse.Namespace, folder: Path, job: int, began: float) -> int:
    if given.mischief:  # paths of runs count from there, for who verifies them as for the runs
        os.chdir(folder)
    kills, seed = 0, given.seed + job
    with (folder / f"tally-{job}.json").open("w") as file:
        while kills < given.kills / given.jobs and seed < given.seed + given.seeds:
            left = given.seconds - (time.monotonic() - began)
            if left <= 0:
                break
            work = folder / f"seed-{seed}"
            fixed = {"delivery": given.delivery, "fsync": given.fsync, "processes": given.processes}
            fixed |= {"mischief": given.mischief, "compression": given.compression, "files": given.files}
            fixed |= {"source": given.input, "output": given.output}
            tally = torture(
                seed, given.a_seed, work, exhaustive=given.every, seconds=left, accident=given.accident, **fixed
            )
            kills += tally.accidents if given.accident else tally.kills
            file.write(json.dumps({"seed": seed, **asdict(tally)}) + "\n")
            file.flush()
            seed += given.jobs
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""``python -m tests.bench``: see the package's docstring, or ``--help``."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from . import __doc__ as about
from .compare import Bench
from .kinds import Scale, Workload
from .measure import Side
from .revisions import checked_out, machine
from .rows import WrongResultError
from .table import as_json, header, lines
from .workloads import WORKLOADS

QUICK = Scale(rows=0.05)


def _chosen(patterns: Sequence[str]) -> list[Workload]:
    if not patterns:
        return [workload for workload in WORKLOADS if not workload.is_big]
    for pattern in patterns:
        if not any(fnmatch(workload.name, pattern) for workload in WORKLOADS):
            raise SystemExit(f"there is no workload {pattern!r}; --list shows them")
    return [workload for workload in WORKLOADS if any(fnmatch(workload.name, each) for each in patterns)]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench", description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("workloads", nargs="*", metavar="WORKLOAD", help="names or patterns; all but the big ones")
    parser.add_argument("--list", action="store_true", help="list the workloads")
    parser.add_argument("--repeat", type=int, help="samples of each side (5; with --quick 2)")
    parser.add_argument("--quick", action="store_true", help="a twentieth of the rows")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write figures and samples there")
    parser.add_argument("--vs", metavar="REV", help="compare with this revision, not with the plain loop")
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path(tempfile.gettempdir(), "llm-datagen-bench"),
        help="where data is kept and work is done (%(default)s)",
    )
    parser.add_argument("--peer-python", metavar="PYTHON", default=sys.executable, help="where datatrove is installed")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    given = _parser().parse_args(arguments)
    chosen = _chosen(given.workloads)
    if given.list:
        for workload in chosen if given.workloads else WORKLOADS:
            goal = f"  [{workload.goal}]" if workload.goal else ""
            print(f"{workload.name:24}{workload.about}{goal}{'  (big)' if workload.is_big else ''}")
        return 0
    found: dict[str, Any] = {"machine": machine(), "quick": given.quick, "vs": given.vs, "workloads": {}}
    print(" ".join(f"{key}={value}" for key, value in found["machine"].items()))
    print(header())
    with contextlib.ExitStack() as at_end:
        that = (given.vs, Side(source=at_end.enter_context(checked_out(given.vs)))) if given.vs else None
        bench = Bench(
            folder=given.folder.absolute(),
            repeat=given.repeat or (2 if given.quick else 5),
            scale=QUICK if given.quick else Scale(),
            that=that,
            peer=Side(python=given.peer_python),
        )
        for side in (bench.this, *([that[1]] if that else [])):
            side.compile()
        return _measure(bench, chosen, found, given.json)


def _measure(bench: Bench, chosen: Sequence[Workload], found: dict[str, Any], file: Path | None) -> int:
    status = 0
    for workload in chosen:
        try:
            result = bench.measure(workload)
        except (RuntimeError, WrongResultError) as error:
            print(f"{workload.name}: {error}", file=sys.stderr)
            found["workloads"][workload.name] = {"error": str(error)}
            status = 1
        else:
            print(lines(result), flush=True)
            found["workloads"][workload.name] = as_json(result)
        if file is not None:  # after each one, so that nothing is lost when the rest is given up
            file.write_text(json.dumps(found, indent=1) + "\n")
    return status


if __name__ == "__main__":
    sys.exit(main())

"""``python -m tests.bench.startup``: what a start costs, in processor seconds of the whole process.

Each sample is a process of its own; the starts take turns. The *ratio* is to a bare interpreter (``python -c pass``) in
the same run: seconds are those of this machine, and of what else it does. *First call* is a script that runs a pipeline
of one `LLMOperator` on one row, against a fake endpoint, to its end. With ``--vs``, another revision takes turns, too.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

from llm_datagen.testing import FakeLLMServer

from .measure import Side, cpu_of
from .revisions import checked_out

COMMAND = "import sys; sys.argv[0] = 'llm-datagen'; from llm_datagen.cli import main; main()"
SCRIPT = str(Path(__file__).with_name("first_call.py"))
BARE = "bare interpreter"


def _starts(url: str, folder: str) -> dict[str, list[str]]:
    """Return the arguments of Python by what is started; `status` shows the run of the first call."""
    return {
        BARE: ["-c", "pass"],
        "import llm_datagen": ["-c", "import llm_datagen"],
        "import UnifiedPipeline": ["-c", "from llm_datagen import UnifiedPipeline"],
        "import llm_datagen.llm": ["-c", "from llm_datagen.llm import LLMOperator"],
        "first call": [SCRIPT, url, folder],
        "--help": ["-c", COMMAND, "--help"],
        "recipes": ["-c", COMMAND, "recipes"],
        "status": ["-c", COMMAND, "status", "--results-dir", f"{folder}/results"],
    }


def measured(sides: Sequence[Side], repeat: int) -> list[dict[str, float]]:
    """Return the median processor seconds of each start, for each side."""
    found: list[dict[str, list[float]]] = [{} for _ in sides]
    with FakeLLMServer() as server:
        for _ in range(repeat):
            for side, samples in zip(sides, found, strict=True):
                with tempfile.TemporaryDirectory() as folder:
                    for name, arguments in _starts(server.base_url, folder).items():
                        samples.setdefault(name, []).append(cpu_of([side.python, *arguments], side))
    return [{name: statistics.median(each) for name, each in samples.items()} for samples in found]


def main() -> None:
    """Measure, and print a line for each start."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.startup", description=__doc__)
    parser.add_argument("--repeat", type=int, default=7, help="samples of each start (%(default)s)")
    parser.add_argument("--vs", metavar="REV", help="measure this revision, too")
    given = parser.parse_args()
    with contextlib.ExitStack() as stack:
        sides = [Side()]
        if given.vs:
            sides.append(Side(source=stack.enter_context(checked_out(given.vs))))
        for side in sides:
            side.compile()
        now, *before = measured(sides, given.repeat)
    print(f"{'':24}{'CPU s':>8}{'ratio':>8}" + (f"    {given.vs}{'CPU s':>8}{'ratio':>8}" if before else ""))
    for name in now:
        columns = [f"{each[name]:8.3f}{each[name] / each[BARE]:8.1f}" for each in (now, *before)]
        print(f"{name:24}" + f"    {'':{len(given.vs or '')}}".join(columns))


if __name__ == "__main__":
    main()

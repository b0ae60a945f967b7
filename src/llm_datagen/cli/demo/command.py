"""The demo with a display, and a fresh start of it."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path

from llm_datagen.cli.exit_codes import exit_code_of
from llm_datagen.cli.output import is_terminal, write
from llm_datagen.errors import ConfigError, DatagenError
from llm_datagen.runs import RunFolder
from llm_datagen.runs.display.console import SafeConsole
from llm_datagen.runs.display.live import LiveTable
from llm_datagen.runs.display.plain import PlainLines
from llm_datagen.streams import StreamFactory

_NEEDED = ("xllamacpp", "aiohttp", "jinja2", "pydantic", "platformdirs")
"""What the extra `local` installs."""

DEMO_ID = "demo"


class MissingExtraError(DatagenError):
    """Raised when the packages that the demo needs are not installed."""


def run_demo_watched(out_dir: Path, *, rows: int | None, fresh: bool, ui: bool = False) -> int:
    """Run the demo, or resume it, and return the exit code.

    Args:
        out_dir: where everything goes.
        rows: how many definitions; None for all.
        fresh: whether to delete the demo that is there first.
        ui: whether a page shows it, too.

    Raises:
        MissingExtraError: when packages are missing.
        DatagenError: as `run_demo`.
    """
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise MissingExtraError(
            f"the demo needs {', '.join(missing)}; install it with: pip install 'llm-datagen[cli,local]'"
        )
    from llm_datagen.cli.demo.job import run_demo

    if fresh:
        _remove(out_dir)
    console = SafeConsole()
    display = LiveTable(console) if is_terminal() else PlainLines(write)
    try:
        report = run_demo(out_dir, pipeline_id=DEMO_ID, rows=rows, hooks=display, console=console, ui=ui)
    finally:
        display.close()
    return 0 if report is None else exit_code_of(report.status)


def _remove(out_dir: Path) -> None:
    """Remove the demo's run, with what it wrote, and nothing else that may be there."""
    from llm_datagen.cli.demo.job import DemoFiles

    files = DemoFiles(out_dir)
    folder = RunFolder(files.results, DEMO_ID)
    if not folder.exists():
        if files.definitions.exists() or files.questions.exists():
            raise ConfigError(f"{out_dir} holds no demo that could be started afresh; choose another directory")
        return
    folder.lock.acquire()
    try:
        for node in folder.load()["nodes"]:
            StreamFactory.create(node["output_uri"]).delete()
        StreamFactory.create(f"jsonl://{files.definitions}").delete()
    finally:
        folder.lock.release()
    shutil.rmtree(folder.path)

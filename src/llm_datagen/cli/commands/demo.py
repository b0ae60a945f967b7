"""The command that runs the demo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from llm_datagen.cli.exit_codes import exit_codes
from llm_datagen.cli.lazy_commands import module_app
from llm_datagen.cli.options import (
    TracebackOption,
    UiOption,
)

app = module_app()


@app.command(short_help="Run a small real model on this machine.")
def demo(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where everything goes.")] = Path("llm-datagen-demo"),
    rows: Annotated[
        int | None, typer.Option(min=1, help="How many of the 50 definitions to take.", show_default=False)
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Delete the demo that is there, and start afresh.")] = False,
    ui: UiOption = False,
    traceback: TracebackOption = False,
) -> None:
    """Run a small real model on this machine: 50 definitions become questions and answers.

    Started or resumed, whichever is due. The first time, the model is fetched (93 MB).
    """
    with exit_codes(full_traceback=traceback):
        from llm_datagen.cli.demo.command import run_demo_watched

        raise typer.Exit(run_demo_watched(out, rows=rows, fresh=fresh, ui=ui))

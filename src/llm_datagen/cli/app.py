"""The program: its commands put together."""

from __future__ import annotations

import warnings
from typing import Annotated

import typer

from llm_datagen.cli.lazy_commands import LazyGroup
from llm_datagen.cli.output import write, write_beside
from llm_datagen.errors import InputWarning, OperatorWarning, ResumeWarning
from llm_datagen.runs.told_waits import told_to


class _Program(LazyGroup):
    modules = (
        ("run", "run preview plan"),
        ("resume", "resume replay"),
        ("demo", "demo"),
        ("gather", "gather"),
        ("recipes", "recipes"),
        ("inspect", "describe schema diff compare"),
        ("status", "status"),
        ("inspect", "errors verify trace logs"),
        ("report", "report"),
        ("metrics", "metrics"),
        ("export", "export"),
        ("control", "cancel pause unpause reconfigure"),
        ("jobs", "jobs"),
        ("ui", "ui"),
    )


app = typer.Typer(
    name="llm-datagen",
    cls=_Program,
    help="Run LLM data pipelines of millions of rows: none is lost or written twice.\n\n"
    "Ctrl+C lets running calls finish, saves, and says how to resume. "
    "Exit codes: 0 completed, 1 failed or not completed, 2 wrong usage or settings, "
    "3 stopped by an operator or a budget, 130 after Ctrl+C, 143 after SIGTERM.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(value: bool) -> None:
    if value:
        from importlib.metadata import version as package_version

        write(f"llm-datagen {package_version('llm-datagen')}")
        raise typer.Exit


@app.callback()
def _options(
    ctx: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    for category in (InputWarning, OperatorWarning, ResumeWarning):
        warnings.simplefilter("ignore", category)  # the display shows it: the hooks get it, too
    ctx.with_resource(told_to(write_beside))

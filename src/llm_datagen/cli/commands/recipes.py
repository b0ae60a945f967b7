"""The command that shows ready recipes."""

from __future__ import annotations

from typing import Annotated

import typer

from llm_datagen.cli.exit_codes import exit_codes
from llm_datagen.cli.lazy_commands import module_app
from llm_datagen.cli.output import write

app = module_app()


@app.command(short_help="List ready recipes, or show one.")
def recipes(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="A recipe to show; all without.", show_default=False)
    ] = None,
) -> None:
    """List ready recipes, or show one: llm-datagen recipes NAME > my.yaml.

    A recipe is a pipeline in YAML with a few rows of input, to be run, and to be changed.
    """
    with exit_codes():
        from llm_datagen.cli.recipes import recipe_names, recipe_text, summary_of

        if name is not None:
            write(recipe_text(name).rstrip("\n"))
            return
        for each in recipe_names():
            write(f"{each}\n  {summary_of(each)}")
        write(
            "\nStart from one: llm-datagen recipes NAME > my.yaml; llm-datagen preview my.yaml; llm-datagen run my.yaml"
        )

"""Commands that are made when they are asked for: for one of them, no other is imported, or its options read."""

from __future__ import annotations

from collections import UserDict
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from typing import Any, ClassVar

import typer
from typer.core import TyperGroup


def module_app() -> typer.Typer:
    """Return what a module of `commands` registers its commands with."""
    return typer.Typer(
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,  # boxes take twice as long as all the rest of --help
    )


class LazyGroup(TyperGroup):
    """A program that makes each of its commands when it is asked for.

    Attributes:
        modules: modules of `commands`, each with names of commands that it has, in the order of the help; a subclass
            says them.
    """

    modules: ClassVar[Sequence[tuple[str, str]]]

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.commands = _Commands({name: module for module, names in self.modules for name in names.split()})

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of all commands. It makes none."""
        return list(self.commands)


class _Commands(UserDict[str, Any]):
    """The commands by their names; what it is given, and keeps, is the module of each."""

    def __getitem__(self, name: str) -> Any:
        made = _made(self.data[name])
        return made.commands[name] if isinstance(made, TyperGroup) else made


@cache
def _made(module: str) -> Any:
    return typer.main.get_command(import_module(f"llm_datagen.cli.commands.{module}").app)

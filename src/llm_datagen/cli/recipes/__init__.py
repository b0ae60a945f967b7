"""Ready recipes: whole pipelines in YAML to start from, each one file with a few rows of input.

The first line of a recipe says what it makes.
"""

from __future__ import annotations

from pathlib import Path

from llm_datagen.errors import ConfigError
from llm_datagen.errors.advice import did_you_mean

_FOLDER = Path(__file__).parent


def recipe_names() -> list[str]:
    """Return the names of the recipes, in alphabetical order."""
    return sorted(path.stem for path in _FOLDER.glob("*.yaml"))


def recipe_text(name: str) -> str:
    """Return a recipe, as YAML.

    Raises:
        ConfigError: when there is none of this name.
    """
    names = recipe_names()
    if name not in names:
        raise ConfigError(f"there is no recipe {name!r}; {did_you_mean(name, names)}")
    return (_FOLDER / f"{name}.yaml").read_text(encoding="utf-8")


def summary_of(name: str) -> str:
    """Return what a recipe makes, in a line.

    Raises:
        ConfigError: when there is none of this name.
    """
    return recipe_text(name).partition("\n")[0].removeprefix("# ")

"""The list of recipes: each is short, valid, and on the page."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from llm_datagen.cli.app import app
from llm_datagen.cli.recipes import recipe_names, recipe_text, summary_of
from llm_datagen.cli.target import find_target

from ..examples.pages import DOCS

NAMES = recipe_names()


@pytest.mark.slow
@pytest.mark.sampled(4)
@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_is_short_and_a_pipeline(name: str, tmp_path: Path) -> None:
    text = recipe_text(name)
    assert len(text.splitlines()) <= 40
    assert max(map(len, text.splitlines())) <= 130
    assert text.isascii(), "it is the same in every encoding of a terminal"
    (tmp_path / "mine.yaml").write_text(text)
    target = find_target(str(tmp_path / "mine.yaml"))
    assert target.pipeline_id == name
    assert f"output_uri: {name}.jsonl\n" in text


def test_the_command_lists_recipes_and_shows_one_as_it_is() -> None:
    listed = CliRunner().invoke(app, ["recipes"])
    assert listed.exit_code == 0
    assert [line for line in listed.stdout.splitlines() if line in NAMES] == NAMES
    assert all(f"\n  {summary_of(name)}\n" in listed.stdout for name in NAMES)
    shown = CliRunner().invoke(app, ["recipes", "magpie"])
    assert (shown.exit_code, shown.stdout) == (0, recipe_text("magpie"))
    unknown = CliRunner().invoke(app, ["recipes", "magpy"])
    assert (unknown.exit_code, unknown.stdout) == (2, "")
    assert "there is no recipe 'magpy'; did you mean 'magpie'?" in unknown.stderr


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_is_on_the_page(name: str) -> None:
    assert f"| `{name}` |" in (DOCS / "how-to" / "start-from-a-recipe.md").read_text(encoding="utf-8")

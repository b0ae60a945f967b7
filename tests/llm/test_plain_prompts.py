"""A plain template gives, of every row, what Jinja2 gives: the same text, or the same error."""

from __future__ import annotations

from typing import Any

import pytest

from llm_datagen.llm.errors import PromptError
from llm_datagen.llm.prompts.template import Prompt

TEMPLATES = [
    "{{ a }}",
    "Say {{ a }}, {{- b -}} and {{ a }}\n",
    "no field",
    "{{ range }}{{ a }}",
    "{% raw %}{{ a }}{% endraw %} {{ b }}{# not said #}",
]
NOT_PLAIN = [
    "{{ a | upper }}",
    "{% if a %}x{% endif %}",
    "{{ a.b }}",
    "{{ row }}",
    "{{ self }}",
    "{{ 'x' }}",
    "{{ a ~ b }}",
]
ROWS: list[Any] = [
    {"a": "text", "b": "<b> & {{ a }}\n"},
    {"a": 12, "b": -3, "range": "a range"},
    {"a": 10**5000, "b": 10**17},
    {"a": True, "b": 1.5},
    {"a": None, "b": [1, {"c": "d"}]},
    {"a": "", "b": " "},
    {"a": "x" * 6_000_000, "b": "y" * 6_000_000},
    {"a": "only"},
    {"row": "a field", "a": "x", "b": "y"},
    "no object",
]


def outcome(prompt: Prompt, row: Any) -> str:
    try:
        return prompt.render(row)
    except PromptError as error:
        return f"error: {error}"


@pytest.mark.parametrize("null", ["empty", "error"])
@pytest.mark.parametrize("template", TEMPLATES)
def test_a_plain_template_gives_what_jinja2_gives(template: str, null: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    prompt = Prompt(template, null=null)
    assert prompt._plain is not None
    found = [outcome(prompt, row) for row in ROWS]
    monkeypatch.setattr(prompt, "_plain", None)
    assert found == [outcome(prompt, row) for row in ROWS]
    assert any(not each.startswith("error") for each in found)


def test_what_is_more_than_fields_and_text_is_left_to_jinja2() -> None:
    assert [Prompt(template)._plain for template in NOT_PLAIN] == [None] * len(NOT_PLAIN)

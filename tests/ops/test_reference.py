"""docs/reference/ops.md has every operator with its arguments and their defaults."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest

from llm_datagen import ops

from ..examples.pages import DOCS

SHOWN = dict(re.findall(r"^\| `(\w+)\((.*?)\)` \|", (DOCS / "reference" / "ops.md").read_text(encoding="utf-8"), re.M))


def test_every_operator_is_in_the_tables() -> None:
    assert set(SHOWN) == set(ops.__all__)


@pytest.mark.parametrize(
    "name", [name for name in ops.__all__ if name not in ("Cross", "Sample", "Rename", "Choose", "Split")]
)
def test_an_operator_has_the_arguments_that_are_said(name: str) -> None:
    shown: dict[str, Any] = dict(re.findall(r"(\w+)(?:=([^,]+))?", re.sub(r"\[\]", "()", SHOWN[name])))
    found = inspect.signature(getattr(ops, name)).parameters
    assert list(shown) == list(found)
    for argument, default in shown.items():
        known = found[argument].default
        assert default == ("" if known is inspect.Parameter.empty else repr(known).replace("'", '"'))

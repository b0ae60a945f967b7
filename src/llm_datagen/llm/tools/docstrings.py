"""What a docstring says of a function and of its parameters."""

from __future__ import annotations

import inspect
import re
from typing import NamedTuple

_SECTION = re.compile(r"(?P<name>[A-Z][A-Za-z ]*):\s*")
_PARAMETERS = ("Args", "Arguments", "Parameters", "Params")
_GOOGLE = re.compile(r"\*{0,2}(?P<name>\w+)\s*(?:\([^)]*\))?:\s*(?P<text>.*)")
_SPHINX = re.compile(r":param\s+(?:[^:]*\s)?(?P<name>\w+):\s*(?P<text>.*)")
_SPHINX_FIELD = re.compile(r":\w+[^:]*:")


class Docstring(NamedTuple):
    """What is known.

    Attributes:
        description: what the function does: all that stands before the first section.
        parameters: what is said of each parameter, by its name.
    """

    description: str
    parameters: dict[str, str]


def docstring_of(function: object) -> Docstring:
    """Return what the docstring of a function says, in Google's style (``Args:``) or Sphinx's (``:param x:``)."""
    lines = (inspect.getdoc(function) or "").splitlines()
    first = next((at for at, line in enumerate(lines) if _begins_section(line)), len(lines))
    return Docstring("\n".join(lines[:first]).strip(), _parameters(lines[first:]))


def _begins_section(line: str) -> bool:
    return _SECTION.fullmatch(line) is not None or _SPHINX_FIELD.match(line) is not None


def _parameters(lines: list[str]) -> dict[str, str]:
    found: dict[str, list[str]] = {}
    section, indent, name = "", 0, ""
    for line in lines:
        text, depth = line.strip(), len(line) - len(line.lstrip())
        if depth == 0 and (heading := _SECTION.fullmatch(line)):
            section, indent, name = heading["name"], 0, ""
        elif depth == 0 and _SPHINX_FIELD.match(line):
            section = ""
            said = _SPHINX.fullmatch(text)
            name = said["name"] if said else ""
            if said:
                found[name] = [said["text"]]
        elif section in _PARAMETERS and text and (not indent or depth <= indent):
            indent = depth
            said = _GOOGLE.fullmatch(text)
            name = said["name"] if said else ""
            if said:
                found[name] = [said["text"]]
        elif name and text:
            found[name].append(text)
    return {name: " ".join(parts).strip() for name, parts in found.items()}

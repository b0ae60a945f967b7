"""Parts of the reference that are made from the code: the events of the log, commands and options, the schema.

``python -m tests.examples.generated`` writes them anew.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
from collections.abc import Iterator
from enum import Enum
from itertools import pairwise
from pathlib import Path
from typing import Any

from llm_datagen.runs.logs import events

from .pages import DOCS

EVENTS = DOCS / "reference" / "log.md"
SCHEMA = DOCS.parent / "src" / "llm_datagen" / "cli" / "pipeline.schema.json"
COMMANDS = DOCS / "reference" / "commands.md"
PROVIDERS = DOCS / "reference" / "providers.md"
EVENTS_HEAD = "| event | when | fields |\n|---|---|---|\n"
INTRODUCTION = """# Commands and options

Every command of `llm-datagen` with its arguments and options, as `llm-datagen COMMAND --help` describes them.
[Command line](cli.md) has exit codes and environment variables.
"""


def events_table() -> str:
    """Return the table of events, from the docstrings under their names."""
    rows = ""
    body = ast.parse(inspect.getsource(events)).body
    for name, text in pairwise(body):
        if isinstance(name, ast.Assign) and isinstance(name.value, ast.Constant) and isinstance(text, ast.Expr):
            when, _, fields = inspect.cleandoc(ast.literal_eval(text.value)).partition("Fields: ")
            shown = _in_one_line(fields).replace("`NodeReport`", "[`NodeReport`](reports.md)")
            shown = shown.replace("its settings", "its [settings](config.md#nodeconfig)")
            rows += f"| `{ast.literal_eval(name.value)}` | {_in_one_line(when)} | {shown} |\n"
    return EVENTS_HEAD + rows


def shown_events() -> str:
    """Return the table of events as the page has it."""
    page = EVENTS.read_text(encoding="utf-8")
    return page[page.index(EVENTS_HEAD) :].partition("\n\n")[0] + "\n"


def commands_page() -> str:
    """Return the page of commands, from the command line itself."""
    import typer

    from llm_datagen.cli.app import app

    commands: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    return INTRODUCTION + "".join(f"\n{section}" for name in commands for section in _command(name, commands[name]))


PROVIDERS_INTRODUCTION = """# Providers

What works with each API that has an adapter. [Use another provider's API](../how-to/use-another-api.md) says how.

The page is made of the table that `tests/llm/test_llm_providers.py` tries: each adapter meets the same cases, at a
server on the same machine that speaks its API in shapes that were written after the public documentation.

## Addresses and keys

URL and key are those of `base_url` and `api_key` (or `api_key_env`), else of these environment variables. `structured`
has the ways to ask for JSON, the first one first; `prompt_cache` how requests say
[which beginning](../how-to/see-what-a-run-costs.md#prompts-that-begin-alike) of the prompts may be cached.

"""
PROVIDERS_CASES = """
## What is tried

What is "yes" is tried by the tests; what is "no" is explained below.

"""
TOLD = {"key": "by a key", "marks": "by marks", "itself": "found by itself"}
"""How requests say what may be cached, by `ChatAdapter.prompt_cache`."""
PROVIDERS_LACKS = """
## What an API does not have

"""
PROVIDERS_BATCHES = """
## Jobs of batch APIs

Half the price, within a day or so. Requests and answers are those of the plain calls. `tests/llm/test_batch_apis.py`
tries them at a [fake endpoint](../how-to/test-with-a-fake-endpoint.md#batch-apis), with which the providers' own
clients work as well. An API that is not here has none that is spoken.

| API | `adapter` | most of a job | found again by | results after expiry or cancel | deleted at the end |
|---|---|---|---|---|---|
"""


def providers_page() -> str:
    """Return the page of providers, from the adapters and from what their tests try."""
    from llm_datagen.llm.http.adapters import adapter_of
    from tests.llm.providers import APIS, BATCHES, CASES

    page = (
        PROVIDERS_INTRODUCTION
        + "| API | `adapter` | URL | key | `structured` | `prompt_cache` |\n|---|---|---|---|---|---|\n"
    )
    for api in APIS:
        adapter = adapter_of(api.adapter)
        url = f"`{adapter.base_url_env}`" + (f", else `{adapter.base_url}`" if adapter.base_url else "") + api.url_note
        modes = ", ".join(f"`{mode}`" for mode in adapter.structured_modes)
        hint = TOLD[adapter.prompt_cache]
        page += f'| {api.title} | `"{api.adapter}"` | {url} | `{adapter.api_key_env}` | {modes} | {hint} |\n'
    names = " | ".join(f"`{api.adapter}`" for api in APIS)
    page += f"{PROVIDERS_CASES}| case | {names} |\n|---{'|---' * len(APIS)}|\n"
    for case, what in CASES.items():
        cells = " | ".join("no" if case in api.lacks else "yes" for api in APIS)
        page += f"| {what} | {cells} |\n"
    page += f"{PROVIDERS_LACKS}| API | case | |\n|---|---|---|\n"
    page += "".join(f"| {api.title} | {CASES[case]} | {why} |\n" for api in APIS for case, why in api.lacks.items())
    page += PROVIDERS_BATCHES
    for api in APIS:
        batch, told = adapter_of(api.adapter).batch(), BATCHES.get(api.adapter)
        assert (batch is None) == (told is None), api.adapter
        if batch is not None and told is not None:
            most = f"{batch.limits.rows:,} rows, {batch.limits.bytes // 10**6:,} MB"
            partial = "yes" if told.partial else "no"
            page += f'| {api.title} | `"{api.adapter}"` | {most} | {told.found} | {partial} | {told.deleted} |\n'
    return page


def schema_text() -> str:
    """Return the JSON Schema of pipeline files, as it is shipped."""
    from llm_datagen.cli.yaml_schema import file_schema

    return json.dumps(file_schema(), indent=1, ensure_ascii=False) + "\n"


def _command(name: str, command: Any) -> Iterator[str]:
    yield f"## {name}\n"
    yield from (f"{_in_one_line(part)}.\n" for part in command.help.split("\n\n"))
    rows = [row for parameter in command.params for row in _parameter(parameter)]
    if rows:
        yield "| argument or option | meaning |\n|---|---|\n" + "".join(rows)


def _parameter(parameter: Any) -> Iterator[str]:
    if "--help" in parameter.opts:
        return
    value = "" if getattr(parameter, "is_flag", False) else f" {_value(parameter)}"
    names = [_value(parameter)] if parameter.param_type_name == "argument" else [f"{n}{value}" for n in parameter.opts]
    cell = ", ".join(f"`{name.strip()}`" for name in names)
    yield f"| {cell} | {_in_one_line(parameter.help or '').replace('<output>', '`<output>`')} |\n".replace(
        " |  |", " | |"
    )


def _value(parameter: Any) -> str:
    kind = getattr(getattr(parameter, "type_descriptor", None), "annotation", None)
    choices = [each.value for each in kind] if isinstance(kind, type) and issubclass(kind, Enum) else []
    value = parameter.metavar or "|".join(choices) or parameter.name.upper()
    return str(value).replace("|", " or ")


def _in_one_line(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip().removesuffix(".").replace("|", "\\|")


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    _write(EVENTS, EVENTS.read_text(encoding="utf-8").replace(shown_events(), events_table()))
    _write(COMMANDS, commands_page())
    _write(PROVIDERS, providers_page())
    _write(SCHEMA, schema_text())

"""The tools of an operator, made of what a user gives, and checked against its other arguments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from llm_datagen.errors import ConfigError
from llm_datagen.llm.cost.known_prices import known_prices
from llm_datagen.llm.engines.options import Engine
from llm_datagen.llm.tools.options import Tools

if TYPE_CHECKING:
    from llm_datagen.llm.answers.columns import ExtraColumns
    from llm_datagen.llm.endpoints import Endpoint
    from llm_datagen.llm.tools.toolbox import Toolbox


def toolbox_of(
    given: Any,
    fields: Mapping[str, Any],
    endpoints: Sequence[Endpoint],
    extras: ExtraColumns,
    *,
    has_jobs: bool = False,
) -> Toolbox | None:
    """Return the tools that a user gave; None for None. What schemas need is imported now.

    Args:
        given: see `Tools.of`.
        fields: of the requests, which may have tools that the API has of its own.
        endpoints: where calls go.
        extras: its extra columns.
        has_jobs: whether answers come from jobs of a batch API, so that nobody knows what they took.

    Raises:
        ConfigError: when they cannot be used, or not with the other arguments.
    """
    if given is None:
        return None
    from llm_datagen.llm.tools.toolbox import Toolbox

    options = Tools.of(given)
    for tool in fields.get("tools", ()):
        if isinstance(tool, Mapping) and (tool.get("type") == "function" or _OF_FUNCTIONS & tool.keys()):
            raise ConfigError(
                f"params['tools'] has a function that nobody would call, {tool!r}: give it to tools, with what is "
                "called; only tools that the API executes itself stand in params beside tools"
            )
    for each in endpoints if options.max_usd is not None else ():
        label, own = each.address.label, each.address.adapter.known_prices(each.model)
        if each.prices is None and own is None and known_prices(each.model, label) is None and each.engine is None:
            raise ConfigError(f"max_usd of tools: no price is known of model {each.model!r} at {label}: give prices")
    for each in endpoints:
        if isinstance(each.engine, Engine):
            _check_engine(each.engine)
    if extras.takes_tool_calls:
        raise ConfigError(
            "extra_columns 'tool_calls' is for calls that nobody executes, and tools are: take 'messages', which has "
            "the calls and their results"
        )
    return Toolbox(options, fields.get("tools", ()), times_answers=not has_jobs)


def _check_engine(engine: Engine) -> None:
    """Check that an engine of this process knows tools; one of the user's own may."""
    if engine.kind in _WITHOUT_TOOLS:
        raise ConfigError(
            f"tools cannot be used with engine {engine.kind!r}, which does not read calls out of answers: start vLLM's "
            "server with a tool parser, and give adapter='vllm'; or use engine 'llama'"
        )
    if engine.kind == "llama" and engine.chat_template is None and not engine.options.get("use_jinja"):
        raise ConfigError(
            "tools with engine 'llama' need a chat template that knows tools, and is read as Jinja: give "
            "Engine(kind='llama', options={'use_jinja': True}) for the model's own, or chat_template"
        )


_WITHOUT_TOOLS = ("transformers", "vllm")
_OF_FUNCTIONS = {"function", "input_schema", "toolSpec", "functionDeclarations"}
"""By which a tool is known as a function, as APIs have them; others are of the API's own."""

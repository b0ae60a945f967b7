"""What a user says of the tools that a model may use: plain data, checked once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from llm_datagen.config import check_choice, check_count, check_flag, check_positive, check_seconds, object_of
from llm_datagen.config.constructor import refuses_unknown
from llm_datagen.errors import ConfigError
from llm_datagen.llm.import_string import imported, is_import_path
from llm_datagen.llm.tools.mcp_options import McpServer
from llm_datagen.llm.tools.names import checked_name

OnToolError = Literal["tell", "fail"]
"""What follows when a tool fails: the model is told, or the row fails."""

MAX_RESULT_BYTES = 64 << 10


@refuses_unknown
@dataclass(frozen=True, slots=True)
class Tool:
    """A function that a model may call.

    Attributes:
        function: the function, plain or async, or ``"module:name"`` of it. A parameter `ctx` gets the context of the
            node, and is not shown to the model. A plain function is called on a thread.
        name: how the model calls it; None: the name of the function.
        description: what the model is told of it; None: the function's docstring, up to its first section.
        parameters: the JSON schema of the arguments, an object; None: made of the signature, the type hints and the
            docstring.
        timeout: seconds that a call may take; None: that of `Tools`.

    Raises:
        ConfigError: on a wrong value.
    """

    function: Callable[..., Any] | str
    name: str | None = None
    description: str | None = None
    parameters: Mapping[str, Any] | None = None
    timeout: float | None = None

    def __post_init__(self) -> None:
        if not callable(self.function) and not is_import_path(self.function):
            raise ConfigError(f"a tool must be a function or 'module:name' of one, not {self.function!r}")
        if self.name is not None:
            checked_name(self.name)
        if self.parameters is not None and not isinstance(self.parameters, Mapping):
            raise ConfigError(f"parameters of a tool must be a JSON schema, as a dict, not {self.parameters!r}")
        if self.timeout is not None:
            check_seconds("timeout of a tool", self.timeout)

    @classmethod
    def of(cls, given: Any) -> Tool:
        """Return the tool that a user gave: a function, ``"module:name"``, a `Tool` or a dict with its attributes.

        A dict may also have the form of chat completions, with the function beside it:
        ``{"type": "function", "function": {"name": …, "parameters": …}, "call": …}``.

        Raises:
            ConfigError: when it is none.
        """
        if callable(given) or isinstance(given, str):
            return cls(given)
        if isinstance(given, Mapping) and isinstance(given.get("function"), Mapping):
            said = dict(given["function"])
            said.pop("strict", None)
            if "call" not in given:
                raise ConfigError(
                    f"the tool {said.get('name')!r} has no function that is called: give it beside the schema, as "
                    "'call': a function, or 'module:name'; a schema alone belongs in params, where nothing is called"
                )
            given = {**said, "function": given["call"]}
        return object_of(cls, "a tool", given)

    def loaded(self) -> Callable[..., Any]:
        """Return the function.

        Raises:
            ConfigError: when it cannot be imported, or is none.
        """
        found = imported(self.function, what="the tool") if isinstance(self.function, str) else self.function
        if not callable(found):
            raise ConfigError(f"the tool {self.function!r} is not a function")
        return found


@refuses_unknown
@dataclass(frozen=True, slots=True)
class Tools:
    """The tools that a model may use, and how far a row may go with them.

    Attributes:
        tools: functions, ``"module:name"`` of functions, `Tool` and `McpServer` (or dicts with their attributes).
        max_rounds: how often a row may answer with calls of tools; one that does so once more fails.
        max_seconds: seconds that the answers and the tools of a row may take together. What it waits for limits, a
            pause or an endpoint that is down does not count.
        max_usd: US dollars that the answers of a row may cost; None for any. The answer that goes over it is paid for,
            and no further one is asked for.
        timeout: seconds that one call of a tool may take.
        max_result_bytes: the longest result, as JSON; of a longer one, the model is told that it is too long.
        on_tool_error: what follows when a tool raises, takes too long, or its result is too long: ``"tell"``: the
            model gets the error as the result; ``"fail"``: the row fails. Arguments that do not fit, and tools that
            there are not, the model is told in any case.
        parallel: whether the calls of one answer run at the same time; else one after the other, in their order.
        threads: plain functions that run at once, for all rows of the operator.

    Raises:
        ConfigError: on a wrong value.
    """

    tools: Sequence[Any]
    max_rounds: int = 10
    max_seconds: float = 600.0
    max_usd: float | None = None
    timeout: float = 60.0
    max_result_bytes: int = MAX_RESULT_BYTES
    on_tool_error: OnToolError = "tell"
    parallel: bool = True
    threads: int = 32
    functions: tuple[Tool, ...] = field(init=False, repr=False, compare=False)
    servers: tuple[McpServer, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if isinstance(self.tools, str | Mapping) or not isinstance(self.tools, Sequence) or not self.tools:
            raise ConfigError(
                f"tools must be a list of functions, 'module:name', Tool or McpServer, not {self.tools!r}"
            )
        check_count("tools['max_rounds']", self.max_rounds)
        check_seconds("tools['max_seconds']", self.max_seconds)
        check_seconds("tools['timeout']", self.timeout)
        check_count("tools['max_result_bytes']", self.max_result_bytes)
        check_choice("tools['on_tool_error']", self.on_tool_error, OnToolError)
        check_flag("tools['parallel']", self.parallel)
        check_count("tools['threads']", self.threads)
        if self.max_usd is not None:
            check_positive("tools['max_usd']", self.max_usd, "US dollars")
        is_server = [isinstance(each, McpServer) or _says_server(each) for each in self.tools]
        both = list(zip(self.tools, is_server, strict=True))
        object.__setattr__(self, "servers", tuple(McpServer.of(each) for each, is_one in both if is_one))
        object.__setattr__(self, "functions", tuple(Tool.of(each) for each, is_one in both if not is_one))

    @classmethod
    def of(cls, given: Any) -> Tools:
        """Return what a user gave: a list of tools, `Tools`, or a dict with its attributes.

        Raises:
            ConfigError: when it is none of them.
        """
        if isinstance(given, Sequence) and not isinstance(given, str):
            return cls(given)
        if not isinstance(given, Mapping | Tools):
            raise ConfigError(f"tools must be a list of tools, a Tools or a dict, not {given!r}")
        return object_of(cls, "tools", given)


def _says_server(given: Any) -> bool:
    return isinstance(given, Mapping) and ("command" in given or "url" in given)

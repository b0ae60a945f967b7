"""How the engine calls an operator: a function, or an object with `process_item` or `process_batch`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from llm_datagen.config import BatchBy, check_choice
from llm_datagen.errors import ConfigError
from llm_datagen.operators.base import BaseOperator
from llm_datagen.operators.fingerprint import parts_of
from llm_datagen.operators.protocols import INodeContext

_NATURE = ("setup", "teardown", "bisect", "batch_by", "stateful", "keeps_state", "kept_files", "calls_at_once")
"""What an operator says of how it is called."""


class FunctionOperator(BaseOperator):
    """A function as an operator.

    Args:
        func: ``f(item)`` or ``f(item, ctx)``, plain or async; with ``batch=True``, of a list of items.
        batch: whether the function takes the whole batch.
        name: the identity; the function's qualified name unless given.
    """

    def __init__(self, func: Callable[..., Any], *, batch: bool = False, name: str | None = None) -> None:
        if not callable(func):
            raise ConfigError(f"an operator must be a function or have process_item/process_batch, not {func!r}")
        self.func = func
        self.batch = batch
        self.name = name or str(getattr(func, "__qualname__", type(func).__qualname__))
        self.takes_ctx = _takes_ctx(func)
        self.version = getattr(func, "version", None)
        self.stateful = bool(getattr(func, "stateful", False))
        self.keeps_state = bool(getattr(func, "keeps_state", False))
        _check_call(func, self.name, 2 if self.takes_ctx else 1)

    def __repr__(self) -> str:
        return f"FunctionOperator({self.name})"

    def fingerprint(self) -> Mapping[str, Any]:
        """Return the parts of the function, and whether it takes batches."""
        return {**parts_of(self.func), "batch": self.batch}


def as_operator(thing: Any) -> Any:
    """Return `thing` as an operator: operators as they are, functions wrapped.

    Raises:
        ConfigError: when it is neither, cannot be called with an item (and ctx), or an attribute of it raises.
    """
    if isinstance(thing, type):
        raise ConfigError(f"operator {thing.__qualname__} is a class; give an instance: {thing.__name__}()")
    if isinstance(thing, FunctionOperator):
        return thing
    _check_readable(thing)
    if _overridden(thing, "process_batch", "process_item"):
        call = Call(thing)
        _check_call(call.func, f"{operator_name(thing)}.{'process_batch' if call.batch else 'process_item'}", 2)
        return thing
    if isinstance(thing, BaseOperator):
        raise ConfigError(f"operator {type(thing).__qualname__} overrides neither process_item nor process_batch")
    return FunctionOperator(thing)


def _check_readable(thing: Any) -> None:
    for name in (
        "process_batch",
        "process_item",
        "name",
        "version",
        "fingerprint",
        "setup",
        "bisect",
        "stateful",
        "keeps_state",
        "finish",
    ):
        try:
            getattr(thing, name, None)
        except Exception as error:
            raise ConfigError(
                f"operator {type(thing).__qualname__}: its `{name}` cannot be read: {type(error).__name__}: {error}; a "
                "property or __getattr__ of an operator must return a value, or raise AttributeError"
            ) from error


def operator_name(operator: Any) -> str:
    """Return the identity of an operator, as stored in the run state."""
    return str(getattr(operator, "name", "") or type(operator).__qualname__)


def operators_within(operator: Any) -> Iterator[Any]:
    """Yield the operators that are called when one is: itself, or those that it is made of."""
    inner = getattr(operator, "operators", None) or (getattr(operator, "operator", None),)
    is_ours = type(operator).__module__.partition(".")[0] == __name__.partition(".")[0]
    if is_ours and None not in inner:
        for each in inner:
            yield from operators_within(each)
    else:
        yield operator


def take_nature(wrapper: Any, operator: Any) -> None:
    """Let an operator that wraps another one be called, set up and released as that one."""
    for name in _NATURE:
        if hasattr(operator, name):
            setattr(wrapper, name, getattr(operator, name))


def calls_at_once(operator: Any) -> int:
    """Return how many calls of an operator to make at once where the node's `parallel_size` is 1."""
    return max(int(getattr(each, "calls_at_once", 1)) for each in operators_within(operator))


def has_jobs(operator: Any) -> bool:
    """Return whether calls of an operator wait for jobs that others do, and that go on when the process ends."""
    return any(getattr(each, "has_jobs", False) for each in operators_within(operator))


def kept_files(operator: Any) -> Mapping[str, str]:
    """Return the paths of files that an operator writes for itself, by what they are; see `BaseOperator.kept_files`."""
    found = getattr(operator, "kept_files", None)
    return found() if callable(found) else {}


class Call:
    """How one operator is called: which function, over items or batches, awaited or not.

    Attributes:
        func: ``f(argument, ctx)``, or ``f(argument)``.
        takes_ctx: which of the two.
        batch: whether the argument is a list of items.
        is_async: whether the result must be awaited.
        bisect: whether a batch that fails may be called again in halves.
        finish: ``f(ctx)``, called once when the source has ended; None when the operator has none.
        is_finish_async: whether that is awaited, or iterated over by ``async for``.
        keeps_state: whether the operator uses ``ctx.state``.
    """

    __slots__ = ("batch", "bisect", "finish", "func", "is_async", "is_finish_async", "keeps_state", "takes_ctx")

    def __init__(self, operator: Any) -> None:
        self.func: Callable[..., Any]
        if isinstance(operator, FunctionOperator):
            self.func, self.batch, self.takes_ctx = operator.func, operator.batch, operator.takes_ctx
        else:
            self.batch = _overridden(operator, "process_batch")
            self.func, self.takes_ctx = operator.process_batch if self.batch else operator.process_item, True
        self.is_async = _is_async(self.func)
        setup = getattr(operator, "setup", None)
        if setup is not None and _is_async(setup) and not self.is_async:
            raise ConfigError(
                f"operator {operator_name(operator)} has an async setup, but a plain process method: it would never be "
                "awaited; make both async, or neither"
            )
        self.bisect = bool(getattr(operator, "bisect", True))
        self.finish: Callable[[INodeContext], Any] | None = None
        if _overridden(operator, "finish"):
            self.finish = operator.finish
        self.is_finish_async = self.finish is not None and (
            _is_async(self.finish) or inspect.isasyncgenfunction(self.finish)
        )
        if self.is_finish_async and not self.is_async:
            raise ConfigError(
                f"operator {operator_name(operator)} has an async finish, but a plain process method; make both async, "
                "or neither"
            )
        self.keeps_state = bool(getattr(operator, "keeps_state", False))

    def __call__(self, argument: Any, ctx: INodeContext) -> Any:
        """Call the operator."""
        return self.func(argument, ctx) if self.takes_ctx else self.func(argument)


def _overridden(operator: Any, *methods: str) -> bool:
    for method in methods:
        found = getattr(operator, method, None)
        if callable(found) and getattr(found, "__func__", None) is not getattr(BaseOperator, method):
            return True
    return False


def _is_async(func: Callable[..., Any]) -> bool:
    call = getattr(func, "__call__", None)  # noqa: B004 - an object with an async __call__ counts too
    return inspect.iscoroutinefunction(func) or inspect.iscoroutinefunction(call)


def _takes_ctx(func: Callable[..., Any]) -> bool:
    try:
        parameters = inspect.signature(func).parameters.values()
    except (TypeError, ValueError):  # a builtin such as str.upper says nothing of its parameters
        return False
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    required = [p for p in positional if p.default is p.empty]
    variadic = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    return len(required) >= 2 or variadic or any(p.name == "ctx" for p in positional[1:])


def _check_call(func: Callable[..., Any], name: str, arguments: int) -> None:
    try:
        signature = inspect.signature(func)
    except (TypeError, ValueError):
        return
    try:
        signature.bind(*[None] * arguments)
    except TypeError as error:
        wanted = "an item and ctx" if arguments == 2 else "an item, or an item and ctx,"
        raise ConfigError(f"operator {name} must take {wanted} by position: {error}") from None


def check_end_ids(operator: Any, node_id: str, id_scheme: str) -> None:
    """Check that rows which an operator gives at the end of its source can have ids.

    Raises:
        ConfigError: when they cannot.
    """
    if id_scheme == "numeric" and Call(operator).finish is not None:
        raise ConfigError(
            f"{node_id}: {operator_name(operator)} has a finish(), whose rows are named end_0, end_1 …: use "
            'id_scheme="path" or "text", not "numeric"'
        )


def batch_by_of(operator: Any, setting: BatchBy | None, node_id: str, id_scheme: str) -> BatchBy:
    """Return which rows share a call of an operator: the node's setting, or else the operator's.

    Raises:
        ConfigError: when the operator takes no batches, or children have ids that do not name their parent.
    """
    chosen: BatchBy = check_choice("batch_by", setting or getattr(operator, "batch_by", "position"), BatchBy)
    if chosen == "parent" and setting and not Call(operator).batch:
        raise ConfigError(f'{node_id}: batch_by="parent" is for operators with process_batch; this one takes items')
    if chosen == "parent" and id_scheme == "numeric":
        raise ConfigError(
            f'{node_id}: batch_by="parent" needs ids that name the parent: id_scheme="path" or "text", not "numeric"'
        )
    return chosen

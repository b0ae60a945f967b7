"""Operators: what a user writes, and how the engine recognises what it was given.

An operator has one of two methods, plain or ``async def``:

* ``process_item(item, ctx)``: one row in; the items of a batch are processed concurrently.
* ``process_batch(items, ctx)``: the author owns the batch.

Each call may return a row (1:1), ``None`` (filtered), or a list (1:N, flattened).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self, runtime_checkable

from llm_datagen.config import BatchBy, check_choice
from llm_datagen.errors import ConfigError
from llm_datagen.operators.arguments import NotPlainError, kept_arguments
from llm_datagen.operators.fingerprint import parts_of

Row = dict[str, Any]
"""A row: a JSON object. Rows of another shape are given to operators as the bare value."""


@runtime_checkable
class INodeContext(Protocol):
    """What an operator may ask of, and tell, the node that runs it. Safe to use from any thread."""

    @property
    def node_id(self) -> str:
        """The id of the node that is running the operator, such as ``node_0``."""

    @property
    def pipeline_id(self) -> str:
        """The id of the pipeline, or an empty string for a node that runs by itself."""

    @property
    def folder(self) -> Path | None:
        """A folder of the run's for files of the operator's own, the same in every resume; None where no run is kept.

        The operator makes it if it needs it. All operators of the run share it. ``if_exists="overwrite"`` deletes it.
        """

    def report_usage(self, usage: Mapping[str, Any]) -> None:
        """Report what a call used.

        Args:
            usage: numbers are summed per ``provider`` and ``model`` (two optional keys with text), such as
                ``{"model": "m", "prompt_tokens": 12, "completion_tokens": 40}``.
        """

    def is_cancelled(self) -> bool:
        """Return whether the run is being cancelled, so that a long call can give up."""

    def is_paused(self) -> bool:
        """Return whether the run is paused, so that a call which consists of several steps can wait before the next."""

    def log(self, message: str, **fields: Any) -> None:
        """Write a line to platform.log and to the hooks' `on_log`. Never log rows or secrets.

        With ``level="warning"`` the command line shows it, too.
        """


@runtime_checkable
class IOperator(Protocol):
    """Anything with a `name` and one of `process_item` and `process_batch`."""

    @property
    def name(self) -> str:
        """The operator's identity: a resume is refused when it differs from the run state's."""


class _SignatureOfInit:
    """The signature of a class whose `__new__` takes anything, and whose `__init__` says what."""

    def __get__(self, instance: Any, owner: type) -> inspect.Signature:
        if instance is not None:
            raise AttributeError("__signature__")
        if owner.__init__ is object.__init__:  # type: ignore[misc]
            return inspect.Signature()
        signature = inspect.signature(owner.__init__)  # type: ignore[misc]
        return signature.replace(parameters=list(signature.parameters.values())[1:], return_annotation=owner)


class BaseOperator:
    """The class to inherit from: override `process_item` or `process_batch` (plain or async).

    When both are overridden, `process_batch` is used. `setup` and `teardown` may be overridden too (async if
    the operator is), for clients and models: they are called once a run, before the first and after the last
    call, on a thread (or event loop) of the node; with ``executor="process"``, once in each worker process.

    Attributes:
        name: the operator's name in the run state, in reports and in messages; the class's name unless set. A step of
            the same name in the code and in the run state is the same step.
        bisect: whether a batch that fails may be called again in halves, to find the row at fault; False makes the
            whole batch fail.
        batch_by: which rows share a call of `process_batch`: "position", those that lie together; "parent", children of
            one row, and of no other. A node's setting counts more.
        version: what stands for the operator's code and settings, when it is set: a resume then compares nothing else.
        stateful: whether the operator means to keep something from one call to the next; True silences the warning.
    """

    name: str = ""
    bisect: bool = True
    batch_by: BatchBy = "position"
    version: str | None = None
    stateful: bool = False

    if not TYPE_CHECKING:  # a constructor's own signature is what counts

        def __new__(cls, *args: Any, **kwargs: Any) -> Self:
            """Note the arguments, so that the run state can say how to make the operator again."""
            if cls.__init__ is object.__init__ and (args or kwargs):
                raise TypeError(f"{cls.__name__}() takes no arguments")
            self = super().__new__(cls)
            try:
                made_with = kept_arguments(cls, args, kwargs)
            except NotPlainError as reason:
                made_with = str(reason)
            object.__setattr__(self, "_made_with", made_with)
            return self

        # Else the signature of a class would be that of `__new__`, which takes anything.
        __signature__ = _SignatureOfInit()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "name" not in cls.__dict__:
            cls.name = cls.__qualname__

    def process_item(self, item: Any, ctx: INodeContext) -> Any:
        """Turn one item into a row, None, or a list of rows."""
        raise TypeError(f"{type(self).__name__} overrides neither process_item nor process_batch")

    def process_batch(self, items: Sequence[Any], ctx: INodeContext) -> Any:
        """Turn a batch into one result an item, or into a flat list of rows."""
        raise TypeError(f"{type(self).__name__} overrides neither process_item nor process_batch")

    def kept_files(self) -> Mapping[str, str]:
        """Return the paths of files that it writes for itself, by what they are: ``{"cache": "answers.sqlite"}``.

        A run is refused in which one of them is another file of the run. Operators may share a file of one name.
        """
        return {}

    def setup(self) -> Any:
        """Get ready for a run. Called once, before the first call."""

    def teardown(self) -> Any:
        """Let go of what `setup` took. Called once, after the last call, also after a failure."""

    def fingerprint(self) -> Mapping[str, Any]:
        """Return what the results depend on, by the name of each part. Override it to say that better.

        The run state stores it, and a resume that finds other parts is refused. A text of up to 64 characters is stored
        as it is, so it must not be a secret; a longer one as a digest. None means that the part cannot be compared.

        Unless overridden: the code of the class, of the functions and classes of yours that it uses, with the globals
        that they name; and the attributes, plain data by its value, anything else by its type.
        """
        return parts_of(self)


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
        _check_call(func, self.name, 2 if self.takes_ctx else 1)

    def __repr__(self) -> str:
        return f"FunctionOperator({self.name})"

    def fingerprint(self) -> Mapping[str, Any]:
        """Return the parts of the function, and whether it takes batches."""
        return {**parts_of(self.func), "batch": self.batch}


def as_operator(thing: Any) -> Any:
    """Return `thing` as an operator: operators as they are, functions wrapped.

    Raises:
        ConfigError: when it is neither, cannot be called with an item (and ctx), or what is asked of it raises.
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
    for name in ("process_batch", "process_item", "name", "version", "fingerprint", "setup", "bisect", "stateful"):
        try:
            getattr(thing, name, None)
        except Exception as error:
            raise ConfigError(
                f"operator {type(thing).__qualname__}: its `{name}` cannot be read: {type(error).__name__}: {error}; a "
                "property or __getattr__ of an operator must return a value, or raise AttributeError"
            ) from error


def made_with(operator: Any) -> dict[str, Any] | str | None:
    """Return the arguments of an operator's constructor as plain data; or why they cannot be kept; None: not known."""
    is_known = isinstance(operator, BaseOperator) and type(operator).__new__ is BaseOperator.__new__
    return vars(operator).get("_made_with") if is_known else None


def operator_name(operator: Any) -> str:
    """Return the identity of an operator, as stored in the run state."""
    return str(getattr(operator, "name", "") or type(operator).__qualname__)


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
    """

    __slots__ = ("batch", "bisect", "func", "is_async", "takes_ctx")

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


def batch_by_of(operator: Any, setting: BatchBy | None, node_id: str, id_scheme: str) -> BatchBy:
    """Return which rows share a call of an operator: as the node's setting says, else the operator.

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

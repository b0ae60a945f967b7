"""From an operator to a reference in the run state that says how to make it again, and back."""

from __future__ import annotations

import contextlib
import functools
import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from llm_datagen.errors import ConfigError
from llm_datagen.errors.advice import a_kind, did_you_mean
from llm_datagen.operators import FunctionOperator, as_operator, made_with, operator_name
from llm_datagen.operators.arguments import NotPlainError, given_arguments, stored_arguments
from llm_datagen.operators.call import calls_at_once
from llm_datagen.operators.import_path import load, name_of

_PACKAGE = __name__.partition(".")[0]
_SHORT = re.compile(r"(ops|llm)\.([A-Za-z]\w*)")

_USED = "_used_as"
"""Where an operator that is an object of a module keeps the name by which it was loaded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorRef:
    """How an operator is made.

    Attributes:
        use: ``module:Class``, ``module:function``, or ``module:object``.
        args: arguments by position.
        with_: arguments by name; of a function, further ones than the item.
        name: the identity; empty for that of the class or function.
        batch: whether the function takes a list of items.
    """

    use: str
    args: list[Any] = field(default_factory=list)
    with_: dict[str, Any] = field(default_factory=dict)
    name: str = ""
    batch: bool = False


_MOVED = {
    "llm_datagen.demo.operators": "llm_datagen.cli.demo.operators",
    "llm_datagen.exporting:Exporter": "llm_datagen.runs.id_stripper:IdStripper",
    "llm_datagen.merging": "llm_datagen.pipeline.fan_in",
    "llm_datagen.routing": "llm_datagen.pipeline.fan_out",
    "llm_datagen.runs.export:Exporter": "llm_datagen.runs.id_stripper:IdStripper",
}
"""Modules of this package, or what is in them, that older runs name, and where they are now."""


def ref_of(operator: Any) -> dict[str, Any]:
    """Return, as plain data, how an operator is made; or, under ``cannot``, why that cannot be said."""
    used = getattr(operator, _USED, None)
    if isinstance(used, str):
        return {"use": used}
    try:
        return _of_function(operator) if isinstance(operator, FunctionOperator) else _of_object(operator)
    except NotPlainError as reason:
        return {"cannot": str(reason)}


def _of_function(operator: FunctionOperator) -> dict[str, Any]:
    func: Any = operator.func
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = {}
    while isinstance(func, functools.partial):
        func, args, kwargs = func.func, (*func.args, *args), {**func.keywords, **kwargs}
    return {"use": _use_of(func), **stored_arguments(func, args, kwargs), "batch": operator.batch}


def _of_object(operator: Any) -> dict[str, Any]:
    cls = type(operator)
    use = _use_of(cls)
    arguments = made_with(operator)
    if arguments is not None:
        if isinstance(arguments, str):
            raise NotPlainError(arguments)
        return {"use": use, **arguments}
    with contextlib.suppress(TypeError, ValueError):
        if not inspect.signature(cls).parameters:
            return {"use": use}
    raise NotPlainError(
        f"{use} does not inherit from BaseOperator (or has a __new__ of its own), so its arguments are unknown"
    )


def _use_of(thing: Any) -> str:
    use = name_of(thing)
    if use is None:
        name = getattr(thing, "__qualname__", None) or repr(type(thing).__qualname__)
        raise NotPlainError(f"{name} cannot be imported: it is not at the top level of a module that has a name")
    return use


def operators_of(run_state: Mapping[str, Any]) -> list[Any]:
    """Make the operators of a run again, as its run state says.

    Raises:
        ConfigError: when one of them cannot be made; names each of them, and why.
    """
    operators, missing = [], []
    for entry in run_state["nodes"]:
        ref = entry.get("operator_ref")
        where = f"{entry['node_id']} ({entry['operator']})"
        if not isinstance(ref, dict) or "use" not in ref:
            why = ref.get("cannot") if isinstance(ref, dict) else None
            missing.append(f"{where}: {why or 'the run state does not say how it was made'}")
            continue
        try:
            args, kwargs = given_arguments(ref)
            made = OperatorRef(use=_where_now(ref["use"]), args=args, with_=kwargs, batch=ref.get("batch", False))
            operator = build_operator(made, where)
            if operator_name(operator) != entry["operator"]:
                operator.name = entry["operator"]
            operators.append(operator)
        except ConfigError as error:
            missing.append(str(error))
    if missing:
        raise ConfigError(
            f"the operators of run {run_state['pipeline_id']!r} were not given, and its run state cannot say how to "
            f"make all: {'; '.join(missing)}. Give them in the code, as when the run was created: UnifiedPipeline([…])"
        )
    return operators


def _where_now(use: str) -> str:
    module, _, name = use.partition(":")
    return _MOVED.get(use, f"{_MOVED.get(module, module)}:{name}")


ENTRY_KEYS = ("use", "with", "name", "batch")
"""What an entry of YAML may say of an operator by itself; the settings of its node come besides."""


KEEPS_STATE = "keeps_state"
"""The key of a node, in a run state, whose operator keeps state; nodes of other operators do not have it."""


CALLS_AT_ONCE = "calls_at_once"
"""The key of a node, in a run state, whose operator says how many calls to make at once; see `BaseOperator`."""


def state_note(operator: Any) -> dict[str, Any]:
    """Return what the run state says of a node because of its operator: that it keeps state, or its calls at once."""
    calls = calls_at_once(operator)
    return {
        **({KEEPS_STATE: True} if getattr(operator, "keeps_state", False) else {}),
        **({CALLS_AT_ONCE: calls} if calls > 1 else {}),
    }


def parallel_size_of(entry: Mapping[str, Any]) -> int:
    """Return how many batches of a node are in its operator at once.

    One, whatever its setting is, if it keeps state; where the setting is 1, as many as the operator says.

    Args:
        entry: the node, in a run state.
    """
    size = int(entry["parallel_size"])
    return 1 if entry.get(KEEPS_STATE) else max(size, int(entry.get(CALLS_AT_ONCE, 1)) if size == 1 else 1)


def operator_of(entry: Mapping[str, Any] | str, where: str) -> Any:
    """Return the operator that an entry of YAML says: ``module:name``, or ``use``, ``with``, ``name`` and ``batch``.

    Args:
        entry: the entry.
        where: the path of its key, for errors.

    Raises:
        ConfigError: naming the key.
    """
    given: dict[str, Any] = {"use": entry} if isinstance(entry, str) else dict(entry)
    for key in given:
        if key not in ENTRY_KEYS:
            raise ConfigError(f"{where}.{key}: this key is not known; {did_you_mean(str(key), ENTRY_KEYS)}")
    if not isinstance(given.get("use"), str):
        raise ConfigError(f"{where}.use: this key is missing; it names the operator, as module:name")
    made = OperatorRef(
        use=spelled_out(given["use"]),
        with_=given.get("with", {}),
        name=given.get("name", ""),
        batch=given.get("batch", False),
    )
    return build_operator(made, where)


def spelled_out(use: str) -> str:
    """Return ``module:name`` of an operator of this package that has a short name, such as ``ops.Dedupe``."""
    short = _SHORT.fullmatch(use)
    return f"{_PACKAGE}.{short[1]}:{short[2]}" if short else use


def build_operator(ref: OperatorRef, where: str) -> Any:
    """Return the operator that is made so.

    Args:
        ref: how.
        where: the path of its key, or the node, for errors.

    Raises:
        ConfigError: naming the key.
    """
    found = _loaded(ref, where)
    is_function = inspect.isroutine(found) or isinstance(found, functools.partial)
    if ref.batch and not is_function:
        raise ConfigError(f"{where}.batch: only for functions; {ref.use} says by its methods what it takes")
    if isinstance(found, type):
        operator = _call(found, ref, where)
        if ref.name:
            operator.name = ref.name
    elif is_function:
        if ref.with_ or ref.args:
            name = str(getattr(found, "__qualname__", ref.use))
            _check_arguments(found, ref, where, skipped=1)
            operator = functools.partial(found, *ref.args, **ref.with_)
        else:
            operator, name = found, ""
        operator = _checked(lambda: FunctionOperator(operator, batch=ref.batch, name=ref.name or name), where)
    elif ref.with_ or ref.name:
        key = "with" if ref.with_ else "name"
        raise ConfigError(f"{where}.{key}: only for classes and functions; {ref.use} is an object already")
    else:
        operator = _checked(lambda: as_operator(found), where)
        with contextlib.suppress(AttributeError):  # of a class with slots
            object.__setattr__(operator, _USED, ref.use)
    return _checked(lambda: as_operator(operator), where)


def build_callable(ref: OperatorRef, where: str) -> Callable[..., Any]:
    """Return a function that is made so: one of a module, with further arguments, or an object that can be called.

    Args:
        ref: how.
        where: the path of its key, for errors.

    Raises:
        ConfigError: naming the key.
    """
    found = _loaded(ref, where)
    if isinstance(found, type):
        found = _call(found, ref, where)
    elif ref.with_ and not callable(found):
        raise ConfigError(f"{where}.with: only for classes and functions; {ref.use} is neither")
    elif ref.with_:
        _check_arguments(found, ref, where, skipped=1)
        found = functools.partial(found, **ref.with_)
    if not callable(found):
        raise ConfigError(f"{where}.use: {ref.use} must be a function, or have __call__, and is {a_kind(type(found))}")
    return found  # type: ignore[no-any-return]


def _loaded(ref: OperatorRef, where: str) -> Any:
    try:
        return load(ref.use)
    except ConfigError as error:
        raise ConfigError(f"{where}.use: {error}") from error.__cause__


def _call(cls: type, ref: OperatorRef, where: str) -> Any:
    _check_arguments(cls, ref, where)
    try:
        return cls(*ref.args, **ref.with_)
    except Exception as error:  # noqa: BLE001 - a constructor is foreign code
        what = str(error) if isinstance(error, ConfigError) else f"{type(error).__name__}: {error}"
        cause = error.__cause__ if isinstance(error, ConfigError) else error
        raise ConfigError(f"{where}.with: {ref.use} refuses this: {what}") from cause


def _check_arguments(func: Callable[..., Any], ref: OperatorRef, where: str, *, skipped: int = 0) -> None:
    """Check that `func` takes the arguments; `skipped` ones come first and from elsewhere."""
    try:
        parameters = list(inspect.signature(func).parameters.values())[skipped:]
    except (TypeError, ValueError):  # a builtin says nothing of its parameters
        return
    named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    if skipped:
        named = [p for p in named if p.name != "ctx"]
    names = [p.name for p in named]
    if not any(p.kind is p.VAR_KEYWORD for p in parameters):
        for key in ref.with_:
            if key not in names:
                raise ConfigError(f"{where}.with.{key}: {ref.use} takes no {key!r}; {did_you_mean(key, names)}")
    for parameter in named[len(ref.args) :]:
        if not skipped and parameter.default is parameter.empty and parameter.name not in ref.with_:
            raise ConfigError(f"{where}.with.{parameter.name}: this key is missing; {ref.use} needs it")


def _checked(make: Callable[[], Any], where: str) -> Any:
    try:
        return make()
    except ConfigError as error:
        raise ConfigError(f"{where}.use: {error}") from error.__cause__

"""From ``module:attr`` to what it names, and from an entry of a file to an operator."""

from __future__ import annotations

import functools
import importlib
import inspect
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from llm_datagen.cli.problems import did_you_mean
from llm_datagen.cli.spec import OperatorPart, read_spec
from llm_datagen.errors import ConfigError, UnknownProtocolError
from llm_datagen.operators import FunctionOperator, as_operator
from llm_datagen.streams import StreamFactory, inputs_of


def make_importable(*folders: Path) -> None:
    """Let modules be imported from these folders, the first one first."""
    for folder in reversed(folders):
        if str(folder) not in sys.path:
            sys.path.insert(0, str(folder))


def load(name: str) -> Any:
    """Import ``module:attr`` and return what it names.

    Raises:
        ConfigError: when there is no such module or attribute; or the import fails, then from its exception.
    """
    module_name, colon, attribute = name.partition(":")
    if not (colon and module_name and attribute) or "/" in module_name or module_name.endswith(".py"):
        raise ConfigError(f"{name!r} must be 'module:name', such as 'my_package.my_module:my_pipeline'")
    found = _import(module_name)
    for part in attribute.split("."):
        if not hasattr(found, part):
            public = [known for known in vars(found) if not known.startswith("_")]
            where = found.__name__ if inspect.ismodule(found) or isinstance(found, type) else module_name
            raise ConfigError(f"{where} has no {part!r}; {did_you_mean(part, public)}")
        found = getattr(found, part)
    return found


def _import(name: str) -> Any:
    importlib.invalidate_caches()
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if name == missing or name.startswith(f"{missing}."):
            raise ConfigError(
                f"there is no module {missing!r}, neither in {Path.cwd()} nor installed; modules are looked for in "
                "the current directory and in that of the file"
            ) from None
        raise ConfigError(f"importing {name} failed: {error}") from error
    except Exception as error:
        raise ConfigError(f"importing {name} failed: {type(error).__name__}: {error}") from error


def know_protocols(image: Mapping[str, Any], target: str) -> None:
    """Import the modules of a run's operators if a protocol of its streams is not known: they may register it.

    Args:
        image: the image of the run.
        target: what the run was started with: a YAML file, or ``module:attr``.

    Raises:
        ConfigError: when they cannot be imported.
    """
    try:
        for entry in image["nodes"]:
            for uri in (*inputs_of(entry["input_uri"]).values(), entry["output_uri"]):
                StreamFactory.stream_class(uri)
    except UnknownProtocolError:
        path = Path(target)
        make_importable(Path.cwd())
        if path.suffix.lower() not in {".yaml", ".yml"}:
            load(target)
            return
        spec = read_spec(path, {})
        make_importable(Path.cwd(), path.absolute().parent)
        for part in spec.operators:
            load(part.use)


def build_operator(entry: OperatorPart, where: str) -> Any:
    """Return the operator that an entry describes.

    Args:
        entry: the entry.
        where: the path of its key, for errors.

    Raises:
        ConfigError: naming the key.
    """
    try:
        found = load(entry.use)
    except ConfigError as error:
        raise ConfigError(f"{where}.use: {error}") from error.__cause__
    is_function = inspect.isroutine(found) or isinstance(found, functools.partial)
    if entry.batch and not is_function:
        raise ConfigError(f"{where}.batch: only for functions; {entry.use} says by its methods what it takes")
    if isinstance(found, type):
        operator = _call(found, entry, where)
        if entry.name:
            operator.name = entry.name
    elif is_function:
        if entry.with_:
            name = str(getattr(found, "__qualname__", entry.use))
            _check_arguments(found, entry, where, skipped=1)
            operator = functools.partial(found, **entry.with_)
        else:
            operator, name = found, ""
        operator = _checked(lambda: FunctionOperator(operator, batch=entry.batch, name=entry.name or name), where)
    elif entry.with_ or entry.name:
        key = "with" if entry.with_ else "name"
        raise ConfigError(f"{where}.{key}: only for classes and functions; {entry.use} is an object already")
    else:
        operator = found
    return _checked(lambda: as_operator(operator), where)


def _call(cls: type, entry: OperatorPart, where: str) -> Any:
    _check_arguments(cls, entry, where)
    try:
        return cls(**entry.with_)
    except Exception as error:  # noqa: BLE001 - a constructor is foreign code
        what = str(error) if isinstance(error, ConfigError) else f"{type(error).__name__}: {error}"
        cause = error.__cause__ if isinstance(error, ConfigError) else error
        raise ConfigError(f"{where}.with: {entry.use} refuses this: {what}") from cause


def _check_arguments(func: Callable[..., Any], entry: OperatorPart, where: str, *, skipped: int = 0) -> None:
    """See to it that `func` takes the arguments of the entry; `skipped` ones come first and from elsewhere."""
    try:
        parameters = list(inspect.signature(func).parameters.values())[skipped:]
    except (TypeError, ValueError):  # a builtin says nothing of its parameters
        return
    named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    if skipped:
        named = [p for p in named if p.name != "ctx"]
    names = [p.name for p in named]
    if not any(p.kind is p.VAR_KEYWORD for p in parameters):
        for key in entry.with_:
            if key not in names:
                raise ConfigError(f"{where}.with.{key}: {entry.use} takes no {key!r}; {did_you_mean(key, names)}")
    for parameter in named:
        if not skipped and parameter.default is parameter.empty and parameter.name not in entry.with_:
            raise ConfigError(f"{where}.with.{parameter.name}: this key is missing; {entry.use} needs it")


def _checked(make: Callable[[], Any], where: str) -> Any:
    try:
        return make()
    except ConfigError as error:
        raise ConfigError(f"{where}.use: {error}") from error.__cause__

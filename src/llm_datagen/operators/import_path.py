"""From ``module:name`` to what it names, and back."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from llm_datagen.errors import ConfigError, DatagenError
from llm_datagen.errors.advice import did_you_mean

_looked_up: ContextVar[tuple[str, bool]] = ContextVar("_looked_up", default=("", False))
"""What is looked up now, and whether it is a module that is imported for it."""


def load(name: str) -> Any:
    """Import ``module:name`` and return what it names; the name may have dots.

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
    if name == _name_of_main():  # importing it by its name would run the program once more
        return sys.modules["__main__"]
    importlib.invalidate_caches()
    try:
        with looking_up(name, is_import=True):
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if name == missing or name.startswith(f"{missing}."):
            raise ConfigError(
                f"there is no module {missing!r}, neither in {Path.cwd()} nor installed; modules are looked for in "
                "the current directory and in that of the file"
            ) from None
        raise ConfigError(f"importing {name} failed: {error}") from error
    except DatagenError as error:
        raise ConfigError(f"importing {name} failed: {error}") from error
    except Exception as error:
        raise ConfigError(f"importing {name} failed: {type(error).__name__}: {error}") from error


@contextlib.contextmanager
def looking_up(name: str, *, is_import: bool = False) -> Iterator[None]:
    """Have `refuse_lookup` know that the code within is only asked for a pipeline, or an operator.

    Args:
        name: the module that is imported, or the function that is called.
        is_import: whether it is a module.
    """
    token = _looked_up.set((name, is_import))
    try:
        yield
    finally:
        _looked_up.reset(token)


def refuse_lookup(what: str, *, in_functions: bool = True) -> None:
    """Refuse to begin a run for somebody who only asks what a module holds, or a function returns.

    Args:
        what: what is called, such as "run()".
        in_functions: whether it is refused to a function that is to return a pipeline, too.

    Raises:
        ConfigError: naming the place, and what to do.
    """
    name, is_import = _looked_up.get()
    if is_import:
        raise ConfigError(
            f"{_place()} calls {what}, as the module {name} is imported to find what it names. No run begins "
            'so: put the call under `if __name__ == "__main__":`, with a pipeline at the top of the module, or a '
            "function that returns one"
        )
    if name and in_functions:
        raise ConfigError(
            f"{_place()} calls {what}, and {name} was only asked for a pipeline. Let it return the pipeline, without "
            "running it, and run it elsewhere"
        )


def _place() -> str:
    """Return the file and the line that called the package."""
    frame, ours = inspect.currentframe(), {__name__.partition(".")[0], "contextlib"}
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] in ours:
        frame = frame.f_back
    return f"{frame.f_code.co_filename}, line {frame.f_lineno}," if frame is not None else "the code"


def name_of(thing: Any) -> str | None:
    """Return the ``module:name`` of a class or a function; None when importing that would not give this very thing.

    What the main file of a program holds has a name if that file can be imported as a module.
    """
    module_name, name = getattr(thing, "__module__", None), getattr(thing, "__qualname__", None)
    found: Any = sys.modules.get(module_name) if isinstance(module_name, str) else None
    if found is None or not isinstance(name, str):
        return None
    for part in name.split("."):
        found = getattr(found, part, None)
    if found is not thing:
        return None
    if module_name == "__main__":
        module_name = _name_of_main()
    return f"{module_name}:{name}" if module_name else None


def _name_of_main() -> str | None:
    """Return the name by which the program's main file can be imported, if it can."""
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    if spec is not None:  # python -m
        return str(spec.name)
    file = getattr(main, "__file__", None)
    if file is None:
        return None
    path = Path(file).absolute()
    try:
        found = importlib.util.find_spec(path.stem)
    except (ImportError, ValueError):
        return None
    is_same = found is not None and found.origin is not None and Path(found.origin).absolute() == path
    return path.stem if is_same else None

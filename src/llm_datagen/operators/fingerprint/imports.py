"""What code names: globals, attributes, and modules that it imports when it runs. Nothing is imported here."""

from __future__ import annotations

import dis
import functools
import importlib.util
import sys
from types import CodeType, FunctionType

from llm_datagen.operators.fingerprint.user_code import is_of_user


def imported_names(function: FunctionType) -> list[str]:
    """Return the modules that a function, or one within it, imports: loaded ones, and others of the user's own."""
    package = str(function.__globals__.get("__package__") or "")
    names = [_absolute(name, level, package) for name, level in _imports(function.__code__)]
    return [name for name in dict.fromkeys(names) if name and (name in sys.modules or _may_be_of_user(name))]


def _absolute(name: str, level: int, package: str) -> str:
    if not level:
        return name
    above = package.split(".")[: len(package.split(".")) - level + 1]
    return ".".join([*above, name]) if name else ".".join(above)


def _may_be_of_user(name: str) -> bool:
    """Look for the outermost package of a module, which runs none of its code."""
    top = name.partition(".")[0]
    if top in sys.stdlib_module_names:
        return False
    if top in sys.modules:
        return is_of_user(getattr(sys.modules[top], "__file__", None))
    try:
        spec = importlib.util.find_spec(top)
    except Exception:  # noqa: BLE001 - a finder of foreign code may do anything
        return False
    return spec is not None and is_of_user(spec.origin)


@functools.lru_cache(maxsize=4096)
def _imports(code: CodeType) -> tuple[tuple[str, int], ...]:
    steps = [step for step in dis.get_instructions(code) if step.opname not in ("EXTENDED_ARG", "CACHE")]
    found = []
    for number, step in enumerate(steps):
        if step.opname == "IMPORT_NAME":
            level = steps[number - 2].argval if number > 1 else 0
            found.append((str(step.argval), level if isinstance(level, int) else 0))
    inner = [one for const in code.co_consts if isinstance(const, CodeType) for one in _imports(const)]
    return tuple(dict.fromkeys([*found, *inner]))


@functools.lru_cache(maxsize=4096)
def global_names(code: CodeType) -> tuple[str, ...]:
    """Return the globals that a function and those within it use."""
    found = [i.argval for i in dis.get_instructions(code) if i.opname in ("LOAD_GLOBAL", "LOAD_NAME")]
    inner = [name for const in code.co_consts if isinstance(const, CodeType) for name in global_names(const)]
    return tuple(dict.fromkeys([*found, *inner]))


@functools.lru_cache(maxsize=4096)
def attribute_names(code: CodeType) -> tuple[str, ...]:
    """Return the names, but for locals, that a function and those within it use."""
    inner = [name for const in code.co_consts if isinstance(const, CodeType) for name in attribute_names(const)]
    return tuple(dict.fromkeys([*code.co_names, *inner]))

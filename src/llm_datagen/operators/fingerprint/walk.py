"""A walk through what an operator is made of: its code, its data, and what these use."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import sys
from collections.abc import Iterable
from types import (
    BuiltinFunctionType,
    CodeType,
    FunctionType,
    MethodDescriptorType,
    MethodType,
    ModuleType,
)
from typing import Any

from llm_datagen.operators.fingerprint.code import code_digest, digest
from llm_datagen.operators.fingerprint.data import CONTAINERS, MOST_LEAVES, data_digest, data_part, holds_data
from llm_datagen.operators.fingerprint.imports import attribute_names, global_names, imported_names
from llm_datagen.operators.fingerprint.kinds import SHORT, attributes_of, is_dunder, is_function, kind_of, type_name
from llm_datagen.operators.fingerprint.user_code import PACKAGE, UserCode

Parts = dict[str, str | None]
"""What is known of an operator, by the name of each part: a digest, with a short value behind it where that is no
secret, or a short text alone; None: it cannot be compared."""

UNREAD = " (cannot be read)"
"""The end of the name of a part that raises when it is read; its value is None."""

SOME_UNREAD = "some of it"
"""The part that stands for everything that was not read, because something raised."""

_IDENTITY = {"name", "version", "stateful", "keeps_state", "bisect", "_made_with", "_used_as"}


def parts_of(thing: Any, *, above: type = object, without: Iterable[str] = ()) -> Parts:
    """Return the parts of a function, or of an object with the code of its class. Runs none of it.

    Args:
        thing: the function or the object.
        above: a class that is known otherwise, with its bases.
        without: attributes that are known otherwise.
    """
    walk = _Walk(thing, above, frozenset(without))
    try:
        walk.visit_root()
    except Exception:  # noqa: BLE001 - foreign objects may do anything when they are read
        walk.parts[SOME_UNREAD] = None
    return walk.parts


class _Walk:
    """Collects the parts of one operator."""

    def __init__(self, root: Any, above: type, without: frozenset[str]) -> None:
        self.parts: Parts = {}
        self._root = root
        self._above = above
        self._without = without | _IDENTITY
        self._seen: set[int] = set()
        self._importing: frozenset[str] = frozenset()
        self._kept: list[Any] = []  # so that no id is used again meanwhile
        self._is_ours = UserCode(root).includes

    def visit_root(self) -> None:
        """Collect all."""
        root = self._root
        if isinstance(root, type) or is_function(root):
            self._callable(root, "")
        else:
            self._object(root, "")

    def _add(self, name: str, value: str | None) -> None:
        number, free = 1, name
        while free in self.parts and self.parts[free] != value:
            number += 1
            free = f"{name} ({number})"
        self.parts[free] = value

    def _is_new(self, thing: Any) -> bool:
        if id(thing) in self._seen:
            return False
        self._seen.add(id(thing))
        self._kept.append(thing)
        return True

    def _object(self, thing: Any, of: str) -> None:
        if not self._is_new(thing):
            return
        self._class(type(thing), of)
        for name, value in attributes_of(thing).items():
            if name not in self._without:
                self._value(f"attribute {name}{of}", value)

    def _class(self, cls: type, of: str) -> None:
        for base in cls.__mro__[: cls.__mro__.index(self._above) if self._above in cls.__mro__ else None]:
            if base is object or not self._is_new(base):
                continue
            if not self._is_ours(base.__module__):
                if base.__module__.partition(".")[0] not in (PACKAGE, *sys.stdlib_module_names):
                    self._add(f"class {base.__qualname__}{of}", kind_of(base))
                continue
            where = "" if base is type(self._root) else f" of {base.__qualname__}"
            self._annotations(base, where)
            for name, found in vars(base).items():
                value = found.__func__ if isinstance(found, staticmethod | classmethod) else found
                if isinstance(value, functools.partialmethod):
                    value = functools.partial(value.func, *value.args, **value.keywords)
                if isinstance(value, property):
                    for function in filter(None, (value.fget, value.fset, value.fdel)):
                        self._callable(function, where, name)
                elif isinstance(value, functools.cached_property):
                    self._callable(value.func, where, name)
                elif is_function(value):
                    self._callable(value, where, name)
                elif not is_dunder(name) and name not in self._without and name != "_abc_impl":
                    self._value(f"attribute {name}{where}", value)

    def _annotations(self, cls: type, where: str) -> None:
        """What a class says of its fields counts where something makes a schema or an ``__init__`` of it."""
        is_schema = dataclasses.is_dataclass(cls) or hasattr(cls, "model_fields") or hasattr(cls, "__total__")
        found = inspect.get_annotations(cls) if is_schema else {}
        if found:
            names = [(name, type_name(kind).replace(f"{cls.__module__}.", "")) for name, kind in found.items()]
            self._add(f"fields{where}", digest(repr(names).encode()))

    def _value(self, name: str, value: Any) -> None:
        plain = data_part(name, value)
        if plain is not None:
            self._add(name, plain)
        elif isinstance(value, ModuleType):
            self._add(name, value.__name__[-SHORT:])
        elif isinstance(value, type) or is_function(value):
            self._add(name, str(getattr(value, "__qualname__", type(value).__qualname__))[-SHORT:])
            self._callable(value, "")
        else:
            kind = type(value)
            is_container = isinstance(value, CONTAINERS)
            known = f"{kind.__name__} of {len(value)}" if is_container else self._kind(kind)
            found: list[Any] = []
            inside = data_digest(value, lambda part: self._look(part, found))
            counts = inside and holds_data(value) and (is_container or self._is_ours(kind.__module__))
            self._add(name, f"{known} {inside}" if counts else known)
            if inside is None:
                self._add(f"{name}{UNREAD}", None)
            if not holds_data(value):
                found = [value]  # of an object alone, the type and its code
            for part in found[:MOST_LEAVES]:
                if isinstance(part, type) or is_function(part):
                    self._callable(part, "")
                elif self._is_ours(type(part).__module__):
                    self._class(type(part), f" of {name}")

    def _look(self, value: Any, found: list[Any]) -> tuple[str, dict[str, Any] | None]:
        """Return what stands for something that is no plain data, and its attributes when its class is the user's."""
        found.append(value)
        if isinstance(value, ModuleType | type) or is_function(value):
            name = getattr(value, "__qualname__", getattr(value, "__name__", type(value).__qualname__))
            return str(name), None
        kind = type(value)
        return self._kind(kind), attributes_of(value) if self._is_ours(kind.__module__) else None

    def _kind(self, cls: type) -> str:
        return cls.__qualname__[:SHORT] if self._is_ours(cls.__module__) else kind_of(cls)

    def _callable(self, thing: Any, of: str, method: str = "") -> None:
        """Follow something that is called: a function, a class, or what wraps one.

        Args:
            thing: it.
            of: the end of the names of its parts, to distinguish them from those of the operator.
            method: its name, when it belongs to a class.
        """
        if isinstance(thing, type):
            if self._is_ours(thing.__module__):
                self._class(thing, of)
        elif isinstance(thing, FunctionType):
            self._function(thing, f"{method}{of}" if method else "")
        elif isinstance(thing, MethodType):
            self._bound(thing.__func__, thing.__self__, of, method)
        elif isinstance(thing, functools.partial):
            if self._is_new(thing):
                self._callable(thing.func, of)
                for number, value in enumerate(thing.args):
                    self._value(f"argument {number}{of}", value)
                for name, value in thing.keywords.items():
                    self._value(f"argument {name}{of}", value)
        elif isinstance(thing, BuiltinFunctionType | MethodDescriptorType):
            self._add(f"function {thing.__qualname__}", "built in")
        elif is_function(thing):  # that wraps one, such as of functools.lru_cache
            if self._is_new(thing):
                self._callable(thing.__wrapped__, of, method)
        elif type(thing).__module__ == "operator":
            self._add(f"function {type(thing).__qualname__}", data_digest(thing.__reduce__()[1]))
        elif callable(thing):
            self._object(thing, of)

    def _bound(self, function: Any, holder: Any, of: str, method: str) -> None:
        """Follow a method, and of what it is bound to only what it uses: the rest is not the operator's."""
        if not isinstance(function, FunctionType) or id(function) in self._seen:
            return
        self._callable(function, of, method)
        cls = holder if isinstance(holder, type) else type(holder)
        own = {} if isinstance(holder, type) else getattr(holder, "__dict__", {})
        for name in attribute_names(function.__code__):
            value = inspect.getattr_static(cls, name, None)
            if name in own:
                self._value(f"attribute {name}{of}", own[name])
            elif isinstance(value, property) or not self._is_ours(cls.__module__):
                self._bound(getattr(value, "fget", None), holder, of, name)
            elif isinstance(value, FunctionType | staticmethod | classmethod):
                self._bound(getattr(value, "__func__", value), holder, of, name)
            elif value is not None and not hasattr(type(value), "__get__"):
                self._value(f"attribute {name}{of}", value)

    def _function(self, function: FunctionType, name: str) -> None:
        if not self._is_new(function):
            return
        name = name or function.__qualname__.replace("<locals>.", "")
        of = "" if function is self._root else f" of {name}"
        module = function.__globals__.get("__name__")
        if not self._is_ours(module):
            self._add(f"function {name}", str(module).partition(".")[0][:SHORT])
        else:
            self._add(f"code{of}", self._code(function.__code__))
            self._globals(function, of)
        self._defaults(function, of)
        for variable, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
            with contextlib.suppress(ValueError):  # it is empty
                self._value(f"closure variable {variable}{of}", cell.cell_contents)
        for attribute, value in vars(function).items():
            if attribute not in self._without and not is_dunder(attribute):
                self._value(f"attribute {attribute}{of}", value)

    def _code(self, code: CodeType) -> str | None:
        try:
            return code_digest(code)
        except Exception:  # noqa: BLE001 - None says so
            return None

    def _defaults(self, function: FunctionType, of: str) -> None:
        code, defaults = function.__code__, function.__defaults__ or ()
        names = code.co_varnames[code.co_argcount - len(defaults) : code.co_argcount]
        for name, value in [*zip(names, defaults, strict=True), *(function.__kwdefaults__ or {}).items()]:
            self._value(f"default of {name}{of}", value)

    def _globals(self, function: FunctionType, of: str) -> None:
        for name in imported_names(function):
            self._import(name, function)
        for name in global_names(function.__code__):
            if name not in function.__globals__ or is_dunder(name):
                continue
            value = function.__globals__[name]
            if isinstance(value, ModuleType):
                self._module(value, function.__code__)
            elif is_function(value) or isinstance(value, type):
                self._callable(value, "")
            else:
                self._value(f"global {name}", value)

    def _import(self, name: str, function: FunctionType) -> None:
        """Follow what a function imports when it is called, if that is loaded; nothing is imported here.

        It is one part: if it cannot be compared, nothing else is lost.
        """
        module = sys.modules.get(name)
        if name in self._importing or (module is not None and not self._is_ours(name)):
            return
        walk = _Walk(self._root, self._above, self._without)
        walk._importing = self._importing | {name}
        if module is not None:
            walk._module(module, function.__code__)
        if module is None or walk.parts:
            parts = [(key, (value or "").split(" ")[0]) for key, value in walk.parts.items()]
            self._add(f"import {name}", None if module is None else digest(repr(parts).encode()))

    def _module(self, module: ModuleType, code: CodeType) -> None:
        """Follow what is used of a module of the user's own, and of modules in it."""
        if not self._is_ours(module.__name__):
            return
        for name in attribute_names(code):
            value = vars(module).get(name)
            if is_function(value) or isinstance(value, type):
                self._callable(value, "")
            elif isinstance(value, ModuleType):
                if self._is_new(value):
                    self._module(value, code)
            elif name in vars(module) and not is_dunder(name):
                self._value(f"global {module.__name__.rpartition('.')[2]}.{name}", value)

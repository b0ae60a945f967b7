"""Constructors that take the settings of a table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from inspect import Parameter, signature
from typing import Any, TypeVar, cast, get_type_hints

from llm_datagen.config import refuse_unknown, settings_in

Init = TypeVar("Init", bound=Callable[..., None])


def takes_settings(table: type, elsewhere: Mapping[str, str] | None = None) -> Callable[[Init], Init]:
    """Let a constructor take the settings of a table: some as arguments of its own, the others as ``**options``.

    Before its body, the object has `given`: what the caller gives, by name. One that is given its default is told from
    one that is not given. A name that is no setting is refused by a ConfigError, which for those
    in `elsewhere` says what to do. `help` and completion show all.
    """

    def decorated(init: Init) -> Init:
        own = [each for each in signature(init).parameters.values() if each.kind is not Parameter.VAR_KEYWORD]
        names = [each.name for each in own]

        @wraps(init)
        def taking(self: Any, *args: Any, **kwargs: Any) -> None:
            others = {name: value for name, value in kwargs.items() if name not in names}
            refuse_unknown(table, others, type(self).__name__, elsewhere)
            self.given = {**dict(zip(names[1:], args, strict=False)), **kwargs}
            init(self, *args, **kwargs)

        settings, hints = settings_in(table), get_type_hints(table)
        others = [
            Parameter(name, Parameter.KEYWORD_ONLY, default=each.default, annotation=hints[name])
            for name, each in settings.items()
            if name not in names
        ]
        vars(taking)["__signature__"] = signature(init).replace(parameters=[*own, *others])
        taking.__doc__ = "Settings:\n" + "\n".join(f"    {name}: {_told(each)}" for name, each in settings.items())
        return cast(Init, taking)

    return decorated


def _told(each: Any) -> str:
    return f"{each.text} ({each.unit})" if each.unit else str(each.text)

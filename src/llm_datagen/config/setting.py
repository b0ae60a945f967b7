"""A setting: one entry says all that there is to know of it, and everything else is filled from the entries.

A table of settings is a TypedDict whose keys are ``Annotated[type, Setting(...)]``, so that it also types the keyword
arguments of a constructor: ``**options: Unpack[NodeOptions]``. Settings that are given together as one value
(`WriterConfig`) are the fields of a `SettingsGroup`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass
from functools import cache
from typing import Any, ClassVar, Self, TypeVar, cast, get_type_hints

from llm_datagen.config.checks import Check
from llm_datagen.errors import ConfigError
from llm_datagen.errors.advice import a_kind, did_you_mean

T = TypeVar("T")

_AS_DEFAULT: Any = object()


@dataclass(frozen=True, slots=True)
class Setting:
    """What there is to know of a setting besides its name and its type.

    Attributes:
        default: its value unless one is given, before `check`.
        check: what a value has to be.
        text: what it means, as the reference says it.
        unit: the unit of its value.
        before: its value in runs of versions that did not have it; unless given, the default.
    """

    default: Any
    check: Check
    text: str
    unit: str = ""
    before: Any = _AS_DEFAULT

    def of_older_run(self, name: str) -> Any:
        """Return the value in a run whose run state does not have the setting."""
        return self.check(name, self.default if self.before is _AS_DEFAULT else self.before)


def setting(default: Any, check: Check, text: str, unit: str = "") -> Any:
    """Return a field of a `SettingsGroup`."""
    return field(default=default, metadata={"setting": Setting(default, check, text, unit)})


def settings_in(table: Any) -> Mapping[str, Setting]:
    """Return the settings of a table by their names: of a TypedDict, or of a `SettingsGroup`."""
    return _read(table)


@cache
def _read(table: Any) -> Mapping[str, Setting]:
    if is_dataclass(table):
        return {each.name: each.metadata["setting"] for each in fields(table)}
    hints = get_type_hints(table, include_extras=True)
    return {name: _setting_of(hint) for name, hint in hints.items()}


def _setting_of(hint: Any) -> Setting:
    return next(each for each in hint.__metadata__ if isinstance(each, Setting))


def checked(table: type[T], given: Mapping[str, Any], owner: str, elsewhere: Mapping[str, str] | None = None) -> T:
    """Return all settings of a table, checked: those that are given, and the defaults of the others.

    Args:
        table: a TypedDict.
        given: names and values.
        owner: whose settings they are, for errors.
        elsewhere: what to do with settings that something else has, by name.

    Raises:
        ConfigError: when a name is not one of a setting, or a value is wrong.
    """
    refuse_unknown(table, given, owner, elsewhere)
    settings = settings_in(table)
    return cast(T, {name: each.check(name, given.get(name, each.default)) for name, each in settings.items()})


def refuse_unknown(
    table: type, given: Mapping[str, Any], owner: str, elsewhere: Mapping[str, str] | None = None
) -> None:
    """Raise a ConfigError when a name is not one of a setting; it says which is near, or all, or what to do."""
    _refuse_unknown(settings_in(table), given, owner, elsewhere)


def _refuse_unknown(
    known: Collection[str], given: Mapping[str, Any], owner: str, elsewhere: Mapping[str, str] | None = None
) -> None:
    for name in given:
        if name not in known:
            raise ConfigError(f"{owner} has no setting {name!r}; {did_you_mean(str(name), known, elsewhere)}")


def plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings as plain data, for a run state."""
    return {name: value.as_dict() if isinstance(value, SettingsGroup) else value for name, value in settings.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingsGroup:
    """Settings that are given together, as one value: an object, or a dict of some of them."""

    setting_name: ClassVar[str]
    """The setting whose value it is."""

    def __post_init__(self) -> None:
        for name, each in settings_in(type(self)).items():
            object.__setattr__(self, name, each.check(f"{type(self).__name__}.{name}", getattr(self, name)))

    @classmethod
    def of(cls, value: Self | Mapping[str, Any] | None) -> Self:
        """Return `value` as an object of this class; None gives the defaults.

        Raises:
            ConfigError: on a key that is not a setting, or a wrong value.
        """
        return cls() if value is None else object_of(cls, cls.setting_name, value)

    @classmethod
    def check(cls, _: str, value: Any) -> Self:
        """Check a value of the setting."""
        return cls.of(value)

    def as_dict(self) -> dict[str, Any]:
        """Return the settings as plain data."""
        return asdict(self)


def object_of(cls: type[T], name: str, value: Any, *, without: Collection[str] = ()) -> T:
    """Return an object of a dataclass that a user gave, perhaps as a dict with the names of its fields.

    Args:
        cls: the class.
        name: what the value is called, for errors.
        value: an object or a dict.
        without: fields that a dict may not have.

    Raises:
        ConfigError: when it is neither, or a field is wrong, missing or not known.
    """
    if isinstance(value, cls):
        return value
    known = {each.name: each for each in fields(cast(Any, cls)) if each.init and each.name not in without}
    if not isinstance(value, Mapping):
        raise ConfigError(f"{name} must be {a_kind(cls)} or a dict, not {value!r}")
    _refuse_unknown(known, value, name)
    for each in known.values():
        if each.name not in value and each.default is each.default_factory is MISSING:
            raise ConfigError(f"{name} must say {each.name!r}")
    return cls(**value)

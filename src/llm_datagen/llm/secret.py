"""Keys and tokens, wrapped so that nothing shows them by accident.

Like pydantic's `SecretStr`, which is taken wherever a user gives a key; but importing that takes a tenth of a second of
each start.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable


@runtime_checkable
class Wrapped(Protocol):
    """What holds a secret, such as pydantic's `SecretStr`."""

    def get_secret_value(self) -> str:
        """Return the secret."""


class Secret:
    """A secret text. It is shown, logged and formatted as asterisks, and no JSON is made of it.

    Only pickling keeps it, as worker processes need it.

    Args:
        value: the text.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def get_secret_value(self) -> str:
        """Return the text."""
        return self._value

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __repr__(self) -> str:
        return "Secret('**********')"

    def __str__(self) -> str:
        return "**********"

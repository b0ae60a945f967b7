"""Personal data that has a form, masked: found by patterns, and by checksums where there are some."""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

from llm_datagen.config import check_choice
from llm_datagen.errors import ConfigError
from llm_datagen.operators import INodeContext
from llm_datagen.ops.base import DataOperator, a_list, as_columns, new_column, row_of, value_of, with_columns

Kind = Literal["email", "iban", "card", "phone", "ip"]

_EMAIL = re.compile(r"(?<![\w.%+-])[\w.%+'-]{1,64}@(?:[\w-]{1,63}\.){1,8}[^\W\d_]{2,24}(?![\w-])")
_IBAN = re.compile(r"(?<!\w)[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?(?!\w)")
_CARD = re.compile(r"(?<![\w.,-])[2-6](?:[ -]?\d){12,18}(?![\w-]|[.,]\d)")
_PHONE = re.compile(
    r"""(?<![\w+.,/-])(?:
    \+\d{9,15}                                                  # +493012345678
    | \+\d{1,3}(?:[ /-]?\(\d{1,4}\)[ /-]?\d{1,8}|[ /-]\d{1,8}|\.\d{1,4}){1,6}  # +49 (30) 1234-567
    | \(0\d{1,4}\)(?:[ /-]?\d{2,8}){1,4}                        # (030) 1234567
    | 0\d{2,4}(?:[ /-]\d{2,8}){1,4}                             # 030 1234567, 0049 30 1234567
    | 0\d(?:[ .-]\d\d){4}                                       # 01 23 45 67 89
    | (?:1[ .-])?(?:\(\d{3}\)[ ]?|\d{3}[ .-])\d{3}[ .-]\d{4}    # (212) 555-0123
    )(?!\w|[.,/-]\d)""",
    re.VERBOSE,
)
_IP = re.compile(
    r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?!\w|\.\d)|(?<![\w:])[0-9A-Fa-f]{1,4}(?::{1,2}[0-9A-Fa-f]{1,4}){2,7}(?![\w:])"
)


def _iban(found: str) -> int:
    """Return how many characters of a match are an account number: a word in capitals may follow it."""
    while found:
        compact = found.replace(" ", "")
        number = int("".join(str(int(sign, 36)) for sign in compact[4:] + compact[:4]))
        if 15 <= len(compact) <= 34 and number % 97 == 1:
            return len(found)
        found = found.rpartition(" ")[0]
    return 0


def _card(found: str) -> int:
    digits = [int(sign) for sign in reversed(found) if sign.isdigit()]
    total = sum(digits[::2]) + sum(sum(divmod(2 * digit, 10)) for digit in digits[1::2])
    return len(found) if total % 10 == 0 else 0


def _phone(found: str) -> int:
    return len(found) if 9 <= sum(sign.isdigit() for sign in found) <= 15 else 0


def _ip(found: str) -> int:
    try:
        ipaddress.ip_address(found)
    except ValueError:
        return 0
    return len(found)


_FINDERS: dict[str, tuple[re.Pattern[str], Callable[[str], int]]] = {
    "email": (_EMAIL, len),
    "iban": (_IBAN, _iban),
    "card": (_CARD, _card),
    "phone": (_PHONE, _phone),
    "ip": (_IP, _ip),
}
"""By kind, in the order in which they are looked for: a pattern, and how many characters of a match are it."""


class MaskPII(DataOperator):
    """Writes ``[EMAIL]``, ``[IBAN]``, ``[CARD]``, ``[PHONE]`` and ``[IP]`` in the place of what has such a form.

    Texts within lists and objects are masked, too, such as the messages of a conversation; numbers and names of fields
    are not.

    This is a filter for forms, and no proof that a text names nobody. It finds no names, no postal addresses, no dates
    of birth, no numbers of passports or insurances, no user names, and nothing that is spelled out or disguised.
    IBANs and card numbers are masked only if their checksums are right; one in ten numbers of that length has a card's
    checksum by chance. Phone numbers are recognised by how they are written (with a plus sign, or in groups): one of
    digits alone is not. A version number of four parts looks like an IP address.

    Args:
        columns: the columns to mask.
        kinds: which of "email", "iban", "card", "phone" and "ip"; all, unless given.
        counts: a new column with how many there were of each kind, ``{"email": 2}``.
    """

    def __init__(
        self, columns: str | Sequence[str] = "text", *, kinds: Sequence[Kind] | None = None, counts: str | None = None
    ) -> None:
        self.columns = as_columns("columns", columns)
        wanted = f"a list of some of {', '.join(map(repr, get_args(Kind)))}"
        chosen = None if kinds is None else a_list("kinds", kinds, wanted)
        if chosen == []:
            raise ConfigError(f"kinds must be {wanted}, not {kinds!r}")
        self.kinds = None if chosen is None else [check_choice("kinds", kind, Kind) for kind in chosen]
        self.counts = None if counts is None else new_column("counts", counts)

    def process_item(self, item: Any, ctx: INodeContext) -> Any:
        """Return the row with masks.

        Raises:
            RowDataError: when a column is missing, or that of the counts is there.
        """
        found: Counter[str] = Counter()
        row = {**row_of(item), **{column: self._masked(value_of(item, column), found) for column in self.columns}}
        return row if self.counts is None else with_columns(row, {self.counts: dict(found)})

    def _masked(self, value: Any, found: Counter[str]) -> Any:
        if isinstance(value, str):
            return self._masked_text(value, found)
        if isinstance(value, list):
            return [self._masked(each, found) for each in value]
        if isinstance(value, dict):
            return {name: self._masked(each, found) for name, each in value.items()}
        return value

    def _masked_text(self, text: str, found: Counter[str]) -> str:
        for kind, (pattern, length_of) in _FINDERS.items():
            if self.kinds is None or kind in self.kinds:

                def mask(match: re.Match[str], kind: str = kind, length_of: Callable[[str], int] = length_of) -> str:
                    length = length_of(match[0])
                    if not length:
                        return match[0]
                    found[kind] += 1
                    return f"[{kind.upper()}]{match[0][length:]}"

                text = pattern.sub(mask, text)
        return text

"""The variables that say how several processes share one budget and one limit.

``LLM_DATAGEN_GRANTS`` is the URL of a `GrantService`; its token is the password in it, or ``LLM_DATAGEN_GRANTS_TOKEN``.
``LLM_DATAGEN_SHARE`` is a fixed share instead, such as ``3/16``: of 16 parts, the fourth.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from yarl import URL

from llm_datagen.errors import ConfigError
from llm_datagen.llm.secret import Secret

GRANTS_VARIABLE = "LLM_DATAGEN_GRANTS"
TOKEN_VARIABLE = "LLM_DATAGEN_GRANTS_TOKEN"
SHARE_VARIABLE = "LLM_DATAGEN_SHARE"


@dataclass(frozen=True, slots=True)
class ServiceAddress:
    """Where a service is.

    Attributes:
        url: of it, without the token.
        token: what it answers to.
    """

    url: str
    token: Secret


@dataclass(frozen=True, slots=True)
class Share:
    """One of equal parts. The parts of a number are whole, and together are that number.

    Attributes:
        number: of the part, from 0.
        count: of parts.
    """

    number: int
    count: int

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def of(self, name: str, total: int) -> int:
        """Return this part of a whole number.

        Args:
            name: of the setting, for the error.
            total: the number.

        Raises:
            ConfigError: when nothing is left for it.
        """
        part = total * (self.number + 1) // self.count - total * self.number // self.count
        if part < 1:
            raise ConfigError(
                f"{name} is too small for {SHARE_VARIABLE}={self}: nothing is left for this part; use fewer shards, or "
                f"share it by a service ({GRANTS_VARIABLE})"
            )
        return part


def service_address(environment: Mapping[str, str] | None = None) -> ServiceAddress | None:
    """Return where the service is; None when there is none.

    Args:
        environment: None: that of this process.

    Raises:
        ConfigError: when a variable is wrong. No token is shown.
    """
    environment = os.environ if environment is None else environment
    given = environment.get(GRANTS_VARIABLE, "").strip()
    if not given:
        return None
    try:
        url = URL(given)
        token = url.password or environment.get(TOKEN_VARIABLE, "").strip()
        plain = url.with_user(None)
        if url.scheme not in ("http", "https") or not url.host:
            raise ValueError
    except ValueError:
        raise ConfigError(f"{GRANTS_VARIABLE} must be the URL of a grants service, such as http://HOST:PORT") from None
    if not token or not token.isascii() or not token.isprintable():
        raise ConfigError(f"{TOKEN_VARIABLE} must be the token of the grants service at {plain}")
    if environment.get(SHARE_VARIABLE, "").strip():
        raise ConfigError(f"set {GRANTS_VARIABLE} or {SHARE_VARIABLE}, not both: a share is for where no service is")
    return ServiceAddress(str(plain).rstrip("/"), Secret(token))


def fixed_share(environment: Mapping[str, str] | None = None) -> Share | None:
    """Return the share of this process; None when it is all.

    Args:
        environment: None: that of this process.

    Raises:
        ConfigError: when the variable is wrong.
    """
    given = (os.environ if environment is None else environment).get(SHARE_VARIABLE, "").strip()
    if not given:
        return None
    match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", given)
    if match is None or int(match[1]) >= int(match[2]):
        raise ConfigError(f"{SHARE_VARIABLE} must be K/N with 0 <= K < N, such as 3/16, not {given!r}")
    return Share(int(match[1]), int(match[2]))

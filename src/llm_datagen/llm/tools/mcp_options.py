"""What a user says of an MCP server: plain data, checked once. The SDK is imported when the server is used."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import PurePath
from typing import Any

from yarl import URL

from llm_datagen.config import check_count, check_seconds, check_text, check_whole, object_of, refuses_unknown
from llm_datagen.errors import ConfigError
from llm_datagen.llm.tools.names import checked_name


@refuses_unknown
@dataclass(frozen=True, slots=True, kw_only=True)
class McpServer:
    """An MCP server whose tools a model may use: a program on this machine, or a server on the network.

    Attributes:
        allow: the tools that may be used, by the names that the server has for them; no other one is. Or a dict, from
            those names to what the model calls them.
        command: the program and its arguments, which is started, and spoken to by its standard input and output.
        url: where a server is that speaks Streamable HTTP, in place of `command`.
        env: more environment variables of the program. It gets few of this process: ``PATH``, ``HOME`` and the like.
        env_names: environment variables of this process that the program gets, too; for secrets.
        cwd: the folder that the program is started in; None: that of this process.
        headers: more headers of the requests to `url`.
        token_env: the environment variable that holds the bearer token of `url`; None: none is sent.
        timeout: seconds that a call may take; None: as for all tools.
        start_timeout: seconds that the server may take until it has said which tools it has.
        max_restarts: how often it is started again within ten minutes, after it died; then the run fails.
        parallel: calls at once.
        name: what errors call it; None: the name of the program, or the host.

    Raises:
        ConfigError: on a wrong value, and when the extra ``mcp`` is not installed.
    """

    allow: Sequence[str] | Mapping[str, str]
    command: Sequence[str] | None = None
    url: str | None = None
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    env_names: Sequence[str] = ()
    cwd: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    token_env: str | None = None
    timeout: float | None = None
    start_timeout: float = 60.0
    max_restarts: int = 5
    parallel: int = 16
    name: str | None = None

    def __post_init__(self) -> None:
        if (self.command is None) == (self.url is None):
            raise ConfigError("an McpServer must have either a command or a url")
        if self.command is not None and (isinstance(self.command, str) or not _are_texts(self.command, least=1)):
            raise ConfigError(f"command of an McpServer must be a list of texts, not {self.command!r}")
        if self.url is not None and URL(check_text("url of an McpServer", self.url)).scheme not in ("http", "https"):
            raise ConfigError("url of an McpServer must begin with http:// or https://")
        for option, goes_with, is_given in (
            ("env", "command", self.env),
            ("env_names", "command", self.env_names),
            ("cwd", "command", self.cwd),
            ("headers", "url", self.headers),
            ("token_env", "url", self.token_env),
        ):
            if is_given and getattr(self, goes_with) is None:
                raise ConfigError(f"{option} of an McpServer goes with {goes_with}")
        for option, value in (("env", self.env), ("headers", self.headers)):
            if not isinstance(value, Mapping) or not _are_texts([*value, *value.values()]):
                raise ConfigError(f"{option} of an McpServer must be a dict of texts")
        if isinstance(self.env_names, str) or not _are_texts(self.env_names):
            raise ConfigError(f"env_names of an McpServer must be a list of names, not {self.env_names!r}")
        is_dict = isinstance(self.allow, Mapping)
        if isinstance(self.allow, str) or not _are_texts(self.allow, least=1):
            raise ConfigError(
                f"allow of an McpServer must name the tools that may be used, as a list or a dict, not {self.allow!r}"
            )
        for name in self.allow.values() if is_dict else self.allow:  # type: ignore[union-attr]
            checked_name(name, "allow={'its name': 'another_one'}")
        for number in ("timeout", "start_timeout"):
            if getattr(self, number) is not None:
                check_seconds(f"{number} of an McpServer", getattr(self, number))
        check_whole("max_restarts of an McpServer", self.max_restarts)
        check_count("parallel of an McpServer", self.parallel)
        if find_spec("mcp") is None:
            raise ConfigError("an McpServer needs the extra 'mcp': pip install 'llm-datagen[mcp]'")

    @classmethod
    def of(cls, given: Any) -> McpServer:
        """Return the server that a user gave, perhaps as a dict with the names of the attributes.

        Raises:
            ConfigError: when it is none.
        """
        return object_of(cls, "an MCP server", given)

    @property
    def label(self) -> str:
        """What errors call it."""
        if self.name:
            return self.name
        if self.url is not None:
            return URL(self.url).host or self.url
        return " ".join(PurePath(part).name for part in (self.command or ())[:2])

    @property
    def tools(self) -> Mapping[str, str]:
        """The tools that may be used: from the server's names to those that the model is told."""
        return self.allow if isinstance(self.allow, Mapping) else {name: name for name in self.allow}

    def environment(self) -> dict[str, str]:
        """Return more environment variables of the program.

        Raises:
            ConfigError: when one of `env_names` is not set.
        """
        return {**self.env, **{name: self._from_environment("env_names", name) for name in self.env_names}}

    def request_headers(self) -> dict[str, str]:
        """Return the headers of requests.

        Raises:
            ConfigError: when the variable of the token is not set.
        """
        if self.token_env is None:
            return dict(self.headers)
        return {**self.headers, "Authorization": f"Bearer {self._from_environment('token_env', self.token_env)}"}

    def _from_environment(self, option: str, name: str) -> str:
        value = os.environ.get(name)
        if not value:
            raise ConfigError(f"the environment variable {name}, {option} of the MCP server {self.label}, is not set")
        return value


def _are_texts(values: Any, *, least: int = 0) -> bool:
    return (
        isinstance(values, Sequence | Mapping)
        and len(values) >= least
        and all(isinstance(value, str) and value for value in values)
    )

"""The page of runs, where its extra is installed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llm_datagen.errors import ConfigError

if TYPE_CHECKING:
    from llm_datagen.web.server import Server


def web_server(folders: list[str], **options: Any) -> Server:
    """Return a server of the page; see `web.server.Server`.

    Raises:
        ConfigError: when the extra is not installed, or the server cannot be started.
    """
    try:
        from llm_datagen.web.server import Server
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "aiohttp":
            raise
        raise ConfigError("the page needs aiohttp; install it with: pip install 'llm-datagen[web]'") from None
    return Server(folders, **options)

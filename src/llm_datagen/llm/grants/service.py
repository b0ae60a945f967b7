"""The service that hands out grants."""

from __future__ import annotations

import asyncio
import hmac
import json
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

from aiohttp import web
from pydantic import ValidationError
from yarl import URL

from llm_datagen.llm.errors import GrantsError
from llm_datagen.llm.grants.account_file import AccountFile, Accounts
from llm_datagen.llm.grants.environment import GRANTS_VARIABLE, TOKEN_VARIABLE
from llm_datagen.llm.grants.messages import BudgetAnswer, LimitAnswer, Message, Reply
from llm_datagen.llm.grants.units import SLICE_SECONDS, Units
from llm_datagen.llm.secret import Secret

WINDOW_SECONDS = 60.1
"""As `SlidingWindow` has it: a minute, and a little for clocks that do not run at the same speed."""

ADDRESS_FILE = "grants.json"
PATH = "/v1/exchange"
_STARTS_WITHIN = 30.0
_LARGEST_MESSAGE = 1 << 22


class GrantService:
    """Shares one budget and the limits of endpoints among processes, on this host or on many.

    It runs in a thread of its own. What it grants is in its file before it is answered, so it may be killed at any
    moment and started again on the same folder: at the same port, with the same token. One service at a time has a
    folder. Any thread may use it.

    Args:
        folder: of the run, on a disk of this machine.
        host: to listen on. The default is reached from this machine only; ``"0.0.0.0"`` from everywhere that has the
            token.
        port: to listen on; None: the one that it had before in this folder, else a free one.
        address: the host's name, as other hosts are to call it; None: `host`.
        clock: seconds, never backwards.
        window: seconds that a call counts after its end.
        slice_seconds: how long a process may use what it was granted of a limit.
        known: what runs hold of the budget, and have spent of it, by what they are known by: those that the file does
            not have are added.

    Attributes:
        url: where it is; empty before `start`.
        token: what it answers to.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        host: str = "127.0.0.1",
        port: int | None = None,
        address: str | None = None,
        clock: Callable[[], float] = time.monotonic,
        window: float = WINDOW_SECONDS,
        slice_seconds: float = SLICE_SECONDS,
        known: Mapping[str, tuple[Units, Units]] = MappingProxyType({}),
    ) -> None:
        self.url = ""
        self.token = Secret("")
        self._folder = Path(folder)
        self._host, self._port, self._address = host, port, address or host
        self._clock = clock
        self._window, self._slice_seconds, self._known = window, slice_seconds, known
        self._accounts = Accounts(window=window, slice_seconds=slice_seconds)
        self._file = AccountFile(self._folder)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> str:
        """Read the file, and serve; return the URL, without the token. May be called more than once.

        Raises:
            GrantsError: when another service has the folder, its file cannot be used, or the port cannot be had.
        """
        if self._loop is not None:
            return self.url
        path = self._folder / ADDRESS_FILE
        before = _read_address(path)
        self.token = Secret(before.get("token") or secrets.token_urlsafe(24))
        if not self._file.take():
            raise GrantsError(f"another grants service serves {self._folder}: wait until it has ended")
        try:
            self._file.read(self._accounts, self._clock())
            self._accounts.budget.learn(self._known, self._clock())
            self._file.rewrite(self._accounts, self._clock())
            started: Future[int] = Future()
            port = before.get("port") or 0 if self._port is None else self._port
            self._thread = threading.Thread(target=self._run, args=(port, started), name="llm-grants", daemon=True)
            self._thread.start()
            port = started.result(_STARTS_WITHIN)
            _write_address(path, {"port": port, "token": self.token.get_secret_value()})
        except BaseException as error:
            self.stop()
            if isinstance(error, OSError):
                raise GrantsError(
                    f"the grants service cannot listen on {self._host}, port {self._port or before.get('port') or 0}: "
                    f"{error}; free the port, or give another one"
                ) from error
            raise
        self.url = str(URL.build(scheme="http", host=self._address, port=port))
        return self.url

    def environment(self) -> dict[str, str]:
        """Return the variables of the environment with which processes find it."""
        return {GRANTS_VARIABLE: self.url, TOKEN_VARIABLE: self.token.get_secret_value()}

    def stop(self) -> None:
        """Serve no more. May be called more than once."""
        loop, thread = self._loop, self._thread
        if loop is not None and thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
        self._loop = self._thread = None
        self._accounts = Accounts(window=self._window, slice_seconds=self._slice_seconds)
        self._file.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stop()

    def _run(self, port: int, started: Future[int]) -> None:
        loop = asyncio.new_event_loop()
        application = web.Application(client_max_size=_LARGEST_MESSAGE)
        application.router.add_post(PATH, self._handle)
        runner = web.AppRunner(application, access_log=None, handle_signals=False)
        try:
            loop.run_until_complete(runner.setup())
            site = web.TCPSite(runner, self._host, port, reuse_address=True)
            loop.run_until_complete(site.start())
            self._loop = loop
            started.set_result(runner.addresses[0][1])
            loop.run_forever()
        except BaseException as error:
            if started.done():
                raise
            started.set_exception(error)
        finally:
            loop.run_until_complete(runner.cleanup())
            loop.close()

    async def _handle(self, request: web.Request) -> web.Response:
        given = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if not hmac.compare_digest(given.encode(), self.token.get_secret_value().encode()):
            return web.Response(status=401, text="the token is wrong")
        try:
            message = Message.model_validate_json(await request.read())
        except ValidationError as error:
            return web.Response(status=400, text=f"this is no message of version 1: {error.error_count()} errors")
        try:
            reply = self._exchange(message)
        except GrantsError as error:
            return web.Response(status=503, text=str(error))
        return web.Response(body=reply.model_dump_json(), content_type="application/json")

    def _exchange(self, message: Message) -> Reply:
        """Answer a message. What was granted is in the file first."""
        now = self._clock()
        limits: list[LimitAnswer] = []
        budgets: list[BudgetAnswer] = []
        has_spent = False
        for ask in message.limits:
            account = self._accounts.limit(ask.scope)
            answer = account.exchange(ask, now)
            limits.append(answer)
            news = account.silenced()
            if answer.granted != ask.known:
                news.append(ask.holder)
            for name in news:
                self._file.note("limit", ask.scope, name, now, account.state(name))
        for each in message.budgets:
            granted, is_news = self._accounts.budget.exchange(each, now)
            budgets.append(granted)
            if is_news:
                has_spent = True
                self._file.note("budget", each.client, self._accounts.budget.state(each.client))
        self._file.write(sync=has_spent)
        if self._file.has_grown:
            self._file.rewrite(self._accounts, now)
        return Reply(limits=tuple(limits), budgets=tuple(budgets))


def service_for(
    run_folder: str | Path,
    *,
    host: str = "127.0.0.1",
    address: str | None = None,
    known: Mapping[str, tuple[Units, Units]] = MappingProxyType({}),
) -> GrantService:
    """Return the grants service of a run, started: what the driver of shards calls.

    Give its `environment` to the shards. It keeps its files in ``grants/`` of the folder; so a driver that was killed
    and calls this again has the same service, under the same address.

    Args:
        run_folder: the folder of the run, on a disk of this machine.
        host: to listen on; see `GrantService`.
        address: the host's name, as other hosts are to call it; None: `host`.
        known: what runs have spent that it may not know of; see `GrantService`.

    Raises:
        GrantsError: when it cannot be started.
    """
    service = GrantService(Path(run_folder) / "grants", host=host, address=address, known=known)
    service.start()
    return service


def _read_address(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise GrantsError(f"{path} cannot be read: {error}; delete it: then there is a new token") from error
    return value if isinstance(value, dict) else {}


def _write_address(path: Path, value: dict[str, Any]) -> None:
    """Write it so that other users cannot read it."""
    try:
        temporary = path.with_suffix(".tmp")
        temporary.unlink(missing_ok=True)
        temporary.touch(0o600)
        temporary.write_text(json.dumps(value), encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise GrantsError(f"{path} cannot be written: {error}; check the disk and the rights") from error

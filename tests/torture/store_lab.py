"""A case whose inputs, outputs and run state lie in an object store. Children use the store; the driver has no client.

The client of the store has threads, and a driver must have one thread. So the store is a process of its own, the driver
speaks plain HTTP to it, and whatever has to look by the engine's eyes is a child.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import shutil
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree

from llm_datagen.runs import RunFolder
from llm_datagen.runs.verify import verify
from llm_datagen.streams.storage.objects import OBJECT_STORAGE
from llm_datagen.testing.storage import FaultyStorage

from ..kit.gcs import GcsServer
from ..kit.s3 import Application, Environ, Fault, S3Server, StoreServer, at_write, lost_answer, reset, short, status
from . import exports
from .cases import PIPELINE_ID, Case
from .forks import fork, serve
from .lab import Lab

BUCKET = "torture"
SERVERS: dict[str, Callable[[], StoreServer]] = {"s3": S3Server, "gs": GcsServer}
"""By the schemes of addresses there."""

_WEATHER: tuple[Fault, ...] = (status(503, "SlowDown"), status(500, "InternalError"), reset, lost_answer, short)
_FAIR = "HTTP_X_FAIR"
"""A header of requests that do not fail: those of the driver."""


@dataclass(frozen=True, slots=True)
class StoreCase(Case):
    """A case in a store. What lies at a path in a folder otherwise has this path below the bucket.

    `has_state_there`: whether the run state is there, too. `scheme`: of addresses there.
    """

    has_state_there: bool = True
    scheme: str = "s3"

    @property
    def place(self) -> str:
        """Where all of it lies."""
        return f"{self.scheme}://{BUCKET}"

    def located(self, settings: dict[str, Any], folder: Path) -> dict[str, Any]:
        """Return the settings with the addresses in the store."""
        kept = {} if self.has_state_there else {"results_dir": settings["results_dir"]}
        found: dict[str, Any] = _there(settings, str(folder), self.place)
        return found | kept

    def results_dir(self, folder: Path) -> str:
        """Return where the run state is kept."""
        return f"{self.place}/results" if self.has_state_there else str(folder / "results")


def _there(value: Any, folder: str, place: str) -> Any:
    """Return a value of the settings, in which paths are addresses."""
    if isinstance(value, dict):
        return {key: _there(each, folder, place) for key, each in value.items()}
    if isinstance(value, list):
        return [_there(each, folder, place) for each in value]
    if not isinstance(value, str | Path):
        return value
    before, found, path = str(value).partition(folder)
    return f"{before if before == 'hf-folder:' else ''}{place}{path}" if found else value


class _Storm:
    """Lets a share of the requests to a store fail, but for those of the driver."""

    def __init__(self, share: float, application: Application) -> None:
        self._share = share
        self._dice = random.Random(1)
        self._application = application

    def __call__(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        """Answer a request."""
        is_fair = _FAIR in environ or self._dice.random() >= self._share
        is_whole_body = environ["REQUEST_METHOD"] != "GET" or "list-type" in environ["QUERY_STRING"]
        fault = None if is_fair else self._dice.choice(_WEATHER[:-1] if is_whole_body else _WEATHER)
        application = self._application
        return application(environ, start_response) if fault is None else fault(environ, start_response, application)


@dataclass(frozen=True, slots=True)
class StoreProcess:
    """A server of a store in a child of the driver. To be made before the driver has any thread.

    Attributes:
        pid: of its process.
        port: where it serves, on loopback.
        scheme: of addresses there.
        authorization: a header that it wants.
        reset_path: a POST there removes everything.
    """

    pid: int
    port: int
    scheme: str
    authorization: str
    reset_path: str

    @classmethod
    def start(cls, share: float, scheme: str = "s3") -> StoreProcess:
        """Fork it, and wait until it serves; `share` of its requests fail."""

        @contextmanager
        def store() -> Iterator[str]:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # it says much about broken connections
            server = SERVERS[scheme]()
            server.application = _Storm(share, server.application)
            told = {"endpoint": server.endpoint, "environment": server.environment}
            yield json.dumps(told | {"authorization": server.authorization, "reset_path": server.reset_path})

        pid, said = serve(store)
        told = json.loads(said)
        os.environ.update(told["environment"])
        port = int(told["endpoint"].rpartition(":")[2])
        return cls(pid, port, scheme, told["authorization"], told["reset_path"])

    def empty(self) -> None:
        """Remove all that is there, and make the bucket."""
        self._ask("POST", self.reset_path)
        self._ask("PUT", f"/{BUCKET}")

    def put(self, key: str, data: bytes) -> None:
        """Put an object."""
        self._ask("PUT", f"/{BUCKET}/{quote(key)}", data)

    def objects(self) -> dict[str, bytes]:
        """Return all objects."""
        keys: list[str] = []
        token = ""
        while True:
            found = ElementTree.fromstring(self._ask("GET", f"/{BUCKET}?list-type=2{token}"))
            keys += [str(each.findtext("{*}Key")) for each in found.findall("{*}Contents")]
            following = found.findtext("{*}NextContinuationToken")
            if not following:
                return {key: self._ask("GET", f"/{BUCKET}/{quote(key)}") for key in keys}
            token = f"&continuation-token={quote(following)}"

    def stop(self) -> None:
        """End it."""
        os.kill(self.pid, signal.SIGTERM)
        os.waitpid(self.pid, 0)

    def _ask(self, method: str, path: str, body: bytes = b"") -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path, body, {"X-Fair": "yes", "Authorization": self.authorization})
            answer = connection.getresponse()
            data = answer.read()
        finally:
            connection.close()
        assert answer.status == 200, f"the store answers {method} {path} with {answer.status}"
        return data


class StoreLab(Lab):
    """A case in a store. After each death, what is there is copied to the folder, where it is looked at.

    Args:
        case: the case.
        folder: where its files of this machine are.
        store: the store.
    """

    case: StoreCase
    hangs_after = 240.0  # longer than the client waits for any answer

    def __init__(self, case: StoreCase, folder: Path, store: StoreProcess) -> None:
        self._store = store
        self._copied: list[Path] = []
        self._answer = folder.with_name(f"{folder.name}.answer")
        self.cut: tuple[int, bool] | None = None
        """At which write to the store the next child is killed, and whether that write is done."""
        super().__init__(case, folder)

    def reset(self) -> None:
        """Start from nothing."""
        super().reset()
        self._store.empty()
        for path in self.folder.rglob("*"):
            if path.is_file():
                self._store.put(str(path.relative_to(self.folder)), path.read_bytes())
        os.environ["XDG_STATE_HOME"] = str(self.folder / "state")

    def clean(self) -> None:
        """Remove everything."""
        super().clean()
        self._answer.unlink(missing_ok=True)

    def _go(self, storage: FaultyStorage, **more: Any) -> None:
        if self.cut is not None:
            number, is_late = self.cut
            at_write(setattr, number, lambda: os.kill(os.getpid(), signal.SIGKILL), is_late=is_late)
        OBJECT_STORAGE.find(
            f"{self.case.place}/-"
        )  # what the client has for the whole process is open before it is looked at
        super()._go(storage, **more)

    # Looking.

    def copy(self) -> None:
        """Have in the folder what is in the store now."""
        for path in self._copied:
            path.unlink(missing_ok=True)
        shutil.rmtree(self.folder / "exports", ignore_errors=True)
        self._copied = []
        for key, data in self._store.objects().items():
            path = self.folder / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            self._copied.append(path)

    def problems(self, *, mended: bool = False) -> list[str]:
        """Return what is wrong with the objects of a run that has ended."""
        self.copy()
        for lease in self.folder.glob("exports/**/lease.json"):
            lease.unlink()
        found = self._by_a_child(lambda: super(StoreLab, self).problems(mended=mended))
        parts = [str(path.relative_to(self.folder)) for path in self._copied if path.parent.suffix == ".parts"]
        if left := [name for name in parts if "/-.parts/probe-" not in name]:
            found.append(f"pieces are left over: {left}")
        return found

    def found_by_verify(self) -> list[str]:
        """Return what `llm-datagen verify`, or a reader of exports, would find wrong now."""
        self.copy()

        def look() -> list[str]:
            folder = RunFolder(self.case.results_dir(self.folder), PIPELINE_ID)
            accounts = verify(folder.load()) if folder.exists() else []
            return [what for account in accounts for what in account.findings]

        return self._by_a_child(look) + exports.torn(self.case, self.folder) + self._half()

    def _half(self) -> list[str]:
        """Return the outputs that a reader would find, and that are not whole."""
        found = []
        for number, fate in enumerate(self.fates):
            path = self.case.stream_path(self.folder, number)
            if path.exists():
                found += self._rows_missing(path, len(fate.rows))
        return found

    def _rows_missing(self, path: Path, rows: int) -> list[str]:
        from .files import rows_in, unpacked

        try:
            there = len(rows_in(path, unpacked(path)))
        except Exception as error:  # noqa: BLE001 - whatever cannot be read is a finding
            return [f"{path.name} is there, and cannot be read: {error!r}"]
        return [] if there == rows else [f"{path.name} is there with {there} rows, and will have {rows}"]

    def _by_a_child(self, look: Callable[[], list[str]]) -> list[str]:
        self._answer.unlink(missing_ok=True)
        death = fork(lambda: _write(self._answer, look()), self.scratch, hangs_after=self.hangs_after)
        if death.how != "done":
            return [f"looking: {death.how}: {death.text}"]
        found: list[str] = json.loads(self._answer.read_text())
        return found


def _write(path: Path, found: list[str]) -> None:
    path.write_text(json.dumps(found))

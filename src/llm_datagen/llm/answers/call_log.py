"""The log of model calls: what was asked about each row and what came back, in the folder of the run.

A line is written before the answer goes on. So of every row that is committed, the calls are there, also after
kill -9. A full file is packed by a thread. Where the files of a node are longer than they may be, the oldest go. A disk
that refuses costs the log of calls, and no row. `runs.browse.calls` says what the files are, and reads them.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import gzip
import hashlib
import os
import time
from array import array
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path
from typing import Any

from llm_datagen.config import check_count
from llm_datagen.llm.cache.response_cache import Call
from llm_datagen.llm.http.address import host_of
from llm_datagen.llm.tool_calls import plain_messages
from llm_datagen.llm.types import OWN_TURN, ChatRequest
from llm_datagen.operators import INodeContext
from llm_datagen.operators.before_delivery import before_delivery
from llm_datagen.operators.current_rows import current_rows
from llm_datagen.runs.browse.calls import FOLDER, IDS, LINES, PACKED, call_line, checksums_of, name_of
from llm_datagen.runs.usage import in_all

FILE_BYTES = 8 << 20
_MEGABYTES = 1024
_MEGABYTE = 1 << 20
_NOT_KEPT = ("logprobs", "embeddings", OWN_TURN)
_PACKING, _NEW = ".packing", ".new"


def checked_keep_calls(value: Any) -> int:
    """Return how many bytes of calls are kept; 0 for none.

    Raises:
        ConfigError: when it is neither a flag nor a number of megabytes.
    """
    if isinstance(value, bool):
        return _MEGABYTES * _MEGABYTE if value else 0
    return check_count("keep_calls", value) * _MEGABYTE


class CallLog:
    """The calls of one operator. Its methods are called on the event loop.

    A thread writes: calls that end while it does are written together, the next time.

    Args:
        most: bytes that the files of a node may take.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._lines: list[bytes] = []  # that no thread has yet
        self._written: asyncio.Future[None] | None = None  # when those are written that a thread has
        self._ctx: INodeContext | None = None
        self._files: _CallFiles | None = None
        self._is_broken = False

    async def note(
        self,
        request: ChatRequest,
        asked: Sequence[Call],
        error: BaseException | None,
        *,
        repaired: Sequence[Call] = (),
        repairs_at: Sequence[int] = (),
        tool_calls: int = 0,
    ) -> None:
        """Write down what was asked and what came back. Does nothing where no run is kept.

        Args:
            request: the last request, with all messages that were exchanged before.
            asked: all requests that were answered, with the answers.
            error: why there is no answer that can be used.
            repaired: those of `asked` whose answer had to be repaired.
            repairs_at: which messages of `request` ask for these repairs.
            tool_calls: calls of tools that were executed.
        """
        ctx = request.ctx
        if not self._most or self._is_broken or ctx is None or ctx.folder is None:
            return
        call = _call(request, asked, repaired, error)
        if repairs_at:
            call["repairs_at"] = list(repairs_at)
        if tool_calls:
            call["tool_calls"] = tool_calls
        self._lines.append(call_line(current_rows.get(), datetime.now(UTC).isoformat(), call))
        add = before_delivery.get()
        if add is None:
            await self.write(ctx)
        else:  # before the row goes on, with the lines of others that go on at the same time
            self._ctx = ctx
            add(self.write)

    async def write(self, ctx: INodeContext | None = None) -> None:
        """Have a thread write the lines that there are; returns when they are written, and those before them."""
        ctx = self._ctx if ctx is None else ctx
        if ctx is None or ctx.folder is None:
            return
        try:
            if self._lines:
                lines, self._lines = self._lines, []
                self._written = asyncio.wrap_future(self._opened(ctx, ctx.folder).submit(b"".join(lines)))
            if self._written is not None:
                await asyncio.shield(self._written)
        except (OSError, RuntimeError) as refused:  # the disk, or no thread can be started
            if not self._is_broken:
                self._is_broken = True
                why = getattr(refused, "strerror", None) or refused
                ctx.log(
                    f"the model calls of {ctx.node_id} are no longer kept: {why}; its rows go on. Make room, or set "
                    "keep_calls=False",
                    level="warning",
                )

    async def close(self) -> None:
        """Write what waits, pack all, and end the threads. A later call begins again."""
        await self.write()
        files, self._files = self._files, None
        self._ctx = self._written = None
        self._is_broken = False
        if files is not None:
            await files.close()

    def _opened(self, ctx: INodeContext, folder: Path) -> _CallFiles:
        if self._files is None:
            self._files = _CallFiles(folder / FOLDER, ctx.node_id, self._most)
        return self._files


class _CallFiles:
    """The files of the calls of a node. One thread writes, another one packs full files.

    Args:
        folder: where they lie.
        node_id: the node.
        most: bytes that they may take.
    """

    def __init__(self, folder: Path, node_id: str, most: int) -> None:
        self._folder = folder
        self._begin = name_of(node_id)
        self._most = most
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="llm-calls")
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="llm-calls-packing")
        self._packing: list[Future[None]] = []
        self._file: FileIO | None = None
        self._path = Path()
        self._written = 0

    def submit(self, data: bytes) -> Future[None]:
        """Have some lines written, behind those before. The future has the OSError when the disk refuses."""
        return self._writer.submit(self._append, data)

    async def close(self) -> None:
        """Pack the last one, and wait until all are packed. A disk that refuses leaves them as they are."""
        await asyncio.wrap_future(self._writer.submit(self._pack_all))
        self._writer.shutdown()
        self._threads.shutdown()

    def _append(self, data: bytes) -> None:
        """Write some lines.

        Raises:
            OSError: when the disk refuses; what was written before stays.
        """
        try:
            file = self._file or self._new_file()
            left = memoryview(data)
            while left:  # a disk that is nearly full takes a part
                left = left[file.write(left) :]
        except OSError:
            self._pack_file()
            raise
        self._written += len(data)
        if self._written >= FILE_BYTES:
            self._pack_file()

    def _pack_all(self) -> None:
        self._pack_file()
        wait(self._packing)

    def _new_file(self) -> FileIO:
        is_first = not self._packing
        self._folder.mkdir(parents=True, exist_ok=True)
        self._path = self._folder / f"{self._begin}{time.time_ns()}-{os.getpid()}{LINES}"
        new = self._path.with_suffix(_NEW)  # it has its name when it is locked: else another process would pack it
        self._file, self._written = FileIO(new, "xb"), 0
        fcntl.flock(self._file, fcntl.LOCK_EX)
        new.rename(self._path)
        if is_first:
            self._packing.append(self._threads.submit(_pack_left, self._folder, self._begin, self._most))
        return self._file

    def _pack_file(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            self._packing = [each for each in self._packing if not each.done()]
            self._packing.append(self._threads.submit(_pack, file, self._path, self._most))


def _call(
    request: ChatRequest, asked: Sequence[Call], repaired: Sequence[Call], error: BaseException | None
) -> dict[str, Any]:
    answers = [answer for _, answer in asked]
    last = answers[-1] if answers else None
    is_answered = bool(asked) and asked[-1][0] is request
    tokens_in = tokens_out = attempts = 0
    seconds: float = 0
    for answer in answers:
        tokens_in += answer.usage.get("prompt_tokens", 0)
        tokens_out += answer.usage.get("completion_tokens", 0)
        attempts += answer.attempts
        seconds += answer.seconds
    call: dict[str, Any] = {
        "model": last.response_model or last.model if last else request.model,
        "provider": host_of(last.endpoint) if last and last.endpoint else None,
        "endpoint": last.endpoint if last else None,
        "messages": [without_data(message) for message in plain_messages(request.messages)],
        "answer": last.in_words if last and is_answered else None,
        "tokens_in": tokens_in,
        "tokens_out": tokens_out,
        "cost": in_all([answer.cost for answer in answers]),
        "attempts": attempts,
        "repairs": len(repaired),
        "cached": bool(answers) and all(answer.is_cached for answer in answers),
        "seconds": round(seconds, 6),
    }
    if repaired:
        call["repaired_answers"] = [answer.text for _, answer in repaired]
    if last is not None and last.extras:
        call["extras"] = {name: value for name, value in last.extras.items() if name not in _NOT_KEPT}
    if request.sample:
        call["sample"] = request.sample
    if error is not None:
        call["error"] = f"{type(error).__name__}: {error}".removesuffix(": ")
    return call


def without_data(message: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a message with a note in place of each image that it carries: its type, length and checksum."""
    content = message.get("content")
    if not isinstance(content, list):
        return message
    return {**message, "content": [_without_data(part) for part in content]}


def _without_data(part: Any) -> Any:
    if isinstance(part, str):
        return _noted(part)
    if isinstance(part, list):
        return [_without_data(each) for each in part]
    if isinstance(part, Mapping):
        return {name: _without_data(value) for name, value in part.items()}
    return part


def _noted(text: str) -> str:
    if not text.startswith("data:"):
        return text
    kind = text[5:].partition(";")[0].partition(",")[0]
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return f"({kind or 'data'}, {len(text)} characters of a data URL, SHA-256 {digest}…)"


def _pack_left(folder: Path, begin: str, most: int) -> None:
    """Pack what processes have left that were killed: files that nobody has locked."""
    for path in folder.iterdir():
        if not path.name.startswith(begin) or not path.name.endswith(LINES):
            continue
        with contextlib.suppress(OSError), FileIO(path, "rb") as file:  # it is being written, or has gone
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _pack(file, path, most)


def _pack(file: FileIO, path: Path, most: int) -> None:
    """Put a packed file in place of one that is full, and remove the oldest of its node that are too much."""
    with file:
        sums = array("I")
        packing = path.with_name(f"{path.name}{_PACKING}")
        with path.open("rb") as lines, gzip.open(packing, "wb", compresslevel=1) as packed:
            for line in lines:
                sums.extend(checksums_of(line))
                packed.write(line)
        stem = path.name.removesuffix(LINES)
        path.with_name(f"{stem}{IDS}").write_bytes(sums.tobytes())
        packing.rename(path.with_name(f"{stem}{PACKED}"))
        path.unlink(missing_ok=True)
    _remove_oldest(path.parent, f"{stem.rpartition('.')[0]}.", most)


def _remove_oldest(folder: Path, begin: str, most: int) -> None:
    packed = sorted(path for path in folder.iterdir() if path.name.startswith(begin) and path.name.endswith(PACKED))
    sizes = [path.stat().st_size for path in packed]
    left = sum(sizes)
    for path, size in zip(packed, sizes, strict=True):
        if left <= most:
            return
        path.unlink(missing_ok=True)
        path.with_name(path.name.removesuffix(PACKED) + IDS).unlink(missing_ok=True)
        left -= size

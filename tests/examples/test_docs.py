"""The documentation is true: its programs run, its links lead somewhere."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
from collections.abc import Mapping
from itertools import takewhile
from pathlib import Path

import pytest

import llm_datagen

from ..kit import programs
from .pages import DOCS, Block, blocks_of
from .shell import clean_environment

README = DOCS.parent / "README.md"
PAGES = sorted([*DOCS.rglob("*.md"), README])
TUTORIALS = DOCS / "tutorials"
PROGRAMS: dict[str, list[str]] = {"python": [], "llm-datagen": ["-m", "llm_datagen.cli"]}
"""Commands of sessions that are Python programs, and what `python` is given for them."""

SOURCE = Path(llm_datagen.__file__).parent
ROOMS = "|".join(sorted(path.name for path in SOURCE.iterdir() if path.is_dir() and path.name[0] != "_"))
NAMED = re.compile(rf"`((?:tests|examples|docs|{ROOMS})/[\w/]+(?:\.py)?)`")
"""Files and folders of the repository, and modules of the package, as pages name them."""

PAGES_WITH_PROGRAMS = [page for page in PAGES if any(block.info for block in blocks_of(page))]


def _name(page: Path) -> str:
    return str(page.relative_to(DOCS.parent))


@pytest.mark.sampled(4)
@pytest.mark.process
@pytest.mark.parametrize("page", PAGES_WITH_PROGRAMS, ids=_name)
def test_the_programs_of_a_page_run_in_order_in_one_directory(page: Path, tmp_path: Path) -> None:
    for number, block in enumerate(blocks_of(page)):
        where = f"{page.name}, line {block.line}"
        if block.info.startswith("file="):
            (tmp_path / block.info.removeprefix("file=")).write_text(block.text, encoding="utf-8")
        elif block.info == "run" and block.language == "python":
            folder = tmp_path if page.parent == TUTORIALS else tmp_path / str(number)
            folder.mkdir(exist_ok=True)
            _run_program(block, folder, where)
        elif block.info == "run" and block.language == "console":
            _run_session(block, tmp_path, where)
        else:
            assert not block.info, f"{where}: {block.info!r} means nothing to the tests"


@pytest.mark.process
def test_the_pipeline_of_the_readme_runs_at_an_endpoint_of_which_no_price_is_known(tmp_path: Path) -> None:
    """No row needs a call: nobody answers there."""
    (program,) = (block for block in blocks_of(README) if block.language == "python")
    (tmp_path / "documents.jsonl").write_text('{"text": "too short"}\n', encoding="utf-8")
    endpoint = {"OPENAI_BASE_URL": "http://127.0.0.1:9/v1"}
    assert _run_program(program, tmp_path, "README.md", endpoint) == "completed 1 0 None\n"


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_python_on_a_page_is_python(page: Path) -> None:
    for block in blocks_of(page):
        if block.language == "python":
            ast.parse(block.text, f"{page.name}, line {block.line}")


def test_every_page_is_in_the_index() -> None:
    index = (DOCS / "README.md").read_text(encoding="utf-8")
    names = [page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")]
    assert [name for name in names if f"]({name})" not in index] == ["README.md"]


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_links_on_a_page_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        assert file.exists(), f"{page.name} links to {target}, which is not there"
        if anchor:
            assert anchor in _anchors(file), f"{page.name} links to {target}; that heading is not there"


@pytest.mark.parametrize("page", [*PAGES, DOCS.parent / "CONTRIBUTING.md"], ids=_name)
def test_files_that_a_page_names_are_there(page: Path) -> None:
    for name in NAMED.findall(page.read_text(encoding="utf-8")):
        places = [root / f"{name}{ending}" for root in (DOCS.parent, SOURCE) for ending in ("", ".py")]
        assert any(place.exists() for place in places), f"{page.name} names {name}, which is not there"


def _anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _run_program(block: Block, folder: Path, where: str, more: Mapping[str, str] | None = None) -> str:
    program = folder / f"program_{block.line}.py"
    program.write_text(block.text, encoding="utf-8")
    done = programs.run(["-W", "error", program.name], cwd=folder, env={**clean_environment(), **(more or {})})
    assert done.returncode == 0, f"{where}: {done.stderr}"
    assert "Traceback" not in done.stderr, f"{where}: {done.stderr}"
    return done.stdout


def _run_session(block: Block, folder: Path, where: str) -> None:
    """Run the commands of a session, and find the lines that the page shows in what they print, in that order.

    In a shown line, ``…`` stands for anything; alone on a line, for any lines. ``# exits with N`` behind a command
    says that it fails.
    """
    lines = block.text.splitlines()
    while lines:
        command = lines.pop(0).removeprefix("$ ")
        shown = list(takewhile(lambda line: not line.startswith("$ "), lines))
        del lines[: len(shown)]
        done = _run_command(command, folder)
        expected = re.search(r"# exits with (\d+)$", command)
        assert done.returncode == (int(expected[1]) if expected else 0), f"{where}, {command}: {done.stderr}"
        pattern = "".join(_line_pattern(line) for line in shown)
        assert re.fullmatch(pattern, done.stdout), f"{where}, {command}: it prints\n{done.stdout}"


def _run_command(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command as a shell does; fork it if it is a Python program."""
    environment, words = clean_environment(), shlex.split(command, comments=True)
    while "=" in words[0]:
        name, _, value = words.pop(0).partition("=")
        environment[name] = value
    if words[0] in PROGRAMS and not {"|", ">", "&", "&&", ";"} & set(words):
        return programs.run([*PROGRAMS[words[0]], *words[1:]], cwd=folder, env=environment)
    return subprocess.run(command, shell=True, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def _line_pattern(line: str) -> str:
    if line == "…":
        return r"(?:.*\n)*"
    return ".*".join(map(re.escape, line.split("…"))) + r"\n"

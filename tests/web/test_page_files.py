"""The files of the page: small, all of them its own, and with nothing that the server's policy forbids."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import pytest

import llm_datagen

PAGE = Path(llm_datagen.__file__).parent / "web" / "page"
SCRIPTS = sorted(PAGE.rglob("*.js"))
FILES = [*SCRIPTS, *PAGE.rglob("*.css"), *PAGE.rglob("*.html")]


def test_scripts_and_styles_are_sixty_kilobytes_at_most() -> None:
    sent = [path for path in FILES if path.suffix in {".js", ".css"}]
    assert len(sent) > 10
    assert sum(len(gzip.compress(path.read_bytes())) for path in sent) <= 60 * 1024


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_file_names_no_other_server_and_makes_no_markup_of_text(path: Path) -> None:
    text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
    assert not re.findall(r"https?://|//cdn", text)
    forbidden = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function|\.style\b|srcdoc"
    assert not re.findall(forbidden, text)
    if path.suffix == ".html":
        assert not re.findall(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", text)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_a_script_imports_what_there_is_and_says_what_it_is(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.startswith("// ")
    for name in re.findall(r'^(?:import|export) .*from "(.+)";$', text, re.MULTILINE):
        assert (path.parent / name).resolve() in SCRIPTS, name

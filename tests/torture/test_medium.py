"""The torture's own tools: the medium that loses its power, and the table that is measured."""

from __future__ import annotations

import random
from typing import Any

import pytest

from .medium import Medium
from .table import AGAIN, BEGIN, CELLS, END, GIVEN_UP, Cell, claims_of, contradictions, render
from .tally import Tally

NEW = [("open", "/d/new", "ab", 1), ("write", 1, b"one"), ("sync", 1), ("sync folder", "/d")]


def found(steps: list[tuple[Any, ...]], *, ordered: bool = False, files: dict[str, bytes] | None = None) -> set[Any]:
    """Return all that was found on the medium after these steps, in two thousand cuts."""
    medium = Medium(files or {}, ordered=ordered)
    for step in steps:
        medium.take(step)
    return {frozenset(medium.found(random.Random(seed)).items()) for seed in range(2000)}


@pytest.mark.parametrize("ordered", [True, False])
def test_what_was_synced_is_found_whatever_came_after(ordered: bool) -> None:
    states = found([*NEW, ("write", 1, b"two"), ("truncate", 1, 4)], ordered=ordered)
    assert all(dict(state)["/d/new"].startswith(b"one") for state in states)
    contents = {dict(state)["/d/new"] for state in states}
    assert {b"one", b"onet", b"onetw", b"onetwo", b"one\0\0\0"} <= contents


def test_a_cut_that_was_not_synced_may_not_have_been() -> None:
    contents = {
        dict(state)["/d/a"] for state in found([("open", "/d/a", "ab", 1), ("truncate", 1, 2)], files={"/d/a": b"abc"})
    }
    assert contents == {b"ab", b"abc"}


@pytest.mark.parametrize(("ordered", "may_be_missing"), [(True, False), (False, True)])
def test_a_name_is_there_for_certain_once_its_folder_is_synced(ordered: bool, may_be_missing: bool) -> None:
    assert frozenset() not in found(NEW, ordered=ordered)
    assert (frozenset() in found(NEW[:-1], ordered=ordered)) == may_be_missing
    assert frozenset() in found(NEW[:2], ordered=ordered)


def test_a_file_may_have_its_new_name_without_its_data() -> None:
    steps = [("open", "/d/a.tmp", "wb", 1), ("write", 1, b"new"), ("rename", "/d/a.tmp", "/d/a")]
    contents = {dict(state).get("/d/a") for state in found(steps, files={"/d/a": b"old"})}
    assert {b"old", b"new", b""} <= contents
    steps[2:2] = [("sync", 1)]
    assert {dict(state).get("/d/a") for state in found(steps, files={"/d/a": b"old"})} == {b"old", b"new"}


def tallies(**changed: Tally) -> dict[Cell, Tally]:
    return {cell: changed.get("_".join(cell), Tally(kills=5, peak=(3, 9))) for cell in CELLS}


def page(of: dict[Cell, Tally]) -> str:
    return f"# A page\n\n{BEGIN}\n{render(of, 'a command')}\n{END}\n"


def test_a_page_says_what_was_measured() -> None:
    said = claims_of(page(tallies()))
    assert said == {cell: [AGAIN if cell.delivery == "exactly_once" else GIVEN_UP] for cell in CELLS}
    assert contradictions(said, tallies()) == []


def test_a_page_that_promises_more_than_was_found_is_contradicted() -> None:
    said = claims_of(page(tallies()))
    worse = tallies(exactly_once_never_power=Tally(cuts=5, refused=2), at_most_once_close_power=Tally(twice=1))
    assert len(contradictions(said, worse)) == 2
    assert contradictions(claims_of(page(worse)), worse) == []
    assert contradictions(claims_of(page(worse)), tallies()) == [], "a small run need not find it"
    more = tallies(exactly_once_never_power=Tally(beyond=1), at_most_once_close_power=Tally(twice=1, beyond=1))
    assert len(contradictions(claims_of(page(worse)), more)) == 1, "a refusal makes calls again, a row called twice not"
    assert len(contradictions(said, tallies(exactly_once_flush_kill=Tally(findings=["a row is lost"])))) == 1


def test_where_the_medium_was_waited_for_a_page_may_not_say_that_anything_is_refused() -> None:
    worse = tallies(exactly_once_flush_power=Tally(cuts=5, refused=2))
    assert len(contradictions(claims_of(page(worse)), worse)) == 1

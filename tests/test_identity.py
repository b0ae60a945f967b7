"""Fingerprints of operators: equal for the same program, and parts that are named when it is another one."""

from __future__ import annotations

import dataclasses
import enum
import functools
import importlib
import subprocess
import sys
import threading
from collections import ChainMap
from pathlib import Path
from string import Template
from types import MappingProxyType
from typing import Any

import pytest

from llm_datagen.errors import ConfigError
from llm_datagen.llm import LLMOperator
from llm_datagen.operators import FunctionOperator, as_operator
from llm_datagen.operators.fingerprint import changed_parts, fingerprint_of, note_changes, shown_change, unread_parts

SOURCE = '''
import functools
PROMPT = "ask"
LABELS = {"x", "y", "z"}


def helper(row, *, more=1):
    """What it does."""
    return (row, PROMPT, LABELS, more)


def make(k):
    def operator(item):
        return helper(item) * k
    return operator


class Base:
    limit = 3

    def ready(self):
        return self.limit


class Op(Base):
    def __init__(self):
        self.labels = {"p", "q", "r"}
        self.thing = object()

    def process_item(self, item, ctx):
        return self.ready()


operator = make(2)
partial = functools.partial(helper, more=2)
instance = Op()
'''

EDITS = [
    ('"ask"', '"tell"', "operator", ["global PROMPT"]),
    ('"ask"', '"tell"', "partial", ["global PROMPT"]),
    ("more=1", "more=5", "operator", ["default of more of helper"]),
    ("make(2)", "make(3)", "operator", ["closure variable k"]),
    ("helper(item) * k", "helper(item) + k", "operator", ["code"]),
    ("more=2", "more=3", "partial", ["argument more"]),
    ("limit = 3", "limit = 4", "instance", ["attribute limit of Base"]),
    ("return self.limit", "return -self.limit", "instance", ["code of ready of Base"]),
    ('"p", "q"', '"p", "s"', "instance", ["code of __init__", "attribute labels"]),
    ('"""What it does."""', '"""Another text."""', "operator", []),
    ("    return (row,", "    # a comment\n\n    return (  row,", "operator", []),
    ("import functools", "\n\n\nimport functools", "instance", []),
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def imported(folder: Path, name: str, source: str) -> Any:
    (folder / f"{name}.py").write_text(source)
    importlib.invalidate_caches()
    try:
        return importlib.import_module(name)
    finally:
        sys.modules.pop(name, None)


@pytest.mark.parametrize(("old", "new", "name", "parts"), EDITS)
def test_an_edit_is_named_and_layout_does_not_count(
    folder: Path, old: str, new: str, name: str, parts: list[str]
) -> None:
    assert old in SOURCE
    before = fingerprint_of(as_operator(getattr(imported(folder, "one", SOURCE), name)))
    after = fingerprint_of(as_operator(getattr(imported(folder, "two", SOURCE.replace(old, new)), name)))
    assert sorted(changed_parts(before, after)) == sorted(parts)


@pytest.mark.process
def test_it_is_the_same_in_every_process(folder: Path) -> None:
    """No addresses, no order of sets, no paths."""
    (folder / "job.py").write_text(SOURCE)
    code = (
        "import json, job; from llm_datagen.operators.fingerprint import fingerprint_of as f; "
        "print(json.dumps([f(job.operator), f(job.partial), f(job.instance)]))"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=folder,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(folder)},
            check=True,
            capture_output=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(found) == 1
    assert b"ast:" in next(iter(found))


def test_two_lambdas_in_one_line_are_two() -> None:
    one, other = (lambda row: row), (lambda row: {**row})
    assert changed_parts(fingerprint_of(FunctionOperator(one)), fingerprint_of(FunctionOperator(other))) == ["code"]


def test_code_without_a_source_is_known_by_its_bytecode() -> None:
    def made(text: str) -> Any:
        space: dict[str, Any] = {}
        exec(text, space)
        return FunctionOperator(space["f"])

    known = fingerprint_of(made("def f(row): return row"))
    assert changed_parts(known, fingerprint_of(made("def f(row): return  row  # as before"))) == []
    assert changed_parts(known, fingerprint_of(made("def f(row): return [row]"))) == ["code"]


@pytest.mark.parametrize("thing", [str.upper, functools.lru_cache(len), functools.partial(max, 1)])
def test_what_cannot_be_looked_into_is_no_failure(thing: Any) -> None:
    assert fingerprint_of(FunctionOperator(thing, name="it")) == fingerprint_of(FunctionOperator(thing, name="it"))


BASE: dict[str, Any] = {"prompt": "Say {{ x }}", "model": "m", "params": {"temperature": 0}}


@pytest.mark.parametrize(
    ("edit", "parts"),
    [
        ({"prompt": "Tell {{ x }}"}, ["prompt"]),
        ({"model": "m2"}, ["model"]),
        ({"params": {"temperature": 1}}, ["params.temperature"]),
        ({"system": "Be brief."}, ["system (new)"]),
        ({"output": {"type": "object", "properties": {"a": {"type": "string"}}}}, ["output"]),
        ({"examples": [{"item": {"x": 1}, "answer": "1"}]}, ["examples (new)"]),
        ({"n": 2}, ["n (new)"]),
        (
            {"adapter": "anthropic", "params": {"temperature": 0, "max_tokens": 9}},
            ["params.max_tokens (new)", "adapter"],
        ),
        (
            {
                "base_url": "http://elsewhere/v1",
                "api_key": "secret",
                "timeout": 5.0,
                "max_retries": 1,
                "requests_per_minute": 9,
                "prices": {"input": 1, "output": 2},
                "cache": "kept.jsonl",
            },
            [],
        ),
    ],
)
def test_what_counts_of_a_model_call(edit: dict[str, Any], parts: list[str]) -> None:
    known, now = fingerprint_of(LLMOperator(**BASE)), fingerprint_of(LLMOperator(**{**BASE, **edit}))
    assert sorted(changed_parts(known, now)) == sorted(parts)
    assert "secret" not in str(now)


def told(known: Any, now: Any) -> list[str]:
    before, after = fingerprint_of(known), fingerprint_of(now)
    return [shown_change(name, before, after) for name in changed_parts(before, after)]


@pytest.mark.parametrize(
    ("edit", "text"),
    [
        ({"model": "m2"}, "model 'm' → 'm2'"),
        ({"params": {"temperature": 1}}, "params.temperature 0 → 1"),
        ({"params": {"temperature": 0.0}}, "params.temperature 0 → 0.0"),
        ({"params": {"temperature": "x" * 50}}, "params.temperature"),
        ({"params": {"temperature": {"a": 1}}}, "params.temperature"),
        ({"prompt": "Tell"}, "prompt"),
        ({"adapter": "anthropic"}, "adapter 'OpenAIAdapter' → 'AnthropicAdapter'"),
    ],
)
def test_short_values_are_told(edit: dict[str, Any], text: str) -> None:
    assert text in told(LLMOperator(**BASE), LLMOperator(**{**BASE, **edit}))


class Plain:
    """An operator with one attribute."""

    def __init__(self, name: str, value: Any) -> None:
        setattr(self, name, value)

    def process_item(self, item: Any, ctx: Any) -> Any:
        return item


@pytest.mark.parametrize(
    ("name", "old", "new", "text"),
    [
        ("limit", 3, 4, "attribute limit 3 → 4"),
        ("limit", None, True, "attribute limit None → True"),
        ("max_tokens", 16, 32, "attribute max_tokens 16 → 32"),
        ("limit", 10**50, 1, "attribute limit"),
        ("header", "Bearer sk-canary", "Bearer sk-other", "attribute header"),
        ("api_key", 4711, 4712, "attribute api_key"),
        ("pin", 4711, 4712, "attribute pin"),
        ("labels", [1], [2], "attribute labels"),
    ],
)
def test_of_attributes_numbers_are_told_and_never_what_may_be_a_secret(
    name: str, old: Any, new: Any, text: str
) -> None:
    assert told(Plain(name, old), Plain(name, new)) == [text]
    kept = str(fingerprint_of(Plain(name, old)))
    assert "canary" not in kept
    assert "4711" not in kept


def test_a_fingerprint_of_digests_alone_is_compared_with_one_that_has_values() -> None:
    now = fingerprint_of(Plain("limit", 3))
    bare = {name: value and value.split(" 3")[0] for name, value in now.items()}
    assert bare != now
    assert changed_parts(bare, now) == []
    assert changed_parts(bare, fingerprint_of(Plain("limit", 4))) == ["attribute limit"]


def test_of_a_fingerprint_of_the_users_own_a_secret_is_a_digest() -> None:
    class Own(Plain):
        def fingerprint(self) -> dict[str, Any]:
            return {"api_key": "sk-canary", "code_key": "sk-canary", "mode": "fast"}

    assert "canary" not in str(fingerprint_of(Own("x", 1)))
    assert fingerprint_of(Own("x", 1))["mode"] == "fast"


def only(known: Any, now: Any) -> list[str]:
    return changed_parts(fingerprint_of(known), fingerprint_of(now))


def test_what_one_lambda_changed_itself_hides_nothing_of_another() -> None:
    seen: list[int] = []
    first = FunctionOperator(lambda row: (row, seen), name="it")
    before = fingerprint_of(first)
    seen.append(1)
    note_changes(first, before)
    assert fingerprint_of(first) == before  # the run state gets what another process starts with
    others = []
    for start in ([], [5]):

        def made(seen: list[int] = start) -> FunctionOperator:
            return FunctionOperator(lambda row: [*seen, row], name="it")

        others.append(made())
    assert only(*others) == ["closure variable seen"]


def test_what_an_object_changed_itself_is_kept_as_it_was_before() -> None:
    operator = Plain("p", 1)
    before = fingerprint_of(operator)
    operator.p = 2  # type: ignore[attr-defined]
    note_changes(operator, before)
    assert fingerprint_of(operator) == before
    assert only(operator, Plain("p", 3)) == ["attribute p"]


class Client:
    """A class of the user's, with a setting."""

    def __init__(self, limit: int = 1) -> None:
        self.limit, self.lock, self.me = limit, threading.Lock(), self


@dataclasses.dataclass
class Settings:
    """Data beside a client."""

    limit: int
    client: Any = dataclasses.field(default_factory=threading.Lock)


class Level(enum.Enum):
    LOW = 1


class Higher(enum.Enum):
    LOW = 2


Higher.__qualname__ = Level.__qualname__


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ([len, 1], [len, 2]),
        ((str.upper, {"a": [1]}), (str.upper, {"a": [2]})),
        ({"f": len, "k": 1}, {"f": len, "k": 2}),
        ({len, 1}, {len, 2}),
        ([lambda x: x], [lambda x: -x]),
        ([Client(1)], [Client(2)]),
        (Settings(1), Settings(2)),
        (Level.LOW, Higher.LOW),
        (MappingProxyType({"a": 1}), MappingProxyType({"a": 2})),
        (ChainMap({"a": 1}), ChainMap({"a": 2})),
        (Template("a $b"), Template("c $b")),
        (Path("a/b"), Path("a/c")),
    ],
)
def test_plain_data_counts_beside_and_within_other_things(old: Any, new: Any) -> None:
    assert any("attribute held" in name or "code" in name for name in only(Plain("held", old), Plain("held", new)))
    assert only(Plain("held", old), Plain("held", old)) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (Path("/a"), Path("/b")),
        ([threading.Lock(), 1], [threading.Lock(), 1]),
        (Client(1), Client(2)),
        (Settings(1, Client(1)), Settings(1, Client(2))),
        (Settings(1), Settings(1)),
    ],
)
def test_what_is_no_setting_does_not_count(old: Any, new: Any) -> None:
    assert only(Plain("held", old), Plain("held", new)) == []


def test_a_default_of_a_partial_method_counts(folder: Path) -> None:
    source = (
        "import functools\nclass Op:\n    def of(self, item, ctx, k):\n        return item\n"
        "    process_item = functools.partialmethod(of, k=1)\noperator = Op()\n"
    )
    one, two = imported(folder, "one", source), imported(folder, "two", source.replace("k=1", "k=2"))
    assert only(one.operator, two.operator) == ["argument k"]


@pytest.mark.parametrize(
    "body", ["return my.prompts.P", "from my.prompts import P; return P", "import my.prompts as m; return m.P"]
)
def test_modules_within_modules_and_imports_within_functions_count(folder: Path, body: str) -> None:
    top = "import my.prompts\n" if body.startswith("return") else ""
    (folder / "my").mkdir()
    (folder / "my" / "__init__.py").write_text("")
    (folder / "my" / "prompts.py").write_text("P = 1\n")
    job = imported(folder, "job", f"{top}def f(row):\n    {body}\n")
    unknown = fingerprint_of(FunctionOperator(job.f))
    assert top or "my" not in sys.modules  # nothing is imported by a look
    prompts: Any = importlib.import_module("my.prompts")
    known = fingerprint_of(FunctionOperator(job.f))
    assert changed_parts(unknown, known) == []
    prompts.P = 2
    assert len(changed_parts(known, fingerprint_of(FunctionOperator(job.f)))) == 1
    for name in ("my", "my.prompts"):
        sys.modules.pop(name)


def test_a_script_and_an_import_of_it_are_the_same(folder: Path) -> None:
    source = (
        "class Client: pass\nclass Op:\n    def __init__(self):\n        self.client = Client()\n"
        "    def process_item(self, item, ctx):\n        return __name__, __file__\n"
    )
    space: dict[str, Any] = {"__name__": "__main__", "__file__": "x"}
    job = imported(folder, "job", source)
    exec(compile(source, job.__file__, "exec"), space)
    assert only(space["Op"](), job.Op()) == []


def test_what_a_local_is_said_to_be_does_not_count(folder: Path) -> None:
    source = "def f(row):\n    x: int = 1\n    return x\n"
    one, two = imported(folder, "one", source), imported(folder, "two", source.replace(": int", ""))
    assert only(FunctionOperator(one.f), FunctionOperator(two.f)) == []


@pytest.mark.parametrize("name", ["name", "version", "__getattr__"])
def test_an_operator_that_cannot_be_asked_is_named(name: str) -> None:
    def fails(self: Any, *args: Any) -> Any:
        raise KeyError("gone")

    kind = type("Broken", (Plain,), {name: fails if name == "__getattr__" else property(fails)})
    with pytest.raises(ConfigError, match="operator Broken"):
        as_operator(kind("x", 1))


def test_a_version_is_a_text_or_a_number() -> None:
    with pytest.raises(ConfigError, match="Plain: `version` must be a text or a number, not list"):
        fingerprint_of(Plain("version", [1]))


class Closed(dict[str, Any]):
    """Data that raises when it is looked at."""

    def items(self) -> Any:
        raise RuntimeError("closed")


class Holds:
    """An operator with an attribute."""

    def __init__(self, held: Any) -> None:
        self.held = held

    def process_item(self, item: Any, ctx: object) -> Any:
        return item


class Hidden(Holds):
    """Not even its attributes can be had."""

    @property
    def __dict__(self) -> Any:  # type: ignore[override]
        raise RuntimeError("hidden")


def test_what_raises_when_it_is_looked_at_is_said_to_be_unknown() -> None:
    """It is the same whatever its value: so that an edit of it goes unseen is told, and nothing else is."""
    one, other = (fingerprint_of(Holds(Closed(a=value))) for value in (1, 2))
    assert unread_parts(one) == unread_parts(other) == ["attribute held"]
    assert changed_parts(one, other) == []
    assert unread_parts(fingerprint_of(Hidden(1))) == ["some of it"]
    assert unread_parts(fingerprint_of(Holds({"a": [1, object()]}))) == []
    without = {name: value for name, value in one.items() if "cannot be read" not in name}
    assert changed_parts(without, one) == [], "an earlier version did not note it"

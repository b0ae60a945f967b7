"""Integers of any length, wherever JSON is written and read (12.2.6); bytes of other data are those of orjson."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_datagen import NodeFailedError, UnifiedNode, UnifiedNodePipeline, UnifiedPipeline, logs
from llm_datagen.errors import FailureRecord
from llm_datagen.llm import LLMOperator
from llm_datagen.llm.answers.json_schema import JsonSchema
from llm_datagen.llm.answers.provenance import prompt_hash
from llm_datagen.llm.cache.cassette_file import Cassette
from llm_datagen.llm.cache.response_cache import key_of
from llm_datagen.llm.cost.budget import most_prompt_tokens
from llm_datagen.llm.endpoints import Endpoint, identity_of
from llm_datagen.llm.types import ChatAnswer, ChatRequest
from llm_datagen.operators.references import operators_of
from llm_datagen.runs.logs.writer import open_log
from llm_datagen.streams import Span, StreamFactory
from llm_datagen.streams.dead_letters import dead_letter, read_dead_letters
from llm_datagen.streams.formats.json_text import dumps, loads_exactly

from .kit.support import lines, write_jsonl
from .llm.chat_server import ChatServer, Reply, completion, run_rows, serve

LONG = [2**64, -(2**63) - 1, 12345678901234567890123, -(10**40)]
VALUE = {"n": LONG, "deep": [{"big": 2**70, "f": 0.1, "none": None, "text": "é漢"}], "short": [2**64 - 1, -(2**63)]}

_plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(_plain, st.sampled_from([0, orjson.OPT_SORT_KEYS, orjson.OPT_INDENT_2]))
def test_what_orjson_can_write_keeps_its_bytes(value: Any, option: int) -> None:
    """So keys of kept answers, cassettes and prompt hashes stay as they are."""
    try:
        expected = orjson.dumps(value, option=option)
    except TypeError:  # half a surrogate pair
        with pytest.raises(TypeError):
            dumps(value, option=option)
        return
    assert dumps(value, option=option) == expected
    assert dumps([value, 2**70], option=orjson.OPT_SORT_KEYS).endswith(b",1180591620717411303424]")


@given(st.recursive(st.integers(-(2**90), 2**90), lambda inner: st.dictionaries(st.text("ab"), inner, max_size=3)))
def test_integers_of_any_length_are_written_and_read(value: Any) -> None:
    assert loads_exactly(dumps(value)) == value


def test_all_rules_of_orjson_hold_beside_a_long_integer() -> None:
    @dataclasses.dataclass
    class Answer:
        n: int
        inner: list[int]

    assert dumps({"b": 2**70, "a": 1}, option=orjson.OPT_SORT_KEYS) == b'{"a":1,"b":%d}' % (2**70)
    assert dumps(Answer(2**71, [2**72])) == b'{"n":%d,"inner":[%d]}' % (2**71, 2**72)
    for bad in ({"n": 2**70, 1: 2}, {"n": 2**70, "x": object()}, {"n": 2**70, "x": "\ud83d"}, {"n": 10**5000}):
        with pytest.raises(TypeError):
            dumps(bad)
    assert dumps({"n": 2**70, "x": object}, default=lambda value: value.__name__).endswith(b'"x":"object"}')


@pytest.mark.integration
def test_dead_letters_hold_them(tmp_path: Path) -> None:
    def refuse(row: Any) -> Any:
        raise ValueError(str(row["n"]))

    source = write_jsonl(tmp_path / "in.jsonl", [])
    source.write_bytes(dumps(VALUE) + b"\n")
    out = tmp_path / "out.jsonl"
    pipeline = UnifiedPipeline(
        [refuse], f"jsonl://{source}", f"jsonl://{out}", results_dir=tmp_path, log_file=None, on_error="dead_letter"
    )
    pipeline.create("p").run()
    (found,) = lines(tmp_path / "out.jsonl.errors.jsonl")
    assert found["input"] == {**VALUE, "_i": 0}
    assert [each["input"] for each in read_dead_letters(StreamFactory.create(f"jsonl://{out}"), checked=True)] == [
        found["input"]
    ]
    line = dead_letter(
        2**70,
        [2**80],
        record=b"",
        node_id="n",
        error=FailureRecord("E", "text", ""),
        attempts=1,
        source=Span(0, 1, 0, 9),
    )
    assert (loads_exactly(line)["_i"], loads_exactly(line)["input"]) == (2**70, [2**80])


@pytest.mark.integration
def test_a_stream_may_have_them_as_ids(tmp_path: Path) -> None:
    """Commit records name the first and the last id; the run state names the row that failed."""
    ill = tmp_path / "ill"
    ill.touch()

    def stop(row: Any) -> Any:
        if row["n"] == 3 and ill.exists():
            raise ValueError("no")
        return row

    source = f"jsonl://{tmp_path / 'in.jsonl'}"
    with StreamFactory.create(source).get_writer() as writer:
        writer.write([{"_i": 2**70 + n, "n": n} for n in range(4)])
    node = UnifiedNode("a").bind_io(source, f"jsonl://{tmp_path / 'out.jsonl'}").set_operator(stop)
    node.root = None
    pipeline = UnifiedNodePipeline([node], results_dir=str(tmp_path), log_file=None)
    with pytest.raises(NodeFailedError):
        pipeline.create("p").run()
    assert len(lines(tmp_path / "out.jsonl")) == 3
    ill.unlink()
    pipeline.resume("p").run()
    assert [row["_i"] - 2**70 for row in lines(tmp_path / "out.jsonl")] == [0, 1, 2, 3]


def _request(**params: Any) -> ChatRequest:
    return ChatRequest(messages=[{"role": "user", "content": "é漢"}], params=params, model="m")


def test_keys_of_requests_stay_and_tell_long_integers_apart() -> None:
    asked = orjson.dumps(
        ["m", {"a": [1, 0.5, None], "b": 2**64 - 1}, [{"role": "user", "content": "é漢"}], 0], option=32
    )
    assert key_of(_request(b=2**64 - 1, a=[1, 0.5, None])) == hashlib.sha256(asked).digest()
    assert prompt_hash(_request(temperature=0.5)) == "f78b987cc188d5ed"
    seeds = [2**70, 2**70 + 1, float(2**70)]
    assert (
        len({key_of(_request(seed=seed)) for seed in seeds}) == len({prompt_hash(_request(seed=s)) for s in seeds}) == 3
    )
    assert len({identity_of([Endpoint(model="m", params={"seed": seed})]) for seed in seeds}) == 3
    assert most_prompt_tokens(_request(seed=2**70)) - most_prompt_tokens(_request(seed=1)) == len(str(2**70)) - 1


@pytest.mark.integration
def test_requests_and_answers_keep_them_on_the_way_to_an_endpoint(tmp_path: Path) -> None:
    """Sent, kept in the journal and on a cassette, and checked by a schema, with all digits."""
    schema = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 2**70}}, "required": ["n"]}
    calls = [{"type": "function", "function": {"name": "f", "arguments": {"n": 2**70 + 1}}}]
    server = ChatServer()
    http = serve(server)
    try:
        reply = completion(json.dumps({"n": 2**70 + 1}))
        reply["choices"][0]["message"]["tool_calls"] = calls
        server.reply = lambda seen: Reply(reply)
        options = {"output": schema, "params": {"seed": 2**70 + 3}, "cache": str(tmp_path / "kept")}
        operator = server.operator(**options, extra_columns={"tool_calls": "calls"})
        rows = [asyncio.run(run_rows(operator, [{"_i": 0, "q": "x"}])) for _ in range(2)]
    finally:
        http.shutdown()
        http.server_close()
    assert rows == [[{"_i": 0, "q": "x", "n": 2**70 + 1, "calls": calls}]] * 2
    assert [seen.body["seed"] for seen in server.seen] == [2**70 + 3]  # the second is kept
    assert server.seen[0].body["response_format"]["json_schema"]["schema"]["properties"]["n"]["minimum"] == 2**70
    assert JsonSchema(schema).violation({"n": 2**70 - 1}) == f"$.n breaks minimum {2**70}"


def test_a_cassette_plays_them(tmp_path: Path) -> None:
    answer = ChatAnswer(text="a", extras={"tool_calls": [{"n": 2**70}]})
    path = tmp_path / "tape.jsonl"
    Cassette(path, "all").record(_request(seed=2**70), answer)
    played = Cassette(path, "none").play(_request(seed=2**70))
    assert played is not None
    assert played.extras == answer.extras


def test_log_lines_show_them(tmp_path: Path) -> None:
    log = open_log(tmp_path / "own.log")
    log.info("[Operator]", n=2**70, inner=[2**80], text="x")
    log.close()
    (event,) = logs.read(tmp_path / "own.log")
    assert event.fields == {"n": 2**70, "inner": [2**80], "text": "x"}


def test_an_operator_is_made_again_with_them(tmp_path: Path) -> None:
    """The run state keeps the arguments of operators."""
    source = write_jsonl(tmp_path / "in.jsonl", [{"n": 1}])
    pipeline = UnifiedPipeline(
        [LLMOperator("{{ n }}", model="m", params={"seed": 2**70})],
        f"jsonl://{source}",
        f"jsonl://{tmp_path / 'out.jsonl'}",
        results_dir=tmp_path,
        log_file=None,
    )
    pipeline.create("a")
    run_state = loads_exactly((tmp_path / "a" / "runtime.json").read_bytes())
    (again,) = operators_of(run_state)
    assert again.fingerprint() == run_state["nodes"][0]["fingerprint"]
    assert run_state["nodes"][0]["operator_ref"]["with"]["params"] == {"seed": 2**70}

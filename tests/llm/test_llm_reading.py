"""JSON is read out of what models put around it, and nothing is guessed: what may have lost something is no data."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_datagen.errors import ConfigError
from llm_datagen.llm import LLMAnswerError
from llm_datagen.llm.answers.reading import read_json, split_thoughts

from .chat_server import ChatServer, Context, completion, run_rows

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": False}
ROW = {"_i": 3, "q": "x"}
WRAPPED = {
    "fences": '```json\n{"n": 7}\n```',
    "fences without a language": '```\n{"n": 7}\n```\n',
    "prose": 'Sure [1], here (in {braces}) it is:\n\n{"n": 7}\n\nAnything else?',
    "thoughts": '<think>\nIs it {"n": 8}? "No.\n</think>\n\n{"n": 7}',
    "empty thoughts": '<think>\n\n</think>\n\n{"n": 7}',
    "thoughts without their beginning": 'I {think} "so.\n</think>{"n": 7}',
    "thoughts and fences": '<think>hm</think>Well:\n```json\n{"n": 7}\n```',
    "byte order mark": '\ufeff{"n": 7}',
    "byte order mark and thoughts": '\ufeff<think>hm</think>{"n": 7}',
    "trailing comma": '{"n": 7,\n}',
    "list of one": '[{"n": 7}]',
    "list of one with a trailing comma": '[{"n": 7,},]',
    "twice": '{"n": 7}\n{"n": 7}',
    "twice, in fences and again": 'So:\n```json\n{"n": 7}\n```\nThat is {"n":7}.',
    "said as an example, and as the answer": 'For example {"n": 7}. And so it is: {"n": 7}',
    "an example elsewhere": 'There are sevens, for example in [1]. Here is one as you like: {"n": 7}',
    "JSON in JSON": '"{\\"n\\": 7}"',
    "one brace too many": '{"n": 7}}',
    "a lead-in": 'Certainly! Here\'s the requested JSON object:\n\n{"n": 7}\n\nLet me know if you need anything else.',
    "a format that was asked for": 'Here is the answer in JSON format: {"n": 7}',
    "reasons, and an answer": 'It is not six, as six would be even. The answer is: {"n": 7}',
    "reasons, and a fence": 'It may be seven: the days of a week.\n~~~json\n{"n": 7}\n~~~\nSee the calendar.',
    "tags": '<json>{"n": 7}</json>',
    "a language without a fence": 'json\n{"n": 7}',
}
UNREADABLE = {
    "cut off": ('{"n": 7', "does not end"),
    "cut off in a string": ('{"n": 7, "note": "unfinis', "does not end"),
    "cut off in a fence": ('```json\n{"n": 7, "more": [1', "does not end"),
    "cut off in thoughts": ('<think>maybe {"n": 7}', "begins to think, and does not end"),
    "two that differ": ('{"n": 7} {"n": 8}', "2 JSON values that differ"),
    "an example and the answer": ('Like {"n": 0}: {"n": 7}', "2 JSON values that differ"),
    "an example alone": ('I would need more, for example {"n": 0}. I cannot tell.', "do not give it as the answer"),
    "an example in fences": ('E.g.:\n```json\n{"n": 0}\n```\nMy answer is 4.', "do not give it as the answer"),
    "an example in a list": ('Such as `[{"n": 0}]`', "do not give it as the answer"),
    "an example in Chinese": ('例如\uff1a{"n": 0}', "do not give it as the answer"),
    "an example, twice": ('Something like {"n": 0}, or for instance {"n": 0}', "do not give it as the answer"),
    "an example before the answer": ('For example {"n": 0} … my answer is {"n": 4}', "2 JSON values that differ"),
    **{
        f"speaks of it: {text}": (text.replace("{…}", '{"n": 7}'), "do not give it as the answer")
        for text in (
            "The answer is NOT {…}",
            "The answer is not:\n\n{…}",
            "Instead of {…} I would refuse.",
            "It would be wrong to answer {…}.",
            "{…}\nWait, that is wrong.",
            "{…} is what nobody says",
            "First I considered {…} but no",
            "Format: {…}",
            "The format is:\n```json\n{…}\n```",
            "Here it is:\n```json\n{…}\n```\nWait, that isn't right.",
            "Do not say this.\n```json\n{…}\n```",
            "Here it is: {…} Or not: {…}",
            "A draft:\n{…}",
            "La respuesta no es {…}",
            "格式\uff1a{…}",
        )
    },
    "a damaged one and a whole one": ('{"n" 7} {"n": 7}', "it is not JSON"),
    "one inside a damaged one": ('{"a": {"n": 7} "b": 1}', "it is not JSON"),
    "the end of another": ('8, "m": 1} {"n": 7}', "closes a bracket"),
    "a name twice": ('{"n": 7, "n": 8}', "says a name twice"),
    "no number": ('{"n": NaN}', "NaN, which is no JSON number"),
    "too large a number": ('{"n": 1e999}', "too large"),
    "prose": ("seven [7]", "it is not JSON"),
    "too deep": ('{"n":' * 5000 + "1" + "}" * 5000, "nested too deeply"),
}


@pytest.mark.parametrize("text", WRAPPED.values(), ids=WRAPPED)
def test_what_stands_around_an_answer_is_taken_off_and_no_call_is_made_for_it(server: ChatServer, text: str) -> None:
    server.always(completion(text))
    (row,) = asyncio.run(run_rows(server.operator(output=SCHEMA, meta=True), [ROW]))
    assert (row["n"], row["_meta"]["node_0"]["repaired"]) == (7, "local")
    assert len(server.seen) == 1


@pytest.mark.sampled(8)
@pytest.mark.parametrize("text", WRAPPED.values(), ids=WRAPPED)
def test_a_strict_operator_takes_nothing_off(server: ChatServer, text: str) -> None:
    server.always(completion(text))
    with pytest.raises(LLMAnswerError, match="cannot be used"):
        asyncio.run(run_rows(server.operator(output=SCHEMA, lenient=False, max_repairs=0), [ROW]))


@pytest.mark.parametrize(("text", "message"), UNREADABLE.values(), ids=UNREADABLE)
def test_what_may_have_lost_something_is_not_read(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        read_json(text, lenient=True)
    assert "unfinis" not in str(caught.value)


def test_what_is_to_the_schema_only_after_a_guess_is_asked_for_again(server: ChatServer) -> None:
    server.always(completion('```json\n{"n": "7"}\n```'))
    with pytest.raises(LLMAnswerError, match=r"after 2 answers: .*\$\.n is not of type integer"):
        asyncio.run(run_rows(server.operator(output=SCHEMA), [ROW]))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"text": "one\ntwo\tthree"}', {"text": "one\ntwo\tthree"}),
        ('```json\n{"text": "```py\\nx = {\\n```, </think> and \\"}"}\n```',
         {"text": '```py\nx = {\n```, </think> and "}'}),
        ('{"text": ", }", "more": [",]"],}', {"text": ", }", "more": [",]"]}),
        ('{"text": "cut \\ud83d"}', {"text": "cut \ufffd"}),
        ('{"\\ud83d\\ude00": ["\\ud83d\\ude00", "\\udc00x"]}', {"😀": ["😀", "\ufffdx"]}),
    ],
)  # fmt: skip
def test_strings_come_out_as_they_were_meant(text: str, value: Any) -> None:
    assert read_json(text, lenient=True).value == value


@pytest.mark.parametrize("lenient", [True, False])
def test_integers_are_exact_and_a_whole_answer_is_not_called_repaired(lenient: bool) -> None:
    text = '{"n": 12345678901234567890123, "a": [1.5, "\\ud83d\\ude00", {"n": 1, "n": 1}]}'
    value = {"n": 12345678901234567890123, "a": [1.5, "😀", {"n": 1}]}
    assert read_json(text, lenient=lenient) == (value, False)


def test_a_long_integer_becomes_a_column_as_it_is(server: ChatServer) -> None:
    server.always(completion('{"n": 12345678901234567890123}'))
    assert asyncio.run(run_rows(server.operator(output=SCHEMA), [ROW])) == [{**ROW, "n": 12345678901234567890123}]


def test_half_a_surrogate_pair_is_refused_by_a_strict_reader() -> None:
    with pytest.raises(ValueError, match="half of a surrogate pair"):
        read_json('{"a": "\\ud83d"}', lenient=False)


objects = st.dictionaries(
    st.text(max_size=4),
    st.recursive(
        st.none() | st.integers() | st.text(max_size=8) | st.floats(allow_nan=False, allow_infinity=False),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
        max_leaves=6,
    ),
    max_size=4,
)


@pytest.mark.slow
@given(value=objects, indent=st.none() | st.integers(0, 2), ascii_only=st.booleans())
def test_whatever_the_object_is_it_comes_out_of_fences_as_it_went_in(
    value: Any, indent: int | None, ascii_only: bool
) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    assert read_json(f"Here:\n```json\n{text}\n```\n", lenient=True) == (value, True)
    assert read_json(text, lenient=True) == (value, False)


@given(value=objects.filter(bool), data=st.data())
def test_whatever_is_cut_is_never_read_as_an_object(value: Any, data: Any) -> None:
    text = "```json\n" + json.dumps(value)
    at = data.draw(st.integers(8, len(text) - 1))
    with pytest.raises(ValueError, match="it is not JSON"):
        read_json(text[:at], lenient=True)


@pytest.mark.parametrize(
    ("text", "thoughts", "rest"),
    [
        ("<think>\nhm\n</think>\n\nyes", "hm", "yes"),
        ("hm</think>yes", "hm", "yes"),
        ("<think></think> yes", None, "yes"),
        ("<THINKING>a</THINKING>b", "a", "b"),
        ("yes, 1 < 2", None, "yes, 1 < 2"),
        ('{"a": "</think>"}', None, '{"a": "</think>"}'),
    ],
)
def test_a_think_block_is_told_from_the_answer(text: str, thoughts: str | None, rest: str) -> None:
    assert split_thoughts(text) == (thoughts, rest)


def test_thoughts_without_an_end_are_no_answer() -> None:
    with pytest.raises(ValueError, match="does not end"):
        split_thoughts("<think>hm")


@pytest.mark.parametrize(
    ("output", "text", "columns"),
    [
        ("answer", "<think>so\n</think>\n\nyes", {"answer": "yes", "why": "so"}),
        ("answer", "so</think>yes", {"answer": "yes", "why": "so"}),
        ("answer", "<think>\n</think>yes", {"answer": "yes", "why": None}),
        ("answer", "yes", {"answer": "yes", "why": None}),
        ("answer", "I <think>so</think> too", {"answer": "I <think>so</think> too", "why": None}),
        (SCHEMA, '<think>so</think>{"n": 7}', {"n": 7, "why": "so"}),
    ],
)
def test_a_think_block_becomes_the_column_of_the_reasoning(
    server: ChatServer, output: Any, text: str, columns: Any, tmp_path: Path
) -> None:
    server.always(completion(text))
    operator = server.operator(output=output, extra_columns={"reasoning": "why"}, cache=str(tmp_path / "cache"))
    assert asyncio.run(run_rows(operator, [ROW, ROW])) == [{**ROW, **columns}] * 2
    assert len(server.seen) == 1


def test_what_is_nothing_but_thoughts_is_asked_for_again(server: ChatServer) -> None:
    server.always(completion("<think>so</think>\n"))
    with pytest.raises(LLMAnswerError, match="after 2 answers: it is empty"):
        asyncio.run(run_rows(server.operator(extra_columns={"reasoning": "why"}), [ROW]))


def test_an_example_that_a_lenient_reader_would_read_is_refused(server: ChatServer) -> None:
    examples = [{"item": {"q": "x"}, "answer": '```json\n{"n": 7}\n```'}]
    with pytest.raises(ConfigError, match="not plain JSON"):
        server.operator(output=SCHEMA, examples=examples)


def test_the_log_and_the_usage_know_of_one_call(server: ChatServer) -> None:
    server.always(completion(WRAPPED["twice"]))
    ctx = Context()
    asyncio.run(run_rows(server.operator(output=SCHEMA), [ROW], ctx))
    assert sum(used.get("requests", 0) for used in ctx.usage) == 1

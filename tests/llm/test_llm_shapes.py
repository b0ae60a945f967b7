"""The forms of a schema that people have: each makes the right columns, or is refused with what to write instead."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, ConfigDict, Field, RootModel, computed_field
from typing_extensions import TypedDict

from llm_datagen import UnifiedPipeline
from llm_datagen.errors import ConfigError
from llm_datagen.llm.answers.formats import answer_format

from .chat_server import ChatServer, Reply, completion, run_rows

N = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": False}


class Point(BaseModel):
    n: int


class Node(BaseModel):
    n: int
    children: list[Node] = []


class Aliased(BaseModel):
    n: int = Field(alias="the-n")
    model_config = ConfigDict(serialize_by_alias=True)


class Out(BaseModel):
    n: int = Field(validation_alias="in", serialization_alias="out")

    @computed_field  # type: ignore[prop-decorator]
    @property
    def twice(self) -> int:
        return 2 * self.n


class Points(RootModel[list[Point]]):
    pass


class Typed(TypedDict):
    n: int


@dataclass
class Plain:
    n: int


class Hidden(BaseModel):
    n: int = Field(alias="_n")


class Map(RootModel[dict[str, int]]):
    pass


class Choice(RootModel[Annotated[Point | Node, Field()]]):
    pass


SEVEN = '{"n": 7}'
TREE = '{"n": 7, "children": [{"n": 8, "children": []}]}'
TREE_ROW = {"n": 7, "children": [{"n": 8, "children": []}]}
REF = {"$ref": "#/$defs/N", "$defs": {"N": N}}
OBJECTS = {
    "$ref at the root": (REF, SEVEN, {"n": 7}),
    "$ref to a $ref": ({"$ref": "#/$defs/M", "$defs": {"M": {"$ref": "#/$defs/N"}, "N": N}}, SEVEN, {"n": 7}),
    "$ref by definitions": ({"$ref": "#/definitions/N", "definitions": {"N": N}}, SEVEN, {"n": 7}),
    "$ref by an anchor": ({"$ref": "#here", "$defs": {"N": {**N, "$anchor": "here"}}}, SEVEN, {"n": 7}),
    "recursive": (
        {**N, "properties": {"n": {"type": "integer"}, "children": {"items": {"$ref": "#"}}}}, TREE, TREE_ROW,
    ),
    "type in a list": ({**N, "type": ["object"]}, SEVEN, {"n": 7}),
    "no type": ({name: value for name, value in N.items() if name != "type"}, SEVEN, {"n": 7}),
    "allOf": ({"type": "object", "allOf": [{"properties": {"n": {"type": "integer"}}}]}, SEVEN, {"n": 7}),
    "name and schema": ({"name": "point", "schema": N, "strict": True}, SEVEN, {"n": 7}),
    "response_format": ({"type": "json_schema", "json_schema": {"name": "point", "schema": N}}, SEVEN, {"n": 7}),
    "function": ({"type": "function", "function": {"name": "point", "parameters": N}}, SEVEN, {"n": 7}),
    "tool": ({"name": "point", "input_schema": N}, SEVEN, {"n": 7}),
    "properties called name and schema": (
        {"type": "object", "properties": {"name": {"type": "string"}, "schema": {"type": "object"}}},
        '{"name": "a", "schema": {}}', {"name": "a", "schema": {}},
    ),
    "model": (Point, SEVEN, {"n": 7}),
    "recursive model": (Node, TREE, TREE_ROW),
    "model with an alias": (Aliased, '{"the-n": 7}', {"the-n": 7}),
    "model with other names out": (Out, '{"in": 7}', {"out": 7, "twice": 14}),
    "model of a model": (RootModel[Point], SEVEN, {"n": 7}),
    "dataclass": (Plain, SEVEN, {"n": 7}),
    "TypedDict": (Typed, SEVEN, {"n": 7}),
}  # fmt: skip
LIST = {"type": "array", "items": {"$ref": "#/$defs/N"}}
LISTS: dict[str, Any] = {
    "array": {"type": "array", "items": N},
    "array of $ref": {"type": "array", "items": {"$ref": "#/$defs/N"}, "$defs": {"N": N}, "minItems": 1},
    "array behind a $ref": {"$ref": "#/$defs/L", "$defs": {"N": N, "L": LIST}},
    "array without a type": {"items": N},
    "named array": {"name": "points", "schema": {"type": "array", "items": N}},
    "list[Model]": list[Point],
    "RootModel of a list": Points,
    "list[dataclass]": list[Plain],
}
REFUSED: dict[str, tuple[Any, str]] = {
    "list of texts": ({"type": "array", "items": {"type": "string"}}, "one column, as .*'NAME': <this schema>"),
    "list[str]": (list[str], "elements of the list .* one column"),
    "map": ({"type": "object", "additionalProperties": {"type": "integer"}}, r"\(a map\?\).* one column"),
    "pattern map": ({"type": "object", "patternProperties": {"^a": {"type": "integer"}}}, r"\(a map\?\)"),
    "model of a map": (Map, r"\(a map\?\).*in pydantic a model with one field"),
    "dict[str, int]": (dict[str, int], r"\(a map\?\)"),
    "alternatives": ({"anyOf": [N, {**N, "title": "other"}]}, r"alternatives \(anyOf\) at its root"),
    "model of alternatives": (Choice, r"alternatives \(anyOf\) at its root"),
    "nullable": ({**N, "type": ["object", "null"]}, "may be object or null"),
    "text": ({"type": "string"}, "type string has no columns"),
    "int": (int, "type integer has no columns"),
    "anything": ({}, "names no properties"),
    "hidden column": ({"type": "object", "properties": {"_n": {"type": "integer"}}}, "'_n'.*another name"),
    "hidden alias": (Hidden, "'_n'.*another name"),
    "loop": ({"$ref": "#/$defs/A", "$defs": {"A": {"$ref": "#/$defs/A"}}}, "refers to itself"),
    "list of roots": ({"type": "array", "items": {"properties": {"more": {"$ref": "#"}}}}, r"under \$defs"),
    "an instance": (Point(n=1), "output must be a column name"),
}


@pytest.mark.sampled(6)
@pytest.mark.parametrize(("output", "text", "row"), OBJECTS.values(), ids=OBJECTS)
def test_an_object_becomes_columns_whatever_form_its_schema_has(
    server: ChatServer, output: Any, text: str, row: Any
) -> None:
    server.always(completion(text))
    assert answer_format(output).columns == tuple(row)
    assert asyncio.run(run_rows(server.operator(output=output), [{"_i": 0, "q": "x"}])) == [{"_i": 0, "q": "x", **row}]
    sent = server.seen[0].body["response_format"]["json_schema"]["schema"]
    assert sent["type"] == "object"
    assert "$ref" not in sent


@pytest.mark.parametrize("output", LISTS.values(), ids=LISTS)
@pytest.mark.parametrize("text", ['{"items": [{"n": 1}, {"n": 2}]}', '[{"n": 1}, {"n": 2}]'], ids=["wrapped", "bare"])
def test_every_element_of_a_list_becomes_a_row(server: ChatServer, output: Any, text: str) -> None:
    server.always(completion(text))
    (rows,) = asyncio.run(run_rows(server.operator(output=output, meta=True), [{"_i": 0, "q": "x"}]))
    assert [(row["q"], row["n"], row["_meta"]["node_0"]["rows"]) for row in rows] == [("x", 1, 2), ("x", 2, 2)]
    sent = server.seen[0].body["response_format"]["json_schema"]
    assert (sent["schema"]["type"], sent["schema"]["required"], sent["strict"]) == ("object", ["items"], True)


def test_elements_get_ids_of_their_own_and_a_list_of_none_is_a_row_that_is_left_out(
    server: ChatServer, tmp_path: Path
) -> None:
    server.reply = lambda seen: _reply([{"n": 1}, {"n": 2}] if "x" in seen.body["messages"][0]["content"] else [])
    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text('{"q": "x"}\n{"q": "y"}\n', encoding="utf-8")
    pipeline = UnifiedPipeline(
        [server.operator(output=list[Point])], f"jsonl://{source}", f"jsonl://{output}", log_file=None
    )
    report = pipeline.create("p", results_dir=str(tmp_path / "results")).run()
    rows = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
    assert [(row["q"], row["n"]) for row in rows] == [("x", 1), ("x", 2)]
    assert len({row["_i"] for row in rows}) == 2
    assert report.nodes[0].filtered == 1


def _reply(rows: list[Any]) -> Reply:
    return Reply(completion(json.dumps({"items": rows})))


@pytest.mark.parametrize(("output", "message"), REFUSED.values(), ids=REFUSED)
def test_what_makes_no_columns_is_refused_with_what_to_write_instead(output: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        answer_format(output)


def test_what_is_no_object_breaks_a_schema_that_does_not_say_its_type(server: ChatServer) -> None:
    parse = answer_format({"properties": {"n": {"type": "integer"}}}).parse
    with pytest.raises(ValueError, match="no JSON object"):
        parse("7")
    with pytest.raises(ValueError, match="no list of JSON objects"):
        answer_format({"items": {"properties": {"n": {}}}}).parse('{"n": 7}')


def test_an_example_of_a_list_is_shown_as_the_model_is_to_write_it(server: ChatServer) -> None:
    server.always(completion('{"items": []}'))
    examples = [{"item": {"q": "y"}, "answer": [{"n": 1}]}]
    asyncio.run(run_rows(server.operator(output=list[Point], examples=examples), [{"_i": 0, "q": "x"}]))
    assert json.loads(server.seen[0].body["messages"][1]["content"]) == {"items": [{"n": 1}]}


@dataclass
class Other:
    m: int


def test_another_type_of_the_elements_is_another_operator(server: ChatServer) -> None:
    one, same, other, single = (server.operator(output=each).fingerprint() for each in (LISTS["list[dataclass]"],
        list[Plain], list[Other], Plain))  # fmt: skip
    assert one == same
    assert one["output"] != other["output"]
    assert one["output"] != single["output"]


def test_other_extra_columns_are_another_operator(server: ChatServer) -> None:
    one, other = server.operator(), server.operator(extra_columns={"reasoning": "why"})
    assert one.fingerprint() != other.fingerprint()


def test_a_name_that_a_provider_takes_is_kept(server: ChatServer) -> None:
    sent = answer_format({"name": "the point", "schema": N}).request_fields()["response_format"]["json_schema"]
    assert sent == {"name": "the_point", "schema": N, "strict": True}

"""The definitions, and the stages that need no model."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any, NoReturn

import pytest

from llm_datagen.cli.demo.definitions import definition_lines
from llm_datagen.cli.demo.operators import ANSWER_SCHEMA, CleanDefinition, JudgeAnswer, clean_gloss, question_writer
from llm_datagen.llm.answers.json_schema import JsonSchema
from llm_datagen.streams.rows import Rejected


class Context:
    """What an operator is given as `ctx`; remembers what was logged."""

    node_id = "node_0"
    pipeline_id = "p"
    folder = None
    state: Any = None

    def __init__(self) -> None:
        self.lines: list[str] = []

    def report_usage(self, usage: Any) -> None:
        raise AssertionError

    def is_cancelled(self) -> bool:
        return False

    def reject(self, reason: str) -> NoReturn:
        """Leave the row out."""
        raise Rejected(reason)

    def is_paused(self) -> bool:
        return False

    def log(self, message: str, **fields: Any) -> None:
        self.lines.append(f"{message} {fields}")


ROWS = [json.loads(line) for line in definition_lines()]


def test_there_are_fifty_definitions_and_their_licence_comes_along() -> None:
    assert len(ROWS) == 50
    assert len({row["synset"] for row in ROWS}) == len({row["word"] for row in ROWS}) == 50
    for row in ROWS:
        assert list(row) == ["synset", "word", "topic", "definition"]
        assert row["word"].isalpha()
        assert 40 <= len(row["definition"]) <= 200
    notice = files("llm_datagen.cli.demo").joinpath("data", "WORDNET-LICENSE.txt").read_text(encoding="utf-8")
    assert "WordNet 3.1 Copyright 2011 by Princeton University" in notice
    assert "tests/demo/select_definitions.py" in notice
    assert Path(__file__).with_name("select_definitions.py").exists()
    assert "Permission to use, copy, modify and distribute" in notice


@pytest.mark.parametrize(
    ("gloss", "clean"),
    [
        ('a small lake; "the pond was too small for sailing"', "a small lake"),
        ('kine; "seven thin kine"- Bible; "a team of oxen"', "kine"),
        ("the first meal (usually in the morning)", "the first meal"),
        ("very light rain;  stronger than\tmist", "very light rain; stronger than mist"),
        ('a thing; "a quotation that was cut off', "a thing"),
        ('"nothing but a quotation"', ""),
    ],
)
def test_examples_asides_and_stray_spaces_are_taken_out_of_a_gloss(gloss: str, clean: str) -> None:
    assert clean_gloss(gloss) == clean


def test_a_definition_becomes_a_sentence_and_the_row_given_is_left_alone() -> None:
    row = {"_i": 1, "word": "umbrella", "definition": 'a canopy; "take your umbrella"'}
    assert CleanDefinition().process_item(row, Context()) == {
        "_i": 1,
        "word": "umbrella",
        "definition": "a canopy",
        "text": "An umbrella is a canopy.",
    }
    assert row["definition"] == 'a canopy; "take your umbrella"'


def test_an_entry_that_says_nothing_is_filtered() -> None:
    assert CleanDefinition().process_item({"word": "x", "definition": '"only an example"'}, Context()) is None


def test_every_definition_survives_the_cleaning() -> None:
    texts = [CleanDefinition().process_item(row, Context()) for row in ROWS]
    assert all(row and row["text"].endswith(".") and '"' not in row["text"] for row in texts)


def judged(**changes: Any) -> str | None:
    row = {"word": "pond", "definition": "a small lake", "question": "What is a pond?", "answer": "A small lake."}
    return JudgeAnswer().fault({**row, **changes})


def test_an_answer_that_holds_is_kept() -> None:
    row = {"_i": 0, "word": "pond", "definition": "a lake", "question": "What is a pond?", "answer": "A lake."}
    assert JudgeAnswer().process_item(row, Context()) is row
    assert judged() is None
    assert judged(answer="A pond is a small lake.") is None


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"question": "What is a pond"}, "the question ends in a question mark"),
        ({"question": "What is a river?"}, "the question is about the word"),
        ({"answer": " "}, "the answer says something"),
        ({"answer": "A pond is a pond."}, "the answer says something"),
        ({"question": "A small pond?", "answer": "A small pond."}, "the answer is not the question"),
        ({"answer": "A small lake, and often a"}, "the answer is a whole sentence"),
        ({"answer": "A small lake in a small lake in a small lake."}, "the answer does not go round in circles"),
        ({"answer": "A small planet of ice and dust."}, "the answer comes from the definition"),
    ],
)
def test_an_answer_that_breaks_a_rule_is_filtered_and_the_log_says_which(changes: dict[str, str], rule: str) -> None:
    assert judged(**changes) == rule
    ctx = Context()
    row = {"_i": 7, "word": "pond", "definition": "a small lake", "question": "What is a pond?", "answer": "A lake."}
    assert JudgeAnswer().process_item({**row, **changes}, ctx) is None
    assert ctx.lines == [f"answer dropped {{'row': 7, 'rule': {rule!r}}}"]


def test_the_stages_have_names_and_where_the_model_is_is_no_part_of_them() -> None:
    JsonSchema(ANSWER_SCHEMA)
    one = question_writer(Path("/cache/model.gguf"))
    two = question_writer(Path("/moved/model.gguf"))
    assert one.name == two.name == "WriteQuestion"
    assert (CleanDefinition().name, JudgeAnswer().name) == ("CleanDefinition", "JudgeAnswer")

"""What an answer must look like, and the rows that it becomes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llm_datagen.llm.answers.columns import checked_columns
from llm_datagen.llm.import_string import imported, is_import_path
from llm_datagen.llm.types import AnswerFormat, Parsed


def answer_format(output: Any, *, lenient: bool = True) -> AnswerFormat:
    """Return the format that `output` stands for.

    Args:
        output: a column name, a JSON schema (dict; also as providers take it, ``{"name": …, "schema": …}``), a type
            that pydantic knows (a model class, a list of one, a dataclass, a TypedDict), or where to import such from,
            as ``"module:Name"``. Lists of objects make a row of each.
        lenient: whether JSON is read out of what stands around it, see `read_json`.

    Raises:
        ConfigError: naming what is wrong with `output`.
    """
    if is_import_path(output):
        output = imported(output, what="output")
    if isinstance(output, str):
        return TextFormat(output)
    from llm_datagen.llm.answers.json_formats import ModelFormat, SchemaFormat

    if isinstance(output, Mapping):
        return SchemaFormat(output, lenient=lenient)
    return ModelFormat(output, lenient=lenient)


class TextFormat:
    """The answer as it is, in one column."""

    is_list = False

    def __init__(self, column: str) -> None:
        self.columns = checked_columns([column])

    def request_fields(self) -> dict[str, Any]:
        """Return what the request says about the format: nothing."""
        return {}

    def as_sent(self, answer: Any) -> Any:
        """Return the answer as it is."""
        return answer

    def parse(self, text: str) -> Parsed:
        """Return the column.

        Raises:
            ValueError: when the answer is blank.
        """
        if not text.strip():
            raise ValueError("it is empty")
        return Parsed([{self.columns[0]: text}])

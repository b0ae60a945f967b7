"""The JSON Schema of pipeline files, so that editors complete and check them: made from the types that check them.

`pipeline.schema.json`, beside this module, has it as a file; ``python -m tests.examples.generated`` writes it.
"""

from __future__ import annotations

from typing import Any

from llm_datagen import ops
from llm_datagen.cli.setting_schema import PlainSchema, Schema
from llm_datagen.cli.yaml_nodes import GRAPH
from llm_datagen.cli.yaml_spec import PIPELINE
from llm_datagen.operators import BaseOperator

_DRAFT = "http://json-schema.org/draft-07/schema#"
"""The draft that editors know best."""


def file_schema() -> Schema:
    """Return the JSON Schema of a pipeline file: of a line, or, if it has `nodes`, of a graph."""
    line, graph = (model.model_json_schema(schema_generator=PlainSchema) for model in (PIPELINE, GRAPH))
    parts = {**line.pop("$defs"), **graph.pop("$defs")}
    for part in (line, graph, *parts.values()):
        del part["title"]
    line["required"].remove("input_uri")
    line["anyOf"] = [{"required": ["input_uri"]}, {"required": ["input"]}]
    _complete(parts)
    return {
        "$schema": _DRAFT,
        "title": "A pipeline of llm-datagen",
        "type": "object",
        "properties": {"operators": {}, "nodes": {}},  # so that an editor proposes both
        "if": {"required": ["nodes"]},
        "then": graph,
        "else": line,
        "$defs": parts,
    }


def _complete(parts: dict[str, Any]) -> None:
    """Have editors propose the operators and the rules of this package."""
    known = {f"ops.{name}": getattr(ops, name) for name in ops.__all__}
    operators = ["llm.LLMOperator", *(name for name, each in known.items() if issubclass(each, BaseOperator))]
    rules = [name for name in known if name not in operators]
    for part, names in (("OperatorPart", operators), ("NodePart", operators), ("UsePart", rules)):
        use = parts[part]["properties"]["use"]
        use["anyOf"] = [{"enum": names}, {"type": use.pop("type"), "minLength": use.pop("minLength")}]

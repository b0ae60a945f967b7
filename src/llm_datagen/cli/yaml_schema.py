"""The JSON Schema of pipeline files, so that editors complete and check them: made from the types that check them.

`pipeline.schema.json`, beside this module, has it as a file; ``python -m tests.examples.generated`` writes it.
"""

from __future__ import annotations

import inspect
from typing import Any

from llm_datagen import ops
from llm_datagen.cli.setting_schema import PlainSchema, Schema, schema_of_arguments
from llm_datagen.cli.yaml_nodes import GRAPH
from llm_datagen.cli.yaml_spec import PIPELINE
from llm_datagen.operators import BaseOperator
from llm_datagen.operators.references import ENTRY_KEYS, spelled_out

_BODY = "BodyPart"

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
    """Have editors propose the operators and the rules of this package, and check what `with` gives them."""
    from llm_datagen import llm  # only here: no other command needs all that it imports

    models = {f"llm.{name}": getattr(llm, name) for name in llm.__all__}
    known: dict[str, type] = {
        **{name: each for name, each in models.items() if issubclass(each, BaseOperator)},
        **{f"ops.{name}": getattr(ops, name) for name in ops.__all__},
    }
    operators = [name for name, each in known.items() if issubclass(each, BaseOperator)]
    rules = [name for name in known if name not in operators]
    for part, names in (("OperatorPart", operators), ("NodePart", operators), ("UsePart", rules)):
        use = parts[part]["properties"]["use"]
        use["anyOf"] = [{"enum": names}, {"type": use.pop("type"), "minLength": use.pop("minLength")}]
        parts[part]["allOf"] = [_when_used(name, known[name]) for name in names]
    parts[_BODY] = _body_part(parts["OperatorPart"])
    for name, each in known.items():
        parts[name] = {"description": inspect.getdoc(each).partition("\n")[0], **schema_of_arguments(each)}  # type: ignore[union-attr]
    parts["ops.Loop"]["properties"]["body"] = _body()


def _body_part(operator: Schema) -> Schema:
    """Return what an operator within another is: one without the settings of a node."""
    own = {key: operator["properties"][key] for key in ENTRY_KEYS}
    return {**operator, "properties": own}


def _body() -> Schema:
    """Return what the body of a loop is: an operator, or a list of them; each may be what `use` would say."""
    text = {"type": "string", "minLength": 1, "description": "what `use` would say"}
    entries = [text, {"$ref": f"#/$defs/{_BODY}"}]
    several = {"type": "array", "minItems": 1, "items": {"anyOf": entries}}
    return {"description": "the operators of a round, in their order", "anyOf": [*entries, several]}


def _when_used(name: str, cls: type) -> Schema:
    """Return what holds of a part that uses a class of this package, by its short name or its whole one."""
    given = {"with": {"$ref": f"#/$defs/{name}"}}
    needed = {"required": ["with"]} if "required" in schema_of_arguments(cls) else {}
    is_used = {"required": ["use"], "properties": {"use": {"enum": [name, spelled_out(name)]}}}
    return {"if": is_used, "then": {"properties": given, **needed}}

"""A pipeline file: a line of operators (`operators`), or a graph of nodes (`nodes`, see `yaml_nodes`).

Keys and their checks are those of the tables of settings (`llm_datagen.config.node`, `llm_datagen.pipeline.settings`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Any

from pydantic import Field, ValidationError, create_model

from llm_datagen.cli.yaml_errors import Hints, problems_of
from llm_datagen.cli.yaml_load import Document
from llm_datagen.cli.yaml_nodes import GRAPH, GraphPart
from llm_datagen.cli.yaml_parts import OPERATOR, FilePart, OperatorPart, Text, keys_of, or_use
from llm_datagen.config import NodeConfigOptions, settings_in
from llm_datagen.errors.advice import nearest
from llm_datagen.pipeline.settings import PipelineSettings

_OPERATORS: Any = Annotated[list[or_use(OPERATOR)], Field(min_length=1)]  # type: ignore[misc]


class PipelinePart(FilePart):
    """A line of operators; `PIPELINE` has the settings of the pipeline, too."""

    operators: Sequence[OperatorPart]
    input_uri: Text = Field(description="where the rows come from, a path or a URI; `-`: standard input")
    output_uri: Text = Field(
        description="where the results go, a path or a URI; `-`: standard output, when the run is completed"
    )

    def settings(self) -> dict[str, Any]:
        """Return the arguments of `UnifiedPipeline` without the operators."""
        return self.run_settings("operators")


_OTHER_KEYS = {*PipelinePart.model_fields, "hooks", "node_configs", "default_protocol"}
"""Settings of pipelines that no file says, or that are more, or less, there."""

PIPELINE = create_model(
    "PipelinePart",
    __base__=PipelinePart,
    operators=(_OPERATORS, Field(description="what is done to the rows, in this order")),
    default_protocol=(Text, ""),  # its module is imported later
    **keys_of(PipelineSettings, without=_OTHER_KEYS),
)

PIPELINE_OF_ROWS = create_model("PipelinePart", __base__=PIPELINE, input_uri=(Text | None, None))
"""A file that holds its rows itself, as `input`."""

_WRITE_FROM = "what a node reads is said with from: NODE, or from: input"
_WRITE_TO = "where its rows go is said with to: output, or to: PATH"
_OF_OPERATORS = {
    key: f"it is said of an operator: put it into an entry of 'operators' ({{use: …, {key}: …}})"
    for key in ("with", "batch", *settings_in(NodeConfigOptions))
    if key not in PIPELINE.model_fields
}
"""What to do with keys of an entry that stand at the top of a file."""

_MISSING = {"operators": "or 'nodes', for a graph"}

_OF_NODES = {
    key: f"it is said of a node: put it into one of 'nodes' ({{NAME: {{…, {key}: …}}}})"
    for key in ("use", "from", "to", "route", "ids", *_OF_OPERATORS)
    if key not in GRAPH.model_fields
}
_IN_NODES = {
    **dict.fromkeys(("needs", "depends_on", "dependencies", "after", "inputs", "input", "input_uri"), _WRITE_FROM),
    **dict.fromkeys(("output", "outputs", "output_uri"), _WRITE_TO),
    "from": "say what the node reads, such as from: input",
}
"""What to do with keys that a node of another system has, or that it lacks."""
_OF_LINES = {
    key: "it is of a line of 'operators', and this file has 'nodes'"
    for key in PIPELINE.model_fields
    if key not in GRAPH.model_fields
}
_OF_LINES["input"] = "a graph reads streams: input_uri, or from: PATH, cycle://PATH?times=3, generate://SPEC.json"
SETTINGS = {*PIPELINE.model_fields, *GRAPH.model_fields} - {"operators", "nodes", "pipeline_id"}
"""The keys of files that are settings."""


def read_spec(document: Document) -> PipelinePart | GraphPart:
    """Return what a file says.

    Raises:
        ConfigError: naming the file, the line and the key.
    """
    keys = document.content
    if "nodes" in keys and "operators" in keys:
        raise document.error(["nodes: the file has 'operators', too; a line has these, a graph has nodes: keep one"])
    is_graph = "nodes" in keys or ("operators" not in keys and any(nearest(str(key), ["nodes"]) for key in keys))
    model = GRAPH if is_graph else PIPELINE_OF_ROWS if "input" in keys and "input_uri" not in keys else PIPELINE
    try:
        return model.model_validate(keys)
    except ValidationError as error:
        hints = Hints({**_OF_LINES, **_OF_NODES}, _IN_NODES) if is_graph else Hints({**_OF_OPERATORS, **_MISSING})
        raise document.error(problems_of(error, GRAPH if is_graph else PIPELINE, hints)) from None


def uses_of(spec: PipelinePart | GraphPart) -> Iterable[str]:
    """Return what a file has made: ``module:name`` of its operators and rules."""
    return spec.uses() if isinstance(spec, GraphPart) else [part.use for part in spec.operators]

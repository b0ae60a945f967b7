"""What a pipeline file says of a graph: `nodes`, each with where it reads (`from`) and where its rows go (`to`).

Keys and their checks are those of the tables of `UnifiedNode` and `UnifiedNodePipeline`. What a node says is for that
node; what the file says at its top is for all nodes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from pydantic import Field, create_model

from llm_datagen.cli.setting_schema import schema_of_type
from llm_datagen.cli.yaml_parts import FilePart, OperatorPart, Text, UsePart, checking, keys_of, or_use
from llm_datagen.config import MergeIds, checked, choice_of, settings_in
from llm_datagen.errors import ConfigError
from llm_datagen.pipeline.settings import BetweenOptions, FollowOptions, NodeAloneSettings, NodePipelineOptions

INPUT, OUTPUT = "input", "output"
"""What `from` and `to` call the pipeline's own ends: `input_uri` and `output_uri`."""

_TEXT = {"type": "string", "minLength": 1}


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _check_from(name: str, value: Any) -> None:
    if _is_text(value):
        return
    many = list(value.values()) if isinstance(value, Mapping) else value if isinstance(value, list) else []
    if not many or not all(map(_is_text, many)):
        raise ConfigError(
            f"{name} must be the name of a node, NODE.OUTPUT, 'input', or a path or URI; several as a list of these, "
            f"or as NAME: each, not {value!r}"
        )


def _check_to(name: str, value: Any) -> None:
    if _is_text(value):
        return
    if isinstance(value, Mapping) and value:
        _check_names(name, value)
        if all(each is None or _is_text(each) for each in value.values()):
            return
    elif isinstance(value, list) and value:
        _check_names(name, value)
        return
    raise ConfigError(
        f"{name} must be 'output', or a path or URI; for several outputs a list of their names, or NAME: each, "
        f"not {value!r}"
    )


def _check_names(name: str, names: Iterable[Any]) -> None:
    """Refuse names of outputs that YAML reads as something else, such as no, which is false."""
    for each in names:
        if not _is_text(each):
            raise ConfigError(f"{name} has an output {each!r}, and names must be text: quote it")


_FROM = checking(
    "from",
    _check_from,
    lambda: {
        "description": "what the node reads: a node, NODE.OUTPUT, `input` (which is `input_uri`), or a path or URI; "
        "several as a list, or with a name each",
        "anyOf": [
            _TEXT,
            {"type": "array", "items": _TEXT, "minItems": 1},
            {"type": "object", "additionalProperties": _TEXT, "minProperties": 1},
        ],
    },
)
_TO = checking(
    "to",
    _check_to,
    lambda: {
        "description": "where the node's rows go: `output` (which is `output_uri`), or a path or URI; nothing, if only "
        "nodes read them; several outputs as a list of names, or as names with a path or URI, or null, each",
        "anyOf": [
            _TEXT,
            {"type": "array", "items": _TEXT, "minItems": 1},
            {
                "type": "object",
                "additionalProperties": {"type": ["string", "null"], "minLength": 1},
                "minProperties": 1,
            },
        ],
    },
)
_IDS = checking("ids", choice_of(MergeIds), lambda: schema_of_type(MergeIds))


class NodePart(OperatorPart):
    """A node; `NODE` has its settings, too."""

    from_: _FROM = Field(alias="from")  # type: ignore[valid-type]
    to: _TO = None  # type: ignore[valid-type]
    route: or_use(UsePart) | None = Field(  # type: ignore[valid-type]
        default=None,
        description="of several outputs: a function of a row that returns the name of its output, or null to drop the "
        "row, such as `ops.RouteBy`, `ops.RouteWhen`. Without it, the operator returns a `Route` for each row",
    )
    ids: _IDS = Field(  # type: ignore[valid-type]
        default=None,
        description="of several inputs: whether rows keep their ids, or are named after their input; where rows of two "
        "may have the same id, they are",
    )

    def marked(self) -> str | None:
        """Return the name of the output that is the pipeline's: empty of the only one; None when none is."""
        given: Any = self.to
        if isinstance(given, Mapping):
            return next((name for name, target in given.items() if target == OUTPUT), None)
        return "" if given == OUTPUT else None

    def settings(self) -> dict[str, Any]:
        """Return the settings of the node that the file says here."""
        return {key: value for key, value in self.node_config().items() if key not in NodePart.model_fields}


_OF_RUN = ("hooks", "log_file")
OF_NODE = [name for name in settings_in(NodeAloneSettings) if name not in _OF_RUN]
"""The settings of a node."""

# Whether an input may grow is said as of a line: a file is read as it is, unless the file says otherwise.
_NODE_TABLES = (NodeAloneSettings, FollowOptions)

NODE = create_model("NodePart", __base__=NodePart, **keys_of(*_NODE_TABLES, without=_OF_RUN))


class GraphPart(FilePart):
    """A graph; `GRAPH` has the settings of all nodes and of the pipeline, too."""

    nodes: Mapping[str, NodePart]
    input_uri: Text = Field(
        default="", description="where the rows come from that nodes read as `input`: a path or a URI"
    )
    output_uri: Text = Field(
        default="", description="where the rows go that a node writes to `output`: a path or a URI"
    )

    def of_nodes(self) -> dict[str, Any]:
        """Return the settings of all nodes that the file says."""
        return {key: value for key, value in self.given("nodes").items() if key in OF_NODE}

    def of_pipeline(self) -> dict[str, Any]:
        """Return the arguments of `UnifiedNodePipeline` without the nodes."""
        return {
            key: value for key, value in self.run_settings("nodes").items() if key in settings_in(NodePipelineOptions)
        }

    def between(self) -> BetweenOptions:
        """Return where the streams between nodes lie.

        Raises:
            ConfigError: when their protocol is none.
        """
        given = {key: value for key, value in self.given("nodes").items() if key in settings_in(BetweenOptions)}
        return checked(BetweenOptions, given, "a graph")

    def uses(self) -> list[str]:
        """Return what the nodes are made of: ``module:name`` of their operators and rules."""
        return [part.use for node in self.nodes.values() for part in (node, node.route) if part is not None]


_OTHER_KEYS = {*GraphPart.model_fields, "hooks", "batch_by", "default_protocol"}

_NODES: Any = Annotated[dict[str, NODE], Field(min_length=1)]  # type: ignore[valid-type]

GRAPH = create_model(
    "GraphPart",
    __base__=GraphPart,
    nodes=(_NODES, Field(description="what is done to the rows, and by which ways they go: nodes by their names")),
    default_protocol=(Text, ""),  # its module is imported later
    **keys_of(*_NODE_TABLES, BetweenOptions, NodePipelineOptions, without=_OTHER_KEYS),
)

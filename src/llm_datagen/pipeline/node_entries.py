"""Blueprints: from settings to the run state, and back to nodes. Plain data; nothing is opened or started."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from llm_datagen.config import (
    InputIds,
    NodeConfig,
    NodeSettings,
    WriterConfig,
    checked,
    node_settings,
    plain,
    settings_of_entry,
)
from llm_datagen.errors import ConfigError
from llm_datagen.operators import batch_by_of, check_end_ids, operator_name
from llm_datagen.operators.references import ref_of, state_note
from llm_datagen.pipeline.line_settings import as_plain, id_prefix_of, stream_between, stream_to_export
from llm_datagen.pipeline.made_inputs import refuse_endless
from llm_datagen.pipeline.node import UnifiedNode
from llm_datagen.pipeline.settings import PipelineSettings
from llm_datagen.pipeline.spool import copy_uri, is_copied, output_uri
from llm_datagen.runs.export_entries import KEY as EXPORTS
from llm_datagen.runs.exports import exports_in, is_export
from llm_datagen.runs.id_stripper import IdStripper, codec_of, with_id_stripper
from llm_datagen.runs.logs.writer import DEFAULT_LOG
from llm_datagen.runs.node_kinds import MARK
from llm_datagen.runs.state_file import FORMAT
from llm_datagen.runs.status import NodeReport, Status
from llm_datagen.runs.store import check_pipeline_id
from llm_datagen.streams import MergedStream, Stream, StreamFactory
from llm_datagen.streams.ids import root_names
from llm_datagen.streams.inputs.computed import INPUT_BOUNDS, bound
from llm_datagen.streams.inputs.part import INPUT_END, end_at
from llm_datagen.streams.storage.owner import now_text

T = TypeVar("T")

UNKNOWN_ID = "PIPELINE_ID"
"""What stands for the id of a run that was not created yet, where a topology is drawn."""


def new_pipeline_id() -> str:
    """Return an id that nobody has: the time, and some letters."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"


def run_state_of_line(
    settings: PipelineSettings, node_configs: Sequence[NodeConfig | Mapping[str, Any] | None], pipeline_id: str
) -> dict[str, Any]:
    """Return the run state of a line of nodes.

    Raises:
        ConfigError: on a wrong value, when one is missing, or when adjacent nodes' URIs disagree.
    """
    check_pipeline_id(pipeline_id)
    operators = _given("operators", settings["operators"])
    count = len(operators)
    if len(node_configs) > count:
        raise ConfigError(f"node_configs has {len(node_configs)} entries for {count} operators")
    configs = [NodeConfig.of(_with_writer_defaults(config, settings["writer_config"])) for config in node_configs]
    configs += [NodeConfig()] * (count - len(configs))
    of_all = checked(NodeSettings, node_settings(settings), "UnifiedPipeline")
    uris = _uris(settings, configs, pipeline_id)
    nodes = []
    for number, (config, operator) in enumerate(zip(configs, operators, strict=True)):
        # The idle_timeout of a pipeline is about its input: other nodes wait for nodes, which may take their time.
        own: dict[str, Any] = {**of_all, **({"idle_timeout": None} if number else {}), **config.given()}
        if number < count - 1:  # the target of a pipeline is for its last node
            own["target"] = config.target
        check_end_ids(operator, f"node_{number}", settings["id_scheme"])
        own["batch_by"] = batch_by_of(operator, own["batch_by"], f"node_{number}", settings["id_scheme"])
        nodes.append(
            {
                "node_id": f"node_{number}",
                "operator": operator_name(operator),
                "operator_ref": ref_of(operator),
                **state_note(operator),
                "input_uri": uris[number],
                "output_uri": uris[number + 1],
                **plain(node_settings(own)),
                "id_scheme": "path" if settings["id_scheme"] == "text" else settings["id_scheme"],
                "id_prefix": id_prefix_of(settings) if settings["id_scheme"] == "text" else "",
                "input_ids": _input_ids(settings["input_ids"], uris[0]),
                "input_values": not is_copied(settings) and _may_hold_values(uris[0]),
                "source_column": settings["source_column"] if number == 0 else None,
                "follow_input": settings["follow_input"] if number == 0 else True,
                "is_root": number == 0,
            }
        )
    _check_siblings_together(nodes)
    if (not settings["keep_ids"] or settings["id_column"] is not None) and not is_export(settings["output_uri"]):
        nodes = with_id_stripper(nodes, settings["id_column"])
        nodes[-1]["operator_ref"] = ref_of(IdStripper(settings["id_column"]))
    _check_lead(nodes, streaming=settings["streaming"])
    refuse_endless(uris[0], settings["input"], len(nodes) - 1, streaming=settings["streaming"])
    run_state = _run_state(pipeline_id, as_plain(settings), nodes)
    exports = exports_in(settings)
    return {**run_state, EXPORTS: exports} if exports else run_state


def _check_siblings_together(nodes: Sequence[Mapping[str, Any]]) -> None:
    """Check that where batches are of one parent, its children lie together.

    The first node writes the children of a row in one piece. Others may get children, and must keep their order.
    """
    for number, node in enumerate(nodes):
        if node["batch_by"] == "parent" and number == 0:
            raise ConfigError('node_0: batch_by="parent": it reads the input, whose rows are children of none')
        for other in nodes[1:number] if node["batch_by"] == "parent" else ():
            if not other["ordered"]:
                raise ConfigError(
                    f'{node["node_id"]}: batch_by="parent" needs the children of a row to lie together, and '
                    f"{other['node_id']} before it may change the order; give that one ordered=True"
                )


def _given(name: str, value: T | None) -> T:
    """Return a setting that only a resume can do without."""
    if value is None:
        raise ConfigError(f"{name} is missing: a new run needs it; give it to UnifiedPipeline() or create()")
    return value


def _with_writer_defaults(config: Any, defaults: Any) -> Any:
    """Let a node's `writer_config` that is a dict change only what it names."""
    writer = config.get("writer_config") if isinstance(config, Mapping) else None
    if not isinstance(writer, Mapping):
        return config
    return {**config, "writer_config": {**WriterConfig.of(defaults).as_dict(), **writer}}


def _may_hold_values(uri: str) -> bool:
    """Return whether lines of the input may be values: where this package wrote it, or will, as it is not there yet."""
    stream = StreamFactory.source(uri)
    assert isinstance(stream, Stream)
    if stream.is_foreign:
        return False
    seal = stream.read_seal()
    is_of_engine = seal is not None and seal.rows is not None
    return is_of_engine or not stream.is_there() or stream.storage.size(stream.commits_path) is not None


def _input_ids(wanted: InputIds, uri: str) -> InputIds:
    """Return what becomes of an `_i` of the input: one that the user never gave is not kept as his."""
    seal = StreamFactory.source(uri).read_seal()
    return "drop" if seal is not None and seal.is_numbered() else wanted


def _uris(settings: PipelineSettings, configs: list[NodeConfig], pipeline_id: str) -> list[str]:
    """Return the URIs of all streams in order: the input, those between, the output."""
    for number, config in enumerate(configs):
        if is_export(config.output_uri):
            raise ConfigError(
                f"node_{number}: {config.output_uri!r} is made from a finished stream, so a node does not write it; "
                "give it to the pipeline, as output_uri= or in also=[…]"
            )
    given = configs[0].input_uri or settings["input_uri"]
    uris = [copy_uri(settings, given, pipeline_id) or _given("input_uri", given)]
    for number in range(len(configs) - 1):
        written, read = configs[number].output_uri, configs[number + 1].input_uri
        if written and read and written != read:
            raise ConfigError(
                f"node_{number} writes {written!r}, but node_{number + 1} reads {read!r}; give both the same URI, or "
                "only one of them"
            )
        uris.append(written or read or stream_between(settings, pipeline_id, f"node_{number}"))
    end = _given("output_uri", configs[-1].output_uri or settings["output_uri"])
    uris.append(stream_to_export(settings, pipeline_id) if is_export(end) else output_uri(settings, end, pipeline_id))
    for uri in uris:
        if isinstance(StreamFactory.source(uri), MergedStream):
            raise ConfigError(
                f"{uri!r} is not a stream of a UnifiedPipeline: its nodes have one input each; wire nodes with several "
                "by bind_io(), for a UnifiedNodePipeline"
            )
    return uris


def run_state_of_nodes(nodes: Sequence[UnifiedNode], pipeline_id: str, *, streaming: bool) -> dict[str, Any]:
    """Return the run state of nodes that were wired by hand."""
    for node in nodes:
        readers = sum(node.output.place in other.input.places for other in nodes)
        refuse_endless(node.input.uri, None, readers, streaming=streaming)
    entries = [
        {
            "node_id": node.node_id,
            **node.config(),
            "operator_ref": ref_of(node.operator),
            **state_note(node.operator),
            "id_scheme": node.settings["id_scheme"],
            "source_column": node.source_column,
            "follow_input": node.follow_input,
            "is_root": node.root is not None,
            **({MARK: True} if node.marked == "" else {}),
        }
        for node in nodes
    ]
    _check_lead(entries, streaming=streaming)
    return _run_state(pipeline_id, {"streaming": streaming}, entries)


def _check_lead(nodes: Sequence[Mapping[str, Any]], *, streaming: bool) -> None:
    """Check that a lead is bounded only where it can be: where a node and its readers run at once."""
    bounded = [node["node_id"] for node in nodes if node["max_lead"] is not None]
    if bounded and len(nodes) > 1 and not streaming:
        raise ConfigError(
            f"{bounded[0]}: max_lead bounds how far a node is ahead of its readers, so they have to run at once: give "
            "streaming=True"
        )


def _run_state(pipeline_id: str, config: dict[str, Any], nodes: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "pipeline_id": pipeline_id,
        "status": str(Status.PENDING),
        "reason": "",
        "paused": False,
        "error": None,
        "failed_row": None,
        "usage": [],
        "cost": None,
        "pid": None,
        "host": None,
        "software": {},
        "created_at": now_text(),
        "started_at": None,
        "ended_at": None,
        "updated_at": None,
        "config": config,
        "nodes": [
            {**node, **NodeReport(node_id=node["node_id"], target_rows=node["target"]).as_dict()} for node in nodes
        ],
    }


def node_of_entry(entry: Mapping[str, Any], operator: Any, *, log_file: str | None = DEFAULT_LOG) -> UnifiedNode:
    """Return the node that a run state describes.

    Args:
        entry: the node, as the run state has it.
        operator: its operator.
        log_file: the platform log when it runs by itself; None for none.

    Raises:
        ConfigError: when the run state holds a value that this version does not know.
    """
    node = UnifiedNode(
        entry["node_id"],
        **settings_of_entry(entry),
        id_scheme=entry["id_scheme"],
        source_column=entry.get("source_column"),
        follow_input=entry["follow_input"],
        log_file=log_file,
    )
    node.root = root_names(entry)
    node.bind_io(entry["input_uri"], entry["output_uri"]).set_operator(operator)
    node.output.codec = codec_of(entry, node.output.codec)
    node.input.pin(entry.get("input_fingerprint"))
    end_at(node.input, entry.get(INPUT_END))
    bound(node.input, entry.get(INPUT_BOUNDS))
    return node

"""What the code gives, and a resume does not use: it takes paths and settings from the run state. Only told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from llm_datagen.config import (
    NodeConfig,
    SettingsGroup,
    checked,
    plain,
)
from llm_datagen.pipeline.node import UnifiedNode
from llm_datagen.pipeline.run import StartNotice
from llm_datagen.pipeline.settings import NodeAloneSettings
from llm_datagen.pipeline.spool import copy_uri, is_copied_in, is_standard
from llm_datagen.runs.exports import is_export
from llm_datagen.streams import MergedStream, Stream, StreamFactory
from llm_datagen.streams.inputs.computed import ComputedStream
from llm_datagen.streams.inputs.table import columns_of
from llm_datagen.streams.outputs import Target
from llm_datagen.streams.source import streams_of

_NO_SETTINGS = frozenset({"operators", "operator", "input_uri", "output_uri"})
"""What a run state has besides settings: `check_operators`, `ignored_ends` and `ignored_uris` look at these."""

_WAYS = (
    (
        {"on_error", "max_errors"},
        "resume(on_error=, max_errors=) changes these, or resume --on-error, --max-errors",
    ),
    ({"target"}, "resume(target=) changes it, or resume --target"),
    (
        {"parallel_size", "rate"},
        "resume(parallel_size=, rate=) changes these, or resume --parallel-size, --rate; while it runs, Reconfigure",
    ),
)
"""Settings of a run that can be changed, and how."""


def ignored_ends(input_uri: str | None, output_uri: str | None, run_state: Mapping[str, Any]) -> list[StartNotice]:
    """Return which of the two ends of a line the code gives otherwise than its run state has them."""
    ignored = []
    ends = (("input_uri", input_uri, run_state["nodes"][0]), ("output_uri", output_uri, run_state["nodes"][-1]))
    for name, uri, entry in ends:
        used = (entry[name], run_state["config"].get(name))  # a node's config may have replaced what the code gives
        if uri is not None and not any(known and _are_same_place(name, uri, known) for known in used):
            ignored.append(_ignored(run_state, entry, name, uri))
    return ignored


def ignored_input(settings: Mapping[str, Any], run_state: Mapping[str, Any]) -> list[StartNotice]:
    """Return whether the code gives a line other rows of memory than those that its run has copied."""
    rows, entry, pipeline_id = settings["input"], run_state["nodes"][0], run_state["pipeline_id"]
    copy = copy_uri(settings, None, pipeline_id)
    if rows is None or copy is None:
        return []
    source = StreamFactory.input_of(entry)
    if not isinstance(source, Stream):
        return []  # a run of several inputs
    if PurePath(source.path).name != PurePath(copy).name:
        goes_on_with = (
            f"input_uri={entry['input_uri']!r}, as its run state says; the code gives input=…, which is not used"
        )
    elif isinstance(rows, list | tuple) and source.is_there() and not is_copied_in(rows, source):
        goes_on_with = f"the rows that were copied when it was created ({source.path}); the code gives others, not used"
    else:
        return []
    text = f"run {pipeline_id!r} goes on with {goes_on_with}. For another input, create another run"
    return [StartNotice(entry["node_id"], text)]


def ignored_settings(
    settings: Mapping[str, Any], defaults: Mapping[str, Any], given: Mapping[str, Any], run_state: Mapping[str, Any]
) -> list[StartNotice]:
    """Return which settings the code gives otherwise than the run state has them.

    Args:
        settings: the settings of the code.
        defaults: what they are when they are not given.
        given: those that the code gives, also as their defaults.
        run_state: the run state.
    """
    names = _names_in(given)
    said, usual, created = _flat(settings), _flat(defaults), _flat(run_state["config"])
    nodes = [_flat(entry) for entry in run_state["nodes"]]
    # A node's config, or resume(on_error=), may have replaced what the code gives.
    used = {name: nodes[0].get(name, value) for name, value in created.items()}
    if "target" in used:  # that of the last node which has one
        used["target"] = next((one for node in reversed(nodes) if (one := node.get("target")) is not None), None)
    ignored = {
        name: value
        for name, value in said.items()
        if name in used
        and value not in (used[name], created[name])
        and (name in names or value != usual.get(name))
        and not any(name in node and node[name] == value for node in nodes)
    }
    return _unused(f"run {run_state['pipeline_id']!r}", run_state["nodes"][0]["node_id"], ignored, used)


def ignored_node_settings(given: Sequence[UnifiedNode], run_state: Mapping[str, Any]) -> list[StartNotice]:
    """Return which settings of nodes the code gives otherwise than the run state of nodes wired by hand has them."""
    entries = {entry["node_id"]: _flat(entry) for entry in run_state["nodes"]}
    notes = []
    for node in given:
        names = _names_in(node.given)
        used, usual = entries[node.node_id], _flat(_usual_of_nodes())
        own = {
            "id_scheme": node.settings["id_scheme"],
            "follow_input": node.follow_input,
            "source_column": node.source_column,
        }
        said = _flat({**node.config(), **own})
        ignored = {
            name: value
            for name, value in said.items()
            if _is_otherwise(name, value, used) and (name in names or value != usual.get(name))
        }
        notes += _unused(f"{node.node_id} of run {run_state['pipeline_id']!r}", node.node_id, ignored, used)
    return notes


def ignored_node_configs(
    configs: Sequence[NodeConfig | Mapping[str, Any] | None], run_state: Mapping[str, Any]
) -> list[StartNotice]:
    """Return what the code's `node_configs` give otherwise than the run state of a line has it."""
    notes = []
    for config, entry in zip(configs, run_state["nodes"], strict=False):
        settings = _given_in(config)
        used = _flat(entry)
        ignored = {name: value for name, value in _flat(settings).items() if _is_otherwise(name, value, used)}
        notes += [
            _ignored(run_state, entry, name, settings[name])
            for name in ("input_uri", "output_uri")
            if name in settings and not _are_same_place(name, settings[name], entry[name])
        ]
        notes += _unused(f"{entry['node_id']} of run {run_state['pipeline_id']!r}", entry["node_id"], ignored, used)
    return notes


def _is_otherwise(name: str, value: Any, used: Mapping[str, Any]) -> bool:
    """Return whether a value is neither used nor what it was before a `Reconfigure`, or a resume, changed it."""
    before = used.get(_name_of("changed_from", name), used.get(name))
    return name in used and value not in (used[name], before)


def _given_in(config: NodeConfig | Mapping[str, Any] | None) -> dict[str, Any]:
    """Return what a node's config gives, as a run state has it: None means that it does not."""
    settings = NodeConfig.of(config).given()
    for name, value in settings.items():
        if isinstance(value, SettingsGroup):
            given = config.get(name) if isinstance(config, Mapping) else None
            whole = value.as_dict()
            settings[name] = {key: whole[key] for key in given} if isinstance(given, Mapping) else whole
    return settings


def _usual_of_nodes() -> dict[str, Any]:
    """Return the settings of a node that was given none."""
    return plain(checked(NodeAloneSettings, {}, "UnifiedNode"))


def _unused(who: str, node_id: str, ignored: Mapping[str, Any], used: Mapping[str, Any]) -> list[StartNotice]:
    if not ignored:
        return []
    ways = "".join(f". {way}" for names, way in _WAYS if names & set(ignored))
    text = (
        f"{who} goes on with {', '.join(f'{name}={used[name]!r}' for name in ignored)}, as its "
        f"run state says; the code gives {', '.join(f'{name}={value!r}' for name, value in ignored.items())}, which is "
        f"not used: a resume takes its settings from the run state{ways}. For other ones, create another run"
    )
    return [StartNotice(node_id, text)]


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings by name, those of `writer_config` and `data_config` one by one."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            flat |= {_name_of(name, key): each for key, each in value.items()}
        elif name not in _NO_SETTINGS:
            flat[name] = value
    return flat


def ignored_uris(given: Sequence[UnifiedNode], run_state: Mapping[str, Any]) -> list[StartNotice]:
    """Return the streams of nodes that the code wires otherwise than the run state has them."""
    entries = {entry["node_id"]: entry for entry in run_state["nodes"]}
    ignored = []
    for node in given:
        entry = entries[node.node_id]
        for name, uri in (("input_uri", node.input.uri), ("output_uri", node.output.uri)):
            if not _are_same_place(name, uri, entry[name]) or _naming(uri) != _naming(entry[name]):
                ignored.append(_ignored(run_state, entry, name, uri))
    return ignored


def _naming(uri: str) -> str | None:
    """Return how rows of several inputs are named; None of one."""
    source = StreamFactory.source(uri)
    return source.naming if isinstance(source, MergedStream) else None


def _are_same_place(name: str, uri: str, other: str) -> bool:
    if name == "output_uri" and (is_export(uri) or is_export(other)):
        return is_export(uri) and is_export(other) and Target.of(uri).absolute() == Target.of(other).absolute()
    if is_standard(uri) or is_standard(other):
        return uri == other
    return uri == other or _read_at(uri) == _read_at(other)


def _read_at(uri: str) -> list[tuple[Any, ...]]:
    """Return what is read, or written, at a URI: of each stream its place, what is computed of it, its columns."""
    return [
        (stream.place, type(stream) if isinstance(stream, ComputedStream) else None, columns_of(stream.data.uri))
        for stream in streams_of(StreamFactory.source(uri))
    ]


def _ignored(run_state: Mapping[str, Any], entry: Mapping[str, Any], name: str, given: str) -> StartNotice:
    text = (
        f"run {run_state['pipeline_id']!r} goes on with {name}={entry[name]!r}, as its run state says; the code gives "
        f"{given!r}, which is not used: a resume takes its paths from the run state. For other ones, create another run"
    )
    return StartNotice(entry["node_id"], text)


def _names_in(settings: Mapping[str, Any]) -> frozenset[str]:
    """Return the names of settings that are given; of those that are a mapping, also those in it: ``name['key']``."""
    inner = {_name_of(name, key) for name, value in settings.items() if isinstance(value, Mapping) for key in value}
    return frozenset(settings) | inner


def _name_of(name: str, key: str) -> str:
    """Return what a setting within another one is called."""
    return f"{name}[{key!r}]"

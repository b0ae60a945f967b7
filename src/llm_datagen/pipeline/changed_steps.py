"""The steps of a run, drawn anew from the code: for a run whose steps were added to, taken from, moved or replaced."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from llm_datagen.config import OLDER, NodeConfig, NodeSettings, settings_in
from llm_datagen.operators import operator_name
from llm_datagen.pipeline.line_settings import pipeline_settings
from llm_datagen.pipeline.node_entries import run_state_of_line
from llm_datagen.pipeline.settings import PipelineSettings
from llm_datagen.runs.exports import is_export
from llm_datagen.runs.id_stripper import IdStripper
from llm_datagen.runs.node_kinds import is_id_stripper
from llm_datagen.streams import StreamFactory

Entry = dict[str, Any]

_OWN = settings_in(NodeSettings).keys() - {"idle_timeout"}
"""What a step keeps of its settings where it goes; a pipeline's `idle_timeout` is that of the first step, and its
`target` that of the last one."""

_OF_ROWS = ("id_prefix", "input_ids", "input_values", "source_column")
"""How the rows of the input are named, and what they carry: this stays, also as a run of an older version did it."""


def line_of(
    settings: PipelineSettings,
    configs: Sequence[NodeConfig | Mapping[str, Any] | None],
    run_state: Mapping[str, Any],
    operators: Sequence[Any],
) -> list[Entry]:
    """Return the nodes of a line of operators, for a run that was made with others.

    Input and output are the run's, and so are its settings. The steps before the first one that differs have theirs,
    and so has a step behind it whose operator was there before; a new one has those of its own config. The streams
    between those that differ are named as `create()` names them. When the operators are the same ones, these are the
    nodes of the run state themselves.

    Args:
        settings: those in the code, for what the run state does not say.
        configs: what differs from node to node in the code.
        run_state: the run's.
        operators: those in the code.
    """
    old: list[Entry] = [entry for entry in run_state["nodes"] if not is_id_stripper(entry)]
    operators = [operator for operator in operators if not isinstance(operator, IdStripper)]
    names = [operator_name(operator) for operator in operators]
    known = [entry["operator"] for entry in old]
    if names == known:
        entries: list[Entry] = run_state["nodes"]
        return entries
    pairs = list(zip(names, known, strict=False))
    unchanged = next((at for at, (name, before) in enumerate(pairs) if name != before), len(pairs))
    said = {key: value for key, value in run_state["config"].items() if key in settings_in(PipelineSettings)}
    said = {"keep_ids": True, "id_column": None, "data_config": OLDER, **said}  # what a run of an older version lacks
    said.update(
        operators=operators, input=None, input_uri=old[0]["input_uri"], output_uri=run_state["nodes"][-1]["output_uri"]
    )
    if is_export(run_state["config"].get("output_uri")):  # which leaves the ids out, or renames them
        said.update(keep_ids=True, id_column=None)
    likes = _likes(old, names, unchanged)
    new = [_own_of(config) if like is None else None for config, like in zip(configs, likes, strict=False)]
    entries = run_state_of_line(pipeline_settings({**settings, **said}), new, run_state["pipeline_id"])["nodes"]
    for key in _OF_ROWS:
        if key in old[0]:
            entries[0][key] = old[0][key]
        else:
            del entries[0][key]
    for number, (entry, like) in enumerate(zip(entries, likes, strict=False)):
        if like is not None:
            entry.update({key: like[key] for key in _OWN if key in like})
        if like is old[-1]:
            entry["target"] = _target_in(configs, number)
        if number < unchanged and number + 1 < min(len(old), len(names)):
            entry["output_uri"] = old[number]["output_uri"]
        if number:
            entry["input_uri"] = entries[number - 1]["output_uri"]
    if old[-1].get("target") is not None:
        entries[len(names) - 1]["target"] = old[-1]["target"]
    return entries


def _target_in(configs: Sequence[NodeConfig | Mapping[str, Any] | None], number: int) -> int | None:
    """Return the target that the config of a step has."""
    return NodeConfig.of(configs[number]).target if number < len(configs) else None


def _likes(old: Sequence[Entry], names: Sequence[str], unchanged: int) -> list[Entry | None]:
    """Return for each step the one that it was in the run: before `unchanged` by its place, else by its operator."""
    likes: list[Entry | None] = list(old[:unchanged])
    behind = list(old[unchanged:])
    for name in names[unchanged:]:
        like = next((one for one in behind if one["operator"] == name), None)
        likes.append(like)
        if like is not None:
            behind.remove(like)
    return likes


def _own_of(config: NodeConfig | Mapping[str, Any] | None) -> Any:
    """Return a config without its paths: those of a redrawn line follow from the run's."""
    if config is None or isinstance(config, Mapping):
        return {name: value for name, value in (config or {}).items() if name not in {"input_uri", "output_uri"}}
    return replace(config, input_uri=None, output_uri=None)


def has_same_steps(old: Sequence[Mapping[str, Any]], new: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether nodes that were wired by hand are the same ones, with the same wires, wherever their files lie."""
    return _steps(old) == _steps(new)


def keep_inputs(old: Sequence[Entry], new: Sequence[Entry]) -> None:
    """Have nodes that are drawn anew, and read what they read before, do so by the URI that their outputs know.

    Else it may be spelled otherwise, or have other bounds (`input_bounds`).
    """
    known = {entry["node_id"]: entry["input_uri"] for entry in old}
    for entry in new:
        uri = known.get(entry["node_id"])
        if uri is not None and StreamFactory.source(uri).places == StreamFactory.source(entry["input_uri"]).places:
            entry["input_uri"] = uri


def _steps(entries: Sequence[Mapping[str, Any]]) -> dict[str, tuple[str, list[str]]]:
    writers = {StreamFactory.create(entry["output_uri"]).place: str(entry["node_id"]) for entry in entries}
    return {
        entry["node_id"]: (
            entry["operator"],
            [writers.get(place, "") for place in StreamFactory.source(entry["input_uri"]).places],
        )
        for entry in entries
    }

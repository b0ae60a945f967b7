"""Whether a run may go on, as its run state and its files are now. What compares only reads (M22)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from llm_datagen.config import (
    FailurePolicy,
    NodeConfig,
    OnError,
    SettingsGroup,
    check_count,
    check_rate,
    checked,
    plain,
)
from llm_datagen.errors import (
    ConfigError,
    DatagenError,
    OperatorMismatchError,
    StreamChangedError,
    StreamMissingError,
)
from llm_datagen.operators import operator_name
from llm_datagen.pipeline.given_settings import given_names, setting_name
from llm_datagen.pipeline.node import UnifiedNode
from llm_datagen.pipeline.run import Note
from llm_datagen.pipeline.settings import NodeAloneSettings
from llm_datagen.pipeline.stream_checks import counts_of
from llm_datagen.runs.export import is_export
from llm_datagen.runs.status import NodeReport, Status
from llm_datagen.streams import FileStream, Fingerprint, StreamFactory
from llm_datagen.streams.source import size_of, streams_of

_NO_SETTINGS = frozenset({"operators", "operator", "input_uri", "output_uri"})
"""What a run state has besides settings: `check_operators`, `ignored_ends` and `ignored_uris` look at these."""

_WAYS = (
    (
        {"on_error", "max_errors"},
        "resume(on_error=, max_errors=) changes these, or resume --on-error, --max-errors",
    ),
    (
        {"parallel_size", "rate"},
        "resume(parallel_size=, rate=) changes these, or resume --parallel-size, --rate; while it runs, Reconfigure",
    ),
)
"""Settings of a run that can be changed, and how."""


def check_operators(run_state: dict[str, Any], operators: list[Any]) -> None:
    """Check that the code has the operators of the run state, in their order.

    Raises:
        OperatorMismatchError: when it has others.
    """
    names = [operator_name(operator) for operator in operators]
    known = [node["operator"] for node in run_state["nodes"]]
    if names != known:
        raise OperatorMismatchError(
            f"run {run_state['pipeline_id']!r} was made with the operators {known}, and the code has {names}; undo "
            "that, or resume it again: resume() says what changed, and what can be done (an operator that was renamed "
            "keeps its identity with name='the old name')"
        )


def ignored_ends(input_uri: str | None, output_uri: str | None, run_state: Mapping[str, Any]) -> list[Note]:
    """Return which of the two ends of a line the code gives otherwise than its run state has them."""
    ignored = []
    ends = (("input_uri", input_uri, run_state["nodes"][0]), ("output_uri", output_uri, run_state["nodes"][-1]))
    for name, uri, entry in ends:
        used = (entry[name], run_state["config"].get(name))  # a node's config may have replaced what the code gives
        if uri is not None and not any(known and _are_same_place(uri, known) for known in used):
            ignored.append(_ignored(run_state, entry, name, uri))
    return ignored


def ignored_settings(
    settings: Mapping[str, Any], defaults: Mapping[str, Any], given: Mapping[str, Any], run_state: Mapping[str, Any]
) -> list[Note]:
    """Return which settings the code gives otherwise than the run state has them.

    Args:
        settings: the settings of the code.
        defaults: what they are when they are not given.
        given: those that the code gives, also as their defaults.
        run_state: the run state.
    """
    names = given_names(given)
    said, usual, created = _flat(settings), _flat(defaults), _flat(run_state["config"])
    nodes = [_flat(entry) for entry in run_state["nodes"]]
    # A node's config, or resume(on_error=), may have replaced what the code gives.
    used = {name: nodes[0].get(name, value) for name, value in created.items()}
    ignored = {
        name: value
        for name, value in said.items()
        if name in used
        and value not in (used[name], created[name])
        and (name in names or value != usual.get(name))
        and not any(name in node and node[name] == value for node in nodes)
    }
    return _unused(f"run {run_state['pipeline_id']!r}", run_state["nodes"][0]["node_id"], ignored, used)


def ignored_node_settings(given: Sequence[UnifiedNode], run_state: Mapping[str, Any]) -> list[Note]:
    """Return which settings of nodes the code gives otherwise than the run state of nodes wired by hand has them."""
    entries = {entry["node_id"]: _flat(entry) for entry in run_state["nodes"]}
    notes = []
    for node in given:
        names = given_names(node.given)
        used, usual = entries[node.node_id], _flat(_usual_of_nodes())
        said = _flat({**node.config(), "id_scheme": node.settings["id_scheme"], "follow_input": node.follow_input})
        ignored = {
            name: value
            for name, value in said.items()
            if name in used and value != used[name] and (name in names or value != usual.get(name))
        }
        notes += _unused(f"{node.node_id} of run {run_state['pipeline_id']!r}", node.node_id, ignored, used)
    return notes


def ignored_node_configs(
    configs: Sequence[NodeConfig | Mapping[str, Any] | None], run_state: Mapping[str, Any]
) -> list[Note]:
    """Return what the code's `node_configs` give otherwise than the run state of a line has it."""
    notes = []
    for config, entry in zip(configs, run_state["nodes"], strict=False):
        settings = _given_in(config)
        used = _flat(entry)
        ignored = {name: value for name, value in _flat(settings).items() if name in used and value != used[name]}
        notes += [
            _ignored(run_state, entry, name, settings[name])
            for name in ("input_uri", "output_uri")
            if name in settings and not _are_same_place(settings[name], entry[name])
        ]
        notes += _unused(f"{entry['node_id']} of run {run_state['pipeline_id']!r}", entry["node_id"], ignored, used)
    return notes


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


def _unused(who: str, node_id: str, ignored: Mapping[str, Any], used: Mapping[str, Any]) -> list[Note]:
    if not ignored:
        return []
    ways = "".join(f". {way}" for names, way in _WAYS if names & set(ignored))
    text = (
        f"{who} goes on with {', '.join(f'{name}={used[name]!r}' for name in ignored)}, as its "
        f"run state says; the code gives {', '.join(f'{name}={value!r}' for name, value in ignored.items())}, which is "
        f"not used: a resume takes its settings from the run state{ways}. For other ones, create another run"
    )
    return [Note(node_id, text)]


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings by name, those of `writer_config` and `data_config` one by one."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            flat |= {setting_name(name, key): each for key, each in value.items()}
        elif name not in _NO_SETTINGS:
            flat[name] = value
    return flat


def ignored_uris(given: Sequence[UnifiedNode], run_state: Mapping[str, Any]) -> list[Note]:
    """Return the streams of nodes that the code wires otherwise than the run state has them."""
    entries = {entry["node_id"]: entry for entry in run_state["nodes"]}
    ignored = []
    for node in given:
        entry = entries[node.node_id]
        for name, uri in (("input_uri", node.input.uri), ("output_uri", node.output.uri)):
            if not _are_same_place(uri, entry[name]):
                ignored.append(_ignored(run_state, entry, name, uri))
    return ignored


def _are_same_place(uri: str, other: str) -> bool:
    return uri == other or StreamFactory.source(uri).places == StreamFactory.source(other).places


def _ignored(run_state: Mapping[str, Any], entry: Mapping[str, Any], name: str, given: str) -> Note:
    text = (
        f"run {run_state['pipeline_id']!r} goes on with {name}={entry[name]!r}, as its run state says; the code gives "
        f"{given!r}, which is not used: a resume takes its paths from the run state. For other ones, create another run"
    )
    return Note(entry["node_id"], text)


def change_policy(run_state: dict[str, Any], on_error: OnError | None, max_errors: int | float | None) -> None:
    """Write into a run state what becomes of rows that fail from now on.

    Raises:
        ConfigError: on a wrong value, or when only a limit is given, and no node goes on after a row that fails.
    """
    if on_error is None and max_errors is None:
        return
    FailurePolicy(on_error=on_error or "fail", max_errors=max_errors)
    changed = [entry for entry in run_state["nodes"] if on_error is not None or entry["on_error"] != "fail"]
    if not changed:
        raise ConfigError(
            f"max_errors={max_errors} changes nothing by itself: in this run, the first row that fails ends it "
            "(on_error='fail'); say on_error='skip' or 'dead_letter', too"
        )
    for entry in changed:
        entry.update(on_error=on_error or entry["on_error"], max_errors=max_errors)


def change_pace(run_state: dict[str, Any], parallel_size: int | None, rate: float | None) -> None:
    """Write into a run state how many calls each node makes from now on, as `Reconfigure` does while a run goes on.

    Raises:
        ConfigError: on a wrong value.
    """
    changed: dict[str, Any] = {}
    if parallel_size is not None:
        changed["parallel_size"] = check_count("parallel_size", parallel_size)
    if rate is not None:
        changed["rate"] = check_rate("rate", rate) if rate else None
    for entry in run_state["nodes"]:
        if not is_export(entry):
            entry.update(changed)


def check_nodes(nodes: Sequence[UnifiedNode], run_state: Mapping[str, Any]) -> None:
    """Check that nodes of a run state can go on, before anything is changed (M22)."""
    entries = {entry["node_id"]: entry for entry in run_state["nodes"]}
    for node in nodes:
        entry = entries[node.node_id]
        if not node.is_finished():
            known, done = entry.get("input_fingerprint"), node.read_before()
            Fingerprint.check_input(node.input, known, done, follow=node.follow_input)
        _check_output_is_there(node, entry)
        node.check()


def edited_since(nodes: Sequence[UnifiedNode], run_state: Mapping[str, Any]) -> list[Note]:
    """Return what is to be told of inputs that were edited since all of them was done: nobody reads them again."""
    notes = []
    entries = {entry["node_id"]: entry for entry in run_state["nodes"]}
    for node in nodes:
        known = entries[node.node_id].get("input_fingerprint")
        if known is None or not node.is_finished() or size_of(node.input) is None:  # it may be gone
            continue
        try:
            Fingerprint.check_input(node.input, known, node.read_before(), follow=node.follow_input)
        except StreamChangedError:
            shown = " and ".join(stream.shown for stream in streams_of(node.input))
            text = (
                f"{shown} was edited or shortened since its rows were done; they stay as they are. To do "
                "them anew, start afresh: overwrite the run"
            )
            notes.append(Note(node.node_id, text))
        except (DatagenError, OSError):
            continue
    return notes


def _check_output_is_there(node: UnifiedNode, entry: Mapping[str, Any]) -> None:
    """Check that what the run state says was written has not gone, with all that accounted for it (M22)."""
    rows = entry.get("rows_in", 0)
    if rows and isinstance(node.output, FileStream) and not node.output.exists():
        raise StreamMissingError(
            f"{node.output.path} is gone, with its commit log and its seal, though {rows} source rows of "
            f"{node.node_id} were done; restore it, or start afresh with if_exists='overwrite'"
        )


def count_again(run_state: dict[str, Any], nodes: Sequence[UnifiedNode]) -> None:
    """Write into a run state what the streams say of each node: it may have been saved long before a kill."""
    for node, entry in zip(nodes, run_state["nodes"], strict=True):
        before = NodeReport(**{key: entry[key] for key in NodeReport.__dataclass_fields__ if key in entry})
        now = replace(before, **counts_of(node.output, is_finished=node.is_finished()))
        entry.update(now.as_dict())


def is_untouched(run_state: dict[str, Any], nodes: list[UnifiedNode]) -> bool:
    """Return whether a run was created, and nothing of it has begun."""
    return run_state["status"] == Status.PENDING and not any(node.output.exists() for node in nodes)

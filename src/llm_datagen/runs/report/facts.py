"""The run, its nodes and its streams, from its run state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llm_datagen.operators.references import parallel_size_of
from llm_datagen.runs.display.node_view import tokens_in
from llm_datagen.runs.limit import shards_begun, time_spent
from llm_datagen.runs.masking import masked, masked_uri
from llm_datagen.runs.output_node import RowsOut, outputs_to_name
from llm_datagen.runs.report.accounts import counts_of_state
from llm_datagen.runs.report.model import SHARES, ModelCost, NodeFacts, RowAccount, RunFacts, StreamFacts
from llm_datagen.runs.run_progress import seconds_of
from llm_datagen.runs.sharded import SHARDS
from llm_datagen.runs.status import INTERRUPTED, LIVE
from llm_datagen.runs.topology import WiredStream, inputs_by_place, wired_streams
from llm_datagen.runs.usage import COST, cost_of, tokens_of
from llm_datagen.runs.versions import VERSION_OF, version_of

_NOT_SETTINGS = frozenset({
    "node_id", "operator", "input_uri", "output_uri", "status", "usage", "fingerprint", "input_fingerprint", "changes",
    "parallel_size", "batch_size",
})  # fmt: skip


def run_facts(
    run_state: Mapping[str, Any],
    *,
    status: str,
    is_live: bool,
    note: str,
    results_dir: str,
    started_with: str,
    earlier_versions: Sequence[str],
) -> RunFacts:
    """Return what there is to say of a run; see `RunFacts`."""
    began = run_state.get("started_at")
    return RunFacts(
        id=run_state["pipeline_id"],
        status=status,
        is_live=is_live,
        is_paused=is_live and bool(run_state.get("paused")),
        note=note,
        reason=run_state.get("reason") or "",
        error=run_state.get("error"),
        failed_row=run_state.get("failed_row"),
        created_at=run_state.get("created_at"),
        started_at=began,
        ended_at=run_state.get("ended_at"),
        updated_at=run_state.get("updated_at"),
        seconds=seconds_of(run_state, is_live=is_live),
        results_dir=masked_uri(results_dir),
        host=run_state.get("host"),
        pid=run_state.get("pid"),
        started_with=started_with,
        version=version_of(run_state),
        version_of=run_state.get(VERSION_OF),
        earlier_versions=earlier_versions,
        shards=run_state.get(SHARDS),
        software=run_state.get("software") or {},
    )


def streams_of_state(run_state: Mapping[str, Any], accounts: Mapping[str, RowAccount]) -> list[StreamFacts]:
    """Return the streams of a run: the inputs, then what each node writes."""
    streams = wired_streams(run_state["nodes"])
    names = _names_of_inputs(streams)
    found = []
    for stream in streams:
        if stream.writer is None:
            alone = [each for each in stream.readers if len(inputs_by_place(each)) == 1 and each.get("total_is_exact")]
            rows = alone[0].get("total") if alone else None
        else:
            account = accounts.get(stream.key)
            rows = stream.writer.get("rows_out", 0) if account is None else account.rows_out
        key = names.get(stream.place, stream.key)
        found.append(StreamFacts(key=key, uri=masked_uri(stream.uri), kind=stream.kind, rows=rows))
    return found


def node_facts(run_state: Mapping[str, Any], accounts: Mapping[str, RowAccount], *, status: str) -> list[NodeFacts]:
    """Return the nodes of a run.

    Args:
        run_state: its run state; of a run in shards, that of the whole.
        accounts: what became of the rows of each node, as far as that is known.
        status: the status of the run.
    """
    streams = wired_streams(run_state["nodes"])
    names = {stream.place: stream.key for stream in streams} | _names_of_inputs(streams)
    found = []
    for entry in run_state["nodes"]:
        inputs = [names[place] for place in inputs_by_place(entry)]
        account = accounts.get(entry["node_id"]) or counts_of_state(entry)
        is_cut_short = status == INTERRUPTED and entry.get("status") in LIVE
        found.append(
            NodeFacts(
                node_id=entry["node_id"],
                operator=entry["operator"],
                status=INTERRUPTED if is_cut_short else entry.get("status", "pending"),
                inputs=inputs,
                output=entry["node_id"],
                parallel_size=parallel_size_of(entry),
                batch_size=entry["batch_size"],
                seconds=entry.get("seconds", 0.0),
                shares=_shares(entry, shards_begun(run_state)),
                account=account,
                failed=max(entry.get("failed", 0), account.skipped + account.dead_letters),
                target_rows=entry.get("target_rows"),
                usage=entry.get("usage") or [],
                cost=cost_of(entry.get("usage") or []),
                error=entry.get("error"),
                stalled=entry.get("stalled") if entry.get("status") == "running" and not is_cut_short else None,
                settings=_own_settings(entry, run_state["config"]),
            )
        )
    return found


def model_costs(run_state: Mapping[str, Any]) -> list[ModelCost]:
    """Return what calls used, for each node and model, the most expensive first."""
    found = [
        ModelCost(
            node_id=entry["node_id"],
            provider=str(usage.get("provider") or ""),
            model=str(usage.get("model") or ""),
            calls=int(usage.get("requests", 0)),
            tokens_in=tokens_of(usage, "input") or 0,
            tokens_out=tokens_of(usage, "output") or 0,
            cost=usage.get(COST),
        )
        for entry in run_state["nodes"]
        for usage in entry.get("usage") or ()
    ]
    return sorted(found, key=lambda each: (-(each.cost or 0.0), -each.calls))


def totals_of(run_state: Mapping[str, Any], nodes: Sequence[NodeFacts]) -> dict[str, Any]:
    """Return the figures that come first, as the accounts have them."""
    usage = [each for node in nodes for each in node.usage]
    out = rows_out_of(run_state, nodes)
    return {
        "rows_in": nodes[0].account.done if nodes else 0,
        "rows_out": out.total,
        "outputs": {node_id: out.rows[node_id] for node_id in out.outputs},
        "filtered": sum(node.account.filtered for node in nodes),
        "failed": sum(node.failed for node in nodes),
        "cost": cost_of(usage),
        "tokens": sum(map(tokens_in, usage)),
        "findings": sum(len(node.account.findings) for node in nodes),
    }


def rows_out_of(run_state: Mapping[str, Any], nodes: Sequence[NodeFacts]) -> RowsOut:
    """Return how many rows have come out."""
    return RowsOut({node.node_id: node.account.rows_out for node in nodes}, outputs_to_name(run_state))


def _shares(entry: Mapping[str, Any], shards: int) -> dict[str, float]:
    """Return where the time of the workers went; of a node that has not begun, nothing."""
    if not entry.get("seconds"):
        return {}
    times = time_spent(entry, shards)
    return {name: round(getattr(times, name) or 0.0, 4) for name in SHARES}


def _own_settings(entry: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a node that are not those of the pipeline, and how its operator is made."""
    names = [name for name in config if name in entry and name not in _NOT_SETTINGS and entry[name] != config[name]]
    found = {name: masked(entry[name], name) for name in names}
    made = entry.get("operator_ref") or {}
    if made.get("use"):
        arguments = {
            **{str(number): each for number, each in enumerate(made.get("args") or ())},
            **(made.get("with") or {}),
        }
        found["operator"] = {"use": made["use"], **({"with": masked(arguments)} if arguments else {})}
    return found


def _names_of_inputs(streams: Sequence[WiredStream]) -> dict[Any, str]:
    """Return the names of the inputs in a report, by their identities."""
    inputs = [stream.place for stream in streams if stream.writer is None]
    return {place: f"input {number}" if len(inputs) > 1 else "input" for number, place in enumerate(inputs, 1)}

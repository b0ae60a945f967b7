"""The metrics for Prometheus: the name of each, its kind, its labels, and what it says.

The table of docs/reference/metrics.md is compared with this one. Names follow the naming rules of Prometheus: base
units, which the name says, and ``_total`` for what only grows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

RUN = ("folder", "run")
NODE = (*RUN, "node")
MODEL = (*NODE, "provider", "model")


@dataclass(frozen=True, slots=True)
class Measure:
    """A metric.

    Attributes:
        kind: "counter" or "gauge".
        labels: the names of its labels.
        help: what it says, and its unit.
    """

    kind: Literal["counter", "gauge"]
    labels: tuple[str, ...]
    help: str


MEASURES: dict[str, Measure] = {
    "llm_datagen_run_status": Measure(
        "gauge", (*RUN, "status"), "1 for the status that the run has, 0 for the others; interrupted: its process died"
    ),
    "llm_datagen_run_live": Measure("gauge", RUN, "1 while a process works on the run, else 0"),
    "llm_datagen_run_paused": Measure("gauge", RUN, "1 while the run is paused, else 0"),
    "llm_datagen_run_started_timestamp_seconds": Measure("gauge", RUN, "When it began, or was last resumed"),
    "llm_datagen_run_ended_timestamp_seconds": Measure("gauge", RUN, "When it ended; left out before"),
    "llm_datagen_run_updated_timestamp_seconds": Measure("gauge", RUN, "When its state was last saved"),
    "llm_datagen_node_status": Measure("gauge", (*NODE, "status"), "1 for the status that the node has, else 0"),
    "llm_datagen_rows_total": Measure(
        "counter", (*NODE, "outcome"), "Source rows that are done, by outcome: kept, filtered, skipped or dead_letter"
    ),
    "llm_datagen_output_rows_total": Measure("counter", NODE, "Rows in the output of the node"),
    "llm_datagen_input_rows": Measure(
        "gauge", NODE, "Source rows in all, counted or estimated; left out while nothing is known"
    ),
    "llm_datagen_input_rows_exact": Measure("gauge", NODE, "1 when they are counted, 0 when they are estimated"),
    "llm_datagen_rows_in_flight": Measure(
        "gauge", NODE, "Source rows that its workers have, as it was last reported; 0 unless a process works on the run"
    ),
    "llm_datagen_queue_rows": Measure(
        "gauge", NODE, "Rows that other nodes have written for the node, and that it has not done"
    ),
    "llm_datagen_rows_per_second": Measure(
        "gauge", NODE, "Source rows per second over the last seconds; 0 unless a process works on the run"
    ),
    "llm_datagen_node_workers": Measure("gauge", NODE, "Tasks that the node has at once, at most"),
    "llm_datagen_node_stalled": Measure("gauge", NODE, "1 while nothing has moved for stall_after seconds, else 0"),
    "llm_datagen_node_seconds_total": Measure("counter", NODE, "Seconds that it ran, since the last resume"),
    "llm_datagen_node_busy_seconds_total": Measure(
        "counter", NODE, "Seconds that its workers were in tasks, together, since the last resume"
    ),
    "llm_datagen_node_held_back_seconds_total": Measure(
        "counter", NODE, "Seconds that its workers waited for the writer, together, since the last resume"
    ),
    "llm_datagen_node_rate_limited_seconds_total": Measure(
        "counter", NODE, "Seconds in which rows had to wait for the node's rate, since the last resume"
    ),
    "llm_datagen_node_lead_limited_seconds_total": Measure(
        "counter", NODE, "Seconds in which rows had to wait for max_lead, since the last resume"
    ),
    "llm_datagen_node_starved_seconds_total": Measure(
        "counter", NODE, "Seconds in which its source had no row for it, since the last resume"
    ),
    "llm_datagen_cost_usd_total": Measure(
        "counter", MODEL, "US dollars that its calls have cost, over all resumes; left out where no price is known"
    ),
    "llm_datagen_tokens_total": Measure(
        "counter", (*MODEL, "type"), "Tokens of its calls, over all resumes: input or output"
    ),
    "llm_datagen_cached_input_tokens_total": Measure(
        "counter", MODEL, "Those of the input tokens that came from the provider's cache"
    ),
    "llm_datagen_requests_total": Measure("counter", MODEL, "Calls that were served, over all resumes"),
    "llm_datagen_cached_answers_total": Measure(
        "counter", MODEL, "Answers that came from the response cache, and cost nothing"
    ),
    "llm_datagen_budget_usd": Measure(
        "gauge",
        (*RUN, "amount"),
        "US dollars of the account of a run with a budget: spent, lost (the part of it for calls of which it is "
        "not known what they cost), untold (the part of lost for calls that were answered) or in_flight (the most that "
        "calls in flight can add)",
    ),
    "llm_datagen_budget_tokens": Measure("gauge", (*RUN, "amount"), "The same in tokens"),
    "llm_datagen_unreadable_runs": Measure("gauge", ("folder",), "Runs whose state cannot be read, which are left out"),
    "llm_datagen_left_out_runs": Measure(
        "gauge", ("folder",), "Runs that are left out because they ended long ago, or are too many"
    ),
}
"""The metrics by their names."""

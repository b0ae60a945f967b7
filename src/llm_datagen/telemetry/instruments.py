"""The metrics of OpenTelemetry: the name of each, its kind, its unit, and what is added to it.

The table of docs/reference/metrics.md is compared with this one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from opentelemetry.metrics import Meter

from llm_datagen.runs.usage import COST, TOKEN_NAMES
from llm_datagen.telemetry.attributes import NODE_ID, OUTCOME, RUN_ID
from llm_datagen.telemetry.gen_ai import (
    DURATION,
    ERROR_TYPE,
    SECOND_BUCKETS,
    TOKEN_BUCKETS,
    TOKEN_TYPE,
    TOKEN_USAGE,
    provider_of,
)

_PROVIDER, _MODEL = "gen_ai.provider.name", "gen_ai.request.model"
_OF_NODE = (RUN_ID, NODE_ID)
_OF_MODEL = (*_OF_NODE, _PROVIDER, _MODEL)
_OF_CALL = (
    "gen_ai.operation.name", _PROVIDER, _MODEL, "gen_ai.response.model", "server.address", "server.port",
)  # fmt: skip

_TYPES = {name: kind for kind, names in TOKEN_NAMES.items() for name in names}


@dataclass(frozen=True, slots=True)
class Described:
    """What is said of a metric.

    Attributes:
        kind: "counter" or "histogram".
        unit: its unit, as UCUM has it.
        attributes: the names of its attributes.
        help: what it says.
    """

    kind: str
    unit: str
    attributes: tuple[str, ...]
    help: str


DESCRIBED: dict[str, Described] = {
    "llm_datagen.rows": Described("counter", "{row}", (*_OF_NODE, OUTCOME), "Source rows that were done"),
    "llm_datagen.output_rows": Described("counter", "{row}", _OF_NODE, "Rows that were written"),
    "llm_datagen.cost": Described("counter", "{USD}", _OF_MODEL, "US dollars that calls have cost"),
    "llm_datagen.tokens": Described("counter", "{token}", (*_OF_MODEL, TOKEN_TYPE), "Tokens of calls"),
    "llm_datagen.requests": Described("counter", "{request}", _OF_MODEL, "Calls that were served"),
    "llm_datagen.stalls": Described(
        "counter", "{stall}", _OF_NODE, "How often nothing had moved for stall_after seconds"
    ),
    TOKEN_USAGE: Described("histogram", "{token}", (*_OF_CALL, TOKEN_TYPE), "Tokens of a call"),
    DURATION: Described("histogram", "s", (*_OF_CALL, ERROR_TYPE), "How long a call took"),
}
"""The metrics by their names."""


class Instruments:
    """Where numbers are added. Any thread may use it; nobody waits.

    Args:
        meter: makes the metrics.
    """

    def __init__(self, meter: Meter) -> None:
        def counter(name: str) -> Any:
            return meter.create_counter(name, unit=DESCRIBED[name].unit, description=DESCRIBED[name].help)

        def histogram(name: str, bounds: tuple[float, ...]) -> Any:
            told = DESCRIBED[name]
            return meter.create_histogram(
                name, unit=told.unit, description=told.help, explicit_bucket_boundaries_advisory=list(bounds)
            )

        self._rows, self._output_rows = counter("llm_datagen.rows"), counter("llm_datagen.output_rows")
        self._cost, self._tokens = counter("llm_datagen.cost"), counter("llm_datagen.tokens")
        self._requests, self._stalls = counter("llm_datagen.requests"), counter("llm_datagen.stalls")
        self._token_usage, self._duration = histogram(TOKEN_USAGE, TOKEN_BUCKETS), histogram(DURATION, SECOND_BUCKETS)

    def add_rows(self, run: str, node: str, outcomes: Mapping[str, int], written: int) -> None:
        """Add rows that were done since the last time, by what became of them, and rows that were written."""
        of_node = {RUN_ID: run, NODE_ID: node}
        for outcome, count in outcomes.items():
            if count > 0:
                self._rows.add(count, {**of_node, OUTCOME: outcome})
        if written > 0:
            self._output_rows.add(written, of_node)

    def add_usage(self, run: str, node: str, used: Mapping[str, Any]) -> None:
        """Add what an operator has reported: an entry of `UsageSums`."""
        provider = provider_of(used["provider"])
        of_model = {RUN_ID: run, NODE_ID: node, _PROVIDER: provider, _MODEL: used["model"]}
        for key, counter in ((COST, self._cost), ("requests", self._requests)):
            if used.get(key, 0) > 0:
                counter.add(used[key], of_model)
        for key, kind in _TYPES.items():
            if used.get(key, 0) > 0:
                self._tokens.add(used[key], {**of_model, TOKEN_TYPE: kind})

    def add_stall(self, run: str, node: str) -> None:
        """Add a stall."""
        self._stalls.add(1, {RUN_ID: run, NODE_ID: node})

    def add_call(self, attributes: Mapping[str, Any], seconds: float, usage: Mapping[str, int]) -> None:
        """Add a call that has ended.

        Args:
            attributes: those of the call.
            seconds: how long it took.
            usage: its token counts.
        """
        self._duration.record(seconds, attributes)
        of_usage = {name: value for name, value in attributes.items() if name != ERROR_TYPE}
        for key in ("prompt_tokens", "completion_tokens"):
            if key in usage:
                self._token_usage.record(usage[key], {**of_usage, TOKEN_TYPE: _TYPES[key]})

"""The difference between a run and the code: what is kept, what is done again, and what it costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from llm_datagen.runs.usage import COST, dollars

What = Literal["kept", "redone", "new", "removed"]


@dataclass(frozen=True, slots=True)
class Use:
    """What model calls use.

    Attributes:
        calls: calls, also those that a cache has answered.
        prompt_tokens: tokens of prompts; None when nobody knows: no call was answered yet.
        completion_tokens: tokens of answers; None likewise.
        cost: US dollars; None when no price is known, or no call was answered yet.
    """

    calls: float = 0.0
    prompt_tokens: float | None = 0.0
    completion_tokens: float | None = 0.0
    cost: float | None = 0.0

    @classmethod
    def of(cls, usage: Mapping[str, Any]) -> Use:
        """Return the use that a node reports of a model, as if the cache had answered none of the calls."""
        paid = float(usage.get("requests", usage.get("calls", 0)))
        calls = paid + float(usage.get("cached", 0))
        share = calls / paid if paid else 1.0
        cost = usage.get(COST)
        return cls(
            calls,
            float(usage.get("prompt_tokens", 0)) * share,
            float(usage.get("completion_tokens", 0)) * share,
            None if cost is None else float(cost) * share,
        )

    @property
    def is_measured(self) -> bool:
        """Whether it is known of calls that were answered; else it is only known how many there will be."""
        return self.prompt_tokens is not None

    def __add__(self, other: Use) -> Use:
        return Use(
            self.calls + other.calls,
            _sum(self.prompt_tokens, other.prompt_tokens),
            _sum(self.completion_tokens, other.completion_tokens),
            _sum(self.cost, other.cost),
        )

    def __mul__(self, times: float) -> Use:
        prompt, completion, cost = (
            None if value is None else value * times
            for value in (self.prompt_tokens, self.completion_tokens, self.cost)
        )
        return Use(self.calls * times, prompt, completion, cost)

    def as_dict(self) -> dict[str, float | None]:
        """Return it as plain data."""
        return {
            "calls": self.calls,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "cost": self.cost,
        }


def _sum(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one + other


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeDiff:
    """A node, in the run and in the code.

    Attributes:
        node_id: its id.
        operator: its operator's identity.
        what: "kept": what is done stays; "redone": all is done again; "new": it is only in the code; "removed": it is
            only in the run.
        reasons: why it is not kept: what was edited, with the old value and the new one where they are known.
        rows_kept: source rows that are done, and stay so.
        rows_to_do: source rows that will be done; None when nobody can say: the input has no end.
        is_estimate: whether that is an estimate, by how many rows have come of one before.
        is_at_most: whether a target ends the node earlier, and nobody can say how much: `rows_to_do` and `use` are the
            most that it may come to.
        dead_letters: of the rows that are kept, those that failed, and are not done again.
        jobs: jobs of it at batch APIs that have not ended; a node that is done again cancels them.
        rows_in_jobs: rows in these jobs; they are among `rows_to_do`.
        use: what the calls for `rows_to_do` will use, by what the rows that are done have used. When the operator has
            done none, only the calls are known, by the rows in jobs; None when there are none, either.
    """

    node_id: str
    operator: str
    what: What
    reasons: tuple[str, ...]
    rows_kept: int
    rows_to_do: int | None
    is_estimate: bool
    is_at_most: bool
    dead_letters: int
    jobs: int = 0
    rows_in_jobs: int = 0
    use: Use | None

    @property
    def mark(self) -> str:
        """What stands before `rows_to_do`: at most, or about so many."""
        return "≤" if self.is_at_most else "~" if self.is_estimate else ""

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "node_id": self.node_id,
            "operator": self.operator,
            "what": self.what,
            "reasons": list(self.reasons),
            "rows_kept": self.rows_kept,
            "rows_to_do": self.rows_to_do,
            "is_estimate": self.is_estimate,
            "is_at_most": self.is_at_most,
            "dead_letters": self.dead_letters,
            "jobs": self.jobs,
            "rows_in_jobs": self.rows_in_jobs,
            "use": None if self.use is None else self.use.as_dict(),
        }

    def __str__(self) -> str:
        to_do = "?" if self.rows_to_do is None else f"{self.mark}{self.rows_to_do:,}"
        why = f" ({', '.join(self.reasons)})" if self.reasons else ""
        return f"{self.node_id} {self.operator}: {self.what}{why}, {self.rows_kept:,} rows kept, {to_do} to do"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunDiff:
    """What a resume would do with the code as it is now.

    Attributes:
        pipeline_id: the run.
        version: the number of its version.
        kept_as: the id under which `rerun` would keep what is replaced; empty when nothing is, or `can_rerun` is false.
        can_rerun: whether what is replaced can be kept; else only `replace` does it, which deletes that.
        nodes: the nodes: those of the code, then those that are only in the run.
        notes: what else is to be known: settings of the code that are not used, inputs that were edited.
    """

    pipeline_id: str
    version: int
    kept_as: str
    can_rerun: bool
    nodes: tuple[NodeDiff, ...]
    notes: tuple[str, ...]

    @property
    def is_edited(self) -> bool:
        """Whether nodes are done again: then a resume needs to be told so."""
        return any(node.what != "kept" for node in self.nodes)

    @property
    def use(self) -> Use:
        """What all calls will use, as far as it is known."""
        return sum((node.use for node in self.nodes if node.use is not None), Use())

    @property
    def unknown(self) -> tuple[str, ...]:
        """The nodes of which it is not known what they will use: the operator has done no row."""
        return tuple(node.node_id for node in self.nodes if node.use is None or not node.use.is_measured)

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "pipeline_id": self.pipeline_id,
            "version": self.version,
            "kept_as": self.kept_as,
            "can_rerun": self.can_rerun,
            "edited": self.is_edited,
            "nodes": [node.as_dict() for node in self.nodes],
            "use": self.use.as_dict(),
            "unknown": list(self.unknown),
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        use = self.use
        cost = "cost unknown" if use.cost is None else dollars(use.cost)
        return "\n".join([*map(str, self.nodes), f"all: ~{use.calls:,.0f} calls, {cost}", *self.notes])

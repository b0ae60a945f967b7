"""Random pipelines of LLM operators: what is asked, where, and what may come of it."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llm_datagen import UnifiedNode, UnifiedNodePipeline, WriterConfig
from llm_datagen.llm import LLMOperator
from llm_datagen.testing import Latency, LLMFaults

from .till import PRICES, TillProcess, stamp

CANARY = "sk-canary-4f1d9a73c2"
"""The beginning of all keys: nothing like this may lie in any file."""

WINDOW_SECONDS = 0.5
"""What a minute is for the limits of a case."""

MOST_ROWS_AT_ONCE = 40

_MAX_TOKENS = 40
_RETRIES = 5
_OF_ROW = "{{ k }} {{ w }} {{ h | default('') or (answer | default('-')).split()[0] }}"
_SCHEMA = {
    "type": "object",
    "properties": {"h": {"type": "string"}, "by": {"type": "string"}},
    "required": ["h", "by"],
    "additionalProperties": False,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A node that asks.

    Attributes:
        number: of the node, from 0.
        style: the second word of its prompts, see `is_broken`; ``t`` for answers of text.
        samples: answers to each row.
        cache: the name of the journal's file; None for none.
        has_meta: whether rows say where their answers come from.
        node: what else its node is told.
        operator: what else its operator is told.
    """

    number: int
    style: str
    samples: int
    cache: str | None
    has_meta: bool
    node: dict[str, Any]
    operator: dict[str, Any]

    @property
    def name(self) -> str:
        """The node's id."""
        return f"n{self.number}"

    @property
    def on_error(self) -> str:
        """What becomes of rows that fail."""
        return str(self.node["on_error"])

    @property
    def tries(self) -> int:
        """How many tries of a call must have failed before its row does."""
        return _RETRIES + 1

    @property
    def gives_up(self) -> bool:
        """Whether calls in flight are given up soon after a cancel."""
        return float(self.node["grace"]) < 1

    @property
    def calls_at_once(self) -> int:
        """Calls in flight at most, also when it is reconfigured."""
        return MOST_ROWS_AT_ONCE * self.samples

    def prompt_of(self, row: dict[str, Any]) -> str:
        """Return what is asked about a row."""
        before = str(row.get("h", "")) or str(row.get("answer", "-")).split()[0]
        return f"{self.name} {self.style} {row['k']} {row['w']} {before}"

    @property
    def columns(self) -> tuple[str, ...]:
        """What it adds to a row."""
        return ("answer",) if self.style == "t" else ("h", "by")

    def wanted(self, row: dict[str, Any]) -> str:
        """Return what an answer must say of a row."""
        return stamp(self.prompt_of(row))


@dataclass(frozen=True, slots=True, kw_only=True)
class LLMCase:
    """What a seed stands for.

    Attributes:
        seed: the seed.
        rows: of the input.
        streaming: whether all nodes run at once.
        stages: the nodes.
        tills: how many endpoints there are.
        faults: what goes wrong at them.
        latency: how long they take.
        budget: the first cap; None for none.
        outage_after: seconds.
        limits: a minute, of each endpoint.
        strategy: of the pool; None for a single endpoint.
    """

    seed: int
    rows: list[dict[str, Any]]
    streaming: bool
    stages: list[Stage]
    tills: int
    faults: LLMFaults
    latency: Latency
    budget: dict[str, float] | None
    outage_after: float
    limits: dict[str, int]
    strategy: str | None

    @classmethod
    def of(cls, seed: int) -> LLMCase:
        """Return the case of a seed."""
        chance = random.Random(f"llm {seed}")
        size = chance.choice([8, 20, 40, 80, 80, 300])
        keys = [n - n % 2 * (chance.random() < 0.1) for n in range(size)]
        rows = [{"k": k, "w": f"w{k % 7}" * (1 + k % 9)} for k in keys]
        stages = [_stage(number, chance) for number in range(chance.choice([1, 1, 2, 2, 3]))]
        calls = size * len(stages)
        budget: dict[str, float] | None = None
        if chance.random() < 0.5:
            share = chance.uniform(0.3, 2.0)
            tokens = 400 + round(calls * 60 * share)
            usd = tokens * 1.3e-6
            caps: list[dict[str, float]] = [{"usd": usd}, {"tokens": tokens}, {"usd": usd, "tokens": tokens}]
            budget = chance.choice(caps)
        tills = chance.choice([1, 1, 2, 3])
        shares = dict.fromkeys(("rate_limit", "server_error", "reset", "truncated", "malformed", "cut_off"), 0.0)
        if chance.random() < 0.85:
            shares = {name: chance.choice([0.0, 0.03, 0.08]) for name in shares}
        is_slow = chance.random() < 0.1
        limits = {}  # within some seconds, all is done
        most = sum(size * math.prod(stage.samples for stage in stages[: number + 1]) for number in range(len(stages)))
        if chance.random() < 0.3:
            limits["requests_per_minute"] = max(chance.choice([12, 40]), most // 8)
        if chance.random() < 0.15:
            limits["tokens_per_minute"] = max(chance.choice([2500, 6000]), most * 20)
        return cls(
            seed=seed,
            rows=rows,
            streaming=chance.random() < 0.6,
            stages=stages,
            tills=tills,
            faults=LLMFaults(**shares, retry_after=chance.choice([None, 0.05, 0.3])),
            latency=Latency(
                seconds=chance.choice([0.0, 0.01, 0.04]) if size < 100 else 0.0,
                slow_share=0.03 if is_slow and size < 100 else 0.0,
                slow_seconds=1.6,
            ),
            budget=budget,
            outage_after=chance.choice([0.0, 0.6, 600.0, 600.0]),
            limits=limits,
            strategy=chance.choice(["weighted", "ordered"]) if tills > 1 or chance.random() < 0.2 else None,
        )

    def uri(self, folder: Path, number: int) -> str:
        """Return where stage `number` writes; -1 is the input."""
        return f"jsonl://{folder}/s{number}.jsonl"

    def pipeline(self, folder: Path, tills: list[TillProcess], budget: dict[str, float] | None) -> UnifiedNodePipeline:
        """Return the pipeline, with the budget of the moment."""
        nodes = []
        for stage in self.stages:
            node = UnifiedNode(stage.name, follow_input=stage.number > 0, **stage.node)
            node.bind_io(self.uri(folder, stage.number - 1), self.uri(folder, stage.number))
            nodes.append(node.set_operator(self._operator(stage, folder, tills, budget)))
        return UnifiedNodePipeline(
            nodes, streaming=self.streaming, results_dir=folder / "results", log_file=folder / "platform.log"
        )

    def _operator(
        self, stage: Stage, folder: Path, tills: list[TillProcess], budget: dict[str, float] | None
    ) -> LLMOperator:
        timeout = 1.0 if self.latency.slow_share else 20.0
        each = [
            {
                "model": f"m{number}",
                "base_url": till.base_url,
                "api_key": till.api_key,
                "prices": PRICES,
                **self.limits,
            }
            for number, till in enumerate(tills)
        ]
        where: dict[str, Any] = each[0]
        if self.strategy is not None:
            where = {"endpoints": [{**one, "weight": 1 + at} for at, one in enumerate(each)], "strategy": self.strategy}
        return LLMOperator(
            f"{stage.name} {stage.style} {_OF_ROW}",
            output="answer" if stage.style == "t" else _SCHEMA,
            overwrite_columns=True,  # stages in a line write the same columns
            params={"max_tokens": _MAX_TOKENS},
            n=stage.samples,
            cache=None if stage.cache is None else str(folder / stage.cache),
            meta=stage.has_meta,
            budget=budget,
            timeout=timeout,
            outage_after=self.outage_after,
            max_retries=_RETRIES,
            retry_wait=0.01,
            name=stage.name,
            **stage.operator,
            **where,
        )


def _stage(number: int, chance: random.Random) -> Stage:
    on_error = chance.choice(["fail", "skip", "dead_letter", "dead_letter"])
    style = chance.choice(["t", "t", "j0", "j1", "j1" if on_error == "fail" else "j2"])
    return Stage(
        number=number,
        style=style,
        samples=chance.choice([1, 1, 1, 2, 3]),
        cache=chance.choice([None, None, "answers.sqlite", "answers.sqlite", f"answers-{number}.sqlite"]),
        has_meta=chance.random() < 0.5,
        node={
            "parallel_size": chance.choice([1, 2, 5, 12, MOST_ROWS_AT_ONCE]),
            "ordered": chance.random() < 0.3,
            "on_error": on_error,
            "retries": chance.choice([0, 0, 0, 1]),
            "retry_wait": 0.01,
            "delivery": "at_most_once" if chance.random() < 0.15 else "exactly_once",
            "grace": chance.choice([60.0, 60.0, 0.02]),
            "writer_config": WriterConfig(
                async_mode=chance.random() < 0.7,
                flush_batch_size=chance.choice([1, 5, 1000]),
                queue_size=chance.choice([1, 20, 10_000]),
                fsync="never",
            ),
        },
        operator={"max_repairs": chance.choice([1, 2])},
    )

"""The operator that has models judge: by a rubric, on a scale, or which of two texts is better."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from llm_datagen.config import check_count, check_flag
from llm_datagen.config.constructor import refuses_unknown
from llm_datagen.llm.answers.new_row import NewRow
from llm_datagen.llm.answers.provenance import META_FIELD, all_together
from llm_datagen.llm.batch.options import Batch
from llm_datagen.llm.cost.budget import Budget
from llm_datagen.llm.cost.prices import Prices
from llm_datagen.llm.endpoints import Endpoint
from llm_datagen.llm.engines.options import Engine
from llm_datagen.llm.errors import PromptError
from llm_datagen.llm.fingerprint import given_parts
from llm_datagen.llm.http.body import MAX_RESPONSE_BYTES
from llm_datagen.llm.http.streaming.options import Stream
from llm_datagen.llm.http.structured_modes import Mode
from llm_datagen.llm.judging.options import aggregate_of, each_judge, pair_of_columns, refuse_equal, renamed
from llm_datagen.llm.judging.outcomes import Aggregate, compared, compared_columns, scored, scored_columns
from llm_datagen.llm.judging.questions import FIRST, SECOND, SYSTEM, about_one, about_two, checked_rubric
from llm_datagen.llm.judging.scales import Scale
from llm_datagen.llm.operator import LLMOperator
from llm_datagen.llm.pool.pool import Strategy
from llm_datagen.llm.prompts.template import Prompt, row_label
from llm_datagen.llm.prompts.values import Null
from llm_datagen.operators import BaseOperator, INodeContext, Row
from llm_datagen.operators.fingerprint import parts_of

_OWN_PARTS = ("prompt", "output", "system", "n", "meta", "null")
"""Parts of a fingerprint that the Judge has by itself, as the user gave them."""


@refuses_unknown
class Judge(BaseOperator):
    """Has one model, or several, judge every row by a rubric: by scores, or by which of two columns is better.

    The reason comes before the score, and the answer keeps to a schema. Where two columns are compared, each judge is
    asked in both orders; when it then chooses by the place, its vote is a tie. Each judge is an `LLMOperator`, with its
    limits, retries, pools, cache, budget and log of calls. An instance serves one node at a time.

    Args:
        prompt: a Jinja2 template of what is judged, as in `LLMOperator`; where two columns are compared, of the
            question that both answer.
        rubric: what counts: a text, or a text for each criterion, ``{"accuracy": "…", "clarity": "…"}``, which gives a
            column of scores for each. Part of the template, so it may name fields of the row.
        compare: the two columns that are compared; None: there are scores.
        scale: the lowest and the highest score, whole numbers; or labels, from the worst to the best.
        judges: several judges: a dict each, with ``model`` and what else is its own: ``base_url``, ``api_key_env``,
            ``adapter``, ``endpoints``, ``params``, ``prices``, limits and the like; the rest is as for all. None: one.
        samples: how often each judge is asked (and in each order); more than one needs a ``temperature`` above 0.
        aggregate: how several scores become one: ``"mean"``, ``"median"`` or ``"majority"`` (null when two have the
            most); None: the mean of numbers, the majority of labels.
        ties: whether a judge may say that neither of the two is better.
        both_orders: whether each judge is asked a second time with the two in the other order.
        columns: other names for the new columns: ``{"score": "quality", "reason": "why"}``.
        system: a template of the system message; None: one that asks for strictness and fairness.
        model: the model's name, as the endpoint knows it.
        base_url: where the endpoint is; None: as in `LLMOperator`. Also for all that follow.
        api_key: the key. It is never logged.
        api_key_env: another environment variable that holds the key.
        adapter: the API that the endpoint speaks.
        engine: a model in this process, or in processes of its own, in place of an endpoint, as in `LLMOperator`.
        endpoints: a pool of endpoints in place of one.
        strategy: how the pool chooses: ``weighted`` or ``ordered``.
        outage_after: seconds that no endpoint may answer before the run fails.
        null: what a template writes for a null of the row: nothing (``"empty"``), or the row fails (``"error"``).
        params: more fields of the request, such as ``{"temperature": 0, "max_tokens": 300}``.
        seed: a number from which the seed of each call is made, for answers that can be had again.
        prompt_cache: whether the endpoint is asked to keep what all prompts begin with: the system message, the rubric.
        timeout: seconds that one try of a call may take in all.
        max_response_bytes: the longest body of an answer, unpacked.
        stream: whether answers are streamed, as in `LLMOperator`.
        max_retries: how often a call is repeated after a transient error.
        retry_wait: seconds that the first pause takes at most; it doubles with each one, up to 60 seconds.
        requests_per_minute: how many calls the endpoint allows within any minute.
        tokens_per_minute: how many tokens it allows, in the same way.
        structured: how JSON is asked for; None: in the best way that the endpoint knows.
        lenient: whether JSON is read out of what a model puts around it.
        max_repairs: how often a model is asked again after an answer that does not fit.
        cache: the path of a file that stores every answer. It may be that of other operators.
        overwrite_columns: whether the new columns may overwrite some of the row; else such a row is refused.
        prices: US dollars per million tokens; None: what genai-prices knows of the model.
        budget: what the run may spend in all, with all other operators that have a budget. Needs ``max_tokens``.
        meta: whether the row gets a column ``_meta`` that says where the scores come from: sums over all calls.
        keep_calls: whether prompts and answers are kept in the folder of the run.
        batch_api: whether calls are sent as jobs of the provider's batch API, for half the price, as in `LLMOperator`;
            of one judge only.
        name: the operator's identity in the run state.

    Raises:
        ConfigError: at construction, on a wrong argument.
        PromptError, LLMRequestError, LLMAnswerError: by a call of one of the judges; the row fails.
        OutageError, EndpointRefusedError, CacheError, BudgetError, BatchError: by a call or `setup`; the run fails.
    """

    def __init__(
        self,
        prompt: str,
        *,
        rubric: str | Mapping[str, str],
        compare: Sequence[str] | None = None,
        scale: Sequence[int] | Sequence[str] = (1, 5),
        judges: Sequence[Mapping[str, Any]] | None = None,
        samples: int = 1,
        aggregate: Aggregate | None = None,
        ties: bool = True,
        both_orders: bool = True,
        columns: Mapping[str, str] | None = None,
        system: str | None = None,
        model: str | None = None,
        base_url: str | None = None,
        api_key: str | None = None,
        api_key_env: str | None = None,
        adapter: Any = "openai",
        engine: Engine | Mapping[str, Any] | str | None = None,
        endpoints: Sequence[Endpoint | Mapping[str, Any]] | None = None,
        strategy: Strategy = "weighted",
        outage_after: float = 600.0,
        null: Null = "empty",
        params: Mapping[str, Any] | None = None,
        seed: int | None = None,
        prompt_cache: bool = False,
        timeout: float = 120.0,
        max_response_bytes: int = MAX_RESPONSE_BYTES,
        stream: bool | Stream | Mapping[str, Any] = False,
        max_retries: int = 5,
        retry_wait: float = 0.5,
        requests_per_minute: int | None = None,
        tokens_per_minute: int | None = None,
        structured: Mode | None = None,
        lenient: bool = True,
        max_repairs: int = 1,
        cache: str | None = None,
        overwrite_columns: bool = False,
        prices: Prices | Mapping[str, float] | None = None,
        budget: Budget | Mapping[str, float] | None = None,
        meta: bool = False,
        keep_calls: bool | int = True,
        batch_api: bool | Batch | Mapping[str, Any] = False,
        name: str | None = None,
    ) -> None:
        Prompt(prompt)  # by itself, so that an error names its line, and not that of the whole
        asked, found = checked_rubric(rubric), Scale(scale)
        self._compare = None if compare is None else pair_of_columns(compare)
        self._criteria = () if isinstance(asked, str) or self._compare else tuple(asked)
        self._aggregate = aggregate_of(aggregate, found, self._criteria)
        self._samples = check_count("samples", samples)
        self._orders = 2 if check_flag("both_orders", both_orders) and self._compare else 1
        self._overwrites = check_flag("overwrite_columns", overwrite_columns)
        self._has_meta = check_flag("meta", meta)
        if name:
            self.name = name
        if self._compare is None:
            text, schema = about_one(prompt, asked, found)
        else:
            text, schema = about_two(prompt, asked, ties=check_flag("ties", ties))
        shared = {
            **{"model": model, "base_url": base_url, "api_key": api_key, "api_key_env": api_key_env},
            **{"adapter": adapter, "endpoints": endpoints, "strategy": strategy, "outage_after": outage_after},
            **{"params": params, "timeout": timeout, "max_response_bytes": max_response_bytes, "null": null},
            **{"max_retries": max_retries, "retry_wait": retry_wait, "requests_per_minute": requests_per_minute},
            **{"tokens_per_minute": tokens_per_minute, "structured": structured, "lenient": lenient, "cache": cache},
            **{"engine": engine, "seed": seed, "stream": stream, "max_repairs": max_repairs},
            **{"prompt_cache": prompt_cache, "prices": prices, "budget": budget, "keep_calls": keep_calls},
            **{"batch_api": batch_api},
        }
        asked_of = each_judge(judges, shared)
        self.operators = [
            LLMOperator(
                text,
                output=schema,
                system=SYSTEM if system is None else system,
                n=self._samples,
                meta=True,
                overwrite_columns=True,
                **each,
            )
            for each in asked_of
        ]
        """The judges."""
        each_asked = zip(self.operators, asked_of, strict=True)
        refuse_equal([(each.model, own["params"] or {}, own["seed"]) for each, own in each_asked])
        is_single = self._samples == len(self.operators) == 1
        standard = (
            scored_columns(self._criteria, is_single=is_single)
            if self._compare is None
            else compared_columns(both_orders=self._orders == 2)
        )
        self._names = renamed(standard, columns)
        given: dict[str, Any] = {
            "compare": compare,
            "scale": scale,
            "samples": samples,
            "aggregate": aggregate,
            "ties": ties,
        }
        given |= {"prompt": prompt, "rubric": rubric, "both_orders": both_orders, "columns": columns, "system": system}
        given |= {"null": null, "meta": meta}
        self._parts = given_parts(given, init=Judge.__init__)
        self._own = frozenset(vars(self)) | {"_own"}

    def __repr__(self) -> str:
        models = ", ".join(each.model for each in self.operators)
        return f"Judge(models={models!r}, columns={', '.join(self._names.values())!r})"

    def fingerprint(self) -> Mapping[str, str | None]:
        """Return what the judgements depend on, of each judge as an `LLMOperator`; and the code of a subclass."""
        parts = dict(self._parts)
        for number, judge in enumerate(self.operators):
            found = judge.fingerprint().items()
            parts |= {f"judge {number}: {name}": value for name, value in found if name not in _OWN_PARTS}
        return {**parts, **parts_of(self, above=Judge, without=self._own)}

    def kept_files(self) -> dict[str, str]:
        """Return the file of the cache, and the cassette that the environment names."""
        return self.operators[0].kept_files()

    async def setup(self) -> None:
        """Set up the judges. Called on the event loop of the node.

        Raises:
            LLMError: see `LLMOperator`.
        """
        for judge in self.operators:
            await judge.setup()

    async def teardown(self) -> None:
        """Close what the judges have open."""
        for judge in self.operators:
            await judge.teardown()

    async def process_item(self, item: Any, ctx: INodeContext) -> Row:
        """Return the row with the columns of the judgement. When one judge fails, the others are waited for.

        Raises:
            PromptError: when the prompt cannot be made of this row.
            ColumnExistsError: when the row has one of the columns already.
            LLMError: see `LLMOperator`: when one of the judges has no answer.
        """
        row = NewRow(item, self._names.values(), ctx.node_id, overwrites=self._overwrites, has_meta=self._has_meta)
        shown = list(self._shown(row.fields))
        asked = [judge.process_item(each, ctx) for judge in self.operators for each in shown]
        found = [_raised(each) for each in await asyncio.gather(*asked, return_exceptions=True)]
        answers = [each if isinstance(each, list) else [each] for each in found]  # by judge, and order: the samples
        if self._compare is None:
            columns = scored([sample for each in answers for sample in each], self._criteria, self._aggregate)
        else:
            orders = self._orders
            by_judge = [answers[at : at + orders] for at in range(0, len(answers), orders)]
            pairs = [list(pair) for each in by_judge for pair in zip(*each, strict=True)]
            columns = compared(pairs, self._compare)
        named = {self._names[name]: value for name, value in columns.items()}
        calls = [sample[META_FIELD][ctx.node_id] for each in answers for sample in each]
        return row.filled(named, all_together(calls) if self._has_meta else None)

    def _shown(self, fields: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield the row as it is shown to a judge: in each order, if there are two texts."""
        row = {name: value for name, value in fields.items() if name != META_FIELD}
        if self._compare is None:
            yield row
            return
        missing = [name for name in self._compare if name not in row]
        if missing:
            raise PromptError(f"{row_label(fields)} has no column {missing[0]!r}, which is to be compared")
        first, second = (row[name] for name in self._compare)
        yield {**row, FIRST: first, SECOND: second}
        if self._orders == 2:
            yield {**row, FIRST: second, SECOND: first}


def _raised(found: Any) -> Any:
    if isinstance(found, BaseException):
        raise found
    return found

"""What a user says of a judge, checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llm_datagen.config import check_choice
from llm_datagen.errors import ConfigError
from llm_datagen.errors.advice import did_you_mean
from llm_datagen.llm.answers.columns import checked_columns
from llm_datagen.llm.judging.outcomes import Aggregate
from llm_datagen.llm.judging.questions import TIE
from llm_datagen.llm.judging.scales import Scale

_OF_ONE = (
    *("model", "base_url", "api_key", "api_key_env", "adapter", "endpoints", "strategy", "params", "structured"),
    *("requests_per_minute", "tokens_per_minute", "prices", "timeout", "engine", "seed", "stream"),
    "prompt_cache",
)
"""What may be said of each judge by itself."""


def each_judge(judges: Any, shared: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the arguments of each judge.

    Args:
        judges: a dict of each, with what is its own; None: there is one, and all is said of it.
        shared: what is said of all.

    Raises:
        ConfigError: when it is no list of dicts, or one has a setting that no judge has by itself.
    """
    if judges is None:
        return [dict(shared)]
    if not isinstance(judges, Sequence) or isinstance(judges, str) or not judges:
        raise ConfigError(f"judges must be a list of dicts such as {{'model': …}}, not {judges!r}")
    if len(judges) > 1 and shared["batch_api"]:
        raise ConfigError(
            "batch_api is for one judge: a node has one list of jobs. Make a Judge of each, and bring their scores "
            "together with ops.Vote"
        )
    found = []
    for number, each in enumerate(judges):
        if not isinstance(each, Mapping):
            raise ConfigError(f"judges[{number}] must be a dict such as {{'model': …}}, not {each!r}")
        for name in each:
            if name not in _OF_ONE:
                raise ConfigError(f"judges[{number}] has no setting {name!r}; {did_you_mean(str(name), _OF_ONE)}")
        found.append({**shared, **each})
    return found


def refuse_equal(asked: Sequence[Any]) -> None:
    """Refuse judges that are asked the same: in a cache, they would have one answer, and agree with themselves.

    Args:
        asked: of each judge, what its requests do not have in common with those of all.

    Raises:
        ConfigError: naming the two.
    """
    for number, each in enumerate(asked):
        if each in asked[:number]:
            raise ConfigError(
                f"judges[{number}] is asked the same as judges[{asked.index(each)}], by its model and params: set "
                "samples to ask a judge several times, or give it another model or params"
            )


def aggregate_of(given: Any, scale: Scale, criteria: Sequence[str]) -> Aggregate:
    """Return how several scores become one.

    Raises:
        ConfigError: when there is no such way, or labels are to be added up.
    """
    if given is None:
        given = "mean" if scale.labels is None else "majority"
    aggregate: Aggregate = check_choice("aggregate", given, Aggregate)
    if scale.labels is not None and aggregate != "majority":
        raise ConfigError(f"labels have no {aggregate}: set aggregate='majority', or give a scale of numbers")
    if scale.labels is not None and criteria:
        raise ConfigError("several criteria need a scale of numbers, as their mean is the score")
    return aggregate


def pair_of_columns(given: Any) -> tuple[str, str]:
    """Return the two columns that are compared.

    Raises:
        ConfigError: when it is no list of two.
    """
    names = list(given) if isinstance(given, Sequence) and not isinstance(given, str) else []
    if len(names) != 2 or not all(isinstance(each, str) and each for each in names) or names[0] == names[1]:
        raise ConfigError(f"compare must be a list of two columns, not {given!r}")
    if TIE in names:
        raise ConfigError(f"a column that is compared may not be called {TIE!r}, which a judge may say: rename it")
    return names[0], names[1]


def renamed(standard: Sequence[str], given: Any) -> dict[str, str]:
    """Return the name of each new column.

    Args:
        standard: the names that they have by themselves.
        given: other names for some; None for none.

    Raises:
        ConfigError: when one is no such column, or cannot be a name, or two have the same.
    """
    if given is None:
        given = {}
    if not isinstance(given, Mapping) or not set(given) <= set(standard):
        raise ConfigError(f"columns must be a dict with other names for {', '.join(standard)}, not {given!r}")
    names = checked_columns([given.get(name, name) for name in standard])
    if len(set(names)) < len(names):
        raise ConfigError(f"columns must have names of their own, not {', '.join(names)}")
    return dict(zip(standard, names, strict=True))

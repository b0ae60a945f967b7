"""Whether a pipeline can be run in shards: what cannot is refused by name, with what to do; nothing is written yet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from llm_datagen.errors import ConfigError
from llm_datagen.operators import Call, operator_name, operators_within
from llm_datagen.pipeline.spool import is_standard
from llm_datagen.streams import Cycle, Generate, MemoryStream, MergedStream, Stream, StreamFactory
from llm_datagen.streams.inputs.cycled import CycledStream
from llm_datagen.streams.inputs.generated import GeneratedStream
from llm_datagen.streams.source import streams_of

Entry = Mapping[str, Any]

_TO_A_FILE = "write its rows to a file first (JSON lines, say), and give that as the input"


def refuse_rows(settings: Mapping[str, Any]) -> None:
    """Refuse an input that is read once, or computed: it has no ranges that several processes could read.

    Args:
        settings: those of a line of operators.

    Raises:
        ConfigError: when the input is rows of the program, standard input, or made by chance or in rounds.
    """
    rows, uri = settings["input"], settings["input_uri"]
    if isinstance(rows, Generate | Cycle):
        raise ConfigError(f"a run in shards reads ranges of a stored input, and this one is computed; {_TO_A_FILE}")
    if rows is not None:
        raise ConfigError(f"a run in shards reads ranges of a stored input, not rows of the program; {_TO_A_FILE}")
    if is_standard(uri):
        raise ConfigError(f"a run in shards reads ranges of a stored input, not standard input; {_TO_A_FILE}")


def check_splittable(run_state: Mapping[str, Any], operators: Sequence[Any]) -> None:
    """Check that each range of the input can be done by itself.

    Args:
        run_state: the run state of the whole, as it would be made.
        operators: the operators of its nodes.

    Raises:
        ConfigError: when something needs all rows, or the input has no ranges; says which, and what to do.
    """
    for entry, operator in zip(run_state["nodes"], operators, strict=True):
        _check_operator(entry, operator)
    if is_standard(run_state["config"].get("output_uri")):
        raise ConfigError("the output of a run in shards cannot be standard output (-): name a file")
    input_of(run_state["nodes"])
    read = {place for entry in run_state["nodes"] for place in StreamFactory.source(entry["input_uri"]).places}
    for entry in run_state["nodes"]:
        output = StreamFactory.create(entry["output_uri"])
        if isinstance(output, MemoryStream) and output.place not in read:
            raise ConfigError(
                f"{entry['node_id']}: {entry['output_uri']} lies in the memory of one process, and shards are run by "
                "others: write to a file"
            )


def _check_operator(entry: Entry, operator: Any) -> None:
    node_id, name = entry["node_id"], operator_name(operator)
    call = Call(operator)
    if any(getattr(each, "feedback_of", None) is not None for each in operators_within(operator)):
        what, advice = "draws from the rows of another node (Feedback)", "leave shards out"
    elif call.keeps_state or call.finish is not None:
        what = "keeps state (ctx.state)" if call.keeps_state else "has a finish()"
        advice = "run the steps before it in shards, and this one in a run of its own over their output"
    elif entry["target"] is not None:
        raise ConfigError(
            f"{node_id}: target={entry['target']} counts the rows of a whole run, and shards are done by themselves; "
            "leave target or shards out"
        )
    else:
        return
    raise ConfigError(f"{node_id}: {name} {what}, so it needs all rows, and a shard has a part of them; {advice}")


def input_of(entries: Sequence[Entry]) -> Stream:
    """Return the one input that a run reads, as its nodes read it.

    Args:
        entries: the nodes, as the run state of the whole has them.

    Raises:
        ConfigError: when there are several, or it has no end, or may grow.
    """
    found = {stream.place: (entry, stream) for entry, stream in _external(entries)}
    if len(found) > 1:
        shown = " and ".join(stream.shown for _, stream in found.values())
        raise ConfigError(
            f"a run in shards reads ranges of one input, and this one reads {shown}: join them in a run before, or "
            "read one of them in an operator (Join, a side table)"
        )
    ((entry, stream),) = found.values()
    if isinstance(stream, CycledStream | GeneratedStream):
        raise ConfigError(f"{stream.shown}: this input is computed, and has no ranges; {_TO_A_FILE}")
    if isinstance(stream, MemoryStream):
        raise ConfigError(f"{stream.uri} lies in the memory of one process, and shards are run by others; {_TO_A_FILE}")
    source = StreamFactory.input_of(entry)
    as_is = {each.place for each in source.read_as_is(follow=entry["follow_input"])}
    if stream.place not in as_is and not stream.is_sealed():
        raise ConfigError(
            f"{entry['node_id']}: {stream.shown} may grow (follow_input=True), and the ranges of shards are fixed when "
            "the run begins; give follow_input=False, or wait until it is sealed"
        )
    return stream


def only_reader(entries: Sequence[Entry]) -> str | None:
    """Return the id of the one node that reads the input of a run; None when several do, or it reads others, too."""
    found = {entry["node_id"]: entry for entry, _ in _external(entries)}
    if len(found) != 1:
        return None
    ((node_id, entry),) = found.items()
    return None if isinstance(StreamFactory.input_of(entry), MergedStream) else str(node_id)


def _external(entries: Sequence[Entry]) -> Iterable[tuple[Entry, Stream]]:
    """Yield the streams that nodes read and no node writes, each as often as it is read."""
    written = {StreamFactory.create(entry["output_uri"]).place for entry in entries}
    for entry in entries:
        for stream in streams_of(StreamFactory.input_of(entry)):
            if stream.place not in written:
                yield entry, stream

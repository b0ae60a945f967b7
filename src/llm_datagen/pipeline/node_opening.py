"""A node is checked, and opened, before its actors are started."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

from llm_datagen.actors.opened_node import OpenedNode
from llm_datagen.config import DataConfig, settings_in
from llm_datagen.executors.process.pickling import pack
from llm_datagen.operators import Call
from llm_datagen.operators.call import calls_at_once
from llm_datagen.pipeline.binding import Binding
from llm_datagen.pipeline.checked_ids import CheckedIds
from llm_datagen.pipeline.node_checks import check_delivery, check_operator
from llm_datagen.pipeline.settings import NodeAloneSettings
from llm_datagen.pipeline.stream_checks import check_dead_letters_of, check_finished, check_input
from llm_datagen.streams import Sink
from llm_datagen.streams.dead_letters import dead_letter_abandoned
from llm_datagen.streams.dispatch_log import DispatchLog, abandoned
from llm_datagen.streams.recovery import check_recoverable, last_position
from llm_datagen.streams.tails import Tails

_OF_STAGES = [each.name for each in fields(OpenedNode) if each.name in settings_in(NodeAloneSettings)]
"""Settings that stages look at by their names."""


def check_node(node: Binding, checked: CheckedIds) -> bytes | None:
    """Check that a node can go on where it was; return its operator as it is sent to worker processes, if it is.

    Only reads: what is refused stays as it is (M22).

    Args:
        node: the node.
        checked: which inputs were looked through.

    Raises:
        ConfigError: when the operator cannot be sent to worker processes.
        IdError: when two rows of an input that no node wrote have one id.
        StreamMissingError: when the input must be there and is not.
        StreamError: when the output cannot be continued; see `Sink`.
    """
    source, output = node.input, node.output
    check_delivery(node)
    output.check_seal()
    seal = output.read_seal()
    if seal is not None and node.is_finished():
        check_finished(output, seal.size, seal.source, source.uri)
        check_dead_letters_of(output, seal.position())
        return None
    check_operator(node)
    packed = _pack(node)
    for stream in source.read_as_is(follow=node.follow_input):
        check_input(stream)
    output.check_free()
    if output.is_sealed():
        output.verify(whole=False)
    position = check_recoverable(output, source.uri)
    check_dead_letters_of(output, position)
    as_is = {stream.place for stream in source.read_as_is(follow=node.follow_input)}
    data = DataConfig.of(node.settings["data_config"])
    for stream, coverage in source.parts(position.coverage):
        stream.check_resumable(coverage)
        if node.root is None:
            checked.check(stream, data, follow=stream.place not in as_is)
    Tails.check(source, position.marks, position.coverage)
    abandoned(output, position)
    return packed


def open_node(
    node: Binding, packed: bytes | None, *, seal: bool, folder: Path | None, is_needed: bool = True
) -> OpenedNode:
    """Open a node's streams, recover the output, and return what its stages need to know. `check_node` comes first.

    Args:
        node: the node.
        packed: what that returned.
        seal: whether the output is sealed at the end.
        folder: where the operator may keep files of its own.
        is_needed: whether anybody needs what it has not done; else nothing is opened.

    Raises:
        StreamError: when the output cannot be continued; see `Sink`.
    """
    source, output = node.input, node.output
    call = Call(node.operator)
    old_seal = output.read_seal()
    sink: Sink | None = None
    dispatched: DispatchLog | None = None
    if not is_needed:
        position = last_position(output)
    elif old_seal is not None and node.is_finished():
        output.remove_leftovers()
        position = old_seal.position()
    else:
        packed = packed or _pack(node)
        node.reopen()
        sink = output.sink(source=source.uri, fsync=node.writer_config.fsync, keeps_state=call.keeps_state)
        as_is = source.read_as_is(follow=node.follow_input)
        if any(stream.has_tails or stream.has_seek_marks for stream in as_is):
            sink.tails = Tails(source, follow=node.follow_input)
            Tails.find(source, sink.position.marks)
        try:
            dead_letter_abandoned(sink, source, node.node_id, node.root)
            dispatched = _dispatch_log(node)
        except BaseException:
            sink.close()
            raise
        position = sink.position
    settings = node.settings_of_run()
    return OpenedNode(
        node_id=node.node_id,
        operator=node.operator,
        call=call,
        calls_at_once=calls_at_once(node.operator),
        source=source,
        sink=sink,
        position=position,
        segments=source.gaps(position.coverage),
        writer=node.writer_config,
        root=node.root,
        follow=node.follow_input,
        policy=node.policy,
        dispatched=dispatched,
        **{name: settings[name] for name in _OF_STAGES},
        packed=packed,
        folder=folder,
        end_name=node.end_name,
        seal=seal,
        is_needed=is_needed,
        config=node.config(),
    )


def _pack(node: Binding) -> bytes | None:
    return pack(node.operator, node.output.codec) if node.settings["executor"] == "process" else None


def _dispatch_log(node: Binding) -> DispatchLog | None:
    if node.settings["delivery"] == "exactly_once":
        return None
    return DispatchLog(node.output, sync=node.writer_config.fsync == "flush")

"""What of a node cannot go together: known without a look at any stream, so that `create()` refuses it."""

from __future__ import annotations

from collections.abc import Iterable

from llm_datagen.errors import ConfigError
from llm_datagen.operators import Call, check_end_ids, operator_name
from llm_datagen.operators.call import has_jobs
from llm_datagen.pipeline.binding import Binding
from llm_datagen.streams.storage.local import LocalStorage
from llm_datagen.streams.storage.logs import HasLogs
from llm_datagen.streams.storage.memory import MemoryStorage


def check_possible(nodes: Iterable[Binding]) -> None:
    """Check the nodes of a new run. Nothing is touched.

    Raises:
        ConfigError: as `check_delivery` and `check_operator`.
    """
    for node in nodes:
        check_delivery(node)
        check_operator(node)


def check_delivery(node: Binding) -> None:
    """Check that a node may deliver as it is to, where its output lies.

    Raises:
        ConfigError: when it may not.
    """
    output, delivery = node.output, node.settings["delivery"]
    if delivery != "exactly_once" and isinstance(output.storage, HasLogs):
        raise ConfigError(
            f"{node.node_id}: delivery={delivery!r} needs an output that only one process can have open, and an object "
            f"store has no such files ({output.uri}); write to this machine, or leave delivery='exactly_once'"
        )
    if delivery != "exactly_once" and has_jobs(node.operator):
        raise ConfigError(
            f"{node.node_id}: delivery={delivery!r} gives up rows that are in flight when the process dies, and with "
            "batch_api these are in jobs that go on: leave delivery='exactly_once'"
        )


def check_operator(node: Binding) -> None:
    """Check that the rows and the state of a node's operator can be kept.

    Raises:
        ConfigError: when rows at the end of its source could have no ids, or it keeps state and its output is not on
            this machine.
    """
    check_end_ids(node.operator, node.node_id, node.settings["id_scheme"])
    if Call(node.operator).keeps_state and not isinstance(node.output.storage, LocalStorage | MemoryStorage):
        raise ConfigError(
            f"{node.node_id}: {operator_name(node.operator)} keeps state, which lies beside the output, and "
            f"{node.output.uri} is not on this machine: write to a local path, and export the result (also=[…])"
        )

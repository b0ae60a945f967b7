"""Whether a run may go on, as its image and its files are now. What compares only reads (M22)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llm_datagen.config import FailurePolicy, OnError
from llm_datagen.errors import ConfigError, ImageMismatchError, StreamMissingError
from llm_datagen.node import UnifiedNode
from llm_datagen.operators import operator_name
from llm_datagen.report import Status
from llm_datagen.streams import FileStream, Fingerprint


def check_operators(image: dict[str, Any], operators: list[Any]) -> None:
    """See to it that the code has the operators of the image, in their order.

    Raises:
        ImageMismatchError: when it has others.
    """
    names = [operator_name(operator) for operator in operators]
    known = [node["operator"] for node in image["nodes"]]
    if names != known:
        raise ImageMismatchError(
            f"run {image['pipeline_id']!r} was made with the operators {known}, and the code has {names}; a resume "
            "needs the same ones in the same order (an operator that was renamed keeps its identity with "
            "name='the old name')"
        )


def change_policy(image: dict[str, Any], on_error: OnError | None, max_errors: int | float | None) -> None:
    """Write into an image what becomes of rows that fail from now on.

    Raises:
        ConfigError: on a wrong value, or when only a limit is given, and no node goes on after a row that fails.
    """
    if on_error is None and max_errors is None:
        return
    FailurePolicy(on_error=on_error or "fail", max_errors=max_errors)
    changed = [entry for entry in image["nodes"] if on_error is not None or entry["on_error"] != "fail"]
    if not changed:
        raise ConfigError(
            f"max_errors={max_errors} changes nothing by itself: in this run, the first row that fails ends it "
            "(on_error='fail'); say on_error='skip' or 'dead_letter', too"
        )
    for entry in changed:
        entry.update(on_error=on_error or entry["on_error"], max_errors=max_errors)


def check_nodes(nodes: Sequence[UnifiedNode], image: Mapping[str, Any]) -> None:
    """See to it that nodes of an image can go on, before anything is changed (M22)."""
    entries = {entry["node_id"]: entry for entry in image["nodes"]}
    for node in nodes:
        entry = entries[node.node_id]
        if not node.is_finished():
            known, done = entry.get("input_fingerprint"), node.read_before()
            Fingerprint.check_input(node.input, known, done, follow=node.follow_input)
        _check_output_is_there(node, entry)
        node.check()


def _check_output_is_there(node: UnifiedNode, entry: Mapping[str, Any]) -> None:
    """See to it that what the image says was written has not gone, with all that accounted for it (M22)."""
    rows = entry.get("rows_in", 0)
    if rows and isinstance(node.output, FileStream) and not node.output.exists():
        raise StreamMissingError(
            f"{node.output.path} is gone, with its commit log and its seal, though {rows} source rows of "
            f"{node.node_id} were done; restore it, or start afresh with if_exists='overwrite'"
        )


def is_untouched(image: dict[str, Any], nodes: list[UnifiedNode]) -> bool:
    """Return whether a run was created, and nothing of it has begun."""
    return image["status"] == Status.PENDING and not any(node.output.exists() for node in nodes)

"""Random cases, drawn from a seed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from .cases import STYLES, Case, Node
from .exports import EXPORTS
from .inputs import SOURCES, has_lines

ANY = "any"
"""In place of a kind of input or output: the seed chooses."""


def random_case(
    seed: int,
    *,
    rows: int | None = None,
    processes: bool = False,
    mischief: bool = False,
    compression: str = "",
    files: int = 1,
    source: str = "jsonl",
    output: str = "",
    **fixed: Any,
) -> Case:
    """Return the case of a seed.

    Args:
        seed: the seed.
        rows: rows of the input; None leaves it to the seed.
        processes: whether its operators are plain, and run in worker processes.
        mischief: whether its operators fork, start pools and change the working directory.
        compression: the ending that tells how input and output are compressed; empty: they are not.
        files: of how many files the input is made.
        source: one of `SOURCES`, or `ANY`.
        output: one of `EXPORTS`, which is made besides the output or in its place, or `ANY`: some; empty: none.
        fixed: `delivery` of all nodes, and `fsync`, if they are not left to the seed.
    """
    dice = random.Random(seed)
    id_scheme = "numeric" if dice.random() < 0.15 else "path"
    all_ordered = dice.random() < 0.35
    nodes: list[Node] = []
    for _ in range(dice.choice((1, 2, 2, 3, 4))):
        nodes.append(_random_node(dice, nodes, id_scheme, all_ordered))
    case = Case(
        seed=seed,
        rows=rows or dice.choice((dice.randint(8, 60), dice.randint(100, 300))),
        nodes=tuple(nodes),
        streaming=dice.random() < 0.7,
        async_mode=dice.random() < 0.6,
        fsync=dice.choice(("never", "flush", "close")),
        queue_size=dice.choice((1, 2, 3, 7, 20, 200)),
        flush_batch_size=dice.choice((1, 2, 5, 50)),
        flush_interval=dice.choice((0.002, 0.02, 0.5)),
        between=dice.choice(("jsonl", "csv")),
        output=dice.choice(("jsonl", "csv")),
        id_scheme=id_scheme,
        wide=dice.random() < 0.25,
    )
    case = replace(_with_failures(case, random.Random(f"failures {seed}"), **fixed), mischief=mischief)
    case = replace(case, compression=compression, files=files)
    case = _with_formats(case, random.Random(f"formats {seed}"), source, output)
    return _in_processes(case) if processes else case


def _with_formats(case: Case, dice: random.Random, source: str, output: str) -> Case:
    """Return the case with another kind of input, and with exports."""
    kind = dice.choice(SOURCES) if source == ANY else source
    files = 1 if kind in {"memory", "stdin"} else dice.choice((1, 3)) if source == ANY else case.files
    some = dice.sample(sorted(EXPORTS), dice.randint(1, 3)) if output == ANY else [output] if output else []
    return replace(
        case,
        source=kind,
        files=files,
        bad_lines=case.bad_lines if has_lines(kind) else 0,
        exports=tuple(some),
        is_exported=bool(some) and some[0] not in {"csv.gz", "jsonl.xz"} and dice.random() < 0.5,
    )


def _in_processes(case: Case) -> Case:
    nodes = tuple(  # no failures: what counts once a process has no meaning there
        replace(node, style=node.style.removeprefix("async "), poison=0, flaky=0, retries=0, on_error="fail")
        for node in case.nodes
    )
    return replace(case, nodes=nodes, bad_lines=0, executor="process")


def _random_node(dice: random.Random, before: Sequence[Node], id_scheme: str, all_ordered: bool) -> Node:
    kind = dice.choice(("map", "map", "filter", "sieve", "fan", "fold"))
    if kind == "fold" and (id_scheme == "numeric" or not all(node.keeps_order for node in before)):
        kind = "map"
    style = dice.choice(STYLES)
    if kind == "fold":
        style = dice.choice(("batch", "async batch"))
    elif kind == "fan" and style == "flat batch":
        style = "batch"
    return Node(
        kind=kind,
        style=style,
        parallel_size=dice.randint(1, 4),
        batch_size=dice.randint(1, 5),
        ordered=all_ordered or dice.random() < 0.2,
        nap=dice.choice((0.0, 0.0, 0.001, 0.004)),
        keep_rejected=kind in {"filter", "sieve"} and style != "flat batch" and dice.random() < 0.5,
    )


def _with_failures(case: Case, dice: random.Random, *, delivery: str | None = None, fsync: str | None = None) -> Case:
    """Return the case with calls that raise, policies, lines that are no rows, and another delivery: half of them."""
    fails, few = dice.random() < 0.5, dice.random() < 0.3
    nodes = []
    for number, node in enumerate(case.nodes):
        retries = dice.choice((0, 0, 1, 2))
        some = replace(
            node,
            on_error=dice.choice(("skip", "dead_letter", "dead_letter")),
            retries=retries,
            poison=dice.choice((0, 3, 6, 12)),
            flaky=dice.choice((0, 4)) if retries else 0,
            # Which rows fall with a bad one depends on the batches, and so on the order of the rows before.
            bisect=dice.random() < 0.75 or not all(other.keeps_order for other in case.nodes[:number]),
        )
        if not fails or dice.random() < 0.3:
            some = node
        how = "at_most_once" if few and dice.random() < 0.7 else "exactly_once"
        nodes.append(replace(some, delivery=delivery or how))
    bad_lines = dice.choice((0, 5, 15)) if nodes[0].on_error != "fail" else 0
    return replace(case, nodes=tuple(nodes), bad_lines=bad_lines, fsync=fsync or case.fsync)

"""How much a death can make a node repeat, or give up: derived from its settings."""

from __future__ import annotations

from .cases import Case, Node


def bound(case: Case, node: Node) -> int:
    """Return how many rows were given to an operator, and are not committed, at any instant, at most.

    With c calls at once, s rows a call, and tasks of t rows (t is at most `queue_size`, or one call; with at_most_once,
    one call):

    * c x t rows are with workers: being processed, or processed and waiting for room in the queue, or (in sync mode)
      for their commit;
    * in async mode, `queue_size` rows (or one task that is larger) are in the writer's hands;
    * an ordered node holds what finished early: it hands out no row that is 8 c s + 4 t ahead of the first that was
      not delivered, and the last task handed out adds its t.

    * rows that failed, and are skipped or dead-lettered, are delivered by themselves, as tasks of s rows: as many as
      may wait for a worker, c / 8 (8 at most) and one more.

    * results of an async operator are gathered, as many as there are calls (64 at most), for one message to the writer.

    The queue counts the rows that went in or came out, whichever are more: operators that filter, or make one row of
    many, have the same bound.

    Returns:
        The bound, in rows that go in.
    """
    step, calls = node.batch_size if node.takes_batches else 1, calls_at_once(node)
    task = task_rows(case, node)
    rows = calls * task
    if case.async_mode:
        rows += max(case.queue_size, task)
    gathers = node.style.startswith("async ") and case.async_mode and calls >= 4
    if gathers and not node.ordered and node.delivery != "at_most_once":
        rows += min(calls, 64) * step
    if node.on_error != "fail":
        rows += (min(calls // 8, 8) + 1) * step
    if node.ordered:
        rows += 8 * calls * step + 5 * task
    return rows


def task_rows(case: Case, node: Node) -> int:
    """Return how many rows a task has, at most."""
    step = node.batch_size if node.takes_batches else 1
    return step if node.delivery == "at_most_once" else max(1, min(4096, case.queue_size) // step) * step


def calls_at_once(node: Node) -> int:
    """Return how many calls of the operator there are at once, at most."""
    return node.parallel_size * (1 if node.takes_batches else node.batch_size)

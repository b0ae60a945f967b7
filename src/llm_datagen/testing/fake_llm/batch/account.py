"""What was registered with a fake endpoint, and what would be billed."""

from __future__ import annotations

from collections import Counter
from typing import Any

from llm_datagen.testing.fake_llm.batch.desk import Desk, text_of_row

BATCH_FACTOR = 0.5


def account_of(desk: Desk, online: Counter[str], tokens: tuple[int, int]) -> dict[str, Any]:
    """Return the account as JSON data; see `FakeLLMServer.account`.

    Args:
        desk: the jobs.
        online: by text, the calls that were answered.
        tokens: of their prompts, and of their answers.
    """
    desk.jobs()  # so that what has ended by now is billed
    with desk.store.transaction():
        jobs = {job.id: job for job in desk.store.jobs() if job.created <= desk.now()}
        billed = [row for row in desk.store.billed() if row[0] in jobs]
        files = [name for _, _, name, _, _ in desk.store.files()]
    by_key: dict[str, list[str]] = {}
    for job in sorted(jobs.values(), key=lambda job: job.number):
        by_key.setdefault(job.key, []).append(job.id)
    rows = Counter(text_of_row(body, jobs[job_id].endpoint) for job_id, _, body, _, _ in billed)
    prompt, completion = sum(row[3] for row in billed), sum(row[4] for row in billed)
    of_prompt, of_answer = desk.options.price
    in_jobs = (prompt * of_prompt + completion * of_answer) / 1e6 * BATCH_FACTOR
    by_calls = (tokens[0] * of_prompt + tokens[1] * of_answer) / 1e6
    return {
        "jobs": by_key,
        "running": [job.id for job in jobs.values() if job.ended is None],
        "undeleted": [job.id for job in jobs.values() if job.deleted is None],
        "custom_ids": dict(Counter(f"{job_id}/{custom_id}" for job_id, custom_id, *_ in billed)),
        "rows": dict(rows),
        "calls": dict(online),
        "tokens": {"prompt": prompt + tokens[0], "completion": completion + tokens[1]},
        "dollars": in_jobs + by_calls,
        "files": files,
    }

"""Programs of the tests of grants: a service, and a process that makes calls."""

from __future__ import annotations

import time
from typing import Any

from llm_datagen import UnifiedPipeline
from llm_datagen.llm import LLMOperator
from llm_datagen.llm.grants.service import GrantService
from llm_datagen.llm.limits import shared

PRICES = {"input": 1.0, "output": 2.0}
WINDOW = 2.0


def serve(folder: str, window: float = WINDOW) -> None:
    """Be a service, until killed."""
    service = GrantService(folder, window=window)
    service.start()
    print("ready", flush=True)
    time.sleep(600)


def work(name: str, base_url: str, options: dict[str, Any], window: float = WINDOW) -> None:
    """Ask about all rows of ``<name>.jsonl``, as the run of that name; print its end."""
    vars(shared)["WINDOW_SECONDS"] = window
    ask = LLMOperator(
        "{{ q }}", model="m", base_url=base_url, prices=PRICES, retry_wait=0.01, timeout=1.0, name="ask", **options
    )
    pipeline = UnifiedPipeline([ask], f"jsonl://{name}.jsonl", f"jsonl://{name}.out.jsonl", parallel_size=20)
    report = pipeline.create(name, if_exists="resume").run()
    print(report.status, report.reason or "", flush=True)

"""An outage in a run in shards: the whole names it, and the program is warned once, not for each shard."""

from __future__ import annotations

import pytest

from llm_datagen.llm import LLMOperator
from llm_datagen.testing import FakeLLMServer

from ..kit.shards import in_shards
from ..kit.support import Bench, eventually, numbered


def test_a_run_in_shards_names_the_endpoint_and_warns_once(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.give(numbered(8))
    with FakeLLMServer() as server:
        server.outage = True
        operator = LLMOperator("{{ n }}", model="m", base_url=server.base_url, max_retries=0)
        pipeline = in_shards(bench.pipeline([operator]), shards=2).create("a")
        pipeline.start()
        eventually(lambda: pipeline.progress[0].outage is not None)
        outage = pipeline.progress[0].outage
        server.outage = False
        pipeline.wait()
    endpoint = f"m at {server.base_url}/chat/completions"
    assert outage is not None
    assert [each["endpoint"] for each in outage["endpoints"]] == [endpoint]
    assert pipeline.progress[0].outage is None
    waits, *others = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert waits.startswith(f"node node_0 waits for {endpoint} since ")
    assert others in ([], [f"node node_0 goes on: {endpoint} answers again"]), "no shard warns by itself"

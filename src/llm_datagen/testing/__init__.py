"""For tests of operators and pipelines: faults on the disk, crashes at a chosen call, a fake endpoint of a model.

* `FaultPlan`, `Fault`, `inject`, `inject_from_env`, `record`: break, tear, delay or kill at a step of the storage
* `crash_at`, `CallCounter`: operators that crash, and counted calls, across processes
* `FakeLLMServer`, `Latency`, `LLMFaults`, `LLMLimits`: an endpoint that speaks the APIs of models, as slow and faulty
  as you like; `LLMBatches`, `BatchFaults`: its batch APIs
* `FakeLLMServer`, `Latency`, `LLMFaults`, `LLMLimits`: an OpenAI-compatible endpoint, as slow and faulty as you like
* `ToolCalls`: an answer of that endpoint which calls tools
* `cassette`: real calls, recorded once and replayed from then on
* `RecordingHooks`: what the hooks were called with
* `ManualClock`: time that moves only when a test moves it

Nothing of the engine imports this package, and nothing here needs pytest. docs/how-to/ has a page for each of them.
"""

from typing import TYPE_CHECKING

from llm_datagen.errors.deprecation import old_names
from llm_datagen.testing.cassette import cassette
from llm_datagen.testing.clock import ManualClock
from llm_datagen.testing.fake_llm.answers import ToolCalls
from llm_datagen.testing.fake_llm.batch.options import BatchFaults, LLMBatches
from llm_datagen.testing.fake_llm.faults import Latency, LLMFaults
from llm_datagen.testing.fake_llm.limits import LLMLimits
from llm_datagen.testing.fake_llm.server import FakeLLMServer
from llm_datagen.testing.faults import ENV, OPERATIONS, Fault, FaultPlan
from llm_datagen.testing.hooks import RecordingHooks
from llm_datagen.testing.operators import CallCounter, crash_at
from llm_datagen.testing.storage import Failpoint, FaultyStorage, inject, inject_from_env, record

__all__ = [
    "ENV",
    "OPERATIONS",
    "BatchFaults",
    "CallCounter",
    "Failpoint",
    "FakeLLMServer",
    "Fault",
    "FaultPlan",
    "FaultyStorage",
    "LLMBatches",
    "LLMFaults",
    "LLMLimits",
    "Latency",
    "ManualClock",
    "RecordingHooks",
    "ToolCalls",
    "cassette",
    "crash_at",
    "inject",
    "inject_from_env",
    "record",
]

if not TYPE_CHECKING:
    __getattr__ = old_names(__name__, {"FaultyDisk": "FaultyStorage"})

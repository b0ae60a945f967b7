"""For tests of operators and pipelines: faults on the disk, crashes at a chosen call, a fake endpoint of a model.

* `FaultPlan`, `Fault`, `inject`, `inject_from_env`, `record`: break, tear, delay or kill at a step of the disk
* `crash_at`, `CallCounter`: operators that crash, and calls that are counted, across processes
* `FakeLLMServer`, `Latency`, `LLMFaults`, `LLMLimits`: an OpenAI-compatible endpoint, as slow and faulty as told
* `cassette`: real calls, recorded once and played ever after
* `RecordingHooks`: what the hooks were told
* `ManualClock`: time that moves when it is told to

Nothing of the engine imports this package, and nothing here needs pytest. docs/how-to/ has a page for each of them.
"""

from llm_datagen.actors.clock import ManualClock
from llm_datagen.testing.cassette import cassette
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
    "CallCounter",
    "Failpoint",
    "FakeLLMServer",
    "Fault",
    "FaultPlan",
    "FaultyDisk",
    "FaultyStorage",
    "LLMFaults",
    "LLMLimits",
    "Latency",
    "ManualClock",
    "RecordingHooks",
    "cassette",
    "crash_at",
    "inject",
    "inject_from_env",
    "record",
]

FaultyDisk = FaultyStorage
"""The name of version 0.1, for one release."""

"""Models that run on this machine, in worker processes of this one, in place of an HTTP endpoint.

Layout:
    options.py    Engine: which library runs the model, and how
    transport.py  EngineTransport: makes calls by the workers, in the place of HttpTransport
    pool.py       the workers of one model, shared by the nodes of a process
    calls.py      a call, as pool and workers share it
    call_queue.py the calls that wait for a worker, and what becomes of those of one that dies
    worker.py     a worker, as this process sees it: started, watched, started again
    serving.py    what runs in the worker process
    backends/     what speaks to a library: llama.cpp, transformers, vLLM; one of your own
    embedded/     the small model that can be had without a hub, fetched once

The libraries are imported in the workers only. See docs/internals/decisions/engines.md.
"""

from llm_datagen.llm.engines.backends.base import Backend, CallError, LoadError, ModelSettings

__all__ = ["Backend", "CallError", "LoadError", "ModelSettings"]

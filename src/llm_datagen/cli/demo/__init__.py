"""A complete pipeline with a real, small model on this machine: ``llm-datagen demo``.

Layout:
    job.py             run_demo: start or resume the demo, and show what came out
    operators.py       the three stages: clean, ask, judge
    definitions.py     the 50 dictionary definitions that go in
    server.py          the model behind an OpenAI-compatible endpoint, in a process of its own
    server_process.py  that process
    weights.py         the model's weights, fetched once into the user's cache
    progress.py        plain lines, and a bar of bytes
    errors.py          what can go wrong with the model

Needs the extra ``local`` (xllamacpp, aiohttp, httpx, Jinja2, pydantic, rich, platformdirs). The model has 135 million
parameters: it shows that the pipeline works from end to end, not what good data looks like.
"""

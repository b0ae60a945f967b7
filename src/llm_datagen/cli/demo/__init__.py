"""A complete pipeline with a real, small model on this machine: ``llm-datagen demo``.

Layout:
    command.py        the demo with a display, and a fresh start
    job.py            run_demo: start or resume the demo, and show what came out
    operators.py      the three stages: clean, ask, judge
    definitions.py    the 50 dictionary definitions that go in
    server.py         for recipes: the same model behind an OpenAI-compatible endpoint, in a process of its own
    server_process.py that process

Needs the extra ``local`` (xllamacpp, aiohttp, Jinja2, pydantic, rich, platformdirs). The model has 135 million
parameters: it shows that the pipeline works from end to end, not what good data looks like.
"""

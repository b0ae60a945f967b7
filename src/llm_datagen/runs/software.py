"""What runs a run: the versions of this package, of Python, and of the libraries in use."""

from __future__ import annotations

import os
import platform
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version

_LIBRARIES = {
    "pykka": "pykka", "orjson": "orjson", "structlog": "structlog", "httptools": "httptools", "aiohttp": "aiohttp",
    "jinja2": "jinja2", "pydantic": "pydantic", "jsonschema": "jsonschema", "genai_prices": "genai-prices",
    "pyarrow": "pyarrow", "obstore": "obstore", "huggingface_hub": "huggingface-hub", "datasketch": "datasketch",
    "py3langid": "py3langid", "cloudpickle": "cloudpickle", "ray": "ray", "xllamacpp": "xllamacpp",
}  # fmt: skip
"""The libraries that this package uses, by their modules, with the names of their distributions."""


def software() -> dict[str, str]:
    """Return versions by names: this package, Python, the system, and the libraries that are imported now."""
    found = {"llm-datagen": version_of("llm-datagen"), "python": platform.python_version(), "system": _system()}
    found.update({name: version_of(name) for module, name in _LIBRARIES.items() if module in sys.modules})
    return {name: each for name, each in found.items() if each}


@cache
def version_of(distribution: str) -> str:
    """Return the version of what is installed under a name; empty when nothing is."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return ""


def _system() -> str:
    system = os.uname()
    return f"{system.sysname} {system.release} {system.machine}"

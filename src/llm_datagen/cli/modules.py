"""The modules that a run needs: where they are looked for, and when they are imported."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llm_datagen.cli.yaml_load import Document
from llm_datagen.cli.yaml_spec import read_spec, uses_of
from llm_datagen.errors import UnknownProtocolError
from llm_datagen.operators.import_path import load
from llm_datagen.streams import StreamFactory, inputs_of


def make_importable(*folders: Path) -> None:
    """Let modules be imported from these folders, the first one first."""
    for folder in reversed(folders):
        if str(folder) not in sys.path:
            sys.path.insert(0, str(folder))


def import_protocols(run_state: Mapping[str, Any], target: str) -> None:
    """Import the modules of a run's operators if a protocol of its streams is not known: they may register it.

    Args:
        run_state: the run state.
        target: what the run was started with: a YAML file, or ``module:attr``.

    Raises:
        ConfigError: when they cannot be imported.
    """
    try:
        for entry in run_state["nodes"]:
            for uri in (*inputs_of(entry["input_uri"]).values(), entry["output_uri"]):
                StreamFactory.stream_class(uri)
    except UnknownProtocolError:
        path = Path(target)
        make_importable(Path.cwd())
        if path.suffix.lower() not in {".yaml", ".yml"}:
            load(target)
            return
        spec = read_spec(Document.read(path))
        make_importable(Path.cwd(), path.absolute().parent)
        for use in uses_of(spec):
            load(use)

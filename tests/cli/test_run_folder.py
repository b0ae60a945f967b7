"""What there is in the folder of a run, and nothing else."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from llm_datagen.runs.file_names import CLAIM, KEPT, LOCK, RUN_FILES, TAKEN, TIMELINE
from llm_datagen.streams.storage.lease_record import LEASE
from llm_datagen.testing import FakeLLMServer

from .conftest import Command
from .shell import Shell

_opened: list[str] | None = None


def _note(event: str, args: tuple[Any, ...]) -> None:
    if event == "open" and _opened is not None and isinstance(args[0], str):
        _opened.append(os.path.abspath(args[0]))  # noqa: PTH100 - as it was spelled
    if event == "os.rename" and _opened is not None:
        _opened.append(os.path.abspath(args[1]))  # noqa: PTH100


def test_all_that_a_run_has_in_its_folder_is_listed(shell: Shell, command: Command, tmp_path: Path) -> None:
    """What is not in the list could be a user's file, written over."""
    global _opened  # noqa: PLW0603
    (tmp_path / "in.jsonl").write_text('{"n": 1}\n{"n": 2}\n')
    with FakeLLMServer(answer="yes") as server:
        (tmp_path / "llm.yaml").write_text(f"""
pipeline_id: r
operators:
  - use: llm_datagen.llm:LLMOperator
    with:
      prompt: "{{{{ n }}}}"
      model: m
      base_url: "{server.base_url}"
      budget: {{tokens: 9000}}
      params: {{max_tokens: 5}}
input_uri: in.jsonl
output_uri: out.jsonl
results_dir: results
""")
        folder = tmp_path / "results" / "r"
        sys.addaudithook(_note)
        _opened = []
        try:
            command("run", "llm.yaml")
            command("resume", "r", "--results-dir", "results")
            for word in ("status", "verify", "errors"):
                command(word, "r", "--results-dir", "results")
        finally:
            opened, _opened = _opened, None
    here = set(RUN_FILES) - {LEASE, CLAIM}  # of runs on stores, and of shards
    inside = {Path(path).relative_to(folder).parts[0] for path in opened if folder in Path(path).parents}
    assert {name.removesuffix(".tmp") for name in inside} == here
    replaced = here - {LOCK, KEPT, TAKEN, TIMELINE}
    assert {f"{name}.tmp" for name in replaced} <= inside, "they are replaced as a whole"

"""What a start imports: a command or a module must not load what only others need. Names, not seconds, are asserted.

`python -m tests.bench.startup` measures.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from llm_datagen import Row, UnifiedPipeline

from .kit.support import write_jsonl

CLIENTS = {"aiohttp", "openai", "httpx", "ssl", "obstore", "huggingface_hub", "opentelemetry", "prometheus_client"}
DATA = {"pyarrow", "numpy", "pandas", "datasets", "datasketch", "py3langid"}
RUNNING = {"pykka", "structlog", "cloudpickle", "ray", "asyncio", "multiprocessing"}
MODELS = {"jinja2", "jsonschema", "genai_prices", "llm_datagen.llm"}
COMMAND_LINE = {"typer", "rich", "yaml", "pydantic"}
ENGINE_PARTS = ("actors", "executors", "messages", "operators", "ops", "pipeline", "shards", "streams")
ENGINE = {f"llm_datagen.{package}" for package in (*ENGINE_PARTS, "telemetry", "testing", "web")}
STREAMS = {f"llm_datagen.{name}" for name in ("streams.factory", "streams.file_streams", "streams.outputs.export")}

COMMAND = "import sys; sys.argv = ['llm-datagen', {0}]; from llm_datagen.cli import main; main()"


def imported(program: str, folder: Path) -> set[str]:
    """Return the names of the modules that a program has imported when it ends."""
    code = f"import atexit, sys; atexit.register(lambda: print(*sorted(sys.modules), file=sys.stderr)); {program}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=folder)
    return set(done.stderr.split())


@pytest.mark.process
@pytest.mark.parametrize(
    ("program", "there", "needless"),
    [
        ("import llm_datagen", "llm_datagen", CLIENTS | DATA | RUNNING | MODELS | COMMAND_LINE | ENGINE | {"tempfile"}),
        ("import llm_datagen.cli", "llm_datagen.cli", CLIENTS | DATA | RUNNING | MODELS | COMMAND_LINE | ENGINE),
        (
            "from llm_datagen.llm import LLMOperator; LLMOperator('{{ q }}', model='m', base_url='http://127.0.0.1:1/v1')",
            "aiohttp",
            (CLIENTS - {"aiohttp", "ssl"})
            | DATA
            | (RUNNING - {"asyncio"})
            | {"jsonschema", "genai_prices", "aiohttp.web", "rich"},
        ),
        (
            COMMAND.format("'--help'"),
            "llm_datagen.cli.app",
            CLIENTS | DATA | RUNNING | MODELS | ENGINE | {"rich", "yaml", "pydantic", "llm_datagen.config"},
        ),
        pytest.param(
            COMMAND.format("'recipes'"),
            "llm_datagen.cli.recipes",
            CLIENTS | DATA | RUNNING | MODELS | ENGINE | {"rich", "yaml", "llm_datagen.config"},
            marks=pytest.mark.slow,
        ),
    ],
    ids=["the package", "the command line's package", "an operator that calls a model", "--help", "recipes"],
)
def test_a_start_imports_what_it_needs(program: str, there: str, needless: set[str], tmp_path: Path) -> None:
    names = imported(program, tmp_path)
    assert there in names
    assert needless & names == set()


def passed_on(row: Row) -> Row:
    return row


@pytest.mark.process
@pytest.mark.parametrize(
    "arguments",
    [pytest.param("'status'", id="all runs", marks=pytest.mark.slow), pytest.param("'status', 'a'", id="one run")],
)
def test_a_look_at_runs_imports_nothing_that_runs_them(arguments: str, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "in.jsonl", [{"n": 1}])
    rows, results = f"jsonl://{tmp_path}/in.jsonl", tmp_path / "tmp" / "results"
    UnifiedPipeline([passed_on], rows, f"jsonl://{tmp_path}/out.jsonl", results_dir=results).create("a").run()
    names = imported(COMMAND.format(arguments), tmp_path)
    assert "llm_datagen.shards.run_view" in names
    engine = ENGINE - {"llm_datagen.shards", "llm_datagen.streams"}
    assert (CLIENTS | DATA | RUNNING | MODELS | {"yaml"} | engine | STREAMS) & names == set()

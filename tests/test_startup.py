"""What a start imports: a command or a module must not load what only others need. Names, not seconds, are asserted.

`python -m tests.bench.startup` measures.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from llm_datagen import Row, UnifiedPipeline
from llm_datagen.testing import FakeLLMServer

from .kit.support import write_jsonl

CLIENTS = {"aiohttp", "openai", "httpx", "ssl", "obstore", "huggingface_hub", "opentelemetry", "prometheus_client"}
DATA = {"pyarrow", "numpy", "pandas", "datasets", "datasketch", "py3langid"}
RUNNING = {"pykka", "structlog", "cloudpickle", "ray", "asyncio", "multiprocessing"}
MODELS = {"jinja2", "jsonschema", "genai_prices", "llm_datagen.llm"}
COMMAND_LINE = {"typer", "rich", "yaml", "pydantic"}
ENGINE_PARTS = ("actors", "executors", "messages", "operators", "ops", "pipeline", "shards", "streams")
ENGINE = {f"llm_datagen.{package}" for package in (*ENGINE_PARTS, "telemetry", "testing", "web")}
STREAMS = {f"llm_datagen.{name}" for name in ("streams.factory", "streams.file_streams", "streams.outputs.export")}
STORES = {f"llm_datagen.{name}" for name in ("runs.on_store", "streams.storage.lease", "streams.storage.bucket")}
JOBS = {f"llm_datagen.llm.{name}" for name in ("batch.stack", "batch.job_log", "http.batch.base", "grants.client")}
RESUMES = {f"llm_datagen.{name}" for name in ("pipeline.checked_resume", "pipeline.diff", "runs.browse.run_streams")}
LOG_READERS = {f"llm_datagen.runs.logs.{name}" for name in ("reader", "log_summary")}

FIRST_CALL = Path(__file__).parent / "bench" / "first_call.py"

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
            "llm_datagen.llm.http.direct.connections",
            (CLIENTS - {"ssl"}) | DATA | (RUNNING - {"asyncio"}) | COMMAND_LINE | JOBS | {"jsonschema", "genai_prices"},
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


@pytest.mark.process
def test_a_run_that_calls_a_model_imports_what_it_needs(tmp_path: Path) -> None:
    """`python -m tests.bench.startup` measures the same script."""
    with FakeLLMServer() as server:
        argv = [str(FIRST_CALL), server.base_url, str(tmp_path)]
        names = imported(
            f"import runpy, sys; sys.argv = {argv}; runpy.run_path(sys.argv[0], run_name='__main__')", tmp_path
        )
        assert server.calls == 1
    assert {"pykka", "httptools", "jinja2", "structlog"} <= names  # the last of these imports rich
    needless = (CLIENTS | MODELS) - {"ssl", "jinja2", "llm_datagen.llm"}
    needless |= DATA | (COMMAND_LINE - {"rich"}) | {"cloudpickle", "ray", "llm_datagen.runs.on_store"}
    assert (needless | JOBS | RESUMES) & names == set()


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
    assert {"llm_datagen.shards.run_view", "llm_datagen.cli.commands.status"} <= names
    assert {"llm_datagen.cli.commands.run", "llm_datagen.cli.commands.inspect"} & names == set()
    engine = (ENGINE - {"llm_datagen.shards", "llm_datagen.streams"}) | STREAMS | STORES | LOG_READERS
    assert (CLIENTS | DATA | RUNNING | MODELS | {"yaml", "rich"} | engine) & names == set()

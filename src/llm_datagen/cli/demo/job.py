"""The demo: 50 definitions become questions and answers. Started or resumed, whichever is due."""

from __future__ import annotations

import json
import os
from itertools import islice
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from llm_datagen import IPipelineHooks, RunReport, Status, UnifiedPipeline
from llm_datagen.cli.demo.definitions import definition_lines
from llm_datagen.cli.demo.operators import CleanDefinition, JudgeAnswer, question_writer
from llm_datagen.config import check_count
from llm_datagen.llm.engines.embedded.progress import say
from llm_datagen.llm.engines.embedded.weights import fetch_weights
from llm_datagen.runs import RunFolder
from llm_datagen.runs.display.console import SafeConsole
from llm_datagen.runs.store import run_ids

DEFAULT_OUT_DIR = "llm-datagen-demo"
_SHOWN_ROWS = 5


class DemoFiles:
    """Where the files of a demo are; all paths are absolute.

    Args:
        out_dir: the directory that holds them all.

    Attributes:
        out_dir: the directory.
        definitions: the input, a copy of the definitions that come with the package.
        questions: the output.
        results: the run state.
        between: the streams between the stages.
        log: the platform log.
    """

    def __init__(self, out_dir: str | os.PathLike[str]) -> None:
        self.out_dir = Path(out_dir).expanduser().absolute()
        self.definitions = self.out_dir / "definitions.jsonl"
        self.questions = self.out_dir / "questions.jsonl"
        self.results = self.out_dir / "results"
        self.between = self.out_dir / "between"
        self.log = self.out_dir / "platform.log"


def build_pipeline(weights: Path, files: DemoFiles, *, hooks: IPipelineHooks | None = None) -> UnifiedPipeline:
    """Return the demo's pipeline: clean, ask, judge, all at once.

    Args:
        weights: the model, a GGUF file.
        files: where everything is.
        hooks: who watches.
    """
    return UnifiedPipeline(
        [
            CleanDefinition(),
            question_writer(weights),
            JudgeAnswer(),
        ],
        f"jsonl://{files.definitions}",
        f"jsonl://{files.questions}",
        streaming=True,
        base_path=files.between,
        results_dir=files.results,
        hooks=hooks,
        log_file=files.log,
    )


def run_demo(
    out_dir: str | os.PathLike[str] = DEFAULT_OUT_DIR,
    *,
    pipeline_id: str = "demo",
    rows: int | None = None,
    parallel: int = 8,
    hooks: IPipelineHooks | None = None,
    console: Console | None = None,
    ui: bool = False,
) -> RunReport | None:
    """Start the demo, or resume the one that is in `out_dir`, and show what came out. Blocks.

    The first time it fetches the model (93 MB). A run that has ended is shown as it is.

    Args:
        out_dir: where everything goes; made if it is not there.
        pipeline_id: the id of the run.
        rows: how many definitions to take, the first ones; None takes all 50. A resumed run keeps what it has.
        parallel: calls to the model at once. A resumed run keeps what it has.
        hooks: who watches.
        console: where it is shown; standard output unless given.
        ui: whether a page in a browser shows it, too.

    Returns:
        The report; None when the run had ended before.

    Raises:
        LocalModelError: when the model cannot be fetched.
        NodeFailedError: when a stage failed, or the model could not be loaded; the run can be resumed.
        KeyboardInterrupt: after Ctrl+C, when everything is saved and the command to continue is shown.
    """
    console = console or SafeConsole()
    check_count("parallel", parallel)
    lines = definition_lines() if rows is None else definition_lines()[: check_count("rows", rows)]
    files = DemoFiles(out_dir)
    folder = RunFolder(files.results, pipeline_id)
    is_resumed = folder.exists()
    if is_resumed and folder.load()["status"] == Status.COMPLETED:
        say(console, f"The demo in {files.out_dir} has ended before: nothing to do.")
        show_results(files, console)
        say(
            console,
            f"To start afresh: remove {files.out_dir} (llm-datagen demo --fresh does), or choose another directory.",
        )
        return None
    pipeline = build_pipeline(fetch_weights(), files, hooks=hooks)
    if is_resumed:
        say(console, f"Resuming the demo in {files.out_dir}")
        pipeline.resume(pipeline_id)
    else:
        if not run_ids(files.results):  # else the copy is the input of another run
            _copy_definitions(files, lines)
        pipeline.create(pipeline_id, node_configs=[{}, {"parallel_size": parallel}, {}])
    try:
        report = pipeline.run(progress=False, ui=ui)
    except (KeyboardInterrupt, SystemExit):
        say(console, f"Stopped; everything finished is saved. {_way_on(files, pipeline_id)}")
        raise
    if report.status is Status.COMPLETED:
        show_results(files, console)
    else:
        say(console, f"The run is {report.status}. {_way_on(files, pipeline_id)}")
    return report


def show_results(files: DemoFiles, console: Console) -> None:
    """Print some rows of the result, how many there are, and where."""
    taken, kept = _count(files.definitions), _count(files.questions)
    table = Table(title="Some of the questions and answers")
    columns = ("word", "question", "answer")
    for column in columns:
        table.add_column(column)
    with files.questions.open(encoding="utf-8") as lines:
        for row in map(json.loads, islice(lines, _SHOWN_ROWS)):
            table.add_row(*(Text(row[column]) for column in columns))
    console.print(table)
    say(console, f"{taken} definitions in, {kept} questions kept by the judge: {files.questions}")
    say(console, "The model is very small: this shows the pipeline at work, not what good data looks like.")


def _way_on(files: DemoFiles, pipeline_id: str) -> str:
    return (
        f"To go on: run the demo again with the same directory ({files.out_dir}) and the id {pipeline_id!r}; it "
        "resumes where it stopped."
    )


def _copy_definitions(files: DemoFiles, lines: list[str]) -> None:
    files.out_dir.mkdir(parents=True, exist_ok=True)
    part = files.definitions.with_suffix(".part")
    part.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    part.replace(files.definitions)


def _count(path: Path) -> int:
    with path.open("rb") as lines:
        return sum(1 for _ in lines)

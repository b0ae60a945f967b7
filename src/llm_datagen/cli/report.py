"""The report of a run, as a file or on standard output."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import orjson

from llm_datagen.cli.options import ReportOption
from llm_datagen.cli.output import write
from llm_datagen.cli.run_view import open_run
from llm_datagen.cli.trace import found_in
from llm_datagen.errors import ConfigError
from llm_datagen.runs import RunFolder
from llm_datagen.runs.browse.family import Member, with_calls
from llm_datagen.runs.origin import origin_of
from llm_datagen.runs.report.made import Subject, report_of
from llm_datagen.runs.report.markdown import markdown_of
from llm_datagen.runs.report.model import MARK, Report
from llm_datagen.runs.report.page import page_of
from llm_datagen.runs.report.samples import looked_through
from llm_datagen.runs.timeline import points
from llm_datagen.runs.versions import find_run, kept_versions, version_id
from llm_datagen.shards.run_view import RunView
from llm_datagen.streams.formats.json_text import dumps
from llm_datagen.streams.ids import Id
from llm_datagen.streams.storage.local import LOCAL_STORAGE

STDOUT = "-"
"""In place of a path: standard output."""

_HEAD_BYTES = 1000


_FORMS = {".html": ReportOption.HTML, ".htm": ReportOption.HTML, ".json": ReportOption.JSON, ".md": ReportOption.MD}


def show_report(results_dir: str, pipeline_id: str, *, out: str | None, form: ReportOption | None, rows: int) -> None:
    """Make the report of a run.

    Args:
        results_dir: the folder of the runs.
        pipeline_id: the run's id, or that of a version.
        out: where to; "-": standard output. None: ``report-ID.html`` here; JSON and Markdown to standard output.
        form: its form; None: as the ending of `out` says, or HTML.
        rows: how many sample rows.

    Raises:
        ConfigError: when something else is where it would be written.
        PipelineNotFoundError: when there is no such run.
        DiskError: when it cannot be written.
    """
    form = form or _FORMS.get(Path(out or "").suffix.lower(), ReportOption.HTML)
    if out is None:
        out = f"report-{pipeline_id}.html" if form is ReportOption.HTML else STDOUT
    path = None if out == STDOUT else Path(out).absolute()  # before the directory is changed to that of the run
    if path is not None:
        _check_place(path)
    data = _encoded(read_report(results_dir, pipeline_id, rows=rows), form)
    if path is None:
        sys.stdout.buffer.write(data)
        sys.stdout.flush()
    else:
        LOCAL_STORAGE.replace(str(path), data, sync=False)
        write(f"run {pipeline_id}: {path} ({len(data) / 1000:,.0f} kB)")


def read_report(results_dir: str, pipeline_id: str, *, rows: int) -> Report:
    """Return the report of a run; see `show_report`."""
    run = open_run(results_dir, pipeline_id)
    shards = None if run.whole is None else [run_state for _, run_state in run.parts]

    def relatives(row_id: Id) -> Iterator[Member]:
        for _, run_state, files, traces in found_in(run, row_id):
            yield from with_calls(run_state, files, traces)

    trace = run.command("trace", arguments=["ROW_ID"], options=["--calls"])
    looked = looked_through(run.state, shards, relatives, trace=trace, rows=rows)
    return report_of(_subject(run, find_run(run.results_dir, pipeline_id)), looked)


def _subject(run: RunView, folder: RunFolder) -> Subject:
    origin, spending = origin_of(folder), run.spending
    return Subject(
        run_state=run.state,
        parts=[run_state for _, run_state in run.parts],
        status=run.status,
        is_live=run.is_live,
        note=run.note,
        results_dir=run.results_dir,
        started_with="" if origin is None else origin.target,
        earlier_versions=[
            version_id(run.pipeline_id, each) for each in kept_versions(run.results_dir, run.pipeline_id)
        ],
        spent="" if spending is None else str(spending),
        jobs=run.jobs_in_words,
        given={} if origin is None else origin.caps,
        timeline=points(folder),
        notes=[run.rerun_note] if run.rerun_note else [],
    )


def _encoded(report: Report, form: ReportOption) -> bytes:
    if form is ReportOption.JSON:
        return dumps(
            {"report": MARK, **report.as_dict()}, default=str, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
        )
    text = page_of(report) if form is ReportOption.HTML else markdown_of(report)
    return text.encode("utf-8", "backslashreplace")


def _check_place(path: Path) -> None:
    """Check that no file is lost: what is there may be an older report, and nothing else."""
    if path.is_dir():
        raise ConfigError(f"{path} is a folder; name a file in it")
    if path.exists():
        with path.open("rb") as file:
            if MARK.encode() not in file.read(_HEAD_BYTES):
                raise ConfigError(f"{path} is there, and is no report; choose another path, or remove it")

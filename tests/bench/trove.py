"""datatrove's side, where it is installed: the same work, written as its documentation does."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .job import Job, UnsupportedError
from .operators import OPERATORS


def run(job: Job) -> dict[str, Any]:
    """Do a job: a reader, a step for each operator, a writer; one worker.

    Returns:
        `seconds` and the rows.
    """
    try:
        from datatrove.data import Document  # type: ignore[import-not-found]
        from datatrove.executor import LocalPipelineExecutor  # type: ignore[import-not-found]
        from datatrove.pipeline.base import PipelineStep  # type: ignore[import-not-found]
        from datatrove.pipeline.readers import JsonlReader  # type: ignore[import-not-found]
        from datatrove.pipeline.writers import JsonlWriter  # type: ignore[import-not-found]
    except ImportError as error:
        raise UnsupportedError(f"datatrove is not installed ({error}); see --peer-python") from None

    class Step(PipelineStep):  # type: ignore[misc]
        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name
            self.operator = OPERATORS[name]

        def run(self, data: Any, rank: int = 0, world_size: int = 1) -> Iterator[Any]:
            for document in data:
                row = self.operator.function({"id": document.id, "text": document.text, **document.metadata})
                for k, each in enumerate(row) if self.operator.is_wide else ((None, row),):
                    name = document.id if k is None else f"{document.id}_{k}"
                    rest = {key: value for key, value in each.items() if key not in {"id", "text"}}
                    yield Document(text=each["text"], id=name, metadata=rest)

    source = Path(job.input)
    folder = Path(job.folder)
    if job.operators == ("dedupe",):
        return _dedupe(job)
    began = time.perf_counter()
    executor = LocalPipelineExecutor(
        pipeline=[
            JsonlReader(str(source.parent), glob_pattern=source.name, compression=None),
            *(Step(name) for name in job.operators),
            JsonlWriter(str(folder / "out"), output_filename="out.jsonl", compression=None),
        ],
        tasks=1,
        workers=1,
        logging_dir=str(folder / "logs"),
    )
    executor.run()
    seconds = time.perf_counter() - began
    with (folder / "out" / "out.jsonl").open("rb") as file:
        rows = sum(1 for _ in file)
    return {"seconds": seconds, "rows": rows}


def _dedupe(job: Job) -> dict[str, Any]:
    """Deduplicate by the text, in datatrove's three stages: signatures, duplicates, filter."""
    try:
        from datatrove.executor import LocalPipelineExecutor
        from datatrove.pipeline.dedup.exact_dedup import (  # type: ignore[import-not-found]
            ExactDedupConfig,
            ExactDedupFilter,
            ExactDedupSignature,
            ExactFindDedups,
        )
        from datatrove.pipeline.readers import JsonlReader
        from datatrove.pipeline.writers import JsonlWriter
    except ImportError as error:
        raise UnsupportedError(f"a part of datatrove is not installed ({error}); see --peer-python") from None
    source, folder = Path(job.input), Path(job.folder)
    signatures, duplicates = str(folder / "signatures"), str(folder / "duplicates")
    config = ExactDedupConfig(content_getter=lambda document: document.text.encode(), only_dedup_in_index=False)

    def reader() -> Any:
        return JsonlReader(str(source.parent), glob_pattern=source.name, compression=None)

    began = time.perf_counter()
    for number, stage in enumerate(
        [
            [reader(), ExactDedupSignature(signatures, config=config)],
            [ExactFindDedups(signatures, duplicates, config=config)],
            [
                reader(),
                ExactDedupFilter(duplicates, config=config),
                JsonlWriter(str(folder / "out"), output_filename="out.jsonl", compression=None),
            ],
        ]
    ):
        LocalPipelineExecutor(pipeline=stage, tasks=1, workers=1, logging_dir=str(folder / f"logs{number}")).run()
    seconds = time.perf_counter() - began
    with (folder / "out" / "out.jsonl").open("rb") as file:
        return {"seconds": seconds, "rows": sum(1 for _ in file)}

"""What a worker process needs to know, sent once."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from llm_datagen.config import BatchBy, FailurePolicy, IdScheme
from llm_datagen.executors.processing import Processing
from llm_datagen.streams.ids import RootNames


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSetup:
    """What a worker needs to know, sent once.

    Attributes:
        sys_path: where modules are looked for.
        packed: the operator, and the codec of the output.
        node_id: the node's id.
        pipeline_id: the pipeline's id.
        folder: where the operator may keep files of its own.
        batch_size, batch_by, id_scheme, root, policy, keep_rejected, slice_seconds: as in `Processing`.
    """

    sys_path: list[str]
    packed: bytes
    node_id: str
    pipeline_id: str
    folder: Path | None
    batch_size: int
    batch_by: BatchBy
    id_scheme: IdScheme
    root: RootNames | None
    policy: FailurePolicy
    keep_rejected: bool
    slice_seconds: float

    @classmethod
    def of(cls, processing: Processing, packed: bytes, slice_seconds: float) -> Self:
        """Return what a worker needs to know to do what `processing` does."""
        return cls(
            sys_path=[str(Path(entry).absolute()) for entry in sys.path],
            packed=packed,
            node_id=processing.ctx.node_id,
            pipeline_id=processing.ctx.pipeline_id,
            folder=processing.ctx.folder,
            batch_size=processing.step,
            batch_by=processing.batch_by,
            id_scheme=processing.id_scheme,
            root=processing.root,
            policy=processing.policy,
            keep_rejected=processing.keep_rejected,
            slice_seconds=slice_seconds,
        )

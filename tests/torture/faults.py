"""Disks that are full, broken, frozen, read-only or gone: a clear failure, nothing lost, a resume when it is over."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import structlog  # noqa: F401 - now, because the nobody of `_read_only` may not be able to read where it lies

from llm_datagen import DatagenError, StreamFactory
from llm_datagen.messages import Cancel, GetStatus
from llm_datagen.testing import Fault, inject

from ..kit.support import eventually, nothing_left
from .cases import PIPELINE_ID, Case, Node
from .forks import fork
from .lab import Lab
from .tally import Tally

ANSWER_SECONDS = 1.0
NOBODY = 65534


def _case(seed: int, **changed: Any) -> Case:
    settings: dict[str, Any] = {
        "seed": seed,
        "rows": 12,
        "nodes": (Node("map", "item", 2, 1, False, 0.0), Node("fan", "batch", 2, 3, False, 0.0)),
        "streaming": True,
        "async_mode": True,
        "fsync": "flush",
        "queue_size": 5,
        "flush_batch_size": 3,
        "flush_interval": 0.02,
        "between": "jsonl",
        "output": "jsonl",
        "id_scheme": "path",
        "wide": False,
    }
    return Case(**{**settings, **changed})


CASES = (
    _case(1),
    _case(
        2,
        nodes=(Node("filter", "async item", 2, 2, True, 0.0), Node("map", "item", 2, 1, True, 0.0)),
        streaming=False,
        async_mode=False,
        between="csv",
        output="csv",
    ),
)


def full_and_broken(folder: Path, *, share: float, seed: int) -> Tally:
    """Let the disk fail at every failpoint of a pipeline, or at a share of them; then mend it, and resume.

    Each failpoint is tried with a full disk (which stays full, or has room again at once), and with a broken one.
    """
    tally = Tally()
    dice = random.Random(seed)
    for case in CASES:
        lab = Lab(case, folder / f"fault-{case.seed}")
        death, points = lab.record()
        if death.how != "done":
            tally.findings.append(f"{death.how} without a fault: {death.text} in {case}")
            continue
        for hit, (operation, path) in enumerate(points, 1):
            for fault in _failures(hit, operation):
                if dice.random() > share:
                    continue
                lab.reset()
                death = fork(lambda lab=lab, fault=fault: _fail_and_mend(lab, fault), lab.scratch)  # type: ignore[misc]
                tally.runs += 1
                wrong = [f"{death.how}: {death.text}"] if death.how != "done" else lab.problems()
                tally.findings += [
                    f"{what}\n    in {case}\n    {fault} ({operation} {Path(path).name})" for what in wrong
                ]
    return tally


def _failures(hit: int, operation: str) -> Iterator[Fault]:
    yield Fault(hit=hit, action="raise", error="EIO")
    yield Fault(hit=hit, action="raise", error="EIO", when="after")
    if operation in {"write", "mkdir", "open"}:
        yield Fault(hit=hit, action="raise", error="ENOSPC")
    if operation == "write":
        yield Fault(hit=hit, action="tear", keep=7, error="ENOSPC")
        yield Fault(hit=hit, action="tear", keep=1, error="ENOSPC", times=None)  # and so is everything after it


def _fail_and_mend(lab: Lab, fault: Fault) -> None:
    """Run with a fault, then without. In a child."""
    case, folder = lab.case, lab.folder
    raised: Exception | None = None
    with nothing_left(), inject(fault) as storage:
        try:
            case.create(folder).run()
        except DatagenError as error:
            raised = error
    points = [point for _, point in storage.fired]
    if raised is not None:
        assert any(Path(p.path).name.removesuffix(".tmp") in str(raised) for p in points), (
            f"the error does not name the file {points[0].path}: {raised}"
        )
    nothing_unfinished_is_sealed(lab)
    with nothing_left():
        assert str(case.create(folder).run().status) == "completed"


def nothing_unfinished_is_sealed(lab: Lab) -> None:
    """S2: what is sealed is all there."""
    for number, fate in enumerate(lab.fates):
        stream = StreamFactory.create(str(lab.case.stream_path(lab.folder, number)))
        seal = stream.read_seal()
        if seal is not None:
            assert seal.complete
            assert seal.rows == len(fate.rows), f"{stream.path} is sealed with {seal.rows} rows"
            stream.verify()


FROZEN = (
    Fault(operation="write", path="*/out.jsonl", action="delay", seconds=60, times=None),
    Fault(operation="write", path="*/node_0.jsonl.commits", action="delay", seconds=60, times=None),
    Fault(operation="fsync", path="*/out.jsonl.commits", hit=2, action="delay", seconds=60, times=None),
    Fault(operation="rename", path="*/out.jsonl.done", action="delay", seconds=60),
    Fault(operation="write", path="*/runtime.json.tmp", hit=2, action="delay", seconds=60, times=None),
    Fault(operation="read", path="*/in.jsonl", hit=4, action="delay", seconds=60, times=None),
)


def frozen(folder: Path, *, share: float, seed: int) -> Tally:
    """Freeze the disk: the pipeline's actor answers at once all the same, and goes on when the disk does."""
    tally = Tally()
    dice = random.Random(seed)
    for number, fault in enumerate(FROZEN):
        for cancel in (False, True):
            if dice.random() > share:
                continue
            lab = Lab(_case(1, rows=30), folder / f"frozen-{number}")
            death = fork(lambda lab=lab, fault=fault, cancel=cancel: _freeze(lab, fault, cancel), lab.scratch)  # type: ignore[misc]
            tally.runs += 1
            wrong = [f"{death.how}: {death.text}"] if death.how != "done" else lab.problems()
            tally.findings += [f"{what}\n    frozen at {fault}, cancel {cancel}" for what in wrong]
    return tally


def _freeze(lab: Lab, fault: Fault, cancel: bool) -> None:
    with nothing_left(), inject(fault) as storage:
        pipeline = lab.case.create(lab.folder, log=True)
        ref = pipeline.start()
        eventually(lambda: storage.fired, "the disk is frozen")
        for _ in range(5):
            began = time.perf_counter()
            status: Any = ref.ask(GetStatus(), timeout=ANSWER_SECONDS)
            waited = time.perf_counter() - began
            assert waited < ANSWER_SECONDS
            assert str(status.status) in {"pending", "running", "canceling"}, status
            time.sleep(0.05)
        if cancel:
            ref.tell(Cancel("frozen"))
            ref.ask(GetStatus(), timeout=ANSWER_SECONDS)
        storage.thaw()
        report = pipeline.wait(20)
        assert str(report.status) in ({"canceled", "completed"} if cancel else {"completed"})
    nothing_unfinished_is_sealed(lab)
    with nothing_left():
        assert str(lab.case.create(lab.folder).run().status) == "completed"


# Folders.


@contextlib.contextmanager
def _read_only(folder: Path) -> Iterator[None]:
    """Take the right to write to a folder; root has it anyway, and so has to be somebody else for a while."""
    is_root = os.geteuid() == 0
    mode = folder.stat().st_mode
    folder.chmod(0o555)
    if is_root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)
        folder.chmod(mode)


def folders(folder: Path, *, share: float, seed: int) -> Tally:
    """Take away the right to write to a folder, or the folder itself."""
    tally = Tally()
    dice = random.Random(seed)
    trials: dict[str, Callable[[Lab], None]] = {
        "read-only logs": lambda lab: _refused(lab, lab.folder / "logs", "platform.log"),
        "read-only results": lambda lab: _refused(lab, lab.folder / "results", "results"),
        "read-only run folder": lambda lab: _refused(lab, lab.folder / "results" / PIPELINE_ID, PIPELINE_ID),
        "read-only between": lambda lab: _refused(lab, lab.folder / "between" / PIPELINE_ID, "node_0"),
        "output moved away": lambda lab: _vanish(lab, lab.folder / "between", move=True),
        "output removed": lambda lab: _vanish(lab, lab.folder / "between", move=False),
        "results moved away": lambda lab: _vanish(lab, lab.folder / "results", move=True, fails=False),
        "results removed": lambda lab: _vanish(lab, lab.folder / "results", move=False, fails=False),
    }
    for name, trial in trials.items():
        for case in CASES:
            if dice.random() > share:
                continue
            lab = Lab(_slow(case), folder / "folders")
            death = fork(lambda lab=lab, trial=trial: trial(lab), lab.scratch)  # type: ignore[misc]
            tally.runs += 1
            wrong = [f"{death.how}: {death.text}"] if death.how != "done" else lab.problems()
            tally.findings += [f"{what}\n    {name} in {lab.case}" for what in wrong]
    return tally


def _slow(case: Case) -> Case:
    return Case(**{**{name: getattr(case, name) for name in case.__dataclass_fields__}, "rows": 60})


def _refused(lab: Lab, place: Path, name: str) -> None:
    """Run with a folder that cannot be written, then with one that can."""
    place.mkdir(parents=True, exist_ok=True)
    if os.geteuid() == 0:
        for path in (lab.folder, *lab.folder.rglob("*")):
            os.chown(path, NOBODY, NOBODY)
    raised: Exception | None = None
    with nothing_left(), _read_only(place):
        try:
            lab.case.create(lab.folder, log=True).run()
        except (DatagenError, OSError) as error:
            raised = error
    assert raised is not None, "the run did not fail"
    assert isinstance(raised, DatagenError), f"not a DatagenError: {raised!r}"
    assert name in str(raised), f"the error does not name {name}: {raised}"
    nothing_unfinished_is_sealed(lab)
    with nothing_left():
        assert str(lab.case.create(lab.folder, log=True).run().status) == "completed"


def _vanish(lab: Lab, place: Path, *, move: bool, fails: bool = True) -> None:
    """Take a folder away while a node writes to it; when it is gone for good, the run must say so."""
    away = lab.folder / "away"
    raised: DatagenError | None = None
    with (
        nothing_left(),
        inject(Fault(operation="write", path="*/node_0.*", hit=7, action="delay", seconds=60)) as storage,
    ):
        pipeline = lab.case.create(lab.folder)
        pipeline.start()
        eventually(lambda: storage.fired, "something is written")
        if move:
            place.rename(away)
        else:
            shutil.rmtree(place)
        storage.thaw()
        try:
            pipeline.wait(20)
        except DatagenError as error:
            raised = error
    if not fails and raised is None:
        if move:
            shutil.rmtree(away)
        return
    assert raised is not None, "the run did not fail"
    # The run state may be saved before a node writes its next file.
    assert "node_0" in str(raised) or str(place) in str(raised), raised
    if move:
        if place.exists():
            shutil.rmtree(place)
        away.rename(place)
    nothing_unfinished_is_sealed(lab)
    with nothing_left():
        refusal = ""
        try:
            assert str(lab.case.create(lab.folder).run().status) == "completed"
        except DatagenError as error:
            refusal = str(error)
        assert bool(refusal) != move, refusal
        if refusal:
            assert "node_0" in refusal  # M22: refused, because what was there is gone
            lab.case.create(lab.folder, if_exists="overwrite").run()  # as the message says

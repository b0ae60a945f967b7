"""A resume that compares every byte (M22)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llm_datagen import ConfigError, NodeFailedError, StreamCorruptError, UnifiedPipeline
from llm_datagen.streams import recovery


@pytest.fixture
def interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> UnifiedPipeline:
    """A run that has failed behind some flushes, and whose output was edited in the first of them."""
    monkeypatch.setattr(recovery, "CHECK_WHOLE_BYTES", 0)  # so that this stream counts as a long one
    (tmp_path / "in.jsonl").write_text("".join(f'{{"n": {n}}}\n' for n in range(50)))

    def work(item: Any) -> Any:
        if item["n"] == 40:
            raise ValueError("on purpose")
        return item

    pipeline = UnifiedPipeline(
        [work],
        f"jsonl://{tmp_path}/in.jsonl",
        f"jsonl://{tmp_path}/out.jsonl",
        writer_config={"queue_size": 5, "async_mode": False},
        results_dir=tmp_path / "results",
        log_file=None,
    )
    with pytest.raises(NodeFailedError):
        pipeline.create("a").run()
    output = tmp_path / "out.jsonl"
    data = bytearray(output.read_bytes())
    data[5] ^= 1
    output.write_bytes(data)
    return pipeline


def test_a_full_check_finds_an_edit_far_behind_the_last_flush(interrupted: UnifiedPipeline) -> None:
    """M22: `verify="full"` compares every byte, and names the file."""
    with pytest.raises(StreamCorruptError, match=r"out\.jsonl, bytes 0 to"):
        interrupted.resume("a", verify="full")


def test_a_check_of_the_tail_reads_only_the_last_flush(interrupted: UnifiedPipeline) -> None:
    """M22: the default costs the same however much is done, and says nothing of what lies far behind."""
    assert interrupted.resume("a").status == "resuming"


def test_another_kind_of_check_is_refused(interrupted: UnifiedPipeline) -> None:
    """M3: naming the choices."""
    with pytest.raises(ConfigError, match="'tail', 'full'"):
        interrupted.resume("a", verify="some")  # type: ignore[arg-type]

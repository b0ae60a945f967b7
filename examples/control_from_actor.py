"""An actor of your own keeps a run within a budget: it hears what calls use, pauses the run, and cancels it.

Later, somebody grants more, and the actor sends a Resume: the run goes on where it stopped, and pays for no row twice.

Run it with ``python control_from_actor.py [DIRECTORY]``; without a directory it works in a temporary one.
"""

import contextlib
import json
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import pykka

from llm_datagen import INodeContext, PipelineStatus, UnifiedPipeline
from llm_datagen.messages import (
    Cancel,
    GetStatus,
    Pause,
    PipelineFinished,
    Resume,
    Run,
    Subscribe,
    Unpause,
    UsageReported,
)

ROWS = 300
TOKENS_A_CALL = 10


def answer(item: dict[str, Any], ctx: INodeContext) -> dict[str, Any]:
    """Stand for a call to a model."""
    time.sleep(0.005)
    ctx.report_usage({"provider": "example", "model": "m", "tokens": TOKENS_A_CALL})
    return {**item, "answer": item["number"] * 2}


class Budget(pykka.ThreadingActor):
    """Pauses a run when half of the tokens are spent, asks the boss, and cancels it when all are.

    Args:
        pipeline: the actor that has the pipeline.
        grants: how many tokens may be spent in all, and how many after every further grant.
        done: set when the run is completed.
    """

    def __init__(self, pipeline: pykka.ActorRef[Any], grants: list[int], done: threading.Event) -> None:
        super().__init__()
        self.pipeline = pipeline
        self.tokens, *self.grants = grants
        self.done = done
        self.spent = 0.0
        self.has_asked = False

    def on_start(self) -> None:
        self.pipeline.tell(Subscribe(self.actor_ref, (UsageReported, PipelineFinished)))
        self.pipeline.tell(Run())

    def on_receive(self, message: Any) -> None:
        match message:
            case UsageReported(metrics=metrics):
                self.spent += metrics["tokens"]
                if self.spent >= self.tokens:
                    self.pipeline.tell(Cancel(f"{self.tokens} tokens are spent"))
                elif self.spent >= self.tokens / 2 and not self.has_asked:
                    self.has_asked = True
                    self.ask_the_boss()
            case PipelineFinished(pipeline_id=pipeline_id, status="canceled") if self.grants:
                status = self.pipeline.ask(GetStatus(), timeout=10)
                assert isinstance(status, PipelineStatus)
                print(f"canceled: {status.reason}; {status.nodes[-1].rows_out} of {ROWS} rows are saved")
                assert not Path("answers.jsonl.done").exists()
                self.tokens = self.grants.pop(0)
                print(f"the boss grants {self.tokens}")
                self.pipeline.ask(Resume(pipeline_id), timeout=10)
            case PipelineFinished(status=status):
                print(f"the run is {status}")
                self.done.set()

    def ask_the_boss(self) -> None:
        """Let nothing be spent meanwhile: no call begins between these two."""
        self.pipeline.ask(Pause(), timeout=10)
        print(f"paused when {self.spent:.0f} tokens were spent; the boss says: go on")
        self.pipeline.ask(Unpause(), timeout=10)


def main() -> None:
    rows = [{"number": number} for number in range(ROWS)]
    Path("questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    pipeline = UnifiedPipeline([answer], "jsonl://questions.jsonl", "jsonl://answers.jsonl", parallel_size=4)
    pipeline.create("budgeted", if_exists="overwrite")

    done = threading.Event()
    ref = pipeline.actor()
    budget = Budget.start(ref, [1000, 1_000_000], done)
    assert done.wait(60)
    budget.stop()
    ref.stop()

    report = pipeline.wait()
    (usage,) = report.usage
    print(f"{report.status}: {report.rows_out} rows, {usage['tokens']} tokens in all")
    assert report.rows_out == ROWS
    assert usage["tokens"] == ROWS * TOKENS_A_CALL  # no call was made twice
    answers = [json.loads(line) for line in Path("answers.jsonl").read_text(encoding="utf-8").splitlines()]
    assert sorted(row["number"] for row in answers) == list(range(ROWS))
    assert all(row["answer"] == row["number"] * 2 for row in answers)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary, contextlib.chdir(sys.argv[1] if sys.argv[1:] else temporary):
        main()

"""A library that does what the prompt says: it answers, fails, hangs, or dies. It writes down each call."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from llm_datagen.llm.engines.backends.base import Backend, CallError, LoadError

KIND = "tests.llm.engines.scripted:Scripted"


class Scripted(Backend):
    """Answers with the prompt in capitals. Options: ``folder``, where it keeps its notes; ``load``; what prompts mean.

    A prompt that begins with ``die`` kills the process; one with ``die once``, only the first process that gets it.
    ``wait`` waits until the folder holds a file ``go``; ``block`` does not let the process do anything else meanwhile.
    """

    async def open(self) -> None:
        self.folder = Path(self.settings.options["folder"])
        note(self.folder, f"load {os.environ.get('CUDA_VISIBLE_DEVICES', '')}")
        if self.settings.options.get("starts"):
            child = subprocess.Popen(["sleep", "1000"])  # as vLLM has a process of its own
            with (self.folder / "notes").open("a") as notes:
                notes.write(f"{child.pid} load of another process\n")
        match self.settings.options.get("load"):
            case "refuse":
                raise LoadError("there is no such model: take another")
            case "fail":
                raise ValueError("what a library says")
            case "die":
                os.write(2, b"no memory for it\n")
                os._exit(3)
            case "slowly":
                time.sleep(60)

    async def complete(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        prompt = body["messages"][-1]["content"]
        note(self.folder, prompt)
        match self.settings.options.get(prompt, prompt).split()[0]:
            case "die":
                marker = self.folder / "died"
                if "once" not in prompt or not marker.exists():
                    marker.touch()
                    os.kill(os.getpid(), signal.SIGKILL)
            case "long":
                raise CallError(413, "the prompt has 9 tokens, and prompt and answer may have 8 together")
            case "fail":
                raise ValueError("a failure of the library")
            case "wait":
                while not (self.folder / "go").exists():
                    await asyncio.sleep(0.01)
            case "block":
                while not (self.folder / "go").exists():
                    time.sleep(0.01)
        message = {"role": "assistant", "content": prompt.upper()}
        usage = {"prompt_tokens": len(prompt.split()), "completion_tokens": 2}
        return {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": usage}

    async def close(self) -> None:
        note(self.folder, "close")


def note(folder: Path, text: str) -> None:
    """Write a line with the id of this process, whole."""
    with (folder / "notes").open("a") as notes:
        notes.write(f"{os.getpid()} {text}\n")


def are_gone(pids: list[int]) -> bool:
    """Return whether none of these processes runs."""
    return not any(psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE for pid in pids)


def notes(folder: Path) -> list[tuple[int, str]]:
    """Return what was written down: ids of processes, and texts."""
    path = folder / "notes"
    parts = [line.split(" ", 1) for line in path.read_text().splitlines()] if path.exists() else []
    return [(int(pid), text) for pid, text in parts]

"""Programs in Python, run to see whether they work."""

from __future__ import annotations

import math
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from llm_datagen.config import check_seconds
from llm_datagen.operators import INodeContext
from llm_datagen.ops.base import DataOperator, new_column, refuse_value, value_of, whole_number, with_columns

_PROGRAM = "program.py"
_BEGIN = f"""
def _begin():
    import resource, signal, sys
    seconds, memory = map(int, sys.argv[1:])
    for which, most in ((resource.RLIMIT_CPU, seconds), (resource.RLIMIT_AS, memory), (resource.RLIMIT_CORE, 0)):
        try:
            resource.setrlimit(which, (most, most))
        except (ValueError, OSError):
            pass  # this system has no such limit, or a lower one
    signal.alarm(seconds)
    sys.argv = [{_PROGRAM!r}]
    with open({_PROGRAM!r}, encoding="utf-8") as file:
        return compile(file.read(), {_PROGRAM!r}, "exec")
exec(globals().pop("_begin")())
"""
"""What the new interpreter does first: it limits itself, which the program cannot undo. The alarm is for the case that
nobody is left to kill it."""


class RunPython(DataOperator):
    """Runs the program in a column, and adds how that ended: ``{"passed", "ended", "exit_code", "output"}``.

    **This is no sandbox.** It keeps a run going whose programs loop, print or allocate without end. It does not keep a
    program from anything: it may read and write every file that this user may, use the network, start other programs,
    and see this machine's processes. Run code of models, which is code of strangers, in a container or a virtual
    machine that you can throw away, with no keys in it and no network.

    Each program gets ``python -I`` (this interpreter and its packages) in a process of its own, an empty folder that is
    deleted afterwards, no standard input, and an environment without the variables of this process. The limit of memory
    is one of address space, which macOS does not enforce.

    `passed` says that it ended by itself with exit code 0. `ended` is "exit" (by itself; also by an exception, a failed
    assertion, or too much memory), "timeout" (it, or a process that it left behind, ran on), "output" (it wrote more
    than it may) or "signal" (it crashed). `exit_code` is null unless it ended by itself. `output` is what it wrote to
    standard output and standard error, as it came; bytes that are not UTF-8 are replaced.

    Args:
        code: the column with the program. A fence around it (three backquotes) is taken off.
        tests: a column with more code that runs after it, in the same module, such as assertions; null for none.
        into: the new column.
        timeout: seconds that it may take; it is killed then, with the processes of its group.
        memory_mb: megabytes of address space that it may use.
        max_output: bytes that it may write to standard output and standard error together.
    """

    def __init__(
        self,
        code: str = "code",
        *,
        tests: str | None = None,
        into: str = "run",
        timeout: float = 10.0,
        memory_mb: int = 1024,
        max_output: int = 10_000,
    ) -> None:
        self.code = new_column("code", code)
        self.tests = None if tests is None else new_column("tests", tests)
        self.into = new_column("into", into)
        check_seconds("timeout", timeout)
        self.timeout = timeout
        self.memory_mb = whole_number("memory_mb", memory_mb, 64)
        self.max_output = whole_number("max_output", max_output)

    def process_item(self, item: Any, ctx: INodeContext) -> Any:
        """Return the row with the outcome. Blocks for as long as the program runs.

        Raises:
            RowDataError: when a column is missing, or holds no text, or the row has the new one already.
        """
        parts = [_code_in(item, self.code)]
        if self.tests is not None and value_of(item, self.tests) is not None:
            parts.append(_code_in(item, self.tests))
        with_columns(item, {self.into: None})
        with tempfile.TemporaryDirectory(prefix="llm-datagen-run-", ignore_cleanup_errors=True) as folder:
            (Path(folder) / _PROGRAM).write_text("\n\n".join(parts) + "\n", encoding="utf-8", errors="replace")
            outcome = self._outcome(folder)
        return with_columns(item, {self.into: outcome})

    def _outcome(self, folder: str) -> dict[str, Any]:
        limits = [str(math.ceil(self.timeout) + 1), str(self.memory_mb * 1024 * 1024)]
        process = subprocess.Popen(
            [sys.executable, "-I", "-c", _BEGIN, *limits],
            cwd=folder,
            env={"PATH": os.defpath, "HOME": folder, "TMPDIR": folder, "LANG": "C.UTF-8", "PYTHONIOENCODING": "utf-8"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        assert process.stdout is not None
        deadline = time.monotonic() + self.timeout
        with process.stdout as pipe:
            try:
                output, ended = self._read(pipe, deadline)
                if ended == "exit":
                    ended = _waited_for(process, deadline)
            finally:
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, signal.SIGKILL)
                code = process.wait()
        if ended == "exit" and code < 0:
            ended = "signal"
        return {
            "passed": ended == "exit" and code == 0,
            "ended": ended,
            "exit_code": code if ended == "exit" else None,
            "output": output.decode("utf-8", "replace"),
        }

    def _read(self, pipe: IO[bytes], deadline: float) -> tuple[bytes, str]:
        """Return what is written until the pipe ends, the time is up, or it is too much; and which of these it was."""
        output = bytearray()
        with selectors.DefaultSelector() as selector:
            selector.register(pipe, selectors.EVENT_READ)
            while (left := deadline - time.monotonic()) > 0:
                if not selector.select(left):
                    break
                data = os.read(pipe.fileno(), 65_536)
                if not data:
                    return bytes(output), "exit"
                output += data
                if len(output) > self.max_output:
                    return bytes(output[: self.max_output]), "output"
        return bytes(output), "timeout"


def _waited_for(process: subprocess.Popen[bytes], deadline: float) -> str:
    """Wait for a program that has closed its output: it may run on."""
    try:
        process.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        return "timeout"
    return "exit"


def _code_in(item: Any, column: str) -> str:
    value = value_of(item, column)
    if not isinstance(value, str):
        refuse_value(column, value, "text")
    text = value.strip("\n")
    lines = text.strip().splitlines()
    if len(lines) >= 2 and lines[0].startswith("```") and lines[-1].strip() == "```":
        return "\n".join(lines[1:-1])
    return text

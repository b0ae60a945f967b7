"""A process that has imported the package, and forks a child for every program that a test runs: see `programs`.

A fork takes some milliseconds, a start of Python with the imports up to a second. This process has a single thread; all
else begins in the children. A child ends as an interpreter does: `run` is the last that this file does.
"""

from __future__ import annotations

import array
import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

MODULES = [
    *(f"llm_datagen.{name}" for name in ("llm", "pipeline", "pipeline.checked_resume", "testing", "testing.server")),
    *(f"llm_datagen.runs.{name}" for name in ("verify", "display.live", "display.plain")),
    "llm_datagen.shards.gathered",
    *(f"llm_datagen.cli.{name}" for name in ("app", "commands.resume", "commands.run", "dead_letters", "execute")),
    *(f"llm_datagen.cli.{name}" for name in ("export_view", "resume", "status", "yaml_graph", "yaml_load")),
    "pydantic.type_adapter",
    "structlog",
    "rich.live",
    "rich.table",
]
"""What programs import, at once or when it is used. Those that import less are run by `subprocess`."""

MESSAGE_BYTES = 1 << 20
STATUS = "i"


def serve(channel: socket.socket) -> Callable[[], None] | None:
    """Fork a child for every request. Return in a child what it is to do; in this process None, when nobody is there.

    A request is JSON, with four files: the child's stdin, stdout and stderr, and where its status goes when it ends.
    """
    woken, wake = os.pipe()
    os.set_blocking(woken, False)
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    told: dict[int, int] = {}
    while True:
        ready, _, _ = select.select([channel.fileno(), woken], [], [])
        if woken in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(woken, 4096)
            _reap(told)
        if channel.fileno() not in ready:
            continue
        data, fds, _, _ = socket.recv_fds(channel, MESSAGE_BYTES, 4)
        if not data:
            return None
        request = json.loads(data)
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            channel.detach()  # `_become` closes it
            _become(request, fds[:3])
            return lambda: run(request["arguments"])
        told[pid] = fds.pop()
        for fd in fds:
            os.close(fd)
        channel.send(str(pid).encode())


def _reap(told: dict[int, int]) -> None:
    while told:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        fd = told.pop(pid)
        with contextlib.suppress(BrokenPipeError):
            os.write(fd, array.array(STATUS, [os.waitstatus_to_exitcode(status)]).tobytes())
        os.close(fd)


def _become(request: dict[str, Any], files: list[int]) -> None:
    """Be as a new process with these files, directory, environment and options."""
    for number, fd in enumerate(files):
        os.dup2(fd, number)
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - a Path each is not needed
        if int(name) > 2:
            with contextlib.suppress(OSError):  # the one of the listing
                os.close(int(name))
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    signal.signal(signal.SIGINT, signal.default_int_handler)  # who started the tests in the background ignores it
    sys.dont_write_bytecode = bool(os.environ.get("PYTHONDONTWRITEBYTECODE"))
    if request["is_leader"]:
        os.setsid()
    unbuffered = bool(os.environ.get("PYTHONUNBUFFERED"))
    encoding = os.environ.get("PYTHONIOENCODING", "utf-8")
    sys.stdin = sys.__stdin__ = open(0, encoding=encoding, closefd=False)  # type: ignore[misc]  # noqa: SIM115
    for number, name in ((1, "stdout"), (2, "stderr")):
        errors = "backslashreplace" if number == 2 else None
        file = open(number, "w", encoding=encoding, errors=errors, closefd=False)  # noqa: SIM115
        file.reconfigure(line_buffering=number == 2 or file.isatty(), write_through=unbuffered)
        setattr(sys, name, file)
        setattr(sys, f"__{name}__", file)
    for option in request["warnings"]:
        sys.warnoptions.append(option)
        warnings.simplefilter(option)


def run(arguments: list[str]) -> None:
    """Do what `python` does with these arguments: `-c CODE`, `-m MODULE` or a file, and what follows them."""
    system, path = sys, os.path  # `__main__` is emptied for the program
    what, *rest = arguments
    if what == "-m":
        module, *rest = rest
        sys.argv = [what, *rest]
        sys.path[0] = str(Path.cwd())
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        return
    main = sys.modules["__main__"].__dict__
    for name in set(main) - {"__name__", "__builtins__"}:
        del main[name]
    if what == "-c":
        code, *rest = rest
        program = compile(code, "<string>", "exec", dont_inherit=True)
        place = ""
    else:
        main["__file__"] = what
        with open(what, "rb") as file:  # noqa: PTH123 - only builtins are left
            program = compile(file.read(), what, "exec", dont_inherit=True)
        place = path.dirname(path.realpath(what))
    system.argv = [what, *rest]
    system.path[0] = place
    exec(program, main)


if __name__ == "__main__":
    for name in MODULES:
        importlib.import_module(name)
    gc.freeze()
    if (begin := serve(socket.socket(fileno=int(sys.argv[1])))) is not None:
        begin()

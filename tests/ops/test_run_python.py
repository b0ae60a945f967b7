"""Programs of rows: what becomes of those that work, fail, loop, print and allocate without end."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from llm_datagen import ConfigError, RowDataError, ops

from .calls import outcome

ALWAYS = 60.0


def run_of(code: str, timeout: float = ALWAYS, **more: Any) -> dict[str, Any]:
    [row] = outcome(ops.RunPython(timeout=timeout, **more), [{"code": code}])
    assert row["code"] == code
    found: dict[str, Any] = row["run"]
    return found


def ended(how: str, output: str, code: int | None = None) -> dict[str, Any]:
    return {"passed": how == "exit" and code == 0, "ended": how, "exit_code": code, "output": output}


def test_a_program_is_run_with_its_tests_and_without_its_fence() -> None:
    row = {
        "code": "```python\ndef double(n):\n    return 2 * n\n```",
        "tests": "print(double(4))\nassert double(1) == 2\n",
    }
    operator = ops.RunPython(tests="tests", timeout=ALWAYS)
    [made] = outcome(operator, [row])
    assert made == {**row, "_i": 0, "run": ended("exit", "8\n", 0)}
    [made] = outcome(operator, [{**row, "tests": "assert double(2) == 5"}])
    assert (made["run"]["passed"], made["run"]["exit_code"]) == (False, 1)
    *_, line, error = made["run"]["output"].replace(" ", "").replace("^", "").split()
    assert (line, error) == ("assertdouble(2)==5", "AssertionError")
    [made] = outcome(operator, [{**row, "tests": None}])
    assert made["run"] == ended("exit", "", 0)
    unit = "import unittest\nclass T(unittest.TestCase):\n    def test(self): self.assertEqual(1, 2)\nunittest.main()"
    assert "FAILED (failures=1)" in run_of(unit)["output"]


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("import sys\nprint('é')\nsys.exit(3)", ended("exit", "é\n", 3)),
        ("import sys\nsys.stdout.buffer.write(b'\\xff')", ended("exit", "�", 0)),
        ("import os\nos.abort()", ended("signal", "")),
        ("print(input())", None),
        ("sys.exit()", None),
        ("x = 'a' * 10**10", None),
        ("while True: print('x' * 99)", ended("output", ("x" * 99 + "\n")[:40])),
    ],
    ids=["exit", "bytes", "signal", "no input", "nothing is imported", "memory", "output"],
)
def test_an_end_is_named(code: str, expected: Any) -> None:
    found = run_of(code, max_output=40 if expected and expected["ended"] == "output" else 10_000)
    if expected is None:
        assert (found["passed"], found["ended"], found["exit_code"]) == (False, "exit", 1)
        assert found["output"].splitlines()[-1].split(":")[0] in ("EOFError", "NameError", "MemoryError")
    else:
        assert found == expected


@pytest.mark.parametrize("code", ["while True: pass", "import os, time\nos.close(1)\nos.close(2)\ntime.sleep(99)"])
def test_a_program_that_does_not_end_is_killed(code: str) -> None:
    begun = time.monotonic()
    assert run_of(code, timeout=0.3) == ended("timeout", "")
    assert time.monotonic() - begun < ALWAYS


def test_processes_that_it_leaves_behind_are_killed(tmp_path: Path) -> None:
    sleeper = tmp_path / "pid"
    code = f"""
import subprocess
child = subprocess.Popen(["sleep", "99"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
open({str(sleeper)!r}, "w").write(str(child.pid))
"""
    assert run_of(code) == ended("exit", "", 0)
    pid = int(sleeper.read_text())
    deadline = time.monotonic() + ALWAYS
    while is_running(pid):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_program_sees_an_empty_folder_and_none_of_our_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "a secret")
    seen = run_of("import os, sys\nprint(sorted(os.environ), os.listdir(), sys.argv, os.getcwd())")["output"]
    variables, folder = seen.rsplit(" ", 1)
    assert variables == "['HOME', 'LANG', 'PATH', 'PYTHONIOENCODING', 'TMPDIR'] ['program.py'] ['program.py']"
    assert not Path(folder.strip()).exists()


def test_what_is_no_program_is_refused() -> None:
    for row, why in [
        ({}, "no column 'code'"),
        ({"code": None}, "must hold text"),
        ({"code": "", "run": 1}, "'run' already"),
    ]:
        with pytest.raises(RowDataError, match=why):
            outcome(ops.RunPython(), [row])
    with pytest.raises(ConfigError, match="timeout"):
        ops.RunPython(timeout=0)
    with pytest.raises(ConfigError, match="memory_mb must be a whole number from 64"):
        ops.RunPython(memory_mb=1)


@pytest.mark.slow
def test_a_program_ends_when_the_process_that_waits_for_it_is_killed(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    code = f"import os, time\nopen({str(pid_file)!r}, 'w').write(str(os.getpid()))\ntime.sleep(99)"
    program = (
        f"from llm_datagen import ops\nops.RunPython(timeout=1.0).process_item({{'code': {code!r}, '_i': 0}}, None)"
    )
    waiting = subprocess.Popen([sys.executable, "-c", program])
    deadline = time.monotonic() + ALWAYS
    while not pid_file.exists() or not pid_file.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    waiting.kill()
    waiting.wait()
    while is_running(int(pid_file.read_text())):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_running(pid: int) -> bool:
    """Return whether there is such a process, and it has not ended."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False

"""Tools of MCP servers: real ones of the SDK, as programs, and on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest

from llm_datagen.errors import ConfigError
from llm_datagen.llm import McpServer, McpServerError, ToolError, Tools
from llm_datagen.operators.arguments import NotPlainError, given_arguments, stored_arguments
from llm_datagen.testing import FakeLLMServer, ToolCalls

from ..kit import programs
from ..kit.programs import Program
from ..kit.support import eventually, lines, write_jsonl
from .chat_server import ChatServer, Context, run_rows
from .tool_kit import add, call, calls, results, says, script

pytest.importorskip("mcp")

BOOKS = Path(__file__).with_name("mcp_books.py")
MCP_JOB = Path(__file__).with_name("mcp_job.py")
COMMAND = [sys.executable, str(BOOKS)]
ROW = {"_i": 3, "q": "Where?"}
DIED = "the server of the tool died meanwhile; nobody knows whether it was done"


def run(server: ChatServer, *given: Any, rows: int = 1, **options: Any) -> Any:
    return asyncio.run(run_rows(server.operator(tools=Tools(list(given), **options)), [ROW] * rows))


def books(starts: Path | None = None, **options: Any) -> McpServer:
    env = {} if starts is None else {"STARTS": str(starts)}
    return McpServer(**{"command": COMMAND, "allow": ["shelf"], "env": env, **options})


def started(starts: Path) -> list[int]:
    return list(map(int, starts.read_text().split()))


def is_alive(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    return False


@pytest.mark.slow
def test_tools_of_a_program_are_used_beside_functions(
    server: ChatServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Only what is allowed is offered; only named variables reach the program; nothing of it reaches the terminal."""
    monkeypatch.setenv("BOOKS_KEY", "k1")
    monkeypatch.setenv("OTHER_KEY", "k2")
    allow = {"shelf": "where", "secret": "secret", "cover": "cover", "lend": "lend"}
    made = [call("where", {"book": "Emma"}), call("secret", {}, "c2"), call("cover", {}, "c3")]
    made += [call("lend", {"days": "x"}, "c4"), call("lend", {"days": 1}, "c5"), call("burn", {}, "c6")]
    script(server, calls(*made, call("add", {"a": 1}, "c7")), says("ok"))
    starts = tmp_path / "starts"
    (row,) = run(server, add, books(starts, allow=allow, env_names=["BOOKS_KEY"]))
    assert row["answer"] == "ok"
    offered = [tool["function"] for tool in server.seen[0].body["tools"]]
    assert [tool["name"] for tool in offered] == ["add", *allow.values()]
    assert offered[1]["description"] == "Tells where a book stands."
    assert offered[1]["parameters"]["required"] == ["book"]
    where, secret, cover, bad, failed, unknown, added = results(server)
    assert (where, secret, added) == ("shelf of Emma", "k1 None", "2")
    assert cover == "the cover\n(image/png: only texts can be passed on)"
    assert bad.startswith("Error: Error executing tool lend: 1 validation error")
    assert failed == "Error: Error executing tool lend"
    assert unknown == "Error: there is no tool 'burn'; there are: add, where, secret, cover, lend"
    (pid,) = started(starts)
    assert not is_alive(pid)
    assert capfd.readouterr().err == ""


@pytest.mark.slow
def test_a_program_that_dies_is_started_again_and_no_call_is_repeated(server: ChatServer, tmp_path: Path) -> None:
    """It dies in a call, of which the model is told; and between two rows, of which nobody notices anything."""
    starts = tmp_path / "starts"
    script(server, calls(call("burn", {})), calls(call("shelf", {"book": "Emma"})), says("ok"))

    async def rows() -> None:
        operator: Any = server.operator(tools=[books(starts, allow=["shelf", "burn"])])
        await operator.setup()
        try:
            assert (await operator.process_item(ROW, Context()))["answer"] == "ok"
            burnt, found = results(server)
            assert burnt == f"Error: {DIED}"
            assert found == "shelf of Emma"
            assert len(started(starts)) == 2
            os.kill(started(starts)[-1], signal.SIGKILL)
            await asyncio.to_thread(eventually, lambda: len(started(starts)) == 3, "it is started again")
            script(server, calls(call("shelf", {"book": "Emma"})), says("ok"))
            await operator.process_item(ROW, Context())
            assert results(server) == ["shelf of Emma"]
        finally:
            await operator.teardown()

    asyncio.run(rows())
    assert not any(map(is_alive, started(starts)))


@pytest.mark.slow
def test_a_call_that_takes_too_long_is_given_up_and_the_server_stays(server: ChatServer, tmp_path: Path) -> None:
    starts = tmp_path / "starts"
    made = calls(call("search", {"book": "Emma"}), call("shelf", {"book": "Emma"}, "c2"))
    script(server, made, calls(call("shelf", {"book": "Dune"})), says("ok"))
    run(server, books(starts, allow=["search", "shelf"]), timeout=1.0)
    assert results(server) == ["Error: it took longer than 1 seconds", "shelf of Emma", "shelf of Dune"]
    assert len(started(starts)) == 1


@pytest.mark.slow
def test_the_token_of_a_server_goes_to_it_and_shows_nowhere(
    server: ChatServer, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    token = "canary-7d793037a0760186574b0282f2f435e7"
    monkeypatch.setenv("MCP_TOKEN", token)
    server.always({"jsonrpc": "2.0", "id": 1, "error": {"code": -32603, "message": "no"}}, 401)
    given = McpServer(url=f"{server.base_url}/mcp", allow=["shelf"], token_env="MCP_TOKEN", headers={"X-Team": "a"})
    with pytest.raises(McpServerError, match=r"the MCP server 127\.0\.0\.1 cannot be used") as caught:
        run(server, given)
    assert {seen.headers["authorization"] for seen in server.seen} == {f"Bearer {token}"}
    assert {seen.headers["x-team"] for seen in server.seen} == {"a"}
    shown = "".join(traceback.format_exception(caught.value)) + repr(given) + "".join(capfd.readouterr())
    assert token not in shown


@pytest.mark.slow
def test_a_program_that_dies_too_often_ends_the_run(server: ChatServer, tmp_path: Path) -> None:
    starts = tmp_path / "starts"
    script(server, *[calls(call("burn", {}))] * 9)
    with pytest.raises(McpServerError) as caught:
        run(server, books(starts, allow=["burn"], max_restarts=1))
    assert str(caught.value) == (
        f"the MCP server {Path(sys.executable).name} mcp_books.py died 2 times within ten minutes (max_restarts=1): "
        "its connection was closed; the last line of its standard error: fire!"
    )
    assert len(started(starts)) == 2
    with pytest.raises(ToolError, match="row 3: the tool burn failed: the server of the tool died meanwhile"):
        run(server, books(allow=["burn"]), on_tool_error="fail")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"command": ["/nowhere/books"]}, "the MCP server books cannot be used: FileNotFoundError"),
        (
            {"command": [sys.executable, "-c", "import sys; sys.exit('no books today')"]},
            "cannot be used: .*the last line of its standard error: no books today",
        ),
        ({"allow": ["shelf", "sell"]}, "cannot be used: it has no tool 'sell'; it has: shelf, secret, cover, burn"),
        (
            {"command": [sys.executable, "-c", "input(); input()"], "start_timeout": 0.5},
            "it was not ready within 0.5 seconds",
        ),
        (
            {"env_names": ["NOT_SET_HERE"]},
            "the environment variable NOT_SET_HERE, env_names of the MCP server .* is not",
        ),
    ],
)
def test_a_server_that_cannot_be_used_is_named_before_a_row_is_touched(
    server: ChatServer, options: Mapping[str, Any], message: str
) -> None:
    with pytest.raises((McpServerError, ConfigError), match=message):
        run(server, books(**options))
    assert not server.seen


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"allow": []}, "allow of an McpServer must name the tools that may be used"),
        ({"allow": "shelf"}, "allow of an McpServer must name the tools"),
        ({"allow": ["a.b"]}, r"a tool must have a name .* not 'a\.b': give it one, allow="),
        ({"command": "books"}, "command of an McpServer must be a list of texts"),
        ({"command": None}, "must have either a command or a url"),
        ({"url": "http://localhost/mcp"}, "must have either a command or a url"),
        ({"command": None, "url": "ftp://localhost"}, "must begin with http"),
        ({"token_env": "X"}, "token_env of an McpServer goes with url"),
        ({"max_restarts": -1}, "^max_restarts of an McpServer must be"),
        ({"start_timeout": 0}, "^start_timeout of an McpServer must be"),
        ({"parallel": 0}, "^parallel of an McpServer must be"),
        ({"comand": ["x"]}, "comand"),
    ],
)
def test_servers_that_cannot_be_are_refused_at_construction(options: Mapping[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        books(**options)


@pytest.mark.slow
def test_a_server_ends_with_a_run_that_is_killed_and_begins_with_its_resume(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "in.jsonl", [{"q": f"book {k}"} for k in range(20)])
    tool = "search"

    def answer(messages: Any) -> Any:
        found = [message["content"] for message in messages if message["role"] == "tool"]
        return found[-1] if found else ToolCalls((tool, {"book": messages[0]["content"]}))

    with FakeLLMServer(answer=answer) as endpoint:
        job = [MCP_JOB, endpoint.base_url, BOOKS]
        with Program(job, cwd=tmp_path, stderr=subprocess.DEVNULL) as process:
            eventually(lambda: endpoint.calls == 8, "all that may be in flight wait for the server")
            process.kill()
        (pid,) = started(tmp_path / "starts")
        eventually(lambda: not is_alive(pid), "its standard input has ended, and so has the server")
        tool = "shelf"
        assert programs.run(job, cwd=tmp_path, check=True).stderr == ""
    assert sorted(row["answer"] for row in lines(tmp_path / "out.jsonl")) == sorted(
        f"shelf of book {k}" for k in range(20)
    )
    assert not any(map(is_alive, started(tmp_path / "starts")))


def test_names_that_collide_are_refused_at_construction(server: ChatServer) -> None:
    for given in ([books(), books()], [add, books(allow={"shelf": "add"})]):
        with pytest.raises(ConfigError, match=r"two tools are called '(shelf|add)': give one another name"):
            server.operator(tools=given)
    server.operator(tools=[books(), {"command": COMMAND, "allow": {"shelf": "other_shelf"}}])
    with pytest.raises(ConfigError, match="an MCP server must say 'allow'"):
        server.operator(tools=[{"command": COMMAND}])


def test_what_a_server_is_counts_for_the_fingerprint_and_where_it_is_does_not(server: ChatServer) -> None:
    def fingerprint(**options: Any) -> Mapping[str, str | None]:
        return server.operator(tools=[books(name="books", **options)]).fingerprint()

    given = fingerprint()
    assert fingerprint(command=["/elsewhere/python", "/elsewhere/mcp_books.py"], timeout=3.0)["MCP server books"]
    assert fingerprint(timeout=3.0, max_restarts=1) == given
    assert fingerprint(allow=["shelf", "cover"]) != given


def test_a_run_state_has_no_secret_of_a_server() -> None:
    """Named variables come back; a secret that is given literally is refused by name."""
    given = {"tools": [books(env_names=["BOOKS_KEY"]), McpServer(url="http://h/mcp", allow=["x"], token_env="TOKEN")]}
    stored = stored_arguments(books, [], given)
    assert given_arguments(json.loads(json.dumps(stored)))[1] == given
    with pytest.raises(NotPlainError, match="given BOOKS_API_KEY literally"):
        stored_arguments(books, [], {"tools": [books(env={"BOOKS_API_KEY": "k"})]})
    assert "secret" not in repr(books(env={"BOOKS_API_KEY": "secret"}))


@pytest.fixture
def loopback(tmp_path: Path) -> Iterator[Any]:
    """A port, and a function that starts a server there, and waits until it listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    running: list[subprocess.Popen[bytes]] = []

    def is_up() -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return True
        return False

    def start() -> subprocess.Popen[bytes]:
        process = subprocess.Popen([*COMMAND, str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        running.append(process)
        eventually(is_up, "it listens")
        return process

    yield port, start
    for process in running:
        process.kill()
        process.wait()


@pytest.mark.slow
def test_tools_of_a_server_on_the_network_are_used_and_it_may_go_and_come_back(
    server: ChatServer, loopback: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    port, start = loopback
    process = start()
    script(server, calls(call("shelf", {"book": "Emma"})), says("ok"))

    async def rows() -> None:
        url = f"http://127.0.0.1:{port}/mcp"
        operator: Any = server.operator(tools=[McpServer(url=url, allow=["shelf"])])
        await operator.setup()
        try:
            for _ in range(2):
                assert (await operator.process_item(ROW, Context()))["answer"] == "ok"
                assert results(server) == ["shelf of Emma"]
            process.kill()
            process.wait()
            asked = asyncio.create_task(operator.process_item(ROW, Context()))
            await asyncio.to_thread(start)
            assert (await asked)["answer"] == "ok"
            (told,) = results(server)
            assert told in (
                "shelf of Emma",
                "Error: the server of the tool died meanwhile; nobody knows whether it was done",
            )
            await operator.process_item(ROW, Context())
            assert results(server) == ["shelf of Emma"]
        finally:
            await operator.teardown()

    asyncio.run(rows())
    assert capfd.readouterr().err == ""

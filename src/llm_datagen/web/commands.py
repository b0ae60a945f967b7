"""Commands from the page: a run is told what to do as the command line tells it, by its control socket."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from aiohttp import web

from llm_datagen.errors import ConfigError, DatagenError, PipelineNotFoundError
from llm_datagen.runs import RunFolder
from llm_datagen.runs.caps import caps_of
from llm_datagen.runs.usage import dollars
from llm_datagen.shards.run_commands import pause_run, reconfigure_run, running_parts, send_cancel, unpause_run
from llm_datagen.shards.run_view import read_run
from llm_datagen.web.answers import error_answer, json_answer, json_of
from llm_datagen.web.folders import ResultsFolders
from llm_datagen.web.go_on import go_on, refuse_unknown_origin
from llm_datagen.web.security import Guard

_REASON = "the page"


class Commands:
    """Answers commands.

    Args:
        folders: the folders of runs that are shown.
        guard: knows whether there may be any.
    """

    def __init__(self, folders: ResultsFolders, guard: Guard) -> None:
        self._folders, self._guard = folders, guard

    def add_to(self, app: web.Application) -> None:
        """Add what is answered."""
        app.router.add_post("/api/runs/{run}/commands", self._command)

    async def _command(self, request: web.Request) -> web.Response:
        if self._guard.read_only:
            return error_answer(403, "this page is read-only: type the command, or start the page without --read-only")
        try:
            name, arguments = _checked(await json_of(request))
        except (ValueError, TypeError) as error:
            return error_answer(400, str(error))
        try:
            folder = self._folders.find(request.match_info["run"])
            said = await asyncio.to_thread(_COMMANDS[name], folder, **arguments)
        except PipelineNotFoundError as error:
            return error_answer(404, str(error))
        except DatagenError as error:
            return error_answer(409, str(error))
        return json_answer({"said": f"run {folder.pipeline_id}: {said}"})


def _pause(folder: RunFolder) -> str:
    return _each(folder, pause_run)


def _unpause(folder: RunFolder) -> str:
    return _each(folder, unpause_run)


def _cancel(folder: RunFolder, reason: str = _REASON) -> str:
    def cancelled(part: RunFolder) -> str:
        pid = send_cancel(part, reason, keep_jobs=False)
        return f"process {pid} was asked to cancel: calls in flight finish and are saved"

    return _each(folder, cancelled)


def _reconfigure(
    folder: RunFolder,
    node: str | None = None,
    parallel_size: int | None = None,
    batch_size: int | None = None,
    rate: float | None = None,
) -> str:
    if parallel_size is None and batch_size is None and rate is None:
        raise ConfigError("say what to change: parallel_size, batch_size or rate")
    return _each(
        folder,
        lambda part: reconfigure_run(part, node, parallel_size=parallel_size, batch_size=batch_size, rate=rate),
    )


def _each(folder: RunFolder, tell: Callable[[RunFolder], str]) -> str:
    """Tell a run something, or each of its shards; return what happened."""
    parts = running_parts(folder)
    said = [tell(part) for part in parts]
    return (
        said[0]
        if len(parts) == 1
        else "; ".join(f"{part.pipeline_id}: {text}" for part, text in zip(parts, said, strict=True))
    )


def _resume(folder: RunFolder, usd: float | None = None, tokens: int | None = None, on_error: str | None = None) -> str:
    return go_on(folder, "resume", [*_budget_options(usd, tokens), *(["--on-error", on_error] if on_error else [])])


def _replay(folder: RunFolder) -> str:
    return go_on(folder, "replay")


def _budget(folder: RunFolder, usd: float | None = None, tokens: int | None = None) -> str:
    """Give a run another budget. A process that runs it cannot take one: it ends, and another one goes on."""
    options = _budget_options(usd, tokens)
    if not options:
        raise ConfigError("say what may be spent in all: usd or tokens")
    run = read_run(folder)
    if not caps_of(run.state):
        raise ConfigError("no operator of this run has a budget; give it one, in the file or the code, and resume")
    words = " and ".join(
        [*([] if usd is None else [dollars(usd)]), *([] if tokens is None else [f"{tokens:,} tokens"])]
    )
    if not run.is_live:
        return f"{go_on(folder, 'resume', options)}, with a budget of {words}"
    refuse_unknown_origin(folder, "resume")
    for part in running_parts(folder):
        send_cancel(part, "the page: it goes on with another budget", keep_jobs=True)
    went_on = go_on(folder, "resume", options, after_end=True)
    return (
        f"a run takes no other budget while it runs, so it was cancelled (what was done is kept), and resumed with a "
        f"budget of {words}. {went_on}"
    )


def _budget_options(usd: float | None, tokens: int | None) -> list[str]:
    return [
        *([] if usd is None else ["--budget-usd", repr(usd)]),
        *([] if tokens is None else ["--budget-tokens", str(tokens)]),
    ]


_COMMANDS: dict[str, Callable[..., str]] = {
    "pause": _pause,
    "unpause": _unpause,
    "cancel": _cancel,
    "reconfigure": _reconfigure,
    "resume": _resume,
    "replay": _replay,
    "budget": _budget,
}

_ARGUMENTS: dict[str, tuple[type, ...]] = {
    "reason": (str,),
    "node": (str,),
    "parallel_size": (int,),
    "batch_size": (int,),
    "rate": (int, float),
    "usd": (int, float),
    "tokens": (int,),
    "on_error": (str,),
}
"""The types of arguments; what they may be, the run knows."""

_OF_COMMAND = {
    "cancel": {"reason"},
    "reconfigure": {"node", "parallel_size", "batch_size", "rate"},
    "resume": {"usd", "tokens", "on_error"},
    "budget": {"usd", "tokens"},
}


def _checked(given: Any) -> tuple[str, Mapping[str, Any]]:
    """Return a command and its arguments.

    Raises:
        ValueError, TypeError: when it is none.
    """
    if not isinstance(given, dict) or given.get("command") not in _COMMANDS:
        raise ValueError(f"the commands are {', '.join(_COMMANDS)}")
    name = given["command"]
    arguments = {key: value for key, value in given.items() if key != "command" and value is not None}
    for key, value in arguments.items():
        if key not in _OF_COMMAND.get(name, ()):
            raise TypeError(f"{name} has no argument {key!r}")
        if not isinstance(value, _ARGUMENTS[key]) or isinstance(value, bool):
            raise TypeError(f"{name}: {key} is {value!r}, which is of another type")
    return name, arguments

"""llama.cpp, by the package xllamacpp: models in GGUF files, on processors and GPUs."""

from __future__ import annotations

import asyncio
import secrets
import shutil
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from llm_datagen.llm.engines.backends.base import Backend, CallError, LoadError, ModelSettings
from llm_datagen.llm.engines.backends.chat_params import too_long
from llm_datagen.llm.http.streaming.chat import ChatStreaming

_CONTEXT = 4096
"""Unless told otherwise: models that allow 128,000 tokens would take gigabytes for it."""
_ERRORS_ONLY = 1
_TOO_LONG = "exceed_context_size_error"
_NOT_OF_THE_ANSWER = ("timings", "model")
"""What else llama.cpp says: its model is the path of the file, which is of this machine."""


class LlamaBackend(Backend):
    """Runs a GGUF file. Calls wait for one of its slots, which it computes together."""

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__(settings)
        self._server: Any = None
        self._threads = ThreadPoolExecutor(settings.calls_at_once, thread_name_prefix="slot")

    async def open(self) -> None:
        """Load the file."""
        path = check_gguf(self.settings.path)
        try:
            import xllamacpp
        except ImportError as error:
            hint = ": install libgomp (Debian: libgomp1)" if "libgomp" in str(error) else ""
            raise LoadError(f"xllamacpp cannot be imported: {error}{hint}") from error

        # It insists on listening. A socket in a folder of this user's that nobody can reach is as good as none.
        folder = tempfile.mkdtemp(prefix="llm-datagen-")
        try:
            params = xllamacpp.CommonParams()
            params.hostnames = [f"{folder}/off.sock"]
            params.api_keys = [secrets.token_urlsafe(24)]
            params.ui = params.endpoint_slots = False
            params.model.path = path
            params.n_parallel = self.settings.calls_at_once
            params.n_ctx = (self.settings.context or _CONTEXT) * self.settings.calls_at_once
            params.cpuparams.n_threads = params.cpuparams_batch.n_threads = self.settings.threads
            params.verbosity = _ERRORS_ONLY
            # Its own reading of a template knows the common ones, and answers well by them; Jinja only where asked for.
            params.use_jinja = self.settings.chat_template is not None
            if self.settings.chat_template is not None:
                params.chat_template = self.settings.chat_template
            for name, value in self.settings.options.items():
                _set(params, name, value)
            try:
                self._server = xllamacpp.Server(params)
            except RuntimeError as error:
                raise LoadError(
                    f"llama.cpp cannot load {path}: {error} If the file is incomplete or damaged, fetch it again; if "
                    "memory is short, lower batch_size or context, or take a smaller quantization"
                ) from error
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    async def complete(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """Have a slot complete the chat. The slot is free again one token after the call was given up."""
        call = _Call(body)
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, call.made_by, self._server)
        except asyncio.CancelledError:
            call.is_wanted = False
            raise


class _Call:
    """A call that is streamed, since one that is not cannot be ended before it is whole.

    Args:
        body: the request.
    """

    def __init__(self, body: Mapping[str, Any]) -> None:
        self._body = {**body, "stream": True, "stream_options": {"include_usage": True}}
        self._answer = ChatStreaming().assembler()
        self._error: Mapping[str, Any] | None = None
        self.is_wanted = True

    def made_by(self, server: Any) -> Mapping[str, Any]:
        """Return the answer of a server. Blocks.

        Raises:
            CallError: when there is none.
        """
        server.handle_chat_completions(self._body, self._take)
        error = self._error
        if error is None and self._answer.is_whole:
            whole: Mapping[str, Any] = self._answer.body()
            return {name: value for name, value in whole.items() if name not in _NOT_OF_THE_ANSWER}
        if error is None:
            raise CallError(500, "llama.cpp ended the call before its answer was whole")
        if error.get("type") == _TOO_LONG:
            raise too_long(error["n_prompt_tokens"], error["n_ctx"])
        raise CallError(int(error.get("code") or 500), str(error.get("message", error)))

    def _take(self, piece: Mapping[str, Any]) -> bool:
        """Take a piece of the answer; return whether that is enough."""
        error = piece.get("error")
        if error is not None:
            self._error = error
        else:
            self._answer.add("", piece)
        return not self.is_wanted or error is not None


def check_gguf(path: str) -> str:
    """Return the path of a GGUF file.

    Raises:
        LoadError: when it is none, as far as its first bytes tell.
    """
    file = Path(path)
    if file.is_dir():
        found = sorted(each.name for each in file.glob("*.gguf"))
        which = f"name one of its files: {', '.join(found)}" if found else "it holds no GGUF file"
        raise LoadError(f"{path} is a folder: {which}; a folder of safetensors is for engine='transformers' or 'vllm'")
    if not file.exists():
        raise LoadError(f"there is no model file {path}: check model (or path of the engine), or download the file")
    with file.open("rb") as opened:
        magic = opened.read(4)
    if magic != b"GGUF":
        raise LoadError(
            f"{path} is no GGUF file (it begins with {magic!r}): llama.cpp reads GGUF only; fetch the model in that "
            "format, or convert it"
        )
    return path


def _set(params: Any, name: str, value: Any) -> None:
    """Set a field; ``a.b`` names a field of a field."""
    *folders, last = name.split(".")
    try:
        for each in folders:
            params = getattr(params, each)
        getattr(params, last)
        setattr(params, last, value)
    except (AttributeError, TypeError, ValueError) as error:
        raise LoadError(f"engine options: llama.cpp does not take {name}={value!r}: {error}") from error

"""Which library runs a model in this process's own workers, and how: plain data, checked once."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from llm_datagen.config import check_count, check_seconds, check_text, check_whole, object_of, refuses_unknown
from llm_datagen.errors import ConfigError
from llm_datagen.llm.http.adapters import ChatAdapter
from llm_datagen.llm.http.providers.openai import OpenAIAdapter
from llm_datagen.llm.import_string import is_import_path
from llm_datagen.streams.formats.json_text import dumps


class PromptAdapter(OpenAIAdapter):
    """Chat completions of a library that is asked for JSON by the prompt alone."""

    structured_modes: Sequence[str] = ("prompt",)


class Kind(NamedTuple):
    """What is known of an engine before it is started.

    Attributes:
        backend: the class that speaks to the library, as ``module:Name``.
        package: what must be installed; empty for nothing.
        extra: of llm-datagen, which installs it.
        adapter: puts its calls and reads its answers, which are those of chat completions.
        batch_size: calls that a worker computes at once, unless told otherwise.
    """

    backend: str
    package: str
    extra: str
    adapter: type[ChatAdapter]
    batch_size: int


_BACKENDS = "llm_datagen.llm.engines.backends"
KINDS = {
    "llama": Kind(f"{_BACKENDS}.llama:LlamaBackend", "xllamacpp", "llama", OpenAIAdapter, 4),
    "transformers": Kind(
        f"{_BACKENDS}.transformers:TransformersBackend", "transformers", "transformers", PromptAdapter, 16
    ),
    "vllm": Kind(f"{_BACKENDS}.vllm:VLLMBackend", "vllm", "vllm", OpenAIAdapter, 256),
}
"""The engines that are there, by their names."""


@refuses_unknown
@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """A model that runs on this machine, in worker processes of its own, which each load it.

    Attributes:
        kind: what runs it: ``"llama"`` (llama.cpp; a GGUF file), ``"transformers"`` or ``"vllm"`` (a folder as
            Hugging Face keeps models, or a name on its hub); or ``"module:Name"`` of a `Backend` of your own.
        path: where the model is; None: the operator's `model` is the path. It is no part of what a resume checks.
        workers: how many processes load it.
        devices: the GPUs of each worker, as ``CUDA_VISIBLE_DEVICES`` takes them, such as ``["0", "1"]`` or
            ``["0,1", "2,3"]``: then there is a worker for each. None: every worker sees what this process sees.
        batch_size: calls that a worker computes at once; None: 4 with llama, 16 with transformers, 256 with vllm.
        context: tokens of prompt and answer together that a call may have; None: what the model allows, and 4,096 at
            most with llama.
        threads: processor threads of a worker; None: half of the processors that the workers share, at least one. More
            is faster on an idle machine and far slower on a busy one.
        chat_template: a Jinja template that makes one text of the messages; None: the model's own.
        options: more settings of the library, by its names: fields of ``CommonParams`` (``{"n_gpu_layers": 20}``),
            arguments of ``AutoModelForCausalLM.from_pretrained``, or of vLLM's ``AsyncEngineArgs``.
        start_timeout: seconds that loading may take.
        max_restarts: how often in a row, without an answer in between, workers that died are started again.

    Raises:
        ConfigError: on a wrong value.
    """

    kind: str
    path: str | None = None
    workers: int = 1
    devices: Sequence[str] | None = None
    batch_size: int | None = None
    context: int | None = None
    threads: int | None = None
    chat_template: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    start_timeout: float = 600.0
    max_restarts: int = 3

    def __post_init__(self) -> None:
        if self.kind not in KINDS and not is_import_path(self.kind):
            raise ConfigError(f"engine must be {', '.join(map(repr, KINDS))} or 'module:Name', not {self.kind!r}")
        for name in ("path", "chat_template"):
            if getattr(self, name) is not None:
                check_text(f"engine[{name!r}]", getattr(self, name))
        check_count("engine['workers']", self.workers)
        if self.devices is not None:
            given = self.devices
            is_list = isinstance(given, Sequence) and not isinstance(given, str) and len(given) > 0
            if not is_list or not all(isinstance(each, str | int) and not isinstance(each, bool) for each in given):
                raise ConfigError(f"engine['devices'] must be a list such as ['0', '1'], not {given!r}")
            if self.workers not in (1, len(given)):
                raise ConfigError(f"engine has {len(given)} devices and {self.workers} workers: leave workers out")
            object.__setattr__(self, "devices", tuple(map(str, given)))
            object.__setattr__(self, "workers", len(given))
        for name in ("batch_size", "context", "threads"):
            if getattr(self, name) is not None:
                check_count(f"engine[{name!r}]", getattr(self, name))
        if not isinstance(self.options, Mapping):
            raise ConfigError(f"engine['options'] must be a dict, not {self.options!r}")
        object.__setattr__(self, "options", dict(self.options))
        try:
            json.dumps(self.options, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"engine['options'] must be JSON data: {error}") from error
        object.__setattr__(self, "start_timeout", check_seconds("engine['start_timeout']", self.start_timeout))
        check_whole("engine['max_restarts']", self.max_restarts)

    @classmethod
    def of(cls, given: Engine | Mapping[str, Any] | str) -> Engine:
        """Return the engine that a user gave, perhaps as a dict with the names of the attributes, or by its kind.

        Raises:
            ConfigError: on a name that is not known, or a wrong value.
        """
        return cls(kind=given) if isinstance(given, str) else object_of(cls, "engine", given)

    @property
    def known(self) -> Kind:
        """What is known of its kind."""
        return KINDS.get(self.kind) or Kind(self.kind, "", "", OpenAIAdapter, 16)

    @property
    def name(self) -> str:
        """Its name in reports: the kind, or the name of the class."""
        return self.kind.rpartition(":")[2]

    @property
    def calls_at_once(self) -> int:
        """Calls that a worker computes at once."""
        return self.batch_size or self.known.batch_size

    @property
    def threads_of_worker(self) -> int:
        """Processor threads of a worker."""
        return self.threads or max(1, _processors() // 2 // self.workers)

    def identity(self) -> str:
        """Return what of it changes answers, as text; empty when nothing differs from the model's own."""
        found = {"chat_template": self.chat_template, "options": self.options or None}
        said = {name: value for name, value in found.items() if value is not None}
        return dumps(said).decode() if said else ""

    def model_path(self, model: str) -> str:
        """Return where the model is: a path of this machine made absolute, a name on a hub as it is.

        Args:
            model: the operator's `model`.
        """
        given = self.path or model
        local = Path(given).expanduser()
        return str(local.absolute()) if self.kind == "llama" or local.exists() or local.is_absolute() else given


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

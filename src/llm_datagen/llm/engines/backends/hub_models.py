"""What models in folders of Hugging Face have in common, whichever library runs them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llm_datagen.llm.engines.backends.base import CallError, LoadError
from llm_datagen.llm.engines.backends.chat_params import messages_in


def check_folder(path: str) -> None:
    """Check that a path of this machine is a folder of a model, as far as its names tell.

    Raises:
        LoadError: when it is none.
    """
    folder = Path(path)
    if folder.is_file():
        of_llama = "; a GGUF file is for engine='llama'" if folder.suffix == ".gguf" else ""
        raise LoadError(f"{path} is a file, and a folder as Hugging Face keeps models is needed{of_llama}")
    if folder.is_dir() and not (folder / "config.json").exists():
        raise LoadError(f"{path} holds no model: there is no config.json in it")
    if folder.is_absolute() and not folder.exists():
        raise LoadError(f"there is no folder {path}: check model (or path of the engine), or download the model")


def cannot_load(library: str, path: str, error: Exception) -> LoadError:
    """Return the error of a model that a library cannot load, for whatever reason it has."""
    return LoadError(
        f"{library} cannot load {path}: {type(error).__name__}: {error}; if a file is incomplete or damaged, fetch it "
        "again; if memory is short, lower batch_size or context, or take a smaller model"
    )


def check_template(tokenizer: Any, path: str, own: str | None) -> None:
    """Check that there is a template that makes one text of messages.

    Raises:
        LoadError: when there is none.
    """
    if own is None and not getattr(tokenizer, "chat_template", None):
        raise LoadError(f"the tokenizer of {path} has no chat template: give chat_template")


def prompt_of(tokenizer: Any, body: Mapping[str, Any], own: str | None, engine: str) -> list[int]:
    """Return the tokens of the messages of a request.

    Args:
        tokenizer: of the model.
        body: the request.
        own: a template to use in place of the model's; None: the model's.
        engine: its name, for errors.

    Raises:
        CallError: when the messages cannot be put.
    """
    messages = messages_in(body, engine)
    try:
        text = tokenizer.apply_chat_template(
            messages,
            chat_template=own,
            add_generation_prompt=True,
            tokenize=False,
            **body.get("chat_template_kwargs", {}),
        )
    except Exception as error:  # templates raise what they like
        raise CallError(400, f"the chat template refuses the messages: {type(error).__name__}: {error}") from error
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])

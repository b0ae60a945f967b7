"""Where runs are kept: in a folder of this machine, or in one of an object store, such as ``s3://bucket/runs``.

Of a run on a store, some things are on the machine all the same: its control socket, and the files that operators keep
for themselves. The latter lie in ``$XDG_STATE_HOME/llm-datagen/<results_dir>/<pipeline_id>`` (by default in
``~/.local/state``), where the name of a folder is made of the address.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from pathlib import Path

from llm_datagen.config import check_path
from llm_datagen.config.addresses import masked
from llm_datagen.errors import ConfigError
from llm_datagen.streams.storage.object_uri import SCHEMES, ObjectUri, is_object_uri, refuse_path_of_uri


def absolute(results_dir: str | os.PathLike[str]) -> str:
    """Return the path of a folder of runs that does not depend on the working directory, or its URI.

    Raises:
        ConfigError: when it is neither.
    """
    text = refuse_path_of_uri("results_dir", check_path("results_dir", os.fspath(results_dir)))
    scheme, separator, _ = text.partition("://")
    if not separator:
        return str(Path(text).absolute())
    stores = ", ".join(f"{known}://" for known in SCHEMES)
    if scheme not in SCHEMES:
        raise ConfigError(
            f"results_dir is {masked(text)!r}; give a folder of this machine, or one of a store: {stores}"
        )
    if not text.rstrip("/").partition("://")[2]:
        raise ConfigError(f"results_dir is {text!r}, which names no bucket; give {scheme}://bucket/runs")
    return str(ObjectUri.parse(text.rstrip("/")))


def local_folder(results_dir: str) -> Path:
    """Return the folder of this machine with what cannot be on a store.

    Args:
        results_dir: as `absolute` returns it.
    """
    if not is_object_uri(results_dir):
        return Path(results_dir)
    name = re.sub(r"[^\w.]+", "-", results_dir)[:80]
    state = os.environ.get("XDG_STATE_HOME", "")
    home = Path(state) if os.path.isabs(state) else _home()  # noqa: PTH117 - what the variable says
    return home / "llm-datagen" / f"{name}-{hashlib.sha256(results_dir.encode()).hexdigest()[:8]}"


def _home() -> Path:
    try:
        return Path.home() / ".local" / "state"
    except RuntimeError:  # a user without one
        return Path(tempfile.gettempdir()) / f"llm-datagen-{os.getuid()}"


def working_directory() -> str:
    """Return the working directory; the root when it is gone, so that relative paths lead nowhere."""
    try:
        return os.getcwd()  # noqa: PTH109
    except OSError:
        return "/"

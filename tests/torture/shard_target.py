"""The pipeline of a case, as the commands are given it: ``llm-datagen run tests.torture.shard_target:pipeline``."""

from __future__ import annotations

import json
import os
from pathlib import Path

from .shard_cases import VARIABLE, ShardCase

_given = json.loads(os.environ[VARIABLE])
_folder = Path(_given["folder"])
pipeline = ShardCase.of(_given["seed"]).pipeline(_folder, _folder, _given["base_url"], _given["budget"])

"""The commands and their options."""

from __future__ import annotations

import enum
import time
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Annotated

import orjson
import typer
from rich.console import Console

from llm_datagen.cli import cancel as canceling
from llm_datagen.cli.demo import run_demo_watched
from llm_datagen.cli.execute import is_terminal, run_watched, write
from llm_datagen.cli.failing import exit_codes
from llm_datagen.cli.live import live
from llm_datagen.cli.origin import Origin, origin_of
from llm_datagen.cli.runs import all_runs, list_table, look_at, run_lines, run_table
from llm_datagen.cli.target import RESULTS_VARIABLE, default_results, find_target, parse_settings
from llm_datagen.errors import ConfigError
from llm_datagen.runtime import RunFolder

"""The allocator of pyarrow: the system's, unless the program has imported pyarrow, or chosen one."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

_PROGRAM = """
{first}
from llm_datagen.streams.arrow_library import arrow
import os
arrow("pyarrow.parquet")
print(arrow().default_memory_pool().backend_name == {pool}, os.environ.get("ARROW_DEFAULT_MEMORY_POOL"))
"""
_OWN = "import pyarrow; own = pyarrow.default_memory_pool().backend_name"


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    ("first", "pool", "chosen"), [("", "'system'", None), (_OWN, "own", None), (_OWN, "'system'", "system")]
)
def test_arrow_has_the_allocator_of_the_system_unless_the_program_was_first(
    first: str, pool: str, chosen: str | None
) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "ARROW_DEFAULT_MEMORY_POOL"}
    environment |= {"ARROW_DEFAULT_MEMORY_POOL": chosen} if chosen else {}
    program = _PROGRAM.format(first=first, pool=pool)
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split() == ["True", str(chosen)]

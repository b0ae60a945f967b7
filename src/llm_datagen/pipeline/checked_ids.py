"""Which inputs of a run were looked through for ids that are there twice: each is read once, as long as it stays so.

The run state keeps a checksum of what tells that not a byte of an input was written since: its fingerprint, and when
it was written. An input that has nothing of that sort, such as one in memory, is looked through each time.
"""

from __future__ import annotations

import hashlib
from typing import Any

from llm_datagen.config import DataConfig
from llm_datagen.pipeline.unique_ids import check_ids, has_unknown_ids
from llm_datagen.streams import Stream
from llm_datagen.streams.formats.json_text import dumps

IDS_CHECKED = "ids_checked"
"""The key in the run state: for each input, a checksum."""


class CheckedIds:
    """The inputs of a run that were looked through.

    Args:
        run_state: of the run, which is changed; None: nothing is kept.
    """

    def __init__(self, run_state: dict[str, Any] | None = None) -> None:
        self._run_state = {} if run_state is None else run_state

    def check(self, source: Stream, data: DataConfig, *, follow: bool) -> None:
        """Check the ids of an input, unless it was done, by these settings, and is what it was; see `check_ids`.

        Raises:
            IdError: when two rows have one id.
        """
        if not has_unknown_ids(source, follow=follow):
            check_ids(source, follow=follow)
            return
        found = source.exact_fingerprint()
        checksum = None if found is None else hashlib.sha256(dumps([found, repr(data)])).hexdigest()
        if checksum is not None and self._run_state.get(IDS_CHECKED, {}).get(source.uri) == checksum:
            return
        check_ids(source, follow=follow)
        if checksum is not None:
            self._run_state.setdefault(IDS_CHECKED, {})[source.uri] = checksum

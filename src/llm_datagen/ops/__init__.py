"""Operators for the work on data itself: filter, pick, deduplicate, group, sample, split, join, and shape rows.

They are steps like any other, in Python (``ops.Dedupe(by="text")``) and in YAML (``use: ops.Dedupe``). Some keep state
(`ctx.state`), which is committed with the rows: whatever happens to the process, the output is the same.

Layout:
    base.py        settings that a resume compares; access to columns
    rows.py        Keep, Select, Drop, Rename
    expression.py  the conditions of Keep
    fan.py         Explode, Cross
    choice.py      Choose, Split
    chat.py        ToChat, ToPreference
    sample.py      Sample
    limit.py       Limit
    dedupe.py      Dedupe
    top.py         TopK
    best.py        the k best rows, held in the state
    chance.py      chance that is the same in every run
    keys.py        what rows are compared by
"""

from llm_datagen.ops.chat import ToChat, ToPreference
from llm_datagen.ops.choice import Choose, Split
from llm_datagen.ops.dedupe import Dedupe
from llm_datagen.ops.fan import Cross, Explode
from llm_datagen.ops.limit import Limit
from llm_datagen.ops.rows import Drop, Keep, Rename, Select
from llm_datagen.ops.sample import Sample
from llm_datagen.ops.top import TopK

__all__ = [
    "Choose",
    "Cross",
    "Dedupe",
    "Drop",
    "Explode",
    "Keep",
    "Limit",
    "Rename",
    "Sample",
    "Select",
    "Split",
    "ToChat",
    "ToPreference",
    "TopK",
]

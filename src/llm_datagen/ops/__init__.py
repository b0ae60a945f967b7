"""Operators for the work on data itself: filter, pick, deduplicate, group, sample, split, join, and shape rows.

They are steps like any other, in Python (``ops.Dedupe(by="text")``) and in YAML (``use: ops.Dedupe``). Some keep state
(`ctx.state`), which is committed with the rows: whatever happens to the process, the output is the same.

Layout:
    base.py       settings that a resume compares; access to columns
    rows.py       Keep, Select, Drop, Rename
    expression.py the conditions of Keep; expression_values.py: what is done with values in them
    fan.py        Explode, Cross
    feedback.py   Feedback
    choice.py     Choose, Split
    chunk.py      Chunk
    chat.py       ToChat, AddTurn, ToPreference
    vote.py       Vote
    pii.py        MaskPII
    language.py   DetectLanguage
    run_python.py RunPython
    route.py      RouteBy, RouteWhen: rules for nodes with several outputs
    sample.py     Sample
    limit.py      Limit
    loop.py       Loop
    dedupe.py     Dedupe
    near.py       MinHashDedupe
    top.py        TopK
    best_of.py    Best
    group.py      GroupBy
    count.py      Count
    stats.py      Stats
    shuffle.py    Shuffle
    join.py       Join
    best.py       the k best rows, held in the state
    weighted.py   values with weights
    keys.py       what rows are compared by
    bands.py      how signatures of near duplicates are cut and compared
    distinct.py   how many different values there are, about
    side_table.py the table of a Join
"""

from llm_datagen.ops.best_of import Best
from llm_datagen.ops.chat import AddTurn, ToChat, ToPreference
from llm_datagen.ops.choice import Choose, Split
from llm_datagen.ops.chunk import Chunk
from llm_datagen.ops.count import Count
from llm_datagen.ops.dedupe import Dedupe
from llm_datagen.ops.fan import Cross, Explode
from llm_datagen.ops.feedback import Feedback
from llm_datagen.ops.group import GroupBy
from llm_datagen.ops.join import Join
from llm_datagen.ops.language import DetectLanguage
from llm_datagen.ops.limit import Limit
from llm_datagen.ops.loop import Loop
from llm_datagen.ops.near import MinHashDedupe
from llm_datagen.ops.pii import MaskPII
from llm_datagen.ops.route import RouteBy, RouteWhen
from llm_datagen.ops.rows import Drop, Keep, Rename, Select
from llm_datagen.ops.run_python import RunPython
from llm_datagen.ops.sample import Sample
from llm_datagen.ops.shuffle import Shuffle
from llm_datagen.ops.stats import Stats
from llm_datagen.ops.top import TopK
from llm_datagen.ops.vote import Vote

__all__ = [
    "AddTurn",
    "Best",
    "Choose",
    "Chunk",
    "Count",
    "Cross",
    "Dedupe",
    "DetectLanguage",
    "Drop",
    "Explode",
    "Feedback",
    "GroupBy",
    "Join",
    "Keep",
    "Limit",
    "Loop",
    "MaskPII",
    "MinHashDedupe",
    "Rename",
    "RouteBy",
    "RouteWhen",
    "RunPython",
    "Sample",
    "Select",
    "Shuffle",
    "Split",
    "Stats",
    "ToChat",
    "ToPreference",
    "TopK",
    "Vote",
]

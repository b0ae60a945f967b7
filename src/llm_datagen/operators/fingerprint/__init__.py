"""The fingerprint of an operator: what its answers depend on, as named parts with a short digest each.

The run state stores it, so that a resume can name what was changed since: "code", "global PROMPT", "attribute limit".
The same program has the same fingerprint in every process: there are no addresses in it, no order of sets, no paths of
source files, no line numbers.

What counts: the code of the operator's functions and classes, with their defaults, what they close over, and the
globals that they use; functions and classes that these use, unless they belong to an installed package; and attributes.
Plain data counts by its value, any other object only by its type. A part that cannot be compared is None.

Layout:
    code.py      digests of code
    data.py      digests of plain data
    user_code.py which modules' code counts
    imports.py   what code names: globals, attributes, imports
    kinds.py     what kind of thing something is
    walk.py      the parts of a function or an object
    changes.py   fingerprints of operators, and what differs between two
    own.py       what operators have changed themselves
"""

from llm_datagen.operators.fingerprint.changes import (
    FILE,
    changed_data,
    changed_parts,
    data_of,
    fingerprint_of,
    note_changes,
    shown_change,
    unread_parts,
)
from llm_datagen.operators.fingerprint.walk import Parts, parts_of

__all__ = [
    "FILE",
    "Parts",
    "changed_data",
    "changed_parts",
    "data_of",
    "fingerprint_of",
    "note_changes",
    "parts_of",
    "shown_change",
    "unread_parts",
]

"""Whether the input of a run has a column of the name that its ids are to have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llm_datagen.errors import DatagenError
from llm_datagen.trial import external_inputs, first_rows


def clash_of_ids(image: Mapping[str, Any]) -> str | None:
    """Return what is wrong when the first row of the input has the column that is to take the ids; else None."""
    column = image["nodes"][-1].get("id_column")
    if column is None:
        return None
    try:
        ((stream, root),) = external_inputs({"nodes": image["nodes"][:1]})
        stream.check_source()
        rows = first_rows(stream, 1, root=root).rows
    except DatagenError:  # whoever reads it tells that
        return None
    if not rows or not isinstance(rows[0][1], Mapping) or column not in rows[0][1]:
        return None
    return (
        f"{stream.path} has a column {column!r} already, where id_column={column!r} is to put the ids of rows: rows "
        "that still have it at the end fail; let an operator take it out, or choose another id_column"
    )

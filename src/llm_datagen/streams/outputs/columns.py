"""The columns of an export: given, or found in the rows of the stream."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator, Iterator
from importlib.util import find_spec
from typing import Any

from llm_datagen.errors import ConfigError
from llm_datagen.errors.advice import nearest
from llm_datagen.streams.block import Block
from llm_datagen.streams.ids import ID_FIELD
from llm_datagen.streams.outputs.arrow import types_looked_at, types_of_all
from llm_datagen.streams.outputs.column_types import holds_json
from llm_datagen.streams.outputs.found_types import holds_long_ints, settled
from llm_datagen.streams.outputs.options import ExportOptions
from llm_datagen.streams.outputs.source_rows import BATCH_ROWS, Batcher, SourceRows
from llm_datagen.streams.outputs.target import Target
from llm_datagen.streams.outputs.template import SHARD

TABLES = {"parquet", "hf-folder"}
"""The formats whose columns have types."""

_MOST_NAMED = 30

GUESS = "guess"
"""In the plan of an export: the columns of the first rows, while nobody knows whether all rows have them."""


def guessed(source: SourceRows, target: Target, options: ExportOptions) -> dict[str, Any] | None:
    """Return the columns of the first rows, as `columns_of` does, which spares a pass if all rows have them.

    None when parts that are in place could turn out to be wrong, or when there is nothing to guess.
    """
    if target.kind != "parquet" or target.is_folder or options.schema is not None or options.schema_rows is not None:
        return None
    with contextlib.closing(_batches(source, BATCH_ROWS)) as batches:
        rows = [item for batch in batches for _, item in source.items(batch)]
    columns = {name: type for name, type in types_looked_at(rows, {}, options.mixed).items() if name != options.ids}
    if not columns or any(holds_json(type) or holds_long_ints(type) for type in columns.values()):
        return None
    ids: dict[str, Any] = {} if options.ids is None else {options.ids: "string"}
    taken = {name: settled(type, options.long_ints) for name, type in columns.items()}
    return {"columns": {**ids, **taken}, "dictionaries": _repeated(rows, taken), GUESS: {**ids, **columns}}


def columns_of(source: SourceRows, target: Target, options: ExportOptions, given: Any) -> dict[str, Any]:
    """Return the columns, and those with few different values; one pass, unless they are given, or none are needed."""
    ids: dict[str, Any] = {} if options.ids is None else {options.ids: "string"}
    if target.kind not in {*TABLES, "csv"}:
        return {"columns": None, "dictionaries": []}
    is_whole = not isinstance(options.schema, str | os.PathLike)
    if given is not None and is_whole:
        return {"columns": {**ids, **given}, "dictionaries": []}
    first: list[dict[str, Any]] = []

    def read() -> Iterator[list[dict[str, Any]]]:
        with contextlib.closing(_batches(source, options.schema_rows)) as batches:
            for batch in batches:
                items = [item for _, item in source.items(batch)]
                first[:] = first or items
                yield items

    columns = _names_of_all(read()) if target.kind == "csv" else types_of_all(read, options.mixed)
    columns = {name: settled(type, options.long_ints) for name, type in columns.items() if name != options.ids}
    if given is not None:  # of a file, which may have other columns than the rows
        of_file = {name: type for name, type in given.items() if name != options.ids}
        columns = {name: of_file.get(name, type) for name, type in columns.items()} if first else of_file
    return {"columns": {**ids, **columns}, "dictionaries": _repeated(first, columns)}


def _names_of_all(batches: Iterator[list[dict[str, Any]]]) -> dict[str, Any]:
    names: dict[str, Any] = {}
    for items in batches:
        for item in items:
            if not item.keys() <= names.keys():
                names |= dict.fromkeys(item, "null")
    return names


def types_of_rows(source: SourceRows) -> dict[str, Any]:
    """Return the columns of all rows with the types that they have there; ``"json"`` where these do not go together.

    The ids are the column `_i`, which no row has of its own.
    """

    def read() -> Iterator[list[dict[str, Any]]]:
        with contextlib.closing(_batches(source, None)) as batches:
            for batch in batches:
                yield [{ID_FIELD: row_id, **item} for row_id, item in source.items(batch)]

    if find_spec("pyarrow") is None:  # the types are the same, and take longer to find
        found: dict[str, Any] = {}
        for rows in read():
            found = types_looked_at(rows, found, "json")
    else:
        found = types_of_all(read, "json")
    return {name: settled(type, "decimal") for name, type in found.items()}


def check_partitions(source: SourceRows, target: Target, options: ExportOptions) -> None:
    """Check that each column that a target parts rows by is in a row. Reads until it is found, mostly one batch.

    Raises:
        ConfigError: when there are rows, and none has the column: all of them would lie in one partition.
    """
    missing = {name for name in target.columns if name != options.ids}
    known: dict[str, None] = {} if options.ids is None else {options.ids: None}
    if not missing:
        return
    count = 0
    with contextlib.closing(source.read()) as blocks:
        for block in blocks:
            for _, item in source.items(block):
                count += 1
                known.update(dict.fromkeys(item))
            missing -= known.keys()
            if not missing:
                return
    if count:
        name = next(name for name in target.columns if name in missing)
        near = nearest(name, [*known, SHARD])
        hint = "" if near is None else f" (did you mean {{{near}}}?)"
        more = ", …" if len(known) > _MOST_NAMED else ""
        raise ConfigError(
            f"{target.path} parts the rows by the column {name!r}, and no row has it{hint}; the columns are "
            f"{', '.join(list(known)[:_MOST_NAMED]) or 'none'}{more}; export to a path that names one of them"
        )


def _batches(source: SourceRows, most: int | None) -> Generator[Block, None, None]:
    batcher = Batcher()
    with contextlib.closing(source.read(end=most)) as blocks:
        for block in blocks:
            yield from batcher.add(block)
    yield from batcher.rest()


def _repeated(rows: list[dict[str, Any]], columns: dict[str, Any]) -> list[str]:
    """Return the columns of text that have few different values: only there is a dictionary worth its time."""
    found = []
    for name, type in columns.items():
        values = [value for row in rows if isinstance(value := row.get(name), str)] if type == "string" else []
        if len(values) >= 100 and len(set(values)) * 10 <= len(values):
            found.append(name)
    return found

"""Arrays of Arrow made of types that Python has as they are in JSON, at any depth; and which types cannot be."""

from __future__ import annotations

from typing import Any

from llm_datagen.errors import StreamError
from llm_datagen.streams.arrow_library import arrow
from llm_datagen.streams.inputs.arrow_text import is_told_as_text, text_of

KNOWN_EXTENSIONS = ("arrow.uuid", "arrow.json", "arrow.bool8", "arrow.fixed_shape_tensor")
"""The extension types with a meaning in JSON."""


def check_type(kind: Any, name: str, path: str) -> None:
    """Check that rows can hold a type.

    Raises:
        StreamError: when they cannot, naming the column and the type.
    """
    types = arrow().types
    if is_extension(kind):
        is_known = kind.extension_name in KNOWN_EXTENSIONS
        if _is_permuted(kind) or (kind.extension_name.startswith("arrow.") and not is_known):
            raise _refused(kind, name, path)
        if not is_known:  # of a library, which pyarrow knows only where that is imported: else it reads what is stored
            check_type(kind.storage_type, name, path)
        return
    if types.is_dictionary(kind) or types.is_run_end_encoded(kind):
        check_type(kind.value_type, name, path)
    elif types.is_map(kind):
        check_type(kind.key_type, name, path)
        check_type(kind.item_type, name, path)
    elif types.is_struct(kind):
        names = [kind.field(number).name for number in range(kind.num_fields)]
        if twice := [each for each in names if names.count(each) > 1]:
            raise StreamError(f"{path}, column {name!r}: it has two fields {twice[0]!r}, and an object has one")
        for number in range(kind.num_fields):
            check_type(kind.field(number).type, f"{name}.{names[number]}", path)
    elif is_list(kind):
        check_type(kind.value_type, name, path)
    elif not (is_told_as_text(kind) or _is_as_it_is(kind)):
        raise _refused(kind, name, path)


def is_plain(kind: Any) -> bool:
    """Return whether arrays of a type stay as they are."""
    types = arrow().types
    if is_extension(kind) or types.is_dictionary(kind) or types.is_run_end_encoded(kind) or is_told_as_text(kind):
        return False
    if types.is_map(kind):
        return is_plain(kind.key_type) and is_plain(kind.item_type)
    return all(is_plain(kind.field(number).type) for number in range(kind.num_fields))


def plain(column: Any) -> Any:
    """Return an array with moments and decimals as text, and dictionaries, runs and extensions as what they hold.

    Raises:
        ValueError: when a value cannot be told.
    """
    pa, kind = arrow(), column.type
    if is_plain(kind):
        return column
    if is_told_as_text(kind):
        return text_of(column)
    if is_extension(kind):
        storage = column.storage
        return storage.cast(pa.bool_()) if kind.extension_name == "arrow.bool8" else plain(storage)
    if pa.types.is_dictionary(kind):
        return _without_views(plain(column.dictionary)).take(column.indices)
    if pa.types.is_run_end_encoded(kind):
        runs = pa.RunEndEncodedArray.from_arrays(column.run_ends, _without_views(plain(column.values)))
        return arrow("pyarrow.compute").run_end_decode(runs.slice(column.offset, len(column)))
    if pa.types.is_struct(kind):
        fields = [kind.field(number).name for number in range(kind.num_fields)]
        parts = [plain(column.field(number)) for number in range(kind.num_fields)]
        return pa.StructArray.from_arrays(parts, fields, mask=_mask(column))
    if pa.types.is_fixed_size_list(kind):
        size = kind.list_size
        values = column.values.slice(column.offset * size, len(column) * size)
        return pa.FixedSizeListArray.from_arrays(plain(values), size, mask=_mask(column))
    return _plain_list(column)


def _plain_list(column: Any) -> Any:
    pa, kind = arrow(), column.type
    offsets, begin, end = _own_offsets(column)
    if pa.types.is_map(kind):
        keys, items = (plain(each.slice(begin, end - begin)) for each in (column.keys, column.items))
        return pa.MapArray.from_arrays(offsets, keys, items, mask=_mask(column))
    is_view = pa.types.is_list_view(kind) or pa.types.is_large_list_view(kind)
    values = column.flatten() if is_view else column.values.slice(begin, end - begin)
    make = pa.ListArray if offsets.type == pa.int32() else pa.LargeListArray
    return make.from_arrays(offsets, plain(values), mask=_mask(column))


def _own_offsets(column: Any) -> tuple[Any, int, int]:
    """Return the offsets of lists from 0 on, and between which of their values they lie."""
    pa, compute = arrow(), arrow("pyarrow.compute")
    if pa.types.is_list_view(column.type) or pa.types.is_large_list_view(column.type):
        sizes = compute.if_else(column.is_null(), pa.scalar(0, column.sizes.type), column.sizes)
        ends = compute.cumulative_sum(sizes)
        return pa.concat_arrays([pa.array([0], ends.type), ends]), 0, 0
    if not len(column):
        return pa.array([0], column.offsets.type), 0, 0
    begin, end = column.offsets[0].as_py(), column.offsets[-1].as_py()
    return compute.subtract(column.offsets, begin), begin, end


def _without_views(column: Any) -> Any:
    """Return an array with text and bytes in one buffer: pyarrow takes values by their numbers from no view."""
    kind = _kind_without_views(column.type)
    return column if kind == column.type else column.cast(kind)


def _kind_without_views(kind: Any) -> Any:
    pa = arrow()
    types = pa.types
    if types.is_string_view(kind):
        return pa.large_string()
    if types.is_binary_view(kind):
        return pa.large_binary()
    if types.is_struct(kind):
        fields = [kind.field(number) for number in range(kind.num_fields)]
        return pa.struct([field.with_type(_kind_without_views(field.type)) for field in fields])
    if types.is_map(kind):
        return pa.map_(_kind_without_views(kind.key_type), _kind_without_views(kind.item_type))
    if types.is_fixed_size_list(kind):
        return pa.list_(_kind_without_views(kind.value_type), kind.list_size)
    if types.is_list(kind) or types.is_large_list(kind):
        make = pa.list_ if types.is_list(kind) else pa.large_list
        return make(_kind_without_views(kind.value_type))
    return kind


def is_extension(kind: Any) -> bool:
    """Return whether a type is one that gives a meaning to another."""
    return isinstance(kind, arrow().BaseExtensionType)


def is_list(kind: Any) -> bool:
    """Return whether values of a type are lists."""
    types = arrow().types
    of_offsets = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    return bool(of_offsets or types.is_list_view(kind) or types.is_large_list_view(kind))


def is_text(kind: Any) -> bool:
    """Return whether values of a type are text."""
    types = arrow().types
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def is_bytes(kind: Any) -> bool:
    """Return whether values of a type are bytes."""
    types = arrow().types
    of_any_length = types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind)
    return bool(of_any_length or types.is_fixed_size_binary(kind))


def _is_as_it_is(kind: Any) -> bool:
    types = arrow().types
    of_numbers = types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind) or types.is_null(kind)
    return bool(of_numbers or is_text(kind) or is_bytes(kind))


def _is_permuted(kind: Any) -> bool:
    order = getattr(kind, "permutation", None)
    return order is not None and list(order) != sorted(order)


def _mask(column: Any) -> Any:
    return column.is_null() if column.null_count else None


def _refused(kind: Any, name: str, path: str) -> StreamError:
    return StreamError(
        f"{path}, column {name!r}: the type {kind} has no place in a row; leave the column out (of a file, with "
        "?columns=…), or cast it first"
    )

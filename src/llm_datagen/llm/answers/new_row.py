"""A row that gets columns: those of an answer, and ``_meta``, which says where it comes from."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from llm_datagen.llm.answers.columns import check_free, with_columns
from llm_datagen.llm.answers.provenance import META_FIELD, earlier_meta
from llm_datagen.llm.prompts.template import fields_of


class NewRow:
    """Makes the row, or rows, of one row and its answers.

    Args:
        item: the row.
        columns: the columns that it is to get.
        node_id: the node that adds them.
        overwrites: whether they may overwrite columns of the row.
        has_meta: whether `_meta` is added, too.

    Attributes:
        fields: the fields of the row.

    Raises:
        ColumnExistsError: when the row has one of the columns already.
        PromptError: when the row has a `_meta` of its own.
    """

    def __init__(self, item: Any, columns: Collection[str], node_id: str, *, overwrites: bool, has_meta: bool) -> None:
        self.fields = fields_of(item)
        if not overwrites:
            check_free(columns, self.fields)
        self._earlier = earlier_meta(item) if has_meta else {}
        self._node_id = node_id
        self._overwrites = overwrites

    def filled(self, columns: Mapping[str, Any], meta: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return the row with columns added.

        Args:
            columns: the columns, also some that were not known before.
            meta: where they come from; None: `_meta` stays as it is.

        Raises:
            ColumnExistsError: when the row has one of the columns already.
        """
        row = with_columns(self.fields, columns, overwrites=self._overwrites)
        if meta is not None:
            row[META_FIELD] = {**self._earlier, self._node_id: meta}
        return row

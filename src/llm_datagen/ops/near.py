"""Near duplicates: texts that share most of their words, found by MinHash and locality-sensitive hashing."""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from typing import TYPE_CHECKING, Any, Literal

from llm_datagen.config import check_choice
from llm_datagen.errors import ConfigError
from llm_datagen.operators import INodeContext, IState
from llm_datagen.operators.fingerprint import Parts
from llm_datagen.ops.bands import best_bands, similarity_of
from llm_datagen.ops.base import (
    StateOperator,
    id_of,
    key_parts,
    new_column,
    refuse_value,
    value_of,
    whole_number,
    with_columns,
)
from llm_datagen.ops.keys import digest_of
from llm_datagen.streams.rows import Rejected

if TYPE_CHECKING:
    import numpy as np

Unit = Literal["words", "characters"]

_WORD = re.compile(r"\w+")
_DUPLICATE = Rejected("nearly a duplicate")


class MinHashDedupe(StateOperator):
    """Keeps a row unless its text is nearly that of a row that was kept before.

    Two texts are compared by the n-grams that they share (Jaccard similarity), estimated from a signature of one byte
    per permutation. Signatures are looked up by bands of them, so not all pairs are compared: a pair at the threshold
    may be missed, one well above hardly ever. Needs the extra ``dedupe`` (datasketch).

    State, per kept row: a key of 30 characters and an id per band, and a signature; on disk, about 2 KB with the
    defaults.

    Args:
        column: the column with the text.
        threshold: the similarity from which a row is a duplicate, above 0, up to 1.
        ngrams: how many words, or characters, an n-gram has. A text that has fewer is one n-gram.
        unit: "words", in small letters, without punctuation; or "characters", in small letters.
        permutations: the length of signatures; more are more exact, and cost more.
        seed: of the permutations.
        mark: a new column; then duplicates are kept, with the id of their original in it, and others have null.

    Raises:
        ConfigError: when datasketch is not installed, or a setting is wrong.
    """

    def __init__(
        self,
        column: str = "text",
        *,
        threshold: float = 0.8,
        ngrams: int = 3,
        unit: Unit = "words",
        permutations: int = 128,
        seed: int = 1,
        mark: str | None = None,
    ) -> None:
        if isinstance(threshold, bool) or not isinstance(threshold, int | float) or not 0 < threshold <= 1:
            raise ConfigError(f"threshold must be a number above 0, up to 1, not {threshold!r}")
        self.column = new_column("column", column)
        self.threshold = threshold
        self.ngrams = whole_number("ngrams", ngrams)
        self.unit = check_choice("unit", unit, Unit)
        self.permutations = whole_number("permutations", permutations, 16)
        self.seed = whole_number("seed", seed, 0)
        self.mark = None if mark is None else new_column("mark", mark)
        self._bands, self._rows = best_bands(threshold, permutations)
        try:
            from datasketch import MinHash
        except ModuleNotFoundError as error:
            raise ConfigError(
                f"MinHashDedupe needs the extra 'dedupe' ({error.name} is missing): pip install 'llm-datagen[dedupe]'"
            ) from error
        self._empty = MinHash(num_perm=permutations, seed=seed)

    def fingerprint(self) -> Parts:
        """Return the settings, and what the library makes of a text: other versions may make something else."""
        return {**super().fingerprint(), "signatures": digest_of(self._signature("a text to be compared").tolist())}

    def process_item(self, item: Any, ctx: INodeContext) -> Any:
        """Return the row, if there was none like it.

        Raises:
            RowDataError: when the column is missing, or holds no text.
        """
        text, state = value_of(item, self.column), ctx.state
        if not isinstance(text, str):
            refuse_value(self.column, text, "text")
        signature = self._signature(text)
        bands = [digest_of([number, *band]) for number, band in enumerate(self._bands_of(signature))]
        small = (signature & 255).astype("u1").tobytes()
        original = self._original(state, bands, small)
        if original is None:
            row_id = id_of(item)
            for band in bands:
                if ("band", band) not in state:
                    state["band", band] = row_id
            state["signature", *key_parts(row_id)] = b64encode(small).decode()
        if self.mark is not None:
            return with_columns(item, {self.mark: original})
        return item if original is None else _DUPLICATE

    def _original(self, state: IState, bands: list[str], small: bytes) -> Any:
        """Return the id of the most similar row that was kept, if it is similar enough."""
        candidates = dict.fromkeys(row_id for band in bands if (row_id := state.get(("band", band))) is not None)
        best, original = 0.0, None
        for row_id in candidates:
            similarity = similarity_of(small, b64decode(state["signature", *key_parts(row_id)]))
            if similarity >= self.threshold and similarity > best:
                best, original = similarity, row_id
        return original

    def _bands_of(self, signature: np.ndarray[Any, Any]) -> list[list[int]]:
        used = signature[: self._bands * self._rows].reshape(self._bands, self._rows)
        bands: list[list[int]] = used.tolist()
        return bands

    def _signature(self, text: str) -> np.ndarray[Any, Any]:
        sketch = self._empty.copy()
        sketch.update_batch(self._shingles(text))
        values: np.ndarray[Any, Any] = sketch.hashvalues
        return values

    def _shingles(self, text: str) -> list[bytes]:
        units = _WORD.findall(text.lower()) if self.unit == "words" else " ".join(text.lower().split())
        blank = " " if self.unit == "words" else ""
        last = max(1, len(units) - self.ngrams + 1)
        return [blank.join(units[at : at + self.ngrams]).encode("utf-8", "surrogatepass") for at in range(last)]

"""The language of a text, as a small library guesses it."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from functools import lru_cache
from importlib.metadata import version
from typing import Any

from llm_datagen.errors import ConfigError
from llm_datagen.errors.advice import did_you_mean
from llm_datagen.operators import INodeContext
from llm_datagen.operators.fingerprint import Parts
from llm_datagen.operators.fingerprint.data import data_part
from llm_datagen.ops.base import DataOperator, a_list, new_column, refuse_value, value_of, with_columns

_LANGUAGES = "a list of languages, such as ['en', 'de']"


class DetectLanguage(DataOperator):
    """Adds the language of a text, as its code in ISO 639, such as "en"; null when that is too uncertain.

    It is a guess from sequences of bytes (py3langid, extra ``language``): good for some sentences, poor for a few
    words, and of no use for a text in several languages. "zxx" stands for what is no language, such as numbers.

    Args:
        column: the column with the text.
        into: the new column.
        among: the languages to choose from; all that the library knows, unless given. Fewer make better guesses, and a
            text in another language is taken for one of these.
        least: the confidence, from 0 to 1, below which the language is null.

    Raises:
        ConfigError: when py3langid is not installed, or does not know a language.
    """

    def __init__(
        self,
        column: str = "text",
        *,
        into: str = "language",
        among: Sequence[str] | None = None,
        least: float = 0.5,
    ) -> None:
        self.column = new_column("column", column)
        self.into = new_column("into", into)
        self.among = None if among is None else a_list("among", among, _LANGUAGES)
        if self.among is not None and (not self.among or not all(isinstance(each, str) for each in self.among)):
            raise ConfigError(f"among must be {_LANGUAGES}, not {among!r}")
        if isinstance(least, bool) or not isinstance(least, int | float) or not 0 <= least <= 1:
            raise ConfigError(f"least must be a number from 0 to 1, not {least!r}")
        self.least = least
        self._guess = _guesser(self.among)

    def fingerprint(self) -> Parts:
        """Return the settings, and the version of the library: another one may guess otherwise."""
        return {
            **super().fingerprint(),
            "version of py3langid": data_part("version", version("py3langid"), shows_text=True),
        }

    def process_item(self, item: Any, ctx: INodeContext) -> Any:
        """Return the row with the language.

        Raises:
            RowDataError: when the column is missing, or holds no text, or the row has the new one already.
        """
        text = value_of(item, self.column)
        if not isinstance(text, str):
            refuse_value(self.column, text, "text")
        language, confidence = self._guess.classify(text.encode("utf-8", "replace"))
        is_sure = bool(text.strip()) and confidence >= self.least
        return with_columns(item, {self.into: str(language) if is_sure else None})

    def __getstate__(self) -> dict[str, Any]:
        """Return what a worker process needs: the library's tables are loaded there."""
        return {name: value for name, value in vars(self).items() if name != "_guess"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._guess = _guesser(self.among)


@lru_cache(maxsize=1)
def _whole_library() -> Any:
    """Return the library's object, which takes half a second to load. It may be used by several threads."""
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"DetectLanguage needs the extra 'language' ({error.name} is missing): pip install 'llm-datagen[language]'"
        ) from error
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def _guesser(among: list[str] | None) -> Any:
    guesser = copy(_whole_library())
    if among is not None:
        for language in among:
            if language not in guesser.labels:
                raise ConfigError(f"among: no language {language!r} is known; {did_you_mean(language, guesser.labels)}")
        guesser.set_languages(among)
    return guesser

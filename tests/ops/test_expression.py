"""Conditions: what they say, and what they refuse, at once or of a row."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_datagen import ConfigError, RowDataError
from llm_datagen.ops.expression import compile_condition

ROW: dict[str, Any] = {
    "score": 4,
    "share": 0.5,
    "lang": "en",
    "text": "Hello you",
    "good": True,
    "none": None,
    "tags": ["a", "b"],
    "meta": {"source": "web", "n": [1, 2]},
    "two words": 1,
    "true": 7,
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("score >= 4 and lang == 'en'", True),
        ("score > 4 or not good", False),
        ("3 < score <= 4", True),
        ("3 < score < 4", False),
        ("lang in ['en', 'de']", True),
        ("lang not in ('fr',)", True),
        ("'ell' in text", True),
        ("'score' in row and 'nothing' not in row", True),
        ("'nothing' in row and nothing > 3", False),
        ("none is None and lang is not None", True),
        ("none == None", True),
        ("lang != None", True),
        ("none in ['a', None]", True),
        ("none in ['a']", False),
        ("good", True),
        ("good == False", False),
        ("len(text) == 9 and len(tags) == 2 and len(meta) == 2", True),
        ("lower(text) == 'hello you'", True),
        ("abs(-score) == 4 and round(share) == 0 and round(0.126, 2) == 0.13", True),
        ("max(score, 9) - min([3, 1]) == 8", True),
        ("score + 1 == 5 and score * 2 / 4 == 2 and score % 3 == 1 and score // 3 == 1", True),
        ("meta['source'] == 'web' and meta['n'][-1] == 2 and tags[0] == 'a'", True),
        ("text[:5] == 'Hello' and text[6:] == 'you' and text[0] == 'H'", True),
        ("row['two words'] == 1 and row['true'] == 7", True),
        ("score == 4.0", True),
        ("  True  ", True),
        ("score in [4.0]", True),
        ("good in [1, True]", True),
        ("tags == ['a', 'b']", True),
    ],
)
def test_a_condition_says_true_or_false(text: str, expected: bool) -> None:
    assert compile_condition(text)(ROW) is expected


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("nothing > 3", "no column 'nothing'"),
        ("scor > 3", "did you mean 'score'"),
        ("lang >= 4", "'en' is text, and cannot be compared with 4, a number"),
        ("none >= 4", "None is null"),
        ("lang == 4", "cannot be compared"),
        ("score == '4'", "cannot be compared"),
        ("good == 1", "a truth value"),
        ("lang in [1, 2]", "cannot be compared"),
        ("score in text", "only text can be in text"),
        ("lang in score", "can be in a list"),
        ("tags > ['a']", "is a list"),
        ("lang and good", "true or false is needed, and 'en' is text"),
        ("not score", "true or false is needed"),
        ("score", "true or false is needed"),
        ("lang + 'x' == 'enx'", "a number is needed"),
        ("text * 1000 == ''", "a number is needed"),
        ("score / 0 > 1", "ZeroDivisionError"),
        ("len(score) > 1", "len is of text, lists and objects"),
        ("lower(none) == 'a'", "lower is of text"),
        ("max(tags[0], 3) > 1", "max is of numbers, or of texts"),
        ("abs(good) == 1", "a number is needed"),
        ("meta['nothing'] == 1", "no column 'nothing'"),
        ("tags[5] == 'a'", r"there is no \[5\] in a list of 2"),
        ("score[0] == 1", "has no"),
        ("round(score, -1000000000) == 0", "round is to 400 digits at most"),
        ("score[:1] == 1", "is of text and lists"),
    ],
)
def test_a_row_that_does_not_fit_fails_and_says_why(text: str, why: str) -> None:
    with pytest.raises(RowDataError, match=why):
        compile_condition(text)(ROW)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "must be a text"),
        ("score >=", "cannot be read"),
        ("score = 4", "cannot be read"),
        ("__import__('os').system('true')", "no function here"),
        ("text.upper() == 'A'", "no function here"),
        ("row.__class__ == 1", "is not allowed"),
        ("(lambda: 1)() == 1", "no function here"),
        ("lambda: 1", "is not allowed"),
        ("[x for x in tags] == []", "is not allowed"),
        ("f'{score}' == '4'", "is not allowed"),
        ("(x := 3) == 3", "is not allowed"),
        ("score ** 9 > 1", "is not allowed; arithmetic is"),
        ("score << 9 > 1", "is not allowed; arithmetic is"),
        ("~score > 1", "is not allowed"),
        ("good if good else good", "is not allowed"),
        ("{'a': 1} == meta", "is not allowed"),
        ("b'a' == 1", "no value that JSON has"),
        ("score is 4", "other than None"),
        ("good == true", "is written True"),
        ("lenn(text) > 3", "did you mean 'len'"),
        ("len(text, 3) > 3", "wrong arguments"),
        ("len(obj=text) > 3", "wrong arguments"),
        ("text[::2] == 'a'", "has a step"),
        ("score + 1", "must say true or false"),
        ("'abc'", "must say true or false"),
        ("len(text)", "must say true or false"),
        ("(" * 3000 + "good" + ")" * 3000, "levels|cannot be read"),
        ("not " * 2400 + "good", "levels|cannot be read"),
        ("good and " * 2000 + "good", "up to 10,000 characters"),
    ],
)
def test_what_is_not_allowed_is_refused_when_it_is_written(text: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        compile_condition(text)


names = st.sampled_from(["score", "share", "row['two words']", "3", "-2", "0.25"])
numbers = st.recursive(
    names, lambda inner: st.builds("({} {} {})".format, inner, st.sampled_from("+-*"), inner), max_leaves=4
)
comparisons = st.builds("({} {} {})".format, numbers, st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), numbers)
conditions = st.recursive(
    comparisons,
    lambda inner: (
        st.builds("({} {} {})".format, inner, st.sampled_from(["and", "or"]), inner)
        | st.builds("(not {})".format, inner)
    ),
    max_leaves=5,
)


@settings(max_examples=40)
@given(conditions)
def test_conditions_mean_what_python_means(text: str) -> None:
    expected = eval(text, {"__builtins__": {}}, {**ROW, "row": ROW})
    assert compile_condition(text)(ROW) == expected

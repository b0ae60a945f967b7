"""Operators that clean and cut texts, and that count votes."""

from __future__ import annotations

import math
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_datagen import ConfigError, RowDataError, ops

from .calls import bare, outcome


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("Write to ann.o'hara+x@mail.example.co.uk, please.", "Write to [EMAIL], please."),
        ("<ä@bücher.example> and a@b, @home, me@localhost", "<[EMAIL]> and a@b, @home, me@localhost"),
        ("IBAN DE89 3704 0044 0532 0130 00 NOW", "IBAN [IBAN] NOW"),
        ("GB82WEST12345698765432; GB82WEST12345698765433", "[IBAN]; GB82WEST12345698765433"),
        ("Card 4111 1111 1111 1111 or 5500-0000-0000-0004.", "Card [CARD] or [CARD]."),
        ("order 4111 1111 1111 1112", "order 4111 1111 1111 1112"),
        ("Call +49 (30) 1234-5678 or +1 212 555 0123!", "Call [PHONE] or [PHONE]!"),
        (
            "(+47 22 12 34 56), +49 (0)30 123456, +493012345678, +33.1.23.45.67.89",
            "([PHONE]), [PHONE], [PHONE], [PHONE]",
        ),
        ("+3.14159265 and +1.5 - 2.25, 1 + 212 555 0123", "+3.14159265 and +1.5 - 2.25, 1 + [PHONE]"),
        ("(212) 555-0123, 030 1234567, (030) 12345678, 01 23 45 67 89", "[PHONE], [PHONE], [PHONE], [PHONE]"),
        ("0791234567 is digits alone, 05-11-2024 and 2024-11-05 10:30 are dates", None),
        ("from 192.168.0.17 and 2001:db8::8a2e:370:7334.", "from [IP] and [IP]."),
        ("300.1.2.3, version 1.2.3, 10.0.0.1.5, 12:30:45, a::b, std::vector, 1,234,567.89 and 3.14159265358979", None),
    ],
)
def test_what_has_the_form_of_personal_data_is_masked_and_nothing_else(text: str, masked: str | None) -> None:
    assert bare(outcome(ops.MaskPII(), [{"text": text}])) == [{"text": masked or text}]


def test_masks_reach_into_conversations_and_are_counted() -> None:
    messages = [{"role": "user", "content": "a@b.example, c@d.example"}, {"role": "assistant", "content": "10.0.0.1"}]
    [row] = bare(
        outcome(ops.MaskPII(["messages", "n"], counts="found"), [{"messages": messages, "n": 4111111111111111}])
    )
    assert row == {
        "messages": [{"role": "user", "content": "[EMAIL], [EMAIL]"}, {"role": "assistant", "content": "[IP]"}],
        "n": 4111111111111111,
        "found": {"email": 2, "ip": 1},
    }
    assert messages[1]["content"] == "10.0.0.1", "the row that was given stays as it was"
    only = ops.MaskPII(kinds=["ip"], counts="found")
    assert bare(outcome(only, [{"text": "a@b.example"}])) == [{"text": "a@b.example", "found": {}}]


@given(st.text(alphabet="a1@.:+-( )0E", max_size=60))
def test_masking_again_changes_nothing(text: str) -> None:
    [once] = bare(outcome(ops.MaskPII(), [{"text": text}]))
    assert bare(outcome(ops.MaskPII(), [once])) == [once]


@pytest.mark.slow
def test_long_texts_without_personal_data_take_no_longer_than_their_length() -> None:
    for text in ("a" * 300_000, "1 " * 150_000, "0-" * 150_000, "a.b" * 100_000, "a:" * 150_000, "AB12" * 75_000):
        assert bare(outcome(ops.MaskPII(), [{"text": text}]))[0]["text"][-1:] in (text[-1:], "]")


def test_a_text_is_cut_after_paragraphs_sentences_and_words() -> None:
    text = "The sea rises and falls. It does so twice.\n\nThe moon pulls the water. " + "x" * 50
    pieces = [row["text"] for row in bare(outcome(ops.Chunk(size=44), [{"text": text, "n": 1}]))]
    assert pieces == [
        "The sea rises and falls. It does so twice.",
        "The moon pulls the water.",
        "x" * 44,
        "x" * 6,
    ]
    assert [
        row["text"] for row in outcome(ops.Chunk(size=30, overlap=10), [{"text": "one two three four five six seven"}])
    ] == [
        "one two three four five six",
        "five six seven",
    ]
    assert outcome(ops.Chunk(), [{"text": " \n"}]) == []
    assert bare(outcome(ops.Chunk("t"), [{"t": "short", "n": 1}])) == [{"t": "short", "n": 1}]


@given(st.text(alphabet="ab .\n", max_size=200), st.integers(1, 30), st.integers(0, 14))
def test_pieces_are_short_enough_and_have_every_word(text: str, size: int, overlap: int) -> None:
    overlap = min(overlap, (size - 1) // 2)
    pieces = [row["text"] for row in outcome(ops.Chunk(size=size, overlap=overlap), [{"text": text}])]
    assert all(1 <= len(piece) <= size for piece in pieces)
    if not overlap:
        assert "".join("".join(pieces).split()) == "".join(text.split())
    else:
        assert set("".join(pieces)) >= set("".join(text.split()))


@pytest.mark.parametrize(
    ("votes", "vote", "agreement"),
    [
        (["a", "a", "b"], "a", 0.6667),
        (["a", "b", "c"], None, 0.3333),
        (["a", None, None], "a", 1.0),
        ([None, None, None], None, 0.0),
        ([1, 1.0, 2], 1, 0.6667),
        ([True, 1, True], True, 0.6667),
    ],
)
def test_most_judges_decide(votes: list[Any], vote: Any, agreement: float) -> None:
    row = dict(zip("xyz", votes, strict=True))
    [made] = bare(outcome(ops.Vote(["x", "y", "z"]), [row]))
    assert made == {**row, "vote": vote, "agreement": agreement}
    assert type(made["vote"]) is type(vote)


def test_turns_are_added_to_a_conversation() -> None:
    [row] = outcome(ops.AddTurn(), [{"said": "Hello", "n": 1}])
    assert row == {"n": 1, "messages": [{"role": "user", "content": "Hello"}], "_i": 0}
    [row] = bare(outcome(ops.AddTurn("reply", role="assistant"), [{**row, "reply": "Hi"}]))
    assert row == {
        "n": 1,
        "messages": [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}],
    }
    chat = ops.ToChat(reasoning="thoughts")
    rows = [{"prompt": "p", "response": "r", "thoughts": thoughts} for thoughts in ("Hm.", None, "")]
    answers = [row["messages"][1] for row in outcome(chat, rows)]
    plain = {"role": "assistant", "content": "r"}
    assert answers == [{**plain, "reasoning_content": "Hm."}, plain, plain]


@pytest.mark.slow
def test_languages_are_told_apart_and_doubt_is_null() -> None:
    pytest.importorskip("py3langid")
    texts = {
        "The train to the coast leaves at half past seven in the morning.": "en",
        "Der Zug an die Küste fährt um halb acht Uhr morgens ab.": "de",
        "Le train pour la côte part à sept heures et demie du matin.": "fr",
        "海岸行きの列車は午前七時半に出発します。": "ja",
        "": None,
        "ok": None,
    }
    operator = ops.DetectLanguage()
    for each in (operator, pickle.loads(pickle.dumps(operator))):
        assert [row["language"] for row in outcome(each, [{"text": text} for text in texts])] == list(texts.values())
    among = ops.DetectLanguage(into="l", among=["de", "en"], least=0)
    assert [row["l"] for row in outcome(among, [{"text": text} for text in list(texts)[:2]])] == ["en", "de"]
    with pytest.raises(ConfigError, match="among: no language 'english' is known"):
        ops.DetectLanguage(among=["english"])


@pytest.mark.parametrize(
    ("operator", "row", "why"),
    [
        (ops.MaskPII("a"), {"b": "x"}, "no column 'a'"),
        (ops.MaskPII(counts="text"), {"text": "x"}, "'text' already"),
        (ops.Chunk(), {"text": 1}, "must hold text, and holds an int"),
        (ops.Vote(["a", "b"]), {"a": "x", "b": []}, "column 'b' must hold a text, a number"),
        (ops.Vote(["a", "b"]), {"a": math.nan, "b": math.nan}, "column 'a' must hold .*, and holds nan"),
        (ops.TopK(2, by="a"), {"a": math.nan}, "column 'a' must hold a number or a text, and holds nan"),
        (ops.Vote(["a", "b"], into="a"), {"a": "x", "b": "x"}, "'a' already"),
        (ops.AddTurn(), {"said": "x", "messages": "y"}, "'messages' must hold a list of turns"),
        (ops.AddTurn(), {"said": None}, "'said' must hold text, and holds null"),
        (ops.ToChat(reasoning="r"), {"prompt": "p", "response": "r"}, "no column 'r'"),
    ],
)
def test_a_row_that_does_not_fit_is_refused_by_name(operator: Any, row: Any, why: str) -> None:
    with pytest.raises(RowDataError, match=why):
        outcome(operator, [row])


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: ops.MaskPII(kinds=["names"]), "kinds must be one of"),  # type: ignore[list-item]
        (lambda: ops.MaskPII(kinds=[]), "kinds must be a list of some of 'email'"),
        (lambda: ops.Chunk(size=10, overlap=5), "less than half of size"),
        (lambda: ops.Vote(["a"]), "two or more judges"),
        (lambda: ops.Vote(["a", "b"], into="x", agreement="x"), "two columns"),
        (lambda: ops.AddTurn(role="judge"), "role must be one of"),  # type: ignore[arg-type]
        (lambda: ops.ToChat(reasoning="r", turns="t"), "reasoning goes with user and assistant"),
    ],
)
def test_an_operator_that_cannot_work_is_refused_at_once(make: Any, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        make()

"""Each recipe with answers that a test chooses: which rows come out, and how many calls that takes."""

from __future__ import annotations

import json
import re
from collections import Counter

import pytest

from .kit import Kitchen, tasks_of


def test_preference_pairs_are_the_best_and_the_worst_answer(kitchen: Kitchen) -> None:
    def judged(asked: str) -> dict[str, object]:
        score = int(re.findall(r"answer (\d+)", asked)[0])
        return {"weakness": "none", "instructions": 3, "truth": 3, "help": 3, "score": score}

    kitchen.answers(
        {
            "You grade": judged,
            "plants": ("answer 4", "answer 9", "answer 2", "answer 9"),
            "parcel": ("answer 5", "answer 6", "answer 6", "answer 5"),
        }
    )
    prompts = [{"prompt": "Why do plants wilt?"}, {"prompt": "Where is the parcel?"}]
    assert kitchen.run("preference_pairs", input=prompts) == [
        {"prompt": "Why do plants wilt?", "chosen": "answer 9", "rejected": "answer 2"}
    ]
    assert kitchen.calls == {"plants": 4, "parcel": 4, "You grade": 3 + 2}, "equal answers are judged once"


def test_evol_instruct_rewrites_what_it_has_rewritten_and_answers_what_is_sound(kitchen: Kitchen) -> None:
    def verdict(asked: str) -> dict[str, object]:
        return {"why": "", "verdict": "flawed" if "Paint" in asked else "sound"}

    kitchen.answers(
        {
            "Before:": verdict,
            "Rewrite": lambda asked: f"{re.findall('Instruction: (.*)', asked)[0]} Harder.",
            "": "The answer.",
        }
    )
    [row] = kitchen.run("evol_instruct", input=[{"seed": "Write."}, {"seed": "Paint a very old house."}])
    assert row.pop("way") in recipe_ways()
    assert row == {
        "seed": "Write.",
        "instruction": "Write. Harder. Harder.",
        "why": "",
        "verdict": "sound",
        "answer": "The answer.",
    }
    assert kitchen.calls == {"Rewrite": 4, "Before:": 2, "": 1}


def recipe_ways() -> list[str]:
    import yaml

    from llm_datagen.cli.recipes import recipe_text

    ways: dict[str, int] = yaml.safe_load(recipe_text("evol_instruct"))["operators"][0]["with"]["values"]
    return list(ways)


def test_personas_ask_about_every_topic_and_nothing_twice(kitchen: Kitchen) -> None:
    def asks(asked: str) -> str:
        who, about = re.findall("(?:writes|About): (.*)", asked)
        return "How do I save money?" if about == "saving money" else f"{about}, says {who}, and how"

    kitchen.answers({"Who writes:": asks, "": lambda asked: f"You asked: {asked}"})
    rows = kitchen.run("persona_topic", input=[{"persona": "a nurse"}, {"persona": "a cook"}])
    assert len(rows) == 7
    assert {(row["topic"], row["persona"]) for row in rows if row["topic"] != "saving money"} == {
        (topic, who)
        for topic in ("sleep", "machines at home", "cooking with little time")
        for who in ("a nurse", "a cook")
    }
    messages = next(row["messages"] for row in rows if (row["persona"], row["topic"]) == ("a cook", "sleep"))
    assert messages == [
        {"role": "user", "content": "sleep, says a cook, and how"},
        {"role": "assistant", "content": "You asked: sleep, says a cook, and how"},
    ]
    assert kitchen.calls == {"Who writes:": 8, "": 7}


def test_magpie_has_the_model_write_and_rate_instructions(kitchen: Kitchen) -> None:
    kitchen.answers(
        {
            "You are one of many users": (
                "Mend my loop.",
                "Mend my loop",
                "hi",
                "Prove this by induction.",
                "What is 3 + 4?",
            ),
            "How well": lambda asked: {"quality": 1 if "\nhi\n" in asked else 3, "difficulty": 2},
            "": "Gladly.",
        }
    )
    rows = kitchen.run("magpie", input=[{"field": "programming"}])
    assert {row["messages"][0]["content"].rstrip(".") for row in rows} == {
        "Mend my loop",
        "Prove this by induction",
        "What is 3 + 4?",
    }
    assert [[row[column] for column in ("field", "quality", "difficulty")] for row in rows] == [
        ["programming", 3, 2]
    ] * 3
    assert kitchen.calls == {"You are one of many users": 5, "How well": 4, "": 3}


def test_a_dataset_is_cleaned_without_a_call(kitchen: Kitchen) -> None:
    rows = kitchen.run("clean_dataset")
    assert [(row["text"], row["language"], row["masked"]) for row in rows] == [
        (
            "The ferry to the island leaves at nine. Tickets are sold on board, and children under six travel free of "
            "charge.",
            "en",
            {},
        ),
        (
            "Ask Mrs Berg about the key ([EMAIL], [PHONE]); she is in the office until four on every weekday.",
            "en",
            {"email": 1, "phone": 1},
        ),
    ]
    assert {row["split"] for row in rows} <= {"train", "test"}
    assert kitchen.calls == {}
    assert [node.rows_out for node in kitchen.report.nodes] == [5, 5, 4, 3, 2, 2, 2]


def test_most_of_three_judges_decide(kitchen: Kitchen) -> None:
    labels = {"rice": ["wrong", "wrong", "partial"], "spider": ["correct"] * 3, "sky": ["correct", "partial", "wrong"]}
    judges: Counter[str] = Counter()

    def judged(asked: str) -> dict[str, str]:
        about = re.findall(r"about (\w+)", asked)[0]
        judges[about] += 1
        return {"reason": "so it is", "score": labels[about][judges[about] - 1]}

    kitchen.answers({"You check": judged})
    rows = kitchen.run("judge_ensemble", input=[{"question": f"about {name}", "answer": "."} for name in labels])
    assert sorted((row["question"], row["label"], row["agreement"]) for row in rows) == [
        ("about rice", "wrong", 0.6667),
        ("about spider", "correct", 1.0),
    ]
    assert kitchen.calls == {"You check": 9}


def test_rag_questions_have_a_quote_of_the_text_and_stand_alone(kitchen: Kitchen) -> None:
    def pair(question: str, quote: str) -> dict[str, str]:
        return {"question": question, "answer": "a", "quote": quote}

    quote = "The moon pulls the water on the side that faces it."
    pairs = [
        pair("What pulls the sea?", quote),
        pair("Who says so?", quote),
        pair("What?", "The moon pulls the sea at night."),
    ]
    kitchen.answers(
        {
            "search box": pairs,
            "Question:": lambda asked: {"answerable": True, "stands_alone": "Who says so?" not in asked},
        }
    )
    [row] = kitchen.run("rag_questions", input=[{"title": "Tides", "text": f"Tides rise and fall. {quote}"}])
    assert (row["question"], row["quote"], row["title"]) == ("What pulls the sea?", quote, "Tides")
    assert kitchen.calls == {"search box": 1, "Question:": 2}


def test_a_translation_is_kept_when_it_comes_back_as_it_was(kitchen: Kitchen) -> None:
    kitchen.answers(
        {
            "One:": lambda asked: {"difference": "", "same": 5 if "Two: A bee." in asked else 2},
            "as a native": lambda asked: {"A bee.": "Une abeille.", "A dog.": "Un chat.", "Ok": "OK"}[
                asked.split("\n")[-1]
            ],
            "word by word": lambda asked: {"Une abeille.": "A bee.", "Un chat.": "A cat.", "OK": "Ok"}[
                asked.split("\n")[-1]
            ],
        }
    )
    texts = [{"text": text, "source": "English", "target": "French"} for text in ("A bee.", "A dog.", "Ok")]
    [row] = kitchen.run("translate_back_check", input=texts)
    assert (row["text"], row["translation"], row["back"], row["same"]) == ("A bee.", "Une abeille.", "A bee.", 5)
    assert kitchen.calls == {"as a native": 3, "word by word": 3, "One:": 3}


def test_right_solutions_are_distilled_with_their_thoughts(kitchen: Kitchen) -> None:
    def solved(solution: str, result: str, thoughts: str) -> str:
        return thoughts + json.dumps({"solution": solution, "result": result})

    thinking = "<think>Let me add.</think>"
    kitchen.answers(
        {
            "3 + 4": (
                solved("Three and four.", "7", thinking),
                solved("Three and four.", "7", ""),
                solved("I count.", "7", ""),
                solved("I guess.", "8", thinking),
            )
        }
    )
    rows = kitchen.run("distill_reasoning", parallel_size=1, input=[{"problem": "3 + 4?", "expected": "7"}])
    asked = {"role": "user", "content": "3 + 4?"}
    said = {"role": "assistant", "content": "Three and four.", "reasoning_content": "Let me add."}
    assert rows == [
        {"messages": [asked, said], "result": "7"},
        {"messages": [asked, {"role": "assistant", "content": "I count."}], "result": "7"},
    ]
    assert kitchen.calls == {"3 + 4": 4}


@pytest.mark.slow
def test_a_conversation_has_turns_of_both(kitchen: Kitchen) -> None:
    def user(asked: str) -> str:
        return f"Question {asked.count('Assistant:') + 1}"

    kitchen.answers({"You play": user, "": lambda asked: f"Answer to {asked.splitlines()[-1]}"})
    [row] = kitchen.run("conversations", input=[{"persona": "a cook", "aim": "eat"}])
    turns = [(turn["role"], turn["content"]) for turn in row["messages"]]
    expected = [[("user", f"Question {n}"), ("assistant", f"Answer to Question {n}")] for n in (1, 2, 3)]
    assert turns == [turn for exchange in expected for turn in exchange]
    assert set(row) == {"persona", "aim", "messages"}
    assert kitchen.calls == {"You play": 3, "": 3}


def test_code_is_kept_when_it_passes_its_tests(kitchen: Kitchen) -> None:
    fenced = "```python\n{}\n```"
    kitchen.answers(
        {
            "Invent": ("double(n)", "triple(n)"),
            "Write this": lambda asked: fenced.format(f"def {asked[:6]}(n):\n    return 2 * n"),
            "Write eight": lambda asked: fenced.format(f"assert {asked[:6]}(2) == {4 if 'double' in asked else 6}"),
        }
    )
    [row] = kitchen.run("code_with_tests", input=[{"topic": "numbers"}])
    assert row["run"] == {"passed": True, "ended": "exit", "exit_code": 0, "output": ""}
    assert row["task"] == "double(n)"
    assert kitchen.calls == {"Invent": 2, "Write this": 2, "Write eight": 2}


@pytest.mark.slow
def test_self_instruct_ends_at_exactly_so_many_new_tasks(kitchen: Kitchen) -> None:
    kitchen.answers({"Write four new tasks": tasks_of, "": "Done."})
    rows = kitchen.run("self_instruct", target=30)
    assert len(rows) == len({row["task"] for row in rows}) == 30
    assert {row["answer"] for row in rows} == {"Done."}
    assert sum(row["task"] == "Count to ten." for row in rows) == 1
    assert not kitchen.report.is_short
    assert 30 <= kitchen.calls[""] <= 30 + kitchen.report.nodes[-1].beyond_target + 8
    assert kitchen.calls["Write four new tasks"] < 400, "no more are invented than are needed"


def test_an_answer_is_written_again_until_the_judge_has_nothing_to_mend(kitchen: Kitchen) -> None:
    def writes(asked: str) -> str:
        last: str = re.findall("last answer: (.*)", f"{asked}\nlast answer: so")[0]
        return f"better, {last}" if "What is wrong" in asked else last

    def judges(asked: str) -> dict[str, object]:
        better = asked.count("better") * ("Mars" not in asked)
        return {"problems": [] if better == 2 else [f"{2 - better} things"], "score": 2 + better}

    kitchen.answers({"Name up to three": judges, "Answer in three": writes})
    questions = [{"question": f"What is {name}?"} for name in ("Venus", "Mars")]
    assert kitchen.run("critique_until_good", input=questions) == [
        {"question": "What is Venus?", "answer": "better, better, so", "problems": [], "score": 4, "_round": 3}
    ]
    assert kitchen.calls == {"Answer in three": 6, "Name up to three": 6}

"""Each recipe with answers that a test chooses: which rows come out, and how many calls that takes."""

from __future__ import annotations

import re

from .kit import Kitchen


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

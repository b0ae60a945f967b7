"""A test of a pipeline that calls a model: the calls were real once, and are played from a cassette ever after.

``pytest test_with_cassette.py`` needs neither a network nor a key, nor does ``python test_with_cassette.py``. After a
change of the prompt the test says which call is not on the cassette. To record it:

    LLM_DATAGEN_RECORD_MODE=all OPENAI_BASE_URL=… OPENAI_API_KEY=… pytest test_with_cassette.py

It needs the extra ``llm``: ``pip install 'llm-datagen[llm]'``.
"""

import json
import tempfile
from pathlib import Path

from llm_datagen import UnifiedPipeline
from llm_datagen.llm import LLMOperator
from llm_datagen.testing import cassette

CASSETTE = Path(__file__).with_suffix(".jsonl")
REVIEWS = ["I love this place.", "Cold soup, cold staff.", "We will be back!"]
MOOD = {
    "type": "object",
    "properties": {"mood": {"type": "string", "enum": ["good", "bad"]}},
    "required": ["mood"],
    "additionalProperties": False,
}


def mood_pipeline(folder: Path) -> UnifiedPipeline:
    judge = LLMOperator("How does the guest feel?\n\n{{ text }}", model="tiny-judge", output=MOOD, params={"seed": 1})
    return UnifiedPipeline(
        [judge], f"jsonl://{folder}/reviews.jsonl", f"jsonl://{folder}/moods.jsonl", parallel_size=4, log_file=None
    )


def test_every_review_gets_a_mood(tmp_path: Path) -> None:
    rows = "".join(json.dumps({"text": text}) + "\n" for text in REVIEWS)
    (tmp_path / "reviews.jsonl").write_text(rows, encoding="utf-8")
    with cassette(CASSETTE):
        report = mood_pipeline(tmp_path).create("moods", results_dir=tmp_path).run()
    moods = [json.loads(line) for line in (tmp_path / "moods.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {row["text"]: row["mood"] for row in moods} == dict(zip(REVIEWS, ["good", "bad", "good"], strict=True))
    assert report.usage[0]["requests"] == 3


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        test_every_review_gets_a_mood(Path(folder))
    print(f"{len(REVIEWS)} answers were played from {CASSETTE.name}")

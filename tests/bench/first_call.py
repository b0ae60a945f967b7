"""A small pipeline that calls a model, as a user's script: ``first_call.py URL FOLDER``. It asks once."""

import sys
from pathlib import Path

from llm_datagen import UnifiedPipeline
from llm_datagen.llm import LLMOperator

if __name__ == "__main__":
    url, folder = sys.argv[1:]
    Path(folder, "in.jsonl").write_text('{"q": "What is a mole?"}\n')
    UnifiedPipeline(
        [LLMOperator("Answer: {{ q }}", base_url=url, model="m", api_key="k")],
        f"jsonl://{folder}/in.jsonl",
        f"jsonl://{folder}/out.jsonl",
        base_path=folder,
        results_dir=f"{folder}/results",
        log_file=f"{folder}/platform.log",
    ).run()

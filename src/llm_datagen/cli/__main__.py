"""``python -m llm_datagen.cli``: the same as ``llm-datagen``."""

from llm_datagen.cli import main

main()

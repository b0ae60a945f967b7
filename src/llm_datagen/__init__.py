"""llm-datagen."""

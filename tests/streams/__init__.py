"""Tests of llm_datagen.streams: real files where the machine matters, storage in memory where every byte is tried."""

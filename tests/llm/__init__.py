"""Tests of llm_datagen.llm, against a real HTTP server on this machine."""

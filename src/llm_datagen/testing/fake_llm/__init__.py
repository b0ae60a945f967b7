"""A fake LLM endpoint on loopback, for tests."""

from llm_datagen.testing.fake_llm.server import FakeLLMServer

__all__ = ["FakeLLMServer"]

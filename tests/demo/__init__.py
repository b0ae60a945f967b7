"""Tests of llm_datagen.demo; those marked `model` run the real model."""

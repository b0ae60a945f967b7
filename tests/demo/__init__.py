"""Tests of llm_datagen.cli.demo; those marked `model` run the real model."""

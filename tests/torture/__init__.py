"""Torture: random pipelines, killed at random times and at every failpoint, resumed, and compared with a model."""

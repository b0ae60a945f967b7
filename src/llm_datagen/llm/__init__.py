"""Operators that call language models."""

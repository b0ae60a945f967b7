"""Inputs that other programs have written whole, and that are only read."""

"""The examples and the documentation: they run, and say what the code does."""

"""Models that run in worker processes of this one: a library that does what its prompts say, and the real ones."""

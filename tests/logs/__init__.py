"""The platform log: its schema, its file, reading it, and what it says of a run's speed."""

"""Rows of a run, for people who look at it: pages, search, families, failures. Files are read, never changed."""

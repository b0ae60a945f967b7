"""Rows of a run, for people who look at it: pages, search, lineage, failures. Files are read, never changed."""

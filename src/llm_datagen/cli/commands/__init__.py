"""The commands and their options, in groups."""

"""A run in shards: how its input is split, who runs the parts, and the whole of them seen as one run."""

"""The state of a node: what its operator keeps from row to row, committed with the rows (see `store`)."""

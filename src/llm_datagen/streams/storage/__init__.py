"""Storage: operations on files, on a local disk or in memory, and locks on them."""

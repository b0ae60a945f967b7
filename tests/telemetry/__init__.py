"""What monitoring systems get of runs."""

"""What is shown of the rows of a run."""

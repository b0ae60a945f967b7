"""What speaks to a library that runs models: one class for each. They run in worker processes."""

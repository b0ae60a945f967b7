"""The aids for tests that users are given."""

"""What becomes of rows that fail, of runs that hang, and of files that changed: policies, replay, the account."""

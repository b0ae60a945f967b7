"""Worker processes: rows go to them as bytes, and what they answer comes back as bytes."""

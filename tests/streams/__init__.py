"""Tests of llm_datagen.streams: real files where the machine matters, disks in memory where every byte is tried."""

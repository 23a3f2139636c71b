"""Revisions, history, transactions, compaction over a storage backend. Pure: no clock, no loop."""

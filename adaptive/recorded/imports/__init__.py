"""Readers of what evaluation tools write, one a file: each makes rows by model of it."""

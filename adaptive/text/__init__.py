"""Texts as they come in: checks, tokens, long streams, and hashes of rows."""

"""Routers: a guess, before any layer runs, at which tier a text needs."""

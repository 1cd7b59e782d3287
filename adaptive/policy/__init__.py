"""Policies over an outcome table: losses, costs, targets, the search and its front."""

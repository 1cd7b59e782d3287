"""Learned routers: cheap features of a text, and each tier's risk from them."""

from __future__ import annotations

from adaptive.routers.router import Router, from_state, to_state, work_per_text

__all__ = ["Router", "from_state", "to_state", "work_per_text"]

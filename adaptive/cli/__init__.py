"""The command line: `adaptive build | step | predict | evaluate | curve | info`."""

from __future__ import annotations

from adaptive.cli.app import app, main

__all__ = ["app", "main"]

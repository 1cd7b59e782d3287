"""JSON lines on stderr: one for each request, and what happens to the server.

A line holds numbers, names of routes and keys, and nothing of what was sent: not a text, a path,
a header or a query.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any, TextIO

log = logging.getLogger("adaptive.serve")


class JsonLines(logging.Formatter):
    """A record as one line of JSON; tracebacks are left out, since messages may quote texts."""

    def format(self, record: logging.LogRecord) -> str:
        """Time, level, message, and the fields given as `extra={"fields": ...}`."""
        line: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "message": record.getMessage(),
        }
        if record.exc_info and record.exc_info[0] is not None:
            line["error"] = record.exc_info[0].__name__
        return json.dumps({**line, **getattr(record, "fields", {})}, default=str)


def configure(stream: TextIO | None = None) -> logging.Handler:
    """Have the server's log, and uvicorn's, written as JSON lines; returns the handler."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonLines())
    for name in ("adaptive.serve", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(logging.INFO)
    return handler


def told(message: str, **fields: Any) -> None:
    """A line."""
    log.info(message, extra={"fields": fields})

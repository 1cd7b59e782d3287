"""A request that is not answered, and why."""

from __future__ import annotations

import math

CLIENT_GONE = 499  # a status that only the log sees


class Refusal(Exception):
    """An answer in the form of an error. The message never quotes the request.

    Attributes:
        status: of HTTP.
        retry_after: seconds until it is worth trying again; None where it is not.
    """

    def __init__(self, status: int, message: str, retry_after: float | None = None) -> None:
        self.status, self.message = status, message
        self.retry_after = retry_after
        super().__init__(message)

    @property
    def headers(self) -> dict[str, str]:
        """What HTTP says of it besides."""
        if self.status == 401:
            return {"WWW-Authenticate": "Bearer"}
        if self.retry_after is None:
            return {}
        return {"Retry-After": str(max(1, math.ceil(self.retry_after)))}

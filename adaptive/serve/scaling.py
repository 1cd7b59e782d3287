"""How many replicas there should be: by queued cost, which a count of requests does not tell.

Ray Serve sends this module's source to its controller, so nothing else is imported here.
"""

from __future__ import annotations

from typing import Any

QUEUED = "queued_ms"  # what replicas report


class QueuedCost:
    """As many replicas as give each this much to do.

    A policy of Ray Serve: bounds, delays and factors of its autoscaling come on top.
    """

    def __init__(self, queued_ms: float) -> None:
        """`queued_ms`: expected milliseconds of rows in the engine of one replica."""
        self._goal = queued_ms

    def __call__(self, context: Any) -> tuple[float, dict[str, Any]]:
        """The replicas wanted, of an `AutoscalingContext`, and no state."""
        reported = (context.aggregated_metrics or {}).get(QUEUED)
        if not reported:  # none has reported yet: as many as there are meant to be
            return context.target_num_replicas, {}
        # replicas that have not reported yet are taken to have as much to do as the others
        mean = sum(reported.values()) / len(reported)
        return context.current_num_replicas * mean / self._goal, {}

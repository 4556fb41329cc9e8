"""Under which names the numbers that forecasts learn from are remembered."""

from __future__ import annotations


def errors_name(lane: str, workflow: str, waited: bool) -> str:
    """Errors of forecasts: (log error of the start, of the finish, p90 kept (1 or 0), error of the p50 as a part of
    the actual finish). Empty names stand for all; runs that had to wait for others are told apart."""
    return f"errors/{lane}/{workflow}/{'queued' if waited else 'straight'}"


def path_name(workflow: str, degraded: bool) -> str:
    """What runs took: (seconds without waits for resources, seconds in a slot)."""
    return f"path/{workflow}/{'degraded' if degraded else 'plain'}"

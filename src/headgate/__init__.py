"""headgate: the control loop between AI agents and what they call.

It decides what may come in, what runs now, what waits and for how long, what is done more cheaply and what is
given up, and it says so. Start with `Gate`.
"""

from headgate.config.settings import GateSettings
from headgate.errors import (
    ApprovalDenied,
    BudgetExhausted,
    ChildFailed,
    ConfigError,
    Expired,
    HeadgateError,
    InvalidRequest,
    LeaseLost,
    LoopDetected,
    Overloaded,
    Rejected,
    StoreError,
    UnknownOutcome,
    UnknownResource,
    UnknownWorkflow,
    UnusableResult,
)
from headgate.gate import Gate
from headgate.guard.ambient import Ambient, ambient, current_resource, idempotency_key
from headgate.model.reason import Reason
from headgate.model.run import RunState
from headgate.model.step import Effect
from headgate.runs.context import Run
from headgate.runs.postponing import Postponed
from headgate.runs.spawning import SubRun

__all__ = [
    "Gate",
    "Run",
    "SubRun",
    "Postponed",
    "GateSettings",
    "Effect",
    "Reason",
    "RunState",
    "Ambient",
    "ambient",
    "current_resource",
    "idempotency_key",
    "HeadgateError",
    "Overloaded",
    "Rejected",
    "Expired",
    "LeaseLost",
    "BudgetExhausted",
    "ChildFailed",
    "LoopDetected",
    "UnusableResult",
    "ApprovalDenied",
    "UnknownOutcome",
    "UnknownResource",
    "UnknownWorkflow",
    "InvalidRequest",
    "StoreError",
    "ConfigError",
]

"""Runs that say themselves that they will not fit: what their caller states is more than one run may use."""

from __future__ import annotations

from headgate.model.cost import CostHint
from headgate.model.decision import Refusal
from headgate.model.reason import Reason
from headgate.policy.run_budget import Ceiling


def beyond(workflow: str, ceiling: Ceiling, stated: CostHint) -> Refusal | None:
    """The refusal of a run that states more of something than its ``ceiling`` has in all; ``None`` if it fits.

    Taken in, it would make calls up to the ceiling and then wait for somebody to raise it, or fail. Only what the
    caller states counts: an estimate may be wrong. Of several the first in the order of `CostHint` is told.
    """
    for name, wanted in stated.given():
        most = getattr(ceiling, name)
        if most is not None and wanted > most:
            what = name.replace("_", " ")
            return Refusal(
                Reason.NEVER_FITS,
                f"workflow:{workflow}",
                f"it states {wanted:g} {what}, and one run of {workflow} may use {most:g} "
                f"(its budget.{name}); state less, split the work, or raise that ceiling",
                limit=most,
                unit=name,
            )
    return None

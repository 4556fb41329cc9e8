"""The part of a store that sub-runs need. `Admissions.admit` takes them in; here is what their parents do.

The semantics at the top of `headgate.store.protocols` hold here as well. In the transaction that ends a run, however
it ends, all unfinished runs below it that are not detached end too: waiting and suspended ones as ``cancelled``,
running ones are asked to stop (``cancel_requested``). The same transaction wakes the run that waits for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from headgate.store.values import Ancestor, Child


class Children(Protocol):
    """Sub-runs, as their parents see them."""

    async def of(self, run_id: str) -> list[Child]:
        """The run's own sub-runs by id, detached ones included."""
        ...

    async def counts(self, run_id: str) -> Mapping[str, int]:
        """How many of its own sub-runs are in each state."""
        ...

    async def used_below(self, run_id: str) -> tuple[int, int]:
        """The calls and model tokens that all attached runs below it have used so far, each as its row tells: a
        running one tells when its attempt ends."""
        ...

    async def ancestors(self, run_id: str) -> list[Ancestor]:
        """The runs above it, its parent first. Those that were pruned are missing, and what is above them."""
        ...

    async def wait(
        self,
        run_id: str,
        owner: str,
        term: int,
        *,
        now_ms: int,
        branches: Sequence[Sequence[str]],
        wake_ms: int | None,
        detail: str,
        used_calls: int = 0,
        used_model_tokens: int = 0,
        used_money: float = 0.0,
        used_wall_ms: int = 0,
        cost: float | None = None,
    ) -> bool | None:
        """Suspend the run (``children_wait``) until all runs of any one branch have ended, at the latest until
        ``wake_ms``.

        ``False``, and nothing is written, if the runs of some branch have ended already (a run that is not there
        counts as ended). ``None`` if the fence did not match.
        """
        ...

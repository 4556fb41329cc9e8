"""What became of a run's attempts: a line whenever a worker lets go of it without success, and for its end.

A run that succeeds at once writes none. Only the last `KEPT` lines of a run are kept.
"""

from __future__ import annotations

from headgate.store.sqlite.transaction import Transaction

KEPT = 50
"""Lines per run."""


def keep(tx: Transaction, seq: int, *, now_ms: int, state: str, reason: str | None, detail: str | None) -> None:
    """Write a line about the run, which is about to be put into ``state``. Its row must still say who held it."""
    tx.run("keep_history", seq, now_ms, state, reason, detail)
    tx.run("cut_history", seq, KEPT)

"""Pure decisions: each takes (its state, a request or sample, now) and returns a decision.

No I/O, no clock, no sleeping, no randomness of their own, nothing third-party.
"""

"""Scenarios: one described world with its traffic, played on the real code in virtual time, and scored.

`description` reads ``lab/scenarios/*.yaml``; `traffic` and `calls` make its people and what their runs call;
`world` is the dependencies and the ledger of their work; `users` submit and come back; `play` brings it together
with real gates or with no limits at all; `bound` says what perfect knowledge could have done; `scores` compares.
"""

"""A simulated provider of models: finite capacity, rate limits, slow-downs and outages.

`physics` is the pure model, `service` runs it on an event loop (real or virtual time), `server` speaks the
OpenAI-compatible HTTP dialect. ``python -m headgate.lab.provider --port 9000`` starts one.
"""

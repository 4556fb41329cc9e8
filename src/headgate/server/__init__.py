"""The HTTP service: intake, reading, cancelling and replaying runs, the truth about capacity, metrics.

`headgate.server.app.build_app` makes the ASGI application around a gate, `headgate.server.serve.serve` runs it.
A request meets `front` (limits, origin, who calls), then either the hot path (`submit`) or a FastAPI route.
"""

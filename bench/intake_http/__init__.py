"""POST /v1/runs over real HTTP against a bare FastAPI echo: ``python -m bench.intake_http``."""

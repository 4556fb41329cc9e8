"""Python clients of the HTTP service: `Client` and `AsyncClient`, equal in everything but ``await``.

They read refusals as answers: `headgate.errors.Rejected` carries reason, scope and the honest wait, and ``submit``
may be told how long it may wait itself (``max_wait_s``).
"""

try:
    from headgate.client.async_client import AsyncClient
    from headgate.client.client import Client
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] != "httpx2":
        raise
    raise ModuleNotFoundError(
        'headgate.client needs httpx2, which is not installed: pip install "headgate[client]"', name=error.name
    ) from error

__all__ = ["AsyncClient", "Client"]

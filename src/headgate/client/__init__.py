"""Python clients of the HTTP service: `Client` and `AsyncClient`, equal in everything but ``await``.

They read refusals as answers: `headgate.errors.Rejected` carries reason, scope and the honest wait, and ``submit``
may be told how long it may wait itself (``max_wait_s``).
"""

from headgate.client.async_client import AsyncClient
from headgate.client.client import Client

__all__ = ["AsyncClient", "Client"]

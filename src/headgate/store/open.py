"""From a URL to an open store.

``sqlite:///relative.db`` and ``sqlite:////absolute.db`` name a file. One option may follow:
``?synchronous=full`` (the default: an answered operation survives power loss), ``normal`` (it survives the end of
the process only) or ``off`` (nothing is flushed; for simulations).
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal
from urllib.parse import parse_qsl, unquote, urlsplit

from headgate.errors import StoreError
from headgate.store.protocols import Store

_FLUSHING = ("full", "normal", "off")


async def open_store(url: str, *, mode: Literal["thread", "inline"] = "thread") -> Store:
    """Open the store that ``url`` names; a new file is made, readable by its owner only.

    Args:
        url: ``sqlite:///…`` as above.
        mode: ``thread`` lets one thread write and one read, for any number of callers on any event loop.
            ``inline`` does both on the running event loop, and is the one for virtual time: a run repeats exactly.

    Raises:
        StoreError: the URL is not understood; the file cannot be opened, is damaged, belongs to another program,
            or was written by a newer headgate.
    """
    if mode not in ("thread", "inline"):
        raise ValueError(f"mode must be 'thread' or 'inline', not {mode!r}")
    parts = urlsplit(url)
    if parts.scheme != "sqlite":
        raise StoreError(  # what it says is not repeated: such addresses hold passwords
            "the address of the store is not understood; write sqlite:///file.db or sqlite:////absolute/file.db"
        )
    name = unquote(parts.path[1:])
    if parts.netloc or not name or name.endswith("/") or name == ":memory:":
        raise StoreError(
            "the store names no file; write sqlite:///file.db or sqlite:////absolute/file.db (a store in "
            "memory would forget what it accepted)"
        )
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    synchronous = options.pop("synchronous", "full")
    if options or synchronous not in _FLUSHING:
        raise StoreError(f"the only option of a store's address is synchronous={'|'.join(_FLUSHING)}")
    try:
        from headgate.store.sqlite.store import open_sqlite  # apsw is an optional dependency
    except ImportError as error:
        raise StoreError("a SQLite store needs apsw: pip install 'headgate[sqlite]'") from error
    return await open_sqlite(url, Path(name), mode=mode, synchronous=synchronous)

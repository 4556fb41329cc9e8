"""API keys: their digests and what they allow."""

from __future__ import annotations

from headgate.store.protocols import ApiKey
from headgate.store.sqlite.operations import Operations
from headgate.store.sqlite.transaction import Reading


class SqliteKeys:
    """`headgate.store.protocols.Keys`."""

    def __init__(self, writer: Operations, reader: Operations) -> None:
        self._writer = writer
        self._reader = reader

    async def add(self, key: ApiKey) -> None:
        values = (
            key.id, key.hash, key.tenant, key.role, key.label, key.created_ms, key.expires_ms, key.revoked_ms,
        )  # fmt: skip
        await self._writer.submit(lambda tx: tx.run("keep_api_key", *values))

    async def by_hash(self, digest: str) -> ApiKey | None:
        def find(tx: Reading) -> ApiKey | None:
            row = tx.row("api_key_by_hash", digest)
            return None if row is None else ApiKey(*row)

        key: ApiKey | None = await self._reader.submit(find)
        return key

    async def all(self) -> list[ApiKey]:
        keys: list[ApiKey] = await self._reader.submit(lambda tx: [ApiKey(*row) for row in tx.rows("all_api_keys")])
        return keys

    async def revoke(self, key_id: str, *, now_ms: int) -> bool:
        changed: int = await self._writer.submit(lambda tx: tx.changed("revoke_api_key", key_id, now_ms))
        return changed > 0

"""Keys are made, listed and revoked in the store itself; a key is shown once and never again."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from headgate.cli.app import run
from headgate.server.auth import ROLES, digest_of, well_formed
from headgate.store.open import open_store
from headgate.store.protocols import ApiKey


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "headgate.yaml").write_text("store: sqlite:///keys.db\n")


def stored() -> list[ApiKey]:
    async def read() -> list[ApiKey]:
        store = await open_store("sqlite:///keys.db")
        try:
            return await store.keys.all()
        finally:
            await store.close()

    return asyncio.run(read())


def test_a_key_is_shown_once_and_only_its_digest_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["keys", "create", "--role", "operate", "--tenant", "acme", "--label", "ann", "--expires", "90d"]) == 0
    shown = capsys.readouterr()
    secret = shown.out.strip()
    assert well_formed(secret)
    assert "not shown again" in shown.err
    (key,) = stored()
    assert (key.hash, key.role, key.tenant, key.label) == (digest_of(secret), "operate", "acme", "ann")
    assert key.expires_ms is not None
    assert key.expires_ms - key.created_ms == 90 * 86_400_000
    assert run(["keys", "list"]) == 0
    listed = capsys.readouterr().out
    assert key.id in listed
    assert "valid" in listed
    assert secret not in listed
    assert key.hash not in listed


def test_a_revoked_key_stays_listed_as_such(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["keys", "create"]) == 0
    (key,) = stored()
    assert (key.role, key.tenant, key.expires_ms) == ("submit", None, None)
    assert run(["keys", "revoke", key.id]) == 0
    capsys.readouterr()
    assert run(["keys", "list"]) == 0
    assert re.search(rf"{key.id} .* revoked", capsys.readouterr().out)
    assert run(["keys", "revoke", "key_nobody"]) == 1
    assert "there is no valid key 'key_nobody'" in capsys.readouterr().err


def test_no_keys_yet(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["keys", "list"]) == 0
    assert "no keys; `headgate keys create` makes one" in capsys.readouterr().out


def test_every_role_can_be_made_and_no_other() -> None:
    for role in ROLES:
        assert run(["keys", "create", "--role", role]) == 0
    assert {key.role for key in stored()} == set(ROLES)
    assert run(["keys", "create", "--role", "king"]) == 2
    assert run(["keys", "create", "--expires", "soon"]) == 2
    assert len(stored()) == len(ROLES)


def test_a_configuration_with_mistakes_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "other.yaml").write_text("stor: x\n")
    assert run(["keys", "list", "--config", "other.yaml"]) == 1
    assert "other.yaml:1:1: unknown key 'stor'; did you mean 'store'?" in capsys.readouterr().err


@pytest.mark.parametrize("tenant", ["", "a\nb", "x" * 129])
def test_a_key_for_no_tenant_is_not_made(tenant: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["keys", "create", "--tenant", tenant]) == 2
    assert "--tenant" in capsys.readouterr().err
    assert stored() == []

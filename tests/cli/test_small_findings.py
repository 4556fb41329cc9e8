"""What new users stumbled over on the command line."""

from __future__ import annotations

import asyncio
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from headgate.cli.app import run
from headgate.config.load import load_settings, parse_settings
from headgate.store.open import open_store


@pytest.mark.process
def test_python_dash_m_is_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "headgate", "version"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split()[0]) == (0, "headgate")


@pytest.mark.parametrize("command", [[], ["submit"], ["dead", "replay"], ["serve"], ["keys", "create"]])
def test_flags_have_no_type_in_help(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*command, "--help"]) == 0
    told = capsys.readouterr().out
    assert "--help" in told
    assert "<bool>" not in told


def test_a_missing_configuration_points_to_init(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["check"]) == 1
    assert "headgate init" in capsys.readouterr().err
    Path("headgate.yaml").write_text("lanes: {standard: {shar: 1}}\n", encoding="utf-8")
    assert run(["check"]) == 1
    assert "headgate init" not in capsys.readouterr().err


def test_the_client_says_which_extra_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("headgate.client")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "httpx2", None)
    with pytest.raises(ModuleNotFoundError, match=r'pip install "headgate\[client\]"'):
        importlib.import_module("headgate.client")


def test_a_relative_store_lies_beside_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "a project %41"
    folder.mkdir()
    (folder / "headgate.yaml").write_text("store: sqlite:///data.db?synchronous=off\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    settings = load_settings("a project %41/headgate.yaml")
    assert settings.store.endswith("/data.db?synchronous=off")

    async def touch() -> None:
        await (await open_store(settings.store)).close()

    asyncio.run(touch())
    assert (folder / "data.db").exists()
    assert parse_settings("").store == "sqlite:///headgate.db", "settings that are no file's count from here"
    (folder / "headgate.yaml").write_text("store: sqlite:////srv/runs.db\n", encoding="utf-8")
    assert load_settings(folder / "headgate.yaml").store == "sqlite:////srv/runs.db"

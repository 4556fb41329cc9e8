"""What the pages say about the code is true where a machine can tell."""

from __future__ import annotations

import ast
import importlib
import re
import textwrap
import tomllib
from pathlib import Path

import pytest
from pydantic import BaseModel
from typer.core import TyperGroup
from typer.main import get_command

import headgate_pytest
from headgate.cli.app import app
from headgate.config.settings import GateSettings, ResourceSettings
from headgate.gate import Gate
from headgate.lab.contest.contestants import contestants
from headgate.model.reason import Reason
from headgate.observe.metrics import METRICS
from headgate.server.app import build_app
from headgate.server.auth import ROLES
from headgate.server.metrics import Exposition
from headgate.server.shapes import Accepted, Problem, RunRequest, RunsQuery, Timings

from .source import ROOT, markdown

DOCS = ROOT / "docs"
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")
HEADINGS = [
    "What it decides",
    "Source",
    "Rule",
    "Inputs",
    "Settings",
    "Invariants",
    "Trade-offs and known failures",
]


def _without_code(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


def _anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as the usual viewers make them."""
    headings = re.findall(r"^#+ (.+)$", _without_code(page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(page: Path) -> list[str]:
    """Relative links of ``page`` that lead nowhere."""
    broken = []
    for pair in LINK.findall(_without_code(page.read_text(encoding="utf-8"))):
        link = pair[0] or pair[1]
        if "://" in link or link.startswith("mailto:"):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists():
            broken.append(f"{page.name}: {link} leads nowhere")
        elif anchor and target.suffix == ".md" and anchor not in _anchors(target):
            broken.append(f"{page.name}: {link} has no such heading")
    return broken


def test_links_lead_somewhere() -> None:
    assert [problem for page in markdown() for problem in broken_links(page)] == []


def test_a_broken_link_is_seen(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# One two\n[a](#one-two) [b](#three) [c](none.md) [d](page.md#one-two) [e](https://example.org)\n"
    )
    assert broken_links(page) == ["page.md: #three has no such heading", "page.md: none.md leads nowhere"]


def test_every_page_is_reachable_from_the_index() -> None:
    linked = {
        (page.parent / (one or two).partition("#")[0]).resolve()
        for page in markdown()
        for one, two in LINK.findall(page.read_text(encoding="utf-8"))
        if "://" not in (one or two)
    }
    index = {DOCS / "README.md"}
    assert [str(page.relative_to(ROOT)) for page in DOCS.rglob("*.md") if page not in linked | index] == []


def test_every_reason_is_explained_and_no_other() -> None:
    told = re.findall(r"^\| `([a-z_]+)` \|", (DOCS / "reasons.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(told) == sorted(reason.value for reason in Reason)


def _policies() -> set[str]:
    """Page names: a file each, and one for the folder of concurrency rules."""
    room = ROOT / "src" / "headgate" / "policy"
    files = {path.stem for path in room.glob("*.py") if path.stem != "__init__"}
    return files | {path.parent.name for path in room.glob("*/*.py")}


def test_every_policy_has_its_page_and_no_other() -> None:
    assert {page.stem for page in (DOCS / "policies").glob("*.md")} - {"README"} == _policies()


@pytest.mark.parametrize("name", sorted(_policies()))
def test_policy_pages_have_the_same_headings(name: str) -> None:
    text = (DOCS / "policies" / f"{name}.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == HEADINGS
    assert text.startswith(f"# {name}\n")
    sections = re.split(r"^## .+$", text, flags=re.MULTILINE)[1:]
    assert [heading for heading, words in zip(HEADINGS, sections, strict=True) if not words.strip()] == []
    assert f"({name}.md)" in (DOCS / "policies" / "README.md").read_text(encoding="utf-8")


def test_every_dependency_has_a_reason_and_no_other() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wanted = [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]
    wanted += [text for texts in project["project"]["optional-dependencies"].values() for text in texts]
    names = {re.split(r"[<>=;\[ ]", text)[0] for text in wanted} - {"headgate"}
    page = (DOCS / "decisions" / "0003-dependencies.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `([\w.-]+)` \|", page, re.MULTILINE)) == names


def test_every_room_is_on_the_architecture_page() -> None:
    page = (DOCS / "architecture.md").read_text(encoding="utf-8")
    told = {
        name for row in re.findall(r"^\| (`[^|]+) \|", page, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)
    }
    house = ROOT / "src" / "headgate"
    rooms = {path.stem for path in house.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert told == rooms - {"__init__"}


def test_every_endpoint_is_on_the_api_page_and_no_other() -> None:
    page = (DOCS / "http-api.md").read_text(encoding="utf-8")
    told = set(re.findall(r"^\| `((?:GET|POST|PUT|DELETE) [^`]+)` \|", page, re.MULTILINE))
    paths = build_app(Gate(GateSettings()))._api.openapi()["paths"]  # type: ignore[attr-defined]
    assert told == {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}


@pytest.mark.parametrize("shape", [RunRequest, Accepted, Timings, Problem, RunsQuery])
def test_every_field_of_the_wire_is_on_the_api_page(shape: type[BaseModel]) -> None:
    page = (DOCS / "http-api.md").read_text(encoding="utf-8")
    assert [name for name in shape.model_fields if not re.search(rf'[`"]{name}[`"]', page)] == []


def test_every_role_and_right_is_explained() -> None:
    page = (DOCS / "how-to" / "api-keys.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE) == list(ROLES)


def test_metrics_in_the_pages_exist() -> None:
    told = {
        name for page in markdown() for name in re.findall(r"`(headgate_[a-z_]+)`", page.read_text(encoding="utf-8"))
    }
    gate = Gate(GateSettings(tools={"github": ResourceSettings()}))
    families = Exposition(gate.metrics, {}).text(gate.capacity()).decode()
    known = set(re.findall(r"^# HELP (\w+) ", families, re.MULTILINE)) | {spec.name for spec in METRICS}
    known |= {"headgate_pytest", *(name for name in vars(headgate_pytest) if name.startswith("headgate_"))}
    assert told
    assert sorted(told - known) == []


def test_commands_in_the_readme_exist() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = "\n".join(re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    made = set(re.findall(r"^make (\w+)", blocks, re.MULTILINE))
    targets = set(re.findall(r"^([a-z ]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert {"demo", "test"} <= made
    assert made <= {name for line in targets for name in line.split()}
    assert {"demo", "test"} <= set(re.findall(r"^python3 dev\.py (\w+)", blocks, re.MULTILINE))


def test_python_examples_can_be_read_and_import_what_exists() -> None:
    imported = []
    for page in markdown():
        for block in re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
            tree = ast.parse("async def example():\n" + textwrap.indent(block, "    "), filename=page.name)
            for node in ast.walk(tree):
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("headgate"):
                    module = importlib.import_module(str(node.module))
                    imported += [f"{page.name}: {alias.name}" for alias in node.names]
                    assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == [], page.name
    assert imported


def test_commands_in_the_pages_exist() -> None:
    command = get_command(app)
    assert isinstance(command, TyperGroup)
    told = set()
    for page in markdown():
        text = page.read_text(encoding="utf-8")
        blocks = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        told |= set(re.findall(r"^headgate (\w+)", "\n".join(blocks), re.MULTILINE))
        told |= set(re.findall(r"`headgate (\w+)", text))
    assert {"init", "check", "serve", "worker", "submit", "runs", "run"} <= told
    assert sorted(told - set(command.commands)) == []


def test_the_lab_page_names_every_policy() -> None:
    page = (DOCS / "lab.md").read_text(encoding="utf-8")
    for name in contestants():
        short = name.removeprefix("headgate-without-")
        assert f"`{short}`" in page, name

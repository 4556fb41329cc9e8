"""``GET /docs``: the OpenAPI description as one readable page that loads nothing, from us or from anywhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

SECURITY_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'"

_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem;
color:#1c2733;background:#fff}
code,pre{font:14px/1.4 ui-monospace,monospace}pre{background:#f3f5f7;padding:.8rem;overflow:auto;border-radius:6px}
h2{margin-top:2.5rem;border-bottom:1px solid #d5dbe1}
details{margin:.6rem 0;border:1px solid #d5dbe1;border-radius:6px}
summary{padding:.5rem .8rem;cursor:pointer}details>div{padding:0 .8rem .8rem}
table{border-collapse:collapse;width:100%}
td,th{text-align:left;padding:.2rem .6rem .2rem 0;vertical-align:top}b.m{display:inline-block;min-width:3.6rem}
@media(prefers-color-scheme:dark){body{color:#dde4ea;background:#12181e}pre{background:#1c252e}
h2,details{border-color:#334}a{color:#8ab4f8}}
"""


def render(api: Mapping[str, Any]) -> str:
    """The page for an OpenAPI document."""
    info = api.get("info", {})
    groups: dict[str, list[str]] = {}
    for path, methods in api.get("paths", {}).items():
        for method, operation in methods.items():
            tag = (operation.get("tags") or ["other"])[0]
            groups.setdefault(tag, []).append(_operation(path, method, operation))
    body = "".join(f"<h2>{escape(tag)}</h2>{''.join(rows)}" for tag, rows in groups.items())
    shapes = "".join(_shape(name, schema) for name, schema in api.get("components", {}).get("schemas", {}).items())
    title = f"{escape(str(info.get('title', '')))} {escape(str(info.get('version', '')))}"
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width,initial-scale=1"><style>{_STYLE}</style></head>'
        f"<body><h1>{title}</h1><p>{escape(str(info.get('description', '')))}</p>"
        f'<p>Machine-readable: <a href="openapi.json">openapi.json</a>.</p>{body}'
        f"<h2>shapes</h2>{shapes}</body></html>"
    )


def _operation(path: str, method: str, operation: Mapping[str, Any]) -> str:
    rows = [
        (one["name"], one["in"], _type(one.get("schema", {})), str(one.get("schema", {}).get("description", "")))
        for one in operation.get("parameters", ())
    ]
    content = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    rows += [
        (name, "body", _type(one), str(one.get("description", "")))
        for name, one in content.get("properties", {}).items()
    ]
    answers = [
        (status, str(one.get("description", "")), _answer(one))
        for status, one in operation.get("responses", {}).items()
    ]
    return (
        f"<details><summary><b class=m>{escape(method.upper())}</b> <code>{escape(path)}</code> "
        f"{escape(str(operation.get('summary', '')))}</summary><div>"
        f"{_table(('name', 'where', 'type', ''), rows)}{_table(('status', '', 'shape'), answers)}</div></details>"
    )


def _shape(name: str, schema: Mapping[str, Any]) -> str:
    required = schema.get("required", ())
    rows = [
        (key, _type(one), "always" if key in required else "", str(one.get("description", "")))
        for key, one in schema.get("properties", {}).items()
    ]
    return (
        f'<details id="{escape(name)}"><summary><code>{escape(name)}</code> '
        f"{escape(str(schema.get('description', '')))}</summary><div>"
        f"{_table(('name', 'type', '', ''), rows)}</div></details>"
    )


def _answer(response: Mapping[str, Any]) -> str:
    for kind, content in response.get("content", {}).items():
        shown = _type(content.get("schema", {}))
        return f"{shown} ({kind})" if shown else kind
    return ""


def _type(schema: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "anyOf" in schema:
        return " | ".join(filter(None, map(_type, schema["anyOf"])))
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    return str(schema.get("type", ""))


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    if not rows:
        return ""
    lines = "".join("<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return "<table><tr>" + "".join(f"<th>{escape(cell)}</th>" for cell in head) + f"</tr>{lines}</table>"

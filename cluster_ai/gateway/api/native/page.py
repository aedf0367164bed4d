"""The API's page, drawn from its OpenAPI description without anything from outside: clusters may have no internet."""

from __future__ import annotations

import json
from html import escape
from typing import Any

_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1c2430}
h2{margin-top:2.5rem;font-size:1.1rem}code,pre{font:13px/1.5 ui-monospace,monospace}
pre{background:#f4f6f8;border-radius:6px;padding:.8rem;overflow:auto}
.verb{display:inline-block;min-width:3.2rem;padding:0 .4rem;border-radius:4px;background:#dbe7f5;text-align:center}
table{border-collapse:collapse}td{padding:.1rem 1rem .1rem 0;vertical-align:top}
"""


def render(schema: dict[str, Any]) -> str:
    info = schema["info"]
    parts = [
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(info['title'])}</title>",
        f"<style>{_STYLE}</style><h1>{escape(info['title'])}</h1><p>{escape(info.get('description', ''))}</p>",
        '<p>Requests carry <code>Authorization: Bearer &lt;token&gt;</code>. For programs: <a href="openapi.json">',
        "openapi.json</a>.</p>",
    ]
    for path, operations in schema["paths"].items():
        for verb, operation in operations.items():
            parts.append(_operation(schema, path, verb, operation))
    return "".join(parts) + "</html>"


def _operation(schema: dict[str, Any], path: str, verb: str, operation: dict[str, Any]) -> str:
    out = [
        f"<h2><span class=verb>{verb.upper()}</span> <code>{escape(path)}</code></h2>",
        f"<p>{escape(operation.get('summary', ''))}</p>",
    ]
    if asked := operation.get("requestBody"):
        out.append("<p>Body</p>" + _example(schema, asked["content"]) + _fields(schema, asked["content"]))
    answers = operation.get("responses", {})
    if good := answers.get("200"):
        out.append(f"<p>{escape(good.get('description', ''))}</p>" + _example(schema, good.get("content", {})))
    others = {code: a for code, a in answers.items() if code not in ("200", "422")}
    if others:
        rows = (f"<tr><td>{code}<td>{escape(a.get('description', ''))}" for code, a in others.items())
        out.append(f"<table>{''.join(rows)}</table>")
    return "".join(out)


def _model(schema: dict[str, Any], content: dict[str, Any]) -> dict[str, Any]:
    first: dict[str, Any] = next(iter(content.values()), {})
    ref = first.get("schema", {}).get("$ref", "")
    found: dict[str, Any] = schema["components"]["schemas"].get(ref.rpartition("/")[2], {})
    return found


def _example(schema: dict[str, Any], content: dict[str, Any]) -> str:
    examples = _model(schema, content).get("examples")
    return f"<pre>{escape(json.dumps(examples[0], indent=2))}</pre>" if examples else ""


def _fields(schema: dict[str, Any], content: dict[str, Any]) -> str:
    model = _model(schema, content)
    rows = (
        f"<tr><td><code>{escape(name)}</code><td>{'required' if name in model.get('required', ()) else ''}"
        f"<td>{escape(field.get('description', ''))}"
        for name, field in model.get("properties", {}).items()
    )
    return f"<table>{''.join(rows)}</table>"

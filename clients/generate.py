"""Writes clients/openapi.json from the gateway's routes, the TypeScript types from that, and Python's blocking client.

    python clients/generate.py            # write all of them
    python clients/generate.py --check    # 1 when one is behind

Of JSON Schema it knows what pydantic makes of the gateway's models, and fails at anything else.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

from cluster_ai.gateway.api.native.app import build

FOLDER = Path(__file__).parent
OPENAPI = FOLDER / "openapi.json"
TYPESCRIPT = FOLDER / "typescript" / "cluster-ai.ts"
ASYNCIO = FOLDER.parent / "cluster_ai" / "client" / "aio.py"
BLOCKING = ASYNCIO.with_name("sync.py")
_BLOCKING = (  # what stands there instead of what is in ASYNCIO
    (
        '^"""The asyncio client."""',
        '"""The blocking client: made from aio.py by clients/generate.py. Not to be edited."""',
    ),
    (
        r"`async with AsyncClient\(url, token\) as client`\.",
        "`with Client(url, token) as client`; threads may share it.",
    ),
    (r"AsyncGenerator(?!\[)", "Generator"),
    (r"AsyncGenerator\[(.+), None\]", r"Generator[\1, None, None]"),
    ("AsyncClient", "Client"),
    (r"\b(async|await) ", ""),
    (r"__a(enter|exit)__", r"__\1__"),
    (r"\ba(close|read|iter_bytes|iter_lines)\(", r"\1("),
)
_TYPES = frozenset(
    ("$ref", "additionalProperties", "anyOf", "const", "enum", "items", "properties", "required", "type")
)
_CHECKS = frozenset(
    (
        "allOf",
        "exclusiveMaximum",
        "exclusiveMinimum",
        "format",
        "maxItems",
        "maxLength",
        "maximum",
        "minItems",
        "minLength",
        "minimum",
        "oneOf",
        "pattern",
    )
)  # which types can't say
_TOLD = frozenset(("default", "description", "examples", "title"))
_PRIMITIVE = {"string": "string", "integer": "number", "number": "number", "boolean": "boolean", "null": "null"}
_HEADER = """\
// The types of Cluster AI's native API, made from its OpenAPI description by clients/generate.py. Not to be edited.
"""

Schema = Mapping[str, Any]


def description() -> dict[str, Any]:
    """The gateway's, of no cluster in particular. Nothing is asked of its parts as long as no route is."""
    api: dict[str, Any] = build(MagicMock()).openapi()
    api["info"]["title"] = "Cluster AI"
    return api


def typescript(api: Schema) -> str:
    parts = [_HEADER]
    for name, schema in sorted(api["components"]["schemas"].items()):
        parts.append(_declared(name, schema))
    parts.append(_operations(api))
    return "\n".join(parts)


def _declared(name: str, schema: Schema) -> str:
    if schema.get("type") != "object" or "properties" not in schema:
        return f"{_comment(schema, '')}export type {name} = {_type(schema)};\n"
    return f"{_comment(schema, '')}export interface {name} {_object(schema, '')}\n"


def _object(schema: Schema, indent: str) -> str:
    required = schema.get("required", ())
    lines = ["{"]
    for name, field in schema["properties"].items():
        lines.append(
            f"{_comment(field, indent + '  ')}{indent}  {name}{'' if name in required else '?'}: {_type(field)};"
        )
    return "\n".join([*lines, indent + "}"])


def _type(schema: Schema) -> str:
    if unknown := schema.keys() - _TYPES - _CHECKS - _TOLD:
        raise ValueError(f"{sorted(unknown)} in {json.dumps(schema)[:300]}: teach clients/generate.py what it means")
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "const" in schema:
        return json.dumps(schema["const"])
    if "enum" in schema:
        return " | ".join(json.dumps(value) for value in schema["enum"])
    if "anyOf" in schema:
        return " | ".join(dict.fromkeys(_type(part) for part in schema["anyOf"]))
    match schema.get("type"):
        case None:
            return "unknown"
        case "array":
            item = _type(schema["items"]) if "items" in schema else "unknown"
            return f"({item})[]" if " | " in item else f"{item}[]"
        case "object" if "properties" in schema:
            return _object(schema, "    ").replace("\n", " ")
        case "object":
            values = schema.get("additionalProperties", True)
            return f"Record<string, {'unknown' if values is True else _type(values)}>"
        case kind:
            return _PRIMITIVE[kind]


def _comment(schema: Schema, indent: str) -> str:
    text = " ".join(str(schema.get("description", "")).split()).replace("*/", "*\\/")
    return f"{indent}/** {text} */\n" if text else ""


def _operations(api: Schema) -> str:
    lines = ["/** From an operation's name to what it takes and answers. `stream: true` answers lines instead. */"]
    lines.append("export interface Operations {")
    for path, operations in api["paths"].items():
        for method, it in operations.items():
            lines += _operation(path, method, it)
    return "\n".join([*lines, "}", ""])


def _operation(path: str, method: str, it: Schema) -> Iterator[str]:
    yield f"  /** {it['summary']} */"
    yield f"  {it['operationId']}: {{"
    yield f"    method: {json.dumps(method.upper())};"
    yield f"    path: {json.dumps(path)};"
    for place in ("path", "query", "header"):
        found = [p for p in it.get("parameters", ()) if p["in"] == place]
        if found:
            fields = (f"{_key(p['name'])}{'' if p.get('required') else '?'}: {_type(p['schema'])}" for p in found)
            yield f"    {place}Parameters: {{ {'; '.join(fields)} }};"
    if body := it.get("requestBody"):
        kind = _type(body["content"]["application/json"]["schema"])
        yield f"    body{'' if body.get('required') else '?'}: {kind};"
    for status, reply in it["responses"].items():
        if status.startswith("2"):
            content = reply.get("content", {}).get("application/json")
            yield f"    reply: {_type(content['schema']) if content else 'void'};"
    yield "  };"


def _key(name: str) -> str:
    return name if name.isidentifier() else json.dumps(name)


def blocking() -> str:
    """The asyncio client without its awaiting, formatted as everything else."""
    text = ASYNCIO.read_text()
    for pattern, instead in _BLOCKING:
        text = re.sub(pattern, instead, text)
    command = [sys.executable, "-m", "ruff", "format", "--stdin-filename", str(BLOCKING), "-"]
    return subprocess.run(command, input=text, check=True, capture_output=True, text=True).stdout


def wanted() -> Mapping[Path, str]:
    api = description()
    return {
        OPENAPI: json.dumps(api, indent=1, sort_keys=True, ensure_ascii=False) + "\n",
        TYPESCRIPT: typescript(api),
        BLOCKING: blocking(),
    }


def main(arguments: list[str]) -> int:
    behind = [path for path, text in wanted().items() if not path.is_file() or path.read_text() != text]
    if arguments == ["--check"]:
        for path in behind:
            print(f"{path} is behind: run python clients/generate.py")
        return bool(behind)
    for path in behind:
        path.write_text(wanted()[path])
        print(f"wrote {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""The reference page and the JSON Schema of cluster.yaml, both made from the schema."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cluster_ai.config.forms import FORMS
from cluster_ai.config.keys import Rules
from cluster_ai.config.schema import SCHEMA, accepts

_TYPES = {
    "string": "string",
    "boolean": "boolean",
    "integer": "integer",
    "number": "number",
    "list": "array",
    "dict": "object",
}
_HEAD = """# cluster.yaml

<!-- Made from cluster_ai/config/schema.py by `make docs`. -->

`cluster-ai init` writes a file to begin with, `cluster-ai validate` checks it, and `cluster-ai config show` prints it
with every default filled in. [cluster.yaml](../cluster.yaml) is an annotated example with every key;
`docs/cluster.schema.json` is a JSON Schema, which editors with YAML support use for completion where a file begins with
`# yaml-language-server: $schema=docs/cluster.schema.json`.

Paths that don't begin with `/` or `~` start at the folder of the file. Sizes are decimal (`32GB` is 32 * 10^9 bytes) or
binary (`8GiB` is 8 * 2^30), durations are written like `30s`, `5m`, `2h`, `15d`, or together, `1h30m`. Both always have
their unit. Secrets never stand in this file.
"""
_TAIL = """
## Where models go

Every replica goes to another worker: into GPU memory where it fits, else into the RAM of a worker. Of a worker's
`memory`, 80 % may hold models. A worker with `gpu` and no `gpu_memory` is taken to have 8 GB for each card.
Cards with unified memory (GB10 of DGX Spark, Jetson) have none of their own: divide the host's between `gpu_memory` and
`memory`, say `gpu_memory: 96GB` and `memory: 32GB` of 128. Nothing else keeps models on the card and in RAM from taking
the same memory twice; `discover --add` divides it so, and `doctor` and the worker's warnings tell where it isn't.

What a model needs is best said with `resources`. Where it isn't, it is estimated:

| known | estimate |
|---|---|
| a GGUF file (`source`) | the file, a cache of `num_ctx` tokens for each of `parallel` slots, 5 % and 0.25 GB |
| a number of parameters in the name, such as `:13b`, `8x7b` or `135m` | 0.65 GB for each billion, and 1 GB |
| neither | 4 GB |

Of models that are known by name only, long contexts (`num_ctx`), `engine.parallel` above 1, and weights of more than 4
to 5 bits need more than that: say so with `resources`.

Workers with fewer models come first, where one that is twice as quick by the workers' `speeds` may have twice as
many. `cluster-ai bench --save` measures and writes them; workers are compared by the one model that most of them were
measured with, so give a small one `replicas: all`. Speeds count in coarse steps (less than half as quick again is the
same; then twice, four times, ... the slowest), a new measurement within 20 % isn't written, and a worker without one
counts as the slowest: no model moves for a trifle. Speeds are of a worker's cards where it has any. Among equals each
model has an order of workers of its own, so that a worker that comes or goes moves few of the models that were not on
it, and one that had none moves none. `replicas: all` takes every worker where the model fits, after all others have
their places.
`cluster-ai validate` prints the placement; `cluster-ai models explain MODEL` says why it is so.
"""


def markdown() -> str:
    """docs/configuration.md"""
    return "\n".join([_HEAD, *_section("", SCHEMA)]) + _TAIL


def json_schema() -> dict[str, Any]:
    """docs/cluster.schema.json"""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "cluster.yaml",
        "description": "A private AI cluster, as Cluster AI makes it.",
        **_json({"type": "dict", "schema": SCHEMA}),
    }


def _section(path: str, schema: Rules) -> Iterator[str]:
    yield "| key | holds | default | meaning |\n|---|---|---|---|"
    for key, rules in schema.items():
        cells = (f"`{key}`", accepts_briefly(rules), _default(rules), rules["meta"]["doc"])
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
    for key, rules in schema.items():
        below, keys = (f"{path}.{key}" if path else key), rules.get("schema", {})
        if rules.get("type") == "list":
            below, keys = f"{below}[]", keys.get("schema", {}) if keys.get("type") == "dict" else {}
        elif "valuesrules" in rules:
            below, keys = f"{below}.<name>", rules["valuesrules"].get("schema", {})
        if keys:
            yield f"\n## {below}\n\n{rules['meta']['doc']}\n"
            yield from _section(below, keys)


def accepts_briefly(rules: Rules) -> str:
    """Like `accepts`, without the keys of a section: its table has them."""
    if rules.get("type") == "dict":
        return "a mapping"
    if rules.get("type") == "list" and "form" in rules["schema"]:
        return "a list; each: " + accepts(rules["schema"])
    return accepts(rules)


def _default(rules: Rules) -> str:
    if rules.get("required"):
        return "**required**"
    if rules.get("default") in ({}, []):
        return "none" if rules.get("type") == "list" or "schema" not in rules else "see below"
    if "default" in rules:
        value = rules["default"]
        return f"`{str(value).lower() if isinstance(value, bool) else value}`"
    return str(rules["meta"].get("absent", "Ollama's"))


def _json(rules: Rules) -> dict[str, Any]:
    result: dict[str, Any] = (
        dict(FORMS[rules["form"]].json_schema) if "form" in rules else {"type": _TYPES[rules["type"]]}
    )
    if doc := rules.get("meta", {}).get("doc"):
        result["description"] = doc
    if "default" in rules and rules["default"] not in ({}, []):
        result["default"] = rules["default"]
    for ours, theirs in (("min", "minimum"), ("max", "maximum"), ("minlength", "minItems"), ("allowed", "enum")):
        if ours in rules:
            result[theirs] = rules[ours]
    if rules.get("type") == "list":
        result["items"] = _json(rules["schema"])
    if rules.get("type") == "dict":
        result |= _json_object(rules)
    return result


def _json_object(rules: Rules) -> dict[str, Any]:
    if "valuesrules" in rules:
        return {"additionalProperties": _json(rules["valuesrules"]), "propertyNames": _json(rules["keysrules"])}
    schema = rules["schema"]
    result: dict[str, Any] = {
        "properties": {key: _json(inner) for key, inner in schema.items()},
        "additionalProperties": False,
    }
    if required := [key for key, inner in schema.items() if inner.get("required")]:
        result["required"] = required
    excluding = sorted(
        {tuple(sorted((key, inner["excludes"]))) for key, inner in schema.items() if "excludes" in inner}
    )
    if excluding:
        result["not"] = {"anyOf": [{"required": list(pair)} for pair in excluding]}
    return result

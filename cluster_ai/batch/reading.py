"""Rows out of JSONL, CSV and Parquet, and what each of them asks."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster_ai.errors import ConfigError, UsageError

CHAT, COMPLETIONS, EMBEDDINGS = "/v1/chat/completions", "/v1/completions", "/v1/embeddings"
_WAYS = {"messages": CHAT, "prompt": CHAT, "input": EMBEDDINGS}
_EXTRA = "pip install 'cluster-ai[data]'"


@dataclass(frozen=True, slots=True)
class Asked:
    """id: as the row has it, else its number. endpoint None: the row can't be asked, and why is what `body` says."""

    id: Any
    endpoint: str | None
    body: dict[str, Any]


def rows(path: Path, column: str | None) -> Iterator[Any]:
    """In their order; a line of JSONL that is no JSON comes as a ValueError. Raises ConfigError.

    column: which holds the prompts of a table; None: the first of prompt, messages and input that it has.
    """
    kind = path.suffix.lower()
    try:
        if kind == ".csv":
            yield from _csv(path, column)
        elif kind == ".parquet" or path.is_dir():
            yield from _parquet(path, column)
        else:
            yield from _jsonl(path)
    except (OSError, UnicodeDecodeError, csv.Error) as e:
        raise ConfigError(f"can't be read: {e}", where=str(path)) from e


def _jsonl(path: Path) -> Iterator[Any]:
    with path.open("rb") as file:
        for line in file:
            if not line.strip():
                continue
            try:
                yield json.loads(line)
            except (ValueError, RecursionError) as e:
                yield ValueError(f"is no JSON: {e}")


def _csv(path: Path, column: str | None) -> Iterator[Any]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        table = csv.DictReader(file)
        name = _column(path, column, table.fieldnames or [])
        for row in table:
            yield _row(row, name)


def _parquet(path: Path, column: str | None) -> Iterator[Any]:
    """A file, or a folder of them as Dask and Spark write it; of each partition only what is needed."""
    try:
        import dask.dataframe
    except ImportError:
        raise UsageError("Parquet needs pandas and pyarrow", where=str(path), remedy=_EXTRA) from None
    try:
        table = dask.dataframe.read_parquet(path)
    except ValueError as e:  # pyarrow's errors are, too
        raise ConfigError(f"is no Parquet: {e}", where=str(path)) from e
    name = _column(path, column, [str(it) for it in table.columns])
    wanted = [name, "id"] if "id" in table.columns else [name]
    for part in table[wanted].partitions:
        for row in part.compute(scheduler="sync").itertuples(index=False):
            found = dict(zip(wanted, row, strict=True))
            yield _row({key: value.item() if hasattr(value, "item") else value for key, value in found.items()}, name)


def _column(path: Path, wanted: str | None, there: list[str] | Any) -> str:
    for name in (wanted,) if wanted is not None else _WAYS:
        if name in there:
            return str(name)
    asked = f"no column {wanted!r}" if wanted is not None else "no column prompt, messages or input"
    raise ConfigError(f"has {asked}; it has {', '.join(there)}", where=str(path), remedy="--column names it")


def _row(row: Mapping[str, Any], column: str) -> dict[str, Any]:
    name = column if column in _WAYS else "prompt"
    found = {name: row[column]}
    if name == "messages" and isinstance(row[column], str):
        try:
            found[name] = json.loads(row[column])
        except ValueError:
            found[name] = None
    return {**found, "id": row["id"]} if row.get("id") not in (None, "") else found


def asked(number: int, row: Any, model: str | None, options: Mapping[str, Any]) -> Asked:
    """number: of the row, from 1."""
    if isinstance(row, ValueError):
        return Asked(number, None, {"message": str(row)})
    if isinstance(row, str):
        row = {"prompt": row}
    if not isinstance(row, dict):
        return Asked(number, None, {"message": "is neither a text nor an object"})
    if "body" in row and "custom_id" in row:  # a line as OpenAI's batches have it
        body = row["body"] if isinstance(row["body"], dict) else {}
        found = Asked(row["custom_id"], str(row.get("url")), {**({"model": model} if model else {}), **body})
        return found if isinstance(found.body.get("model"), str) else _nameless(found.id)
    name = next((it for it in _WAYS if row.get(it)), None)
    row_id = row["id"] if isinstance(row.get("id"), str | int) else number
    if name is None:
        return Asked(row_id, None, {"message": "has no prompt, messages or input"})
    if not isinstance(row[name], str) and (name == "prompt" or not isinstance(row[name], list)):
        return Asked(row_id, None, {"message": f"its {name} can't be asked"})
    chosen = row.get("model") or model
    if not isinstance(chosen, str):
        return _nameless(row_id)
    body = {"model": chosen, **(options if name != "input" else {})}
    if name == "prompt":
        body["messages"] = [{"role": "user", "content": row["prompt"]}]
    else:
        body[name] = row[name]
    return Asked(row_id, _WAYS[name], body)


def _nameless(row_id: Any) -> Asked:
    return Asked(row_id, None, {"message": "names no model, and --model doesn't either"})


def answer(body: Mapping[str, Any]) -> dict[str, Any]:
    """What is kept of an answer: its text, or its embeddings; and its tokens."""
    kept: dict[str, Any] = {}
    if body.get("choices"):
        first = body["choices"][0]
        kept["answer"] = first["message"].get("content") if "message" in first else first.get("text")
        kept["finish_reason"] = first.get("finish_reason")
        if first.get("message", {}).get("tool_calls"):
            kept["tool_calls"] = first["message"]["tool_calls"]
    elif body.get("data"):
        vectors = [it["embedding"] for it in body["data"]]
        kept["embedding"] = vectors[0] if len(vectors) == 1 else vectors
    return {**kept, "model": body.get("model"), "usage": body.get("usage")}

"""The openai package's batch flow, as its guide has it."""

import io
import json
import sys
import time
from typing import Any

import openai

ENDED = ("completed", "failed", "cancelled", "expired")


def ask(custom_id: str, url: str, **body: Any) -> dict[str, Any]:
    return {"custom_id": custom_id, "method": "POST", "url": url, "body": body}


def main(address: str, model: str) -> None:
    client = openai.OpenAI(base_url=f"{address}/v1", api_key="unused", timeout=300, max_retries=0)

    def upload(*lines: dict[str, Any]) -> str:
        text = "".join(json.dumps(line) + "\n" for line in lines).encode()
        return str(client.files.create(file=("requests.jsonl", io.BytesIO(text)), purpose="batch").id)

    def run(endpoint: Any, *lines: dict[str, Any]) -> Any:
        batch = client.batches.create(
            input_file_id=upload(*lines), endpoint=endpoint, completion_window="24h", metadata={"why": "a test"}
        )
        deadline = time.monotonic() + 300
        while batch.status not in ENDED and time.monotonic() < deadline:
            time.sleep(0.3)
            batch = client.batches.retrieve(batch.id)
        return batch

    def lines(file_id: str | None) -> list[Any]:
        return [json.loads(line) for line in client.files.content(file_id).text.splitlines()] if file_id else []

    chat = "/v1/chat/completions"
    hi = {"model": model, "messages": [{"role": "user", "content": "Say hi."}], "max_tokens": 4}
    mixed = run(chat, ask("b", chat, **hi), ask("a", chat, **hi), ask("bad", chat, **{**hi, "messages": []}))
    completed = run("/v1/completions", ask("c", "/v1/completions", model=model, prompt="1 2", max_tokens=3))
    embedded = run("/v1/embeddings", ask("e", "/v1/embeddings", model=model, input="a text"))
    refused = run(chat, ask("x", chat, **hi), ask("x", "/v1/embeddings", **hi))
    many = upload(*(ask(str(n), chat, **{**hi, "max_tokens": 200}) for n in range(30)))
    going = client.batches.create(input_file_id=many, endpoint=chat, completion_window="24h")
    going = client.batches.cancel(going.id)
    asked = going.status
    deadline = time.monotonic() + 300
    while going.status not in ENDED and time.monotonic() < deadline:
        time.sleep(0.3)
        going = client.batches.retrieve(going.id)
    answers, errors = lines(mixed.output_file_id), lines(mixed.error_file_id)
    file = client.files.retrieve(mixed.input_file_id)
    found = {
        "status": [it.status for it in (mixed, completed, embedded, refused)],
        "counts": [mixed.request_counts.total, mixed.request_counts.completed, mixed.request_counts.failed],
        "answers": [it["custom_id"] for it in answers],
        "said": [bool(it["response"]["body"]["choices"][0]["message"]["content"]) for it in answers],
        "errors": [[it["custom_id"], it["error"]["code"]] for it in errors],
        "completion": bool(lines(completed.output_file_id)[0]["response"]["body"]["choices"][0]["text"]),
        "embedding": len(lines(embedded.output_file_id)[0]["response"]["body"]["data"][0]["embedding"]) > 1,
        "refused": [[it.code, it.line] for it in refused.errors.data],
        "cancelled": [asked, going.status],
        "listed": [it.id for it in client.batches.list(limit=2)]
        == [it.id for it in (going, refused, embedded, completed, mixed)],
        "metadata": mixed.metadata,
        "file": [file.filename, file.purpose],
        "deleted": client.files.delete(file.id).deleted,
        "files": file.id not in [it.id for it in client.files.list(purpose="batch")],
    }
    print(json.dumps(found))


main(*sys.argv[1:])

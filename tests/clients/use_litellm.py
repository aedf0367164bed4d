"""LiteLLM as a client, by each of the APIs that it knows and the gateway has."""

import json
import sys
from typing import Any

import litellm


def text(answer: Any) -> str:
    return str(answer.choices[0].message.content)


def main(address: str, model: str) -> None:
    said: list[dict[str, str]] = [{"role": "user", "content": "Say hi."}]
    known: dict[str, Any] = {"messages": said, "max_tokens": 4, "temperature": 0, "num_retries": 0, "timeout": 300}
    bases = {
        "ollama_chat": {"api_base": address},
        "ollama": {"api_base": address},
        "openai": {"api_base": f"{address}/v1", "api_key": "unused"},
        "anthropic": {"api_base": address, "api_key": "unused"},
    }
    found: dict[str, Any] = {}
    for provider, base in bases.items():
        found[provider] = text(litellm.completion(model=f"{provider}/{model}", **base, **known))
        pieces = litellm.completion(model=f"{provider}/{model}", stream=True, **base, **known)
        found[f"{provider}_stream"] = "".join(piece.choices[0].delta.content or "" for piece in pieces)
    for provider in ("ollama", "openai"):
        vectors = litellm.embedding(model=f"{provider}/{model}", input=["a", "b"], **bases[provider])
        found[f"{provider}_embedding"] = len(vectors.data)
    for provider in ("openai", "anthropic"):
        try:
            litellm.completion(model=f"{provider}/nothing", **bases[provider], **known)
        except litellm.exceptions.APIError as e:
            found[f"{provider}_unknown"] = [type(e).__name__, e.status_code]
        except litellm.exceptions.NotFoundError as e:
            found[f"{provider}_unknown"] = [type(e).__name__, e.status_code]
    print(json.dumps(found))


main(*sys.argv[1:])

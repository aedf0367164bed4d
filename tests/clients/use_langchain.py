"""langchain-ollama and langchain-openai."""

import json
import sys
from typing import Any

from langchain_ollama import ChatOllama, OllamaEmbeddings, OllamaLLM
from langchain_openai import ChatOpenAI, OpenAIEmbeddings


def main(address: str, model: str) -> None:
    chat = ChatOllama(model=model, base_url=address, num_predict=4, temperature=0, seed=1)
    # num_ctx as many an example sets it: each of them would load the model anew.
    sized = ChatOllama(model=model, base_url=address, num_predict=4, temperature=0, seed=1, num_ctx=512)
    text = OllamaLLM(model=model, base_url=address, num_predict=4, temperature=0, seed=1)
    unused: Any = {"base_url": f"{address}/v1", "api_key": "unused"}
    other = ChatOpenAI(model=model, max_tokens=4, temperature=0, seed=1, **unused)
    by_ollama = OllamaEmbeddings(model=model, base_url=address)
    by_openai = OpenAIEmbeddings(model=model, check_embedding_ctx_length=False, **unused)
    found = {
        "ollama": chat.invoke("Say hi.").text,
        "ollama_sized": sized.invoke("Say hi.").text,
        "ollama_stream": "".join(piece.text for piece in chat.stream("Say hi.")),
        "ollama_text": text.invoke("Count:"),
        "openai": other.invoke("Say hi.").text,
        "openai_stream": "".join(piece.text for piece in other.stream("Say hi.")),
        "openai_usage": (other.invoke("Say hi.").usage_metadata or {})["output_tokens"],
        "ollama_embedding": len(by_ollama.embed_documents(["a", "b"])),
        "openai_embedding": len(by_openai.embed_documents(["a", "b"])),
    }
    print(json.dumps(found))


main(*sys.argv[1:])

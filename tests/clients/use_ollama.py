"""The ollama package."""

import json
import sys

import ollama


def main(address: str, model: str) -> None:
    options = {"num_predict": 4, "temperature": 0, "seed": 1}
    with ollama.Client(address, timeout=300) as client:
        said = client.chat(model, [{"role": "user", "content": "Say hi."}], options=options)
        pieces = list(client.generate(model, "Count:", stream=True, options=options))
        whole = client.generate(model, "Count:", options=options)
        schema = {"type": "object", "properties": {"a": {"enum": ["x"]}}, "required": ["a"]}
        formed = client.chat(model, [{"role": "user", "content": "a is 1"}], format=schema, options={"num_predict": 24})
        client.create("made", from_=model, system="Be brief.", parameters={"temperature": 0})
        client.copy("made", "copied")
        listed = [m.model for m in client.list().models]
        shown = client.show("copied").modelfile or ""
        deleted = [client.delete(name).status for name in ("made", "copied")]
        left = [m.model for m in client.list().models]
        try:
            client.chat("nothing", [])
        except ollama.ResponseError as e:
            unknown = [e.status_code, e.error]
        loaded = client.generate(model, "").done_reason
        unloaded = client.generate(model, "", keep_alive=0).done_reason
        found = {
            "chat": said.message.content,
            "stream": "".join(p.response for p in pieces),
            "whole": whole.response,
            "format": json.loads(formed.message.content or "{}"),
            "embedding": len(client.embed(model, ["a", "b"]).embeddings),
            "listed": listed,
            "left": left,
            "system": "Be brief." in shown,
            "deleted": deleted,
            "unknown": unknown,
            "reasons": [loaded, unloaded],
        }
    print(json.dumps(found))


main(*sys.argv[1:])

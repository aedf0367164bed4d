"""The openai package."""

import json
import sys
from typing import Any

import openai


def refused(call: Any) -> list[Any]:
    try:
        call()
    except openai.APIStatusError as e:
        return [type(e).__name__, e.status_code, e.code, e.param, e.type]
    return []


def main(address: str, model: str) -> None:
    client = openai.OpenAI(base_url=f"{address}/v1", api_key="unused", timeout=300, max_retries=0)
    asked: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": "Say hi."}], "max_tokens": 4}
    asked |= {"temperature": 0, "seed": 1}
    said = client.chat.completions.create(**asked, logprobs=True, top_logprobs=2)
    plain = list(client.chat.completions.create(**asked, stream=True))
    counted = list(client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    schema = {"type": "object", "properties": {"a": {"enum": ["x"]}}, "required": ["a"]}
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    formed = client.chat.completions.create(**{**asked, "max_tokens": 24}, response_format=form)
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
    completed = client.completions.create(model=model, prompt="Count:", max_tokens=4)
    responded = client.responses.create(model=model, input="Say hi.", max_output_tokens=4)
    events = list(client.responses.create(model=model, input="Say hi.", max_output_tokens=4, stream=True))
    choice, usage = said.choices[0], said.usage
    assert usage is not None
    found = {
        "models": [m.id for m in client.models.list()],
        "model": client.models.retrieve(model).id,
        "chat": choice.message.content,
        "tokens": usage.completion_tokens,
        "logprobs": len(choice.logprobs.content or []) if choice.logprobs else 0,
        "stream": "".join(c.choices[0].delta.content or "" for c in plain),  # each has a choice
        "usage": [c.usage.completion_tokens for c in counted if c.usage and not c.choices],
        "format": json.loads(formed.choices[0].message.content or "{}"),
        "completion": completed.choices[0].text,
        "embeddings": len(client.embeddings.create(model=model, input=["a", "b"]).data),
        "response": responded.output_text,
        "response_events": [events[0].type, events[-1].type],
        "unknown": refused(lambda: client.chat.completions.create(**{**asked, "model": "nothing"})),
        "tools": refused(lambda: client.chat.completions.create(**asked, tools=[tool])),
        "bad": refused(lambda: client.chat.completions.create(**{**asked, "messages": []})),
        "no_model": refused(lambda: client.models.retrieve("nothing")),
    }
    wrong = openai.OpenAI(base_url=f"{address.rpartition('/k/')[0]}/v1", api_key="wrong", max_retries=0)
    found["wrong_key"] = refused(lambda: wrong.models.list())
    print(json.dumps(found))


main(*sys.argv[1:])

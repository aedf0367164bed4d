"""What a request asks for, as far as going on with its answer elsewhere needs it. Pure.

Ollama renders the prompt for us (`_debug_render_only`), and /api/generate with `raw` goes on after it plus what was
said. An answer in progress can't be handed over where more than its text decides how it goes on: a grammar, tools,
images.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cluster_ai.gateway.failover.said import UnresumableError

_PASSED = ("keep_alive", "truncate", "shift")
_STOP = re.compile(r'^stop\s+(".*")$', re.MULTILINE)
_PREDICT = re.compile(r"^num_predict\s+(-?\d+)$", re.MULTILINE)
_PARSER = re.compile(r"^PARSER\s+\S", re.MULTILINE)
_HARMONY = ("gptoss", "gpt-oss")


@dataclass(frozen=True, slots=True)
class Question:
    """path and render: what renders the prompt; prompt: it, where the client gave it rendered.

    usage: the client wants to be told how many tokens it took.
    """

    model: str
    options: dict[str, Any]
    passed: dict[str, Any]
    path: str
    render: dict[str, Any]
    prompt: str | None = None
    usage: bool = True

    def rendered(self, answer: Any) -> str:
        """The prompt, from what the engine answered to render. Raises UnresumableError."""
        told = answer.get("_debug_info") if isinstance(answer, dict) else None
        prompt = told.get("rendered_template") if isinstance(told, dict) else None
        if not isinstance(prompt, str):
            raise UnresumableError("the engine doesn't render prompts")
        return prompt

    def limit(self, facts: Facts) -> int | None:
        """Tokens that the answer may have; None: no limit."""
        asked = self.options.get("num_predict")
        limit = asked if isinstance(asked, (int, float)) and not isinstance(asked, bool) else facts.num_predict
        return int(limit) if limit is not None and limit > 0 else None

    def stops(self, facts: Facts) -> tuple[str, ...]:
        own = self.options.get("stop")
        if isinstance(own, str):
            return (own,)
        return tuple(s for s in own if isinstance(s, str)) if isinstance(own, list) else facts.stops

    def onward(self, prompt: str, text: str, left: int | None) -> dict[str, Any]:
        """The request that goes on after text, with as many tokens as are left."""
        options = dict(self.options)
        if left is not None:
            options["num_predict"] = left
        return {
            "model": self.model,
            "prompt": prompt + text,
            "raw": True,
            "think": False,  # else a template with thoughts would have the engine look for them in what follows
            "stream": True,
            "options": options,
            **self.passed,
        }

    def count(self, prompt: str) -> dict[str, Any]:
        """A request whose answer tells how many tokens the prompt is."""
        return {**self.onward(prompt, "", 1), "stream": False}


@dataclass(frozen=True, slots=True)
class Facts:
    """What /api/show tells of a model."""

    stops: tuple[str, ...] = ()
    num_predict: int | None = None
    parsed: bool = False  # the engine reads its answers with a parser of its own, which raw answers don't pass
    thinks: bool = False


def facts(shown: Mapping[str, Any]) -> Facts:
    parameters, details = str(shown.get("parameters") or ""), shown.get("details")
    stops = []
    for quoted in _STOP.findall(parameters):
        try:
            stops.append(str(json.loads(quoted)))
        except ValueError:  # Go quotes what JSON doesn't know
            stops.append(quoted[1:-1])
    predict = _PREDICT.search(parameters)
    family = str(details.get("family") or "") if isinstance(details, dict) else ""
    parsed = _PARSER.search(str(shown.get("modelfile") or "")) is not None or family in _HARMONY
    thinks = "thinking" in (shown.get("capabilities") or ())
    return Facts(tuple(stops), int(predict[1]) if predict else None, parsed, thinks)


def question(path: str, asked: Mapping[str, Any]) -> Question:
    """Raises UnresumableError."""
    _bar(asked)
    match path:
        case "/api/chat" | "/api/generate":
            return _ollama(path, asked)
        case "/v1/chat/completions":
            wanted = asked.get("stream_options")
            usage = isinstance(wanted, dict) and bool(wanted.get("include_usage"))
            render = {**asked, "stream": False, "_debug_render_only": True}
            return Question(str(asked["model"]), _options(asked), {}, path, render, usage=usage)
        case "/v1/completions":
            wanted = asked.get("stream_options")
            usage = isinstance(wanted, dict) and bool(wanted.get("include_usage"))
            options = {"frequency_penalty": 0, "presence_penalty": 0, **_options(asked)}
            kept = {k: asked[k] for k in ("model", "prompt", "suffix") if k in asked}
            render = {**kept, "options": options, "stream": False, "_debug_render_only": True}
            return Question(str(asked["model"]), options, {}, "/api/generate", render, usage=usage)
        case "/v1/messages":
            return _anthropic(asked)
    raise UnresumableError(f"answers of {path} aren't resumed")


def _bar(asked: Mapping[str, Any]) -> None:
    form = asked.get("response_format")
    if asked.get("tools"):
        raise UnresumableError("it may call tools")
    if asked.get("format") or (isinstance(form, dict) and form.get("type") not in (None, "text")):
        raise UnresumableError("its form is prescribed")
    if asked.get("logprobs") or asked.get("top_logprobs"):
        raise UnresumableError("it tells probabilities")
    if asked.get("images"):
        raise UnresumableError("its prompt has images")
    for message in asked.get("messages") or ():
        content = message.get("content") if isinstance(message, dict) else None
        parts = content if isinstance(content, list) else ()
        texts = all(isinstance(part, dict) and part.get("type") == "text" for part in parts)
        if not texts or (isinstance(message, dict) and message.get("images")):
            raise UnresumableError("its prompt is more than text")


def _ollama(path: str, asked: Mapping[str, Any]) -> Question:
    options = asked.get("options")
    options = dict(options) if isinstance(options, dict) else {}
    passed = {name: asked[name] for name in _PASSED if asked.get(name) is not None}
    render = {**asked, "options": options, "stream": False, "_debug_render_only": True}
    prompt = str(asked.get("prompt") or "") if asked.get("raw") and path == "/api/generate" else None
    return Question(str(asked["model"]), options, passed, path, render, prompt)


def _options(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Ollama's options for OpenAI's request, as Ollama itself makes them."""
    options: dict[str, Any] = {"temperature": 1.0, "top_p": 1.0}
    names = {
        "max_tokens": "num_predict",
        "temperature": "temperature",
        "seed": "seed",
        "frequency_penalty": "frequency_penalty",
        "presence_penalty": "presence_penalty",
    }
    options.update({own: asked[name] for name, own in names.items() if asked.get(name) is not None})
    if asked.get("top_p"):
        options["top_p"] = asked["top_p"]
    stop = asked.get("stop")
    if isinstance(stop, str):
        options["stop"] = [stop]
    elif isinstance(stop, list):
        options["stop"] = [s for s in stop if isinstance(s, str)]
    return options


def _anthropic(asked: Mapping[str, Any]) -> Question:
    """Ollama has no way to render this one's prompt; as /api/chat it is the same."""
    system = _text(asked.get("system"))
    messages: list[dict[str, Any]] = [{"role": "system", "content": system}] if system else []
    for message in asked.get("messages") or ():
        messages += [{"role": message.get("role"), "content": _text(message.get("content"))}]
    names = {
        "max_tokens": "num_predict",
        "temperature": "temperature",
        "top_p": "top_p",
        "top_k": "top_k",
        "stop_sequences": "stop",
    }
    options = {own: asked[name] for name, own in names.items() if asked.get(name) is not None}
    render = {
        "model": asked["model"],
        "messages": messages,
        "options": options,
        "stream": False,
        "_debug_render_only": True,
    }
    return Question(str(asked["model"]), options, {}, "/api/chat", render)


def _text(content: Any) -> str:
    if isinstance(content, list):
        return "".join(str(part.get("text") or "") for part in content if isinstance(part, dict))
    return str(content or "")

"""POST /api/v1/generate: one prompt, from the client or from a template, completed."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import ConfigDict, Field, JsonValue

from cluster_ai.gateway.api.http import Receive, Refusal, Scope, Send, read_body
from cluster_ai.gateway.api.native.answer import (
    EXAMPLE,
    FORMAT,
    MODE,
    OPTIONS,
    STREAM,
    Answers,
    AskedMode,
    Figures,
    parse,
)
from cluster_ai.gateway.api.native.body import Body
from cluster_ai.gateway.api.native.kept.templates import Templates
from cluster_ai.gateway.api.native.parts import owner
from cluster_ai.gateway.trace import Trace

TEMPLATE = "A template's name, in place of the text."
VARIABLES = "What goes into the template's gaps; each must be there."


class GenerateRequest(Body):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"model": "smollm2", "prompt": "Why is the sky blue?", "stream": False, "options": {"temperature": 0}},
                {"model": "smollm2", "template": "explain", "variables": {"topic": "tides"}, "mode": "local"},
            ],
            "oneOf": [
                {
                    "required": ["prompt"],
                    "properties": {
                        "prompt": {"type": "string"},
                        "template": {"type": "null"},
                        "variables": {"maxProperties": 0},
                    },
                },
                {
                    "required": ["template"],
                    "properties": {"prompt": {"type": "null"}, "template": {"type": "string"}},
                },
            ],
        },
    )

    model: str = Field(min_length=1, description="A model's name; without a tag, `latest` is meant.")
    prompt: str | None = Field(None, description="The text; else `template`.")
    template: str | None = Field(None, description=TEMPLATE)
    variables: dict[str, str] = Field(default_factory=dict, description=VARIABLES)
    system: str | None = Field(None, description="In place of the template's or the model's own system prompt.")
    format: Literal["json"] | dict[str, JsonValue] | None = Field(None, description=FORMAT)
    stream: bool = Field(False, description=STREAM)
    options: dict[str, JsonValue] = Field(default_factory=dict, description=OPTIONS)
    mode: AskedMode = Field("auto", description=MODE)


class GenerateReply(Figures):
    """A whole answer; also the last object of a stream, there with an empty response."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"response": "Because air scatters blue light most.", **EXAMPLE}]}
    )

    response: str


@dataclass(frozen=True, slots=True)
class _Generation:
    asked: GenerateRequest
    prompt: str
    system: str | None
    path: str = "/api/generate"
    keeps: bool = False

    @property
    def model(self) -> str:
        return self.asked.model

    @property
    def body(self) -> dict[str, Any]:
        return given(prompt=self.prompt, system=self.system, format=self.asked.format)

    @property
    def options(self) -> dict[str, Any]:
        return self.asked.options

    @property
    def length(self) -> int:
        return len(self.prompt) + len(self.system or "")

    @property
    def streams(self) -> bool:
        return self.asked.stream

    @property
    def mode(self) -> AskedMode:
        return self.asked.mode

    def piece(self, line: dict[str, Any]) -> str:
        return str(line.get("response") or "")

    async def keep(self, text: str, worker: str) -> None:
        pass

    def reply(self, text: str, figures: Figures) -> GenerateReply:
        return GenerateReply(response=text, **dict(figures))


class Generate:
    def __init__(self, answers: Answers, templates: Templates) -> None:
        self._answers, self._templates = answers, templates

    async def handle(self, scope: Scope, receive: Receive, send: Send, trace: Trace) -> None:
        """Answers the request, or raises Refusal before anything was sent, or ClientGone."""
        asked = parse(await read_body(receive, self._answers.max_body), GenerateRequest)
        if (asked.prompt is None) == (asked.template is None):
            raise Refusal(400, "prompt_required", "give either prompt or template")
        prompt, system = asked.prompt or "", asked.system
        if asked.template is not None:
            template = await asyncio.to_thread(self._templates.get, owner(trace.user), asked.template)
            filled = template.fill(asked.variables)
            prompt, system = filled.text, asked.system if asked.system is not None else filled.system
        elif asked.variables:
            raise Refusal(400, "invalid_request", "variables: only with a template")
        await self._answers.give(_Generation(asked, prompt, system), receive, send, trace)


def given(**values: Any) -> dict[str, Any]:
    """Less what is None."""
    return {name: value for name, value in values.items() if value is not None}

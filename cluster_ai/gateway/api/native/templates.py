"""Prompts with gaps, kept under a name: one's own, and those that an administrator made for everyone."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response
from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from cluster_ai.gateway.api.native.body import Body
from cluster_ai.gateway.api.native.kept import templates as kept
from cluster_ai.gateway.api.native.parts import PREFIX, Asking, Parts, owner, refusals
from cluster_ai.gateway.api.native.sessions import when

EXAMPLE: JsonDict = {
    "name": "explain",
    "text": "Explain {{topic}} to {{reader}}.",
    "system": "Be brief.",
    "description": "A short explanation.",
    "shared": False,
    "variables": ["topic", "reader"],
    "changed": "2026-11-24T09:30:00Z",
}
TemplateName = Annotated[
    str,
    Path(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$",
        description="Letters, digits, dots, dashes and underscores.",
        examples=["explain"],
    ),
]


class TemplateRequest(Body):
    model_config = ConfigDict(
        json_schema_extra={"examples": [{"text": "Explain {{topic}} to {{reader}}.", "system": "Be brief."}]},
    )

    text: str = Field(min_length=1, max_length=100_000, description="Gaps are {{name}}; all else is text.")
    system: str | None = Field(None, max_length=100_000, description="A system prompt, which may have gaps too.")
    description: str = Field("", max_length=1000)
    shared: bool = Field(False, description="For everyone; only an operator may.")


class TemplateInfo(BaseModel):
    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    name: str
    text: str
    system: str | None
    description: str
    shared: bool
    variables: list[str] = Field(description="Its gaps.")
    changed: str


class Templates(BaseModel):
    model_config = ConfigDict(json_schema_extra={"examples": [{"templates": [EXAMPLE]}]})

    templates: list[TemplateInfo]


class RenderRequest(Body):
    model_config = ConfigDict(json_schema_extra={"examples": [{"variables": {"topic": "tides", "reader": "a child"}}]})

    variables: dict[str, str] = Field(default_factory=dict, description="What goes into the gaps; each must be there.")


class Rendered(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={"examples": [{"text": "Explain tides to a child.", "system": "Be brief."}]}
    )

    text: str
    system: str | None


def _info(template: kept.Template) -> TemplateInfo:
    return TemplateInfo(
        name=template.name,
        text=template.text,
        system=template.system,
        description=template.description,
        shared=template.shared,
        variables=list(template.variables),
        changed=when(template.changed),
    )


def routes(parts: Parts) -> APIRouter:
    router = APIRouter(prefix=f"{PREFIX}/templates", tags=["templates"])
    store = kept.Templates(parts.database)

    @router.get("", summary="Your templates, and everyone's", operation_id="listTemplates", responses=refusals(503))
    def templates(user: Asking) -> Templates:
        return Templates(templates=[_info(template) for template in store.list(owner(user))])

    @router.get(
        "/{name}",
        summary="One template; your own before everyone's",
        operation_id="getTemplate",
        responses=refusals(404, 503),
    )
    def template(name: TemplateName, user: Asking) -> TemplateInfo:
        return _info(store.get(owner(user), name))

    @router.put(
        "/{name}", summary="Make a template, or replace it", operation_id="putTemplate", responses=refusals(409, 503)
    )
    def put(name: TemplateName, user: Asking, body: TemplateRequest) -> TemplateInfo:
        if body.shared:
            user.must_be_able("share", "templates")
        made = kept.Template(name, body.text, body.system, body.description, body.shared)
        return _info(store.put(owner(user), made))

    @router.delete(
        "/{name}",
        summary="Delete a template",
        operation_id="deleteTemplate",
        status_code=204,
        responses=refusals(404, 503),
    )
    def delete(
        name: TemplateName,
        user: Asking,
        shared: Annotated[bool, Query(description="Everyone's, not your own; only an operator may.")] = False,
    ) -> Response:
        if shared:
            user.must_be_able("share", "templates")
        store.delete(owner(user), name, shared=shared)
        return Response(status_code=204)

    @router.post(
        "/{name}/render",
        summary="A template with its gaps filled, as a prompt would be",
        operation_id="renderTemplate",
        responses=refusals(404, 503),
    )
    def render(name: TemplateName, user: Asking, body: RenderRequest) -> Rendered:
        filled = store.get(owner(user), name).fill(body.variables)
        return Rendered(text=filled.text, system=filled.system)

    return router

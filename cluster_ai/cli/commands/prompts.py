"""`cluster-ai prompts`."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from cluster_ai.cli.gateway import GatewayUrl, chosen, find
from cluster_ai.cli.session import Json
from cluster_ai.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from cluster_ai.bench.prompts import Answered

SHOWN = 60  # characters of an answer


def command(
    ctx: typer.Context,
    models: Annotated[list[str] | None, typer.Argument(metavar="MODEL", help="Which; by default all.")] = None,
    json_: Json = False,
    gateway: GatewayUrl = None,
) -> None:
    """Ask models the test prompts that are kept at the gateway, and see whether they still answer right.

    The dashboard's playground keeps them; so does any template whose name begins with test-, and whose description is
    what the answer must contain. Those of whoever asks, and those shared with everyone. Nothing is left to chance.
    Answers are kept beside cluster.yaml in .cluster-ai/prompts.jsonl, so that one that changed is told.

    Exit code 0: every answer has what it must. 2: one has not. 5: the gateway doesn't answer. 64: there is no such
    model, or no test prompt.
    """
    from cluster_ai.bench import history, prompts

    client = find(ctx.obj, gateway)
    asked = prompts.saved(client.ask("GET", "/api/v1/templates")["templates"])
    if not asked:
        remedy = "keep some: the dashboard's page Playground, or PUT /api/v1/templates/test-NAME"
        raise UsageError("there is no test prompt", where=client.url, remedy=remedy)
    have = {it["name"]: it["present"] for it in client.ask("GET", "/api/v1/models")["models"]}
    wanted = [name for name in chosen(models or [], have) if have[name]]
    path = ctx.obj.config_path.resolve().parent / ".cluster-ai" / "prompts.jsonl"
    earlier, found = history.kept(path, prompts.Answered), []
    for model in wanted:
        for prompt in asked:
            print(f"asking {model}: {prompt.name}", file=sys.stderr)
            found.append(prompts.ask(client.stream, model, prompt))
            history.keep(path, found[-1:])
    news = [prompts.changed(it, earlier) for it in found]
    if json_:
        answers = [{**asdict(it), "changed": new} for it, new in zip(found, news, strict=True)]
        print(json.dumps({"format": 1, "answers": answers}, indent=2))
    else:
        from cluster_ai.cli.tables import table

        table("Test prompts", [_row(it, new) for it, new in zip(found, news, strict=True)])
    if not all(it.passed for it in found):
        raise typer.Exit(ExitCode.CHANGES)


def _row(answer: Answered, changed: bool | None) -> dict[str, str]:
    text = " ".join(answer.text.split())
    return {
        "model": answer.model,
        "prompt": answer.prompt,
        "result": "pass" if answer.passed else f"FAIL: must contain {answer.expects!r}",
        "since last": {None: "new", True: "another answer", False: "the same"}[changed],
        "answer": text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}...",
    }

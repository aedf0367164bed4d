"""`cluster-ai chat`: a conversation through the gateway, in Ollama's API."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Annotated

import typer

from cluster_ai.cli.gateway import Client, GatewayUrl, find


def command(
    ctx: typer.Context,
    model: Annotated[str | None, typer.Argument(help="The model; by default the first that the gateway has.")] = None,
    prompt: Annotated[str | None, typer.Option("--prompt", "-p", help="Ask this, print the answer, and end.")] = None,
    gateway: GatewayUrl = None,
) -> None:
    """Talk to a model through the gateway.

    The gateway is that of the local cluster (`cluster-ai up`) where one runs beside cluster.yaml, else that of
    cluster.yaml. The token is $CLUSTER_AI_TOKEN, else that of `cluster-ai login`, else the one in secrets.yaml. Without
    a terminal and without --prompt, standard input is the prompt.
    """
    client = find(ctx.obj, gateway)
    chosen = model or client.first_model()
    if prompt is None and not sys.stdin.isatty():
        prompt = sys.stdin.read()
    if prompt is not None:
        _answer(client, chosen, [{"role": "user", "content": prompt}])
        return
    print(f"{chosen} at {client.url}. An empty line, or Ctrl-D, ends.", file=sys.stderr)
    _converse(client, chosen)


def _converse(client: Client, model: str) -> None:
    import readline  # noqa: F401 (gives input() its line editing)

    messages: list[dict[str, str]] = []
    while True:
        try:
            text = input(">>> ").strip()
        except (EOFError, KeyboardInterrupt):
            print(file=sys.stderr)
            return
        if not text:
            return
        messages.append({"role": "user", "content": text})
        try:
            answer = _answer(client, model, messages)
        except KeyboardInterrupt:  # enough of this answer
            print("\n(stopped)", file=sys.stderr)
            messages.pop()
            continue
        messages.append({"role": "assistant", "content": answer})


def _answer(client: Client, model: str, messages: Sequence[Mapping[str, str]]) -> str:
    """Print an answer while it comes, and return it."""
    text: list[str] = []
    for piece in client.chat(model, messages):
        content = piece.get("message", {}).get("content", "")
        text.append(content)
        print(content, end="", flush=True)
        if piece.get("done") and sys.stdout.isatty():
            seconds = piece.get("eval_duration", 0) / 1e9
            speed = f", {piece['eval_count'] / seconds:.0f} tokens/s" if seconds and piece.get("eval_count") else ""
            print(f"\n\x1b[2m({client.worker or 'unknown worker'}{speed})\x1b[0m", end="")
    print()
    return "".join(text)

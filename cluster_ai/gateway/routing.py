"""Which handler answers a request: by its whole path, or by what the path begins with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from cluster_ai.gateway.api.http import Receive, Refusal, Scope, Send
from cluster_ai.gateway.trace import Trace

Handler = Callable[[Scope, Receive, Send, Trace], Awaitable[None]]


class Table:
    """Filled once; then asked for every request."""

    def __init__(self) -> None:
        self._exact: dict[tuple[str, str], Handler] = {}
        self._methods: dict[str, set[str]] = {}
        self._below: list[tuple[str, str, dict[str, Handler]]] = []

    def add(self, method: str, path: str, handler: Handler) -> None:
        """GET answers HEAD too; the server leaves the body out."""
        for taken in _taken(method):
            self._exact[taken, path] = handler
            self._methods.setdefault(path, set()).add(taken)

    def below(self, prefix: str, name: str, **handlers: Handler) -> None:
        """What begins with prefix, by method; name stands for the rest of the path in metrics: {model}."""
        found = {taken: handler for method, handler in handlers.items() for taken in _taken(method)}
        self._below.append((prefix, prefix + name, found))

    def routes(self) -> list[tuple[str, str]]:
        """Method and path of each, those of `below` with their gaps."""
        return [*self._exact, *((method, name) for _, name, handlers in self._below for method in handlers)]

    def find(self, method: str, path: str) -> Handler:
        """Raises Refusal: 404 or 405."""
        handler = self._exact.get((method, path))
        if handler is not None:
            return handler
        if path in self._methods:
            raise _not_taken(method, path, self._methods[path])
        for prefix, _, handlers in self._below:
            if path.startswith(prefix) and len(path) > len(prefix):
                if method in handlers:
                    return handlers[method]
                raise _not_taken(method, path, set(handlers))
        raise Refusal(404, "not_found", f"there is no {path} here")

    def name(self, path: str) -> str | None:
        """For a metric's label: never what a client made up; None: it isn't known here."""
        if path in self._methods:
            return path
        return next((name for prefix, name, _ in self._below if path.startswith(prefix)), None)


def _taken(method: str) -> tuple[str, ...]:
    return ("GET", "HEAD") if method == "GET" else (method,)


def _not_taken(method: str, path: str, methods: set[str]) -> Refusal:
    allowed = ", ".join(sorted(methods))
    text = f"{path} doesn't take {method}, only {allowed}"
    return Refusal(405, "method_not_allowed", text, [(b"allow", allowed.encode())])

"""A request's body as the engine will read it too, or a refusal: what is checked here must be what is run there.

Engines are written in Go, whose JSON is stricter in some things (UTF-8, numbers) and laxer in one: it takes a key for
another that differs in upper and lower case. So `"Model"` beside `"model"` would name one model here and run another.
"""

from __future__ import annotations

import json
from typing import Any, NoReturn

from cluster_ai.gateway.api.http import Refusal

MANY = 1024 * 1024  # values in a body; a short one can't hold so many
_HINGES = (b"{", b"[", b",")  # each begins a value; those within texts count too
_OURS = frozenset(("model", "name", "stream", "options", "truncate", "prompt", "messages", "input", "keep_alive"))


def _no_number(word: str) -> NoReturn:
    raise json.JSONDecodeError(f"{word} is no number", word, 0)


_decode = json.JSONDecoder(parse_constant=_no_number).decode


def parse(body: bytes) -> dict[str, Any]:
    """The object in it. Raises Refusal: 400 or 413."""
    if len(body) > MANY and sum(map(body.count, _HINGES)) > MANY:
        raise Refusal(413, "too_many_values", f"the request body has more than {MANY} values")
    try:
        value = _decode(body.decode())
    except UnicodeDecodeError as e:
        raise _invalid(f"it is not UTF-8 at byte {e.start}") from e
    except json.JSONDecodeError as e:
        raise _invalid(str(e)) from e
    except RecursionError as e:
        raise _invalid("it is nested too deeply") from e
    except ValueError as e:
        raise _invalid("a number in it has too many digits") from e
    if not isinstance(value, dict):
        raise Refusal(400, "invalid_json", "the request body must be a JSON object")
    for key in value:
        folded = key.casefold()
        if folded != key and folded in _OURS:
            raise Refusal(400, "ambiguous_key", f"'{key}' must be written '{folded}'")
    if not isinstance(value.get("stream"), bool | None):
        raise Refusal(400, "invalid_stream", "stream must be true or false")
    return value


def _invalid(why: str) -> Refusal:
    return Refusal(400, "invalid_json", f"the request body is not JSON: {why}")

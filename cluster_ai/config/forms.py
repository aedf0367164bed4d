"""Ways of writing a value that cerberus' types don't know: sizes, durations, shares, names of hosts and so on."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cluster_ai.config import units
from cluster_ai.sizes import parse_size


@dataclass(frozen=True, slots=True)
class Form:
    """A way of writing a value that cerberus' types don't know."""

    accepts: str  # for people: "allowed: ..."
    test: Callable[[Any], bool]
    json_schema: dict[str, Any]


def _text(pattern: str, accepts: str) -> Form:
    compiled = re.compile(pattern, re.ASCII)
    return Form(
        accepts,
        lambda value: isinstance(value, str) and compiled.fullmatch(value) is not None,
        {"type": "string", "pattern": f"^(?:{pattern})$"},
    )


def _parsed(parse: Callable[[str], float], accepts: str, pattern: str, *, zero: bool = False) -> Form:
    def test(value: Any) -> bool:
        try:
            return isinstance(value, str) and (parse(value) > 0 or zero)
        except ValueError:
            return False

    return Form(accepts, test, {"type": "string", "pattern": pattern})


def _is_command(value: Any) -> bool:
    import shlex

    try:
        return isinstance(value, str) and bool(shlex.split(value))
    except ValueError:
        return False


def _is_network(value: Any) -> bool:
    import ipaddress

    try:
        return isinstance(value, str) and bool(ipaddress.ip_network(value))
    except ValueError:
        return False


def _is_host(value: Any) -> bool:
    if not isinstance(value, str):
        return False
    if ":" in value:
        import ipaddress

        try:
            return bool(ipaddress.IPv6Address(value))
        except ValueError:
            return False
    return len(value) <= 253 and re.fullmatch(_HOST, value, re.ASCII) is not None


def _is_opening(value: Any) -> bool:
    try:
        source = units.parse_opening(value)[2] if isinstance(value, str) else ""
    except ValueError:
        return False
    return source is None or _is_network(source) or _is_host(source)


_DURATION = r"^\s*([0-9.]+\s*(ms|[smhd])\s*)+$"
_PERCENT = r"(100|[0-9]{1,2}(\.[0-9]+)?)%"
_INCREASE = r"[0-9]{1,4}(\.[0-9]+)?%"
_DAY = f"({'|'.join(units.DAYS)})"
_HOST = r"[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*"

FORMS: dict[str, Form] = {
    "size": _parsed(
        parse_size,
        "a size with its unit, such as '32GB' (10^9 bytes) or '8GiB' (2^30)",
        r"^\s*[0-9.]+\s*([kKMGT]i?)?B\s*$",
    ),
    "duration": _parsed(
        units.parse_duration,
        "a duration with its unit, such as '30s', '5m', '2h' or '15d'",
        _DURATION,
    ),
    "wait": _parsed(
        units.parse_duration,
        "a duration with its unit, such as '30s' or '5m', or '0s' for none",
        _DURATION,
        zero=True,
    ),
    "text": Form(
        "text", lambda v: isinstance(v, str) and bool(v.strip()) and v.isprintable(), {"type": "string", "minLength": 1}
    ),
    "clock": _text(r"([01][0-9]|2[0-3]):[0-5][0-9]", "a time of day in quotes, such as '08:00'"),
    "days": _text(rf"{_DAY}(-{_DAY})?", "a day or days in a row: mon, tue, wed, thu, fri, sat, sun, such as mon-fri"),
    "name": _text(
        r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?",
        "a name of letters, digits, '.', '_' and '-', at most 63 long, beginning and ending with a letter or a digit",
    ),
    "host": Form(
        "a host name or an IP address, without user and port",
        _is_host,
        {"type": "string", "pattern": f"^(?:{_HOST}|[0-9a-fA-F:.]*:[0-9a-fA-F:.]*)$", "maxLength": 253},
    ),
    "command": Form("a command, with every quote closed", _is_command, {"type": "string", "minLength": 1}),
    "mac": _text(
        r"[0-9A-Fa-f]{2}([:-][0-9A-Fa-f]{2}){5}", "the address of a network card, such as '52:54:00:12:34:56'"
    ),
    "folder": _text(
        r"/(?!(home|root|run|tmp|var/tmp|etc|proc|sys|dev|opt/cluster-ai|var/lib/cluster-ai)(/|$))(?!.*\.\.)"
        r"[A-Za-z0-9._/-]+",
        "a folder's absolute path of letters, digits, '.', '_' and '-', not in /home, /tmp, /etc or another such place",
    ),
    "model": _text(
        r"[A-Za-z0-9][A-Za-z0-9._/-]*(:[A-Za-z0-9._-]+)?",
        "a model's name as Ollama writes it, such as 'llama2:13b' or 'hf.co/org/model:Q4_K_M'",
    ),
    "replicas": Form(
        "a whole number from 1 on, or all",
        lambda v: v == "all" or (isinstance(v, int) and not isinstance(v, bool) and v >= 1),
        {"anyOf": [{"type": "integer", "minimum": 1}, {"const": "all"}]},
    ),
    "share": Form(
        "a whole number from 1 on, or a share such as '25%' (1% to 100%)",
        lambda v: (
            (isinstance(v, int) and not isinstance(v, bool) and v >= 1)
            or (isinstance(v, str) and re.fullmatch(r"([1-9][0-9]?|100)%", v, re.ASCII) is not None)
        ),
        {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "string", "pattern": "^([1-9][0-9]?|100)%$"}]},
    ),
    "percent": Form(
        "a share such as '5%' (0% to 100%)",
        lambda v: isinstance(v, str) and re.fullmatch(_PERCENT, v, re.ASCII) is not None,
        {"type": "string", "pattern": f"^({_PERCENT})$"},
    ),
    "increase": Form(
        "an increase such as '50%' or '200%'",
        lambda v: isinstance(v, str) and re.fullmatch(_INCREASE, v, re.ASCII) is not None,
        {"type": "string", "pattern": f"^({_INCREASE})$"},
    ),
    "canaries": Form(
        "a whole number from 1 on, a share such as '10%' (1% to 100%), or a list of workers' names",
        lambda v: FORMS["share"].test(v) or (isinstance(v, list) and bool(v) and all(map(FORMS["name"].test, v))),
        {
            "anyOf": [
                {"type": "integer", "minimum": 1},
                {"type": "string", "pattern": "^([1-9][0-9]?|100)%$"},
                {"type": "array", "items": {"type": "string"}, "minItems": 1},
            ]
        },
    ),
    "network": Form(
        "a network such as '10.0.0.0/8' or 'fd00::/8', without bits set after the prefix",
        _is_network,
        {"type": "string", "pattern": "^[0-9a-fA-F:.]+(/[0-9]{1,3})?$"},
    ),
    "opening": Form(
        "ports and their protocol, such as '8000/tcp', '60000-61000/udp' or '2049/tcp from 10.0.0.0/8'",
        _is_opening,
        {"type": "string", "pattern": r"^[0-9]{1,5}(-[0-9]{1,5})?/(tcp|udp)( from \S+)?$"},
    ),
    "https": _text(r"https://[^\s/?#]+(/[^\s?#]*)?", "an address that begins with https://"),
    "url": _text(r"https?://[^\s/]+(/\S*)?", "an address that begins with http:// or https://"),
    "mailbox": _text(r"[^\s@<>,\"]+@[A-Za-z0-9.-]+", "a mail address, such as 'ops@cluster.ai'"),
    "endpoint": _text(
        r"([A-Za-z0-9.-]+|\[[0-9a-fA-F:.]+\]):[0-9]{1,5}", "a host and its port, such as 'mail.cluster.ai:587'"
    ),
    "speed": Form(
        "tokens per second, a number above 0 and up to 100000",
        lambda v: isinstance(v, int | float) and not isinstance(v, bool) and 0 < v <= 100_000,
        {"type": "number", "exclusiveMinimum": 0, "maximum": 100_000},
    ),
    "word": _text(r"\S+", "a text without spaces"),
    "sha256": _text(r"[0-9a-fA-F]{64}", "the 64 hexadecimal digits of a SHA-256"),
    "release": _text(r"[0-9]+\.[0-9]+\.[0-9]+(-[A-Za-z0-9.]+)?", "a version such as '0.17.4', in quotes"),
    "jump": _text(
        r"([A-Za-z0-9._-]+@)?[A-Za-z0-9._-]+(:[0-9]+)?(,([A-Za-z0-9._-]+@)?[A-Za-z0-9._-]+(:[0-9]+)?)*",
        "a host to go through, as [user@]host[:port]; several with commas",
    ),
    "user": _text(r"[A-Za-z_][A-Za-z0-9._-]*\$?", "a user's name"),
    "scalar": Form(
        "text, a number, or true or false",
        lambda v: isinstance(v, str | int | float),
        {"type": ["string", "number", "boolean"]},
    ),
}

"""The one description of cluster.yaml, as cerberus rules: checks, defaults, reference and JSON Schema all come from it.

Two things are added to cerberus' rules. `form` names a way of writing a value (FORMS). `meta` has `doc`, what the key
means, and where there is no default, `absent`: what holds when the key isn't there.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cluster_ai.config import units

Rules = dict[str, Any]


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


def _parsed(parse: Callable[[str], float], accepts: str, pattern: str) -> Form:
    def test(value: Any) -> bool:
        try:
            return isinstance(value, str) and parse(value) > 0
        except ValueError:
            return False

    return Form(accepts, test, {"type": "string", "pattern": pattern})


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


_HOST = r"[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*"

FORMS: dict[str, Form] = {
    "size": _parsed(
        units.parse_size,
        "a size with its unit, such as '32GB' (10^9 bytes) or '8GiB' (2^30)",
        r"^\s*[0-9.]+\s*([kKMGT]i?)?B\s*$",
    ),
    "duration": _parsed(
        units.parse_duration,
        "a duration with its unit, such as '30s', '5m', '2h' or '15d'",
        r"^\s*([0-9.]+\s*(ms|[smhd])\s*)+$",
    ),
    "text": Form(
        "text", lambda v: isinstance(v, str) and bool(v.strip()) and v.isprintable(), {"type": "string", "minLength": 1}
    ),
    "name": _text(
        r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?",
        "a name of letters, digits, '.', '_' and '-', at most 63 long, beginning and ending with a letter or a digit",
    ),
    "host": Form(
        "a host name or an IP address, without user and port",
        _is_host,
        {"type": "string", "pattern": f"^(?:{_HOST}|[0-9a-fA-F:.]*:[0-9a-fA-F:.]*)$", "maxLength": 253},
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
    "url": _text(r"https?://[^\s/]+(/\S*)?", "an address that begins with http:// or https://"),
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


def _key(doc: str, absent: str = "", **rules: Any) -> Rules:
    return {**rules, "meta": {"doc": doc, "absent": absent} if absent else {"doc": doc}}


def _integer(doc: str, low: int, high: int | None = None, **rules: Any) -> Rules:
    limits: Rules = {"min": low} if high is None else {"min": low, "max": high}
    return _key(doc, type="integer", **limits, **rules)


def _port(doc: str, default: int) -> Rules:
    return _integer(doc, 1, 65535, default=default)


def _section(doc: str, schema: Rules) -> Rules:
    return _key(doc, type="dict", default={}, schema=schema)


RESOURCES: Rules = {
    "cpu": _integer("Cores that the cluster may use.", 1, 4096, required=True),
    "memory": _key(
        "Memory of the machine. Models that run without a GPU get at most 80 % of it.", form="size", required=True
    ),
    "gpu": _integer("NVIDIA cards.", 0, 64, default=0),
    "gpu_memory": _key("Memory of all its cards together.", form="size", absent="8 GB for each card is assumed"),
}

WORKER: Rules = {
    "name": _key("What the worker is called in every list, plan and metric. Unique.", form="name", required=True),
    "host": _key("Name or address that SSH and the cluster reach it by.", form="host", absent="the worker's `name`"),
    "resources": _key("What the machine has.", type="dict", required=True, schema=RESOURCES),
    "labels": _key(
        "Free marks, such as `room: '2.04'`; each becomes a group `<key>_<value>` for Ansible and pyinfra.",
        type="dict",
        default={},
        keysrules={"form": "name"},
        valuesrules={"form": "text"},
    ),
}

MODEL: Rules = {
    "name": _key("Name and tag, as clients ask for it.", form="model", required=True),
    "replicas": _key("How many workers serve it; `all`: every worker where it fits.", form="replicas", default=1),
    "resources": _key(
        "What one replica needs. One of both keys is enough: the number is the same on a GPU and on a CPU.",
        type="dict",
        default={},
        schema={
            "gpu_memory": _key(
                "Memory that one replica takes.", form="size", excludes="memory", absent="estimated, see below"
            ),
            "memory": _key(
                "The same; reads better where no worker has a GPU.",
                form="size",
                excludes="gpu_memory",
                absent="estimated, see below",
            ),
        },
    ),
    "source": _key(
        "A GGUF file on this machine, copied to the workers. A relative path starts at the folder of cluster.yaml.",
        form="text",
        absent="the model is pulled from Ollama's registry, by `name`",
    ),
    "options": _key(
        "Ollama's options for this model. They hold for every request that doesn't set its own.",
        type="dict",
        default={},
        schema={
            "num_ctx": _integer(
                "Context window in tokens. The same for every request, so that a model is never loaded anew.", 64
            ),
            "num_predict": _integer("Most tokens of one answer; -1: no limit, -2: until the context is full.", -2),
            "num_keep": _integer(
                "Tokens at the beginning that are kept when the context overflows; -1: all of the prompt.", -1
            ),
            "num_batch": _integer("Tokens of a prompt that are read at once.", 1),
            "num_gpu": _integer("Layers on the GPU; -1: as many as fit.", -1),
            "main_gpu": _integer("The card that keeps small tensors.", 0),
            "num_thread": _integer("CPU threads; 0: Ollama decides.", 0),
            "use_mmap": _key("Map the file into memory instead of reading it.", type="boolean"),
            "seed": _integer("Start of the random numbers.", -1),
            "temperature": _key("Freedom of the choice of words; 0: none.", type="number", min=0),
            "top_k": _integer("Choose among so many tokens; 0: all.", 0),
            "top_p": _key("Choose among the likeliest tokens that make up this share.", type="number", min=0, max=1),
            "min_p": _key(
                "Leave out tokens less likely than this share of the likeliest.", type="number", min=0, max=1
            ),
            "typical_p": _key("Locally typical sampling; 1: off.", type="number", min=0, max=1),
            "repeat_last_n": _integer("How far back repetition is looked for; -1: the whole context.", -1),
            "repeat_penalty": _key("Above 1: repetition becomes rarer.", type="number", min=0),
            "presence_penalty": _key("Makes tokens rarer that were there already.", type="number"),
            "frequency_penalty": _key("Makes tokens rarer the more often they were there.", type="number"),
            "stop": _key("Text at which an answer ends.", type="string"),
        },
    ),
}

CLUSTER: Rules = {
    "name": _key(
        "The cluster's name; stands in its CA's certificate and on the dashboard.", form="name", required=True
    ),
    "scheduler": _key(
        "The head host: Dask scheduler, gateway, Prometheus and dashboard run there.",
        type="dict",
        required=True,
        schema={
            "host": _key(
                "Name or address that SSH, workers and clients reach it by. A worker with the same `host` shares it.",
                form="host",
                required=True,
            ),
            "port": _port("Dask scheduler.", 8786),
            "dashboard_port": _port("Dask's own dashboard, on loopback.", 8787),
        },
    ),
    "workers": _key(
        "The machines that run models.",
        type="list",
        required=True,
        minlength=1,
        schema={"type": "dict", "schema": WORKER, "meta": {"doc": "A machine."}},
    ),
    "models": _key(
        "The models that the cluster serves.",
        type="list",
        default=[],
        schema={"type": "dict", "schema": MODEL, "meta": {"doc": "A model."}},
    ),
    "ssh": _section(
        "How every host is reached. Host keys are always checked; an unknown one is refused.",
        {
            "user": _key(
                "User to log in as; one that isn't root needs sudo.",
                form="user",
                absent="OpenSSH's own configuration decides",
            ),
            "port": _integer("Port of sshd.", 1, 65535)
            | {"meta": {"doc": "Port of sshd.", "absent": "OpenSSH's own configuration decides"}},
            "key": _key("Private key file.", form="text", absent="OpenSSH's agent and default keys"),
            "known_hosts": _key("File with the hosts' public keys.", form="text", absent="~/.ssh/known_hosts"),
            "jump": _key(
                "A host to go through, as `[user@]host[:port]`.", form="jump", absent="hosts are reached directly"
            ),
        },
    ),
    "engine": _section(
        "Ollama, on every worker.",
        {
            "version": _key("Ollama's release.", form="release", default="0.17.4"),
            "source": _key(
                "Address of a release archive, or path of an archive or of a binary on this machine.",
                form="text",
                absent="the known archive of `version`",
            ),
            "sha256": _key(
                "What the file named by `source` must hash to.",
                form="sha256",
                absent="cluster.lock remembers the first download",
            ),
            "parallel": _integer(
                "Requests that one worker runs at once for each model. Each takes memory of its own.", 1, 64, default=1
            ),
            "context_length": _integer(
                "Context window in tokens, for models without `options.num_ctx`.", 64, 10_000_000, default=4096
            ),
            "keep_alive": _key("How long an unused model stays loaded.", form="duration", default="24h"),
            "kv_cache_type": _key(
                "Precision of the context's cache: q8_0 takes half the memory, q4_0 a quarter.",
                type="string",
                allowed=["f16", "q8_0", "q4_0"],
                default="f16",
            ),
        },
    ),
    "gateway": _section(
        "The one address that clients talk to, on the head host.",
        {
            "port": _port("Port of the gateway.", 11435),
            "policy": _key(
                "How a worker is chosen for a request.",
                type="string",
                allowed=["least_loaded", "round_robin"],
                default="least_loaded",
            ),
            "trusted_networks": _key(
                "Networks whose requests need no token.",
                type="list",
                default=[],
                schema={"form": "network", "meta": {"doc": "A network."}},
            ),
        },
    ),
    "rollout": _section(
        "How a new release gets to the workers.",
        {
            "max_unavailable": _key(
                "Workers that change at once: a number, or a share of all, such as `'25%'`.", form="share", default=1
            ),
            "keep_releases": _integer(
                "Releases that stay on each host; the current and the one before among them.", 2, 100, default=5
            ),
            "gate_timeout": _key(
                "How long a host may take to become healthy before it is put back.", form="duration", default="120s"
            ),
        },
    ),
    "monitoring": _section(
        "Prometheus, on the head host.",
        {
            "port": _port("Port of Prometheus, on loopback.", 9090),
            "scrape_interval": _key("How often everything is measured.", form="duration", default="5s"),
            "retention": _key("How long measurements are kept.", form="duration", default="15d"),
        },
    ),
    "interface": _section(
        "What people look at, on the head host.",
        {
            "dashboard": _key("Whether the dashboard runs.", type="boolean", default=True),
            "dashboard_port": _port("Port of the dashboard.", 8501),
        },
    ),
    "packages": _section(
        "Where hosts get Debian packages from.",
        {
            "source": _key(
                "`distribution`: the sources that the host has. `mirror`: the mirror below. "
                "`bundle`: this machine downloads the packages and carries them there, for hosts without a way out.",
                type="string",
                allowed=["distribution", "mirror", "bundle"],
                default="distribution",
            ),
            "mirror": _key("Address of the mirror, for `source: mirror`.", form="url", absent="no mirror"),
        },
    ),
    "firewall": _section(
        "Who may reach the hosts. **By default all input is closed on every host**, but SSH, ICMP and the cluster's "
        "own ports: whatever else a machine serves (a web server, NFS, a database) can't be reached from outside any "
        "more until it stands in `allow`. Connections that hosts begin themselves, and what they forward (containers, "
        "virtual machines), are not touched.",
        {
            "manage": _key(
                "`false`: the hosts' firewall is left alone, and our rules are removed where they were. The ports in "
                "ARCHITECTURE.md are yours to open then, and to close to everybody else.",
                type="boolean",
                default=True,
            ),
            "allow": _key(
                "Ports that every host opens beside the cluster's; without `from`, to anyone. `from` takes an address, "
                "a network, or a host name, which each host resolves when it is converged.",
                type="list",
                default=[],
                schema={"form": "opening", "meta": {"doc": "Ports of a service."}},
            ),
        },
    ),
}

SCHEMA: Rules = {
    "version": _key("Version of this format.", type="string", allowed=["1.0"], required=True),
    "cluster": _key("The cluster.", type="dict", required=True, schema=CLUSTER),
}


def rules_at(path: tuple[str | int, ...]) -> Rules:
    """The rules of the key at a path, such as ("cluster", "workers", 0, "host"). Empty where the schema knows none."""
    rules: Rules = {"type": "dict", "schema": SCHEMA}
    for part in path:
        schema = rules.get("schema", {})
        if isinstance(part, int):
            rules = schema
        elif rules.get("type") == "dict" and part in schema:
            rules = schema[part]
        else:
            return dict(rules.get("valuesrules", {}))
    return rules


def accepts(rules: Rules) -> str:
    """What a key may hold, for people."""
    if "form" in rules:
        return FORMS[rules["form"]].accepts
    if "allowed" in rules:
        return (
            "one of " + ", ".join(repr(value) for value in rules["allowed"])
            if len(rules["allowed"]) > 1
            else repr(rules["allowed"][0])
        )
    words = {
        "string": "text",
        "boolean": "true or false",
        "integer": "a whole number",
        "number": "a number",
        "list": "a list",
        "dict": "a mapping",
    }[rules["type"]]
    if rules["type"] == "dict" and "schema" in rules:
        return "a mapping with the keys " + ", ".join(rules["schema"])
    if rules["type"] == "list" and rules.get("minlength"):
        return f"a list of at least {rules['minlength']}"
    if "min" in rules:
        return words + (f" from {rules['min']} to {rules['max']}" if "max" in rules else f" from {rules['min']} on")
    return words

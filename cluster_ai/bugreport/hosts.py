"""What hosts tell of themselves, asked by SSH, all at once."""

from __future__ import annotations

from collections.abc import Mapping

from cluster_ai import layout
from cluster_ai.errors import HostError
from cluster_ai.provision import ssh

LINES = 200  # of the journal, for each unit
TIMEOUT = 90.0  # seconds
_MARK = "=== cluster-ai: "
_ASKED = {
    "machine.txt": "uname -a; cat /etc/os-release; uptime; free -m; df -h / /opt /var/lib; nvidia-smi 2>&1",
    "units.txt": "systemctl list-units --all --plain --no-pager 'cluster-ai*' 'prometheus-node-exporter*';"
    " systemctl list-timers --all --no-pager 'cluster-ai*'; systemctl --failed --no-pager",
    "releases.txt": f"ls -l {layout.ROOT} {layout.RELEASES}; cat {layout.VERIFIED}",
    "journal.txt": "for unit in $(systemctl list-units --all --plain --no-legend 'cluster-ai*' | awk '{print $1}'); do"
    f" echo \"-- $unit\"; journalctl --no-pager --quiet -o short-iso -n {LINES} --unit=\"$unit\"; done",
}  # fmt: skip
SCRIPT = "\n".join(f"echo; echo '{_MARK}{name}'; {{ {asked}; }} 2>&1" for name, asked in _ASKED.items()) + "\ntrue"


def ask(argv: Mapping[str, tuple[str, ...]], sudo_password: str | None) -> dict[str, dict[str, str]]:
    """Host -> file -> text. argv: OpenSSH's command line of each host."""
    replies = ssh.run(ssh.calls(argv, SCRIPT), sudo_password=sudo_password, timeout=TIMEOUT)
    return {
        host: {"unreachable.txt": f"{reply}\n"} if isinstance(reply, HostError) else parse(reply.text)
        for host, reply in replies.items()
    }


def parse(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in text.split(f"\n{_MARK}")[1:]:
        name, _, said = part.partition("\n")
        found[name] = said
    return found

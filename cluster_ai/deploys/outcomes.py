"""What the exit status of the switch script (switch.sh) means. Apart from pyinfra, for those who ask it themselves."""

from __future__ import annotations

# The switch script's exit status: (what it means, what to do).
OUTCOMES = {
    10: (
        "did not become healthy with the new release; it runs the one before again",
        "correct what it says, then apply again",
    ),
    11: (
        "did not become healthy with its first release; nothing runs there now",
        "correct what it says, then apply again",
    ),
    12: (
        "did not become healthy, and the way back failed too",
        "log in there and see what its units say: systemctl --failed",
    ),
    13: ("has no such complete release", "run it again: what is missing will be pushed"),
    14: (
        "its release isn't healthy, and it is the one that ran before",
        "see what its units say, or put back the one before it",
    ),
    15: (
        "was healthy with the new release, but no new connection could confirm it; it runs the one before again",
        "see what the release does to its network, SSH and firewall, then apply again",
    ),
    16: ("waits for no confirmation", "see what its last switch came to: /var/lib/cluster-ai/last-switch"),
    70: ("the switch can't be started", "see that systemd works there: systemctl status"),
    75: ("another switch is running there", "wait for it to end, then run it again"),
}

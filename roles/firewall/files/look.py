"""Say as JSON what the rules need to know: where sshd listens, what names mean here, which other firewall is on."""

import ipaddress
import json
import socket
import subprocess
import sys


def run(*argv):
    try:
        return subprocess.run(argv, capture_output=True, text=True).stdout
    except OSError:
        return ""


def sshd_ports():
    config = run("/usr/sbin/sshd", "-T", "-C", "user=root,host=localhost,addr=127.0.0.1")
    ports = {line.split()[1] for line in config.splitlines() if line.startswith("port ")}
    # Socket activation has its own say: systemd listens then, not sshd.
    for line in run("systemctl", "show", "ssh.socket", "--property=Listen,ActiveState").splitlines():
        if line.startswith("Listen=") and line.endswith("(Stream)"):
            ports.add(line.split()[0].rpartition(":")[2])
    return sorted(int(port) for port in ports if port.isdigit())


def resolve(name):
    """Addresses of a name; None where nobody knows it."""
    try:
        return [str(ipaddress.ip_network(name, strict=False) if "/" in name else ipaddress.ip_address(name))]
    except ValueError:
        pass
    try:
        found = {entry[4][0] for entry in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)}
    except socket.gaierror:
        return None
    # A host that finds its own name at loopback needs no rule for it; link-local addresses need their interface.
    return sorted(a for a in found if "%" not in a and not ipaddress.ip_address(a).is_loopback)


def others():
    try:
        with open("/etc/ufw/ufw.conf") as conf:
            ufw = any(line.strip().lower() == "enabled=yes" for line in conf)
    except OSError:
        ufw = False
    firewalld = run("systemctl", "is-active", "firewalld.service").strip() == "active"
    return [name for name, on in (("ufw", ufw), ("firewalld", firewalld)) if on]


names = json.loads(sys.argv[1])
print(
    json.dumps(
        {
            "ssh": sshd_ports(),
            "addresses": {name: resolve(name) for name in names},
            "others": others(),
            "loaded": "table inet cluster_ai" in run("nft", "list", "tables"),
        }
    )
)

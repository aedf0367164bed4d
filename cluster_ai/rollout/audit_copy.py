"""What was done from a controller, copied to the head host while it leads a rollout: a controller may be lost.

A log there is named by this machine and by the log's first line, so that one that was begun anew is another one. Lines
are added behind the last that is there, and never changed.
"""

from __future__ import annotations

import socket

from cluster_ai.audit.chain import parsed
from cluster_ai.audit.file import AuditFile
from cluster_ai.errors import HostError
from cluster_ai.rollout.lease import Head

FOLDER = "audit"  # under layout.STATE, root's alone
AT_ONCE = 500  # lines, so that they fit into an argument

_SCRIPT = f"""
import base64, fcntl, json, os, sys, zlib
told = json.loads(zlib.decompress(base64.b64decode(sys.argv[3])))
folder = sys.argv[2] + "/{FOLDER}"
os.makedirs(folder, mode=0o700, exist_ok=True)
file = os.open(folder + "/" + told["name"], os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
fcntl.flock(file, fcntl.LOCK_EX)
size = os.fstat(file).st_size
last = os.pread(file, 65536, max(0, size - 65536)).strip().split(b"\\n")[-1]
last = json.loads(last) if last else {{"seq": 0, "hash": ""}}
if told["lines"] and told["after"] == last["seq"]:
    text = ("\\n".join(told["lines"]) + "\\n").encode()
    if os.write(file, text) < len(text):
        os.ftruncate(file, size)
        raise OSError("the disk is full")
    os.fsync(file)
    last = json.loads(told["lines"][-1])
print(json.dumps({{"seq": last["seq"], "hash": last["hash"]}}))
"""


def copy(head: Head, log: AuditFile) -> None:
    """Raises HostError, also where what is there was written by another log."""
    begin = next((fields for text in log.after(0, 1) if (fields := parsed(text))), None)
    if begin is None:
        return
    name = f"{socket.gethostname()}-{begin['hash'][:12]}.jsonl"
    there = head.order("audit", {"name": name, "lines": []}, _SCRIPT, FOLDER)
    while lines := [(text, fields) for text in log.after(there["seq"], AT_ONCE) if (fields := parsed(text))]:
        if there["seq"] and lines[0][1]["prev"] != there["hash"]:
            raise HostError(
                f"its copy of this machine's audit log has another line {there['seq']}",
                where=head.name,
                remedy="cluster-ai audit verify --here tells whether the log here was changed",
            )
        texts = [text.decode() for text, _ in lines]
        there = head.order("audit", {"name": name, "lines": texts, "after": there["seq"]}, _SCRIPT, FOLDER)

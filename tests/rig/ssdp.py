"""A device of UPnP that answers searches, at one address; by any Python, without our packages.

python3 ssdp.py ADDRESS
"""

import socket
import sys

GROUP = "239.255.255.250"
LINES = ("HTTP/1.1 200 OK", "CACHE-CONTROL: max-age=60", "EXT:", "ST: upnp:rootdevice", "USN: uuid:1::upnp:rootdevice")


def main(address: str) -> None:
    heard = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    heard.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    heard.bind(("", 1900))
    joined = socket.inet_aton(GROUP) + socket.inet_aton(address)
    heard.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, joined)
    answering = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    answering.bind((address, 0))
    while True:
        data, asker = heard.recvfrom(2048)
        if data.startswith(b"M-SEARCH"):
            server = "SERVER: Debian/12 UPnP/1.1 box/1"
            lines = (*LINES, server, f"LOCATION: http://{address}:1/device.xml", "", "")
            answering.sendto("\r\n".join(lines).encode(), asker)


main(sys.argv[1])

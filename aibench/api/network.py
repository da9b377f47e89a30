"""Addresses of this machine."""

from __future__ import annotations

import socket

ANY_PORT = 9


def source_address(host: str) -> str:
    """This machine's address on the way to ``host``; nothing is sent there.

    Raises:
        OSError: The name is unknown, or no route leads there.
    """
    family, _, _, _, address = socket.getaddrinfo(host, ANY_PORT, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect(address)
        return str(probe.getsockname()[0])

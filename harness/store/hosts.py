"""Which machine this is: locks of one machine are seen on it, whatever a network file system does with them."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import socket
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@functools.cache
def host_id() -> str:
    """Return 12 hexadecimal digits for this machine since its last start, by its name and its kernel's identity."""
    boot = ""
    with contextlib.suppress(OSError):  # other systems than Linux
        boot = _BOOT_ID.read_text(encoding="ascii")
    return hashlib.sha256(f"{socket.gethostname()} {boot}".encode()).hexdigest()[:12]


def named_by_this_host(name: str) -> bool:
    """Return whether a name, `<host>-<id>`, was given on this machine; a name without a host counts as one."""
    host, separator, _ = name.partition("-")
    return not separator or host == host_id()

"""Which process writes a file, and whether it lives.

A process is known by its host, its number and when it began, since numbers are given again.
"""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def identity() -> dict[str, str | int]:
    """This process, as attributes of a file."""
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "process_began": began(os.getpid()),
    }


def alive(writer: Mapping[str, Any]) -> bool | None:
    """Whether the process that `identity` described lives; None if this machine cannot know."""
    if writer.get("host") != socket.gethostname() or os.name == "nt":
        return None
    try:
        pid = int(writer["pid"])
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    then, now = str(writer.get("process_began", "")), began(pid)
    return not (then and now and then != now)


def doubts(writer: Mapping[str, Any]) -> list[str]:
    """That who goes on with what a process wrote does not know whether that ended; none where this
    machine does."""
    if alive(writer) is not None:
        return []
    return [f"process {writer.get('pid')} of host {writer.get('host')} was taken to have ended"]


def began(pid: int) -> str:
    """When a process began, in words that differ after its number was given again; "" if unknown.

    Where there is /proc: the boot of the machine and the clock ticks since then.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        # The second field is the name, in parentheses, and may hold anything.
        ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
        return f"{boot} {ticks}"
    except (OSError, IndexError):
        pass
    try:
        found = subprocess.run(
            ["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return found.stdout.strip()

"""Disks that fail at a call, and disks that lose power: what a process leaves on them.

`disk.c` is compiled and stands between a process and its system calls. The process writes a small
trace as runs do, with checkpoints; a fork of it for every call that is to fail.
"""

import errno
import json
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np

ROWS, SAMPLES, UNITS = 12, 8, 64
SPIKES = 40
PAGE = 4096
"""What a disk writes as a whole, and systems remember as one."""

HERE = Path(__file__).parent


def library(folder):
    """The compiled disk."""
    target = folder / "disk.so"
    command = ["cc", "-O1", "-shared", "-fPIC", "-o", target, HERE / "disk.c", "-ldl"]
    subprocess.run(command, check=True, capture_output=True)
    return target


def arguments():
    """Of a writer: a trace whose rows lie in chunks, a small one beside, and spikes."""
    from small_traces import ABOUT, layout

    axes, variables = layout(ROWS, SAMPLES, UNITS)
    return axes, variables, ABOUT, {"spikes": {"layer1": {"units": UNITS}}}


def work(path, disk, start=0, ledger=None):
    """Write a trace from a row on, with a checkpoint every other row, and finish it."""
    from small_traces import SOMA, rows

    from neurosim.traces import layout
    from neurosim.traces.checkpoint import Checkpoint
    from neurosim.traces.writer import TraceWriter

    layout.CHUNK_BYTES, layout._SHARED_CHUNK_BYTES = 2**14, 2**12
    axes, variables, about, populations = arguments()
    if ledger is None:
        trace = TraceWriter(path, axes, variables, about, populations=populations["spikes"])
    else:
        trace = TraceWriter.reopen(path, axes, variables, ledger, {})
    with trace:
        for n in range(start, ROWS):
            if n % 2 == 0:
                trace.secure()
                Checkpoint({"done": n, "ledger": trace.ledger}, [np.full(500, n)]).save(path)
                disk.disk_mark(n)
            trace.write(SOMA, n, rows(n, SAMPLES, UNITS))
            trace.write("traces/presented", n, n)
            trace.append_spikes("layer1", n + np.arange(SPIKES) / SPIKES, np.arange(SPIKES))
            trace.flush()
        trace.close("complete", {"summary": json.dumps({"done": ROWS, "more": "x" * 3000})})
    disk.disk_mark(ROWS)
    Checkpoint.remove(path)
    disk.disk_mark(ROWS + 1)


CHILD = """
import ctypes, json, os, sys
sys.path[:0] = sys.argv[1:3]
from pathlib import Path
import disks
from neurosim.errors import NeurosimError
import small_traces, neurosim.traces.writer, neurosim.traces.checkpoint
disk = ctypes.CDLL(None)
disk.disk_calls.restype = ctypes.c_long
folder, failures = Path(sys.argv[3]), json.loads(sys.argv[4])
for call, number, good in failures:
    place = folder / f"{call}-{number}"
    place.mkdir()
    notes = str(place / "notes") if not call else ""
    child = os.fork()
    if not child:
        code, words = 0, ""
        under = str(place / "disk").encode()
        os.mkdir(under)
        disk.disk_begin(under, ctypes.c_long(call), number, good, notes.encode())
        try:
            disks.work(place / "disk" / "a.h5", disk)
        except NeurosimError as error:
            code, words = error.exit_code, str(error)
        except BaseException as error:
            code, words = 99, repr(error)
        calls = disk.disk_calls()
        disk.disk_begin(b"", ctypes.c_long(0), 0, 0, b"")
        (place / "end").write_text(json.dumps([code, words, calls]))
        os._exit(0)
    os.waitpid(child, 0)
"""


class Failure(NamedTuple):
    """What a process left whose disk failed: its folder, exit code, last words, and calls."""

    folder: Path
    code: int
    words: str
    calls: int


def failed(so, folder, failures):
    """Of every failure (the call, the error, and whether it stays), what it led to."""
    tests = HERE.parent
    command = [sys.executable, "-c", CHILD, HERE, tests, folder, json.dumps(failures)]
    environment = os.environ | {"LD_PRELOAD": str(so)}
    subprocess.run(command, check=True, env=environment, capture_output=True, timeout=300)
    for call, number, _ in failures:
        place = folder / f"{call}-{number}"
        yield Failure(place / "disk", *json.loads((place / "end").read_text()))


EIO, FULL = (errno.EIO, 0), (errno.ENOSPC, 1)
"""A call that fails once, and a disk that is full from then on."""


# --- loss of power ------------------------------------------------------------------------------

CREATE, WRITE, TRUNCATE, SYNC, RENAME, UNLINK, MARK = range(7)
_HEAD = struct.Struct("<5Q")


class Event(NamedTuple):
    """A call that changed something."""

    kind: int
    inode: int
    at: int
    name: str
    data: bytes


def events(notes):
    """All that a process did to its disk, in order; a file that was made anew has a new inode."""
    content, at, inodes, found = notes.read_bytes(), 0, {}, []
    while at < len(content):
        kind, inode, where, length, size = _HEAD.unpack_from(content, at)
        at += _HEAD.size
        name, data = content[at : at + length].decode(), content[at + length : at + length + size]
        at += length + size
        if kind == CREATE:
            inodes[inode] = len(found)
        found.append(Event(kind, inodes.get(inode, 0), where, Path(name).name, data))
    return found


def after_loss(history, end, random, target):
    """Write into a folder what a disk may hold that lost power after so many events.

    What was synced is there. Of what was written since, every page has any of the states that it
    went through, whatever its neighbors have; a file is as long as it was at some time since. Names
    change in order, and those since the last sync of the folder or of any file may not have.
    Returns the last mark that was passed.
    """
    synced, names_at, mark = {}, 0, -1
    for n, event in enumerate(history[:end]):
        if event.kind == SYNC:
            synced[event.inode] = n
            if not event.name.endswith((".h5", ".part", ".checkpoint")):
                names_at = n
        elif event.kind == MARK:
            mark = event.at
    known = random.randint(names_at, end)
    names = {}
    for event in history[:known]:
        if event.kind == CREATE:
            names[event.name] = event.inode
        elif event.kind == RENAME:
            names[Path(event.data.decode()).name] = names.pop(event.name)
        elif event.kind == UNLINK:
            names.pop(event.name)
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    for name, inode in names.items():
        changes = [e for e in history[:end] if e.inode == inode and e.kind in (WRITE, TRUNCATE)]
        safe = sum(
            e.inode == inode and e.kind in (WRITE, TRUNCATE)
            for e in history[: synced.get(inode, 0)]
        )
        (target / name).write_bytes(_torn(changes, safe, random))
    return mark


def _torn(changes, safe, random):
    """What is left of a file of which so many changes are safe."""
    state, sizes, versions = bytearray(), [0], {}
    for n, event in enumerate(changes):
        if event.kind == TRUNCATE:
            state = state[: event.at].ljust(event.at, b"\0")
        else:
            end = event.at + len(event.data)
            state = state.ljust(end, b"\0")
            state[event.at : end] = event.data
        sizes.append(len(state))
        if n < safe:
            continue
        first = event.at // PAGE
        last = first if event.kind == TRUNCATE else (event.at + len(event.data) - 1) // PAGE
        for page in range(first, last + 1):
            versions.setdefault(page, []).append(bytes(state[page * PAGE : (page + 1) * PAGE]))
    found = _whole(changes[:safe])
    size = random.choice(sizes[safe:])
    for page, pages in versions.items():
        chosen = random.choice([None, *pages])
        if chosen is not None:
            start = page * PAGE
            found = found.ljust(start + len(chosen), b"\0")
            found[start : start + len(chosen)] = chosen
    return bytes(found[:size].ljust(size, b"\0"))


def killed(history, name):
    """What a process left of a file that was killed after so many events, on a disk that is sound.

    It was made under another name, with the same inode.
    """
    inode = next(e.inode for e in history if e.name == name)
    return bytes(_whole([e for e in history if e.inode == inode and e.kind in (WRITE, TRUNCATE)]))


def _whole(changes):
    state = bytearray()
    for event in changes:
        if event.kind == TRUNCATE:
            state = state[: event.at].ljust(event.at, b"\0")
        else:
            end = event.at + len(event.data)
            state = state.ljust(end, b"\0")
            state[event.at : end] = event.data
    return state

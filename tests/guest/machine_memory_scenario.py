# SPDX-License-Identifier: GPL-2.0-or-later
"""What the machine misses after commands that leak pages, and after commands that don't, in the guest.

machine_memory_scenario.py RESULT.json PAGES.KO LAB.KO COUNT: of each command, what is found as [name, bytes, sites]; of
those that leak nothing, COUNT.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

from kleaktrace.core.machine.unexplained_memory import Explained, explained_by
from kleaktrace.edge.machine.memory_counters import machine_memory, missing_since
from kleaktrace.session.live import live_session

_, RESULT, PAGES, LAB, COUNT = sys.argv
SETTLE_S = 1.5
PYTHON = "/usr/bin/python3 -c"
COMPILE = "echo 'int main(void) { return 0; }' > /tmp/a.c; gcc -O2 -o /tmp/a /tmp/a.c"

THREADS = "import threading as t, time; [t.Thread(target=time.sleep, args=(1,)).start() for _ in range(100)]"
SOCKETS = "import socket; [a.send(bytes(30000)) for a, b in [socket.socketpair() for _ in range(300)]]"


def files(directory: str, count: int) -> str:
    """A command that makes so many empty files."""
    return f'mkdir {directory}; {PYTHON} \'[open(f"{directory}/{{i}}", "w").close() for i in range({count})]\''


LEAKS = {
    "4 MiB of single pages": f"insmod {PAGES} count=1024; rmmod pages",
    "2,000 single pages": f"insmod {PAGES} count=2000; rmmod pages",
    "21 MB of large ones": f"insmod {PAGES} order=5 count=160; rmmod pages",
    "8 MiB, still loaded": f"insmod {PAGES} order=1 count=1024",
}
INNOCENTS = {
    "unload": "rmmod pages",
    "nothing": "true",
    "2,000 pages given back": f"insmod {PAGES} count=2000 keep=0; rmmod pages",
    "21 MB given back": f"insmod {PAGES} order=5 count=160 keep=0; rmmod pages",
    "a module five times": f"for i in 1 2 3 4 5; do insmod {LAB}; rmmod kleaktrace_lab; done",
    "compiling": COMPILE,
    "processes at a time": "for i in $(seq 100); do sleep 1 & done; wait",
    "200 MiB of its own": f"{PYTHON} 'bytearray(200 << 20)'",
    "sockets": f"{PYTHON} '{SOCKETS}'",
    "small files": files("/tmp/few", 2000) + "; rm -r /tmp/few",
    "its sysfs": f"insmod {LAB}; ls -R /sys/module/kleaktrace_lab > /dev/null; rmmod kleaktrace_lab",
    "names": "find /usr/lib/python3 -name x",
    "the same names": "find /usr/lib/python3 -name x",
    "other names": "ls -R /usr/share/doc/l* > /dev/null",
    "compiling again": f"for i in 1 2 3; do {COMPILE}; done",
    "python": f"{PYTHON} 'import json, email, http.client'",
    "processes one by one": "for i in $(seq 100); do /bin/true; done",
    "threads": f"{PYTHON} '{THREADS}'",
    "a file kept": "dd if=/dev/zero of=/tmp/kept bs=1M count=30 2> /dev/null",
    "a file removed": "rm /tmp/kept",
    "pipes": "dd if=/dev/zero bs=1M count=50 2> /dev/null | cat | cat > /dev/null",
    "network namespaces": "for i in 1 2 3 4 5; do unshare -n ip link set lo up; done",
    "a mount": "mkdir -p /tmp/m; mount -t tmpfs none /tmp/m; cp -r /usr/include/linux /tmp/m; umount /tmp/m",
    "reading much": "tar cf - /usr/include/linux | cat > /dev/null",
}


def found(command: str, *, blind: bool = False) -> list[list[object]]:
    """What is missing after a command; `blind`: as if none of its allocations had been seen."""
    before, known = machine_memory(), explained()
    subprocess.run(["sh", "-c", command], check=True)
    time.sleep(SETTLE_S)
    missing = missing_since(before, known, (lambda: known) if blind else explained)
    print(command[:80], *missing, sep="\n    ")
    return [[one.name, one.bytes, [site for site, _ in one.sites]] for one in missing]


sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
with live_session() as session:

    def explained() -> Explained:
        """What is outstanding now."""
        return explained_by(session.counts().outstanding)

    found("true")
    result = {
        "leaks": {name: found(command) for name, command in LEAKS.items()},
        "innocents": {name: found(command) for name, command in list(INNOCENTS.items())[: int(COUNT)]},
        "seen": found(files("/tmp/many", 8000)),
        "unseen": found(files("/tmp/others", 8000), blind=True),
        "loss": [[lost.cause, lost.events] for lost in session.loss.causes],
    }
Path(RESULT).write_text(json.dumps(result))

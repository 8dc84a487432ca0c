# SPDX-License-Identifier: GPL-2.0-or-later
"""The guest: boots a built kernel under QEMU, runs one command in it, and ends it."""

from __future__ import annotations

import contextlib
import os
import select
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from guest_lib.architectures import X86_64
from guest_lib.command_line import Options
from guest_lib.distribution_kernel import SUITES, distribution_kernel
from guest_lib.errors import GUEST_DIED, GuestError
from guest_lib.kernel_build import build_tree, venv_program
from guest_lib.paths import PROJECT, share_path
from guest_lib.user_land import VENV, user_land

SHARES = "/run/kleaktrace"
KEPT = "version=9p2000.L,trans=virtio,access=any,msize=512000,cache=loose"
"""How 9p is mounted where pages are kept, and names: without, a program is read anew whenever it is run."""
CONSOLE_TAIL_LINES = 100
# Runs in the guest before and around CMD. What virtme-ng mounts under SHARES is bound to its own path after
# /tmp is covered, so that a project or a shared directory below /tmp is seen.
# Output goes through pipes: a program may reopen /dev/stderr, and reopening a plain file would truncate it.
# The clock at the end is for a host side that was killed: nobody else would end the guest then.
GUEST_SCRIPT = """\
io={shares}/io
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs /tmp
mountpoint -q /sys/fs/bpf || mount -t bpf bpf /sys/fs/bpf
mountpoint -q /sys/kernel/debug || mount -t debugfs debugfs /sys/kernel/debug
mountpoint -q /sys/kernel/tracing || mount -t tracefs tracefs /sys/kernel/tracing
share() {{ mkdir -p "$2" && mount --bind "$1" "$2"; }}
keep() {{
    local tag at _
    while read -r tag at _; do
        if [[ $at == "$1" ]]; then  # once: what is mounted here comes up again at the end of the list
            umount "$1" && mount -t 9p -o ro,{kept} "$tag" "$1"
            return
        fi
    done < /proc/mounts
}}
{binds}
ln -sfn /proc/self/fd/1 /dev/stdout
ln -sfn /proc/self/fd/2 /dev/stderr
mkfifo {shares}/stdout {shares}/stderr
cat {shares}/stdout > $io/stdout & stdout_cat=$!
cat {shares}/stderr > $io/stderr & stderr_cat=$!
(sleep {orphan_s}; echo o > /proc/sysrq-trigger) > /dev/null 2>&1 &
[[ ! -d /{venv} ]] || mount --bind /{venv} {project}/.venv
cd {project}
env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 \\
    PYTHONDONTWRITEBYTECODE=1 XDG_CACHE_HOME={cache} \\
    {variables} {command} < /dev/null > {shares}/stdout 2> {shares}/stderr
status=$?
# A daemon that CMD leaves behind keeps the pipes open: don't wait for it for ever.
for _ in $(seq 20); do kill -0 $stdout_cat $stderr_cat 2> /dev/null || break; sleep 0.1; done
sync
echo $status > $io/status.new
mv $io/status.new $io/status
sleep 60
"""


class Guest:
    """One running guest: its processes, its private directory of files shared with the host, its console."""

    def __init__(self, options: Options, files: BootFiles, private: Path) -> None:
        self.deadline = time.monotonic() + options.timeout_s
        self.timeout_s = options.timeout_s
        self.status_file = private / "status"
        self.console: deque[bytes] = deque(maxlen=CONSOLE_TAIL_LINES)
        self.partial_line = b""
        for name in ("stdout", "stderr"):
            (private / name).touch()
        self.streams: list[tuple[BinaryIO, BinaryIO]] = [
            ((private / "stdout").open("rb"), sys.stdout.buffer),
            ((private / "stderr").open("rb"), sys.stderr.buffer),
        ]
        (private / "run").write_text(guest_script(options, files))
        environment = {
            "PATH": f"{PROJECT}/.venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            # virtme-ng keeps a configuration under HOME and its temporary files under TMPDIR.
            "HOME": str(private),
            "TMPDIR": str(private),
            "LANG": "C.UTF-8",
        }
        self.process = subprocess.Popen(
            vng_command(options, files, private),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        self.console_pipe = self.process.stdout.fileno()
        os.set_blocking(self.console_pipe, False)

    def run(self) -> int:
        """Pass output on until CMD ends, and return its exit status; raise if the guest dies before."""
        while True:
            gone = self.process.poll() is not None
            finished = self.status_file.exists()
            self.read_console(wait_s=0 if gone or finished else 0.1)
            self.pass_output_on()
            if finished:
                return int(self.status_file.read_text())
            if gone:
                raise self.died("the guest died before the command ended")
            if time.monotonic() > self.deadline:
                raise self.died(f"the guest ran out of time after {self.timeout_s:g} s (--timeout)")

    def read_console(self, wait_s: float) -> None:
        """Keep the last lines of the console."""
        if not select.select([self.console_pipe], [], [], wait_s)[0]:
            return
        data = b""
        with contextlib.suppress(BlockingIOError):
            data = os.read(self.console_pipe, 1 << 16)
        if not data:
            time.sleep(wait_s)
        *lines, self.partial_line = (self.partial_line + data).split(b"\n")
        self.console.extend(lines)

    def pass_output_on(self) -> None:
        """Copy what CMD has written since the last call."""
        for source, sink in self.streams:
            data = source.read()
            if data:
                sink.write(data)
                sink.flush()

    def died(self, what: str) -> GuestError:
        """Return the error for a dead guest, with the end of its console."""
        lines = [line.decode(errors="replace").strip("\r") for line in (*self.console, self.partial_line)]
        tail = "\n".join(printable(line) for line in lines if line.strip())
        return GuestError(f"{what}; its console ended with:\n{tail}", status=GUEST_DIED)

    def end(self) -> None:
        """Kill virtme-ng and QEMU, which share a process group. What CMD wrote is on the host already."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        for source, _ in self.streams:
            source.close()


def printable(line: str) -> str:
    """Return a console line without what would steer the terminal."""
    return "".join(character if character.isprintable() else "?" for character in line)


@dataclass(frozen=True)
class BootFiles:
    """What a guest is booted from.

    `run`: what virtme-ng is to run, a build tree or an image. `cache`: what guests of this kernel have for
    XDG_CACHE_HOME. `tree`: the build tree, if there is one. `root`: programs of its own; None: this machine's.
    """

    run: Path
    cache: Path
    tree: Path | None = None
    root: Path | None = None


def boot_files(options: Options) -> BootFiles:
    """Return what the command line asks for, building or unpacking it first where it is not yet there."""
    if options.kernel in SUITES:
        image, root = distribution_kernel(options.kernel)
        return BootFiles(image, root.parent / "cache", root=root)
    tree = build_tree(options.kernel, options.architecture, options.fragments)
    programs = None if options.architecture is X86_64 else user_land(options.architecture)
    return BootFiles(tree, tree.parent / "cache", tree, programs)


def shares(options: Options, files: BootFiles) -> list[tuple[str, Path, bool]]:
    """Return (name, directory, writable) of what must be seen though /tmp and /var/cache are covered."""
    ours = [("project", PROJECT, False), ("cache", files.cache, True)]
    ours += [] if files.tree is None else [("kernel", files.tree, False)]
    return ours + [(f"rw{number}", path, True) for number, path in enumerate(options.rwdirs)]


def guest_script(options: Options, files: BootFiles) -> str:
    """Return the shell script that the guest runs."""
    every = shares(options, files)
    binds = [f"keep {SHARES}/{name}" for name, _, writable in every if options.keep_files and not writable]
    binds += [f"share {SHARES}/{name} {shlex.quote(str(path))}" for name, path, _ in every]
    return GUEST_SCRIPT.format(
        shares=SHARES,
        kept=KEPT,
        binds="\n".join(binds),
        orphan_s=int(options.timeout_s) + 60,
        project=shlex.quote(str(PROJECT)),
        cache=shlex.quote(str(files.cache)),
        command=shlex.join(options.command),
        venv=VENV,
        # With programs of its own there is no virtual environment that knows where the project is.
        variables="" if files.root is None else f"PYTHONPATH={shlex.quote(str(PROJECT))}",
    )


def vng_command(options: Options, files: BootFiles, private: Path) -> list[str]:
    """Return the command line of virtme-ng."""
    command = [str(venv_program("vng")), "--run", str(files.run), "--user", "root", "--verbose"]
    # Emulated even where KVM is at hand: the same guest everywhere. 9p: Debian 12's virtiofsd is the old one,
    # and virtme-ng waits three seconds for it in vain.
    # One thread for all processors: with one each, a processor now and then ran code that another had patched, a
    # breakpoint for instance that was gone, and the kernel died of it. It is no slower.
    command += [f"--qemu-opts={options.architecture.qemu} -accel tcg,thread=single", *options.architecture.virtme]
    command += ["--root", str(files.root)] if files.root else []
    command += ["--disable-kvm", "--force-9p", "--cpus", str(options.cpus), "--memory", options.memory]
    command += [f"--rwdir={SHARES}/io={private}"]
    for name, path, writable in shares(options, files):
        command.append(f"--{'rwdir' if writable else 'rodir'}={SHARES}/{name}={path}")
    # Allocation profiling only on demand: where it counts, the data of a module that leaks is never freed, and
    # its stale pointers hide the leaks from kmemleak.
    kept = (f"rootflags={KEPT}",) if options.keep_files else ()
    for parameter in ("oops=panic", "sysctl.vm.mem_profiling=0", *kept, *options.append):
        command += ["--append", parameter]
    return [*command, "--exec", f"bash {SHARES}/io/run"]


def run_in_guest(options: Options, files: BootFiles) -> int:
    """Boot, run CMD, and clean up whatever happens."""
    share_path(str(PROJECT), "the project")
    files.cache.mkdir(exist_ok=True)
    if files.root is not None:
        # Where they are seen; what lies below /tmp has its place made in the guest's own.
        for path in (path for _, path, _ in shares(options, files) if not path.is_relative_to("/tmp")):
            (files.root / path.relative_to("/")).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="kleaktrace-guest-", dir="/tmp") as name:
        guest = Guest(options, files, Path(name))
        try:
            return guest.run()
        finally:
            guest.end()

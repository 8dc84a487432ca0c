# SPDX-License-Identifier: GPL-2.0-or-later
"""The guest: boots a built kernel under QEMU, runs one command in it or a shell, and ends it."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import tempfile
import termios
import time
from collections import deque
from pathlib import Path
from typing import BinaryIO

from guest_lib.boot_files import BootFiles
from guest_lib.command_line import Options
from guest_lib.errors import GUEST_DIED, GuestError
from guest_lib.guest_script import guest_script
from guest_lib.kernel_build import venv_program
from guest_lib.paths import PROJECT, share_path
from guest_lib.progress import Progress
from guest_lib.shares import KEPT, SHARES, qemu_options, shares

CONSOLE_TAIL_LINES = 100
# An interactive virtme-ng would wait for ever beside a kernel that has panicked.
ENDS_ON_PANIC = "panic=-1"


class Guest:
    """One running guest: its processes, and its private directory of files shared with the host."""

    def __init__(self, options: Options, files: BootFiles, private: Path) -> None:
        self.deadline = time.monotonic() + options.timeout_s
        self.timeout_s = options.timeout_s
        self.status_file = private / "status"
        for name in ("stdout", "stderr"):
            (private / name).touch()
        self.streams: list[tuple[BinaryIO, BinaryIO]] = [
            ((private / "stdout").open("rb"), sys.stdout.buffer),
            ((private / "stderr").open("rb"), sys.stderr.buffer),
        ]
        script = private / "run"
        script.write_text(guest_script(options, files))
        script.chmod(0o755)
        self.booting = Progress()
        self.process = self.start(vng_command(options, files, private), vng_environment(private))

    def start(self, command: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
        """Start virtme-ng in a session of its own, so that all of it can be killed."""
        raise NotImplementedError

    def run(self) -> int:
        """Pass output on until CMD ends, and return its exit status; raise if the guest dies before."""
        while True:
            gone = self.process.poll() is not None
            finished = self.status_file.exists()
            self.look_at_console(wait_s=0 if gone or finished else 0.1)
            self.pass_output_on()
            if self.booting.is_live:
                self.booting.tell("booting, {}".format)
            if finished:
                return int(self.status_file.read_text())
            if gone:
                raise self.died("the guest died before the command ended")
            if time.monotonic() > self.deadline:
                raise self.died(f"the guest ran out of time after {self.timeout_s:g} s (--timeout)")

    def look_at_console(self, wait_s: float) -> None:
        """Look whether there is something on the console, at most so long."""
        raise NotImplementedError

    def died(self, what: str) -> GuestError:
        """Return the error for a dead guest."""
        raise NotImplementedError

    def pass_output_on(self) -> None:
        """Copy what CMD has written since the last call."""
        for source, sink in self.streams:
            data = source.read()
            if data:
                self.booting.end()
                sink.write(data)
                sink.flush()

    def end(self) -> None:
        """Kill virtme-ng and QEMU, which share a process group. What CMD wrote is on the host already."""
        self.booting.end()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        for source, _ in self.streams:
            source.close()


class CommandGuest(Guest):
    """A guest that runs CMD; the end of its console is kept."""

    def start(self, command: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
        """Start it with its console in a pipe."""
        self.console: deque[bytes] = deque(maxlen=CONSOLE_TAIL_LINES)
        self.partial_line = b""
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
        assert process.stdout is not None
        self.console_pipe = process.stdout.fileno()
        os.set_blocking(self.console_pipe, False)
        return process

    def look_at_console(self, wait_s: float) -> None:
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

    def died(self, what: str) -> GuestError:
        """Return the error for a dead guest, with the end of its console."""
        lines = [line.decode(errors="replace").strip("\r") for line in (*self.console, self.partial_line)]
        tail = "\n".join(printable(line) for line in lines if line.strip())
        return GuestError(f"{what}; its console ended with:\n{tail}", status=GUEST_DIED)


class ShellGuest(Guest):
    """A guest whose console is this terminal."""

    def start(self, command: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
        """Start it on this terminal, which QEMU takes for itself; `end` gives it back as it was."""
        self.booting.end()  # its own console tells
        self.terminal = termios.tcgetattr(0)
        environment["TERM"] = os.environ.get("TERM", "linux")
        return subprocess.Popen(command, env=environment, start_new_session=True)

    def look_at_console(self, wait_s: float) -> None:
        """Wait: what is on it is on this terminal."""
        time.sleep(wait_s)

    def died(self, what: str) -> GuestError:
        """Return the error for a dead guest."""
        return GuestError(what, status=GUEST_DIED)

    def end(self) -> None:
        """Kill it, and give the terminal back."""
        super().end()
        termios.tcsetattr(0, termios.TCSADRAIN, self.terminal)


def printable(line: str) -> str:
    """Return a console line without what would steer the terminal."""
    return "".join(character if character.isprintable() else "?" for character in line)


def vng_environment(private: Path) -> dict[str, str]:
    """Return the environment of virtme-ng."""
    return {
        "PATH": f"{PROJECT}/.venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        # virtme-ng keeps a configuration under HOME and its temporary files under TMPDIR.
        "HOME": str(private),
        "TMPDIR": str(private),
        "LANG": "C.UTF-8",
    }


def vng_command(options: Options, files: BootFiles, private: Path) -> list[str]:
    """Return the command line of virtme-ng."""
    architecture = files.architecture
    command = [str(venv_program("vng")), "--run", str(files.run), "--user", "root", *architecture.virtme]
    # Emulated even where KVM is at hand: the same guest everywhere. 9p: Debian 12's virtiofsd is the old one,
    # and virtme-ng waits three seconds for it in vain.
    # One thread for all processors: with one each, a processor now and then ran code that another had patched, a
    # breakpoint for instance that was gone, and the kernel died of it. It is no slower.
    qemu = f"{architecture.qemu} -accel tcg,thread=single {qemu_options(shares(options, files), architecture.bus)}"
    command += [f"--qemu-opts={qemu}{' -no-reboot' if options.shell else ''}"]
    command += ["--root", str(files.root)] if files.root else []
    command += ["--disable-kvm", "--force-9p", "--cpus", str(options.cpus), "--memory", options.memory]
    command += [f"--rwdir={SHARES}/io={private}"]
    for parameter in kernel_parameters(options, files):
        command += ["--append", parameter]
    if options.shell:
        return [*command, "--shell", f"{SHARES}/io/run"]
    return [*command, "--verbose", "--exec", f"bash {SHARES}/io/run"]


def kernel_parameters(options: Options, files: BootFiles) -> list[str]:
    """Return the kernel's parameters beside virtme-ng's; of one that comes twice, the last counts."""
    # A kernel may be configured to panic on an Oops, too.
    oops = "sysctl.kernel.panic_on_oops=0" if options.no_panic else "oops=panic"
    kept = [f"rootflags={KEPT}"] if options.keep_files else []
    return [oops, *files.parameters, *kept, *([ENDS_ON_PANIC] if options.shell else []), *options.append]


def run_in_guest(options: Options, files: BootFiles) -> int:
    """Boot, run CMD or a shell, and clean up whatever happens."""
    share_path(str(PROJECT), "the project")
    files.cache.mkdir(exist_ok=True)
    if files.root is not None:
        # Where they are seen; what lies below /tmp has its place made in the guest's own.
        for path in (share.at for share in shares(options, files) if not share.at.is_relative_to("/tmp")):
            (files.root / path.relative_to("/")).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="kleaktrace-guest-", dir="/tmp") as name:
        guest = (ShellGuest if options.shell else CommandGuest)(options, files, Path(name))
        try:
            return guest.run()
        finally:
            guest.end()

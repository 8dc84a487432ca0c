# SPDX-License-Identifier: GPL-2.0-or-later
"""The script that the guest runs: what it mounts, and how it runs CMD or a shell."""

from __future__ import annotations

import math
import shlex

from guest_lib.boot_files import BootFiles
from guest_lib.command_line import Options
from guest_lib.paths import PROJECT
from guest_lib.shares import SHARES, mount_commands, shares
from guest_lib.user_land import VENV

# Runs in the guest before and around CMD, as root.
_SETUP = """\
#!/bin/bash
io={shares}/io
finish() {{
    sync
    echo "$1" > $io/status.new
    mv $io/status.new $io/status
    sleep 60
    exit
}}
fail() {{
    echo "guest: $*" >> $io/stderr
    finish 255
}}
share() {{ # TAG PATH OPTIONS
    mkdir -p "$2" && mount -t 9p -o "$3" "$1" "$2" || fail "$2 cannot be mounted"
}}
copy() {{ # FROM TO
    mkdir -p "$2" && mount -t tmpfs -o mode=0755 tmpfs "$2" && cp -a "$1/." "$2" ||
        fail "$2 cannot be copied to memory (--memory)"
}}
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs /tmp
mountpoint -q /sys/fs/bpf || mount -t bpf bpf /sys/fs/bpf
mountpoint -q /sys/kernel/debug || mount -t debugfs debugfs /sys/kernel/debug
mountpoint -q /sys/kernel/tracing || mount -t tracefs tracefs /sys/kernel/tracing
{mounts}
{modules}
{sources}
[[ ! -d /{venv} ]] || mount --bind /{venv} {project}/.venv
"""
# virtme-ng links the kernel's modules only where the guest has this machine's programs.
_MODULES = """\
if [[ ! -e /lib/modules/$(uname -r) ]]; then
    mkdir -p /lib/modules && mount -t tmpfs tmpfs /lib/modules && ln -s {index} "/lib/modules/$(uname -r)"
fi"""
# Where kleaktrace looks for debug information, and so has source lines of what was built.
_SOURCES = """\
debug=/usr/lib/debug/lib/modules/$(uname -r)
mkdir -p $debug 2> /dev/null && find {module} -name '*.ko' -exec ln -sf -t $debug {{}} +"""
# The clock is for a host side that was killed: nobody else would end the guest then.
_CLOCK = "(sleep {seconds}; echo o > /proc/sysrq-trigger; poweroff -f) > /dev/null 2>&1 &\n"
# Output goes through pipes: a program may reopen /dev/stderr, and reopening a plain file would truncate it.
_COMMAND = """\
ln -sfn /proc/self/fd/1 /dev/stdout
ln -sfn /proc/self/fd/2 /dev/stderr
mkfifo {shares}/stdout {shares}/stderr
cat {shares}/stdout > $io/stdout & stdout_cat=$!
cat {shares}/stderr > $io/stderr & stderr_cat=$!
cd {directory}
{environment} {command} < /dev/null > {shares}/stdout 2> {shares}/stderr
status=$?
# A daemon that CMD leaves behind keeps the pipes open: don't wait for it for ever.
for _ in $(seq 20); do kill -0 $stdout_cat $stderr_cat 2> /dev/null || break; sleep 0.1; done
finish $status
"""
_SHELL = """\
cd {directory}
{environment} TERM="$TERM" PS1='guest \\w# ' bash --norc -i
finish $?
"""


def guest_script(options: Options, files: BootFiles) -> str:
    """Return the shell script that the guest runs."""
    project = shlex.quote(str(PROJECT))
    text = _SETUP.format(
        shares=SHARES,
        mounts=mount_commands(shares(options, files), keep_files=options.keep_files),
        modules=_MODULES.format(index=shlex.quote(str(files.module_index))) if files.module_index else "",
        sources="\n".join(_SOURCES.format(module=shlex.quote(str(module))) for module, _ in files.modules),
        venv=VENV,
        project=project,
    )
    if math.isfinite(options.timeout_s):
        text += _CLOCK.format(seconds=int(options.timeout_s) + 60)
    return text + (_SHELL if options.shell else _COMMAND).format(
        shares=SHARES,
        directory=shlex.quote(str(files.modules[0][0] if files.modules else PROJECT)),
        environment=_environment(files),
        command=shlex.join(options.command),
    )


def _environment(files: BootFiles) -> str:
    """Return the command that runs another with nothing but this in its environment."""
    # Last in PATH: what is of the distribution stays so, and kleaktrace is found.
    path = f"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:{PROJECT}/.venv/bin"
    variables = [f"PATH={path}", "HOME=/root", "LANG=C.UTF-8", "PYTHONDONTWRITEBYTECODE=1"]
    variables.append(f"XDG_CACHE_HOME={files.cache}")
    if files.root is not None:
        # With programs of its own there is no virtual environment that knows where the project is.
        variables.append(f"PYTHONPATH={PROJECT}")
    return shlex.join(["env", "-i", *variables])

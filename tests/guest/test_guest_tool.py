# SPDX-License-Identifier: GPL-2.0-or-later
"""tools/guest itself: what goes in, what comes out, and what happens when the guest dies."""

from __future__ import annotations

import contextlib
import subprocess
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from guest_tool import PROJECT, Guest, build_module, run_tool

pytestmark = pytest.mark.guest

HELLO_MODULE = """
#include <linux/module.h>
static int __init hello_init(void) { pr_info("hello from the guest\\n"); return 0; }
static void __exit hello_exit(void) { }
module_init(hello_init);
module_exit(hello_exit);
MODULE_LICENSE("GPL");
"""


def test_output_and_environment_of_a_command(guest: Guest, tmp_path: Path) -> None:
    outside = Path("/tmp") / f"kleaktrace-outside-{uuid.uuid4().hex}"
    root_file = Path("/root") / outside.name
    more = [tmp_path / f"more-{number}" for number in range(3)]
    for directory in more:
        directory.mkdir()
    script = f"""
        pwd; id -u; uname -r
        echo to stderr > /dev/stderr
        echo first; echo second > /dev/stdout; echo third
        touch {outside} && echo tmp is writable
        echo shared > {tmp_path}/answer
        for at in {" ".join(map(str, more))}; do echo shared > $at/too; done
        touch {root_file} 2> /dev/null || echo root is read-only
        touch {PROJECT}/pyproject.toml 2> /dev/null || echo project is read-only
        for at in /sys/kernel/debug /sys/kernel/tracing /sys/kernel/security /sys/fs/bpf /sys /dev/shm; do
            mountpoint -q $at || echo $at is not mounted
        done
        ip addr show lo | grep -q 127.0.0.1 && echo loopback is up
        exit 77
    """
    result = guest("sh", "-c", script, rwdirs=[tmp_path, *more])
    assert result.stderr == "to stderr\n"
    lines = result.stdout.splitlines()
    assert lines[:2] == [str(PROJECT), "0"]
    assert lines[2].endswith("-kleaktrace")
    assert lines[3:] == [
        "first",
        "second",
        "third",
        "tmp is writable",
        "root is read-only",
        "project is read-only",
        "loopback is up",
    ]
    assert result.status == 77
    assert (tmp_path / "answer").read_text() == "shared\n"
    assert [(directory / "too").exists() for directory in more] == [True] * 3
    assert not outside.exists(), "the guest's /tmp must not be the host's"
    assert not root_file.exists()


def test_arguments_arrive_word_by_word(guest: Guest) -> None:
    words = ["two words", "$HOME", "it's", "", "-x", "--", "ü\n*"]
    result = guest("/usr/bin/python3", "-c", "import sys; print(sys.argv[1:])", *words)
    assert (result.status, result.stdout) == (0, f"{words}\n")


def test_a_panic_is_255_with_the_console(guest: Guest) -> None:
    result = guest("sh", "-c", "echo before; sleep 1; echo c > /proc/sysrq-trigger; sleep 60; exit 0")
    assert result.status == 255
    assert result.stdout == "before\n"
    assert "the guest died" in result.stderr
    assert "Kernel panic - not syncing: sysrq triggered crash" in result.stderr


def test_running_out_of_time_is_255_with_the_console(guest: Guest) -> None:
    result = guest("sleep", "1000", timeout_s=15)
    assert result.status == 255
    assert "ran out of time after 15 s" in result.stderr
    assert "Linux version" in result.stderr or "virtme" in result.stderr


def test_two_guests_do_not_disturb_each_other(guest: Guest, tmp_path: Path) -> None:
    def run(name: str) -> tuple[int, str]:
        own = tmp_path / name
        own.mkdir()
        script = f"echo {name} > /tmp/mine; sleep 3; cat /tmp/mine; cp /tmp/mine {own}/; exit {len(name)}"
        result = guest("sh", "-c", script, rwdirs=[own])
        return result.status, result.stdout + (own / "mine").read_text()

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(run, ["one", "other"])) == [(3, "one\none\n"), (5, "other\nother\n")]


def test_kmemleak_is_on_unless_told_otherwise(guest: Guest) -> None:
    # A word that is no command is EINVAL where kmemleak works, EPERM or EBUSY where it does not.
    probe = "open('/sys/kernel/debug/kmemleak', 'wb', 0).write(b'nonsense')"
    on = guest("/usr/bin/python3", "-c", probe)
    assert "[Errno 22]" in on.stderr
    off = guest("/usr/bin/python3", "-c", probe, append=["kmemleak=off"])
    assert "[Errno 1]" in off.stderr or "[Errno 16]" in off.stderr


def test_build_dir_builds_a_module_that_loads(guest: Guest, kernel_tree: Path, tmp_path: Path) -> None:
    source = tmp_path / "hello_source"
    source.mkdir()
    (source / "hello.c").write_text(HELLO_MODULE)
    (source / "Makefile").write_text("obj-m := hello.o\n")
    module = tmp_path / "hello.ko"
    module.write_bytes((build_module(source, kernel_tree) / "hello.ko").read_bytes())
    script = f"insmod {module} && dmesg | grep -o 'hello from the guest' && test -e /sys/kernel/btf/hello"
    result = guest("sh", "-c", script, rwdirs=[tmp_path])
    assert (result.status, result.stdout) == (0, "hello from the guest\n"), result.stderr


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--config", "/nowhere", "--", "true"), "no such file"),
        ((), "give either a command after --"),
        (("--build-dir", "--", "true"), "give either a command after --"),
        (("--memory", "lots", "--", "true"), "--memory lots"),
        (("--append", "a b", "--", "true"), "--append 'a b'"),
        (("--rwdir", "/nonexistent", "--", "true"), "no such directory"),
        (("--kernel", "debian12", "--build-dir"), "that release's own"),
        (("--kernel", "debian12", "--arch", "arm64", "--", "true"), "that release's own"),
    ],
)
def test_wrong_usage_is_refused_with_2(arguments: tuple[str, ...], complaint: str) -> None:
    result = run_tool(*arguments, timeout_s=60)
    assert result.status == 2
    assert complaint in result.stderr
    assert result.stdout == ""


def test_a_terminated_tool_leaves_no_guest_behind(kernel_tree: Path, tmp_path: Path) -> None:
    tool = subprocess.Popen(
        [
            *(str(PROJECT / "tools" / "guest"), f"--rwdir={tmp_path}", "--", "sh", "-c"),
            f"touch {tmp_path}/started; echo started; sleep 1000",
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert tool.stdout is not None
    assert tool.stdout.readline() == "started\n"
    assert processes_that_name(f"path={tmp_path}")
    tool.terminate()
    assert tool.wait(timeout=30) == 128 + 15
    tool.stdout.close()
    assert not processes_that_name(f"path={tmp_path}"), "QEMU shares the directory, and so still runs"


def processes_that_name(text: str) -> list[str]:
    """Return the command lines that hold a text."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        # A process may end while we look.
        with contextlib.suppress(OSError):
            lines.append(path.read_bytes().decode(errors="replace"))
    return [line for line in lines if text in line]

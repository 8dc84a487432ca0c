# SPDX-License-Identifier: GPL-2.0-or-later
"""run, doctor and the wheel on the running kernel."""

from __future__ import annotations

import json
import os
import pwd
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from host_tools import KLEAKTRACE, PROJECT, check_books, kleaktrace, read_json, trace
from schemas import validated

pytestmark = pytest.mark.host

NOBODY = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups")
KMEMLEAK = Path("/sys/kernel/debug/kmemleak")
without_kmemleak = pytest.mark.skipif(KMEMLEAK.exists(), reason="this kernel has kmemleak; the guest tests use it")


@without_kmemleak
def test_run_without_kmemleak_says_what_that_costs(tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    done = kleaktrace(tmp_path, "run", "--json", file, "--", "sh", "-c", "exit 7")
    assert done.status == 4
    for text in (done.stderr, done.stdout):
        assert "without kmemleak" in text
        assert "kmemleak, which says what nobody points to any more: only what unloaded modules and" in text
        assert "tools/guest" in text
    assert "the command failed: exit status 7" in done.stdout
    assert "incomplete" in done.stdout.splitlines()[-1]
    document = read_json(file)
    check_books(document)
    assert document["verdict"] == "incomplete"
    assert document["command"] == {"arguments": ["sh", "-c", "exit 7"], "status": 7}
    assert document["suspects"] == []


def test_run_without_scans(tmp_path: Path) -> None:
    done = kleaktrace(tmp_path, "run", "--no-kmemleak", "--", "true")
    assert done.status == 0, done.stdout
    assert done.complaints == []
    assert done.stdout.splitlines()[-1].startswith("clean")


def test_run_ends_the_command_when_its_time_is_up_and_reports(tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    done = kleaktrace(
        tmp_path, "run", "--no-kmemleak", "--timeout", "1", "--repeat", "3", "--json", file, "--", "sleep", "1000"
    )
    assert validated(json.loads(file.read_text()))["runs"] == {"total": 1, "failed": 1, "timed_out": True}
    assert "its time was up" in done.stdout


def test_a_command_is_run_as_whoever_called_sudo_and_its_output_kept_apart(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    nobody = pwd.getpwnam("nobody")
    monkeypatch.setenv("SUDO_UID", str(nobody.pw_uid))
    says = 'id -u; id -g; id -G; echo $HOME; pwd; test -w "$KLEAKTRACE_MARKS" && echo marks; echo to stderr >&2'
    options = ("--no-kmemleak", "--as-user", "--log", tmp_path / "log", "--json", tmp_path / "run.json")
    done = kleaktrace(tmp_path, "run", *options, "--", "sh", "-c", says)
    # What others have going on this machine may keep it from being called clean.
    assert read_json(tmp_path / "run.json")["command"]["status"] == 0, done.stderr
    ids = [str(nobody.pw_uid), str(nobody.pw_gid), str(nobody.pw_gid)]
    log = tmp_path / "log"
    assert log.read_text().splitlines() == [*ids, nobody.pw_dir, str(Path.cwd()), "marks", "to stderr"]
    assert log.stat().st_uid == nobody.pw_uid
    assert "to stderr" not in done.stderr
    monkeypatch.delenv("SUDO_UID")
    refused = kleaktrace(tmp_path, "run", "--as-user", "--", "true")
    assert (refused.status, refused.stderr.count("\n")) == (2, 2)


def test_marks_inside_the_command_are_rounds(tmp_path: Path) -> None:
    mark = f"{sys.executable} -m kleaktrace mark probe"
    file = tmp_path / "run.json"
    done = kleaktrace(tmp_path, "run", "--no-kmemleak", "--json", file, "--", "sh", "-c", f"{mark} && {mark}")
    # What others have going on this machine may grow from mark to mark, and keep it from being called clean.
    assert read_json(file)["command"]["status"] == 0, done.stderr
    outside = kleaktrace(tmp_path, "mark", "probe")
    assert (outside.status, "nothing to mark" in outside.stderr) == (2, True)


def test_run_prints_json_only(tmp_path: Path) -> None:
    done = kleaktrace(tmp_path, "run", "--no-kmemleak", "--json", "-", "--", "true")
    assert done.status == 0
    document = validated(json.loads(done.stdout))
    check_books(document)
    assert document["command"]["status"] == 0
    assert "clean" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--", "no-such-command-of-ours"), "there is no command 'no-such-command-of-ours'"),
        (("--json", "/no/such/directory/file", "--", "touch", "{ran}"), "/no/such/directory/file: "),
        ((), "Missing argument"),
    ],
)
def test_run_refuses_before_anything_runs(arguments: tuple[str, ...], said: str, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    done = kleaktrace(tmp_path, "run", "--no-kmemleak", *(word.format(ran=ran) for word in arguments))
    assert done.status == 2
    assert said in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert not ran.exists()


def test_trace_prints_json_only(tmp_path: Path) -> None:
    done = kleaktrace(tmp_path, "trace", "--duration", 1, "--json", "-")
    assert done.status == 0
    check_books(validated(json.loads(done.stdout)))


def test_doctor_mounts_what_is_not_mounted(tmp_path: Path) -> None:
    """In a mount namespace of its own, where nothing is."""
    unmount = "umount -q /sys/kernel/debug/tracing /sys/kernel/tracing /sys/kernel/debug"
    again = f"{shlex.join(KLEAKTRACE)} doctor --fix"
    alone = ("unshare", "--mount", "sh", "-c", f'{unmount} 2> /dev/null; "$@" && {again} > /dev/null', "sh")
    done = kleaktrace(tmp_path, "doctor", "--fix", "--json", prefix=alone)
    checks = {check["name"]: check["health"] for check in validated(json.loads(done.stdout))["checks"]}
    assert (checks["tracefs"], checks["debugfs"]) == ("ok", "ok")
    fixed = ["mount -t tracefs none /sys/kernel/tracing", "mount -t debugfs none /sys/kernel/debug"]
    assert done.stderr.splitlines() == [f"kleaktrace: done: {command}" for command in fixed], "and only once"


def test_doctor(tmp_path: Path) -> None:
    done = kleaktrace(tmp_path, "doctor", "--json")
    assert done.status == 0
    document = validated(json.loads(done.stdout))
    assert document["tracing"] is True
    checks = {check["name"]: check for check in document["checks"]}
    for name in ("privilege", "BTF", "bcc", "symbols", "probe: kmalloc", "probe: kfree"):
        assert checks[name]["health"] == "ok"
    for check in checks.values():
        assert check["found"]
        assert check["health"] == "ok" or check["fix"] or check["name"].startswith("probe: ")
    text = kleaktrace(tmp_path, "doctor")
    assert text.status == 0
    assert "Tracing works here" in text.stdout or "Everything works here" in text.stdout
    assert "\x1b" not in text.stdout


# As on most machines, and not readable by others.
WITH_TRACEFS = ("unshare", "--mount", "sh", "-c", 'mount -t tracefs tracefs /sys/kernel/tracing; exec "$@"', "sh")


@pytest.mark.parametrize("mounts", [(), WITH_TRACEFS])
@pytest.mark.parametrize("command", [("doctor",), ("trace", "--duration", "1"), ("run", "--no-kmemleak", "--", "true")])
def test_without_privilege(command: tuple[str, ...], mounts: tuple[str, ...], tmp_path: Path) -> None:
    if subprocess.run([*NOBODY, *KLEAKTRACE, "--version"], capture_output=True, check=False).returncode:
        pytest.skip("others may not read this checkout")
    done = kleaktrace(tmp_path, *command, prefix=(*mounts, *NOBODY))
    assert done.status == 3
    said = done.stdout + done.stderr
    assert "sudo" in said
    assert "Traceback" not in said


def test_wheel_works_from_any_directory(tmp_path: Path) -> None:
    target = tmp_path / "installed"
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")
    source = tmp_path / "source"
    for name in ("kleaktrace", "bpf"):
        shutil.copytree(PROJECT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(PROJECT / name, source)
    built = subprocess.run(
        [*pip, "wheel", "--no-deps", "-w", str(tmp_path), str(source)], capture_output=True, text=True, check=False
    )
    if "No matching distribution found for hatchling" in built.stderr:
        pytest.skip("no network: hatchling, which builds the wheel, can't be had")
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("kleaktrace-*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", str(target), str(wheel)], check=True)
    shutil.rmtree(source)
    # -P and a foreign directory: the checkout, which is installed in place, must not lend its sources.
    program = (
        "import kleaktrace.cli, sys; print(kleaktrace.cli.__file__); sys.argv[1:] = ['doctor']; kleaktrace.cli.main()"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", program],
        cwd="/",
        env={**os.environ, "PYTHONPATH": str(target)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.startswith(str(target)), done.stdout + done.stderr
    assert done.returncode == 0, done.stdout + done.stderr
    assert "probe: kmalloc" in done.stdout
    assert (target / "kleaktrace" / "bpf" / "shim" / "include" / "uapi" / "linux" / "ptrace.h").exists()


def test_trace_of_everything_by_each_grouping(tmp_path: Path) -> None:
    for by in ("cache", "comm", "context", "module"):
        check_books(trace(tmp_path, "--duration", 0.5, "--by", by))

# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import json
from typing import ClassVar

import pytest
from click.testing import CliRunner, Result
from schemas import validated

from kleaktrace.commands import kmemleak as module
from kleaktrace.commands.kmemleak import kmemleak
from kleaktrace.core.kmemleak.diagnosis import KmemleakHealth, Reason, State
from kleaktrace.core.kmemleak.report_parser import KmemleakText, parse
from kleaktrace.edge.kmemleak.client import DumpAnswer
from kleaktrace.errors import EnvironmentRefusal, UsageError

REPORT = (
    "unreferenced object 0xffff888003692380 (size 128):\n"
    '  comm "\x1b[2Jevil", pid 762, jiffies 4295831244\n'
    "  backtrace (crc 2128895f):\n    probe+0x44/0xf0 [drv]\n"
)
DUMP = (
    "kmemleak: Object 0xffff888003692380 (size 128):\n"
    'kmemleak:   comm "insmod", pid 762, jiffies 4295831244\n'
    "kmemleak:   min_count = 1\nkmemleak:   count = 0\nkmemleak:   flags = 0x3\nkmemleak:   checksum = 7\n"
    "kmemleak:   backtrace:\n probe+0x44/0xf0 [drv]\n"
)


class FakeClient:
    """Stands for a kernel whose kmemleak is on and lists one object."""

    asked: ClassVar[list[str]] = []
    text: ClassVar[KmemleakText] = parse(REPORT)
    answer: ClassVar[DumpAnswer] = DumpAnswer(True, parse(DUMP).dumps[0])
    min_unref_scans = 1

    def require_on(self) -> None: ...

    def read(self) -> KmemleakText:
        return self.text

    def scan(self) -> None:
        self.asked.append("scan")

    def clear(self) -> None:
        self.asked.append("clear")

    def command(self, word: str) -> None:
        self.asked.append(word)

    def dump(self, address: int) -> DumpAnswer:
        self.asked.append(f"dump=0x{address:x}")
        return self.answer


@pytest.fixture(autouse=True)
def fake(monkeypatch: pytest.MonkeyPatch) -> type[FakeClient]:
    monkeypatch.setattr(module, "KmemleakClient", FakeClient)
    monkeypatch.setattr(FakeClient, "asked", [])
    monkeypatch.setattr(module, "diagnose", lambda client=None: KmemleakHealth(State.ON, None, "kmemleak is on"))
    return FakeClient


def run(*arguments: str) -> Result:
    return CliRunner().invoke(kmemleak, arguments)


def switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    off = KmemleakHealth(State.OFF, Reason.BOOT_OFF, "kmemleak was switched off at boot", "kmemleak=off", "the fix")
    monkeypatch.setattr(module, "diagnose", lambda client=None: off)


def test_status() -> None:
    result = run("status")
    assert result.exit_code == 0
    assert "kmemleak is on\n  1 suspect listed" in result.output


def test_status_when_off_says_why_and_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    switched_off(monkeypatch)
    result = run("status")
    assert result.exit_code == 3
    assert result.output == "kmemleak was switched off at boot\n  kmemleak=off\n  fix: the fix\n"


def test_show_and_its_json() -> None:
    assert r'"\x1b[2Jevil" (pid 762)' in run("show").output
    assert validated(json.loads(run("show", "--json").output))["objects"][0]["comm"] == "\x1b[2Jevil"


def test_show_with_nothing_listed(fake: type[FakeClient], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fake, "text", KmemleakText((), ()))
    assert "lists nothing" in run("show").output
    document = validated(json.loads(run("show", "--json").output))
    assert (document["objects"], document["problems"], document["groups"]) == ([], [], [])


@pytest.mark.parametrize("address", ["0xffff888003692380", "ffff888003692380"])
def test_dump(fake: type[FakeClient], address: str) -> None:
    result = run("dump", address)
    assert fake.asked == ["dump=0xffff888003692380"]
    assert "unreferenced in the last scan (0 of 1 references found)" in result.output
    assert "probe+0x44/0xf0 [drv]" in result.output


def test_dump_of_what_is_not_tracked(fake: type[FakeClient], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fake, "answer", DumpAnswer(False, None))
    assert "no object that starts at 0x1000" in run("dump", "0x1000").output


def test_dump_without_a_readable_log(fake: type[FakeClient], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fake, "answer", DumpAnswer(True, None))
    assert isinstance(run("dump", "0x1000").exception, EnvironmentRefusal)


@pytest.mark.parametrize("address", ["", "pte", "-1", "0x1ffffffffffffffff"])
def test_addresses_that_are_none(address: str) -> None:
    assert isinstance(run("dump", "--", address).exception, UsageError)


@pytest.mark.parametrize(
    ("arguments", "asked"),
    [
        (("scan",), "scan"),
        (("scan", "on"), "scan=on"),
        (("scan", "off"), "scan=off"),
        (("scan", "600"), "scan=600"),
        (("stack", "on"), "stack=on"),
        (("stack", "off"), "stack=off"),
        (("clear",), "clear"),
        (("off", "--yes"), "off"),
    ],
)
def test_commands_are_handed_on(fake: type[FakeClient], arguments: tuple[str, ...], asked: str) -> None:
    assert run(*arguments).exit_code == 0
    assert fake.asked == [asked]


@pytest.mark.parametrize("setting", ["of", "offf", "1s", "-1", "½"])
def test_scan_settings_that_are_none(fake: type[FakeClient], setting: str) -> None:
    assert isinstance(run("scan", "--", setting).exception, UsageError)
    assert fake.asked == []


def test_off_is_not_done_unasked(fake: type[FakeClient]) -> None:
    assert isinstance(run("off").exception, UsageError)
    assert fake.asked == []


@pytest.mark.parametrize(("typed", "asked"), [("n\n", []), ("\n", []), ("y\n", ["off"])])
def test_off_asks_on_a_terminal(
    fake: type[FakeClient], monkeypatch: pytest.MonkeyPatch, typed: str, asked: list[str]
) -> None:
    monkeypatch.setattr(module, "_on_terminal", lambda: True)
    CliRunner().invoke(kmemleak, ["off"], input=typed)
    assert fake.asked == asked


def test_on_says_that_a_running_kernel_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("on").output == "kmemleak is on\n"
    switched_off(monkeypatch)
    error = run("on").exception
    assert isinstance(error, EnvironmentRefusal)
    assert (error.what, error.fix) == (
        "kmemleak cannot be switched on in a running kernel: kmemleak was switched off at boot",
        "the fix",
    )

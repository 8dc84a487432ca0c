# SPDX-License-Identifier: GPL-2.0-or-later
"""What kmemleak's messages mean, and what to do. Checked against mm/kmemleak.c of Linux 6.12, and older ones' texts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from kleaktrace.core.kmemleak.diagnosis import read_message
from kleaktrace.core.kmemleak.kmemleak_text import Message


class Meaning(NamedTuple):
    """What a message says: whether it tells of a leak (None: it may go with one), whether kmemleak is off by it."""

    what: str
    is_leak: bool | None
    fix: str = ""
    is_off: bool = False


_CONSEQUENCE = re.compile(r"Cannot allocate a kmemleak_object structure|Kernel memory leak detector disabled")
"""What kmemleak says when it has given up for a reason that it told just before."""
_LOOK_BELOW = "the stack below it in the log shows who"
_SHELL_ERROR = re.compile(
    r"write error: |: (?:Operation not permitted|Device or resource busy|No such file or directory)$"
)
_DOCTOR = "`kleaktrace doctor` says why, and what to do"
_MEANINGS: tuple[tuple[re.Pattern[str], Meaning], ...] = (
    (
        re.compile(r"\d+ new suspected memory leaks"),
        Meaning(
            "only a count",
            None,
            "the report itself is in /sys/kernel/debug/kmemleak: `sudo kleaktrace kmemleak show` explains it, "
            "`sudo kleaktrace confirm` judges each suspect",
        ),
    ),
    (
        re.compile(r"Trying to color unknown object"),
        Meaning(
            "somebody told kmemleak to pass over an object (kmemleak_ignore, kmemleak_not_leak) that it does not know: "
            "the call has the wrong address, or comes after the free; no leak by itself",
            False,
            _LOOK_BELOW,
        ),
    ),
    (
        re.compile(r"(?:Partially freeing|Freeing) unknown object"),
        Meaning(
            "something was freed that kmemleak does not know: allocated where it does not look, or freed twice; "
            "no leak by itself",
            False,
            _LOOK_BELOW,
        ),
    ),
    (
        re.compile(r"Found object by alias"),
        Meaning(
            "somebody passed an address in the middle of an object, not its start, as one that frees a wrong pointer",
            False,
            _LOOK_BELOW,
        ),
    ),
    (
        re.compile(r"(?:Not scanning|Adding scan area to|Updating stack trace for) unknown object|Unknown object at"),
        Meaning("an annotation in the kernel's code is for an object that kmemleak does not know", False, _LOOK_BELOW),
    ),
    (
        re.compile(r"Scan area larger than object|Cannot allocate a scan area"),
        Meaning("an object is scanned as a whole, not only where its pointers are: leaks may be missed", None),
    ),
    (
        re.compile(r"Kernel memory leak detector initiali"),
        Meaning("kmemleak is on", False, "`echo scan > /sys/kernel/debug/kmemleak`, twice, 6 s apart, has it look"),
    ),
    (
        re.compile(r"Automatic memory scanning thread started"),
        Meaning("kmemleak scans by itself every 10 minutes", False),
    ),
    (
        re.compile(r"Automatic memory scanning thread ended"),
        Meaning("kmemleak does not scan by itself any more", False),
    ),
    (
        re.compile(r"Kmemleak testing"),
        Meaning("the kernel's own test of kmemleak runs, a module that leaks on purpose", None),
    ),
    (
        re.compile(r"Failed to (?:create|initiali)"),
        Meaning("kmemleak could not set up all that it needs", None, _DOCTOR),
    ),
    (
        re.compile(r"Kmemleak disabled without freeing"),
        Meaning(
            "kmemleak is off, but what it had found is still in /sys/kernel/debug/kmemleak",
            None,
            "save that file; `echo clear` into it gives the memory back; reboot to have kmemleak again",
            True,
        ),
    ),
    (
        re.compile(
            r"write error: (?:Operation not permitted|Device or resource busy)|kmemleak.*: Device or resource busy"
        ),
        Meaning(
            "kmemleak is off: it takes no commands (what it had found can be read, unless the kernel is an old one)",
            None,
            f"{_DOCTOR}; most often: boot with kmemleak=on",
            True,
        ),
    ),
    (
        re.compile(r"Operation not permitted"),
        Meaning("kmemleak is off, or the kernel is locked down (Secure Boot)", None, _DOCTOR, True),
    ),
    (
        re.compile(r"No such file or directory"),
        Meaning(
            "debugfs is not mounted, or this kernel has no kmemleak",
            None,
            "`mount -t debugfs none /sys/kernel/debug`; then `kleaktrace doctor`",
            True,
        ),
    ),
    (
        re.compile(r"Permission denied"),
        Meaning(
            "only root may use kmemleak's file",
            None,
            "`sudo kleaktrace kmemleak scan`, or sudo sh -c 'echo scan > /sys/kernel/debug/kmemleak'",
        ),
    ),
    (
        re.compile(r"Invalid argument"),
        Meaning("kmemleak is on, but knows no such command, or no object at the address after dump=", None),
    ),
    (
        re.compile(r"Operation not supported|Function not implemented|Cannot allocate memory"),
        Meaning("the kernel refused it", None, _DOCTOR),
    ),
)


def meaning_of(message: Message) -> Meaning | None:
    """What a message means; None if it is not known."""
    off = read_message(message.text, message.time_s)
    for pattern, meaning in _MEANINGS:
        if pattern.search(message.text):
            return meaning
    return Meaning(off[1], None, off[2], True) if off else None


def is_of_shell(message: Message) -> bool:
    """Whether a shell or a program says it, not the kernel."""
    return bool(_SHELL_ERROR.search(message.text))


def meanings_of(messages: Sequence[Message]) -> list[Meaning | None]:
    """What messages mean one after the other: that kmemleak is off means nothing new where a reason stands above it."""
    found: list[Meaning | None] = []
    reason: tuple[Message, Meaning] | None = None
    for message in messages:
        if reason and (reason[0].time_s or 0.0) > (message.time_s or 0.0):
            reason = None  # the machine was booted again
        meaning = meaning_of(message)
        if reason and _CONSEQUENCE.search(message.text):
            meaning = reason[1]._replace(what=f"as line {reason[0].line} says: {reason[1].what}")
        elif meaning and meaning.is_off and not is_of_shell(message):
            reason = message, meaning
        found.append(meaning)
    return found


def new_suspects(messages: tuple[Message, ...]) -> int:
    """How many suspects the log counts, all scans together."""
    counts = (re.match(r"(\d{1,9}) new suspected memory leaks", message.text) for message in messages)
    return sum(int(found[1]) for found in counts if found)

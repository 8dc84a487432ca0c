# SPDX-License-Identifier: GPL-2.0-or-later
"""What kmemleak says of itself in the kernel log (mm/kmemleak.c, of all versions), and shells of its file."""

from __future__ import annotations

import re

from kleaktrace.core.kmemleak.margins import after_tag, marks_of, strip, without_colours
from kleaktrace.core.kmemleak.text_lines import MAX_LINE

_MOST_SHOWN = 200
_MESSAGES = re.compile(
    r"Kernel memory leak detector (?:initiali[sz]ed(?:\s*\(mem pool available:\s*\d+\))?|disabled)"
    r"|Automatic memory scanning thread (?:started|ended)"
    r"|Cannot insert (?:0x)?[0-9a-f]+ into the object search tree(?: \(overlaps existing\))?"
    r"|Cannot allocate (?:a kmemleak_object structure|a scan area)"
    r"|Memory pool empty, consider increasing (?:CONFIG_)?DEBUG_KMEMLEAK_MEM_POOL_SIZE"
    r"|Early log buffer exceeded(?: \(\d+\))?(?:, please increase (?:CONFIG_)?DEBUG_KMEMLEAK_EARLY_LOG_SIZE)?"
    r"|\d+ new suspected memory leaks(?: \(see /\S+\))?"
    r"|Kmemleak disabled without freeing internal data(?:\. Reclaim the memory with .*)?"
    r"|Kmemleak testing|kmemleak_late_init\(?\)? failed.*"
    r"|(?:Partially freeing|Freeing|Trying to color|Not scanning|Adding scan area to|Updating stack trace for)"
    r" unknown object at 0x[0-9a-f]+(?: as (?:Grey|Black)| \(size \d+\))?"
    r"|Unknown object at 0x[0-9a-f]+|Found object by alias at 0x[0-9a-f]+|Scan area larger than object 0x[0-9a-f]+"
    r"|Failed to (?:create|initiali[sz]e).*"
)
_AROUND = " \t$*`"
"""What `cat -A` and Markdown put around lines."""
_OF_A_LOG = frozenset(("printk", "date", "kmsg", "host", "logcat", "boxed_time", "time"))
_NEW = re.compile(r"[A-Z0-9][\w-]*\s+\w")
"""How a message of kmemleak's begins: lines of reports are set in, and people begin with small letters there."""
_BEGUN = re.compile(
    r"(?:Kernel memory|Automatic memory|Cannot|Memory pool|Early log|\d+ new(?: suspected)?|Kmemleak disabled|Partially"
    r"|Freeing|Trying to|Not scanning|Adding scan|Updating stack|Unknown object|Found object|Scan area)\b"
)
_LATE_INIT = re.compile(r"kmemleak_late_init\(?\)?.*(?:failed|returned -\d+|-12\b).*")
_ERRORS = (
    r"(?:Operation not permitted|Device or resource busy|No such file or directory|Permission denied|Invalid argument"
    r"|Operation not supported|Function not implemented|Cannot allocate memory)"
)
_SHELL = re.compile(
    rf"[^\n]{{0,200}}(?:(?<!\w)kmemleak\b|/sys/kernel/debug\b)[^\n]{{0,80}}?{_ERRORS}"
    rf"|[^\n]{{0,80}}write error: {_ERRORS}"
)


def is_message(body: str) -> bool:
    """Whether a line without its margin begins with something that kmemleak says of itself."""
    return bool(_MESSAGES.match(body))


def message_in(line: str, following: str = "") -> tuple[str, bool] | None:
    """What kmemleak says on a line, and whether the end of it stands on the following one; None if it says nothing."""
    if len(line) > MAX_LINE:
        return None
    line = without_colours(line)
    body = after_tag(line)
    tagged = body is not None
    body = (strip(line)[0] if body is None else body).strip(_AROUND)
    if not body:
        return None
    found = _MESSAGES.match(body)
    rest = strip(following)[0] if following and "kmemleak:" not in following else ""
    if rest and _BEGUN.match(body):
        whole = _MESSAGES.match(f"{body} {rest}")
        if whole and whole.end() > max(len(body), found.end() if found else 0):
            return whole[0][:_MOST_SHOWN], True
    if found and (tagged or found.end() == len(body.rstrip(".")) or found.end() == len(body)):
        return (body if tagged else found[0])[:_MOST_SHOWN], False
    late = _LATE_INIT.search(body)
    return (late[0][:_MOST_SHOWN], False) if late else None


def may_be_message(line: str) -> bool:
    """Whether something that kmemleak says of itself stands somewhere on a line."""
    return len(line) <= MAX_LINE and bool(_MESSAGES.search(line))


def new_message_in(line: str) -> str | None:
    """What kmemleak says on a line of the kernel log that no kernel says that we know of."""
    if len(line) > MAX_LINE:
        return None
    plain = without_colours(line)
    marks = marks_of(plain)
    if "tag" not in marks.names or not marks.names & _OF_A_LOG:
        return None
    before, body = plain[: marks.end], plain[marks.end :].strip()
    return body[:_MOST_SHOWN] if not before.endswith("  ") and _NEW.match(body) else None


def shell_error_in(line: str) -> str | None:
    """What a shell or a program says that could not use kmemleak's file."""
    if "rror" not in line and "kmemleak" not in line and "debug" not in line:
        return None
    body = strip(line[:MAX_LINE])[0]
    return body[:_MOST_SHOWN] if _SHELL.match(body) else None

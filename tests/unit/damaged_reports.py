# SPDX-License-Identifier: GPL-2.0-or-later
"""What mail programs, log daemons, web pages, consoles and people do to a report: each a function of its text."""

from __future__ import annotations

import html
import json
import quopri
import re
import textwrap
from collections.abc import Callable

Damage = Callable[[str], str]

LOG_PREFIXES = (
    "[   12.733362] kmemleak: ",
    "<4>[   12.733362][ T1234] kmemleak: ",
    "[   12.733362]c6 [ T5491] kmemleak: ",
    "[Fri Nov 20 21:41:54 2026] kmemleak: ",
    "Nov 20 21:41:54 box kernel: [   12.733362] kmemleak: ",
    "Nov 20 21:41:54 box kernel: kmemleak: ",
    "316614 Jul 19 02:14:20 box kernel: [   12.733362] kmemleak: ",
    "Fri 2026-11-20 21:41:54 CET box kernel: kmemleak: ",
    "1795210914.123456 box kernel: kmemleak: ",
    "2026-11-20T21:41:54.123456+01:00 box kernel: kmemleak: ",
    "févr. 03 21:41:54 box kernel: kmemleak: ",
    "3. Feb 21:41:54 box kernel: kmemleak: ",
    "11-20 21:41:54.123     0     0 W kmemleak: ",
    "11-20 21:41:54.123     0     0 W kernel  : kmemleak: ",
    "6,1234,567890,-;kmemleak: ",
    "Nov 20 21:41:54 box user.warn kernel: [   12.733362] kmemleak: ",
    "Fri Nov 20 21:41:54 2026 kern.warn kernel: [   12.733362] kmemleak: ",
    "logs/dmesg.txt:[   12.733362] kmemleak: ",
    "logs/dmesg.txt:127:[   12.733362] kmemleak: ",
    "2026-11-20T21:41:54.123456  <4>[   12.733362] kmemleak: ",
    "2026-11-20T21:41:54.1234567Z [   12.733362] kmemleak: ",
    "2026-11-20 21:41:54.123456 | node-1 | [   12.733362] kmemleak: ",
    "web_1  | [   12.733362] kmemleak: ",
    "2026-11-20 21:41:54,123 process          L0658 DEBUG| [stdout] [   12.733362] kmemleak: ",
    "[2026-11-20T21:41:54.123Z] [   12.733362] kmemleak: ",
    "\x1b[32m[   12.733362] \x1b[0m\x1b[33mkmemleak: \x1b[0m",
    "# [   12.733362] kmemleak: ",
    "> > [   12.733362] kmemleak: ",
    "kmemleak: kmemleak: ",
)
"""Of the kernel log: `kmemleak:` is behind all of them."""

OTHER_PREFIXES = (
    "> ",
    "> > ",
    ">>| ",
    "|",
    "# ",
    "// ",
    " * ",
    "+",
    "ttyS0-7 | ",
    "console 7: ",
    "lava-07 (0012) :: ",
    "report.txt:",
    "report.txt:12:",
    "web_1  | ",
    "\t",
    "        ",
    "    12\t",
    "1234:",
    "   9.104133 ::  ",
)
"""Of the report itself: what mails, comments and programs put before its lines."""


def prefixed(prefix: str, end: str = "\n") -> Damage:
    return lambda text: "".join(f"{prefix}{line}{end}" for line in text.splitlines())


def wrapped(width: int, prefix: str = "", again: str = "") -> Damage:
    """Broken at blanks, as mail programs do: what comes after the break has `again` before it."""

    def damage(text: str) -> str:
        lines = []
        for line in text.splitlines():
            pieces = textwrap.wrap(
                prefix + line, width, break_long_words=False, break_on_hyphens=False, drop_whitespace=True
            )
            indent = (prefix + line)[: len(prefix + line) - len((prefix + line).lstrip())]
            first, *rest = pieces or [""]
            lines += [indent + first.lstrip(), *(again + piece for piece in rest)]
        return "\n".join(lines) + "\n"

    return damage


def refilled(width: int, prefix: str = "") -> Damage:
    """The backtrace made one paragraph, as mail programs refill text."""

    def damage(text: str) -> str:
        parts = re.split(r"(?m)(?<=backtrace:\n)|(?=^unreferenced)", text)
        done = []
        for part in parts:
            is_trace = part.startswith("    ")
            shown = (
                textwrap.fill(" ".join(part.split()), width, break_long_words=False, break_on_hyphens=False)
                if is_trace
                else part
            )
            done.append(shown.rstrip("\n"))
        return "".join(prefix + line + "\n" for line in "\n".join(done).splitlines())

    return damage


def flowed(width: int | None = None, quote: str = '"') -> Damage:
    """All one paragraph, as security bulletins have it."""

    def damage(text: str) -> str:
        words = " ".join(text.split()).replace('comm "', f"comm {quote}")
        words = re.sub(r'", pid', f"{quote}, pid", words)
        intro = "In the Linux kernel, the following was resolved: a leak was found. "
        paragraph = intro + words + " Free it where the probe fails."
        return (
            textwrap.fill(paragraph, width, break_long_words=False, break_on_hyphens=False) + "\n"
            if width
            else paragraph + "\n"
        )

    return damage


def quoted_printable(text: str) -> str:
    return quopri.encodestring(text.encode()).decode()


def with_hard_blanks(text: str) -> str:
    """As a mail program that indents with blanks that cannot be broken, and sends them encoded."""
    blanks = re.sub(r"(?m)^ +", lambda found: "\u00a0" * len(found[0]), text)
    return quopri.encodestring(blanks.encode()).decode()


def latin_1_blanks(text: str) -> str:
    return re.sub(r"(?m)^( +)", lambda found: "=A0" * (len(found[0]) - 1) + " ", text).replace("=\n", "=3D\n")


def in_html(text: str) -> str:
    return "<html><body><pre>" + html.escape(text) + "</pre></body></html>\n"


def in_divs(text: str) -> str:
    lines = (html.escape(line).replace("  ", "&nbsp; ") for line in text.splitlines())
    return "".join(f'<div class="line">{line}</div>' for line in lines) + "\n"


def in_breaks(text: str) -> str:
    return "<p>" + "".join(html.escape(line).replace("+", "&#43;") + "<br>\n" for line in text.splitlines()) + "</p>\n"


def html_in_mail(text: str) -> str:
    return "Content-Transfer-Encoding: quoted-printable\n\n" + quoted_printable(in_divs(text))


def in_json(text: str) -> str:
    return json.dumps({"msg": text.rstrip("\n")}) + "\n"


def in_records(text: str) -> str:
    """As LAVA and Docker keep logs."""
    lines = (f"[   12.733362] kmemleak: {line}" for line in text.splitlines())
    return "".join(
        "- " + json.dumps({"dt": "2026-11-20T21:41:54", "lvl": "target", "msg": line}) + "\n" for line in lines
    )


def in_yaml_records(text: str) -> str:
    return "".join(f"- {{dt: '2026-11-20', lvl: target, msg: '{line}'}}\n" for line in text.splitlines())


def of_journald(text: str) -> str:
    return "".join(json.dumps({"PRIORITY": "4", "MESSAGE": f"kmemleak: {line}"}) + "\n" for line in text.splitlines())


def in_c(text: str) -> str:
    return "".join('    "' + line.replace("\\", "\\\\").replace('"', '\\"') + '\\n"\n' for line in text.splitlines())


def in_markdown(text: str) -> str:
    return re.sub(r"([\[\]<>_*])", r"\\\1", text)


def without_pointed_brackets(text: str) -> str:
    return re.sub(r"\[<[^>]*>\]", "[]", text)


def without_square_content(text: str) -> str:
    return re.sub(r"\[<([0-9a-f]+)>\]", r"[\1]", text)


def dotted(text: str) -> str:
    return re.sub(r"\[<([0-9a-f]+)>\]", "[<...>]", text)


def double_spaced(text: str) -> str:
    return text.replace("\n", "\n\n")


def carriage_returns(text: str) -> str:
    return text.replace("\n", "\r\n")


def without_indent(text: str) -> str:
    return re.sub(r"(?m)^ +", "", text)


def trailing_blanks(text: str) -> str:
    return text.replace("\n", "  \n")


def remarks(text: str) -> str:
    return re.sub(r"(?m)(jiffies .*)$", r"\1   <-- our daemon", text)


def glued(text: str) -> str:
    return re.sub(r"(?m)(age .*\))$", r"\1[  333.123456] usb 1-1: reset", text)


def damaged_word(text: str) -> str:
    return text.replace("unreferenced", "nreferenced")


def capital(text: str) -> str:
    return text.replace("unreferenced", "Unreferenced")


WHOLE: dict[str, Damage] = {
    **{f"prefix {prefix!r}": prefixed(prefix) for prefix in (*LOG_PREFIXES, *OTHER_PREFIXES)},
    "prefix and carriage returns": prefixed("[   12.733362] kmemleak: ", "  \r\n"),
    "carriage returns": carriage_returns,
    "wrapped at 72": wrapped(72),
    "wrapped at 60": wrapped(60),
    "wrapped and quoted": wrapped(72, "> ", "> "),
    "wrapped after it was quoted": wrapped(72, "> "),
    "log wrapped": wrapped(72, "[   12.733362] kmemleak: "),
    "log wrapped and quoted": wrapped(72, "> [   12.733362][  T170] kmemleak: ", "> "),
    "refilled": refilled(72),
    "refilled and quoted": refilled(72, "> "),
    "flowed": flowed(),
    "flowed, wrapped": flowed(80),
    "flowed, single quotes": flowed(100, "'"),
    "flowed, no quotes": flowed(100, ""),
    "quoted-printable": quoted_printable,
    "quoted-printable, hard blanks": with_hard_blanks,
    "hard blanks of latin-1": latin_1_blanks,
    "quoted, then quoted-printable": lambda text: quoted_printable(prefixed("> > ")(text)),
    "html": in_html,
    "html, divs": in_divs,
    "html, breaks": in_breaks,
    "html in a mail": html_in_mail,
    "json": in_json,
    "records": in_records,
    "records of yaml": in_yaml_records,
    "journald": of_journald,
    "strings of C": in_c,
    "markdown": in_markdown,
    "[]": without_pointed_brackets,
    "[address]": without_square_content,
    "[<...>]": dotted,
    "double spaced": double_spaced,
    "wrapped, quoted, double spaced": lambda text: double_spaced(wrapped(72, "> ", "> ")(text)),
    "log wrapped, [address]": lambda text: without_square_content(wrapped(72, "[   12.733362] kmemleak: ")(text)),
    "quoted-printable that was quoted": lambda text: prefixed("> > ")(quoted_printable(text)),
    "without indent": without_indent,
    "trailing blanks": trailing_blanks,
    "remarks": remarks,
    "glued": glued,
    "nreferenced": damaged_word,
    "Unreferenced": capital,
}
"""Of which all can be read: objects, comm, pid, size, age and frames stay."""

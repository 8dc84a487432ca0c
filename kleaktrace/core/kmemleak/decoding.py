# SPDX-License-Identifier: GPL-2.0-or-later
"""Undoes what mails, web pages, documents and `cat -A` do to lines: quoted-printable, HTML, strings of C, Markdown.

Each is undone only where it is clearly there. All are pure: lines in, lines out, with the numbers that they had.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Sequence

from kleaktrace.core.kmemleak.margins import same_margin_off
from kleaktrace.core.kmemleak.text_lines import Line

_MOST_JOINED = 1 << 14
"""Lines that soft breaks join to one: a mail in HTML may have no others."""
_MOST_IN_TAG = 16

_QP_CODE = re.compile(r"=([0-9A-F]{2})")
_QP_CODES = re.compile(r"(?:=[0-9A-F]{2})+")
_QP_SIGN = re.compile(r"=(?:20|09|0D|3D|A0|C2=A0|E2=80)")
_QP_NAMED = re.compile(r"^content-transfer-encoding:\s*quoted-printable", re.IGNORECASE)
_FULL_ROW = re.compile(r"(?:^|[\s>|])(?:[0-9a-f]{2}[ \t]+){1,31}3d[ \t]+\S.*=$")
"""A row of a hex dump whose last byte is the character `=`."""

_ENTITY = re.compile(r"&(?:lt|gt|amp|quot|apos|nbsp|#\d{1,7}|#x[0-9a-fA-F]{1,6});")
_TAG_NAMES = (
    r"(?:a|b|blockquote|body|br|code|dd|div|dl|dt|em|font|head|hr|html|i|img|li|meta|o:p|ol|p|pre|samp|section|span"
    r"|strong|table|tbody|td|th|thead|title|tr|tt|u|ul|wbr)"
)
_TAG = re.compile(rf"</?{_TAG_NAMES}(?:\s[^<>]{{0,2000}})?\s*/?>", re.IGNORECASE)
_CLOSING_TAG = re.compile(rf"</{_TAG_NAMES}>|<br\s*/?>", re.IGNORECASE)
_BREAKING_TAG = re.compile(
    r"<br(?:\s[^<>]{0,200})?/?>|</?(?:blockquote|body|dd|div|dl|dt|hr|html|li|ol|p|pre|section|table|td|th|title|tr|ul)"
    r"(?:\s[^<>]{0,2000})?\s*/?>",
    re.IGNORECASE,
)
_OPEN_TAG = re.compile(rf"</?{_TAG_NAMES}(?:\s[^<>]{{0,2000}})?$", re.IGNORECASE)
_TIMES_ESCAPED = 2
"""An archive of web pages escapes what was escaped before."""

_REPORT_WORDS = (
    r"(?:\w{0,4}ferenced object|comm\b|hex dump|backtrace|\[<|\[?[0-9a-f]{2}[ \d]|[A-Za-z_.$][\w.$]*\+0x"
    r"|0x[0-9a-f]{8}|\.\.\.)"
)
_ESCAPED_END = re.compile(rf"(?:\\r)?\\n(?=\s*(?:\\t)*\s*{_REPORT_WORDS})|#012(?=\s*{_REPORT_WORDS})")
_ANY_END = re.compile(r"(?<!\\)(?:\\r)?\\n|#012")
_SURELY_ESCAPED = 3
"""Ends of lines within one; fewer may be a name's."""
_ESCAPED_LAST = re.compile(r"(?:\\r)?\\n\s*[\"',}\])]{0,4}\s*$|[\"'][\s\"',}\])]{0,6}$")
_ESCAPED_QUOTE = re.compile(r'comm\s+\\+"')
_RECORD = re.compile(r"\s*(?:-\s+)?(\{.{2,65536}\})\s*,?\s*$")
_MESSAGE_FIELDS = ("MESSAGE", "msg", "message", "log", "line", "text")
_YAML_MESSAGE = re.compile(r"\bmsg: '(.*)'\}$")
_MARKDOWN = re.compile(r"\\([\[\]<>_*#+`~()-])")
_MARKDOWN_SIGN = re.compile(r"\s\\\[[\w.-]+\\\]|\\\[\\?<|\\<[0-9a-fA-F]{8}|\w\\_\w[^\n]*\\?\+0x")
_BLANK_CODES = re.compile(r"\\xc2\\xa0|\\xa0|\u00c2\u00a0|[\u200b\u200c\u200d\u2060\ufeff]")
"""Blanks that cannot be broken, where their encoding was not known, and characters without width."""

_END_MARK = re.compile(r"(?:\^M)?\$$")
_NEARLY = 4
"""Three quarters of all lines are nearly all."""


def decoded(lines: Iterable[Line]) -> list[Line]:
    """Undo all that `lines` show signs of."""
    found = list(lines)
    for stage in (
        without_quoted_printable,
        without_html,
        without_records,
        without_escapes,
        without_markdown,
        without_strange_blanks,
        without_end_marks,
    ):
        found = stage(found)
    return found


def without_quoted_printable(lines: Sequence[Line]) -> list[Line]:
    """Join lines at soft breaks and decode bytes (RFC 2045), if a header says so, or both are there to see."""
    if not any(
        _QP_NAMED.match(text) or ("=" in text and (_is_soft_break(text) or _QP_SIGN.search(text))) for _, text in lines
    ):
        return list(lines)
    joined: list[Line] = []
    pieces: list[str] = []
    number = 0
    for line in lines:
        text = line.text
        if pieces:
            text = same_margin_off(pieces[0], text)
        else:
            number = line.number
        if _is_soft_break(text) and len(pieces) < _MOST_JOINED:
            pieces.append(text.rstrip()[:-1])
            continue
        joined.append(Line(number, _QP_CODES.sub(_decoded_bytes, "".join([*pieces, text]))))
        pieces = []
    if pieces:
        joined.append(Line(number, _QP_CODES.sub(_decoded_bytes, "".join(pieces))))
    return joined


def _is_soft_break(text: str) -> bool:
    text = text.rstrip()
    return text.endswith("=") and not text.endswith("==") and not _FULL_ROW.search(text)


def _decoded_bytes(codes: re.Match[str]) -> str:
    data = bytes(int(code, 16) for code in _QP_CODE.findall(codes[0]))
    if not any(byte in b"\t =" or byte > 0x7E for byte in data) and b"\r" not in data:
        return codes[0]  # nobody encodes letters and digits: this is `key=12`
    try:
        return data.decode("utf-8").strip("\r")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def without_html(lines: Sequence[Line]) -> list[Line]:
    """Take tags off, break lines where they do, and put characters for entities."""
    if not any(
        ("&" in text and _ENTITY.search(text)) or ("<" in text and _CLOSING_TAG.search(text)) for _, text in lines
    ):
        return list(lines)
    shown: list[Line] = []
    for number, text in _with_whole_tags(lines):
        plain = text
        for _ in range(_TIMES_ESCAPED):
            if "<" in plain:
                plain = _TAG.sub("", _BREAKING_TAG.sub("\n", plain))
            if "&" not in plain:
                break
            plain = html.unescape(plain)
        if "\n" in plain:
            shown += [Line(number, part) for part in plain.split("\n") if part.strip()]
        else:
            shown.append(Line(number, plain))
    return shown


def _with_whole_tags(lines: Sequence[Line]) -> list[Line]:
    """Join lines at which a tag is open."""
    whole: list[Line] = []
    count = 0
    for line in lines:
        if count and count < _MOST_IN_TAG:
            whole[-1] = Line(whole[-1].number, f"{whole[-1].text} {line.text.strip()}")
        else:
            whole.append(line)
        count = count + 1 if "<" in line.text and _OPEN_TAG.search(whole[-1].text) else 0
    return whole


def without_records(lines: Sequence[Line]) -> list[Line]:
    """Take the message out of log records in JSON or YAML, a record each line: those of journald, Docker, LAVA."""
    plain: list[Line] = []
    for line in lines:
        found = _RECORD.match(line.text) if "{" in line.text else None
        message = _message_in(found[1]) if found else None
        if message is None:
            plain.append(line)
        else:
            plain += [Line(line.number, part) for part in message.rstrip("\r\n").split("\n")]
    return plain


def _message_in(record: str) -> str | None:
    try:
        fields = json.loads(record)
    except (ValueError, RecursionError):
        found = _YAML_MESSAGE.search(record)
        return found[1].replace("''", "'") if found else None
    if not isinstance(fields, dict):
        return None
    return next((fields[name] for name in _MESSAGE_FIELDS if isinstance(fields.get(name), str)), None)


def without_escapes(lines: Sequence[Line]) -> list[Line]:
    r"""Break lines at the `\n` of strings in C, JSON or Python, and at rsyslog's `#012`; take off what ends lines."""
    plain: list[Line] = []
    for line in lines:
        text = line.text
        if "\\" not in text and "#012" not in text:
            plain.append(line)
            continue
        if _ESCAPED_QUOTE.search(text):
            text = re.sub(r'\\+"', '"', text)
        parts = (_ANY_END if len(_ANY_END.findall(text)) >= _SURELY_ESCAPED else _ESCAPED_END).split(text)
        if len(parts) > 1 or (text.rstrip(" \"',").endswith("\\n") and re.search(_REPORT_WORDS, text)):
            parts[-1] = _ESCAPED_LAST.sub("", parts[-1])
        plain += [Line(line.number, part.replace("\\t", "\t") if len(parts) > 1 else part) for part in parts]
    return plain


def without_markdown(lines: Sequence[Line]) -> list[Line]:
    r"""Take off the `\` in front of brackets and underlines."""
    if not any("\\" in text and _MARKDOWN_SIGN.search(text) for _, text in lines):
        return list(lines)
    return [Line(number, _MARKDOWN.sub(r"\1", text) if "\\" in text else text) for number, text in lines]


def without_strange_blanks(lines: Sequence[Line]) -> list[Line]:
    """Put plain blanks for those that came in another encoding."""
    return [
        Line(number, text if text.isascii() and "\\x" not in text else _BLANK_CODES.sub(_plain_blank, text))
        for number, text in lines
    ]


def _plain_blank(code: re.Match[str]) -> str:
    return " " if "a0" in code[0] or "\u00a0" in code[0] else ""


def without_end_marks(lines: Sequence[Line]) -> list[Line]:
    """Take off the `$` that `cat -A` and editors show where lines end, if it ends nearly all of them."""
    marked = sum(text.endswith("$") for _, text in lines)
    if not marked or _NEARLY * marked < (_NEARLY - 1) * sum(bool(text) for _, text in lines):
        return list(lines)
    return [Line(number, _END_MARK.sub("", text).replace("^I", "\t")) for number, text in lines]

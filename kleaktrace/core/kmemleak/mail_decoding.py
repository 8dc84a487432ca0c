# SPDX-License-Identifier: GPL-2.0-or-later
"""Decodes what mails hold in base64 (RFC 2045, 6.8), which has no word left by which a report could be found.

The mail may be one of several in a file, be quoted by a web page's source or begin with a part of a header: so headers
are looked for wherever they stand, and no mail is parsed as a whole.
"""

from __future__ import annotations

import binascii
import re

from kleaktrace.core.kmemleak.text_lines import MAX_LINE

_ENCODING = re.compile(r"^content-transfer-encoding:[ \t]*\"?base64\"?[ \t]*\r?$", re.IGNORECASE | re.MULTILINE)
_HEADERS_LEFT = re.compile(rf"(?:\r?\n[^\n]{{1,{MAX_LINE}}}){{0,50}}?\r?\n[ \t]*\r?\n")
_BODY = re.compile(r"(?:[A-Za-z0-9+/]{1,1000}={0,2}[ \t]*\r?(?:\n|$))+")
_CHARSET = re.compile(r"charset\s*=\s*\"?([\w.:-]{1,40})", re.IGNORECASE)
_MOST_HEADERS = 4096
_WORDS = ("kmemleak", "ferenced object", "backtrace", "memory leak")


def without_base64(text: str) -> str:
    """Put what a mail says in place of its base64, where that has to do with leaks; else the text as it is.

    Lines below count as in the text that is returned.
    """
    pieces = []
    at = 0
    for header in _ENCODING.finditer(text):
        headers = _HEADERS_LEFT.match(text, header.end())
        body = _BODY.match(text, headers.end()) if headers else None
        if headers is None or body is None or header.start() < at:
            continue
        around = text[max(at, header.start() - _MOST_HEADERS) : headers.end()]
        said = _decoded(body[0], around)
        if any(word in said for word in _WORDS):
            pieces += [text[at : body.start()], said, "" if said.endswith("\n") else "\n"]
            at = body.end()
    return "".join([*pieces, text[at:]]) if pieces else text


def _decoded(body: str, headers: str) -> str:
    try:
        data = binascii.a2b_base64(body)
    except ValueError:  # cut off, or no base64
        return ""
    charsets = _CHARSET.findall(headers)
    try:
        return data.decode(charsets[-1] if charsets else "utf-8", errors="backslashreplace").replace("\r\n", "\n")
    except (LookupError, ValueError):  # there is no such encoding, or it is none of texts
        return data.decode("latin-1")

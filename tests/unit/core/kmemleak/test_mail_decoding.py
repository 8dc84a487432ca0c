# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import base64

import pytest

from kleaktrace.core.kmemleak.mail_decoding import without_base64

REPORT = """\
unreferenced object 0xffff888000000100 (size 64):
  comm "drv", pid 11, jiffies 4295000100 (age 50.000s)
"""
ENCODED = base64.encodebytes(REPORT.encode()).decode()
HEADERS = 'Content-Type: text/plain; charset="utf-8"\nContent-Transfer-Encoding: base64\n'


@pytest.mark.parametrize(
    "mail",
    [
        f"{HEADERS}\n{ENCODED}",
        f"From: me\nSubject: leak\n{HEADERS}MIME-Version: 1.0\nX-Long: a\n  b\n\n{ENCODED}",
        f"--part\n{HEADERS}\n{ENCODED}\n--part--\n",
        f"content-transfer-encoding: BASE64\n\n{ENCODED}",
        f"{HEADERS}\n{ENCODED}".replace("\n", "\r\n"),
        f"{HEADERS}\n{ENCODED.rstrip()}",
    ],
)
def test_a_report_in_a_mail(mail: str) -> None:
    assert REPORT in without_base64(mail)
    assert ENCODED.split("\n")[0] not in without_base64(mail)


def test_what_stands_around_stays() -> None:
    parts = f"--part\n{HEADERS}\n{ENCODED}\n--part\n{HEADERS}\n{ENCODED}\n--part--\nbye\n"
    assert without_base64(parts).count(REPORT) == 2
    assert without_base64(parts).startswith("--part\n")
    assert without_base64(parts).endswith("--part--\nbye\n")


def test_other_encodings_of_characters() -> None:
    encoded = base64.encodebytes(("caf\u00e9 " + REPORT).encode("latin-1")).decode()
    assert "caf\u00e9 unref" in without_base64(HEADERS.replace("utf-8", "iso-8859-1") + "\n" + encoded)
    for name in ("nonsense", "idna", "rot13"):
        assert REPORT in without_base64(HEADERS.replace("utf-8", name) + "\n" + encoded)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Content-Transfer-Encoding: base64",
        f"{HEADERS}\n",
        f"{HEADERS}\n!!!\n",
        f"{HEADERS}\n{base64.encodebytes(bytes(range(256))).decode()}",
        f"{HEADERS}\nabcde\n",
        "Content-Transfer-Encoding: 8bit\n\n" + ENCODED,
    ],
)
def test_nothing_else_is_touched(text: str) -> None:
    assert without_base64(text) == text

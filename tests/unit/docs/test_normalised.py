# SPDX-License-Identifier: GPL-2.0-or-later
"""What differs from run to run is replaced, and nothing else is."""

from __future__ import annotations

from docs_lib.normalised import normalised

ONE = """\
LEAK notepad: notepad_open: 10 objects, 10.0 KiB: confirmed by kmemleak
kernel 6.12.117-kleaktrace x86_64, traced for 2 min 0 s: 4,556 allocations, 4,442 frees, 114 outstanding (56.3 KiB)
  notepad_open [notepad]: 10 × 1024 bytes (1000 asked for) from kmalloc-1k at 0xff4864b6851c0800 …
    by test.sh (pid 81: /bin/sh docs/first-leak/test.sh), 59.2 s ago
      kzalloc_noprof  include/linux/slab.h:1129 (inlined)
      notepad_open+0x62/0x90 [notepad]  /root/docs/first-leak/notepad.c:26
      misc_open+0xa8/0x150  drivers/char/misc.c:163
no source lines for the kernel: addr2line took too long
"""
OTHER = """\
LEAK notepad: notepad_open: 10 objects, 10.0 KiB: confirmed by kmemleak and unload
kernel 6.12.90-kleaktrace x86_64, traced for 34.4 s: 3,556 allocations, 3,442 frees, 99 outstanding (1.3 MiB)
  notepad_open [notepad]: 8 × 1024 bytes (1000 asked for) from kmalloc-1k at 0xffff888101234000 …
    by test.sh (pid 77: /bin/sh /home/me/build/test.sh), 8 s ago
    in them: text "note 1" at byte 0 (1 of 8 looked at)
      notepad_open+0x52/0x80 [notepad]  /home/me/build/notepad.c:26
      misc_open+0xb8/0x140
"""


def test_two_runs_are_the_same() -> None:
    assert normalised(ONE.splitlines()) == normalised(OTHER.splitlines())


def test_what_the_driver_did_is_kept() -> None:
    for was, other in [
        ("10 objects", "9 objects"),
        ("1024", "512"),
        ("notepad.c:26", "notepad.c:27"),
        ("misc", "miso"),
    ]:
        assert normalised(ONE.replace(was, other).splitlines()) != normalised(ONE.splitlines())

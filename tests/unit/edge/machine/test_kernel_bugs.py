# SPDX-License-Identifier: GPL-2.0-or-later
"""What in the kernel's log tells of a bug."""

from __future__ import annotations

from kleaktrace.edge.machine.kernel_bugs import bug_lines

# Linux 6.12, x86-64: a driver that writes to NULL.
OOPS = """\
BUG: kernel NULL pointer dereference, address: 0000000000000000
#PF: supervisor write access in kernel mode
#PF: error_code(0x0002) - not-present page
PGD 0 P4D 0
Oops: Oops: 0002 [#1] PREEMPT SMP NOPTI
CPU: 1 UID: 0 PID: 81 Comm: insmod Tainted: G           O       6.12.117-kleaktrace #1
RIP: 0010:be_bad+0x2b/0x80 [inject_paths]
Code: 48 c7 c7 00 a1 3a c0
RIP: 0033:0x7f2d0c50f719
""".splitlines()

WARNING = """\
------------[ cut here ]------------
WARNING: CPU: 0 PID: 90 at lib/refcount.c:28 refcount_warn_saturate+0xba/0x110
RIP: 0010:refcount_warn_saturate+0xba/0x110
---[ end trace 0000000000000000 ]---
""".splitlines()


def test_an_oops_is_fatal_and_says_where() -> None:
    told, fatal = bug_lines(["inject_paths: loading out-of-tree module taints kernel.", *OOPS])
    assert fatal
    assert told == [OOPS[0], OOPS[4], OOPS[6]]


def test_a_warning_is_told_and_not_fatal() -> None:
    assert bug_lines(WARNING) == ([WARNING[1], WARNING[2]], False)


def test_what_is_neither_is_not_told() -> None:
    assert bug_lines(["insmod: a message", "RIP: 0010:nowhere"]) == ([], False)

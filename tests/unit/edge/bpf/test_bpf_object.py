# SPDX-License-Identifier: GPL-2.0-or-later
"""What is asked of programs while another thread loads more."""

from __future__ import annotations

import pytest

from kleaktrace.edge.bpf import bpf_object, libbpf
from kleaktrace.edge.bpf.compiled_programs import Programs


def test_a_program_that_is_loaded_meanwhile_is_no_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    programs = bpf_object.BpfObject(Programs("GPL", (), {}), {}, {})
    programs._loaded = {"first": 1, "second": 2}

    def misses(fd: int) -> int:
        programs._loaded[f"loaded {fd}"] = fd + 10
        return fd * 100

    monkeypatch.setattr(libbpf, "recursion_misses", misses)
    assert programs.missed_runs() == {"first": 100, "second": 200}

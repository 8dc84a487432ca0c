# SPDX-License-Identifier: GPL-2.0-or-later
"""A machine that the test makes up, with a driver in it, and `run` and `confirm` at work there."""

from __future__ import annotations

import pytest
from builders import inside, module_image
from made_up_kmemleak import MadeUpKmemleak
from made_up_source import MadeUpSource

from kleaktrace.commands import confirm as confirm_module
from kleaktrace.commands import run as run_module
from kleaktrace.commands import settling
from kleaktrace.commands import signals as signals_module
from kleaktrace.session.session import Session


class MadeUpMachine:
    """A source and a kmemleak. Stack 1 is the driver's own request, stack 2 core code's on its behalf."""

    def __init__(self) -> None:
        self.source = MadeUpSource()
        self.kmemleak = MadeUpKmemleak()
        names = self.source.names
        names.symbols.module_loaded(module_image(loaded_ns=self.source.started.time_ns))
        names.stacks.add(1, [inside("__kmalloc_noprof"), inside("drv_probe"), inside("do_one_initcall")])
        names.stacks.add(2, [inside("__kmalloc_noprof"), inside("core_alloc"), inside("drv_probe")])

    def stand_in(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Have `run` and `confirm` trace it, and wait for nothing."""
        for module in (run_module, confirm_module):
            monkeypatch.setattr(module, "live_session", lambda **_: Session(self.source))
            monkeypatch.setattr(module, "missing_since", lambda *_: [])
        monkeypatch.setattr(run_module, "kmemleak_if_on", lambda: (self.kmemleak, []))
        monkeypatch.setattr(run_module, "scrub_freelists", lambda: None)
        monkeypatch.setattr(settling, "settle", lambda left, sleep: None)
        monkeypatch.setattr(confirm_module, "KmemleakClient", lambda: self.kmemleak)
        monkeypatch.setattr(signals_module.time, "sleep", lambda seconds: None)

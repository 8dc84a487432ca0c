# SPDX-License-Identifier: GPL-2.0-or-later
"""Which means this kernel has to let allocations fail, the best first."""

from __future__ import annotations

from dataclasses import dataclass

from kleaktrace.edge.bpf.bpf_object import AttachRefused
from kleaktrace.edge.injection.fail_nth import FailNthInjector
from kleaktrace.edge.injection.injector import Injector
from kleaktrace.edge.injection.override import OverrideInjector
from kleaktrace.errors import EnvironmentRefusal

OPTIONS = "CONFIG_FUNCTION_ERROR_INJECTION, BPF_KPROBE_OVERRIDE, FAULT_INJECTION, FAILSLAB and FAIL_PAGE_ALLOC"
FIX = f"boot a kernel with {OPTIONS}, such as that of tools/guest"


@dataclass(frozen=True, slots=True)
class Chosen:
    """An injector, and why it is not the best there is; empty: it is."""

    injector: Injector
    refused: str = ""


def choose(module: str | None) -> Chosen:
    """The best injector that this kernel has. Raises `EnvironmentRefusal` if it has none."""
    try:
        return Chosen(OverrideInjector(module))
    except AttachRefused as refusal:
        refused = str(refusal)
    try:
        return Chosen(FailNthInjector(), refused)
    except EnvironmentRefusal as error:
        what = f"this kernel lets no allocation fail: {refused}, and {error}"
        raise EnvironmentRefusal(what, FIX) from error

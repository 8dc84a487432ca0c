# SPDX-License-Identifier: GPL-2.0-or-later
"""Which modules of a kernel take part, and in which groups."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

EXCLUDED: Mapping[str, str] = {
    "9p": "the guest's own root",
    "9pnet": "the guest's own root",
    "9pnet_virtio": "the guest's own root",
    "configfs": "stays in use by those that come later",
    "kunit": "stays in use by its suites, and is loaded once",
    "kmemleak-test": "leaks on purpose",
    "netconsole": "hangs on the console that is read here",
    "overlay": "the guest's own root",
    "soft_dog": "ends the guest",
    "softdog": "ends the guest",
    "sysctl-test": "ends the guest when it is loaded again: see docs/findings.md",
    "test_bpf": "takes minutes under emulation",
    "test_free_pages": "takes minutes under emulation",
    "test_kmod": "loads other modules by itself, all the time",
    "test_maple_tree": "takes minutes under emulation",
    "test_rhashtable": "takes minutes under emulation",
    "test_rslib": "takes minutes under emulation",
    "test_sort": "takes minutes under emulation",
    "test_udelay": "takes minutes under emulation",
    "test_xarray": "takes minutes under emulation",
    "tcrypt": "takes minutes under emulation",
    "time_test": "takes minutes under emulation",
}
"""By name, with the reason."""

KEYMAPS = "rc-"
"""Two hundred tables for remote controls, all alike."""

GROUP = 20
"""So many modules share one trace: enough that it pays, few enough that its ring and the guest's memory have room."""


def modules_of(tree: Path) -> list[str]:
    """The names of all modules that a kernel tree has built, excluded ones left out."""
    (listed,) = tree.glob(".virtme_mods/lib/modules/*/modules.dep")
    names = {Path(line.partition(":")[0]).name.partition(".ko")[0] for line in listed.read_text().splitlines()}
    chosen = (name for name in names if not {name, name.replace("-", "_")} & EXCLUDED.keys())
    return sorted(name for name in chosen if name == "rc-loopback" or not name.startswith(KEYMAPS))


def grouped(names: Iterable[str], size: int = GROUP) -> list[Sequence[str]]:
    """In groups of so many, in order."""
    listed = list(names)
    return [listed[start : start + size] for start in range(0, len(listed), size)]

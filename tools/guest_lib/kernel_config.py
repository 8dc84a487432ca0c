# SPDX-License-Identifier: GPL-2.0-or-later
"""A kernel's configuration, as its build writes it to .config."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from guest_lib.architectures import ARM64, X86_64, Architecture

NOT_SET = "n"
"""What stands for a value where the configuration says `is not set`, or nothing."""
_SETTING = re.compile(r"CONFIG_(?P<name>\w+)=(?P<value>.+)")


@dataclass(frozen=True)
class KernelConfig:
    """The options that are set, without CONFIG_, and their values as they stand there."""

    values: Mapping[str, str]

    def value(self, name: str) -> str:
        """Return the value of an option; `n` where it is not set."""
        return self.values.get(name, NOT_SET)

    @property
    def architecture(self) -> Architecture | None:
        """What machine the kernel is for; None: no guest can be it."""
        found = [each for each in (X86_64, ARM64) if self.value(each.option) == "y"]
        return found[0] if found else None


def read_config(text: str) -> KernelConfig:
    """Read a configuration; of an option that stands there more than once, the last value counts, as for kconfig."""
    values: dict[str, str] = {}
    for line in text.splitlines():
        if setting := _SETTING.fullmatch(line.strip()):
            values[setting["name"]] = setting["value"]
        elif line.startswith("# CONFIG_") and line.endswith(" is not set"):
            values.pop(line.split()[1].removeprefix("CONFIG_"), None)
    return KernelConfig(values)


def config_of(tree: Path) -> KernelConfig:
    """Read the configuration of a build tree."""
    return read_config((tree / ".config").read_text())

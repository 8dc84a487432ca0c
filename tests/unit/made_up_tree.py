# SPDX-License-Identifier: GPL-2.0-or-later
"""What a kernel's build leaves in its tree, as far as tools/guest looks at it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))

from guest_lib.architectures import X86_64, Architecture
from guest_lib.kernel_options import options_for


def config_text(changed: Mapping[str, str] | None = None, architecture: Architecture = X86_64) -> str:
    """A configuration that lacks nothing, with some values changed; `n` is what is not set."""
    values = {option.name: option.value for option in options_for(architecture)}
    values |= {architecture.option: "y", **(changed or {})}
    lines = [
        f"# CONFIG_{name} is not set" if value == "n" else f"CONFIG_{name}={value}" for name, value in values.items()
    ]
    return "".join(f"{line}\n" for line in lines)


def made_up_tree(
    at: Path,
    changed: Mapping[str, str] | None = None,
    architecture: Architecture = X86_64,
    modules: tuple[str, ...] = (),
) -> Path:
    """A tree that looks built, with these modules by their paths without .ko."""
    for name in (architecture.image_path, "Module.symvers", "System.map", "modules.builtin"):
        (at / name).parent.mkdir(parents=True, exist_ok=True)
        (at / name).touch()
    for module in modules:
        (at / module).parent.mkdir(parents=True, exist_ok=True)
        (at / f"{module}.ko").touch()
    (at / "modules.order").write_text("".join(f"{module}.o\n" for module in modules))
    (at / ".config").write_text(config_text(changed, architecture))
    return at

# SPDX-License-Identifier: GPL-2.0-or-later
"""Folded stacks, as flamegraph.pl, inferno and speedscope read them: `root;…;leaf BYTES`, a call stack a line.

Counted are outstanding bytes. A name may hold anything but the separators: a semicolon becomes a colon.
"""

from __future__ import annotations

from collections import Counter

from kleaktrace.views.exports.material import Material, names_root_first


def export(material: Material) -> str:
    """Return the lines, sorted; nothing if nothing is outstanding."""
    sizes: Counter[str] = Counter()
    for row in material.rows:
        if row.outstanding_bytes:
            names = [name.replace(";", ":") for name in names_root_first(row.stack)]
            sizes[";".join(names)] += row.outstanding_bytes
    return "".join(f"{stack} {size}\n" for stack, size in sorted(sizes.items()))

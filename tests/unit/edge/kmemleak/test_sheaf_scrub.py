# SPDX-License-Identifier: GPL-2.0-or-later
"""Which slab caches are made to give their sheaves back."""

from __future__ import annotations

import re
from contextlib import ExitStack
from pathlib import Path

import pytest

from kleaktrace.edge.kmemleak import sheaf_scrub
from kleaktrace.edge.kmemleak.sheaf_scrub import Take, names_of_caches, scrub_sheaves


def test_a_kernel_without_sheaves_is_left_alone(tmp_path: Path) -> None:
    before = tmp_path / "kmalloc-64"
    before.mkdir()
    (before / "shrink").touch()
    assert scrub_sheaves(tmp_path) == 0
    assert (before / "shrink").read_text() == ""
    assert scrub_sheaves(tmp_path / "nothing") == 0


def test_of_a_merged_cache_the_sheaves_are_given_back_once(tmp_path: Path) -> None:
    merged, none = tmp_path / ":0000064", tmp_path / "kmem_cache"
    for cache, capacity in ((merged, "60"), (none, "0")):
        cache.mkdir()
        (cache / "sheaf_capacity").write_text(f"{capacity}\n")
        (cache / "shrink").touch()
    (tmp_path / "dentry").symlink_to(merged)
    assert scrub_sheaves(tmp_path) == 1
    assert ((merged / "shrink").read_text(), (none / "shrink").read_text()) == ("1", "")


def test_a_cache_that_goes_meanwhile_does_not_keep_the_others(tmp_path: Path) -> None:
    going, other = tmp_path / "a_cache", tmp_path / "b_cache"
    (going / "shrink").mkdir(parents=True)
    other.mkdir()
    (other / "shrink").touch()
    for cache in (going, other):
        (cache / "sheaf_capacity").write_text("60\n")
    assert scrub_sheaves(tmp_path) == 2
    assert (other / "shrink").read_text() == "1"


def test_where_no_object_can_be_taken_the_others_have_their_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, size in (("kmalloc-32", "many"), ("kmalloc-64", "64"), ("skbuff_head_cache", "232")):
        cache = tmp_path / name
        cache.mkdir()
        (cache / "sheaf_capacity").write_text("60\n")
        (cache / "shrink").touch()
        (cache / "object_size").write_text(f"{size}\n")
    taken: list[str] = []

    def refuse(size: int, stack: ExitStack) -> Take:
        raise PermissionError("made up")

    def take(size: int, stack: ExitStack) -> Take:
        return lambda: taken.append(f"kmalloc-{size}")

    ways = ((re.compile("skbuff.*"), refuse), (re.compile("kmalloc.*"), take))
    monkeypatch.setattr(sheaf_scrub, "_WAYS", ways)
    assert scrub_sheaves(tmp_path) == 3
    assert set(taken) == {"kmalloc-64"}


def test_a_merged_cache_goes_by_all_its_names(tmp_path: Path) -> None:
    """Without CONFIG_HARDENED_USERCOPY accounted kmallocs share caches with whatever is accounted and of their size."""
    merged, other = tmp_path / ":A-0000064", tmp_path / "kmalloc-64"
    merged.mkdir()
    other.mkdir()
    for name in ("kmalloc-cg-64", "a_cache"):
        (tmp_path / name).symlink_to(merged.name)
    assert names_of_caches(tmp_path) == {merged: [":A-0000064", "a_cache", "kmalloc-cg-64"], other: ["kmalloc-64"]}

# SPDX-License-Identifier: GPL-2.0-or-later
"""Pages of the page allocator: with --pages, the lab's leaks are found and named, and nothing that was freed is."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from guest_tool import PROJECT, Guest, build_module
from lab_books import Case, Object
from museum_lib.build import built
from museum_lib.edit import Edit
from museum_lib.piece import Module

pytestmark = pytest.mark.guest

BY_KMALLOC, IN_BULK = "lab_large_kmalloc_too", "lab_leak_bulk_pages"
SPLIT = {"lab_leak_split_page", "lab_freed_split_pages", "lab_freed_exact_pages"}


@dataclass(frozen=True)
class Seen:
    """What one boot has brought: documents by name, books by name, and the table of the cases."""

    documents: dict[str, Any]
    books: dict[str, list[Object]]
    cases: dict[str, Case]
    texts: dict[str, str]
    page: int
    """Bytes of one."""
    bulk: bool
    """Whether what is handed out and freed in bulk is seen."""

    def left(self, name: str) -> Counter[str]:
        """Bytes of pages that are left of each case, by its function, as the books have it, as far as they are seen."""
        bytes_left: Counter[str] = Counter()
        for row in self.books[name]:
            bytes_left[row.function] += 0 if row.freed else row.size
        assert bytes_left.pop(BY_KMALLOC), "told of by kmalloc, and not a second time"
        assert bytes_left[IN_BULK]
        if not self.bulk:
            del bytes_left[IN_BULK]
        return +bytes_left


@pytest.fixture(scope="module")
def seen(
    guest: Guest,
    kernel_tree: Path,
    lab_module: Path,
    traces_functions: bool,
    tmp_path_factory: pytest.TempPathFactory,
) -> Seen:
    pages = build_module(Path(__file__).with_name("pages_module"), kernel_tree) / "pages.ko"
    out = tmp_path_factory.mktemp("pages")
    command = [PROJECT / ".venv/bin/kleaktrace", lab_module, pages, out]
    script = Path(__file__).with_name("pages_scenario.sh")
    done = guest("bash", str(script), *map(str, command), rwdirs=[out], timeout_s=1800, cpus=1)
    assert done.status == 0, done.stdout + done.stderr
    return Seen(
        {path.stem: json.loads(path.read_text()) for path in out.glob("*.json")},
        {path.stem: Object.read(path) for path in out.glob("*.objects")},
        Case.read(out / "page_cases"),
        {path.stem: path.read_text() for path in out.glob("*.txt")},
        int((out / "page_size").read_text()),
        traces_functions,
    )


def _is_depot(stack: list[str]) -> bool:
    return "stack_depot_save" in stack[0]


def of_lab(seen: Seen, stack: list[str]) -> str:
    """The function of a case that is in a stack; empty: none, or kmemleak took pages on the way, to keep stacks."""
    if _is_depot(stack):
        return ""
    functions = {case.function for case in seen.cases.values()}
    return next((name for name in (line.partition("+")[0] for line in stack) if name in functions), "")


def test_the_books_are_what_the_table_says(seen: Seen) -> None:
    for rows in seen.books.values():
        assert Counter(row.case for row in rows) == {name: case.count for name, case in seen.cases.items()}


def test_nothing_was_lost_and_all_was_seen(seen: Seen) -> None:
    for document in seen.documents.values():
        assert document["loss"]["causes"] == []
        sources = {row["kind"]: row["source"] for row in document["coverage"]}
        assert sources["pages"] == "raw_tracepoint:mm_page_alloc+raw_tracepoint:mm_page_free"
        assert (sources["pages-bulk"] is not None) == seen.bulk


def test_what_is_outstanding_while_the_module_is_loaded(seen: Seen) -> None:
    outstanding: Counter[str] = Counter()
    for group in seen.documents["loaded"]["outstanding"]:
        if group["cache"].startswith("pages"):
            outstanding[of_lab(seen, group["stack"])] += group["bytes"]
    del outstanding[""]
    assert outstanding == seen.left("loaded")


def test_what_an_unloaded_module_has_left_is_confirmed_and_nothing_else(seen: Seen) -> None:
    found: Counter[str] = Counter()
    caches = {}
    for suspect in seen.documents["unloaded"]["suspects"]:
        function = of_lab(seen, suspect["stack"])
        unsure = "a bulk free (kfree_rcu) could not have been seen"  # and kmemleak was not asked
        is_unsure = not seen.bulk and function == BY_KMALLOC and unsure in suspect["reason"]
        assert suspect["verdict"] == ("undecided" if is_unsure else "confirmed") or not function, suspect
        if suspect["cache"].startswith("pages") and of_lab(seen, suspect["stack"]):
            assert suspect["source"] == "unload"
            found[of_lab(seen, suspect["stack"])] += suspect["size"]
            caches[of_lab(seen, suspect["stack"])] = suspect["cache"], suspect["size"]
    assert found == seen.left("unloaded")
    page = seen.page
    bulk = {IN_BULK: ("pages (order 0)", page)} if seen.bulk else {}
    assert caches == {
        "lab_leak_page": ("pages (order 0)", page),
        "lab_leak_pages": ("pages (order 3)", 8 * page),
        "lab_leak_free_pages": ("pages (order 1)", 2 * page),
        "lab_leak_dma_buffer": ("pages (order 2)", 4 * page),
        "lab_leak_split_page": ("pages (order 3)", page),
        **bulk,
    }
    assert seen.documents["unloaded"]["verdict"] == "leaks"
    kmallocs = [s for s in seen.documents["unloaded"]["suspects"] if of_lab(seen, s["stack"]) == BY_KMALLOC]
    assert {s["cache"] for s in kmallocs} == {"kmalloc-large"}


def test_what_each_round_leaves_is_confirmed_while_the_module_is_loaded(seen: Seen) -> None:
    """Neither kmemleak nor unloading says anything of it, and each round frees the other half."""
    document = seen.documents["repeated"]
    assert document["verdict"] == "leaks"
    found = Counter(of_lab(seen, one["stack"]) for one in document["suspects"] if one["verdict"] == "confirmed")
    pages, of_bulk = seen.cases["leak_pages"].count, seen.cases["leak_bulk_pages"].count
    expected = {"lab_leak_pages": 8 * pages} | ({IN_BULK: 8 * of_bulk // 4} if seen.bulk else {})
    assert found == expected, "every fourth of the bulk is forgotten"


def test_a_capture_of_it_says_the_same(seen: Seen) -> None:
    one, other = seen.documents["unloaded"], seen.documents["again"]
    plain = [
        [{name: value for name, value in suspect.items() if name != "source_lines"} for suspect in document["suspects"]]
        for document in (one, other)
    ]
    assert plain[0] == plain[1]
    assert one["verdict"] == other["verdict"]


def test_pages_that_a_loaded_module_keeps_are_no_clean_end_and_are_named(seen: Seen) -> None:
    document = seen.documents["still_loaded"]
    assert document["verdict"] != "clean"
    assert "pages_init" in seen.texts["still_loaded"]
    held = [group for group in document["outstanding"] if group["cache"] == "pages (order 0)"]
    assert held[0]["count"] == 5000
    (missing,) = document["missing"]
    assert missing["name"] == "traced pages"
    assert [who for who, _ in missing["sites"]] == ["pages_init [pages]"]


def test_what_vmalloc_took_for_the_modules_is_told_of_as_vmalloc_s(seen: Seen) -> None:
    for document in seen.documents.values():
        pages = [group["stack"] for group in document["outstanding"] if group["cache"].startswith("pages")]
        pages = [stack for stack in pages if not _is_depot(stack)]
        assert not [stack for stack in pages if any("execmem_alloc" in line for line in stack)]


@pytest.mark.long
def test_a_page_for_each_open_of_a_device_of_the_kernels_own_is_found_and_named(
    seen: Seen, guest: Guest, kernel_tree: Path, tmp_path: Path
) -> None:
    """cuse without the free of the page in which it asks a server of its: 20 MB, in 5,000 opens that nobody answers."""
    count = 5000 * 4096 // seen.page
    edit = Edit(
        file="fs/fuse/cuse.c",
        function="cuse_process_init_reply",
        old="\tkfree(ia);\n\t__free_page(page);\n\treturn;\n",
        new="\tkfree(ia);\n\treturn;\n",
    )
    built_files = built(kernel_tree, [Module("fs/fuse/cuse", ("CONFIG_CUSE",))], [edit], print)
    (tmp_path / "cuse.ko").write_bytes(built_files["cuse"].read_bytes())
    open_all = f"for ((i = 0; i < {count}; i++)); do exec 3<> /dev/cuse; exec 3>&-; done"
    (tmp_path / "opens").write_text(f"insmod {tmp_path}/cuse.ko\n{open_all}\nrmmod cuse\n")
    options = ("--pages", "--no-kmemleak", "--json", str(tmp_path / "report.json"))
    opens = ("bash", str(tmp_path / "opens"))
    guest(
        str(PROJECT / ".venv/bin/kleaktrace"), "run", *options, "--", *opens, rwdirs=[tmp_path], timeout_s=600, cpus=1
    )
    report = json.loads((tmp_path / "report.json").read_text())
    (leak,) = report["leaks"]
    assert (leak["module"], leak["requester"], leak["objects"]) == ("cuse", "cuse_channel_open", count)
    assert (leak["bytes"], report["loss"]["events"], report["verdict"]) == (count * seen.page, 0, "leaks")

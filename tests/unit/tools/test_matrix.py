# SPDX-License-Identifier: GPL-2.0-or-later
"""tools/matrix: what is kept of a kernel, and the page that is made of it."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "tools"))

import pytest
from click.testing import CliRunner
from matrix_lib import __main__ as command
from matrix_lib import results, table
from matrix_lib.kernels import KERNELS, Kernel
from matrix_lib.measure import read_tests, refusals
from matrix_lib.results import Result, SuiteTests, Verdicts

RESULT = Result(
    kernel="6.1",
    release="6.1.192",
    machine="x86_64",
    commit="abc1234",
    date="2026-11-26",
    sources={
        "kmalloc": "raw_tracepoint:kmalloc",
        "kfree": "raw_tracepoint:kfree",
        "slab-cache-alloc": "raw_tracepoint:kmem_cache_alloc",
        "slab-cache-free": "raw_tracepoint:kmem_cache_free",
        "vmalloc": "kprobe:__vmalloc_node_range+kretprobe:__vmalloc_node_range",
        "vfree": "fentry:vfree+fentry:vfree_atomic",
        "percpu": None,
    },
    refusals=["fexit:__vmalloc_node_range: the program was not loaded: func has 9 args,\n6 supported " + "x" * 300],
    context="per-CPU __preempt_count",
    recognised=0.943,
    cost=1.214,
    verdicts={
        "loaded": Verdicts(30, 29, ["leak_percpu"], [], 0.0, 0),
        "unloaded": Verdicts(32, 32, [], ["reuse: 1 confirmed"], 0.013, 2),
    },
    tests={"rates": SuiteTests(10, []), "loss": SuiteTests(20, ["test_no_verdict_is_wrong[stalled]"])},
)


def test_what_is_kept_is_what_was_found(tmp_path: Path) -> None:
    assert results.read(tmp_path, "6.1") is None
    RESULT.write(tmp_path)
    assert results.read(tmp_path, "6.1") == RESULT


def test_the_page_says_by_what_each_kind_is_traced_and_what_was_missed() -> None:
    kernels = [Kernel("6.1", "another"), Kernel("kasan", "KASAN"), Kernel("locked", "lockdown")]
    refused = replace(RESULT, kernel="locked", refused="BPF may not read", verdicts={})
    lines = table.document(kernels, [RESULT, None, refused]).splitlines()
    assert (
        "| 6.1 | another | 6.1.192 | tracepoint | **no** | **no** | kprobe | fentry | **no** | **no** "
        "| `per-CPU __preempt_count` | copied |"
    ) in lines
    tested = "10 of 10 | 19 of 20 | not run"
    assert f"| 6.1 | 29 of 30 | 32 of 32 | 1 | 1.3% | 2 | {tested} | 94% | 0 | 1.21 × | abc1234 | 2026-11-26 |" in lines
    assert "- **6.1**, loaded: not found: leak_percpu" in lines
    assert "- **6.1**, unloaded: wrong: reuse: 1 confirmed" in lines
    assert "- **6.1**, loss: failed: test_no_verdict_is_wrong[stalled]" in lines
    assert "- **locked**: BPF may not read" in lines
    (refusal,) = (line for line in lines if line.startswith("- `fexit:__vmalloc_node_range`: "))
    assert "func has 9 args, 6 supported" in refusal
    assert len(refusal) < 300
    assert refusal.endswith("…: 6.1, locked")
    assert any(line.startswith("| kasan | KASAN | not run |") for line in lines)


def test_every_row_has_as_many_cells_as_its_head() -> None:
    for result in (RESULT, None, replace(RESULT, refused="no", verdicts={})):
        lines = table.document(KERNELS[:1], [result]).splitlines()
        rows = [line.count("|") for line in lines if line.startswith("|")]
        assert rows[:3] == rows[:1] * 3
        assert rows[3:] == rows[3:4] * 3


def test_the_page_is_made_of_what_is_kept_beside_it() -> None:
    known = [results.read(command.KEPT, kernel.name) for kernel in KERNELS]
    assert {file.stem for file in command.KEPT.iterdir()} <= {kernel.name for kernel in KERNELS}
    assert command.PAGE.read_text() == table.document(KERNELS, known), "tools/matrix --write"


def test_what_has_run_elsewhere_stays_in_the_page(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    first, other = KERNELS[:2]
    replace(RESULT, kernel=first.name, commit="of-before").write(tmp_path)
    monkeypatch.setattr(command, "PAGE", tmp_path / "kernels.md")
    monkeypatch.setattr(command, "KEPT", tmp_path)
    monkeypatch.setattr(command, "measure", lambda kernel, _: replace(RESULT, kernel=kernel.name))
    done = CliRunner().invoke(command.main, ["--write", other.name])
    assert done.exit_code == 1, "RESULT has a wrong verdict"
    page = (tmp_path / "kernels.md").read_text()
    assert "of-before" in page
    assert "abc1234" in page


def test_each_fragment_that_a_row_names_is_there() -> None:
    files = [Path(option.partition("=")[2]) for kernel in KERNELS for option in kernel.options if "config" in option]
    assert files
    assert all(file.is_file() for file in files)
    assert len({kernel.name for kernel in KERNELS}) == len(KERNELS)


def test_what_the_tests_on_a_kernel_came_to(tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    cases = (
        '<testcase name="a"/><testcase name="b"><failure>no</failure></testcase><testcase name="c"><error/></testcase>'
    )
    report.write_text(f"<testsuites><testsuite>{cases}</testsuite></testsuites>")
    assert read_tests(report) == SuiteTests(3, ["b", "c"])


def test_what_the_doctor_says_was_refused() -> None:
    found = "kprobe:vfree\nrefused: fentry:vfree: Operation not permitted\nrefused: fexit:vfree: no: not here"
    assert refusals(
        [{"name": "root", "found": "root"}, {"name": "probe: vfree", "found": found}, {"name": "none"}]
    ) == [
        "fentry:vfree: Operation not permitted",
        "fexit:vfree: no: not here",
    ]

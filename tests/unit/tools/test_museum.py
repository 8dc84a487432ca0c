# SPDX-License-Identifier: GPL-2.0-or-later
"""The museum: its pieces as they are written down, its edits, and how what the tools said is judged."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "tools"))

from museum_lib import build, groups, guest, results, table
from museum_lib.edit import Edit, EditFailed, apply, apply_all
from museum_lib.groups import grouped
from museum_lib.piece import BadPiece, Piece, chosen, parse, read_all
from museum_lib.results import ROUNDS, Kleaktrace, Kmemleak, Memleak, Row
from reports import console, printed

from kleaktrace.core.kmemleak.report_parser import parse as parse_kmemleak

PIECES = read_all(Path(__file__).resolve().parents[2] / "museum")

SOURCE = """\
static void drop(struct thing *thing);

static void drop(struct thing *thing)
{
	kfree(thing->name);
	kfree(thing);
}

static const struct ops thing_ops = {
	.drop = drop,
	.keep = NULL,
};

int keep(struct thing *thing)
{
	kfree(thing->name);
	return 0;
}
"""


def edit(function: str, old: str, new: str = "") -> Edit:
    return Edit("a/b.c", function, old, new)


def test_an_edit_changes_its_function_alone() -> None:
    changed = apply(SOURCE, edit("keep", "\tkfree(thing->name);\n"))
    assert changed == SOURCE[: SOURCE.rindex("\tkfree(thing->name);\n")] + "\treturn 0;\n}\n"


def test_an_edit_may_name_what_is_initialised_at_file_level() -> None:
    assert ".keep" not in apply(SOURCE, edit("thing_ops", "\t.keep = NULL,\n"))


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (edit("drop", "\tkfree(other);\n"), "a/b.c:3: drop: not found: kfree(other);"),
        (edit("drop", "kfree("), "a/b.c:3: drop: found 2 times: kfree("),
        (edit("drop", ""), "a/b.c:3: drop: not found: "),
        (edit("drop", "\treturn 0;\n"), "a/b.c:3: drop: not found: return 0;"),
        (edit("gone", "\tkfree(thing);\n"), "a/b.c:1: no definition of gone"),
        (edit("drop", "\tkfree(thing);\n", "\tkfree(thing);\n"), "a/b.c:3: drop: changes nothing"),
    ],
)
def test_an_edit_that_does_not_fit_says_where(wrong: Edit, why: str) -> None:
    with pytest.raises(EditFailed) as failure:
        apply(SOURCE, wrong)
    assert str(failure.value) == why


@given(st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=20))
def test_what_an_edit_took_out_can_be_put_back(names: list[str]) -> None:
    lines = [f"\tkfree({name}{number});\n" for number, name in enumerate(names)]
    text = "void f(void)\n{\n" + "".join(lines) + "}\n"
    taken = apply(text, edit("f", lines[-1], "\t/* here */\n"))
    assert taken != text
    assert apply(taken, edit("f", "\t/* here */\n", lines[-1])) == text


def test_edits_follow_one_another() -> None:
    both = [edit("drop", "\tkfree(thing);\n", "\tput(thing);\n"), edit("drop", "\tput(thing);\n", "\thold(thing);\n")]
    assert "hold(thing)" in apply_all(SOURCE, both)


PIECE = """
subsystem = "net"
kind = "plain"
fix.subject = "net: fix"
fix.commit = ""
trigger = "load thing"
truth.function = "make_thing"
truth.objects = 2
[[module]]
path = "net/thing"
config = []
[[edit]]
file = "net/thing.c"
function = "drop"
old = "kfree"
new = ""
"""


def test_a_piece_is_read() -> None:
    piece = parse("thing", PIECE)
    assert (piece.name, piece.truth.objects, piece.modules[0].directory, piece.modules[0].name) == (
        *("thing", 2, "net", "thing"),
    )


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        (PIECE.replace('kind = "plain"', 'kind = "odd"'), "odd"),
        (PIECE.replace("subsystem", "subsytem"), "subsytem"),
        (PIECE.replace("truth.objects = 2", "truth.objects = 0"), "an object that leaks"),
        (PIECE.replace("truth.objects = 2", ""), "objects"),
        (PIECE + "[", "thing.toml"),
    ],
)
def test_a_piece_that_is_written_wrong_is_refused(broken: str, why: str) -> None:
    with pytest.raises(BadPiece, match=why):
        parse("thing", broken)


def test_pieces_are_chosen_by_name() -> None:
    names = [piece.name for piece in PIECES]
    assert [piece.name for piece in chosen(PIECES, [names[3], names[1]])] == [names[3], names[1]]
    assert chosen(PIECES, []) == PIECES
    with pytest.raises(KeyError):
        chosen(PIECES, ["no such piece"])


def test_the_museum_is_as_wide_as_it_should_be() -> None:
    assert len(PIECES) >= 30
    assert len({piece.subsystem for piece in PIECES}) >= 12
    assert sum(piece.kind == "referenced" for piece in PIECES) >= 6
    assert sum(piece.standard for piece in PIECES) >= 6


@pytest.mark.parametrize("piece", PIECES, ids=lambda piece: piece.name)
def test_a_piece_is_consistent(piece: Piece) -> None:
    assert piece.fix.subject
    assert piece.fix.commit == "" or len(piece.fix.commit) == 12
    directories = {module.directory for module in piece.modules}
    for each in piece.edits:
        assert each.file.rpartition("/")[0] in directories, "it is built"
    done = subprocess.run(["bash", "-n"], input=piece.trigger, text=True, capture_output=True, check=False)
    assert done.stderr == ""


def trees() -> Iterator[Path]:
    for cache in (Path("/var/cache/kleaktrace"), Path("~/.cache/kleaktrace").expanduser()):
        yield from (ready.parent / "linux" for ready in cache.glob("guest-6.12-*/ready"))


@pytest.mark.parametrize("piece", PIECES, ids=lambda piece: piece.name)
def test_a_piece_fits_the_kernel_s_source(piece: Piece) -> None:
    found = [tree for tree in trees() if all((tree / each.file).exists() for each in piece.edits)]
    if not found:
        pytest.skip("no guest kernel's source here: tools/guest --build-dir unpacks it")
    for tree in found:
        for file in {each.file for each in piece.edits}:
            text = (tree / file).read_text()
            assert apply_all(text, [each for each in piece.edits if each.file == file]) != text


def test_a_copy_is_edited_and_the_tree_is_not(tmp_path: Path) -> None:
    tree, copy = tmp_path / "tree", tmp_path / "copy"
    files = {"a/b/x.c": SOURCE, "a/b/x.o": "built", "a/b/sub/y.c": "y", "a/z.h": "z", "a/other/w.c": "w", "top.h": "t"}
    for name, text in files.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(text)
    build.link_around(tree, copy, "a/b")
    build.write_edited(tree, copy, "a/b/x.c", [Edit("a/b/x.c", "drop", "\tkfree(thing);\n", "")])
    assert (copy / "a/b/x.c").read_text() == apply(SOURCE, edit("drop", "\tkfree(thing);\n"))
    assert (copy / "a/b/../z.h").read_text() == "z"
    assert not (copy / "a/b/sub").is_symlink(), "what is built there must not land in the tree"
    assert not (copy / "a/b/x.o").exists()
    assert {name: (tree / name).read_text() for name in files} == files
    with pytest.raises(EditFailed, match=r"a/b/gone\.c:0"):
        build.write_edited(tree, copy, "a/b/gone.c", [])


def piece(name: str, *, edits: str, loads: str = "", leaks: str = "") -> Piece:
    text = PIECE.replace("net/thing", f"net/{edits}/{edits}").replace("load thing", f"load {loads or edits}")
    return parse(name, text.replace("make_thing", leaks or f"make_{name}"))


def test_pieces_that_load_each_other_s_edited_modules_are_watched_apart() -> None:
    needs = groups.dependencies(["net/upper.ko: net/lower/lower.ko", "net/lower/lower.ko:"])
    lower, upper, other = piece("lower", edits="lower"), piece("upper", edits="x", loads="upper"), piece("o", edits="o")
    assert grouped([lower, upper, other], needs) == [[lower, other], [upper]]
    assert grouped([lower, upper, other], {}) == [[lower, upper, other]]
    again = piece("again", edits="lower")
    assert grouped([lower, again], {}) == [[lower], [again]]


def test_pieces_that_leak_from_the_same_function_are_counted_apart() -> None:
    one, two = (piece(name, edits=name, leaks="alloc") for name in ("one", "two"))
    assert grouped([one, two], {}) == [[one], [two]]


def test_a_module_is_loaded_after_what_it_needs() -> None:
    needs = {"top": ["left", "right"], "left": ["base"], "right": ["base"], "base": []}
    assert groups.in_order("top", needs) == ["base", "left", "right", "top"]
    assert groups.loads("load a-b x=1\n  load c || true\nunload d\nload a-b\n") == ["a-b", "c"]


def test_groups_are_not_endless() -> None:
    many = [piece(f"p{number}", edits=f"m{number}") for number in range(2 * groups.SIZE + 1)]
    assert [len(group) for group in grouped(many, {})] == [groups.SIZE, groups.SIZE, 1]


class Boots:
    """Boots that each do so many groups of the plan and end with a status."""

    def __init__(self, *boots: tuple[int, int]) -> None:
        self.boots = list(boots)
        self.plans: list[list[str]] = []

    def __call__(self, directory: Path, configs: object, pieces: int) -> int:
        plan = json.loads((directory / "plan.json").read_text())
        self.plans.append([name for group in plan for name in group["names"]])
        done, status = self.boots.pop(0)
        for group in plan[:done]:
            (directory / group["done"]).touch()
        return status


def plan_of(directory: Path, names: str) -> list[dict[str, Any]]:
    for name in names:
        (directory / name).mkdir()
    return [guest.planned([name], ["kleaktrace"], ROUNDS) for name in names]


def test_the_guest_is_booted_again_for_what_a_group_left_undone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    boots = Boots((1, 255), (1, guest.AGAIN), (1, 0))
    monkeypatch.setattr(guest, "boot", boots)
    assert guest.work(plan_of(tmp_path, "abcd"), tmp_path, []) == [["b"]]
    assert boots.plans == [["a", "b", "c", "d"], ["c", "d"], ["d"]]


@pytest.mark.parametrize("status", [1, guest.AGAIN])
def test_a_worker_that_gets_nowhere_is_a_failure(status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guest, "boot", Boots((0, status)))
    with pytest.raises(guest.GuestFailed, match=f"ended with {status}"):
        guest.work(plan_of(tmp_path, "a"), tmp_path, [])


def suspect(verdict: str, *stack: str, source: str = "kmemleak") -> dict[str, Any]:
    return {"verdict": verdict, "stack": list(stack), "source": source}


def test_what_kleaktrace_confirmed_is_counted_by_the_function_that_allocates() -> None:
    document = {
        "verdict": "leaks",
        "suspects": [
            suspect("confirmed", "kmalloc+0x1/0x2", "make_thing+0x5/0x9 [thing]"),
            suspect("confirmed", "make_thing.isra.0+0x5/0x9 [thing]", source="repetition"),
            suspect("confirmed", "make_thing_too+0x5/0x9 [thing]"),
            suspect("undecided", "make_thing+0x5/0x9 [thing]"),
        ],
    }
    found = results.of_kleaktrace(document, parse("thing", PIECE).truth)
    assert found == Kleaktrace("leaks", 3, 2, ("kmemleak", "repetition"))


def test_what_kmemleak_lists_is_named_or_is_not() -> None:
    head = 'unreferenced object 0xffff88800000{}000 (size 8):\n  comm "x", pid 1, jiffies 5\n'
    body = "  hex dump (first 8 bytes):\n    00 00 00 00 00 00 00 00  ........\n  backtrace (crc 1):\n    {}\n"
    frames = ["make_thing+0x1/0x2 [thing]", "0xffffffffc0000000", "some_other+0x1/0x2"]
    text = "".join(head.format(number) + body.format(frame) for number, frame in enumerate(frames))
    found = results.of_kmemleak(parse_kmemleak(text).objects, parse("thing", PIECE).truth)
    assert found == Kmemleak(listed=3, named=1)


def test_of_what_memleak_lists_some_stacks_have_the_function() -> None:
    head, other = "\t64 bytes in 2 allocations from stack\n", "\t\t0xffffffff81000000\tother+0x5 [kernel]\n"
    report = (
        f"[10:00:00] Top 10 {head}{other}\t\t0xffffffffc0000000\tmake_thing.isra.0+0x5 [thing]\n"
        f"{head}{other}\t\t0xffffffffc0000000\tmake_thing_too+0x5 [thing]\n{head}\t\t0xffffffffc0000000\t[unknown]\n"
    )
    assert results.of_memleak(report, parse("thing", PIECE).truth) == Memleak(listed=3, named=1)


def row(found: Kleaktrace | None, *, repaired: bool = False, failure: str = "") -> Row:
    return Row(parse("thing", PIECE), repaired, kleaktrace=found, failure=failure)


def test_only_the_truth_is_right() -> None:
    counted = Kleaktrace("leaks", 2 * ROUNDS + 1, 2 * ROUNDS, ("kmemleak",))
    assert row(counted).is_right
    assert not row(counted, failure="died").is_right
    assert not row(Kleaktrace("leaks", 20, 2 * ROUNDS - 1, ())).is_right
    assert not row(Kleaktrace("incomplete", 0, 0, ())).is_right
    assert not row(None).is_right
    assert row(Kleaktrace("clean", 0, 0, ()), repaired=True).is_right
    assert not row(counted, repaired=True).is_right


def test_the_table_says_what_was_seen() -> None:
    rows = [row(Kleaktrace("leaks", 30, 2 * ROUNDS, ("repetition",))), row(None, repaired=True, failure="it died")]
    screen = console(160)
    table.show(screen, rows)
    text = printed(screen)
    assert "leaks repetition" in text
    assert "thing (repaired)" in text
    assert "thing: it died" in text
    assert "confirms, names and counts 1" in text
    assert "memleak" not in table.summary(rows), "it was not run"
    assert [each["right"] for each in results.document(rows)] == [True, False]
    seen = [replace(rows[0], kmemleak=Kmemleak(2, 1), memleak=Memleak(900, 1)), rows[1]]
    assert "kmemleak alone lists 1 after one round, and names 1; memleak has 1 among" in table.summary(seen)

# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

from reports import group

from kleaktrace.core.events.records import Context
from kleaktrace.core.overview.call_tree import CallNode, call_tree
from kleaktrace.core.symbols.call_stacks import NO_STACK, Stack
from kleaktrace.core.symbols.symbol_table import Frame


def stack(*names: str, context: Context = Context.TASK) -> Stack:
    """Innermost first."""
    return Stack(tuple(Frame(number, name, 2, 8) for number, name in enumerate(names)), context)


def flat(node: CallNode) -> dict[str, object]:
    return {f"{child.name} {child.bytes} {child.objects}": flat(child) for child in node.by_bytes}


def test_what_begins_alike_is_one_branch_with_the_larger_first() -> None:
    groups = [
        group(stack=stack("small", "middle", "main"), bytes=100, count=1),
        group(stack=stack("large", "middle", "main"), bytes=300, count=2),
        group(stack=stack("middle", "main"), bytes=50, count=5),
    ]
    assert flat(call_tree(groups)) == {"main 450 8": {"middle 450 8": {"large 300 2": {}, "small 100 1": {}}}}


def test_a_branch_ends_at_who_asked() -> None:
    assert flat(call_tree([group(stack=stack("alloc_skb", "devm_kmalloc", "probe"))])) == {"probe 384 3": {}}


def test_if_nobody_asked_all_frames_stay() -> None:
    assert flat(call_tree([group(stack=stack("alloc_skb"))])) == {"alloc_skb 384 3": {}}


def test_what_was_interrupted_is_left_out() -> None:
    interrupt = stack("handler", "handle_softirqs", "somebody", context=Context.SOFTIRQ)
    assert flat(call_tree([group(stack=interrupt)])) == {"handle_softirqs 384 3": {"handler 384 3": {}}}


def test_modules_and_missing_names() -> None:
    frames = (Frame(0x10, "own", 2, 8, "drv"), Frame(0x20))
    found = call_tree([group(stack=Stack(frames, Context.TASK)), group(stack=NO_STACK)])
    assert flat(found) == {"(no stack could be taken) 384 3": {}, "0x20 384 3": {"own [drv] 384 3": {}}}

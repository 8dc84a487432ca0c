# SPDX-License-Identifier: GPL-2.0-or-later
"""Names for addresses: kallsyms against a naive reading of it, modules that come, go and come again."""

from __future__ import annotations

import pytest
from builders import DRIVER, KERNEL_TEXT, START_NS, elf_tables, kallsyms, module_image
from hypothesis import given
from hypothesis import strategies as st

from kleaktrace.core.symbols.symbol_table import ELF_SYMBOL, Frame, ModuleImage, Symbols, TextRange, parse_kallsyms

BASE = 0xFFFFFFFF81000000
KEY = 0xFFFFFFFFC0200000


def naive_find(text: bytes, address: int) -> tuple[str, int, int, str | None] | None:
    """(name, offset, size, module) as kallsyms_lookup() has it: the first alias, up to the next higher symbol."""
    symbols = []
    for line in text.split(b"\n"):
        start, _, rest = line.partition(b" ")
        kind, _, name = rest.partition(b" ")
        well_formed = len(start) == 16 and not start.strip(b"0123456789abcdef") and name
        if well_formed and kind in (b"t", b"T", b"w", b"W"):
            bare, _, module = name.partition(b"\t")
            symbols.append((int(start, 16), bare.decode(), module.decode().strip("[]") or None))
    below = [start for start, _, _ in symbols if start <= address]
    if not below:
        return None
    start = max(below)
    above = [other for other, _, _ in symbols if other > start]
    name, module = next((name, module) for at, name, module in symbols if at == start)
    return name, address - start, (min(above) - start) if above else 0, module


names = st.from_regex(r"\A[a-zA-Z_][\w.$]{0,12}\Z").map(str.encode)
places = st.integers(0, 40).map(lambda n: BASE + 16 * n) | st.sampled_from([0, 1, 2**64 - 1, 2**63])
good_lines = st.builds(
    lambda at, kind, name, module: b"%016x %b %b%b" % (at, kind, name, module and b"\t[%b]" % module),
    places,
    st.sampled_from([b"t", b"T", b"w", b"W", b"d", b"D", b"r", b"A"]),
    names,
    st.sampled_from([b"", b"", b"drv", b"ext4"]),
)
odd_lines = st.sampled_from(
    [
        b"",
        b"ffffffff81000000",
        b"ffffffff81000000 T ",
        b"FFFFFFFF81000000 T upper",
        b"ffffffff8100000g T nodigit",
        b"ffffff81000000 T short",
        b"ffffffff81000000xTxno_blanks",
        b" (null) T hidden",
        b"\xff\xfe\x00 T noise",
    ]
)


@given(st.lists(good_lines | odd_lines, max_size=25), st.booleans(), st.data())
@pytest.mark.thorough
def test_kallsyms_reads_as_a_naive_reading_does(lines: list[bytes], ended: bool, data: st.DataObject) -> None:
    text = b"\n".join(lines) + (b"\n" if ended else b"")
    table = parse_kallsyms(text)
    for address in data.draw(st.lists(places | st.integers(BASE - 1, BASE + 700), min_size=1, max_size=8)):
        found = table.find(address)
        expected = naive_find(text, address)
        assert (found and (found.name, found.offset, found.size, found.module)) == expected


def test_an_empty_kallsyms_names_nothing() -> None:
    assert parse_kallsyms(b"").find(BASE) is None


@pytest.mark.parametrize(
    ("frame", "text"),
    [
        (Frame(0xFFFFFFFF81000022, "kfree", 0x22, 0x100), "kfree+0x22/0x100"),
        (Frame(0xFFFFFFFFC0100022, "drv_probe", 0x22, 0x100, "drv"), "drv_probe+0x22/0x100 [drv]"),
        (Frame(0xFFFFFFFFC0100022), "0xffffffffc0100022"),
        (Frame(0), "0x0"),
    ],
)
def test_frames_read_as_the_kernel_prints_them(frame: Frame, text: str) -> None:
    assert str(frame) == text


def test_symbols_of_the_kernel_itself_are_found_by_name() -> None:
    table = parse_kallsyms(
        b"ffffffffc0100000 t vfree\t[drv]\nffffffff81000000 T vfree_atomic\nffffffff81000100 D __per_cpu_offset\n"
        b"ffffffff81000200 T vfree\n"
    )
    assert table.address_of("vfree") == 0xFFFFFFFF81000200
    assert table.address_of("__per_cpu_offset") == 0xFFFFFFFF81000100, "data, too"
    assert table.address_of("free") is None
    assert table.address_of("drv") is None


def test_a_name_on_the_first_and_on_the_unended_last_line_is_found() -> None:
    table = parse_kallsyms(b"ffffffff81000000 T first\nffffffff81000010 T last")
    assert (table.address_of("first"), table.address_of("last")) == (BASE, BASE + 16)


def test_the_text_range_of_a_module_spans_its_functions_only() -> None:
    table = parse_kallsyms(
        kallsyms(KERNEL_TEXT)
        + b"ffffffffc0100100 t drv_work\t[drv]\nffffffffc0100000 T drv_probe\t[drv]\n"
        + b"ffffffffc0300000 d drv_data\t[drv]\nffffffffc0400000 t other\t[drv2]\n"
    )
    assert table.module_range("drv") == (0xFFFFFFFFC0100000, 0xFFFFFFFFC0100100)
    assert table.module_range("dr") is None


def symbols() -> Symbols:
    return Symbols(parse_kallsyms(kallsyms(KERNEL_TEXT)))


def test_a_return_address_belongs_to_the_function_that_called_even_at_its_very_end() -> None:
    """A call that never returns can be the last instruction: the address after it is already the next function."""
    kfree = KERNEL_TEXT["kfree"]
    assert str(symbols().frame(kfree)) == "__kmalloc_noprof+0x1000/0x1000"
    assert str(symbols().frame(kfree + 1)) == "kfree+0x1/0x1000"
    assert symbols().frame(kfree + 1).address == kfree + 1


@pytest.mark.parametrize(
    ("address", "why"),
    [
        (0, "no address"),
        (1, "before the first symbol"),
        (BASE, "its call is before the first symbol"),
        (KERNEL_TEXT["_etext"] + 5, "how long the last symbol is nobody knows"),
        (2**64 - 1, "after the last symbol"),
    ],
)
def test_what_has_no_name_stays_an_address(address: int, why: str) -> None:
    assert symbols().frame(address) == Frame(address), why


def test_hidden_addresses_name_nothing() -> None:
    assert Symbols(parse_kallsyms(kallsyms(dict.fromkeys(KERNEL_TEXT, 0)))).frame(BASE + 5) == Frame(BASE + 5)


# Modules


def test_a_module_names_its_addresses_from_when_it_is_loaded() -> None:
    known = symbols()
    address = DRIVER + 0x122
    assert known.frame(address).module is None
    known.module_loaded(module_image())
    assert str(known.frame(address)) == "drv_work+0x22/0x100 [drv]"
    assert str(known.frame(DRIVER + 0x201)) == "drv_free+0x1/0xe00 [drv]", "the last one ends with the text"
    assert known.frame(DRIVER + 0x1002).module is None


def test_the_kernel_s_own_code_keeps_its_names_whatever_comes() -> None:
    bounds = {"_stext": BASE, "last": BASE + 0x1000, "_etext": BASE + 0x2000, "bpf_prog_1": DRIVER}
    known = Symbols(parse_kallsyms(kallsyms(bounds)))
    for address in (BASE + 5, BASE + 0x2000, BASE + 0x2001, DRIVER + 5):
        fresh = Symbols(parse_kallsyms(kallsyms(bounds))).frame(address)
        assert known.frame(address) == known.frame(address) == fresh
    known.module_loaded(module_image())
    assert str(known.frame(BASE + 5)) == "_stext+0x5/0x1000"
    assert known.frame(BASE + 0x2000).name == "last"
    assert known.frame(DRIVER + 5).module == "drv"


def test_a_module_that_went_keeps_its_names() -> None:
    known = symbols()
    image = module_image()
    known.module_loaded(image)
    known.module_freed("drv", image.key, START_NS + 5)
    assert image.freed_ns == START_NS + 5
    assert str(known.frame(DRIVER + 0x22)) == "drv_probe+0x22/0x100 [drv]"


def test_another_module_in_the_same_place_takes_the_names_over_but_only_where_it_is() -> None:
    known = symbols()
    known.module_loaded(module_image())
    known.module_freed("drv", KEY, START_NS + 5)
    known.module_loaded(module_image("other", functions={"other_probe": 0}, length=0x80, key=KEY))
    assert str(known.frame(DRIVER + 0x22)) == "other_probe+0x22/0x80 [other]"
    assert str(known.frame(DRIVER + 0x122)) == "drv_work+0x22/0x100 [drv]"


def test_of_a_module_that_comes_again_and_again_no_more_is_kept_than_can_be_asked_for() -> None:
    known = symbols()
    for number in range(100):
        image = module_image(base=DRIVER + 0x10000 * (number % 3), init=(DRIVER + 0x40000, 0x100))
        known.module_loaded(image)
        known.module_freed("drv", image.key, START_NS + number)
    assert len(known._images) == 3
    assert len({id(image.strings) for image in known._images}) == 1
    assert len({str(known.frame(DRIVER + 0x10000 * number + 0x22)) for number in range(3)}) == 1
    assert known.frame(DRIVER + 0x40010).module == "drv"


def test_a_module_that_went_keeps_what_of_its_names_no_other_has_taken_over() -> None:
    known = symbols()
    first = module_image(init=(DRIVER + 0x40000, 0x100))
    known.module_loaded(first)
    known.module_loaded(module_image("below", base=DRIVER, length=0x800, key=KEY + 1))
    known.module_freed("drv", first.key, START_NS)
    known.module_loaded(module_image("same_place", init=(DRIVER + 0x50000, 0x100), key=KEY + 2))
    assert known.frame(DRIVER + 0x40010).module == "drv"
    known.module_loaded(module_image("its_init_too", base=DRIVER + 0x40000, key=KEY + 3))
    assert known.frame(DRIVER + 0x40010).module == "its_init_too"
    assert len(known._images) == 3


def test_a_module_that_came_later_hides_what_the_base_had_at_its_place() -> None:
    known = Symbols(parse_kallsyms(kallsyms({"old": DRIVER, "end": DRIVER + 0x5000}, "gone")))
    assert known.frame(DRIVER + 0x22).module == "gone"
    known.module_loaded(module_image())
    assert known.frame(DRIVER + 0x22).module == "drv"
    assert known.frame(DRIVER + 0x4000).module == "gone"


def test_unloads_are_found_by_name_and_time() -> None:
    known = symbols()
    known.module_freed("drv", KEY, 200)
    known.module_freed("drv", KEY, 100)
    known.module_freed("other", KEY, 150)
    assert [known.unloaded_after("drv", at) for at in (0, 100, 101, 200, 201)] == [100, 100, 200, 200, None]


def test_of_two_loads_at_one_place_the_one_that_is_there_is_freed() -> None:
    known = symbols()
    first, second = module_image(), module_image()
    known.module_loaded(first)
    known.module_freed("drv", KEY, 10)
    known.module_loaded(second)
    assert known.image(KEY) is second
    known.module_freed("drv", KEY, 20)
    assert (first.freed_ns, second.freed_ns) == (10, 20)
    assert known.image(KEY + 8) is None
    known.module_freed("drv", KEY, 30)
    assert (first.freed_ns, second.freed_ns) == (10, 20), "one whose load was lost is none of these"


def test_init_functions_are_named_in_memory_of_their_own() -> None:
    init = 0xFFFFFFFFC0300000
    image = module_image(init=(init, 0x200))
    image.set_symbols(*elf_tables([("drv_probe", DRIVER), ("drv_init", init), ("drv_setup", init + 0x80)]))
    known = symbols()
    known.module_loaded(image)
    assert str(known.frame(init + 0x22)) == "drv_init+0x22/0x80 [drv]"
    assert str(known.frame(init + 0xA2)) == "drv_setup+0x22/0x180 [drv]"
    assert str(known.frame(DRIVER + 0x22)) == "drv_probe+0x22/0x1000 [drv]", "not up to the __init text"


def test_of_aliases_the_first_one_names_as_in_the_kernel() -> None:
    """module_init(drv_init) gives drv_init the second name init_module (include/linux/module.h)."""
    image = module_image(functions={})
    image.set_symbols(*elf_tables([("drv_init", DRIVER + 0x40), ("init_module", DRIVER + 0x40), ("drv_a", DRIVER)]))
    assert str(image.find(DRIVER + 0x42)) == "drv_init+0x2/0xfc0 [drv]"
    assert str(image.find(DRIVER + 0x2)) == "drv_a+0x2/0x40 [drv]"


@pytest.mark.parametrize("label", ["", "$x", "$d.3", ".L123", "L0\x01", "__UNIQUE_ID_modinfo1"])
def test_labels_that_name_nothing_neither_begin_nor_end_a_function(label: str) -> None:
    image = module_image(functions={"drv_probe": 0, label: 0x40, "drv_work": 0x100})
    assert str(image.find(DRIVER + 0x22)) == "drv_probe+0x22/0x100 [drv]"
    assert str(image.find(DRIVER + 0x42)) == "drv_probe+0x42/0x100 [drv]"
    aliased = module_image(functions={})
    aliased.set_symbols(*elf_tables([(label, DRIVER), ("drv_probe", DRIVER)]))
    assert str(aliased.find(DRIVER + 0x42)) == "drv_probe+0x42/0x1000 [drv]"


def test_section_and_file_symbols_and_what_lies_elsewhere_are_left_out() -> None:
    tables = [elf_tables([("bad", DRIVER + 0x10)], info=info) for info in (3, 4)]
    for symbol_table, strings in tables:
        image = module_image(functions={})
        image.set_symbols(symbol_table, strings)
        assert image.symbols.size == 0
    image = module_image(functions={"data": 0x9000, "undefined": -DRIVER, "drv_probe": 0})
    assert image.symbols.size == 1


def test_a_module_without_symbols_is_named_by_itself() -> None:
    image = module_image(functions={})
    assert str(image.find(DRIVER + 0x22)) == "drv+0x22/0x1000 [drv]"


def test_init_code_without_symbols_is_not_named_after_other_code_of_the_module() -> None:
    image = module_image(init=(DRIVER + 0x100000, 0x200))
    assert str(image.find(DRIVER + 0x100022)) == "drv+0x22/0x200 [drv]"


def test_code_before_a_module_s_first_symbol_is_named_by_the_module() -> None:
    assert str(module_image(functions={"late": 0x80}).find(DRIVER + 0x22)) == "drv+0x22/0x1000 [drv]"


@given(st.binary(max_size=200), st.binary(max_size=40), st.integers(0, 0x11FF))
def test_whatever_a_module_s_tables_hold_an_address_gets_a_name(table: bytes, strings: bytes, at: int) -> None:
    image = ModuleImage("drv", KEY, 0, TextRange(DRIVER, 0x1000), TextRange(DRIVER + 0x1000, 0x200))
    image.set_symbols(table, strings)
    assert len(image.symbols) <= len(table) // ELF_SYMBOL.itemsize
    frame = image.find(DRIVER + at)
    assert frame.module == "drv"
    assert frame.name
    assert 0 <= frame.offset < frame.size


def test_symbols_of_a_table_cut_in_its_strings_keep_the_whole_names() -> None:
    symbol_table, strings = elf_tables([("drv_probe", DRIVER), ("drv_cut_short", DRIVER + 0x40)])
    image = module_image(functions={})
    image.set_symbols(symbol_table, strings[:-6])
    assert image.find(DRIVER + 0x42).name == "drv_probe"


def test_a_function_is_found_in_the_kernel_and_in_modules_with_what_was_split_off() -> None:
    table = kallsyms({"probe": BASE, "probe.cold": BASE + 0x100, "probed": BASE + 0x200})
    loaded_before = kallsyms({"probe": DRIVER - 0x10000, "other": DRIVER - 0xFF00}, "old")
    symbols = Symbols(parse_kallsyms(table + loaded_before))
    init = DRIVER + 0x8000
    functions = {"probe.isra.0": 0x100, "last": 0x200, "probe": 0x8000}
    symbols.module_loaded(module_image(functions=functions, init=(init, 0x1000)))
    found = symbols.places_of("probe")
    assert [(place.module, place.address, place.length, place.in_init) for place in found] == [
        ("", BASE, 0x100, False),
        ("", BASE + 0x100, 0x100, False),
        ("old", DRIVER - 0x10000, 0x100, False),
        ("drv", DRIVER + 0x100, 0x100, False),
        ("drv", init, 0x1000, True),
    ]
    assert symbols.places_of("prob") == []


def test_a_function_of_a_module_that_came_again_is_where_it_is_now() -> None:
    symbols = Symbols(parse_kallsyms(kallsyms({"probe": DRIVER}, "drv")))
    symbols.module_loaded(module_image(functions={"probe": 0x300}))
    assert [place.address for place in symbols.places_of("probe")] == [DRIVER + 0x300]

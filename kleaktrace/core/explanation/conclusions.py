# SPDX-License-Identifier: GPL-2.0-or-later
"""How likely suspects are leaks, by their text alone; what speaks for it, what against, and the command that decides.

A text proves nothing: kmemleak says "nobody points to this", a verdict says "and it is never freed". So no conclusion
here is a verdict (`core/verdicts`), and each one comes with the command that gets one.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from kleaktrace.core.explanation.listings import Listings, contents_changed, once_each, seconds_apart
from kleaktrace.core.explanation.object_facts import common_facts
from kleaktrace.core.explanation.references import References, references
from kleaktrace.core.explanation.source_command import source_command
from kleaktrace.core.explanation.stack_trust import doubts
from kleaktrace.core.kmemleak.groups import SuspectGroup, group, hints
from kleaktrace.core.kmemleak.kmemleak_text import KmemleakText, Suspect
from kleaktrace.core.known_leaks import NOTHING_KNOWN, KnownLeak, KnownLeaks
from kleaktrace.core.symbols.requesters import Role, role_of

_MANY = 3
_OLD_S = 600.0
_INIT = re.compile(r"do_one_initcall|do_init_module|load_module|\w*init_module\w*")
_SHOWN_ADDRESSES = 3
_SWAPPER = re.compile(r"swapper(?:/0)?")
_BOOT = re.compile(r"start_kernel|do_one_initcall|do_initcalls|kernel_init\w*")
_FIRST_PID = 1
_KERNEL_TASKS = re.compile(
    r"kworker/.*|swapper.*|kthreadd|softirq|hardirq|ksoftirqd/.*|\(udev-worker\)|systemd-udevd|init|systemd"
)
_MODULE_NAME = re.compile(r"[\w-]{1,64}")
_LOADERS = ("insmod", "modprobe", "kmodloader", "(udev-worker)", "systemd-udevd", "systemd-modules")
_SHELL_NAME = re.compile(r"[\w.+-]{1,15}")


class Likelihood(StrEnum):
    """How likely it is a leak. The values are part of JSON documents."""

    LIKELY = "likely"
    OPEN = "open"
    UNLIKELY = "unlikely"


@dataclass(frozen=True, slots=True)
class Conclusion:
    """What is to be thought of suspects with one backtrace.

    `speaks_for` and `speaks_against` its being a leak are short phrases; `decides` is the command to type.
    """

    group: SuspectGroup
    likelihood: Likelihood
    speaks_for: tuple[str, ...]
    speaks_against: tuple[str, ...]
    decides: str
    facts: tuple[str, ...]
    hints: tuple[str, ...]
    source_command: str

    @property
    def requester(self) -> str:
        """Who asked for the memory, as in the backtrace; "" if no frame tells."""
        return self.group.requester.text if self.group.requester else ""


class Origin(StrEnum):
    """Whose code asked for memory. The values are part of JSON documents."""

    KERNEL = "kernel"
    """The kernel itself, and no module had it ask."""
    MODULE = "module"
    GONE = "gone"
    """A module that is not loaded any more."""
    NOT_TOLD = "not told"
    """No frame says it, or there are none."""


@dataclass(frozen=True, slots=True)
class ModuleShare:
    """The suspects that one module asked for, or had the kernel ask for.

    `module` is "" for the kernel itself, None if it is gone or the text does not tell, as `origin` says.
    """

    module: str | None
    count: int
    bytes: int
    origin: Origin


@dataclass(frozen=True, slots=True)
class KnownGroups:
    """The suspects that one line of a file of known leaks takes out; none: they may have been mended."""

    known: KnownLeak
    groups: tuple[SuspectGroup, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """A text, explained: conclusions most bytes first, what each module asked for, and the command for all of it.

    `text` has each object once, and `listings` where it was listed again. `known` is in none of the others.
    """

    text: KmemleakText
    conclusions: tuple[Conclusion, ...]
    modules: tuple[ModuleShare, ...]
    decides: str
    listings: Listings
    references: References
    known: tuple[KnownGroups, ...] = ()

    @property
    def count(self) -> int:
        """Number of objects."""
        return sum(one.group.count for one in self.conclusions)

    @property
    def bytes(self) -> int:
        """Their bytes."""
        return sum(one.group.bytes for one in self.conclusions)

    def of(self, likelihood: Likelihood) -> int:
        """How many of the groups are so likely leaks."""
        return sum(one.likelihood is likelihood for one in self.conclusions)


def explain(text: KmemleakText, known: KnownLeaks = NOTHING_KNOWN) -> Explanation:
    """Explain all that a text has of suspects; `known`: what is told of apart."""
    listings = once_each(text.objects)
    found = references(listings.objects)
    by_line: dict[KnownLeak | None, list[SuspectGroup]] = {}
    for one in group(listings.objects):
        by_line.setdefault(_line_of(one, known), []).append(one)
    groups = by_line.pop(None, [])
    conclusions = tuple(conclude(one, listings, found) for one in groups)
    decides = next((one.decides for one in conclusions if one.likelihood is not Likelihood.UNLIKELY), "")
    return Explanation(
        replace(text, objects=listings.objects),
        conclusions,
        _modules(groups),
        decides,
        listings,
        found,
        tuple(KnownGroups(line, tuple(by_line.get(line, ()))) for line in known.leaks),
    )


def _line_of(one: SuspectGroup, known: KnownLeaks) -> KnownLeak | None:
    # Mostly nothing is known, and a long report has half a million groups.
    return known.of([frame.text for frame in one.own_frames]) if known.leaks else None


def conclude(one: SuspectGroup, listings: Listings, found: References) -> Conclusion:
    """Weigh what the text says of suspects with one backtrace."""
    said = hints(one)
    again = _again(one, listings)
    often, is_later = _still_there(again, one.count)
    against = [*(hint for hint in said if _is_excuse(hint)), *_changed(again, one.count)]
    speaks_for = [*([often] if is_later else []), *_for(one)]
    if any("known false positive" in hint for hint in against):
        speaks_for = []
    if any("known false positive" in hint or "often a false positive" in hint for hint in against):
        likelihood = Likelihood.UNLIKELY
    elif speaks_for and not against:
        likelihood = Likelihood.LIKELY
    else:
        likelihood = Likelihood.OPEN
    owners = _owners(one, found)
    if not against and len(one.members) == 1 and not one.members[0].more and not speaks_for and not owners:
        against.append("a single object, which nothing else in the text tells about")
    others = (
        *owners,
        *([often] if often and not is_later else []),
        *(hint for hint in said if not _is_excuse(hint)),
        *_shared(one),
        *doubts(one.frames, one.requester_at),
    )
    return Conclusion(
        one,
        likelihood,
        tuple(speaks_for),
        tuple(against),
        _decides(one),
        common_facts(one.members),
        others,
        source_command(one.requester),
    )


_SCANS_S = 600
"""So often kmemleak scans by itself (mm/kmemleak.c, SECS_SCAN_WAIT): what is listed sooner may be the same scan's."""
_EXCUSES = ("false positive", "through RCU", "crc 0", "younger than")


def _is_excuse(hint: str) -> bool:
    return any(word in hint for word in _EXCUSES)


def _for(one: SuspectGroup) -> list[str]:
    found = []
    if one.count >= _MANY:
        found.append(f"{one.count:,} objects from one place")
    ages = [m.age_s for m in one.members if m.age_s is not None]
    if ages and max(ages) >= _OLD_S:
        found.append(f"unreferenced though {max(ages):,.0f} s old")
    span = _span(one.members)
    if span and one.count > 1 and not ages:
        found.append("allocated at different times")
    asked = one.requester
    if asked is not None and not asked.resolved and not _init_only(one):
        found.append("the module that asked for it is gone, and left it behind")
    if one.module:
        found.append(f"asked for by a module's own code ({one.module})")
    return found


def _again(one: SuspectGroup, listings: Listings) -> list[tuple[Suspect, ...]]:
    """The listings of each object that is listed more than once."""
    if not listings.repeated:
        return []
    return [each for each in map(listings.of, one.members) if len(each) > 1]


def _still_there(again: Sequence[Sequence[Suspect]], count: int) -> tuple[str, bool]:
    """How often objects were listed, and whether kmemleak has scanned in between, which it may not have for minutes."""
    if not again:
        return "", False
    apart_s = max(seconds_apart(each) or 0.0 for each in again)
    times = max(len(each) for each in again)
    which = "" if count == 1 else "all " if len(again) == count else f"{len(again):,} of them "
    often = f"{which}listed {'twice' if times == 2 else f'{times} times'}"
    if not apart_s:
        return often, False
    return f"{often}, {'up to ' if len(again) > 1 else ''}{apart_s:,.0f} s apart", apart_s >= _SCANS_S


def _changed(again: Sequence[Sequence[Suspect]], count: int) -> list[str]:
    """Whether something still writes to objects that are listed."""
    changed = sum(contents_changed(each) for each in again)
    which = "" if count == 1 else f" of {changed:,} of them"
    return [f"the contents{which} changed from one listing to the next: somebody still writes there"] if changed else []


def _owners(one: SuspectGroup, found: References) -> list[str]:
    """Which other suspects these point to, and which point to these: who forgot the owner forgot all of it."""
    if not found.targets:
        return []
    own = {member.address for member in one.members}
    targets = {target for address in own for target in found.targets.get(address, ())} - own
    sources = {source for address in own for source in found.sources.get(address, ())} - own
    if both := targets & sources:
        return [f"{_addresses(both)} of this text and {_these(one)} point to each other: they are lost together"]
    said = []
    if sources:
        said.append(f"{_addresses(sources)} of this text points to {_these(one)}: mend that first")
    if targets:
        first = "" if sources else ": mend this one first, they are lost with it"
        said.append(f"points to {_addresses(targets)} of this text{first}")
    return said


def _these(one: SuspectGroup) -> str:
    return "it" if one.count == 1 else "these"


def _addresses(addresses: Collection[int]) -> str:
    shown = [f"0x{address:08x}" for address in sorted(addresses)[:_SHOWN_ADDRESSES]]
    more = len(addresses) - len(shown)
    return ", ".join(shown) + (f" and {more:,} more" if more else "")


def _shared(one: SuspectGroup) -> list[str]:
    """Whether what was asked for has no single owner, by the innermost function that says so (`requesters`)."""
    inner = one.frames[: one.requester_at]
    names = [f.symbol for f in inner if f.symbol and role_of(f.symbol) is Role.SHARING]
    return (
        [f"what {names[0]} allocates is freed by whoever comes last: who asked need not be who forgot it"]
        if names
        else []
    )


def _init_only(one: SuspectGroup) -> bool:
    return any("init function" in hint for hint in hints(one))


def _span(members: Sequence[Suspect]) -> int:
    times = [m.jiffies for m in members if m.jiffies >= 0]
    return max(times) - min(times) if times else 0


def _is_of_boot(one: SuspectGroup) -> bool:
    """Whether code that is built in asked before there was any program: the first task is swapper/0 until then.

    The idle tasks have the same name, and interrupts come upon them later, too: they have pid 0.
    """
    return all(
        _SWAPPER.fullmatch(member.comm)
        and (member.pid == _FIRST_PID or any(f.symbol and _BOOT.fullmatch(f.symbol) for f in member.frames))
        for member in one.members
    )


def _decides(one: SuspectGroup) -> str:
    """The command whose verdict settles it: what allocated this, run again under our eyes.

    What happened while the kernel booted no command does again: of that, only frees can be watched.
    """
    if _is_of_boot(one):
        return "sudo kleaktrace confirm  (it happens while the kernel boots: no command does it again)"
    repeat = "sudo kleaktrace run --repeat 5 -- "
    module = next((f.module for f in one.frames if f.module), None)
    in_init = any(f.symbol and _INIT.fullmatch(f.symbol) for f in one.frames)
    comm = one.members[0].comm
    if in_init or (module and comm in _LOADERS):
        name = module if module and _MODULE_NAME.fullmatch(module) else "MODULE"
        return f"{repeat}sh -c 'modprobe {name} && rmmod {name}'"
    if _SHELL_NAME.fullmatch(comm) and not _KERNEL_TASKS.fullmatch(comm):
        return f"{repeat}{comm} …"
    return f"{repeat}CMD  (CMD: what made it happen)"


def _modules(groups: Sequence[SuspectGroup]) -> tuple[ModuleShare, ...]:
    shares: dict[tuple[Origin, str | None], ModuleShare] = {}
    for one in groups:
        origin, module = key = _origin(one)
        before = shares.get(key, ModuleShare(module, 0, 0, origin))
        shares[key] = replace(before, count=before.count + one.count, bytes=before.bytes + one.bytes)
    return tuple(sorted(shares.values(), key=lambda share: -share.bytes))


def _origin(one: SuspectGroup) -> tuple[Origin, str | None]:
    """Whose code asked, and the module: of what the kernel does for a module's code, that one's."""
    if one.requester is None:
        return Origin.NOT_TOLD, None
    asked = one.caller or one.requester
    if not asked.resolved:
        return Origin.GONE, None
    module = one.module or asked.module
    return (Origin.MODULE, module) if module else (Origin.KERNEL, "")

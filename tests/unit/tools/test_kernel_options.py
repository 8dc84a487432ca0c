# SPDX-License-Identifier: GPL-2.0-or-later
"""What a kernel must be configured with, read out of its configuration, and the fragment that sets it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from made_up_tree import config_text

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "tools"))

from guest_lib.architectures import ARM64, X86_64, Architecture
from guest_lib.kernel_config import read_config
from guest_lib.kernel_options import OPTIONS, fragment, missing_options, options_for


def missing(changed: dict[str, str], architecture: Architecture = X86_64) -> list[str]:
    config = read_config(config_text(changed, architecture))
    return [option.name for option in missing_options(config, architecture)]


@pytest.mark.parametrize("architecture", [X86_64, ARM64])
def test_a_configuration_with_all_of_it_lacks_nothing(architecture: Architecture) -> None:
    assert missing({}, architecture) == []


def test_an_empty_configuration_lacks_all_but_what_must_not_be_set() -> None:
    found = {option.name for option in missing_options(read_config(""), X86_64)}
    assert found == {option.name for option in options_for(X86_64) if option.value == "y"}


def test_what_is_not_set_is_missing_and_what_must_not_be_set_is_found() -> None:
    assert missing({"DEVTMPFS": "n", "DEBUG_INFO_REDUCED": "y"}) == ["DEVTMPFS", "DEBUG_INFO_REDUCED"]


def test_a_module_serves_only_where_virtme_ng_loads_it() -> None:
    assert missing({"9P_FS": "m", "BLK_DEV_INITRD": "y"}) == []
    assert missing({"9P_FS": "m"}) == ["BLK_DEV_INITRD"]
    assert missing({"9P_FS": "m", "BLK_DEV_INITRD": "y"}, ARM64) == ["9P_FS"]


def test_of_a_setting_that_comes_twice_the_last_counts() -> None:
    text = config_text() + "# CONFIG_NET is not set\n" + "CONFIG_TTY=n\nCONFIG_TTY=y\n"
    assert [option.name for option in missing_options(read_config(text), X86_64)] == ["NET"]


@pytest.mark.parametrize("architecture", [X86_64, ARM64])
def test_the_fragment_sets_all_that_is_missing(architecture: Architecture) -> None:
    lacking = config_text(dict.fromkeys([option.name for option in OPTIONS], "n"), architecture)
    lacking += "CONFIG_DEBUG_INFO_SPLIT=y\nCONFIG_MODULE_SIG_FORCE=y\n"
    merged = lacking + fragment(missing_options(read_config(lacking), architecture), read_config(lacking))
    assert missing_options(read_config(merged), architecture) == []


def test_the_fragment_says_what_each_is_for_and_opens_what_kconfig_hides() -> None:
    config = read_config(config_text({"9P_FS": "n", "DEBUG_KMEMLEAK": "n", "UNWINDER_GUESS": "y"}))
    assert fragment(missing_options(config, X86_64), config).splitlines() == [
        "# the root file system, which is this machine's; without, the guest does not boot",
        "CONFIG_INET=y",
        "CONFIG_NETWORK_FILESYSTEMS=y",
        "CONFIG_9P_FS=y",
        "# CONFIG_UNWINDER_GUESS guesses stacks; with it, kleaktrace sees less",
        "CONFIG_UNWINDER_ORC=y",
        "# kmemleak, without which only repetition and unloaded modules convict; without, kleaktrace sees less",
        "CONFIG_DEBUG_KERNEL=y",
        "CONFIG_DEBUG_KMEMLEAK=y",
    ]


def test_no_line_of_the_fragment_comes_twice() -> None:
    lines = [line for line in fragment(options_for(X86_64)).splitlines() if not line.startswith("# ")]
    assert len(lines) == len(set(lines))


def test_every_option_says_what_it_is_for() -> None:
    assert all(option.purpose and option.value in ("y", "n") for option in OPTIONS)

# SPDX-License-Identifier: GPL-2.0-or-later
"""Reading kernel memory by plain loads: a word costs a nanosecond so, and twenty by bpf_probe_read_kernel.

`bpf_rdonly_cast` (kernel/bpf/helpers.c, since v6.2, commit a35b9af4ec2c) makes of any number a pointer that may be read
through; a fault reads as 0. The verifier turns the call into nothing.
"""

from __future__ import annotations

import logging
import os

from kleaktrace.edge.bpf import libbpf
from kleaktrace.edge.bpf.btf import Btf
from kleaktrace.edge.bpf.compiled_programs import CALL, KERNEL_FUNCTION, instruction
from kleaktrace.edge.bpf.libbpf import AttachType, ProgramType

_LOG = logging.getLogger(__name__)

FUNCTION = "bpf_rdonly_cast"
_WORD = "timespec64"
"""A structure that begins with a number of 64 bits, on every kernel: what is read is of this type."""

_SET, _LOAD, _EXIT = 0xB7, 0x79, 0x95  # BPF_ALU64 | BPF_MOV | BPF_K, BPF_LDX | BPF_MEM | BPF_DW, BPF_JMP | BPF_EXIT


def plain_loads(btf: Btf) -> dict[str, int]:
    """What `compiled_programs.VALUES` and `FUNCTIONS` need for it; nothing if this kernel refuses it."""
    function, word = btf.function_id(FUNCTION), btf.struct_id(_WORD)
    if function is None or word is None:
        _LOG.info("kernel memory is copied piece by piece: this kernel has no %s", FUNCTION)
        return {}
    refusal = _refusal(function, word)
    if refusal:
        _LOG.info("kernel memory is copied piece by piece: %s was refused: %s", FUNCTION, refusal)
        return {}
    return {"RDONLY_CAST": function, "WORD_TYPE": word}


def _refusal(function: int, word: int) -> str:
    """Why the kernel takes no program that does it: it must have a JIT compiler, for instance. Empty: it does."""
    code = (
        instruction(_SET, destination=1)
        + instruction(_SET, destination=2, constant=word)
        + instruction(CALL, source=KERNEL_FUNCTION, constant=function)
        + instruction(_LOAD)
        + instruction(_EXIT)
    )
    try:
        os.close(libbpf.load_program(ProgramType.RAW_TRACEPOINT, "plain_loads", "GPL", code, AttachType.NONE, 0))
    except OSError as error:
        return error.strerror or str(error)
    return ""

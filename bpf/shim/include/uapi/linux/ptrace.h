/* SPDX-License-Identifier: GPL-2.0-only */
/* Registers at a kprobe, by the names bcc's PT_REGS_* macros use (arch/<arch>/include/asm/ptrace.h). */
#pragma once
#if defined(__x86_64__) || defined(__TARGET_ARCH_x86)
struct pt_regs {
	unsigned long r15, r14, r13, r12, bp, bx, r11, r10, r9, r8, ax, cx, dx, si, di;
	unsigned long orig_ax, ip, cs, flags, sp, ss;
};
#else
struct user_pt_regs {
	__u64 regs[31], sp, pc, pstate;
};
struct pt_regs {
	__u64 regs[31], sp, pc, pstate;
};
#endif

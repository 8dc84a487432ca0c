/* SPDX-License-Identifier: GPL-2.0-only */
/* What all sources share, those of the tracer and inject.c: text ranges, and mixing numbers into a hash. */

#define INLINE static inline __attribute__((always_inline))

INLINE u64 mix(u64 value)
{
	value *= 0xff51afd7ed558ccdULL;
	return value ^ value >> 32;
}

/*
 * 1 if an address lies outside, else 0. Without a branch, as all that is done for each frame: the verifier follows each
 * branch of each turn of a loop, and a start would take half as long again.
 */
INLINE u64 outside(u64 address, u64 start, u64 length)
{
	u64 distance = address - start;

	return ((length - 1 - distance) | distance) >> 63;
}

/* Where kallsyms does not tell where they are, nothing lies in them. */
#ifndef ENTRY_TEXT /* where an interrupt, a fault or a system call enters the kernel */
#define ENTRY_TEXT 0ULL
#define ENTRY_TEXT_LENGTH 0ULL
#endif
#ifndef KERNEL_TEXT /* code that is always the same, as that of modules is not */
#define KERNEL_TEXT 0ULL
#define KERNEL_TEXT_LENGTH 0ULL
#endif

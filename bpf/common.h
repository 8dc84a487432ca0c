/* SPDX-License-Identifier: GPL-2.0-only */
/* What every program needs: loss counters, switches, context, hidden addresses. */

INLINE void count(u32 what)
{
	u32 zero = 0;
	struct counts *counts = counters.lookup(&zero);

	if (counts)
		counts->of[what]++;
}

#define FILLED_SHARE 4

/*
 * The flags to hand over a record with. User space looks at the rings in its own time, unless one of them fills: at one
 * part in FILLED_SHARE it is woken. A wake-up is dear, and so is asking: do it for some events only.
 */
INLINE u64 wake_if_filled(u64 ring)
{
	u64 waiting = bpf_ringbuf_query((void *)ring, BPF_RB_AVAIL_DATA);
	u64 size = bpf_ringbuf_query((void *)ring, BPF_RB_RING_SIZE);

	return waiting > size / FILLED_SHARE ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP;
}

/* As kmemleak would take an address in a map, or in a page that was one of the ring's, for a reference. */
INLINE u64 hidden(u64 address)
{
	/*
	 * KASAN keeps a tag in the top byte (arm64), and not always the same one for one object: with bit 55 set, all of it
	 * is. Without a branch, for the verifier's sake: see hand_over_sample().
	 */
	u64 tag = (s64)(address << 8) >> 63;

	return ~(address | tag << 56);
}

/* A word of kernel memory, or half of one; 0 where there is none. */
#ifdef RDONLY_CAST
static void *(*rdonly_cast)(u64 address, u32 type) = (void *)RDONLY_CAST;

INLINE u64 word_at(u64 address)
{
	return *(volatile u64 *)rdonly_cast(address, WORD_TYPE);
}

INLINE u32 half_at(u64 address)
{
	return *(volatile u32 *)rdonly_cast(address, WORD_TYPE);
}
#else
INLINE u64 word_at(u64 address)
{
	u64 word = 0;

	bpf_probe_read_kernel(&word, sizeof(word), (void *)address);
	return word;
}

INLINE u32 half_at(u64 address)
{
	u32 half = 0;

	bpf_probe_read_kernel(&half, sizeof(half), (void *)address);
	return half;
}
#endif

INLINE u64 state_of(u32 what)
{
	u64 *value = state.lookup(&what);

	return value ? *value : 0;
}

INLINE void bump(u32 what)
{
	u64 *value = state.lookup(&what);

	if (value)
		__sync_fetch_and_add(value, 1);
}

/*
 * Whether so many quarters of the name ring are filled. Stacks and caches leave the last one to modules, of which there
 * is no telling again, and what is worth less than a name leaves half of it to names.
 */
#define QUARTERS_FOR_NAMES 3
#define QUARTERS_FOR_EXTRAS 2

INLINE bool is_filled_to(u64 quarters)
{
	u64 waiting = bpf_ringbuf_query((void *)NAME_RING, BPF_RB_AVAIL_DATA);
	u64 size = bpf_ringbuf_query((void *)NAME_RING, BPF_RB_RING_SIZE);

	return waiting >= size / 4 * quarters;
}

/* Whether a name could be told now. If not, it is as if it had not been seen yet. */
INLINE bool tell(void *name, u64 size)
{
	if (is_filled_to(QUARTERS_FOR_NAMES) || names.ringbuf_output(name, size, wake_if_filled(NAME_RING))) {
		bump(UNTOLD);
		return false;
	}
	return true;
}

/*
 * include/linux/preempt.h: bits 8-15 count softirqs (odd while one is served), four from HARDIRQ_SHIFT on hardirqs, and
 * those behind them NMIs. The highest bit can be another thing.
 */
INLINE u8 context_of(u32 preempt_count)
{
	if (preempt_count & 7U << (HARDIRQ_SHIFT + 4))
		return NMI;
	if (preempt_count & 15U << HARDIRQ_SHIFT)
		return HARDIRQ;
	if (preempt_count & 1U << 8)
		return SOFTIRQ;
	return TASK;
}

INLINE u8 current_context(struct scratch *s)
{
#if defined(PREEMPT_COUNT_PER_CPU)
	if (!s->preempt_count)
		s->preempt_count = word_at(PER_CPU_OFFSET + 8ULL * bpf_get_smp_processor_id()) + PREEMPT_COUNT_PER_CPU;
	return context_of(half_at(s->preempt_count));
#elif defined(PREEMPT_COUNT_IN_TASK)
	return context_of(half_at(bpf_get_current_task() + PREEMPT_COUNT_IN_TASK));
#else
	return UNKNOWN_CONTEXT;
#endif
}

#ifdef FILTER_MODULE
/* A range of nothing where the module is not loaded. */
INLINE struct text_range module_range(u32 which)
{
	struct text_range nowhere = {}, *range = module_text.lookup(&which);

	return range ? *range : nowhere;
}
#endif

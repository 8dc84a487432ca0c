/* What every program needs: loss counters, switches, context, hidden addresses. */

#define INLINE static inline __attribute__((always_inline))

INLINE void count(u32 what)
{
	u64 *counter = counters.lookup(&what);

	if (counter)
		(*counter)++;
}

/* As kmemleak would take an address in a map, or in a page that was one of the ring's, for a reference. */
INLINE u64 hidden(u64 address)
{
	/* KASAN keeps a tag in the top byte (arm64), and not always the same one for one object. */
	if (address >> 55 & 1)
		address |= 0xffULL << 56;
	return ~address;
}

/* A word of kernel memory; 0 where there is none. */
#ifdef RDONLY_CAST
static void *(*rdonly_cast)(u64 address, u32 type) = (void *)RDONLY_CAST;

INLINE u64 word_at(u64 address)
{
	return *(volatile u64 *)rdonly_cast(address, WORD_TYPE);
}
#else
INLINE u64 word_at(u64 address)
{
	u64 word = 0;

	bpf_probe_read_kernel(&word, sizeof(word), (void *)address);
	return word;
}
#endif

INLINE bool is_recording(void)
{
	u32 zero = 0;
	u64 *value = recording.lookup(&zero);

	return value && *value;
}

INLINE u64 current_epoch(void)
{
	u32 zero = 0;
	u64 *value = epoch.lookup(&zero);

	return value ? *value : 0;
}

/* include/linux/preempt.h: bits 8-15 count softirqs (odd while one is served), 16-19 hardirqs, 20-23 NMIs. */
INLINE u8 context_of(u32 preempt_count)
{
	if (preempt_count & 0x00f00000)
		return NMI;
	if (preempt_count & 0x000f0000)
		return HARDIRQ;
	if (preempt_count & 0x00000100)
		return SOFTIRQ;
	return TASK;
}

INLINE u8 current_context(struct scratch *s)
{
#if defined(PREEMPT_COUNT_PER_CPU)
	u32 count = 0;

	if (!s->preempt_count) {
		u64 base = 0;
		u64 slot = PER_CPU_OFFSET + 8ULL * bpf_get_smp_processor_id();

		bpf_probe_read_kernel(&base, sizeof(base), (void *)slot);
		s->preempt_count = base + PREEMPT_COUNT_PER_CPU;
	}
	if (bpf_probe_read_kernel(&count, sizeof(count), (void *)s->preempt_count))
		return UNKNOWN_CONTEXT;
	return context_of(count);
#elif defined(PREEMPT_COUNT_IN_TASK)
	u32 count = 0;

	if (bpf_probe_read_kernel(&count, sizeof(count), (void *)bpf_get_current_task() + PREEMPT_COUNT_IN_TASK))
		return UNKNOWN_CONTEXT;
	return context_of(count);
#else
	return UNKNOWN_CONTEXT;
#endif
}

#ifdef FILTER_MODULE
INLINE bool in_range(u64 address, struct text_range *range)
{
	return range && address - range->start < range->length;
}
#endif

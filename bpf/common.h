/* What every probe needs: loss counters, context, stacks, cache names, and the two ways to hand over an event. */

#define INLINE static inline __attribute__((always_inline))

INLINE void count(u32 what)
{
	u64 *counter = counters.lookup(&what);

	if (counter)
		(*counter)++;
}

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

/*
 * Unwind, and give the stack a key that is the same for the same frames (of the same epoch). Frames go to user
 * space when the key is new. 0: no stack could be taken.
 */
INLINE u64 take_stack(void *ctx, struct scratch *s, bool *in_module)
{
	struct stack_name *stack = &s->stack;
	u64 key = current_epoch() * 0x9e3779b97f4a7c15ULL + 1;
	long bytes = bpf_get_stack(ctx, stack->frames, STACK_DEPTH * sizeof(u64), 0);

	if (bytes <= 0) {
		count(LOST_STACKS);
		return 0;
	}

	u32 depth = bytes / sizeof(u64);
#ifdef FILTER_MODULE
	u32 core = CORE_TEXT, init = INIT_TEXT;
	struct text_range *core_text = module_text.lookup(&core);
	struct text_range *init_text = module_text.lookup(&init);
#endif

	for (u32 i = 0; i < STACK_DEPTH; i++) {
		if (i >= depth)
			break;
		key = (key ^ stack->frames[i]) * 0xff51afd7ed558ccdULL;
		key ^= key >> 32;
#ifdef FILTER_MODULE
		if (in_range(stack->frames[i], core_text) || in_range(stack->frames[i], init_text))
			*in_module = true;
#endif
	}
	if (!key)
		key = 1;
#ifdef FILTER_MODULE
	if (!*in_module)
		return key;
#endif

	if (!known_stacks.lookup(&key)) {
		u64 now = bpf_ktime_get_ns();

		stack->type = STACK_NAME;
		stack->depth = depth;
		stack->key = key;
		stack->time_ns = now;
		if (names.ringbuf_output(stack, sizeof(*stack), BPF_RB_NO_WAKEUP))
			count(LOST_NAMES);
		else
			known_stacks.update(&key, &now);
	}
	return key;
}

/* The cache as we know it; on first sight, or when it may have changed, looked up in the kernel and told. */
INLINE struct known_cache *know_cache(u64 cache, struct scratch *s)
{
	struct known_cache *known = known_caches.lookup(&cache);
	u64 now = current_epoch();
	u64 name = 0;

	bpf_probe_read_kernel(&name, sizeof(name), (void *)cache + CACHE_NAME_OFFSET);
	if (known && known->name == name && known->epoch == now)
		return known;

	struct cache_name *told = &s->cache;
	struct known_cache fresh = {.name = name, .epoch = now};

	bpf_probe_read_kernel(&fresh.size, sizeof(u32), (void *)cache + CACHE_SIZE_OFFSET);
	bpf_probe_read_kernel(&fresh.object_size, sizeof(u32), (void *)cache + CACHE_OBJECT_SIZE_OFFSET);
	fresh.key = (cache ^ (name << 16) ^ ((u64)fresh.object_size << 48) ^ now) * 0x9e3779b97f4a7c15ULL | 1;
	told->type = CACHE_NAME;
	told->key = fresh.key;
	told->size = fresh.size;
	told->object_size = fresh.object_size;
	told->name[0] = 0;
	bpf_probe_read_kernel_str(told->name, sizeof(told->name), (void *)name);

	const char kmemleak[] = "kmemleak_";
	fresh.ignored = 1;
	for (u32 i = 0; i < sizeof(kmemleak) - 1; i++)
		if (told->name[i] != kmemleak[i])
			fresh.ignored = 0;
#ifdef FILTER_CACHE
	fresh.wanted = FILTER_CACHE((u64 *)told->name);
#endif
	if (names.ringbuf_output(told, sizeof(*told), BPF_RB_NO_WAKEUP))
		count(LOST_NAMES);
	if (known_caches.update(&cache, &fresh)) {
		count(LOST_ENTRIES);
		return NULL;
	}
	return known_caches.lookup(&cache);
}

#if defined(SELF) || defined(FILTER_PID)
/* tgid and tid as user space knows them; 0 for a task outside our PID namespace. */
INLINE u64 visible_ids(void)
{
#ifdef PID_NAMESPACE
	struct bpf_pidns_info ids = {};

	if (bpf_get_ns_current_pid_tgid(PID_NAMESPACE_DEVICE, PID_NAMESPACE, &ids, sizeof(ids)))
		return 0;
	return (u64)ids.tgid << 32 | ids.pid;
#else
	return bpf_get_current_pid_tgid();
#endif
}
#endif

/* The filters that need no stack. */
INLINE bool wanted(u64 bytes_req, u8 context)
{
#ifdef SELF
	/* Our own system calls are not the machine's business; what an interrupt does meanwhile is. */
	if (visible_ids() >> 32 == SELF && (context == TASK || context == UNKNOWN_CONTEXT)) {
		u32 zero = 0;
		struct moment now = {.time_ns = bpf_ktime_get_ns(), .jiffies = bpf_jiffies64()};

		clock.update(&zero, &now);
		return false;
	}
#endif
#ifdef FILTER_MIN_SIZE
	if (bytes_req < FILTER_MIN_SIZE)
		return false;
#endif
#ifdef FILTER_MAX_SIZE
	if (bytes_req > FILTER_MAX_SIZE)
		return false;
#endif
#if defined(FILTER_PID) || defined(FILTER_COMM)
	/* An interrupt borrows whatever task it landed on. */
	if (context != TASK && context != UNKNOWN_CONTEXT)
		return false;
#endif
#ifdef FILTER_PID
	u64 id = visible_ids();

	if (id >> 32 != FILTER_PID && (u32)id != FILTER_PID)
		return false;
#endif
#ifdef FILTER_COMM
	u64 comm[COMM_LENGTH / sizeof(u64)];

	bpf_get_current_comm(comm, sizeof(comm));
	if (!FILTER_COMM(comm))
		return false;
#endif
	return true;
}

struct allocation {
	u64 address, call_site, bytes_req, bytes_alloc, cache;
	u32 gfp_flags;
	u8 kind;
	bool other_cache; /* than the one asked for */
};

/* As kmemleak would take an address in a map, or in a page that was one of the ring's, for a reference. */
INLINE u64 hidden(u64 address)
{
	/* KASAN keeps a tag in the top byte (arm64), and not always the same one for one object. */
	if (address >> 55 & 1)
		address |= 0xffULL << 56;
	return ~address;
}

INLINE void describe(struct free_record *r, u64 address, u64 call_site, u8 kind, u8 context)
{
	u64 id = bpf_get_current_pid_tgid();

	r->object = hidden(address);
	r->time_ns = bpf_ktime_get_ns();
	r->call_site = call_site;
	r->stack = 0;
	r->cgroup = 0;
	r->tid = id;
	r->tgid = id >> 32;
	r->jiffies = bpf_jiffies64();
	r->cpu = bpf_get_smp_processor_id();
	r->kind = kind;
	r->context = context;
}

INLINE void hand_over(struct allocation *a, u64 stack, u8 context)
{
#ifdef FILTERED
	u64 object = hidden(a->address);
	u8 one = 1;

	if (wanted_objects.update(&object, &one)) {
		/* Its free would not be sent: better not to know of it at all, and to say so. */
		count(LOST_ENTRIES);
		count(LOST_ALLOCATIONS);
		return;
	}
#endif
	struct allocation_record *r = events.ringbuf_reserve(sizeof(*r));

	if (!r) {
		count(LOST_ALLOCATIONS);
#ifdef FILTERED
		wanted_objects.delete(&object);
#endif
		return;
	}
	describe(&r->first, a->address, a->call_site, a->kind, context);
	r->first.stack = stack;
	r->first.cgroup = bpf_get_current_cgroup_id();
	r->second_unit = SECOND_UNIT;
	bpf_get_current_comm(r->comm, sizeof(r->comm));
	r->bytes_req = a->bytes_req;
	r->bytes_alloc = a->bytes_alloc;
	r->cache = a->cache;
	r->gfp_flags = a->gfp_flags;
	events.ringbuf_submit(r, BPF_RB_NO_WAKEUP);
}

INLINE void allocated(void *ctx, struct scratch *s, struct allocation *a)
{
	/* A failed allocation is reported as NULL, one of no bytes as ZERO_SIZE_PTR. */
	if (a->address <= 16 || !is_recording())
		return;

	u8 context = current_context(s);
	bool in_module = false;

	if (!wanted(a->bytes_req, context) || a->other_cache)
		return;

	u64 stack = take_stack(ctx, s, &in_module);
#ifdef FILTER_MODULE
	if (!in_module)
		return;
#endif
	hand_over(a, stack, context);
}

INLINE void freed(u64 address, u64 call_site, u8 kind)
{
	if (address <= 16 || !is_recording())
		return;
#ifdef FILTERED
	u64 object = hidden(address);

	if (wanted_objects.delete(&object))
		return;
#endif
	struct free_record *r = events.ringbuf_reserve(sizeof(*r));

	if (!r) {
		count(LOST_FREES);
		return;
	}
	describe(r, address, call_site, kind, UNKNOWN_CONTEXT);
	events.ringbuf_submit(r, BPF_RB_NO_WAKEUP);
}

/* An argument at fentry, whatever its type: the verifier lets no program read a `const void *` from ctx itself. */
INLINE u64 function_argument(void *ctx, u32 number)
{
	u64 value = 0;

	bpf_get_func_arg(ctx, number, &value);
	return value;
}

/*
 * Who called the function at `function`: fentry and kprobes hand us its arguments but not its caller, so take the
 * frame after the one that lies in it.
 */
INLINE u64 caller_of(void *ctx, struct scratch *s, u64 function, u64 length)
{
	u64 *frames = s->stack.frames;
	long bytes = bpf_get_stack(ctx, frames, 8 * sizeof(u64), 0);

	for (u32 i = 0; i < 7; i++)
		if ((i + 2) * sizeof(u64) <= bytes && frames[i] - function <= length)
			return frames[i + 1];
	return 0;
}

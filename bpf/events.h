/* SPDX-License-Identifier: GPL-2.0-only */
/* Filters, the slab caches' names, and the two ways to hand over an event. */

/* Eight characters as they lie in memory: a loop over a name is long work for the verifier. */
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define WORD(a, b, c, d, e, f, g, h)                                                                    \
	((u64)(a) | (u64)(b) << 8 | (u64)(c) << 16 | (u64)(d) << 24 | (u64)(e) << 32 | (u64)(f) << 40 | \
	 (u64)(g) << 48 | (u64)(h) << 56)
#else
#define WORD(a, b, c, d, e, f, g, h)                                                                    \
	((u64)(h) | (u64)(g) << 8 | (u64)(f) << 16 | (u64)(e) << 24 | (u64)(d) << 32 | (u64)(c) << 40 | \
	 (u64)(b) << 48 | (u64)(a) << 56)
#endif

/*
 * The cache as we know it; on first sight, or when it may have changed, looked up in the kernel and told. Where a cache
 * came to lie in the place of another is seen by the allocation of its descriptor: see forget_cache().
 */
INLINE struct known_cache *know_cache(u64 cache, struct scratch *s)
{
	struct known_cache *known = known_caches.lookup(&cache);
	u64 now = state_of(EPOCH);

	if (known && known->epoch == now)
		return known;

	struct cache_name *told = &s->cache;
	struct known_cache fresh = {
		.epoch = now,
		.size = half_at(cache + CACHE_SIZE_OFFSET),
		.object_size = half_at(cache + CACHE_OBJECT_SIZE_OFFSET),
	};
	u64 *words = (u64 *)told->name;
	u64 key = cache ^ (u64)fresh.object_size << 48;

	for (u32 i = 0; i < CACHE_NAME_LENGTH / sizeof(u64); i++)
		words[i] = 0;
	bpf_probe_read_kernel_str(told->name, sizeof(told->name), (void *)word_at(cache + CACHE_NAME_OFFSET));
	/* By its name, and not by when it was looked up: it is the same cache when modules have come and gone. */
	for (u32 i = 0; i < CACHE_NAME_LENGTH / sizeof(u64); i++) {
		key = (key ^ words[i]) * 0x9e3779b97f4a7c15ULL;
		key ^= key >> 32;
	}
	fresh.key = key | 1;
	told->type = CACHE_NAME;
	told->key = fresh.key;
	told->size = fresh.size;
	told->object_size = fresh.object_size;
#ifdef CACHE_ALLOCFLAGS_OFFSET
	told->gfp_flags = half_at(cache + CACHE_ALLOCFLAGS_OFFSET);
#else
	told->gfp_flags = 0;
#endif

	fresh.ignored = words[0] == WORD('k', 'm', 'e', 'm', 'l', 'e', 'a', 'k') && told->name[8] == '_';
	fresh.of_caches = words[0] == WORD('k', 'm', 'e', 'm', '_', 'c', 'a', 'c') && told->name[8] == 'h' &&
			  told->name[9] == 'e' && !told->name[10];
#ifdef FILTER_CACHE
	fresh.wanted = FILTER_CACHE((u64 *)told->name);
#endif
	/* Most are the caches that they were. */
	if (!(known && known->epoch != NEVER && known->key == fresh.key) && !tell(told, sizeof(*told)))
		fresh.epoch = NEVER;
	if (known_caches.update(&cache, &fresh)) {
		count(LOST_ENTRIES);
		return NULL;
	}
	return known_caches.lookup(&cache);
}

/* The descriptor of a new cache (mm/slab_common.c, kmem_cache_create): what lay there before is no more. */
INLINE void forget_cache(u64 cache)
{
	known_caches.delete(&cache);
}

/* Bits of the bytes before the first NUL of a word; all of them if there is none. */
INLINE u64 before_nul(u64 word)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
	u64 nul = (word - 0x0101010101010101ULL) & ~word & 0x8080808080808080ULL;

	return ((nul & -nul) >> 7) - 1;
#else
	return ~0ULL;
#endif
}

/* Not every kernel clears what lies behind the end of a name: what was there, of the task before for instance. */
INLINE void cut_at_nul(u64 *comm)
{
	u64 first = before_nul(comm[0]);

	comm[0] &= first;
	comm[1] = first == ~0ULL ? comm[1] & before_nul(comm[1]) : 0;
}

/* The task that allocates, or that an interrupt came upon. */
INLINE struct recent_task *current_task(struct scratch *s)
{
	struct recent_task *recent = &s->recent;
	u64 task = ~bpf_get_current_task(), ids = bpf_get_current_pid_tgid();
	u64 now = state_of(TASK_GENERATION);

	if (now && recent->generation == now && recent->task == task && recent->ids == ids)
		return recent;
	recent->generation = now;
	recent->task = task;
	recent->ids = ids;
#ifdef CGROUPS
	recent->cgroup = bpf_get_current_cgroup_id();
#endif
	bpf_get_current_comm(recent->comm, sizeof(recent->comm));
	cut_at_nul(recent->comm);
	return recent;
}

#if defined(SELF) || defined(FILTER_PID)
/* tgid and tid as user space knows them; 0 for a task outside our PID namespace. */
INLINE u64 visible_ids(struct recent_task *task)
{
#ifdef PID_NAMESPACE
	struct bpf_pidns_info ids = {};

	if (bpf_get_ns_current_pid_tgid(PID_NAMESPACE_DEVICE, PID_NAMESPACE, &ids, sizeof(ids)))
		return 0;
	return (u64)ids.tgid << 32 | ids.pid;
#else
	return task->ids;
#endif
}
#endif

/* The filters that need no stack. */
INLINE bool wanted(struct recent_task *task, u64 bytes_req, u8 context)
{
#ifdef SELF
	/* Our own system calls are not the machine's business; what an interrupt does meanwhile is. */
	if (visible_ids(task) >> 32 == SELF && (context == TASK || context == UNKNOWN_CONTEXT)) {
		u32 zero = 0;
		struct moment now = { .time_ns = bpf_ktime_get_ns(), .jiffies = bpf_jiffies64() };

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
	u64 id = visible_ids(task);

	if (id >> 32 != FILTER_PID && (u32)id != FILTER_PID)
		return false;
#endif
#ifdef FILTER_COMM
	if (!FILTER_COMM(task->comm))
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

INLINE void describe(struct free_record *r, u64 id, u64 address, u64 call_site, u8 kind, u8 context)
{
	/* A per-CPU offset may be any number: no tag in it. */
	r->object = kind == PERCPU ? ~address : hidden(address);
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

int on_task_change(void *ctx)
{
	bump(TASK_GENERATION);
	return 0;
}

/* One event in 256 asks how full the ring is: some bits of the time are as good as a count of one's own. */
INLINE u64 event_flags(u64 time_ns)
{
	return time_ns >> 3 & 255 ? BPF_RB_NO_WAKEUP : wake_if_filled(EVENT_RING);
}

/* Returns whether user space will know of it. */
INLINE bool hand_over(struct recent_task *task, struct allocation *a, u64 stack, u8 context)
{
#ifdef FILTERED
	u64 object = hidden(a->address);
	u8 one = 1;

	/* Pages have marks of their own: see pages.c. */
	if (a->kind != PAGES && wanted_objects.update(&object, &one)) {
		/* Its free would not be sent: better not to know of it at all, and to say so. */
		count(FULL_TABLE);
		return false;
	}
#endif
	struct allocation_record *r = events.ringbuf_reserve(sizeof(*r));

	if (!r) {
		count(FULL_RING_KMALLOC + (a->kind & 7));
#ifdef FILTERED
		if (a->kind != PAGES)
			wanted_objects.delete(&object);
#endif
		return false;
	}
	describe(&r->first, task->ids, a->address, a->call_site, a->kind, context);
	r->first.stack = stack;
	r->first.cgroup = task->cgroup;
	r->second_unit = SECOND_UNIT;
	((u64 *)r->comm)[0] = task->comm[0];
	((u64 *)r->comm)[1] = task->comm[1];
	r->bytes_req = a->bytes_req;
	r->bytes_alloc = a->bytes_alloc;
	r->cache = a->cache;
	r->gfp_flags = a->gfp_flags;
	events.ringbuf_submit(r, event_flags(r->first.time_ns));
	return true;
}

/*
 * `event` is the raw tracepoint's program; SELDOM for one that need not be fast; NO_TRACEPOINT for another kind of
 * program.
 */
#define NO_TRACEPOINT PROGRAMS
#define SELDOM (PROGRAMS + 1)

INLINE u64 stack_of(void *ctx, struct scratch *s, u32 event, u64 call_site, bool *in_module)
{
	if (event == NO_TRACEPOINT)
		return take_exact_stack(ctx, s, 0, in_module);
	if (event == SELDOM)
		return take_exact_stack(ctx, s, TRACING_FRAMES, in_module);
	return take_stack(ctx, s, event, call_site, in_module);
}

INLINE void allocated(void *ctx, struct scratch *s, u32 event, struct allocation *a)
{
	/* A failed allocation is reported as NULL, one of no bytes as ZERO_SIZE_PTR. */
	if (a->address <= 16 || !state_of(RECORDING))
		return;

	struct recent_task *task = current_task(s);
	u8 context = current_context(s);
	bool in_module = false;

	if (!wanted(task, a->bytes_req, context) || a->other_cache)
		return;

	u64 stack = stack_of(ctx, s, event, a->call_site, &in_module);
	if (is_filtered_out(in_module))
		return;
	hand_over(task, a, stack, context);
}

/* Returns whether user space will know of it. */
INLINE bool hand_over_free(u64 address, u64 call_site, u8 kind)
{
	struct free_record *r = events.ringbuf_reserve(sizeof(*r));

	if (!r) {
		count(FULL_RING_KFREE + (kind & 7));
		return false;
	}
	describe(r, bpf_get_current_pid_tgid(), address, call_site, kind, UNKNOWN_CONTEXT);
	events.ringbuf_submit(r, event_flags(r->time_ns));
	return true;
}

INLINE void freed(u64 address, u64 call_site, u8 kind)
{
	if (address <= 16 || !state_of(RECORDING))
		return;
#ifdef FILTERED
	u64 object = hidden(address);

	if (wanted_objects.delete(&object))
		return;
#endif
	hand_over_free(address, call_site, kind);
}

/*
 * By kprobe, the arguments are gone at the return, so they are kept from the call, by the place of its frame: a task may
 * be in several calls of one function at once, one within the other, or interrupted, and each has a frame of its own.
 * One that is still there when its frame is another call's has returned unseen: where it was seen, too, while the probes
 * were attached one by one (which calls vmalloc), that is no loss.
 */
INLINE void called(struct pt_regs *ctx, u32 program, u64 first, u64 second, u64 third, u32 unreturned)
{
	struct call_frame key = {
		.frame = ~PT_REGS_SP(ctx),
		.program = program,
	};
	struct probed_call call = {
		.arguments = { ~first, ~second, ~third },
		.recording = state_of(RECORDING),
	};
	struct probed_call *before = probed_calls.lookup(&key);

	if (before && before->recording)
		count(unreturned);
	probed_calls.update(&key, &call);
}

/* What the call was made with that returns now; false if that is not known. */
INLINE bool returned(struct pt_regs *ctx, u32 program, u64 arguments[3], u32 uncalled)
{
	struct call_frame key = {
#if defined(__x86_64__) || defined(__TARGET_ARCH_x86)
		.frame = ~(PT_REGS_SP(ctx) - sizeof(u64)), /* the return address lay there */
#else
		.frame = ~PT_REGS_SP(ctx),
#endif
		.program = program,
	};
	struct probed_call *call = probed_calls.lookup(&key);

	if (!call) {
		count(uncalled);
		return false;
	}
	for (u32 i = 0; i < 3; i++)
		arguments[i] = ~call->arguments[i];
	probed_calls.delete(&key);
	return true;
}

/* An argument at fentry, whatever its type: the verifier lets no program read a `const void *` from ctx itself. */
INLINE u64 function_argument(void *ctx, u32 number)
{
	u64 value = 0;

	bpf_get_func_arg(ctx, number, &value);
	return value;
}

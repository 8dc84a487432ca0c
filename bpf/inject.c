// SPDX-License-Identifier: GPL-2.0-only
/*
 * Makes allocations fail, one in each run of a command: kleaktrace/edge/injection/override.py gives the orders. It is
 * compiled by itself, without the tracer's other sources.
 *
 * The kernel asks should_failslab() before each slab allocation (mm/slub.c, slab_pre_alloc_hook) and should_fail_alloc_page()
 * before each of pages (mm/page_alloc.c, prepare_alloc_pages); what they answer may be overridden. Of the tasks that
 * count, an allocation passes if its call stack goes through the module, and the function, that is asked for.
 *
 * A stack goes by a hash of places: return addresses by how far they are into the kernel's text, or a module's. So
 * it is the same wherever a module comes to lie, and after a boot.
 */
#include <uapi/linux/ptrace.h>

#define DEPTH 64	/* frames that are looked at */
#define NEAR 20		/* of these, where an allocator's own frames are */
#define NAME_WORDS 8	/* of a module's name, MODULE_NAME_LEN and more */
#define MOST_PAGES 2048 /* of a module's text */
#define MOST_INIT_PAGES 64
#define KERNEL 1    /* as the text that an address is in */
#define FUNCTIONS 4 /* ranges: a compiler makes several functions of one */
#define MACHINERY 8 /* ranges */
#define MOST_STACKS 4096
#define COMM_WORDS 2
#define PAGE_SHIFT_ 12
#define INIT (1ULL << 40) /* added to how far it is into a module's __init text */

#define GFP_NOFAIL 0x8000  /* ___GFP_NOFAIL since v4.13 (include/linux/gfp_types.h) */
#define KTHREAD 0x00200000 /* PF_KTHREAD (include/linux/sched.h) */
#define ENOMEM 12

enum injection_mode {
	OFF,
	COUNT,	/* nothing fails; what could is noted */
	NEXT,	/* the first whose stack has not failed yet */
	CHOSEN, /* the first whose stack is the one wanted */
	NTH,	/* the one of that number */
};

struct place_range {
	u64 text; /* KERNEL, a module's hash of its name; 0: no range */
	u64 start, length;
};

/* What is to be done in this run. */
struct injection_order {
	u64 mode, run;
	u64 wanted;   /* CHOSEN: a stack's hash; NTH: a number from 1 */
	u64 module;   /* the hash of its name; 0: any */
	u64 any_text; /* not 0: it need not go through a module at all */
	struct place_range functions[FUNCTIONS];
	u64 machinery
		[2 *
		 MACHINERY]; /* addresses and lengths of what takes pages for an allocation that is asked for itself */
};
BPF_ARRAY(orders, struct injection_order, 1);

enum injection_state {
	PASSED,	 /* allocations of this run that passed the filter */
	NOTED,	 /* failures[] that are filled */
	LOADED,	 /* whether the module that is asked for is there */
	WATCHER, /* whose children count: our own process */
	STATES
};
BPF_ARRAY(state, u64, STATES);

enum injected { SLAB, PAGES };

/* An allocation that failed, or that could. */
struct injected_failure {
	u64 run, time_ns, hash, bytes;
	u32 tgid, tid, kind, depth;
	u64 comm[COMM_WORDS];
	u64 frames[DEPTH];
};
BPF_ARRAY(failures, struct injected_failure, MOST_STACKS);
BPF_PERCPU_ARRAY(scratch, struct injected_failure, 1);

BPF_HASH(failed, u64, u64, 65536);	       /* stacks that have failed, and in which run */
BPF_HASH(known, u64, u64, MOST_STACKS);	       /* stacks that were noted, and in which run */
BPF_HASH(fired, u64, u64, 65536);	       /* runs in which one has failed */
BPF_TABLE("lru_hash", u32, u64, tasks, 16384); /* processes of a run, and of which */

/* Pages of modules' text: of whose, and how far in. */
struct text_page {
	u64 text, distance;
};
BPF_TABLE("lru_hash", u64, struct text_page, text_pages, 65536);

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

INLINE u64 state_of(u32 what)
{
	u64 *value = state.lookup(&what);

	return value ? *value : 0;
}

INLINE void set_state(u32 what, u64 to)
{
	state.update(&what, &to);
}

INLINE struct injection_order *the_order(void)
{
	u32 zero = 0;

	return orders.lookup(&zero);
}

/* Whether the task belongs to the run: a descendant of ours, or the kernel's own that may work for the module. */
INLINE bool is_of_run(struct injection_order *order)
{
	u32 tgid = bpf_get_current_pid_tgid() >> 32;
	u64 *run = tasks.lookup(&tgid);

	if (run)
		return *run == order->run;
	return order->module && half_at(bpf_get_current_task() + TASK_FLAGS) & KTHREAD;
}

/* What is found out about a stack, in memory: the verifier would else follow every combination. */
struct stack_finding {
	u64 hash, own, module, function, machinery;
};

INLINE void look_at(struct injection_order *order, u64 frame, volatile struct stack_finding *found)
{
	u64 page = frame >> PAGE_SHIFT_;
	u64 text = 0, distance = 0;

	if (!outside(frame, KERNEL_TEXT, KERNEL_TEXT_LENGTH)) {
		text = KERNEL;
		distance = frame - KERNEL_TEXT;
	} else {
		struct text_page *known_page = text_pages.lookup(&page);

		if (known_page) {
			text = known_page->text;
			distance = known_page->distance + (frame & ((1 << PAGE_SHIFT_) - 1));
			if (!order->module || text == order->module)
				found->module = 1;
		}
	}
	found->hash = mix(mix(found->hash ^ text) ^ distance);
	for (u32 i = 0; i < FUNCTIONS; i++) {
		struct place_range *range = &order->functions[i];

		if (range->text && range->text == text && distance - range->start < range->length)
			found->function = 1;
	}
}

/* Whether an allocation passes: what its stack goes through. Its hash and frames are in `f` then. */
INLINE bool passes(struct pt_regs *ctx, struct injection_order *order, struct injected_failure *f, u32 kind)
{
	volatile struct stack_finding found = {};
	long bytes = bpf_get_stack(ctx, f->frames, sizeof(f->frames), 0);

	if (bytes <= 0)
		return false;
	f->depth = bytes / sizeof(u64);
	found.own = 1;
	for (u32 i = 0; i < DEPTH; i++) {
		if (i >= f->depth || !found.own)
			break;

		u64 frame = f->frames[i];

		look_at(order, frame, &found);
		/* What an interrupt came upon, or a system call's way in, is not part of it. */
		found.own = outside(frame, ENTRY_TEXT, ENTRY_TEXT_LENGTH);
	}
	for (u32 i = 0; i < NEAR; i++)
		for (u32 j = 0; j < MACHINERY; j++)
			if (i < f->depth && f->frames[i] - order->machinery[2 * j] < order->machinery[2 * j + 1])
				found.machinery = 1;
	f->hash = found.hash | 1;
	if (found.machinery && kind == PAGES)
		return false;
	if (order->functions[0].text && !found.function)
		return false;
	return found.module || order->any_text;
}

INLINE void note(struct injected_failure *f, struct injection_order *order)
{
	u32 place = state_of(NOTED);

	f->run = order->run;
	f->time_ns = bpf_ktime_get_ns();
	f->tid = bpf_get_current_pid_tgid();
	f->tgid = bpf_get_current_pid_tgid() >> 32;
	bpf_get_current_comm(f->comm, sizeof(f->comm));
	if (place < MOST_STACKS) {
		failures.update(&place, f);
		set_state(NOTED, place + 1);
	}
}

/* Whether this one is to fail. */
INLINE bool is_to_fail(struct injection_order *order, u64 hash)
{
	u64 *run;

	switch (order->mode) {
	case NEXT:
		return !failed.lookup(&hash);
	case CHOSEN:
		return hash == order->wanted;
	case NTH:
		return state_of(PASSED) == order->wanted;
	}
	return false;
}

/* What kmemleak takes for its own books: it would only stop working. */
INLINE bool is_of_kmemleak(u64 cache)
{
	u64 name = 0;

	bpf_probe_read_kernel(&name, sizeof(name), (void *)word_at(cache + CACHE_NAME_OFFSET));
	return name == KMEMLEAK_NAME;
}

/* Whether an allocation is to fail: of an object of a slab cache, or of `bytes` in pages if there is none. */
INLINE bool asked(struct pt_regs *ctx, u64 cache, u64 bytes, u32 gfp)
{
	struct injection_order *order = the_order();
	u32 zero = 0, kind = cache ? SLAB : PAGES;

	if (!order || order->mode == OFF || gfp & GFP_NOFAIL)
		return false;
	if ((order->module && !state_of(LOADED)) || !is_of_run(order) || (cache && is_of_kmemleak(cache)))
		return false;

	u64 run = order->run;
	struct injected_failure *f = scratch.lookup(&zero);

	if (!f || !passes(ctx, order, f, kind))
		return false;

	u64 hash = f->hash;

	f->bytes = cache ? half_at(cache + CACHE_OBJECT_SIZE_OFFSET) : bytes;
	f->kind = kind;
	set_state(PASSED, state_of(PASSED) + 1);
	if (order->mode == COUNT) {
		u64 *noted = known.lookup(&hash);

		if (!noted || *noted != run) {
			known.update(&hash, &run);
			note(f, order);
		}
		return false;
	}
	/* Two processors at once: the second finds it done. */
	if (!is_to_fail(order, hash) || fired.insert(&run, &hash))
		return false;
	failed.update(&hash, &run);
	note(f, order);
	order->mode = OFF;
	return true;
}

int on_should_failslab(struct pt_regs *ctx)
{
	if (asked(ctx, PT_REGS_PARM1(ctx), 0, PT_REGS_PARM2(ctx)))
		bpf_override_return(ctx, -ENOMEM);
	return 0;
}

int on_should_fail_alloc_page(struct pt_regs *ctx)
{
	u64 gfp = PT_REGS_PARM1(ctx), order = PT_REGS_PARM2(ctx);

	if (asked(ctx, 0, (1ULL << PAGE_SHIFT_) << (order & 31), gfp))
		bpf_override_return(ctx, 1);
	return 0;
}

/* Children of a process of the run belong to it, and our own. At the event, the parent is running (kernel/fork.c). */
int on_fork(struct bpf_raw_tracepoint_args *ctx)
{
	u32 parent = bpf_get_current_pid_tgid() >> 32;
	struct injection_order *order = the_order();

	if (!order || order->mode == OFF)
		return 0;

	u64 *of = tasks.lookup(&parent);

	if (parent != state_of(WATCHER) && (!of || *of != order->run))
		return 0;

	u32 child = half_at(ctx->args[1] + TASK_TGID);
	u64 run = order->run;

	if (child != parent)
		tasks.update(&child, &run);
	return 0;
}

/* Run by user space: the process that runs it is the one whose children count. */
int watch_me(struct bpf_raw_tracepoint_args *ctx)
{
	set_state(WATCHER, bpf_get_current_pid_tgid() >> 32);
	return 1;
}

#ifdef MODULE_LOAD_MOD
INLINE u64 name_hash(u64 module)
{
	u64 name[NAME_WORDS] = {}, hash = 0;

	bpf_probe_read_kernel_str(name, sizeof(name), (void *)module + MODULE_NAME_OFFSET);
	for (u32 i = 0; i < NAME_WORDS; i++)
		hash = mix(hash ^ name[i]);
	return hash | 2; /* neither 0 nor KERNEL */
}

INLINE u64 pages_of(u64 bytes)
{
	return (bytes + (1 << PAGE_SHIFT_) - 1) >> PAGE_SHIFT_;
}

/* At module_load no line of the module has run yet (kernel/module/main.c). */
int on_load(struct bpf_raw_tracepoint_args *ctx)
{
	u64 module = ctx->args[MODULE_LOAD_MOD];
	u64 start = word_at(module + MODULE_TEXT_BASE) >> PAGE_SHIFT_;
	u64 end = start + pages_of(half_at(module + MODULE_TEXT_SIZE));
	u64 init = word_at(module + MODULE_INIT_TEXT_BASE) >> PAGE_SHIFT_;
	u64 init_end = init + pages_of(half_at(module + MODULE_INIT_TEXT_SIZE));
	struct text_page page = { .text = name_hash(module) };
	struct injection_order *order = the_order();

	for (u32 i = 0; i < MOST_PAGES && start < end; i++, start++) {
		page.distance = (u64)i << PAGE_SHIFT_;
		text_pages.update(&start, &page);
	}
	for (u32 i = 0; i < MOST_INIT_PAGES && init && init < init_end; i++, init++) {
		page.distance = INIT + ((u64)i << PAGE_SHIFT_);
		text_pages.update(&init, &page);
	}
	if (order && page.text == order->module)
		set_state(LOADED, 1);
	return 0;
}

int on_unload(struct bpf_raw_tracepoint_args *ctx)
{
	struct injection_order *order = the_order();

	if (order && name_hash(ctx->args[MODULE_FREE_MOD]) == order->module)
		set_state(LOADED, 0);
	return 0;
}
#endif

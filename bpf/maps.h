/* SPDX-License-Identifier: GPL-2.0-only */
/* Everything the programs remember, and how much of it. */

BPF_RINGBUF_OUTPUT(events, EVENT_RING_PAGES); /* as a helper's argument: EVENT_RING, and NAME_RING */
BPF_RINGBUF_OUTPUT(names, NAME_RING_PAGES);

/*
 * What could not be handed over, per CPU, and why. Counted here and never hidden: an event lost may be the free of an
 * allocation that then looks leaked.
 */
enum counter {
	FULL_RING_KMALLOC, /* no room in the event ring: by enum kind, allocations first */
	FULL_RING_CACHE_ALLOC,
	FULL_RING_VMALLOC,
	FULL_RING_PERCPU_ALLOC,
	FULL_RING_PAGE_ALLOC,
	FULL_RING_KFREE,
	FULL_RING_CACHE_FREE,
	FULL_RING_VFREE,
	FULL_RING_PERCPU_FREE,
	FULL_RING_PAGE_FREE,
	FULL_TABLE,	    /* no room for one more allocation that passed the filters */
	VMALLOC_UNCALLED,   /* a return of which no call is known: see called() */
	VMALLOC_UNRETURNED, /* a call whose return was missed */
	BULK_ALLOC_UNCALLED,
	BULK_ALLOC_UNRETURNED,
	SHEAF_FREE_UNCALLED,
	SHEAF_FREE_UNRETURNED,
	LONG_BULK_ALLOC, /* an array longer than BULK_LIMIT */
	LONG_BULK_FREE,
	BULK_PAGES_UNCALLED,
	BULK_PAGES_UNRETURNED,
	LOST_STACKS,  /* the unwinder gave nothing */
	LOST_NAMES,   /* no room in the name ring for a module */
	LOST_ENTRIES, /* a table was full */
	/* Not lost: what second programs took that first ones had missed, see RECORD_ONCE in slab.c. */
	TAKEN_KMALLOC,
	TAKEN_KMALLOC_NODE,
	TAKEN_CACHE_ALLOC,
	TAKEN_CACHE_ALLOC_NODE,
	TAKEN_KFREE,
	TAKEN_CACHE_FREE,
	TAKEN_PAGE_ALLOC,
	TAKEN_BULK_FREE,
	TAKEN_SHEAF_FREE,
	TAKEN_RCU_FREE,
	TAKEN_VFREE,
	TAKEN_VFREE_ATOMIC,
	UNWOUND_STACKS, /* not recognised, or not looked at: see stack_paths.h */
	CHECKED_STACKS, /* recognised, and unwound all the same */
	WRONG_STACKS,	/* of these */
	LOST_SAMPLES,	/* no room in the name ring: there will be others */
	COUNTERS
};
struct counts {
	u64 of[COUNTERS];
};
BPF_PERCPU_ARRAY(counters, struct counts, 1);

/* What every event looks at, side by side: a map each would be a line of the processor's cache each. */
enum state {
	/* Not 0: events are handed over. Switched on when all probes are attached: until then an allocation may be seen
	 * whose free is not. */
	RECORDING,
	/* Bumped whenever a module comes or goes. Dates cache entries: the same address may be another cache then. */
	EPOCH,
	/* A sum over the modules that are loaded, of what they are and where: see modules.c. It is part of the keys of
	 * stacks that modules can be in, where the same address may else mean another function. */
	MODULES,
	/* Bumped whenever a task's name or cgroup changes. 0: nobody tells, so that every answer is out of date. */
	TASK_GENERATION,
	/* Bumped whenever there was no room in the name ring for a stack or a cache, which is told when seen again. */
	UNTOLD,
	STATES
};
BPF_F_TABLE("array", u32, u64, state, STATES, BPF_F_MMAPABLE);

/* The same moment by both clocks, taken when our own process allocates: kmemleak dates its objects in jiffies. */
struct moment {
	u64 time_ns, jiffies;
};
BPF_ARRAY(clock, struct moment, 1);

/* Stacks whose frames user space has: how often each was unwound. Evicting one only means that it is sent again. */
BPF_TABLE("lru_hash", u64, u64, known_stacks, KNOWN_STACKS);

#define NEVER ~0ULL

struct known_cache {
	u64 key;
	u64 epoch; /* NEVER: user space does not know it yet */
	u32 object_size;
	u32 size;
	u8 ignored;   /* kmemleak's own */
	u8 of_caches; /* its objects describe caches */
	u8 wanted;    /* passes the cache filter */
};
BPF_HASH(known_caches, u64, struct known_cache, KNOWN_CACHES);

/*
 * Room for one event's stack. One per program, not per CPU alone: an interrupt that lands on a running program
 * runs another one, and the kernel never runs the same program twice at once on a CPU.
 */
enum program {
	ON_KMALLOC,
	ON_KMALLOC_NODE,
	ON_CACHE_ALLOC,
	ON_CACHE_ALLOC_NODE,
	ON_KFREE,
	ON_CACHE_FREE,
	ON_VMALLOC,
	ON_PERCPU,
	ON_VFREE,
	ON_VFREE_ATOMIC,
	ON_BULK_FREE,
	ON_BULK_ALLOC,
	ON_SHEAF_FREE,
	ON_RCU_FREE,
	ON_MODULE,
#ifdef TRACE_PAGES
	ON_PAGE_ALLOC,
	ON_BULK_PAGES,
#endif
	PROGRAMS
};

/* What first programs have recorded, by the place on the stack: see RECORD_ONCE in slab.c. A stack has a line of them. */
#define MARKED_DEPTHS 8
#define MARKED_PLACES (8192 * MARKED_DEPTHS)
struct recorded {
	u64 marks[2][MARKED_PLACES];
};
BPF_ARRAY(recorded, struct recorded, 1);

/* Who allocated last: asking the kernel each time costs 50 ns. */
struct recent_task {
	u64 task; /* complement of its address */
	u64 ids, generation;
	u64 cgroup;
	u64 comm[COMM_LENGTH / sizeof(u64)];
};

/* What a function was called with, where a kprobe saw it: see called(). Complements, as addresses never lie here. */
struct probed_call {
	u64 arguments[3];
	u64 recording;
};
struct call_frame {
	u64 frame, program;
};
BPF_TABLE("lru_hash", struct call_frame, struct probed_call, probed_calls, 1024);

struct scratch {
	struct recent_task recent;
	u64 preempt_count;	      /* where this CPU's lives; 0: not looked up yet */
	u64 base;		      /* the program's context, which lies on the stack */
	u64 length;		      /* see hand_over_sample() */
	u32 unwound_depth;	      /* frames there are, those of what was interrupted too */
	u64 slot, origin, start, led; /* see recognise() */
	u64 recognised, path;	      /* see is_right() */
	u64 at_work;		      /* the first of two programs is: see RECORD_ONCE in slab.c */
	u64 random;
	u64 hash, number, unreadable; /* see modules.c */
	union {
		struct stack_sample sample; /* its words are modules.c's, too */
		struct stack_name stack;    /* sample.name */
		struct cache_name cache;
		struct module_name module;
	};
};
BPF_PERCPU_ARRAY(scratch, struct scratch, 2 * PROGRAMS);

#ifdef FILTERED
/* Allocations that passed the filters and are outstanding: only their frees are worth sending. */
BPF_TABLE("hash", u64, u8, wanted_objects, WANTED_OBJECTS);
#endif

#ifdef FILTER_MODULE
struct text_range {
	u64 start, length;
};
enum text_ranges { CORE_TEXT, INIT_TEXT, TEXT_RANGES };
BPF_ARRAY(module_text, struct text_range, TEXT_RANGES);
#endif

/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Recognises call stacks by a few words that lie at known places: kleaktrace/core/unwind/stack_paths.py says why that is
 * exact, finds the places, and writes the paths.
 */

#define PATH_SLOTS 48
#define PATH_STEPS 64 /* slots, pointers, nodes and chunks on the way; more is left to the unwinder */
#define CHUNK 192     /* bytes of the stack that are read at a time; they lie on ours, of which LLVM 19 leaves less */

/* And alignment, of tasks' and interrupts' stacks (THREAD_SIZE, IRQ_STACK_SIZE). */
#ifndef STACK_SIZE
#define STACK_SIZE 16384
#endif

/* Set in all addresses of code; on the stack, a signature may be there instead (arm64). */
#ifndef SIGNED_BITS
#define SIGNED_BITS 0ULL
#endif

#define CHECK_MASK 511 /* one of so many recognised stacks, by chance, is unwound all the same */

/* Distances are in bytes, from the origin: the program's context at first, later where a pointer has led. */
struct path_slot {
	u64 address; /* 0: the stack ends here */
	s32 offset;
	union {
		u32 special; /* 0: the return address lies there */
		struct {
			s16 lead; /* not 0: it lies so far from where a pointer points that lies there; or FROM_END */
			u16 end; /* not 0: if the stack ends there, nothing else is to be looked for; or see FROM_END */
		};
	};
};

/* The offset is from the end of the stack, and must not lead farther than MOST_MOVED from origin + end. */
#define FROM_END 2
#define MOST_MOVED 1280

struct stack_path {
	u64 stack;
	u32 length;
	u8 in_module;
	u8 doubtful; /* proved wrong once */
	u8 cut;	     /* what lies further out does not matter: see pages.c */
	u8 reserved;
	struct path_slot slots[PATH_SLOTS];
};
BPF_TABLE("hash", u64, struct stack_path, stack_paths, STACK_PATHS);

/* Bytes from the program's context to the end of the stack it runs on. */
INLINE u64 rest_of_stack(u64 base)
{
	return STACK_SIZE - (base & (STACK_SIZE - 1));
}

/* What is in memory now, whatever the compiler has in a register; and to have it there at once. */
#define LOAD(x) (*(volatile u64 *)&(x))
#define STORE(x, value) (LOAD(x) = (value))

/* Through memory, since the verifier lets nobody compute with the context itself. */
INLINE u64 base_of(void *ctx, struct scratch *s)
{
	s->base = (u64)ctx;
	return LOAD(s->base);
}

/*
 * The path that this stack takes, or NULL. What changes on the way goes through memory: the verifier, that would else
 * follow every combination of values, takes it for unknown. The chunk does not: words of a stack are addresses of objects,
 * too, and in a map they would hide leaks from kmemleak.
 */
INLINE struct stack_path *recognise(void *ctx, struct scratch *s, u64 key)
{
	u64 base = base_of(ctx, s);
	u64 rest = rest_of_stack(base);
	struct stack_path *path = stack_paths.lookup(&key);

	if (!path)
		return NULL;
#ifndef RDONLY_CAST
	u64 chunk[CHUNK / sizeof(u64)];
	u64 first = (u32)path->slots[0].offset;

	if (first + CHUNK > rest || bpf_probe_read_kernel(chunk, sizeof(chunk), (void *)(base + first)))
		return NULL;
	s->start = first;
#endif
	s->slot = 0;
	s->origin = 0;
	s->led = 0; /* by a pointer to the origin */
	for (u32 step = 0; step < PATH_STEPS; step++) {
		u64 slot = LOAD(s->slot);

		if (slot >= path->length) {
			s->path = key;
			return path;
		}
		if (slot >= PATH_SLOTS)
			return NULL;

		u64 word = 0;
		u64 origin = LOAD(s->origin);
		u64 place = origin + (s64)path->slots[slot].offset;
		s64 lead = 0;

		if (path->slots[slot].special) {
			u64 end = path->slots[slot].end;

			lead = path->slots[slot].lead;
			if (LOAD(s->led)) {
				place = origin;
				lead = 0;
			} else if (lead == FROM_END) {
				place = rest + (s64)path->slots[slot].offset;
				if (place - origin - end > MOST_MOVED)
					return NULL;
				end = 0;
			}
			if (end && origin + end == rest)
				goto compare;
		}

#ifdef RDONLY_CAST
		if (place >= rest)
			return NULL;
		word = word_at(base + place);
#else
		u64 inside = place - LOAD(s->start);

		if (inside >= CHUNK) {
			if (place >= rest)
				return NULL;

			u64 start = place < rest - CHUNK ? place : rest - CHUNK;

			if (bpf_probe_read_kernel(chunk, sizeof(chunk), (void *)(base + start)))
				return NULL;
			s->start = start;
			continue;
		}
		word = chunk[inside / sizeof(u64)];
#endif
		if (lead == FROM_END) {
			s->origin = place;
		} else if (lead) {
			s->origin = word - base + lead;
			s->led = 1;
			continue;
		}
		word |= SIGNED_BITS;
compare:
		if (word == path->slots[slot].address) {
			s->slot = slot + 1;
			s->led = 0;
			continue;
		}
		key = mix(mix(key ^ (slot + 1)) ^ word);
		path = stack_paths.lookup(&key);
		if (!path)
			return NULL;
	}
	return NULL;
}

/*
 * The same, if it is believed: nothing is to be unwound then. One of so many, by chance, is to be proved: see is_right().
 */
INLINE struct stack_path *believed_path(void *ctx, struct scratch *s, u64 root)
{
	struct stack_path *path = recognise(ctx, s, root);

	s->recognised = 0;
	if (!path || path->doubtful)
		return NULL;
	s->random = s->random * 6364136223846793005ULL + 1442695040888963407ULL;
	if (s->random >> 40 & CHECK_MASK)
		return path;
	s->recognised = path->stack;
	return NULL;
}

/*
 * Whether this stack was recognised as what it is; if not, that path is not believed any more. It is known by what lies in
 * memory, or the verifier would go through all of unwinding once with a path, and once without.
 */
INLINE bool is_right(struct scratch *s, u64 stack)
{
	u64 key = LOAD(s->path);
	struct stack_path *path;

	count(CHECKED_STACKS);
	if (LOAD(s->recognised) == stack)
		return true;
	count(WRONG_STACKS);
	path = stack_paths.lookup(&key);
	if (path)
		path->doubtful = true;
	return false;
}

/* A stack that is unwound again and again is worth learning; ever more rarely, for it may not be to be learned. */
INLINE bool worth_a_sample(u64 unwound)
{
	return unwound >= 8 && !(unwound & (unwound - 1));
}

/*
 * The flags to hand a sample over with. That user space looks at it takes a millisecond, as does unwinding so often: from
 * then on it is better woken than left to come by itself.
 */
#define DEAR_UNWINDS 512

INLINE u64 wake_to_learn(u64 unwound)
{
	return unwound >= DEAR_UNWINDS ? BPF_RB_FORCE_WAKEUP : wake_if_filled(NAME_RING);
}

/*
 * Hand over the stack that was just unwound, for so many times by now, to its very end, with the memory it lies in. The
 * loop over its words is unrolled, and hidden() has no branch: the verifier goes each way through a loop, and whenever its
 * count is compared looks back all the way.
 */
INLINE void hand_over_sample(void *ctx, struct scratch *s, u64 root, u32 event, bool in_module, bool cut,
			     u64 recognised, u64 unwound)
{
	struct stack_sample *sample = &s->sample;
	u64 base = base_of(ctx, s);
	u64 size;

	/* Through memory, so that the comparison that the verifier needs to see is not left out as superfluous. */
	s->length = rest_of_stack(base);
	size = LOAD(s->length);
	sample->rest = size / sizeof(u64);
	if (size > sizeof(sample->words))
		size = sizeof(sample->words);
	if (is_filled_to(QUARTERS_FOR_EXTRAS)) {
		count(LOST_SAMPLES);
		return;
	}
	if (bpf_probe_read_kernel(sample->words, size, (void *)base))
		return;
#pragma clang loop unroll_count(4)
	for (u32 i = 0; i < WINDOW_WORDS; i++)
		sample->words[i] = hidden(sample->words[i]);
	sample->name.type = STACK_SAMPLE;
	sample->name.depth = s->unwound_depth;
	sample->root = root;
	sample->modules = state_of(MODULES);
	sample->recognised = recognised;
	sample->event = event;
	sample->words_read = size / sizeof(u64);
	sample->in_module = in_module;
	sample->cut = cut;
	sample->base = base;
	if (names.ringbuf_output(sample, sizeof(*sample), wake_to_learn(unwound)))
		count(LOST_SAMPLES);
}

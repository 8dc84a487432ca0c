/*
 * Recognises call stacks by a few words that lie at known places: kleaktrace/core/stack_paths.py says why that is
 * exact, finds the places, and writes the paths.
 */

#define PATH_SLOTS 48
#define PATH_STEPS 80 /* slots, pointers, nodes and chunks on the way; more is left to the unwinder */
#define CHUNK 256 /* bytes of the stack that are read at a time */
#define STACK_SIZE 16384 /* and alignment, of tasks' and interrupts' stacks (THREAD_SIZE, IRQ_STACK_SIZE) */
#define CHECK_MASK 511 /* one of so many recognised stacks, by chance, is unwound all the same */

/* Distances are in bytes. */
struct path_slot {
	u64 address; /* 0: the stack ends here */
	s32 distance; /* from the slot before, or from the program's context */
	s16 lead; /* 0: there it lies; FROM_END; else from where a pointer points that lies there */
	u16 end; /* not 0: so far from the slot before, the stack may end instead */
};

#define FROM_END 2 /* the distance is counted downwards from the end of the stack… */
#define MOST_MOVED 1280 /* …if that leads no farther from the slot before */

struct stack_path {
	u64 stack;
	u32 length;
	u8 in_module;
	u8 doubtful; /* proved wrong once */
	u16 reserved;
	struct path_slot slots[PATH_SLOTS];
};
BPF_TABLE("hash", u64, struct stack_path, stack_paths, STACK_PATHS);

INLINE u64 mix(u64 value)
{
	value *= 0xff51afd7ed558ccdULL;
	return value ^ value >> 32;
}

/* Bytes from the program's context to the end of the stack it runs on. */
INLINE u64 rest_of_stack(u64 base)
{
	return STACK_SIZE - (base & (STACK_SIZE - 1));
}

/* Through memory, since the verifier lets nobody compute with the context itself. */
INLINE u64 base_of(void *ctx, struct scratch *s)
{
	s->base = (u64)ctx;
	return *(volatile u64 *)&s->base;
}

/*
 * The path that this stack takes, or NULL. Places go through memory: the verifier, that would else follow every
 * combination of their values, takes them for unknown. The chunk itself does not: words of a stack are addresses of
 * objects, too, and in a map they would hide leaks from kmemleak.
 */
INLINE struct stack_path *recognise(void *ctx, struct scratch *s, u64 key)
{
	struct stack_path *path = stack_paths.lookup(&key);
	u64 chunk[CHUNK / sizeof(u64)] = {};
	u64 base, rest;

	if (!path)
		return NULL;
	base = base_of(ctx, s);
	rest = rest_of_stack(base);
	s->slot = 0;
	s->place = 0; /* of the slot before, in bytes from the context */
	s->pointed = 0; /* where a pointer has led */
	s->chunk = 0;
	s->chunk_length = 0;
	for (u32 step = 0; step < PATH_STEPS; step++) {
		u64 slot = *(volatile u64 *)&s->slot;

		if (slot >= path->length)
			break;
		if (slot >= PATH_SLOTS)
			return NULL;

		u64 word = 0;
		u64 before = *(volatile u64 *)&s->place;
		u64 place = *(volatile u64 *)&s->pointed;
		s64 lead = path->slots[slot].lead;
		bool pointed = place;

		if (!pointed)
			place = (lead == FROM_END ? rest : before) + (s64)path->slots[slot].distance;
		if (!path->slots[slot].end || before + path->slots[slot].end != rest) {
			u64 inside = place - *(volatile u64 *)&s->chunk;

			if (inside >= *(volatile u64 *)&s->chunk_length) {
				if (place >= rest || (lead == FROM_END && place - before > MOST_MOVED))
					return NULL;

				u64 length = rest - place;

				if (length > CHUNK)
					length = CHUNK;
				if (bpf_probe_read_kernel(chunk, length, (void *)(base + place)))
					return NULL;
				s->chunk = place;
				s->chunk_length = length;
				continue;
			}
			word = chunk[inside / sizeof(u64) & (CHUNK / sizeof(u64) - 1)];
			if (lead && lead != FROM_END && !pointed) {
				if (word - base >= rest)
					return NULL;
				s->pointed = word - base + lead;
				continue;
			}
		}
		if (word == path->slots[slot].address) {
			s->slot = slot + 1;
			s->place = place;
			s->pointed = 0;
			continue;
		}
		key = mix(mix(key ^ (slot + 1)) ^ word);
		path = stack_paths.lookup(&key);
		if (!path)
			return NULL;
	}
	return *(volatile u64 *)&s->slot >= path->length ? path : NULL;
}

/* A stack that is unwound again and again is worth learning; ever more rarely, for it may not be to be learned. */
INLINE bool worth_a_sample(u64 unwound)
{
	return unwound >= 8 && !(unwound & (unwound - 1));
}

/* Hand over the stack that was just unwound, with the memory it lies in. */
INLINE void hand_over_sample(void *ctx, struct scratch *s, u64 root, u32 event, bool in_module, u64 recognised)
{
	struct stack_sample *sample = &s->sample;
	u64 base = base_of(ctx, s);
	u64 size;

	/* Through memory, so that the comparison that the verifier needs to see is not left out as superfluous. */
	s->chunk_length = rest_of_stack(base);
	size = *(volatile u64 *)&s->chunk_length;
	sample->rest = size / sizeof(u64);
	if (size > sizeof(sample->words))
		size = sizeof(sample->words);
	if (bpf_probe_read_kernel(sample->words, size, (void *)base))
		return;
	for (u32 i = 0; i < WINDOW_WORDS; i++)
		sample->words[i] = hidden(sample->words[i]);
	sample->name.type = STACK_SAMPLE;
	sample->root = root;
	sample->recognised = recognised;
	sample->event = event;
	sample->words_read = size / sizeof(u64);
	sample->in_module = in_module;
	sample->base = base;
	if (names.ringbuf_output(sample, sizeof(*sample), BPF_RB_NO_WAKEUP))
		count(LOST_SAMPLES);
}

/* SPDX-License-Identifier: GPL-2.0-only */
/* The call stack of an event, as a key; its frames are told to user space once. */

/*
 * Frames of the tracing itself, that are the same whatever was traced: our program, and who runs it, up to the first
 * return address that lies above our context on the stack.
 */
#ifndef TRACING_FRAMES
#define TRACING_FRAMES 2
#endif

/*
 * Unwind into the scratch, and give the stack a key that is the same for the same frames: those up to where the kernel
 * was entered, since an interrupt may come upon anything, and there would be no end of stacks. 0: no stack could be
 * taken.
 */
INLINE u64 unwind(void *ctx, struct scratch *s, u32 skip, bool *in_module)
{
	struct stack_name *stack = &s->stack;
	u64 key = 1, own = 1, changing = 0, depth = 0;
	long bytes = bpf_get_stack(ctx, stack->frames, STACK_DEPTH * sizeof(u64), skip);

	if (bytes <= 0) {
		count(LOST_STACKS);
		return 0;
	}
	count(UNWOUND_STACKS);
	stack->depth = bytes / sizeof(u64);
	s->unwound_depth = stack->depth;
#ifdef FILTER_MODULE
	struct text_range core = module_range(CORE_TEXT), init = module_range(INIT_TEXT);
	u64 elsewhere = 1;
#endif

	for (u32 i = 0; i < STACK_DEPTH; i++) {
		if (i >= stack->depth)
			break;

		u64 frame = stack->frames[i];
		u64 longer = (key ^ frame) * 0xff51afd7ed558ccdULL;

		key ^= (key ^ longer ^ longer >> 32) & -own;
		depth += own;
		changing |= outside(frame, KERNEL_TEXT, KERNEL_TEXT_LENGTH) & own;
#ifdef FILTER_MODULE
		elsewhere &=
			outside(frame, core.start, core.length) & outside(frame, init.start, init.length) | (own ^ 1);
#endif
		own &= outside(frame, ENTRY_TEXT, ENTRY_TEXT_LENGTH);
	}
#ifdef FILTER_MODULE
	*in_module |= !elsewhere;
#endif
	stack->depth = depth;
	key ^= state_of(MODULES) * 0x9e3779b97f4a7c15ULL & -changing;
	return key ? key : 1;
}

INLINE bool is_filtered_out(bool in_module)
{
#ifdef FILTER_MODULE
	return !in_module;
#else
	return false;
#endif
}

/* Have user space know the frames of the stack in the scratch, unless it doesn't care. Returns how often it was unwound. */
INLINE u64 tell_stack(struct scratch *s, u64 key, bool unwanted)
{
	u64 *unwound = known_stacks.lookup(&key);
	u64 once = 1;

	if (unwound)
		return ++*unwound;
	if (unwanted) {
		known_stacks.update(&key, &once);
		return once;
	}
	s->stack.type = STACK_NAME;
	s->stack.key = key;
	s->stack.time_ns = bpf_ktime_get_ns();
	if (tell(&s->stack, sizeof(s->stack)))
		known_stacks.update(&key, &once);
	return once;
}

/* The key of the stack, by unwinding it. */
INLINE u64 take_exact_stack(void *ctx, struct scratch *s, u32 skip, bool *in_module)
{
	u64 key = unwind(ctx, s, skip, in_module);

	if (key)
		tell_stack(s, key, is_filtered_out(*in_module));
	return key;
}

/*
 * The key of the stack at a raw tracepoint, whose context lies on that stack: by recognising it, if it can be. `event`
 * and `call_site` are where the search begins.
 */
INLINE u64 take_stack(void *ctx, struct scratch *s, u32 event, u64 call_site, bool *in_module)
{
#ifdef RECOGNISE_STACKS
	u64 root = mix(mix(state_of(MODULES) + 1) ^ call_site ^ (u64)event << 48);
	struct stack_path *path = believed_path(ctx, s, root);

	if (path) {
		*in_module = path->in_module;
		return path->stack;
	}
#endif
	u64 key = unwind(ctx, s, TRACING_FRAMES, in_module);

	if (!key)
		return 0;
#ifdef RECOGNISE_STACKS
	u64 recognised = LOAD(s->recognised);

	if (recognised && is_right(s, key))
		return key;
#endif

	u64 unwound = tell_stack(s, key, is_filtered_out(*in_module));

#ifdef RECOGNISE_STACKS
	if (recognised || worth_a_sample(unwound)) {
		s->stack.key = key;
		hand_over_sample(ctx, s, root, event, *in_module, false, recognised, unwound);
	}
#endif
	return key;
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

// SPDX-License-Identifier: GPL-2.0-only
/* The slab allocators: include/trace/events/kmem.h. Argument positions come from BTF, as <EVENT>_<ARGUMENT> macros. */

INLINE void on_kmalloc_event(void *ctx, struct scratch *s, u32 event, u64 call_site, u64 ptr, u64 bytes_req,
			     u64 bytes_alloc, u32 gfp)
{
	struct allocation a = {
		.address = ptr,
		.call_site = call_site,
		.bytes_req = bytes_req,
		.bytes_alloc = bytes_alloc,
		.gfp_flags = gfp,
		.kind = KMALLOC,
	};

#ifdef FILTER_CACHE
	/* The event does not name its cache; kmalloc caches are known by the size of their objects. */
	a.other_cache = bytes_alloc != FILTER_KMALLOC_SIZE;
#endif
	allocated(ctx, s, event, &a);
}

INLINE void on_cache_event(void *ctx, struct scratch *s, u32 event, u64 call_site, u64 ptr, u64 cache, u32 gfp)
{
	if (!ptr)
		return;

	struct known_cache *known = know_cache(cache, s);
	struct allocation a = {
		.address = ptr,
		.call_site = call_site,
		.gfp_flags = gfp,
		.kind = CACHE,
	};

	if (known) {
		if (known->ignored)
			return;
		if (known->of_caches)
			forget_cache(ptr);
#ifdef FILTER_CACHE
		a.other_cache = !known->wanted;
#endif
		a.cache = known->key;
		a.bytes_req = known->object_size;
		a.bytes_alloc = known->size;
	}
	allocated(ctx, s, event, &a);
}

INLINE void on_cache_free(u64 call_site, u64 ptr, u64 cache)
{
#ifdef KMEMLEAK
	struct known_cache *known = known_caches.lookup(&cache);

	if (known && known->ignored)
		return;
#endif
	freed(ptr, call_site, CACHE);
}

/*
 * The kernel skips a program that is running already on the same CPU: an interrupt that allocates while a task's
 * allocation is being recorded would go unseen, and so would, where programs may be preempted (v7.0), another task. So
 * each event has two programs, attached in this order: `first` records it and leaves a mark, and `second`, when there is
 * no mark, records what `first` has not, because it is at work underneath. Both find the mark by their context's place on
 * the stack. That is the same wherever the task goes on between its two programs, and an interrupt's is another one, or
 * else it might take the mark of what it interrupts. As stacks are more than there is room for, each place has two marks,
 * and shares no two with another place that is likely. A mark is left over where an interrupt comes upon `second`, which
 * is skipped for the interrupt's event then: so in an interrupt no mark counts while `first` is at work underneath, which
 * cannot have seen the event. What is lost all the same (interrupts in interrupts) is known: runs of `first` that were
 * skipped (recursion_misses), less those that `second` took.
 */
struct mark_pair {
	volatile u64 *one, *other;
};

INLINE struct mark_pair marks_at(u64 base, struct recorded *recorded)
{
	/*
	 * An interrupt is on another stack, or at least the 256 bytes of its registers and handlers further down: that is
	 * one of the 64 parts of a stack. Each mark goes by other bits of both the stack's number and the part's.
	 */
	u64 stack = mix(base / STACK_SIZE), part = base / 256;
	u64 one = stack * MARKED_DEPTHS + part % MARKED_DEPTHS;
	u64 other = (stack >> 32) * MARKED_DEPTHS + part / MARKED_DEPTHS % MARKED_DEPTHS;

	/* Older verifiers (6.1) don't see that the sums are small, and the compiler, who does, would leave out the masks. */
	asm volatile("" : "+r"(one), "+r"(other));
	return (struct mark_pair){
		.one = &recorded->marks[0][one & (MARKED_PLACES - 1)],
		.other = &recorded->marks[1][other & (MARKED_PLACES - 1)],
	};
}

INLINE struct recorded *recorded_events(void)
{
	u32 zero = 0;

	return recorded.lookup(&zero);
}

/* No program takes another one's marks. */
INLINE u64 mark_of(u32 program, u64 object)
{
	return hidden(object) ^ (u64)program << 56;
}

/* What a first program ends with: from here on, its marks count. */
INLINE void mark_recorded(void *ctx, struct scratch *s, u32 program, u64 object)
{
	struct recorded *recorded = recorded_events();
	u64 mark = mark_of(program, object);

	if (recorded) {
		struct mark_pair marks = marks_at(base_of(ctx, s), recorded);

		*marks.one = mark;
		*marks.other = mark;
	}
	STORE(s->at_work, false);
}

INLINE bool take_mark(volatile u64 *found, u64 mark)
{
	if (*found != mark)
		return false;
	*found = 0;
	return true;
}

INLINE bool is_recorded(void *ctx, struct scratch *s, u32 program, u64 object)
{
	struct recorded *recorded = recorded_events();
	u64 mark = mark_of(program, object);

	if (!recorded || LOAD(s->at_work) && current_context(s) != TASK)
		return false;

	struct mark_pair marks = marks_at(base_of(ctx, s), recorded);
	bool one = take_mark(marks.one, mark), other = take_mark(marks.other, mark);

	return one || other;
}

INLINE struct scratch *scratch_of(u32 program)
{
	return scratch.lookup(&program);
}

INLINE struct scratch *scratch_of_first(u32 program)
{
	struct scratch *s = scratch_of(program);

	if (s)
		STORE(s->at_work, true);
	return s;
}

INLINE struct scratch *scratch_of_second(void *ctx, u32 program, u32 taken, u64 object)
{
	struct scratch *s = scratch_of(program);

	if (!s || is_recorded(ctx, s, program, object))
		return NULL;
	count(taken);
	return scratch_of(program + PROGRAMS);
}

/* What the two programs are made of; `record` is told of the room it has as `s`. */
#define RECORD_FIRST(program, object, record)           \
	struct scratch *s = scratch_of_first(program);  \
                                                        \
	if (s) {                                        \
		record;                                 \
		mark_recorded(ctx, s, program, object); \
	}                                               \
	return 0

#define RECORD_SECOND(program, taken, object, record)                       \
	struct scratch *s = scratch_of_second(ctx, program, taken, object); \
                                                                            \
	if (s)                                                              \
		record;                                                     \
	return 0

/* `record` is given where stacks are to be recognised: not in the seldom second program, which so is a small one. */
#define RECORD_ONCE(event, what, object, record)                                \
	int first_##event(struct bpf_raw_tracepoint_args *ctx)                  \
	{                                                                       \
		RECORD_FIRST(ON_##what, object, record(ON_##what));             \
	}                                                                       \
	int second_##event(struct bpf_raw_tracepoint_args *ctx)                 \
	{                                                                       \
		RECORD_SECOND(ON_##what, TAKEN_##what, object, record(SELDOM)); \
	}

/*
 * The same for frees that are seen where a function is entered or returns, whose context lies on the stack, too. There a
 * task may come upon another one's program, as well. That the kernel runs what was attached last first it does not promise:
 * in the other order each free would be recorded twice, as early, and count as taken, so that none would count as lost.
 */
#define RECORD_FREE_ONCE(PROBE, function, what, object, record)         \
	PROBE(function)                                                 \
	{                                                               \
		RECORD_FIRST(ON_##what, object, record);                \
	}                                                               \
	int second_##function(unsigned long long *ctx)                  \
	{                                                               \
		RECORD_SECOND(ON_##what, TAKEN_##what, object, record); \
	}

#ifdef KMALLOC_PTR
#define RECORD_KMALLOC(event)                                                                 \
	on_kmalloc_event(ctx, s, event, ctx->args[KMALLOC_CALL_SITE], ctx->args[KMALLOC_PTR], \
			 ctx->args[KMALLOC_BYTES_REQ], ctx->args[KMALLOC_BYTES_ALLOC], ctx->args[KMALLOC_GFP_FLAGS])
RECORD_ONCE(kmalloc, KMALLOC, ctx->args[KMALLOC_PTR], RECORD_KMALLOC)
#endif

#ifdef KMALLOC_NODE_PTR
#define RECORD_KMALLOC_NODE(event)                                                                      \
	on_kmalloc_event(ctx, s, event, ctx->args[KMALLOC_NODE_CALL_SITE], ctx->args[KMALLOC_NODE_PTR], \
			 ctx->args[KMALLOC_NODE_BYTES_REQ], ctx->args[KMALLOC_NODE_BYTES_ALLOC],        \
			 ctx->args[KMALLOC_NODE_GFP_FLAGS])
RECORD_ONCE(kmalloc_node, KMALLOC_NODE, ctx->args[KMALLOC_NODE_PTR], RECORD_KMALLOC_NODE)
#endif

#ifdef KMEM_CACHE_ALLOC_PTR
#define RECORD_CACHE_ALLOC(event)                                                                             \
	on_cache_event(ctx, s, event, ctx->args[KMEM_CACHE_ALLOC_CALL_SITE], ctx->args[KMEM_CACHE_ALLOC_PTR], \
		       ctx->args[KMEM_CACHE_ALLOC_S], ctx->args[KMEM_CACHE_ALLOC_GFP_FLAGS])
RECORD_ONCE(kmem_cache_alloc, CACHE_ALLOC, ctx->args[KMEM_CACHE_ALLOC_PTR], RECORD_CACHE_ALLOC)
#endif

#ifdef KMEM_CACHE_ALLOC_NODE_PTR
#define RECORD_CACHE_ALLOC_NODE(event)                                                           \
	on_cache_event(ctx, s, event, ctx->args[KMEM_CACHE_ALLOC_NODE_CALL_SITE],                \
		       ctx->args[KMEM_CACHE_ALLOC_NODE_PTR], ctx->args[KMEM_CACHE_ALLOC_NODE_S], \
		       ctx->args[KMEM_CACHE_ALLOC_NODE_GFP_FLAGS])
RECORD_ONCE(kmem_cache_alloc_node, CACHE_ALLOC_NODE, ctx->args[KMEM_CACHE_ALLOC_NODE_PTR], RECORD_CACHE_ALLOC_NODE)
#endif

#ifdef KFREE_PTR
#define RECORD_KFREE(event) freed(ctx->args[KFREE_PTR], ctx->args[KFREE_CALL_SITE], KMALLOC)
RECORD_ONCE(kfree, KFREE, ctx->args[KFREE_PTR], RECORD_KFREE)
#endif

#ifdef KMEM_CACHE_FREE_PTR
#ifndef KMEM_CACHE_FREE_S
#define KMEM_CACHE_FREE_S KMEM_CACHE_FREE_PTR /* not given: a pointer that is no known cache */
#endif
#define RECORD_CACHE_FREE(event)                                                            \
	on_cache_free(ctx->args[KMEM_CACHE_FREE_CALL_SITE], ctx->args[KMEM_CACHE_FREE_PTR], \
		      ctx->args[KMEM_CACHE_FREE_S])
RECORD_ONCE(kmem_cache_free, CACHE_FREE, ctx->args[KMEM_CACHE_FREE_PTR], RECORD_CACHE_FREE)
#endif

#define BULK_LIMIT 512

#ifdef BULK_FREE
/*
 * mm/slub.c frees whole arrays without an event: kfree_bulk, and with it every kfree_rcu batch, which is a page of pointers
 * (KVFREE_BULK_MAX_ENTR in kernel/rcu/tree.c). Verifiers follow each turn of a loop, up to some thousands: where pages are
 * large, the first program takes one half, and the second the other. Of 64 KiB that is half of what there may be.
 */
#define BULK_FREES (PAGE_BYTES == 4096 ? BULK_LIMIT : PAGE_BYTES == 16384 ? 1024 : 2048)

/* Returns how many are left. */
INLINE u64 on_bulk_free(void *ctx, struct scratch *s, u64 length, u64 objects, u64 start)
{
	u64 call_site = caller_of(ctx, s, BULK_FREE, BULK_FREE_LENGTH);

	for (u32 i = 0; i < BULK_FREES; i++) {
		if (start + i >= length)
			return 0;
		freed(word_at(objects + 8 * (start + i)), call_site, CACHE);
	}
	return length - start - BULK_FREES;
}

INLINE void on_first_bulk_free(void *ctx, struct scratch *s)
{
	struct scratch *second = scratch_of(ON_BULK_FREE + PROGRAMS);

	/* If the second program is at work underneath, it can't be run for what is left. */
	if (on_bulk_free(ctx, s, function_argument(ctx, 1), function_argument(ctx, 2), 0) && second && second->at_work)
		count(LONG_BULK_FREE);
}

#define FIRST_OF_BULK \
	word_at(function_argument(ctx, 2)) /* the array itself is at one place of the stack again and again */

KFUNC_PROBE(kmem_cache_free_bulk)
{
	RECORD_FIRST(ON_BULK_FREE, FIRST_OF_BULK, on_first_bulk_free(ctx, s));
}

int second_kmem_cache_free_bulk(unsigned long long *ctx)
{
	u64 length = function_argument(ctx, 1);
	struct scratch *s = scratch_of_second(ctx, ON_BULK_FREE, TAKEN_BULK_FREE, FIRST_OF_BULK);
	bool recorded = !s;

	if (recorded && length > BULK_FREES)
		s = scratch_of(ON_BULK_FREE + PROGRAMS);
	if (!s)
		return 0;
	STORE(s->at_work, true);
	/* Through memory: the verifier, to whom it is any number then, follows the loop once. */
	STORE(s->length, recorded ? BULK_FREES : 0);
	if (on_bulk_free(ctx, s, length, function_argument(ctx, 2), LOAD(s->length)))
		count(LONG_BULK_FREE);
	STORE(s->at_work, false);
	return 0;
}

int on_kmem_cache_free_bulk(struct pt_regs *ctx)
{
	struct scratch *s = scratch_of(ON_BULK_FREE);

	if (s && on_bulk_free(ctx, s, PT_REGS_PARM2(ctx), PT_REGS_PARM3(ctx), 0))
		count(LONG_BULK_FREE);
	return 0;
}
#endif

#ifdef SHEAF_FREE
/*
 * mm/slub.c, __kfree_rcu_sheaf: true if the object has gone into a sheaf, that is freed as a whole, or handed out again,
 * without an event. False: it will be freed by other means, which are seen.
 */
INLINE void on_sheaf_free(void *ctx, struct scratch *s, u64 object, bool taken)
{
	if (taken)
		freed(object, caller_of(ctx, s, SHEAF_FREE, SHEAF_FREE_LENGTH), CACHE);
}

INLINE u64 function_result(void *ctx)
{
	u64 value = 0;

	bpf_get_func_ret(ctx, &value);
	return value;
}

#define RECORD_SHEAF_FREE on_sheaf_free(ctx, s, function_argument(ctx, 1), (u8)function_result(ctx))
RECORD_FREE_ONCE(KRETFUNC_PROBE, __kfree_rcu_sheaf, SHEAF_FREE, function_argument(ctx, 1), RECORD_SHEAF_FREE)

int on_sheaf_free_entry(struct pt_regs *ctx)
{
	called(ctx, ON_SHEAF_FREE, PT_REGS_PARM2(ctx), 0, 0, SHEAF_FREE_UNRETURNED);
	return 0;
}

int on_sheaf_free_return(struct pt_regs *ctx)
{
	struct scratch *s = scratch_of(ON_SHEAF_FREE);
	u64 arguments[3];

	if (returned(ctx, ON_SHEAF_FREE, arguments, SHEAF_FREE_UNCALLED) && s)
		on_sheaf_free(ctx, s, arguments[0], (u8)PT_REGS_RC(ctx));
	return 0;
}
#endif

#ifdef RCU_FREE
/*
 * mm/slab_common.c, kvfree_call_rcu where kfree_rcu makes no batches: with a head, what frees the object in the end is
 * kvfree_rcu_cb, without an event; without, kvfree, which is seen.
 */
INLINE void on_rcu_free(void *ctx, struct scratch *s, u64 head, u64 object)
{
	if (head)
		freed(object, caller_of(ctx, s, RCU_FREE, RCU_FREE_LENGTH), CACHE);
}

#define RECORD_RCU_FREE on_rcu_free(ctx, s, function_argument(ctx, 0), function_argument(ctx, 1))
RECORD_FREE_ONCE(KFUNC_PROBE, kvfree_call_rcu, RCU_FREE, function_argument(ctx, 1), RECORD_RCU_FREE)

int on_kvfree_call_rcu(struct pt_regs *ctx)
{
	struct scratch *s = scratch_of(ON_RCU_FREE);

	if (s)
		on_rcu_free(ctx, s, PT_REGS_PARM1(ctx), PT_REGS_PARM2(ctx));
	return 0;
}
#endif

#ifdef BULK_ALLOC_FUNCTION
/*
 * kmem_cache_alloc_bulk hands out an array without an event. All its objects have the stack of the one call. It gets
 * all that were asked for, or none, and returns their number, or whether it has them (bool, in v7.3): of that not all
 * bits are its own.
 */
INLINE void on_bulk_alloc(void *ctx, u64 cache, u32 gfp, u64 length, u64 objects, u64 returned)
{
	u32 program = ON_BULK_ALLOC;
	struct scratch *s = scratch.lookup(&program);

	if (!s || !(returned & BULK_ALLOC_RESULT))
		return;

	struct known_cache *known = know_cache(cache, s);

	if (known && known->ignored)
		return;

	struct recent_task *task = current_task(s);
	u8 context = current_context(s);
	struct allocation a = {
		.gfp_flags = gfp,
		.kind = CACHE,
	};
	bool in_module = false;

	if (known) {
#ifdef FILTER_CACHE
		a.other_cache = !known->wanted;
#endif
		a.cache = known->key;
		a.bytes_req = known->object_size;
		a.bytes_alloc = known->size;
	}
	if (!state_of(RECORDING) || !wanted(task, a.bytes_req, context) || a.other_cache)
		return;

	u64 stack = take_exact_stack(ctx, s, 0, &in_module);
	if (is_filtered_out(in_module))
		return;
	a.call_site = 0;
	for (u32 i = 0; i < BULK_LIMIT; i++) {
		if (i >= length)
			return;
		a.address = word_at(objects + 8 * i);
		hand_over(task, &a, stack, context);
	}
	if (length > BULK_LIMIT)
		count(LONG_BULK_ALLOC);
}

#define ON_BULK_RETURN(function) KRETFUNC_PROBE(function)

ON_BULK_RETURN(BULK_ALLOC_FUNCTION)
{
	u64 returned = 0;

	bpf_get_func_ret(ctx, &returned);
	on_bulk_alloc(ctx, function_argument(ctx, 0), function_argument(ctx, 1), function_argument(ctx, 2),
		      function_argument(ctx, 3), returned);
	return 0;
}

int on_bulk_alloc_entry(struct pt_regs *ctx)
{
	u64 length_and_gfp = PT_REGS_PARM3(ctx) << 32 | (u32)PT_REGS_PARM2(ctx);

	called(ctx, ON_BULK_ALLOC, PT_REGS_PARM1(ctx), length_and_gfp, PT_REGS_PARM4(ctx), BULK_ALLOC_UNRETURNED);
	return 0;
}

int on_bulk_alloc_return(struct pt_regs *ctx)
{
	u64 arguments[3];

	if (returned(ctx, ON_BULK_ALLOC, arguments, BULK_ALLOC_UNCALLED))
		on_bulk_alloc(ctx, arguments[0], arguments[1], arguments[1] >> 32, arguments[2], PT_REGS_RC(ctx));
	return 0;
}
#endif

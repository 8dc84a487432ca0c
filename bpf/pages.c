// SPDX-License-Identifier: GPL-2.0-only
/*
 * Pages, straight from the page allocator: include/trace/events/kmem.h. Only with --pages, for there are many of them.
 *
 * mm_page_alloc tells of every block that __alloc_pages() gives out (mm/page_alloc.c). What slab, vmalloc and the page
 * cache take for themselves, and what user space gets, is left out here: by its flags, or by who called the page allocator.
 * mm_page_free tells of every block that is given back, and mm_page_free_batched of some of them once more. It says which
 * order, and not which order it was taken with: a block may have been split meanwhile (split_page(), alloc_pages_exact()).
 *
 * Pages go by the address of their struct page, with the block's order in its low bits, which are 0 in an address.
 */
#ifdef TRACE_PAGES

#define DESCRIPTOR_BYTES 64ULL /* sizeof(struct page); where it is another one, there are no events of pages */
#define MOVABLE 0x08u	       /* ___GFP_MOVABLE, include/linux/gfp_types.h */

/*
 * One byte for each page: not 0 if user space believes it to be in a block that somebody has. So a free of any other page,
 * and most are, costs one look; and a free that was not handed over is made good when the page is given out again.
 * Descriptors lie in one array (vmemmap), so numbers of pages are as good modulo PAGE_NUMBERS, if there are no more pages.
 */
#define MARKS 4096 /* side by side; a block of 4096 pages lies at a multiple of so many */
struct page_marks {
	u8 of[MARKS];
};
BPF_ARRAY(page_marks, struct page_marks, 1);

/* By address of code, in units of PLACE bytes: what a call of the page allocator from there means. */
enum page_role { PASSES_ON = 1, COUNTED_ELSEWHERE };
#define PLACE 16
BPF_HASH(page_roles, u64, u8, PAGE_ROLES);

/* Frames that are looked at: the page allocator's own, the tracing's, and who called it. */
#define NEAREST_FRAMES 12

INLINE u64 number_of(u64 page)
{
	return page / DESCRIPTOR_BYTES & (PAGE_NUMBERS - 1);
}

INLINE struct page_marks *marks_of(u64 page)
{
	u32 place = number_of(page) / MARKS;

	return page_marks.lookup(&place);
}

INLINE u8 *mark_of_page(struct page_marks *marks, u64 page)
{
	return &marks->of[number_of(page) & (MARKS - 1)];
}

/* `words` is eight marks. A block lies at a multiple of its size. */
INLINE void set_marks(struct page_marks *marks, u64 page, u32 order, u64 words)
{
	u64 at = number_of(page);

	if (order < 3) {
		for (u32 i = 0; i < 4; i++)
			if (!(i >> order))
				marks->of[at + i & (MARKS - 1)] = words;
		return;
	}

	u64 *eight = (u64 *)marks->of;

	at /= sizeof(u64);
	for (u32 i = 0; i < MARKS / sizeof(u64); i++) {
		if (i >> (order - 3 & 31))
			return;
		eight[at + i & (MARKS / sizeof(u64) - 1)] = words;
	}
}

#define MARKED 0x0101010101010101ULL

/*
 * As unwind(). If it was one of those whose pages are counted elsewhere that called the page allocator, the stack ends
 * there: who had asked those does not matter, and so there are only a few such stacks.
 */
INLINE u64 unwind_pages(void *ctx, struct scratch *s, u32 skip, bool *in_module, bool *elsewhere)
{
	u64 key = unwind(ctx, s, skip, in_module), nearest = 1;
	bool left_text = false;

	if (!key)
		return 0;
	for (u32 i = 0; i < NEAREST_FRAMES; i++) {
		if (i >= s->stack.depth)
			break;

		u64 frame = s->stack.frames[i], place = frame / PLACE;
		u8 *role = page_roles.lookup(&place);

		nearest = mix(nearest ^ frame);
		if (!role) {
			/* Our own programs and trampolines lie within the page allocator's frames; a module does not. */
			if (!outside(frame, KERNEL_TEXT, KERNEL_TEXT_LENGTH))
				break;
			left_text = true;
		} else if (*role == PASSES_ON) {
			left_text = false;
		} else if (left_text) {
			break;
		} else {
			s->stack.depth = s->unwound_depth = i + 1;
			*elsewhere = true;
			return nearest | 1;
		}
	}
	return key;
}

INLINE u64 take_exact_page_stack(void *ctx, struct scratch *s, u32 skip, bool *in_module, bool *elsewhere)
{
	u64 key = unwind_pages(ctx, s, skip, in_module, elsewhere);

	if (key && !*elsewhere)
		tell_stack(s, key, is_filtered_out(*in_module));
	return key;
}

/* As take_stack(). */
INLINE u64 take_page_stack(void *ctx, struct scratch *s, u32 event, bool *in_module, bool *elsewhere)
{
	if (event == NO_TRACEPOINT)
		return take_exact_page_stack(ctx, s, 0, in_module, elsewhere);
	if (event == SELDOM)
		return take_exact_page_stack(ctx, s, TRACING_FRAMES, in_module, elsewhere);

#ifdef RECOGNISE_STACKS
	u64 root = mix(mix(state_of(MODULES) + 1) ^ (u64)event << 48);
	struct stack_path *path = believed_path(ctx, s, root);

	if (path) {
		*in_module = path->in_module;
		*elsewhere = path->cut;
		return path->stack;
	}
#endif
	u64 key = unwind_pages(ctx, s, TRACING_FRAMES, in_module, elsewhere);

	if (!key)
		return 0;
#ifdef RECOGNISE_STACKS
	u64 recognised = LOAD(s->recognised);

	if (recognised && is_right(s, key))
		return key;
#endif

	u64 unwound = tell_stack(s, key, *elsewhere || is_filtered_out(*in_module));

#ifdef RECOGNISE_STACKS
	if (recognised || worth_a_sample(unwound)) {
		s->stack.key = key;
		hand_over_sample(ctx, s, root, event, *in_module, *elsewhere, recognised, unwound);
	}
#endif
	return key;
}

INLINE struct allocation block_of(u64 page, u32 order, u32 gfp)
{
	struct allocation a = {
		.address = page | order,
		.bytes_req = (u64)PAGE_BYTES << (order & 31),
		.bytes_alloc = (u64)PAGE_BYTES << (order & 31),
		.cache = order, /* as it was asked for */
		.gfp_flags = gfp,
		.kind = PAGES,
#ifdef FILTER_CACHE
		.other_cache = true,
#endif
	};

	return a;
}

/* What is true of all pages of a call; false: nobody wants to know of them. */
INLINE bool pages_wanted(void *ctx, struct scratch *s, u32 event, struct allocation *a, u64 *stack, u8 *context)
{
	bool in_module = false, elsewhere = false;

	if (!state_of(RECORDING))
		return false;
	*context = current_context(s);
	if (!wanted(current_task(s), a->bytes_req, *context) || a->other_cache)
		return false;
	*stack = take_page_stack(ctx, s, event, &in_module, &elsewhere);
	return !elsewhere && !is_filtered_out(in_module);
}

INLINE void on_page_alloc(void *ctx, struct scratch *s, u32 event, u64 page, u32 order, u32 gfp)
{
	struct allocation a = block_of(page, order, gfp);
	struct page_marks *marks = marks_of(page);
	u64 stack = 0;
	u8 context = 0;

	if (marks && pages_wanted(ctx, s, event, &a, &stack, &context) && hand_over(&s->recent, &a, stack, context))
		set_marks(marks, page, order, MARKED);
}

/* A page can't be given out that was not given back: that was not handed over. */
INLINE void make_good(u64 page)
{
	struct page_marks *marks = marks_of(page);

	if (marks && *mark_of_page(marks, page) && hand_over_free(page, 0, PAGES))
		*mark_of_page(marks, page) = 0;
}

INLINE void on_page_free(u64 page, u32 order)
{
	struct page_marks *marks = marks_of(page);

	if (!marks || !*mark_of_page(marks, page) || !state_of(RECORDING))
		return;
	if (hand_over_free(page | order, 0, PAGES))
		set_marks(marks, page, order, 0);
}

#ifdef MM_PAGE_ALLOC_PAGE
/* As RECORD_ONCE in slab.c, but for what is movable: no interrupt takes such pages, so none can come upon us with one. */
int first_mm_page_alloc(struct bpf_raw_tracepoint_args *ctx)
{
	u64 page = ctx->args[MM_PAGE_ALLOC_PAGE];
	struct scratch *s;

	if (!page || ctx->args[MM_PAGE_ALLOC_GFP_FLAGS] & MOVABLE)
		return 0;
	s = scratch_of_first(ON_PAGE_ALLOC);
	make_good(page);
	if (s) {
		on_page_alloc(ctx, s, ON_PAGE_ALLOC, page, ctx->args[MM_PAGE_ALLOC_ORDER],
			      ctx->args[MM_PAGE_ALLOC_GFP_FLAGS]);
		mark_recorded(ctx, s, ON_PAGE_ALLOC, page);
	}
	return 0;
}

int second_mm_page_alloc(struct bpf_raw_tracepoint_args *ctx)
{
	u64 page = ctx->args[MM_PAGE_ALLOC_PAGE];
	struct scratch *s;

	if (!page || ctx->args[MM_PAGE_ALLOC_GFP_FLAGS] & MOVABLE)
		return 0;
	s = scratch_of_second(ctx, ON_PAGE_ALLOC, TAKEN_PAGE_ALLOC, page);
	if (s)
		on_page_alloc(ctx, s, SELDOM, page, ctx->args[MM_PAGE_ALLOC_ORDER], ctx->args[MM_PAGE_ALLOC_GFP_FLAGS]);
	return 0;
}
#endif

#ifdef MM_PAGE_FREE_PAGE
/*
 * Two programs for another reason, too: what the first has taken has no mark any more, and all that has none is passed
 * over with one look. What was missed by both, an interrupt in an interrupt, is made good when the page is given out again.
 */
int first_mm_page_free(struct bpf_raw_tracepoint_args *ctx)
{
	on_page_free(ctx->args[MM_PAGE_FREE_PAGE], ctx->args[MM_PAGE_FREE_ORDER]);
	return 0;
}

int second_mm_page_free(struct bpf_raw_tracepoint_args *ctx)
{
	on_page_free(ctx->args[MM_PAGE_FREE_PAGE], ctx->args[MM_PAGE_FREE_ORDER]);
	return 0;
}
#endif

#ifdef BULK_PAGES_FUNCTION
/*
 * Single pages that alloc_pages_bulk() puts into an array, without an event but for the last resort, which is
 * __alloc_pages(). It returns how many lie there, with those that lay there before: these have their marks already.
 */
INLINE void on_bulk_pages(void *ctx, u32 gfp, u64 length, u64 array)
{
	u32 program = ON_BULK_PAGES;
	struct scratch *s = scratch.lookup(&program);
	struct allocation a = block_of(0, 0, gfp);
	u64 stack = 0;
	u8 context = 0;

	if (!s || !array || !length || gfp & MOVABLE)
		return;
	if (!pages_wanted(ctx, s, NO_TRACEPOINT, &a, &stack, &context))
		return;
	for (u32 i = 0; i < BULK_LIMIT; i++) {
		if (i >= length)
			return;

		u64 page = word_at(array + 8 * i);
		struct page_marks *marks = marks_of(page);

		if (!page || !marks || *mark_of_page(marks, page))
			continue;
		a.address = page;
		if (hand_over(&s->recent, &a, stack, context))
			*mark_of_page(marks, page) = 1;
	}
	if (length > BULK_LIMIT)
		count(LONG_BULK_ALLOC);
}

#define ON_BULK_PAGES_RETURN(function) KRETFUNC_PROBE(function)

ON_BULK_PAGES_RETURN(BULK_PAGES_FUNCTION)
{
	u64 returned = 0;

	bpf_get_func_ret(ctx, &returned);
	on_bulk_pages(ctx, function_argument(ctx, BULK_PAGES_GFP), (u32)returned,
		      function_argument(ctx, BULK_PAGES_ARRAY));
	return 0;
}

#define PARAMETER(ctx, number) PT_REGS_PARM##number(ctx)
#define NUMBERED_PARAMETER(ctx, number) PARAMETER(ctx, number)

int on_bulk_pages_entry(struct pt_regs *ctx)
{
	called(ctx, ON_BULK_PAGES, PT_REGS_PARM1(ctx), NUMBERED_PARAMETER(ctx, BULK_PAGES_ARRAY_PARAMETER), 0,
	       BULK_PAGES_UNRETURNED);
	return 0;
}

int on_bulk_pages_return(struct pt_regs *ctx)
{
	u64 arguments[3];

	if (returned(ctx, ON_BULK_PAGES, arguments, BULK_PAGES_UNCALLED))
		on_bulk_pages(ctx, arguments[0], (u32)PT_REGS_RC(ctx), arguments[1]);
	return 0;
}
#endif
#endif

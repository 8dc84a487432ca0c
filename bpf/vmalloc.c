// SPDX-License-Identifier: GPL-2.0-only
/* vmalloc: by the functions where they can be hooked, else by the events of the address space they take from. */

INLINE void on_vmalloc(void *ctx, u64 address, u64 size, u32 gfp)
{
	u32 program = ON_VMALLOC;
	struct scratch *s = scratch.lookup(&program);
	struct allocation a = {
		.address = address,
		.bytes_req = size,
		.bytes_alloc = (size + PAGE_BYTES - 1) & ~(PAGE_BYTES - 1ULL),
		.gfp_flags = gfp,
		.kind = VMALLOC,
#ifdef FILTER_CACHE
		.other_cache = true,
#endif
	};

	if (s)
		allocated(ctx, s, NO_TRACEPOINT, &a);
}

INLINE void on_vfree(void *ctx, struct scratch *s, u64 address, u64 function, u64 length)
{
	if (s && address)
		freed(address, caller_of(ctx, s, function, length), VMALLOC);
}

#ifdef VMALLOC_FUNCTION
#define ON_RETURN(function, args...) KRETFUNC_PROBE(function, args)

ON_RETURN(VMALLOC_FUNCTION, u64 size, u64 align, u64 start, u64 end, u64 gfp, u64 prot, u64 vm_flags, u64 node,
	  u64 caller, u64 ret)
{
	on_vmalloc(ctx, ret, size, gfp);
	return 0;
}

/* The same by kprobe: see called(). vmalloc calls itself, for the list of a large area's pages. */
int on_vmalloc_entry(struct pt_regs *ctx)
{
	called(ctx, ON_VMALLOC, PT_REGS_PARM1(ctx), PT_REGS_PARM5(ctx), 0, VMALLOC_UNRETURNED);
	return 0;
}

int on_vmalloc_return(struct pt_regs *ctx)
{
	u64 arguments[3];

	if (returned(ctx, ON_VMALLOC, arguments, VMALLOC_UNCALLED))
		on_vmalloc(ctx, PT_REGS_RC(ctx), arguments[0], arguments[1]);
	return 0;
}
#endif

#ifdef VFREE
#define RECORD_VFREE on_vfree(ctx, s, function_argument(ctx, 0), VFREE, VFREE_LENGTH)
RECORD_FREE_ONCE(KFUNC_PROBE, vfree, VFREE, function_argument(ctx, 0), RECORD_VFREE)

int on_vfree_entry(struct pt_regs *ctx)
{
	on_vfree(ctx, scratch_of(ON_VFREE), PT_REGS_PARM1(ctx), VFREE, VFREE_LENGTH);
	return 0;
}
#endif

#ifdef VFREE_ATOMIC
#define RECORD_VFREE_ATOMIC on_vfree(ctx, s, function_argument(ctx, 0), VFREE_ATOMIC, VFREE_ATOMIC_LENGTH)
RECORD_FREE_ONCE(KFUNC_PROBE, vfree_atomic, VFREE_ATOMIC, function_argument(ctx, 0), RECORD_VFREE_ATOMIC)

int on_vfree_atomic_entry(struct pt_regs *ctx)
{
	on_vfree(ctx, scratch_of(ON_VFREE_ATOMIC), PT_REGS_PARM1(ctx), VFREE_ATOMIC, VFREE_ATOMIC_LENGTH);
	return 0;
}
#endif

#ifdef ALLOC_VMAP_AREA_ADDR
int on_alloc_vmap_area(struct bpf_raw_tracepoint_args *ctx)
{
	/* failed=1 may be followed by a retry, which reports for itself. */
	if (!(int)ctx->args[ALLOC_VMAP_AREA_FAILED])
		on_vmalloc(ctx, ctx->args[ALLOC_VMAP_AREA_ADDR], ctx->args[ALLOC_VMAP_AREA_SIZE], 0);
	return 0;
}
#endif

#ifdef FREE_VMAP_AREA_NOFLUSH_VA_START
int on_free_vmap_area_noflush(struct bpf_raw_tracepoint_args *ctx)
{
	u32 program = ON_VFREE;
	struct scratch *s = scratch.lookup(&program);

	if (s)
		freed(ctx->args[FREE_VMAP_AREA_NOFLUSH_VA_START], 0, VMALLOC);
	return 0;
}
#endif

#ifdef FREE_AREAS
#define DEPTH 64 /* of a red-black tree of 4 billion areas */

/*
 * The pages of the free range that ends at an address, hidden, or 0. Not attached: who wants to know has it run.
 * mm/vmalloc.c has the free ranges in a tree by address; as nobody holds its lock for us, it may be told wrong.
 */
int pages_free_before(struct bpf_raw_tracepoint_args *ctx)
{
	u64 end = ~ctx->args[0], node = word_at(FREE_AREAS);

	for (u32 i = 0; i < DEPTH && node; i++) {
		u64 area = node - VMAP_AREA_RB_NODE;
		u64 area_end = word_at(area + VMAP_AREA_VA_END);

		if (area_end == end)
			return (end - word_at(area + VMAP_AREA_VA_START)) / PAGE_BYTES;
		node = word_at(node + (area_end < end ? RB_NODE_RB_RIGHT : RB_NODE_RB_LEFT));
	}
	return 0;
}
#endif

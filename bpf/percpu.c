// SPDX-License-Identifier: GPL-2.0-only
/* Per-CPU memory: include/trace/events/percpu.h. Addresses are offsets into each CPU's area. */

#ifdef PERCPU_ALLOC_PERCPU_PTR
int on_percpu_alloc(struct bpf_raw_tracepoint_args *ctx)
{
	u32 program = ON_PERCPU;
	struct scratch *s = scratch.lookup(&program);
	struct allocation a = {
		.address = ctx->args[PERCPU_ALLOC_PERCPU_PTR],
#ifdef PERCPU_ALLOC_PERCPU_CALL_SITE
		.call_site = ctx->args[PERCPU_ALLOC_PERCPU_CALL_SITE],
#endif
		.bytes_req = ctx->args[PERCPU_ALLOC_PERCPU_SIZE],
		.bytes_alloc = ctx->args[PERCPU_ALLOC_PERCPU_SIZE],
#ifdef PERCPU_ALLOC_PERCPU_GFP_FLAGS
		.gfp_flags = ctx->args[PERCPU_ALLOC_PERCPU_GFP_FLAGS],
#endif
		.kind = PERCPU,
#ifdef FILTER_CACHE
		.other_cache = true,
#endif
	};

	if (s)
		allocated(ctx, s, ON_PERCPU, &a);
	return 0;
}
#endif

#ifdef PERCPU_FREE_PERCPU_PTR
int on_percpu_free(struct bpf_raw_tracepoint_args *ctx)
{
	freed(ctx->args[PERCPU_FREE_PERCPU_PTR], 0, PERCPU);
	return 0;
}
#endif

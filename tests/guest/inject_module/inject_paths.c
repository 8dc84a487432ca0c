// SPDX-License-Identifier: GPL-2.0-only
/*
 * A driver with twelve allocations in its init, each of which may fail; five of the error paths leak. Functions are
 * named by what they allocate. Per-CPU memory is taken, too, but can't be made to fail.
 *
 *	allocation that fails	what its error path leaks
 *	name			ctx
 *	table			name
 *	shadow			counters
 *	large			table
 *	map			ring and shadow
 *
 * With `idle`, init takes nothing, and whoever writes to `again` has all of it taken and given back.
 *
 * `bad` makes the error path of `map` worse: it dereferences NULL (oops), waits for ever (wait), or does so without
 * letting anybody kill it (stuck).
 */
#include <linux/bitmap.h>
#include <linux/completion.h>
#include <linux/delay.h>
#include <linux/gfp.h>
#include <linux/module.h>
#include <linux/percpu.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/vmalloc.h>

static char *bad = "";
module_param(bad, charp, 0);
static bool idle;
module_param(idle, bool, 0);

struct ctx {
	char *name;
	u64 __percpu *counters;
	struct kmem_cache *cache;
	void *object;
	void *table;
	void *ring;
	void *shadow;
	void *copy;
	void *large;
	unsigned long pages;
	unsigned long *map;
	char *label;
};

static struct ctx *ctx;

/*
 * Each a function of its own, so that the call stack names it: with something left to do after the call, or the compiler
 * would make a jump of it.
 */
#define RETURN(type, call)        \
	({                        \
		type made = call; \
		barrier();        \
		return made;      \
	})

static noinline struct ctx *alloc_ctx(void)
{
	RETURN(struct ctx *, kzalloc(sizeof(struct ctx), GFP_KERNEL));
}

static noinline char *alloc_name(void)
{
	RETURN(char *, kasprintf(GFP_KERNEL, "paths-%d", 7));
}

static noinline u64 __percpu *alloc_counters(void)
{
	RETURN(u64 __percpu *, alloc_percpu(u64));
}

static noinline struct kmem_cache *alloc_cache(void)
{
	RETURN(struct kmem_cache *, kmem_cache_create("inject_paths_object", 136, 0, SLAB_NO_MERGE, NULL));
}

static noinline void *alloc_object(void)
{
	RETURN(void *, kmem_cache_zalloc(ctx->cache, GFP_KERNEL));
}

static noinline void *alloc_table(void)
{
	RETURN(void *, vzalloc(5 * PAGE_SIZE));
}

static noinline void *alloc_ring(void)
{
	RETURN(void *, kmalloc(1000, GFP_KERNEL));
}

static noinline void *alloc_shadow(void)
{
	RETURN(void *, kvzalloc(300, GFP_KERNEL));
}

static noinline void *alloc_copy(void)
{
	RETURN(void *, kmemdup(ctx->name, strlen(ctx->name) + 1, GFP_KERNEL));
}

static noinline void *alloc_large(void)
{
	RETURN(void *, kmalloc(5 * PAGE_SIZE, GFP_KERNEL));
}

static noinline unsigned long alloc_free_pages(void)
{
	RETURN(unsigned long, __get_free_pages(GFP_KERNEL, 1));
}

static noinline unsigned long *alloc_map(void)
{
	RETURN(unsigned long *, bitmap_zalloc(777, GFP_KERNEL));
}

static noinline char *alloc_label(void)
{
	RETURN(char *, kstrdup("a label of some length", GFP_KERNEL));
}

static noinline void be_bad(void)
{
	static DECLARE_COMPLETION(never);

	if (!strcmp(bad, "oops"))
		*(volatile int *)NULL = 1;
	if (!strcmp(bad, "wait") && wait_for_completion_killable(&never))
		pr_info("inject_paths: killed\n");
	while (!strcmp(bad, "stuck"))
		msleep(1000);
}

static int set_up(void)
{
	ctx = alloc_ctx();
	if (!ctx)
		return -ENOMEM;
	ctx->name = alloc_name();
	if (!ctx->name)
		return -ENOMEM; /* leaks ctx */
	ctx->counters = alloc_counters();
	if (!ctx->counters)
		goto no_counters;
	ctx->cache = alloc_cache();
	if (!ctx->cache)
		goto no_cache;
	ctx->object = alloc_object();
	if (!ctx->object)
		goto no_object;
	ctx->table = alloc_table();
	if (!ctx->table) {
		ctx->name = NULL; /* leaks it */
		goto no_table;
	}
	ctx->ring = alloc_ring();
	if (!ctx->ring)
		goto no_ring;
	ctx->shadow = alloc_shadow();
	if (!ctx->shadow) {
		ctx->counters = NULL; /* leaks them */
		goto no_shadow;
	}
	ctx->copy = alloc_copy();
	if (!ctx->copy)
		goto no_copy;
	ctx->large = alloc_large();
	if (!ctx->large) {
		ctx->table = NULL; /* leaks it */
		goto no_large;
	}
	ctx->pages = alloc_free_pages();
	if (!ctx->pages)
		goto no_pages;
	ctx->map = alloc_map();
	if (!ctx->map) {
		be_bad();
		ctx->ring = ctx->shadow = NULL; /* leaks both */
		goto no_map;
	}
	ctx->label = alloc_label();
	if (!ctx->label)
		goto no_label;
	return 0;

no_label:
	bitmap_free(ctx->map);
no_map:
	free_pages(ctx->pages, 1);
no_pages:
	kfree(ctx->large);
no_large:
	kfree(ctx->copy);
no_copy:
	kvfree(ctx->shadow);
no_shadow:
	kfree(ctx->ring);
no_ring:
	vfree(ctx->table);
no_table:
	kmem_cache_free(ctx->cache, ctx->object);
no_object:
	kmem_cache_destroy(ctx->cache);
no_cache:
	free_percpu(ctx->counters);
no_counters:
	kfree(ctx->name);
	kfree(ctx);
	return -ENOMEM;
}

static void tear_down(void)
{
	kfree(ctx->label);
	bitmap_free(ctx->map);
	free_pages(ctx->pages, 1);
	kfree(ctx->large);
	kfree(ctx->copy);
	kvfree(ctx->shadow);
	kfree(ctx->ring);
	vfree(ctx->table);
	kmem_cache_free(ctx->cache, ctx->object);
	kmem_cache_destroy(ctx->cache);
	free_percpu(ctx->counters);
	kfree(ctx->name);
	kfree(ctx);
}

static int again_set(const char *text, const struct kernel_param *param)
{
	int error = set_up();

	if (!error)
		tear_down();
	return error;
}

static const struct kernel_param_ops again_ops = { .set = again_set };
module_param_cb(again, &again_ops, NULL, 0200);

static int __init inject_paths_init(void)
{
	return idle ? 0 : set_up();
}

static void __exit inject_paths_exit(void)
{
	if (!idle)
		tear_down();
}

module_init(inject_paths_init);
module_exit(inject_paths_exit);
MODULE_DESCRIPTION("Twelve allocations, five of whose error paths leak");
MODULE_LICENSE("GPL");

// SPDX-License-Identifier: GPL-2.0-only
/*
 * Look-alikes of leaks that are freed in the end: late, elsewhere, or by a way that no event shows.
 */
#include <linux/cpumask.h>
#include <linux/delay.h>
#include <linux/device.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/percpu.h>
#include <linux/rcupdate.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/vmalloc.h>
#include <linux/workqueue.h>

#include "lab.h"

static unsigned int late_ms = 15000;
module_param(late_ms, uint, 0644);
MODULE_PARM_DESC(late_ms, "when freed_late and reuse free their object, in milliseconds");

static unsigned int between_scans_ms = 9000;
module_param(between_scans_ms, uint, 0644);
MODULE_PARM_DESC(between_scans_ms, "when freed_between_scans frees its objects, in milliseconds");

static unsigned int hidden_ms = 15000;
module_param(hidden_ms, uint, 0644);
MODULE_PARM_DESC(hidden_ms, "how long each object of hidden_siblings lives, in milliseconds; eight live at a time");

#define FEW 4
#define MANY 32
/* Soon, but not in the same batch of events. */
#define SOON_MS 20

/* -- freed at once, late, and in between */

static LAB_SITE void lab_freed_at_once(void)
{
	void *address = kzalloc(300, GFP_KERNEL);

	lab_book("freed_at_once", address, 300);
	lab_release_kfree(address);
}

static LAB_SITE void lab_freed_late(void)
{
	lab_free_later("freed_late", kzalloc(400, GFP_KERNEL), 400, late_ms, lab_release_kfree);
}

static LAB_SITE void lab_freed_between_scans(void)
{
	lab_free_later("freed_between_scans", kzalloc(440, GFP_KERNEL), 440, between_scans_ms, lab_release_kfree);
}

/*
 * One after the other, and each lives as long as the others. From hidden_ms on there are always siblings that were
 * freed when they were older; and some that kmemleak lists, if two scans fit into hidden_ms.
 */
#define HIDDEN 24
static unsigned int hidden_left;
static void hide_one(struct work_struct *work);
static DECLARE_DELAYED_WORK(hidden_work, hide_one);

static LAB_SITE void lab_hidden_siblings(void)
{
	lab_free_later("hidden_siblings", kzalloc(380, GFP_KERNEL), 380, hidden_ms, lab_release_kfree);
}

static void hide_one(struct work_struct *work)
{
	lab_hidden_siblings();
	lab_scrub();
	if (--hidden_left)
		schedule_delayed_work(&hidden_work, msecs_to_jiffies(hidden_ms / 8));
}

static void run_hidden_siblings(void)
{
	cancel_delayed_work_sync(&hidden_work);
	hidden_left = HIDDEN;
	schedule_delayed_work(&hidden_work, 0);
}

/* -- an address that is given out again */

#define REUSE_SIZE 2900
/* A cache that nobody else uses gives an address out again as soon as it is freed, on the same CPU. */
static struct kmem_cache *reuse_cache;
static void *reused[FEW];
static unsigned int reused_count;

/* Its mere presence keeps the cache from being merged with others. */
static void reuse_constructor(void *address)
{
	memset(address, 0, REUSE_SIZE);
}

static LAB_SITE void lab_release_reuse(void *address)
{
	lab_book_free(address);
	kmem_cache_free(reuse_cache, address);
}

/* The second owner of an address that another object had before. */
static LAB_SITE void *lab_reuse_again(void)
{
	void *address = kmem_cache_alloc(reuse_cache, GFP_KERNEL);

	lab_book("reuse_again", address, REUSE_SIZE);
	return address;
}

static void release_and_reuse(void *address)
{
	lab_release_reuse(address);
	if (reused_count == FEW)
		lab_release_reuse(reused[--reused_count]);
	reused[reused_count] = lab_reuse_again();
	if (reused[reused_count])
		reused_count++;
}

static LAB_SITE void lab_reuse(void)
{
	lab_free_later("reuse", kmem_cache_alloc(reuse_cache, GFP_KERNEL), REUSE_SIZE, late_ms, release_and_reuse);
}

#define REUSES 500

static LAB_SITE void lab_reuse_at_speed(void)
{
	void *address;
	unsigned int i;

	for (i = 0; i < REUSES; i++) {
		address = kmem_cache_alloc(reuse_cache, GFP_KERNEL);
		lab_book("reuse_at_speed", address, REUSE_SIZE);
		if (address)
			lab_release_reuse(address);
	}
}

/* -- freed elsewhere */

static LAB_SITE void lab_release_on_other_cpu(void *address)
{
	lab_release_kfree(address);
}

static LAB_SITE void lab_freed_on_other_cpu(void)
{
	void *address = kzalloc(260, GFP_KERNEL);
	int other = cpumask_any_but(cpu_online_mask, raw_smp_processor_id());

	if (other >= nr_cpu_ids)
		other = raw_smp_processor_id();
	lab_free_later_on(other, "freed_on_other_cpu", address, 260, SOON_MS, lab_release_on_other_cpu);
}

/* What the next two functions free: one object at a time, under lab_lock. */
static unsigned long given_inverted;

static LAB_SITE void lab_release_in_softirq(void)
{
	lab_release_kfree((void *)~given_inverted);
}

static LAB_SITE void lab_release_in_hardirq(void)
{
	lab_release_kfree((void *)~given_inverted);
}

static void release_by_timer(void *address)
{
	given_inverted = ~(unsigned long)address;
	lab_call(TIMER, lab_release_in_softirq);
}

static void release_by_interrupt(void *address)
{
	given_inverted = ~(unsigned long)address;
	lab_call(HARDIRQ, lab_release_in_hardirq);
}

static LAB_SITE void lab_freed_in_softirq(void)
{
	lab_free_later("freed_in_softirq", kzalloc(270, GFP_KERNEL), 270, SOON_MS, release_by_timer);
}

static LAB_SITE void lab_freed_in_hardirq(void)
{
	lab_free_later("freed_in_hardirq", kzalloc(280, GFP_KERNEL), 280, SOON_MS, release_by_interrupt);
}

/* -- freed by RCU */

struct lab_rcu {
	struct rcu_head head;
	char payload[56];
};

static LAB_SITE void lab_release_by_call_rcu(struct rcu_head *head)
{
	lab_release_kfree(container_of(head, struct lab_rcu, head));
}

static LAB_SITE void lab_freed_by_call_rcu(void)
{
	struct lab_rcu *object = kzalloc(sizeof(*object), GFP_KERNEL);

	lab_book("freed_by_call_rcu", object, sizeof(*object));
	if (object)
		call_rcu(&object->head, lab_release_by_call_rcu);
}

static void give_to_rcu(const char *name, struct lab_rcu *object)
{
	if (!object)
		return;
	lab_book(name, object, sizeof(*object));
	lab_book_free(object);
	kfree_rcu(object, head);
}

static LAB_SITE void lab_kfree_rcu_single(void)
{
	give_to_rcu("kfree_rcu_single", kzalloc(sizeof(struct lab_rcu), GFP_KERNEL));
}

#define THOUSAND 1000

static LAB_SITE void lab_kfree_rcu_thousand(void)
{
	unsigned int i;

	for (i = 0; i < THOUSAND; i++)
		give_to_rcu("kfree_rcu_thousand", kzalloc(sizeof(struct lab_rcu), GFP_KERNEL));
}

/* -- in bulk: neither the one nor the other shows in an event */

#define BULK_SIZE 136
static struct kmem_cache *bulk_cache;

static void bulk_constructor(void *address)
{
	memset(address, 0, BULK_SIZE);
}

/* Book all, let a while pass, and book them as freed: what comes next is to free them. */
static void live_in_bulk(const char *name, void **objects, size_t size)
{
	unsigned int i;

	for (i = 0; i < MANY; i++)
		lab_book(name, objects[i], size);
	msleep(SOON_MS);
	for (i = 0; i < MANY; i++)
		lab_book_free(objects[i]);
}

/* Allocate one by one; if that fails, free what there is. */
static LAB_SITE bool lab_fill(void **objects, struct kmem_cache *cache)
{
	unsigned int i;

	for (i = 0; i < MANY; i++) {
		objects[i] = cache ? kmem_cache_alloc(cache, GFP_KERNEL) : kzalloc(BULK_SIZE, GFP_KERNEL);
		if (!objects[i]) {
			kmem_cache_free_bulk(cache, i, objects);
			return false;
		}
	}
	return true;
}

static LAB_SITE void lab_bulk_alloc_single_free(void)
{
	void *objects[MANY];
	unsigned int i;

	if (!kmem_cache_alloc_bulk(bulk_cache, GFP_KERNEL, MANY, objects))
		return;
	live_in_bulk("bulk_alloc_single_free", objects, BULK_SIZE);
	for (i = 0; i < MANY; i++)
		kmem_cache_free(bulk_cache, objects[i]);
}

static LAB_SITE void lab_single_alloc_bulk_free(void)
{
	void *objects[MANY];

	if (!lab_fill(objects, bulk_cache))
		return;
	live_in_bulk("single_alloc_bulk_free", objects, BULK_SIZE);
	kmem_cache_free_bulk(bulk_cache, MANY, objects);
}

static LAB_SITE void lab_bulk_both(void)
{
	void *objects[MANY];

	if (!kmem_cache_alloc_bulk(bulk_cache, GFP_KERNEL, MANY, objects))
		return;
	live_in_bulk("bulk_both", objects, BULK_SIZE);
	kmem_cache_free_bulk(bulk_cache, MANY, objects);
}

static LAB_SITE void lab_kfree_bulk(void)
{
	void *objects[MANY];

	if (!lab_fill(objects, NULL))
		return;
	live_in_bulk("kfree_bulk", objects, BULK_SIZE);
	kfree_bulk(MANY, objects);
}

/* -- other allocators, and other ways to free */

/* kfree() takes objects of any cache: its event is another than that of the allocation. */
static LAB_SITE void lab_freed_by_kfree(void)
{
	lab_free_later("freed_by_kfree", kmem_cache_alloc(bulk_cache, GFP_KERNEL), BULK_SIZE, SOON_MS,
		       lab_release_kfree);
}

static LAB_SITE void lab_release_vfree(void *address)
{
	lab_book_free(address);
	vfree(address);
}

static LAB_SITE void lab_freed_vmalloc(void)
{
	lab_free_later("freed_vmalloc", vzalloc(6 * 1024), 6 * 1024, SOON_MS, lab_release_vfree);
}

static LAB_SITE void lab_release_kvfree(void *address)
{
	lab_book_free(address);
	kvfree(address);
}

static LAB_SITE void lab_freed_kvmalloc(void)
{
	lab_free_later("freed_kvmalloc", kvzalloc(KVMALLOC_LARGE, GFP_KERNEL), KVMALLOC_LARGE, SOON_MS,
		       lab_release_kvfree);
}

static LAB_SITE void lab_freed_large_kmalloc(void)
{
	size_t size = 20000;

	/* Two events for one object, as in leak_large_kmalloc_twice. */
	OPTIMIZER_HIDE_VAR(size);
	lab_free_later("freed_large_kmalloc", kzalloc(size, GFP_KERNEL), size, SOON_MS, lab_release_kfree);
}

static LAB_SITE void lab_release_percpu(void *address)
{
	lab_book_free(address);
	free_percpu((__force void __percpu *)address);
}

static LAB_SITE void lab_freed_percpu(void)
{
	lab_free_later("freed_percpu", (__force void *)__alloc_percpu(184, 8), 184, SOON_MS, lab_release_percpu);
}

/* Grows in place, then out of its bucket, and is freed by krealloc too. */
static LAB_SITE void lab_freed_krealloc(void)
{
	void *buffer = krealloc(kzalloc(100, GFP_KERNEL), 120, GFP_KERNEL), *grown;

	if (!buffer)
		return;
	lab_book("freed_krealloc", buffer, 100);
	lab_book_free(buffer);
	grown = krealloc(buffer, 910, GFP_KERNEL);
	if (!grown)
		return;
	lab_book("freed_krealloc", grown, 910);
	lab_book_free(grown);
	/* Nothing is left: the answer is no object. */
	(void)!krealloc(grown, 0, GFP_KERNEL);
}

/* -- the table */

const struct lab_case lab_innocents[] = {
	{ CASE(freed_at_once), .truth = INNOCENT, .size = 300, .calls = 1 },
	{ CASE(freed_late), .truth = INNOCENT, .size = 400, .calls = 1 },
	{ CASE(freed_between_scans), .truth = INNOCENT, .size = 440, .calls = FEW },
	/* Takes 3 × hidden_ms, and hidden_ms more until the last one is freed. */
	{ CASE_OF(hidden_siblings, lab_hidden_siblings, run_hidden_siblings), .truth = INNOCENT, .size = 380,
	  .calls = 1, .per_call = HIDDEN },
	{ CASE(reuse), .truth = INNOCENT, .size = REUSE_SIZE, .calls = 1 },
	/* When the object of the case before it is freed. */
	{ CASE_OF(reuse_again, lab_reuse_again, NULL), .truth = REFERENCED, .size = REUSE_SIZE, .calls = 1 },
	{ CASE(reuse_at_speed), .truth = INNOCENT, .size = REUSE_SIZE, .calls = 1, .per_call = REUSES },
	{ CASE(freed_on_other_cpu), .truth = INNOCENT, .size = 260, .calls = FEW },
	{ CASE(freed_in_softirq), .truth = INNOCENT, .size = 270, .calls = FEW },
	{ CASE(freed_in_hardirq), .truth = INNOCENT, .size = 280, .calls = FEW },
	{ CASE(freed_by_call_rcu), .truth = INNOCENT, .size = sizeof(struct lab_rcu), .calls = FEW },
	{ CASE(kfree_rcu_single), .truth = INNOCENT, .size = sizeof(struct lab_rcu), .calls = FEW },
	{ CASE(kfree_rcu_thousand), .truth = INNOCENT, .size = sizeof(struct lab_rcu), .calls = 1,
	  .per_call = THOUSAND },
	{ CASE(bulk_alloc_single_free), .truth = INNOCENT, .size = BULK_SIZE, .calls = 1, .per_call = MANY },
	{ CASE(single_alloc_bulk_free), .truth = INNOCENT, .size = BULK_SIZE, .calls = 1, .per_call = MANY },
	{ CASE(bulk_both), .truth = INNOCENT, .size = BULK_SIZE, .calls = 1, .per_call = MANY },
	{ CASE(kfree_bulk), .truth = INNOCENT, .size = BULK_SIZE, .calls = 1, .per_call = MANY },
	{ CASE(freed_by_kfree), .truth = INNOCENT, .size = BULK_SIZE, .calls = FEW },
	{ CASE(freed_vmalloc), .truth = INNOCENT, .size = 6 * 1024, .calls = FEW },
	{ CASE(freed_kvmalloc), .truth = INNOCENT, .size = KVMALLOC_LARGE, .calls = FEW },
	{ CASE(freed_large_kmalloc), .truth = INNOCENT, .size = 20000, .calls = FEW },
	{ CASE(freed_percpu), .truth = INNOCENT, .size = 184, .calls = FEW, .percpu = true },
	{ CASE(freed_krealloc), .truth = INNOCENT, .size = 910, .calls = FEW, .per_call = 2 },
	{},
};

int lab_innocents_init(void)
{
	reuse_cache = kmem_cache_create("kleaktrace_lab_reuse", REUSE_SIZE, 0, 0, reuse_constructor);
	bulk_cache = kmem_cache_create("kleaktrace_lab_bulk", BULK_SIZE, 0, 0, bulk_constructor);
	return reuse_cache && bulk_cache ? 0 : -ENOMEM;
}

void lab_innocents_stop(void)
{
	cancel_delayed_work_sync(&hidden_work);
}

void lab_innocents_exit(void)
{
	while (reused_count)
		lab_release_reuse(reused[--reused_count]);
	/* Callbacks are still to come, and their code must not have gone by then. */
	rcu_barrier();
	kmem_cache_destroy(reuse_cache);
	kmem_cache_destroy(bulk_cache);
}

// SPDX-License-Identifier: GPL-2.0-only
/*
 * Frees objects in a task, in softirqs that come upon it, and in the timer's interrupts that come upon both. All that it
 * allocates it frees: each round by another of the ways there are to.
 */
#include <linux/hrtimer.h>
#include <linux/interrupt.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>

#define PERIOD_NS 150000

/* So many at most; of addresses of vmalloc there is no such plenty. */
#define IN_HARDIRQS 16384
#define A_TICK 32
#define IN_SOFTIRQS 32768
#define AT_A_TIME 512
#define BYTES 96

static unsigned int rounds = 8;
module_param(rounds, uint, 0);

static struct kmem_cache *cache;
static struct hrtimer timer;
static struct tasklet_struct tasklet;
static void *in_hardirqs[IN_HARDIRQS], *in_softirqs[IN_SOFTIRQS];
static unsigned int hardirqs_done, softirqs_done;

enum way { BY_KMALLOC, BY_CACHE, BY_BULK, BY_VMALLOC, WAYS };
static enum way way;

static unsigned int of_all(unsigned int most)
{
	return way == BY_VMALLOC ? most / 32 : most;
}

static void *take_one(void)
{
	switch (way) {
	case BY_KMALLOC:
		return kmalloc(BYTES, GFP_KERNEL);
	case BY_VMALLOC:
		return vmalloc(BYTES);
	default:
		return kmem_cache_alloc(cache, GFP_KERNEL);
	}
}

static void free_one(void *object)
{
	switch (object ? way : BY_KMALLOC) {
	case BY_CACHE:
		kmem_cache_free(cache, object);
		break;
	case BY_BULK:
		kmem_cache_free_bulk(cache, 1, &object);
		break;
	case BY_VMALLOC:
		vfree(object);
		break;
	default:
		kfree(object);
	}
}

static void free_some(struct tasklet_struct *unused)
{
	for (unsigned int i = 0; i < of_all(AT_A_TIME) && softirqs_done < of_all(IN_SOFTIRQS); i++)
		free_one(in_softirqs[softirqs_done++]);
}

static enum hrtimer_restart free_by_timer(struct hrtimer *self)
{
	if (softirqs_done < of_all(IN_SOFTIRQS))
		tasklet_schedule(&tasklet);
	for (unsigned int i = 0; i < of_all(A_TICK) && hardirqs_done < of_all(IN_HARDIRQS); i++)
		free_one(in_hardirqs[hardirqs_done++]);
	if (hardirqs_done == of_all(IN_HARDIRQS) && softirqs_done == of_all(IN_SOFTIRQS))
		return HRTIMER_NORESTART;
	hrtimer_forward_now(self, ns_to_ktime(PERIOD_NS));
	return HRTIMER_RESTART;
}

static void one_round(void)
{
	for (unsigned int i = 0; i < of_all(IN_HARDIRQS); i++)
		in_hardirqs[i] = take_one();
	for (unsigned int i = 0; i < of_all(IN_SOFTIRQS); i++)
		in_softirqs[i] = take_one();
	hardirqs_done = softirqs_done = 0;
	hrtimer_start(&timer, ns_to_ktime(PERIOD_NS), HRTIMER_MODE_REL_HARD);
	while (READ_ONCE(hardirqs_done) < of_all(IN_HARDIRQS) || READ_ONCE(softirqs_done) < of_all(IN_SOFTIRQS)) {
		free_one(take_one());
		cond_resched();
	}
	hrtimer_cancel(&timer);
	tasklet_kill(&tasklet);
}

#ifndef HRTIMER_SETUP /* The kernel's own since v6.13: see Makefile. */
static void hrtimer_setup(struct hrtimer *timer, enum hrtimer_restart (*function)(struct hrtimer *), clockid_t clock,
			  enum hrtimer_mode mode)
{
	hrtimer_init(timer, clock, mode);
	timer->function = function;
}
#endif

/* With one, a cache is not merged with others: SLAB_NO_MERGE is younger than 6.1. */
static void constructor(void *object)
{
}

static int __init nested_init(void)
{
	cache = kmem_cache_create("kleaktrace_nested", BYTES, 0, 0, constructor);
	if (!cache)
		return -ENOMEM;
	tasklet_setup(&tasklet, free_some);
	hrtimer_setup(&timer, free_by_timer, CLOCK_MONOTONIC, HRTIMER_MODE_REL_HARD);
	for (unsigned int i = 0; i < rounds; i++) {
		way = i % WAYS;
		one_round();
	}
	kmem_cache_destroy(cache);
	return 0;
}

static void __exit nested_exit(void)
{
}

module_init(nested_init);
module_exit(nested_exit);
MODULE_DESCRIPTION("Frees in interrupts that come upon each other");
MODULE_LICENSE("GPL");

// SPDX-License-Identifier: GPL-2.0-only
/*
 * Allocations at a set rate, for as long as wanted: registries that only grow, from each context; and work that looks
 * like growth for a while. Something points to every one of these objects, so kmemleak never lists them.
 */
#include <linux/delay.h>
#include <linux/hrtimer.h>
#include <linux/kthread.h>
#include <linux/ktime.h>
#include <linux/list.h>
#include <linux/math64.h>
#include <linux/minmax.h>
#include <linux/moduleparam.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/string.h>
#include <linux/timer.h>
#include <linux/workqueue.h>

#include "lab.h"

static unsigned int sawtooth_top = 1000;
module_param(sawtooth_top, uint, 0644);
MODULE_PARM_DESC(sawtooth_top, "objects that the sawtooth grows to, before it is shrunk to a tenth");

#define TICK_MS 10
/* So that an interrupt that makes up for a pause stays short. */
#define MAX_STEPS_PER_TICK 200

struct lab_rate {
	const char *name, *function;
	size_t size;
	bool grows;
	enum lab_caller caller; /* WRITER: a thread named lab_NAME */
	void (*step)(struct lab_rate *rate);

	unsigned int per_second;     /* 0: stopped */
	u64 since_ns, steps;	     /* of this start */
	atomic64_t allocated, freed; /* of all time */
	struct task_struct *thread;
	struct delayed_work work;
	struct timer_list timer;
	struct hrtimer hrtimer;
};

/* -- registries */

static LIST_HEAD(registry);
static DEFINE_RAW_SPINLOCK(registry_lock);

static void enter(struct lab_rate *rate, struct list_head *item)
{
	unsigned long flags;

	if (!item)
		return;
	atomic64_inc(&rate->allocated);
	raw_spin_lock_irqsave(&registry_lock, flags);
	list_add(item, &registry);
	raw_spin_unlock_irqrestore(&registry_lock, flags);
}

static LAB_SITE void lab_rate_task(struct lab_rate *rate)
{
	enter(rate, kzalloc(rate->size, GFP_KERNEL));
}

static LAB_SITE void lab_rate_kworker(struct lab_rate *rate)
{
	enter(rate, kzalloc(rate->size, GFP_KERNEL));
}

static LAB_SITE void lab_rate_timer(struct lab_rate *rate)
{
	enter(rate, kzalloc(rate->size, GFP_ATOMIC));
}

static LAB_SITE void lab_rate_hardirq(struct lab_rate *rate)
{
	enter(rate, kzalloc(rate->size, GFP_ATOMIC));
}

/* -- work that only looks like growth */

#define CHURN_OBJECTS 256
#define WARM_UP_OBJECTS 4000

/* The first ones are soon replaced; then one goes for each that comes. */
static void *churned[CHURN_OBJECTS], *warm[WARM_UP_OBJECTS];

static void replace(struct lab_rate *rate, void **place, void *object)
{
	if (*place)
		atomic64_inc(&rate->freed);
	if (object)
		atomic64_inc(&rate->allocated);
	kfree(*place);
	*place = object;
}

static LAB_SITE void lab_churn(struct lab_rate *rate)
{
	static unsigned int at;

	replace(rate, &churned[at++ % CHURN_OBJECTS], kzalloc(rate->size, GFP_KERNEL));
}

/* A cache that fills up, and then stays as large as it is. */
static LAB_SITE void lab_warm_up(struct lab_rate *rate)
{
	static unsigned int at;

	replace(rate, &warm[at++ % WARM_UP_OBJECTS], kzalloc(rate->size, GFP_KERNEL));
}

static LIST_HEAD(sawtooth);
static unsigned int sawtooth_length;

static LAB_SITE void lab_sawtooth_shrink(struct lab_rate *rate, unsigned int target)
{
	struct list_head *item;

	for (; sawtooth_length > target; sawtooth_length--) {
		item = sawtooth.prev;
		list_del(item);
		kfree(item);
		atomic64_inc(&rate->freed);
	}
}

/* A cache that grows until somebody shrinks it, again and again. */
static LAB_SITE void lab_sawtooth(struct lab_rate *rate)
{
	struct list_head *item = kzalloc(rate->size, GFP_KERNEL);

	if (!item)
		return;
	atomic64_inc(&rate->allocated);
	list_add(item, &sawtooth);
	if (++sawtooth_length >= sawtooth_top)
		lab_sawtooth_shrink(rate, sawtooth_top / 10);
}

#define RATE(name_) .name = #name_, .function = "lab_" #name_, .step = lab_##name_

static struct lab_rate rates[] = {
	{ RATE(rate_task), .size = 200, .grows = true, .caller = WRITER },
	{ RATE(rate_kworker), .size = 310, .grows = true, .caller = KWORKER },
	{ RATE(rate_timer), .size = 610, .grows = true, .caller = TIMER },
	{ RATE(rate_hardirq), .size = 1210, .grows = true, .caller = HARDIRQ },
	{ RATE(churn), .size = 160, .caller = WRITER },
	{ RATE(warm_up), .size = 450, .caller = WRITER },
	{ RATE(sawtooth), .size = 130, .caller = WRITER },
};

/* -- what drives them. Ticks make up for what an earlier one was late, so that the rate is kept in the long run. */

static void tick(struct lab_rate *rate)
{
	u64 due = div_u64((ktime_get_ns() - rate->since_ns) * rate->per_second, NSEC_PER_SEC);

	for (due = min(due, rate->steps + MAX_STEPS_PER_TICK); rate->steps < due; rate->steps++)
		rate->step(rate);
}

static int rate_thread(void *data)
{
	while (!kthread_should_stop()) {
		tick(data);
		msleep(TICK_MS);
	}
	return 0;
}

static void rate_work(struct work_struct *work)
{
	struct lab_rate *rate = container_of(to_delayed_work(work), struct lab_rate, work);

	tick(rate);
	schedule_delayed_work(&rate->work, msecs_to_jiffies(TICK_MS));
}

static void rate_timer(struct timer_list *timer)
{
	struct lab_rate *rate = container_of(timer, struct lab_rate, timer);

	tick(rate);
	mod_timer(timer, jiffies + msecs_to_jiffies(TICK_MS));
}

/* On PREEMPT_RT nothing may be allocated in a hard interrupt: its locks sleep. There it is a soft one. */
#define HARD_MODE (IS_ENABLED(CONFIG_PREEMPT_RT) ? HRTIMER_MODE_REL_SOFT : HRTIMER_MODE_REL_HARD)

static enum hrtimer_restart rate_hrtimer(struct hrtimer *hrtimer)
{
	tick(container_of(hrtimer, struct lab_rate, hrtimer));
	hrtimer_forward_now(hrtimer, ms_to_ktime(TICK_MS));
	return HRTIMER_RESTART;
}

static void stop(struct lab_rate *rate)
{
	if (rate->thread)
		kthread_stop(rate->thread);
	rate->thread = NULL;
	cancel_delayed_work_sync(&rate->work);
	timer_delete_sync(&rate->timer);
	hrtimer_cancel(&rate->hrtimer);
	rate->per_second = 0;
}

static int start(struct lab_rate *rate, unsigned int per_second)
{
	struct task_struct *thread;

	rate->per_second = per_second;
	rate->since_ns = ktime_get_ns();
	rate->steps = 0;
	switch (rate->caller) {
	case WRITER:
		thread = kthread_run(rate_thread, rate, "lab_%s", rate->name);
		if (IS_ERR(thread))
			return PTR_ERR(thread);
		rate->thread = thread;
		break;
	case KWORKER:
		schedule_delayed_work(&rate->work, 0);
		break;
	case TIMER:
		mod_timer(&rate->timer, jiffies + 1);
		break;
	case HARDIRQ:
		hrtimer_start(&rate->hrtimer, ms_to_ktime(TICK_MS), HARD_MODE);
		break;
	case TASKLET:
		return -EINVAL;
	}
	return 0;
}

int lab_set_rate(const char *name, unsigned int per_second)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(rates); i++)
		if (!strcmp(rates[i].name, name)) {
			stop(&rates[i]);
			return per_second ? start(&rates[i], per_second) : 0;
		}
	return -ENOENT;
}

void lab_show_rates(struct seq_file *out)
{
	struct lab_rate *rate;

	for (rate = rates; rate < rates + ARRAY_SIZE(rates); rate++)
		seq_printf(out, "%s\t%s\t%s\t%zu\t%s\t%u\t%lld\t%lld\t%llu\t%llu\n", rate->name,
			   rate->grows ? "growing" : "steady", rate->function, rate->size,
			   lab_context_name(rate->caller), rate->per_second, atomic64_read(&rate->allocated),
			   atomic64_read(&rate->freed), ktime_get_ns(), rate->since_ns);
}

#ifndef HRTIMER_SETUP /* The kernel's own since v6.13: see Makefile. */
static void hrtimer_setup(struct hrtimer *timer, enum hrtimer_restart (*function)(struct hrtimer *), clockid_t clock,
			  enum hrtimer_mode mode)
{
	hrtimer_init(timer, clock, mode);
	timer->function = function;
}
#endif

void lab_rates_init(void)
{
	struct lab_rate *rate;

	for (rate = rates; rate < rates + ARRAY_SIZE(rates); rate++) {
		INIT_DELAYED_WORK(&rate->work, rate_work);
		timer_setup(&rate->timer, rate_timer, 0);
		hrtimer_setup(&rate->hrtimer, rate_hrtimer, CLOCK_MONOTONIC, HARD_MODE);
	}
}

static void free_list(struct list_head *list)
{
	struct list_head *item, *next;

	/* Of every kind of item the link is the first member. */
	list_for_each_safe(item, next, list)
		kfree(item);
}

static void free_array(void **objects, unsigned int count)
{
	while (count--)
		kfree(objects[count]);
}

void lab_rates_exit(void)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(rates); i++)
		stop(&rates[i]);
	free_list(&registry);
	free_list(&sawtooth);
	free_array(churned, CHURN_OBJECTS);
	free_array(warm, WARM_UP_OBJECTS);
}

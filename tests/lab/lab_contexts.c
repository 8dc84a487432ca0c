// SPDX-License-Identifier: GPL-2.0-only
/*
 * Calls from every context, and the leaks that are told apart by theirs.
 */
#include <linux/completion.h>
#include <linux/interrupt.h>
#include <linux/irq_work.h>
#include <linux/slab.h>
#include <linux/timer.h>
#include <linux/workqueue.h>

#include "lab.h"

static void (*callee)(void);
static DECLARE_COMPLETION(called);

/* Interrupt stacks are per-CPU memory, which kmemleak reads as well as the stacks of tasks. */
static noinline __noclone void call_and_scrub(void)
{
	callee();
	lab_scrub();
}

static void call_in_kworker(struct work_struct *work)
{
	call_and_scrub();
}

static void call_in_timer(struct timer_list *timer)
{
	call_and_scrub();
	complete(&called);
}

static void call_in_tasklet(struct tasklet_struct *tasklet)
{
	call_and_scrub();
	complete(&called);
}

static void call_in_hardirq(struct irq_work *work)
{
	call_and_scrub();
}

static DECLARE_WORK(kworker_work, call_in_kworker);
static struct timer_list timer;
static DECLARE_TASKLET(tasklet, call_in_tasklet);
static DEFINE_IRQ_WORK(hardirq_work, call_in_hardirq);

void lab_call(enum lab_caller caller, void (*function)(void))
{
	callee = function;
	switch (caller) {
	case WRITER:
		call_and_scrub();
		break;
	case KWORKER:
		schedule_work(&kworker_work);
		flush_work(&kworker_work);
		break;
	case TIMER:
		mod_timer(&timer, jiffies + 1);
		wait_for_completion(&called);
		break;
	case TASKLET:
		tasklet_schedule(&tasklet);
		wait_for_completion(&called);
		break;
	case HARDIRQ:
		irq_work_queue(&hardirq_work);
		irq_work_sync(&hardirq_work);
		break;
	}
}

const char *lab_context_name(enum lab_caller caller)
{
	static const char *const names[] = { "task", "task", "softirq", "softirq", "hardirq" };

	return names[caller];
}

const char *lab_caller_name(enum lab_caller caller)
{
	static const char *const names[] = { "writer", "kworker", "timer", "tasklet", "hardirq" };

	return names[caller];
}

void lab_contexts_init(void)
{
	timer_setup(&timer, call_in_timer, 0);
}

void lab_contexts_exit(void)
{
	/* None is pending, but the last one may still be on its way out. */
	timer_delete_sync(&timer);
	tasklet_kill(&tasklet);
}

/* -- the cases */

static LAB_SITE void lab_leak_kworker(void)
{
	lab_book("leak_kworker", kzalloc(170, GFP_KERNEL), 170);
}

static LAB_SITE void lab_leak_timer(void)
{
	lab_book("leak_timer", kzalloc(90, GFP_ATOMIC), 90);
}

static LAB_SITE void lab_leak_tasklet(void)
{
	lab_book("leak_tasklet", kzalloc(250, GFP_ATOMIC), 250);
}

static LAB_SITE void lab_leak_hardirq_129(void)
{
	lab_book("leak_hardirq_129", kzalloc(129, GFP_ATOMIC), 129);
}

const struct lab_case lab_context_leaks[] = {
	{ CASE(leak_kworker), .size = 170, .calls = LEAKS, .caller = KWORKER },
	{ CASE(leak_timer), .size = 90, .calls = LEAKS, .caller = TIMER },
	{ CASE(leak_tasklet), .size = 250, .calls = LEAKS, .caller = TASKLET },
	{ CASE(leak_hardirq_129), .size = 129, .calls = LEAKS, .caller = HARDIRQ },
	{},
};

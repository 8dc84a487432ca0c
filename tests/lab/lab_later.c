// SPDX-License-Identifier: GPL-2.0-only
/*
 * Objects that are freed after a while. Until then the only thing that knows where they are is an inverted
 * address: kmemleak takes them for leaks.
 */
#include <linux/mutex.h>
#include <linux/slab.h>
#include <linux/smp.h>
#include <linux/workqueue.h>

#include "lab.h"

#define MAX_LATER 256

struct lab_later {
	struct delayed_work work;
	unsigned long inverted; /* 0: unused */
	void (*release)(void *address);
};

static struct lab_later later[MAX_LATER];
static DEFINE_SPINLOCK(later_lock);

LAB_SITE void lab_release_kfree(void *address)
{
	lab_book_free(address);
	kfree(address);
}

static LAB_SITE void lab_release_when_due(struct work_struct *work)
{
	struct lab_later *item = container_of(to_delayed_work(work), struct lab_later, work);

	mutex_lock(&lab_lock);
	item->release((void *)~item->inverted);
	mutex_unlock(&lab_lock);
	WRITE_ONCE(item->inverted, 0);
}

static struct lab_later *take_slot(const void *address)
{
	struct lab_later *item, *found = NULL;

	spin_lock(&later_lock);
	for (item = later; item < later + MAX_LATER && !found; item++)
		if (!READ_ONCE(item->inverted)) {
			item->inverted = ~(unsigned long)address;
			found = item;
		}
	spin_unlock(&later_lock);
	return found;
}

void lab_free_later_on(int cpu, const char *name, const void *address, size_t size, unsigned int after_ms,
		       void (*release)(void *address))
{
	struct lab_later *item;

	lab_book_as(INNOCENT, name, address, size);
	if (!address)
		return;
	item = take_slot(address);
	if (!item) {
		pr_err("%s: too many objects wait, freed now\n", name);
		release((void *)address);
		return;
	}
	item->release = release;
	schedule_delayed_work_on(cpu, &item->work, msecs_to_jiffies(after_ms));
}

void lab_free_later(const char *name, const void *address, size_t size, unsigned int after_ms,
		    void (*release)(void *address))
{
	lab_free_later_on(raw_smp_processor_id(), name, address, size, after_ms, release);
}

void lab_later_init(void)
{
	unsigned int i;

	for (i = 0; i < MAX_LATER; i++)
		INIT_DELAYED_WORK(&later[i].work, lab_release_when_due);
}

void lab_later_exit(void)
{
	unsigned int i;

	for (i = 0; i < MAX_LATER; i++)
		/* Not yet due: free it now, by the function that would have. */
		if (cancel_delayed_work_sync(&later[i].work))
			lab_release_when_due(&later[i].work.work);
}

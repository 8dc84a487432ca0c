// SPDX-License-Identifier: GPL-2.0-only
/*
 * kleaktrace_lab: commits leaks and innocent look-alikes on command, and states the truth about each.
 *
 *   /sys/kernel/debug/kleaktrace_lab/     in each file but do: a row per line, separated by tabs
 *     do        write the name of a case to run it; or the name of a rate, a space, and steps per second to start it,
 *               0 to stop it
 *     cases     what it can do: name, truth, function, size, count, context, how many of the count the truth
 *               holds for (the others are innocent), caller
 *     page_cases  the same of pages, which only a tracer of pages knows of
 *     objects   what it did: name, truth, function, address, size, state, context, pid and comm of the current task,
 *               kind of memory (slab, pages, vmalloc, percpu), monotonic time of allocation and of free in ns, - while
 *               alive
 *     rates     what it does all the time: name, truth (growing: a registry that is never shrunk; steady), function,
 *               size, context, steps per second asked for, allocated, freed, monotonic time now and at the start in ns
 *
 * Sizes are what was asked for when the object got its address; enum lab_truth in lab.h says what the truths are.
 * An object counts as freed when it is given back, though RCU may keep the memory for some seconds more.
 *
 * kmemleak finds a pointer in any stack, static variable or live object. So the lab keeps the addresses it must
 * remember inverted, and overwrites what may hold one by chance: see lab_scrub() and run_once().
 *
 *   lab_leaks.c       leaks, by pattern and by allocator        lab_truth.c     what was done, and is true
 *   lab_contexts.c    leaks, by context                         lab_later.c     frees after a while
 *   lab_innocents.c   look-alikes that are freed                lab.h           what all these share
 *   lab_kept.c        objects that something points to, in the end beyond the life of the module
 *   lab_rates.c       allocations at a set rate             lab_pages.c     pages, split and freed in other pieces
 *
 * To add a case: write its function, LAB_SITE and named lab_CASE, and a row in the table at the end of its file.
 */
#include <linux/debugfs.h>
#include <linux/ktime.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include "lab.h"

DEFINE_MUTEX(lab_lock);
unsigned int lab_load_number;
static struct dentry *directory;

/*
 * A free object holds the address of the next free one, and keeps it while its new owner leaves it unwritten:
 * that would hide the next object from kmemleak. So the case gets the object behind one of ours, which is zeroed.
 */
static noinline __noclone void run_once(const struct lab_case *what)
{
	void *in_front = what->size && what->size <= PAGE_SIZE ? kzalloc(what->size, GFP_KERNEL) : NULL;

	lab_call(what->caller, what->run);
	lab_scrub();
	kfree(in_front);
}

static int run_case(const char *name)
{
	const struct lab_case *what = lab_find_case(name);
	unsigned int i;

	if (!what || !what->run)
		return -EINVAL;
	for (i = 0; i < what->calls; i++)
		run_once(what);
	return 0;
}

static ssize_t do_write(struct file *file, const char __user *user, size_t length, loff_t *offset)
{
	char line[64], *name, *number = line;
	unsigned int per_second;
	int error;

	if (length >= sizeof(line))
		return -EINVAL;
	if (copy_from_user(line, user, length))
		return -EFAULT;
	line[length] = '\0';
	number = strim(line);
	name = strsep(&number, " ");
	mutex_lock(&lab_lock);
	if (!number)
		error = run_case(name);
	else
		error = kstrtouint(number, 10, &per_second) ?: lab_set_rate(name, per_second);
	mutex_unlock(&lab_lock);
	return error ?: length;
}

static const struct file_operations do_operations = {
	.owner = THIS_MODULE,
	.write = do_write,
};

static int cases_show(struct seq_file *out, void *unused)
{
	lab_show_cases(out);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(cases);

static int page_cases_show(struct seq_file *out, void *unused)
{
	lab_show_page_cases(out);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(page_cases);

static int objects_show(struct seq_file *out, void *unused)
{
	lab_show_objects(out);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(objects);

static int rates_show(struct seq_file *out, void *unused)
{
	lab_show_rates(out);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(rates);

static void clean_up(void)
{
	lab_rates_exit();
	lab_innocents_stop();
	lab_later_exit();
	lab_innocents_exit();
	lab_kept_exit();
	lab_pages_exit();
	lab_leaks_exit();
	lab_contexts_exit();
}

static int __init lab_init(void)
{
	int error;

	lab_load_number = ktime_to_ms(ktime_get()); /* another one for each load */
	lab_contexts_init();
	lab_later_init();
	lab_rates_init();
	error = lab_innocents_init() ?: lab_kept_init() ?: lab_leaks_init();
	if (error) {
		clean_up();
		return error;
	}
	directory = debugfs_create_dir("kleaktrace_lab", NULL);
	debugfs_create_file("do", 0200, directory, NULL, &do_operations);
	debugfs_create_file("cases", 0400, directory, NULL, &cases_fops);
	debugfs_create_file("page_cases", 0400, directory, NULL, &page_cases_fops);
	debugfs_create_file("objects", 0400, directory, NULL, &objects_fops);
	debugfs_create_file("rates", 0400, directory, NULL, &rates_fops);
	return 0;
}

static void __exit lab_exit(void)
{
	debugfs_remove(directory);
	clean_up();
}

module_init(lab_init);
module_exit(lab_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Leaks and innocent look-alikes with known truth, for the tests of kleaktrace");

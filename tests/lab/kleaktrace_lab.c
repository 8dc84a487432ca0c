// SPDX-License-Identifier: GPL-2.0-only
/*
 * kleaktrace_lab: commits leaks and innocent look-alikes on command, and states the truth about each.
 *
 *   /sys/kernel/debug/kleaktrace_lab/
 *     cases     what it can do: name, truth, function, size, count, context; separated by tabs
 *     do        write the name of a case to run it (in the writer's context, unless the case says otherwise)
 *     objects   what it did: name, truth, function, address, size, state, context, pid; separated by tabs
 *
 * Truths: leak (never freed, nothing points there), innocent (freed, now or in late_ms), referenced (kept on a
 * list, freed when the module goes), unload (kept on a list, forgotten when the module goes: a leak from then on).
 *
 * kmemleak finds a pointer in any stack, static variable or live object. So the lab keeps the addresses it must
 * remember inverted, and overwrites what may hold one by chance: see scrub_stack() and run_case().
 *
 * To add a case: write its function, noinline and named lab_CASE, and a row in cases[].
 */
#include <linux/debugfs.h>
#include <linux/hardirq.h>
#include <linux/irq_work.h>
#include <linux/list.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/sched.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/string.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>
#include <linux/workqueue.h>

#define MAX_OBJECTS 256
#define MAX_LATE 16
/* Deeper than the allocator, kmemleak and a tracer's probe together reach below the function that allocates. */
#define SCRUB_FRAMES 12
#define SCRUB_WORDS 32

static unsigned int late_ms = 15000;
module_param(late_ms, uint, 0644);
MODULE_PARM_DESC(late_ms, "when freed_late and reuse free their object, in milliseconds");

enum truth { LEAK, INNOCENT, REFERENCED, UNLOAD };
static const char *const truth_names[] = { "leak", "innocent", "referenced", "unload" };

struct lab_case {
	const char *name;
	enum truth truth;
	const char *function;	/* whose fault it is; stands in the stack of the allocation */
	void (*run)(void);	/* NULL: is not run by name, but when loading or by another case */
	size_t size;		/* bytes asked for, of each object */
	unsigned int count;	/* objects per run */
	const char *context;	/* "task" or "hardirq" */
};

/* What happened to one object. */
struct lab_object {
	const struct lab_case *what;
	unsigned long inverted;	/* ~address: not a pointer to kmemleak */
	bool freed;
	bool hardirq;		/* in_hardirq() when it was allocated */
	pid_t pid;
};

static struct lab_object objects[MAX_OBJECTS];
static unsigned int object_count;
static DEFINE_RAW_SPINLOCK(object_lock);

static noinline __noclone void scrub_stack(unsigned int frames)
{
	volatile unsigned long words[SCRUB_WORDS];
	unsigned int i;

	for (i = 0; i < SCRUB_WORDS; i++)
		words[i] = 0;
	if (frames)
		scrub_stack(frames - 1);
	/* Used after the call, so that each frame is a frame of its own. */
	(void)words[0];
}

static const struct lab_case *find_case(const char *name);

/* Book what a case has allocated; afterwards no copy of the address is left but the inverted one. */
static noinline __noclone void book(const char *name, const void *address)
{
	unsigned long flags;

	if (!address) {
		pr_err("%s: no memory\n", name);
		return;
	}
	raw_spin_lock_irqsave(&object_lock, flags);
	if (object_count < MAX_OBJECTS)
		objects[object_count++] = (struct lab_object){
			.what = find_case(name),
			.inverted = ~(unsigned long)address,
			.hardirq = !!in_hardirq(),
			.pid = current->pid,
		};
	raw_spin_unlock_irqrestore(&object_lock, flags);
}

static void book_free(unsigned long inverted)
{
	unsigned long flags;
	unsigned int i;

	raw_spin_lock_irqsave(&object_lock, flags);
	for (i = 0; i < object_count; i++)
		if (objects[i].inverted == inverted)
			objects[i].freed = true;
	raw_spin_unlock_irqrestore(&object_lock, flags);
}

/* -- leaks */

static noinline __noclone void lab_leak_kzalloc_1520(void)
{
	book("leak_kzalloc_1520", kzalloc(1520, GFP_KERNEL));
}

static noinline __noclone void lab_leak_vmalloc_5k(void)
{
	book("leak_vmalloc_5k", vmalloc(5 * 1024));
}

/* Does what it should: whoever calls it has to free the note. */
static noinline __noclone char *lab_new_note(void)
{
	char *note = kmalloc(8, GFP_KERNEL);

	if (note)
		memset(note, 'n', 8);
	return note;
}

static noinline __noclone void lab_leak_caller_forgets_8(void)
{
	book("leak_caller_forgets_8", lab_new_note());
}

static noinline __noclone void lab_leak_hardirq_129(struct irq_work *work)
{
	book("leak_hardirq_129", kzalloc(129, GFP_ATOMIC));
	/* Interrupt stacks are per-CPU memory, which kmemleak reads as well. */
	scrub_stack(SCRUB_FRAMES);
}

static DEFINE_IRQ_WORK(hardirq_work, lab_leak_hardirq_129);

static void run_hardirq(void)
{
	irq_work_queue(&hardirq_work);
	irq_work_sync(&hardirq_work);
}

/* The name of this one is gone from kallsyms when loading is done. */
static noinline __init void lab_init_leak(void)
{
	book("init_leak", kzalloc(700, GFP_KERNEL));
}

/* -- innocents */

/* An object that is freed in late_ms; until then kmemleak takes it for a leak. */
struct lab_late {
	struct delayed_work work;
	unsigned long inverted;	/* 0: unused */
	bool reuse;
};

static struct lab_late late[MAX_LATE];
static DEFINE_MUTEX(case_lock);

#define REUSE_SIZE 2900
/* A cache that nobody else uses gives an address out again as soon as it is freed, on the same CPU. */
static struct kmem_cache *reuse_cache;
static void *reused[MAX_LATE];

/* Its mere presence keeps the cache from being merged with others. */
static void reuse_constructor(void *address)
{
	memset(address, 0, REUSE_SIZE);
}

static void free_object(void *address, bool reuse)
{
	if (reuse)
		kmem_cache_free(reuse_cache, address);
	else
		kfree(address);
	book_free(~(unsigned long)address);
}

static noinline __noclone void lab_freed_at_once(void)
{
	void *address = kzalloc(300, GFP_KERNEL);

	book("freed_at_once", address);
	free_object(address, false);
}

static void free_late_when_due(const char *name, void *address, bool reuse)
{
	unsigned int i;

	book(name, address);
	for (i = 0; address && i < MAX_LATE; i++) {
		if (late[i].inverted)
			continue;
		late[i].inverted = ~(unsigned long)address;
		late[i].reuse = reuse;
		schedule_delayed_work_on(raw_smp_processor_id(), &late[i].work, msecs_to_jiffies(late_ms));
		return;
	}
	if (address)
		free_object(address, reuse);
}

static noinline __noclone void lab_freed_late(void)
{
	free_late_when_due("freed_late", kzalloc(400, GFP_KERNEL), false);
}

static noinline __noclone void lab_reuse(void)
{
	free_late_when_due("reuse", kmem_cache_alloc(reuse_cache, GFP_KERNEL), true);
}

/* -- kept on a list */

struct lab_kept {
	struct list_head link;
	char payload[1000 - sizeof(struct list_head)];
};

static LIST_HEAD(kept);
static LIST_HEAD(forgotten);

static noinline __noclone void lab_referenced(void)
{
	struct lab_kept *item = kzalloc(sizeof(*item), GFP_KERNEL);

	book("referenced", item);
	if (item)
		list_add(&item->link, &kept);
}

static noinline __noclone void lab_unload_forgets(void)
{
	struct lab_kept *item = kzalloc(sizeof(*item), GFP_KERNEL);

	book("unload_forgets", item);
	if (item)
		list_add(&item->link, &forgotten);
}

/* The second owner of an address that another object had before. */
static noinline __noclone void *lab_reuse_again(void)
{
	void *address = kmem_cache_alloc(reuse_cache, GFP_KERNEL);

	book("reuse_again", address);
	return address;
}

static noinline __noclone void lab_free_late(struct work_struct *work)
{
	struct lab_late *item = container_of(to_delayed_work(work), struct lab_late, work);
	unsigned int slot = item - late;

	mutex_lock(&case_lock);
	free_object((void *)~item->inverted, item->reuse);
	if (item->reuse) {
		if (reused[slot])
			free_object(reused[slot], true);
		reused[slot] = lab_reuse_again();
	}
	item->inverted = 0;
	mutex_unlock(&case_lock);
}

/* -- the table */

/* A stale word somewhere may still hide any one object from kmemleak. So a leak loses several. */
#define LEAKS 4

static const struct lab_case cases[] = {
	{ "leak_kzalloc_1520", LEAK, "lab_leak_kzalloc_1520", lab_leak_kzalloc_1520, 1520, LEAKS, "task" },
	{ "leak_vmalloc_5k", LEAK, "lab_leak_vmalloc_5k", lab_leak_vmalloc_5k, 5 * 1024, LEAKS, "task" },
	{ "leak_caller_forgets_8", LEAK, "lab_leak_caller_forgets_8", lab_leak_caller_forgets_8, 8, LEAKS, "task" },
	{ "leak_hardirq_129", LEAK, "lab_leak_hardirq_129", run_hardirq, 129, LEAKS, "hardirq" },
	{ "init_leak", LEAK, "lab_init_leak", NULL, 700, LEAKS, "task" },
	{ "freed_at_once", INNOCENT, "lab_freed_at_once", lab_freed_at_once, 300, 1, "task" },
	{ "freed_late", INNOCENT, "lab_freed_late", lab_freed_late, 400, 1, "task" },
	{ "reuse", INNOCENT, "lab_reuse", lab_reuse, REUSE_SIZE, 1, "task" },
	{ "reuse_again", REFERENCED, "lab_reuse_again", NULL, REUSE_SIZE, 1, "task" },
	{ "referenced", REFERENCED, "lab_referenced", lab_referenced, sizeof(struct lab_kept), 1, "task" },
	{ "unload_forgets", UNLOAD, "lab_unload_forgets", lab_unload_forgets, sizeof(struct lab_kept), LEAKS, "task" },
};

static const struct lab_case *find_case(const char *name)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(cases); i++)
		if (!strcmp(cases[i].name, name))
			return &cases[i];
	return NULL;
}

/* -- debugfs */

/*
 * A free object holds the address of the next free one, and keeps it while its new owner leaves it unwritten:
 * that would hide the next object from kmemleak. So the case gets the object behind one of ours, which is zeroed.
 */
static noinline __noclone void run_case(const struct lab_case *what)
{
	void *in_front = kzalloc(what->size, GFP_KERNEL);

	what->run();
	scrub_stack(SCRUB_FRAMES);
	kfree(in_front);
}

static ssize_t do_write(struct file *file, const char __user *user, size_t length, loff_t *offset)
{
	const struct lab_case *what;
	char name[64];
	unsigned int i;

	if (length >= sizeof(name))
		return -EINVAL;
	if (copy_from_user(name, user, length))
		return -EFAULT;
	name[length] = '\0';
	what = find_case(strim(name));
	if (!what || !what->run)
		return -EINVAL;
	mutex_lock(&case_lock);
	for (i = 0; i < what->count; i++)
		run_case(what);
	mutex_unlock(&case_lock);
	return length;
}

static const struct file_operations do_operations = {
	.owner = THIS_MODULE,
	.write = do_write,
};

static int cases_show(struct seq_file *out, void *unused)
{
	const struct lab_case *row;

	for (row = cases; row < cases + ARRAY_SIZE(cases); row++)
		seq_printf(out, "%s\t%s\t%s\t%zu\t%u\t%s\n", row->name, truth_names[row->truth], row->function,
			   row->size, row->count, row->context);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(cases);

static int objects_show(struct seq_file *out, void *unused)
{
	unsigned int i, count;
	unsigned long flags;

	raw_spin_lock_irqsave(&object_lock, flags);
	count = object_count;
	raw_spin_unlock_irqrestore(&object_lock, flags);
	for (i = 0; i < count; i++)
		seq_printf(out, "%s\t%s\t%s\t0x%lx\t%zu\t%s\t%s\t%d\n", objects[i].what->name,
			   truth_names[objects[i].what->truth], objects[i].what->function, ~objects[i].inverted,
			   objects[i].what->size, objects[i].freed ? "freed" : "alive",
			   objects[i].hardirq ? "hardirq" : "task", objects[i].pid);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(objects);

static struct dentry *directory;

static int __init lab_init(void)
{
	unsigned int i;

	reuse_cache = kmem_cache_create("kleaktrace_lab_reuse", REUSE_SIZE, 0, 0, reuse_constructor);
	if (!reuse_cache)
		return -ENOMEM;
	for (i = 0; i < MAX_LATE; i++)
		INIT_DELAYED_WORK(&late[i].work, lab_free_late);
	directory = debugfs_create_dir("kleaktrace_lab", NULL);
	debugfs_create_file("do", 0200, directory, NULL, &do_operations);
	debugfs_create_file("cases", 0400, directory, NULL, &cases_fops);
	debugfs_create_file("objects", 0400, directory, NULL, &objects_fops);
	for (i = 0; i < LEAKS; i++)
		lab_init_leak();
	scrub_stack(SCRUB_FRAMES);
	return 0;
}

static void __exit lab_exit(void)
{
	struct lab_kept *item, *next;
	unsigned int i;

	debugfs_remove(directory);
	for (i = 0; i < MAX_LATE; i++) {
		/* Not yet due: free it now, by the function that would have. */
		if (cancel_delayed_work_sync(&late[i].work))
			lab_free_late(&late[i].work.work);
		if (reused[i])
			free_object(reused[i], true);
	}
	kmem_cache_destroy(reuse_cache);
	list_for_each_entry_safe(item, next, &kept, link)
		kfree(item);
	/* The list of what is forgotten goes with the module, its items stay. */
}

module_init(lab_init);
module_exit(lab_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Leaks and innocent look-alikes with known truth, for the tests of kleaktrace");

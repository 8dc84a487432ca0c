// SPDX-License-Identifier: GPL-2.0-only
/*
 * The lab's books: every case, every object, and what became of it.
 */
#include <linux/hardirq.h>
#include <linux/ktime.h>
#include <linux/mm.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/string.h>

#include "lab.h"

#define MAX_OBJECTS 8192
/* Deeper than the allocator, kmemleak and a tracer's probe together reach below the function that allocates. */
#define SCRUB_FRAMES 12
#define SCRUB_WORDS 32

static const char *const truth_names[] = {
	"leak", "innocent", "referenced", "unload", "unload_referenced", "unload_core",
};

static const struct lab_case *const tables[] = { lab_leaks, lab_context_leaks, lab_innocents, lab_kept, lab_pages };
#define LISTED (ARRAY_SIZE(tables) - 1)

/* What happened to one object. */
struct lab_object {
	const struct lab_case *what;
	unsigned long inverted; /* ~address: not a pointer to kmemleak */
	size_t size;
	u64 allocated_ns, freed_ns; /* freed_ns 0: alive */
	enum lab_truth truth;
	const char *context;
	pid_t pid;
	char comm[TASK_COMM_LEN];
};

static struct lab_object objects[MAX_OBJECTS];
static unsigned int object_count;
static DEFINE_RAW_SPINLOCK(object_lock);

static noinline __noclone void scrub_frames(unsigned int frames)
{
	volatile unsigned long words[SCRUB_WORDS];
	unsigned int i;

	for (i = 0; i < SCRUB_WORDS; i++)
		words[i] = 0;
	if (frames)
		scrub_frames(frames - 1);
	/* Used after the call, so that each frame is a frame of its own. */
	(void)words[0];
}

noinline __noclone void lab_scrub(void)
{
	scrub_frames(SCRUB_FRAMES);
}

const struct lab_case *lab_find_case(const char *name)
{
	const struct lab_case *row;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(tables); i++)
		for (row = tables[i]; row->name; row++)
			if (!strcmp(row->name, name))
				return row;
	return NULL;
}

static const char *current_context(void)
{
	return in_hardirq() ? "hardirq" : in_serving_softirq() ? "softirq" : "task";
}

noinline __noclone void lab_book_as(enum lab_truth truth, const char *name, const void *address, size_t size)
{
	struct lab_object *object;
	unsigned long flags;

	if (!address) {
		pr_err("%s: no memory\n", name);
		return;
	}
	raw_spin_lock_irqsave(&object_lock, flags);
	if (object_count == MAX_OBJECTS) {
		pr_err_once("the books are full\n");
	} else {
		object = &objects[object_count++];
		*object = (struct lab_object){
			.what = lab_find_case(name),
			.inverted = ~(unsigned long)address,
			.size = size,
			.allocated_ns = ktime_get_mono_fast_ns(),
			.truth = truth,
			.context = current_context(),
			.pid = current->pid,
		};
		memcpy(object->comm, current->comm, TASK_COMM_LEN);
	}
	raw_spin_unlock_irqrestore(&object_lock, flags);
}

noinline __noclone void lab_book(const char *name, const void *address, size_t size)
{
	lab_book_as(lab_find_case(name)->truth, name, address, size);
}

void lab_book_free(const void *address)
{
	unsigned long flags;
	unsigned int i;

	raw_spin_lock_irqsave(&object_lock, flags);
	/* From the end: an address may have had owners before. */
	for (i = object_count; i-- > 0;)
		if (objects[i].inverted == ~(unsigned long)address && !objects[i].freed_ns) {
			objects[i].freed_ns = ktime_get_mono_fast_ns();
			break;
		}
	raw_spin_unlock_irqrestore(&object_lock, flags);
}

static void show_table(struct seq_file *out, const struct lab_case *row)
{
	unsigned int count;

	for (; row->name; row++) {
		count = row->calls * (row->per_call ?: 1);
		seq_printf(out, "%s\t%s\t%s\t%zu\t%u\t%s\t%u\t%s\n", row->name, truth_names[row->truth], row->function,
			   row->size, count, lab_context_name(row->caller), count - row->innocent,
			   lab_caller_name(row->caller));
	}
}

void lab_show_cases(struct seq_file *out)
{
	unsigned int i;

	for (i = 0; i < LISTED; i++)
		show_table(out, tables[i]);
}

void lab_show_page_cases(struct seq_file *out)
{
	show_table(out, lab_pages);
}

static const char *kind_of(const struct lab_object *object)
{
	if (object->what->percpu)
		return "percpu";
	if (is_vmalloc_addr((void *)~object->inverted))
		return "vmalloc";
	return object->size > KMALLOC_MAX_CACHE_SIZE ? "pages" : "slab";
}

void lab_show_objects(struct seq_file *out)
{
	const struct lab_object *object;
	unsigned int count;
	unsigned long flags;

	raw_spin_lock_irqsave(&object_lock, flags);
	count = object_count;
	raw_spin_unlock_irqrestore(&object_lock, flags);
	for (object = objects; object < objects + count; object++) {
		u64 freed_ns = READ_ONCE(object->freed_ns);

		seq_printf(out, "%s\t%s\t%s\t0x%lx\t%zu\t%s\t%s\t%d\t", object->what->name, truth_names[object->truth],
			   object->what->function, ~object->inverted, object->size, freed_ns ? "freed" : "alive",
			   object->context, object->pid);
		seq_escape(out, object->comm, " \t\n\\");
		seq_printf(out, "\t%s\t%llu\t", kind_of(object), object->allocated_ns);
		if (freed_ns)
			seq_printf(out, "%llu\n", freed_ns);
		else
			seq_puts(out, "-\n");
	}
}

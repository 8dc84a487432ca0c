/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the parts of the lab share. lab_main.c says what the lab is, and how to add a case.
 */
#ifndef KLEAKTRACE_LAB_H
#define KLEAKTRACE_LAB_H

#include <linux/compiler.h>
#include <linux/init.h>
#include <linux/seq_file.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/types.h>

#undef pr_fmt
#define pr_fmt(fmt) "kleaktrace_lab: " fmt

/* A function whose name a test looks for in a stack. */
#define LAB_SITE noinline __noclone

enum lab_truth {
	LEAK,		   /* never freed, nothing points there */
	INNOCENT,	   /* freed, now or later */
	REFERENCED,	   /* something points there; freed when the module goes */
	UNLOAD,		   /* kept on a list, forgotten when the module goes: a leak from then on */
	UNLOAD_REFERENCED, /* the same, but the kernel still points there: kmemleak never lists it */
	UNLOAD_CORE,	   /* the same, and kernel code has allocated it on the module's behalf */
};

/* Who calls a case. The context of what it allocates follows from it. */
enum lab_caller { WRITER, KWORKER, TIMER, TASKLET, HARDIRQ };

struct lab_case {
	const char *name;
	const char *function; /* whose fault it is; stands in the stack of the allocation */
	void (*run)(void);    /* NULL: is not run by name, but when loading or by another case */
	size_t size;	      /* bytes asked for, of the largest object; 0: the kernel's business */
	enum lab_truth truth;
	enum lab_caller caller;
	unsigned int calls;    /* so many calls each time the case is run */
	unsigned int per_call; /* objects per call; 0: one */
	unsigned int innocent; /* of all these objects, so many are innocent whatever the truth of the case is */
	bool percpu;	       /* its addresses are per-CPU ones */
};

/* Most cases are named as their function is. */
#define CASE(name_) .name = #name_, .function = "lab_" #name_, .run = lab_##name_
#define CASE_OF(name_, function_, run_) .name = #name_, .function = #function_, .run = run_

/* A stale word somewhere may hide any one object from kmemleak. So a leak loses several. */
#define LEAKS 4

/*
 * More than kmalloc has, which kvmalloc() tries first. With pages of 64 KiB that would be 512 MiB: there kmalloc has it.
 */
#define KVMALLOC_LARGE ((KMALLOC_MAX_SIZE < SZ_8M ? KMALLOC_MAX_SIZE : SZ_4M) + PAGE_SIZE)

/* Each ends with a row without a name. */
extern const struct lab_case lab_leaks[], lab_context_leaks[], lab_innocents[], lab_kept[];
/* Likewise; listed by themselves. */
extern const struct lab_case lab_pages[];

/* -- lab_truth.c: what was done, and is true */

const struct lab_case *lab_find_case(const char *name);
/* Book an object; afterwards no copy of its address is left but an inverted one. Any context. */
void lab_book(const char *name, const void *address, size_t size);
/* The same, where one case has objects of different truth. */
void lab_book_as(enum lab_truth truth, const char *name, const void *address, size_t size);
/* To be called just before the object is freed: later, somebody else may own the address. */
void lab_book_free(const void *address);
/* Overwrite what may be left of an address on the stack, below the caller's frame. */
void lab_scrub(void);
void lab_show_cases(struct seq_file *out);
void lab_show_page_cases(struct seq_file *out);
void lab_show_objects(struct seq_file *out);

/* -- lab_later.c: objects that are freed after a while, and until then are hidden from kmemleak */

/* Book an innocent object, and have a kworker of this CPU, or of the given one, release it in a while. */
void lab_free_later(const char *name, const void *address, size_t size, unsigned int after_ms,
		    void (*release)(void *address));
void lab_free_later_on(int cpu, const char *name, const void *address, size_t size, unsigned int after_ms,
		       void (*release)(void *address));
/* For most of them. */
LAB_SITE void lab_release_kfree(void *address);
void lab_later_init(void);
/* Release now what was to be released later. */
void lab_later_exit(void);

/* -- lab_contexts.c */

/* Call a function from a context, and wait for it. One at a time: under lab_lock. */
void lab_call(enum lab_caller caller, void (*function)(void));
const char *lab_context_name(enum lab_caller caller);
const char *lab_caller_name(enum lab_caller caller);
void lab_contexts_init(void);
void lab_contexts_exit(void);

/* -- the cases' own set-up and clean-up */

extern struct mutex lab_lock;
/* Tells what outlives the module from what an earlier load has left behind. */
extern unsigned int lab_load_number;

int __init lab_leaks_init(void);
void lab_leaks_exit(void);
int lab_innocents_init(void);
/* No more objects from now on; those that wait to be freed are not yet. */
void lab_innocents_stop(void);
void lab_innocents_exit(void);
int lab_kept_init(void);
void lab_kept_exit(void);
void lab_pages_exit(void);

/* -- lab_rates.c: allocations at a set rate */

/* -ENOENT: no such rate. per_second 0: stop. */
int lab_set_rate(const char *name, unsigned int per_second);
void lab_show_rates(struct seq_file *out);
void lab_rates_init(void);
void lab_rates_exit(void);

#endif

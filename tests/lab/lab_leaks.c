// SPDX-License-Identifier: GPL-2.0-only
/*
 * Leaks, by the mistake that makes them and by the allocator that gave the memory.
 */
#include <linux/cpumask.h>
#include <linux/device.h>
#include <linux/kref.h>
#include <linux/kthread.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/percpu.h>
#include <linux/sched.h>
#include <linux/skbuff.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/vmalloc.h>

#include "lab.h"

/* -- the mistakes */

static LAB_SITE void lab_leak_kzalloc_1520(void)
{
	lab_book("leak_kzalloc_1520", kzalloc(1520, GFP_KERNEL), 1520);
}

/* Does what it should: whoever calls it has to free the note. */
static LAB_SITE char *lab_new_note(void)
{
	char *note = kmalloc(8, GFP_KERNEL);

	if (note)
		memset(note, 'n', 8);
	return note;
}

static LAB_SITE void lab_leak_caller_forgets_8(void)
{
	lab_book("leak_caller_forgets_8", lab_new_note(), 8);
}

/* The name of this one is gone from kallsyms when loading is done. */
static LAB_SITE __init void lab_init_leak(void)
{
	lab_book("init_leak", kzalloc(700, GFP_KERNEL), 700);
}

#define REQUESTS 50
#define REQUEST_SIZE 232

static LAB_SITE void lab_request_done(void *request)
{
	lab_book_free(request);
	kfree(request);
}

/* One request in ten fails, and is not freed then. The others are, when they are done. */
static LAB_SITE void lab_leak_error_path(void)
{
	static unsigned int count;
	void *request = kzalloc(REQUEST_SIZE, GFP_KERNEL);

	if (count++ % 10 == 7)
		lab_book("leak_error_path", request, REQUEST_SIZE);
	else
		lab_free_later("leak_error_path", request, REQUEST_SIZE, 8 + count % 10, lab_request_done);
}

/*
 * Conditional free: one in four stays for ever. What these have in common, and the others have not, is
 * their size, their CPU, the task that asked for them, or their GFP flags.
 */
#define CONDITIONAL 40

static LAB_SITE void lab_message_done(void *message)
{
	lab_book_free(message);
	kfree(message);
}

static void end_of_message(const char *name, void *message, size_t size, bool forgotten)
{
	if (forgotten)
		lab_book(name, message, size);
	else
		lab_free_later(name, message, size, 8, lab_message_done);
}

static LAB_SITE void lab_leak_conditional_size(void)
{
	static unsigned int count;
	bool large = count++ % 4 == 3;
	size_t size = large ? 520 : 40;

	end_of_message("leak_conditional_size", kzalloc(size, GFP_KERNEL), size, large);
}

static LAB_SITE void lab_leak_conditional_flags(void)
{
	static unsigned int count;
	bool atomic = count++ % 4 == 3;

	end_of_message("leak_conditional_flags", kzalloc(340, atomic ? GFP_ATOMIC : GFP_KERNEL), 340, atomic);
}

static LAB_SITE void lab_leak_conditional_cpu(bool last)
{
	end_of_message("leak_conditional_cpu", kzalloc(350, GFP_KERNEL), 350, last);
}

static void repeat_on(unsigned int cpu, unsigned int times, bool last)
{
	set_cpus_allowed_ptr(current, cpumask_of(cpu));
	while (times--) {
		lab_leak_conditional_cpu(last);
		lab_scrub();
	}
}

/* On the first CPU and on the last, which have to be two. */
static void run_conditional_cpu(void)
{
	static cpumask_t allowed;

	cpumask_copy(&allowed, current->cpus_ptr);
	repeat_on(cpumask_first(cpu_online_mask), CONDITIONAL * 3 / 4, false);
	repeat_on(cpumask_last(cpu_online_mask), CONDITIONAL / 4, true);
	set_cpus_allowed_ptr(current, &allowed);
}

static LAB_SITE void lab_leak_conditional_comm(bool bad)
{
	end_of_message("leak_conditional_comm", kzalloc(360, GFP_KERNEL), 360, bad);
}

static DECLARE_COMPLETION(thread_done);

static int conditional_thread(void *bad)
{
	unsigned int times = bad ? CONDITIONAL / 4 : CONDITIONAL * 3 / 4;

	while (times--) {
		lab_leak_conditional_comm(bad);
		lab_scrub();
	}
	kthread_complete_and_exit(&thread_done, 0);
}

static void run_conditional_comm(void)
{
	static int yes;

	if (!IS_ERR(kthread_run(conditional_thread, NULL, "lab_good")))
		wait_for_completion(&thread_done);
	if (!IS_ERR(kthread_run(conditional_thread, &yes, "lab_bad")))
		wait_for_completion(&thread_done);
}

struct lab_counted {
	struct kref references;
	char payload[236];
};

static LAB_SITE void lab_counted_release(struct kref *references)
{
	struct lab_counted *counted = container_of(references, struct lab_counted, references);

	lab_book_free(counted);
	kfree(counted);
}

/* Every other time one reference too many is taken, and so never dropped. */
static LAB_SITE void lab_leak_refcount(void)
{
	static unsigned int count;
	struct lab_counted *counted = kzalloc(sizeof(*counted), GFP_KERNEL);
	bool too_many = count++ % 2;

	if (!counted)
		return;
	lab_book_as(too_many ? LEAK : INNOCENT, "leak_refcount", counted, sizeof(*counted));
	kref_init(&counted->references);
	if (too_many)
		kref_get(&counted->references);
	kref_put(&counted->references, lab_counted_release);
}

/*
 * The same mistake with a device: it is unregistered, but its last reference never dropped. So the memory that it
 * manages is never freed either, nor are its name and its private part, which only the driver core knows the size of.
 * root_device_register() allocates the device, with a struct module * behind it.
 */
#define DEVICE_NAME "kleaktrace_lab"
#define ROOT_DEVICE_SIZE (sizeof(struct device) + sizeof(struct module *))
/* drivers/base/devres.c puts struct devres, of five words, in front of what is asked for. */
#define DEVRES_SIZE ALIGN(DEVRES_WORDS * sizeof(void *), ARCH_DMA_MINALIGN)
#define DEVM_SIZE 300

static LAB_SITE void lab_leak_devm_managed(struct device *device)
{
	char *memory = devm_kzalloc(device, DEVM_SIZE, GFP_KERNEL);

	lab_book("leak_devm", memory ? memory - DEVRES_SIZE : NULL, DEVRES_SIZE + DEVM_SIZE);
}

static LAB_SITE void lab_leak_device(void)
{
	struct device *device = root_device_register(DEVICE_NAME);

	if (IS_ERR(device))
		return;
	get_device(device);
	root_device_unregister(device);
	lab_leak_devm_managed(device);
	lab_book("leak_device_name", dev_name(device), sizeof(DEVICE_NAME));
	lab_book("leak_device_private", device->p, 0);
	lab_book("leak_device", device, ROOT_DEVICE_SIZE);
}

/* -- the allocators */

#define ITEM_SIZE 216
static struct kmem_cache *item_cache;
static bool items_leaked;

/* Its mere presence keeps the cache from being merged with others. */
static void item_constructor(void *item)
{
	memset(item, 0, ITEM_SIZE);
}

static LAB_SITE void lab_leak_slab_object(void)
{
	items_leaked = true;
	lab_book("leak_slab_object", kmem_cache_alloc(item_cache, GFP_KERNEL), ITEM_SIZE);
}

#define BULK 8

static LAB_SITE void lab_leak_bulk(void)
{
	void *items[BULK];
	unsigned int i;

	if (!kmem_cache_alloc_bulk(item_cache, GFP_KERNEL, BULK, items))
		return;
	items_leaked = true;
	for (i = 0; i < BULK; i++)
		lab_book("leak_bulk", items[i], ITEM_SIZE);
	memzero_explicit(items, sizeof(items));
}

static LAB_SITE void lab_leak_vmalloc_5k(void)
{
	lab_book("leak_vmalloc_5k", vmalloc(5 * 1024), 5 * 1024);
}

/*
 * What is freed by vfree() still points to its description, which the next area may get: kmemleak takes that for a
 * reference (6.12), and alone does not list it.
 */
static LAB_SITE void lab_leak_vmalloc_again(void)
{
	vfree(vmalloc(6 * 1024));
	lab_book("leak_vmalloc_again", vmalloc(6 * 1024), 6 * 1024);
}

static LAB_SITE void lab_leak_kvmalloc_small(void)
{
	lab_book("leak_kvmalloc_small", kvzalloc(620, GFP_KERNEL), 620);
}

/*
 * What is so large begins at a multiple of a huge page; the free range in front of it then ends at its address, which
 * kmemleak takes for a reference (6.12): alone, it does not list it.
 */
static LAB_SITE void lab_leak_kvmalloc_large(void)
{
	lab_book("leak_kvmalloc_large", kvzalloc(KVMALLOC_LARGE, GFP_KERNEL), KVMALLOC_LARGE);
}

struct lab_counters {
	u64 counters[22];
};

static LAB_SITE void lab_leak_percpu(void)
{
	struct lab_counters __percpu *counters = alloc_percpu(struct lab_counters);

	lab_book("leak_percpu", (__force void *)counters, sizeof(struct lab_counters));
}

/* A size that the compiler knows: one kmalloc event. */
static LAB_SITE void lab_leak_large_kmalloc(void)
{
	lab_book("leak_large_kmalloc", kzalloc(20000, GFP_KERNEL), 20000);
}

/* A size that it does not: two kmalloc events for the one object on some kernels (__do_kmalloc_node(), 6.12). */
static LAB_SITE void lab_leak_large_kmalloc_twice(void)
{
	size_t size = 24000;

	OPTIMIZER_HIDE_VAR(size);
	lab_book("leak_large_kmalloc_twice", kzalloc(size, GFP_KERNEL), size);
}

/* Grows out of its bucket: a new object, and the old one is freed. */
static LAB_SITE void lab_leak_krealloc(void)
{
	void *buffer = kzalloc(100, GFP_KERNEL);

	if (!buffer)
		return;
	lab_book_as(INNOCENT, "leak_krealloc", buffer, 100);
	lab_book_free(buffer);
	lab_book("leak_krealloc", krealloc(buffer, 900, GFP_KERNEL | __GFP_ZERO), 900);
}

/* Grows inside its bucket, from 520 to 900 of 1024 bytes: no event, and the events know the old size only. */
static LAB_SITE void lab_leak_krealloc_in_place(void)
{
	void *buffer = kzalloc(520, GFP_KERNEL);

	lab_book("leak_krealloc_in_place", krealloc(buffer, 900, GFP_KERNEL | __GFP_ZERO), 520);
}

/* Both copies are long enough to overwrite what the free object held: the address of the next one. */
static LAB_SITE void lab_leak_kstrdup(void)
{
	lab_book("leak_kstrdup", kstrdup("a name that somebody duplicates and forgets", GFP_KERNEL), 44);
}

static LAB_SITE void lab_leak_kmemdup(void)
{
	static const char template[200] = "template";

	lab_book("leak_kmemdup", kmemdup(template, sizeof(template), GFP_KERNEL), sizeof(template));
}

/* Charged to the writer's cgroup: of a slab cache that is not that of other kmallocs of its size. */
static LAB_SITE void lab_leak_accounted(void)
{
	lab_book("leak_accounted", kzalloc(72, GFP_KERNEL_ACCOUNT), 72);
}

/* Of the writer's arguments, which are there: of slab caches of its own (CONFIG_SLAB_BUCKETS). */
static LAB_SITE void lab_leak_memdup_user(void)
{
	void *copy = memdup_user((const void __user *)current->mm->arg_start, 60);

	if (!IS_ERR(copy))
		lab_book("leak_memdup_user", copy, 60);
}

/* Of slab caches that all of the network takes from; what it points to is lost with it. */
static LAB_SITE void lab_leak_skb(void)
{
	struct sk_buff *skb = alloc_skb(128, GFP_KERNEL);

	if (!skb)
		return;
	lab_book("leak_skb_data", skb->head, 0);
	lab_book("leak_skb", skb, 0);
}

/* -- the table */

const struct lab_case lab_leaks[] = {
	{ CASE(leak_kzalloc_1520), .size = 1520, .calls = LEAKS },
	{ CASE(leak_caller_forgets_8), .size = 8, .calls = LEAKS },
	{ CASE_OF(init_leak, lab_init_leak, NULL), .size = 700, .calls = LEAKS },
	{ CASE(leak_error_path), .size = REQUEST_SIZE, .calls = REQUESTS, .innocent = REQUESTS * 9 / 10 },
	{ CASE(leak_conditional_size), .size = 520, .calls = CONDITIONAL, .innocent = CONDITIONAL * 3 / 4 },
	{ CASE(leak_conditional_flags), .size = 340, .calls = CONDITIONAL, .innocent = CONDITIONAL * 3 / 4 },
	{ CASE_OF(leak_conditional_cpu, lab_leak_conditional_cpu, run_conditional_cpu), .size = 350, .calls = 1,
	  .per_call = CONDITIONAL, .innocent = CONDITIONAL * 3 / 4 },
	{ CASE_OF(leak_conditional_comm, lab_leak_conditional_comm, run_conditional_comm), .size = 360, .calls = 1,
	  .per_call = CONDITIONAL, .innocent = CONDITIONAL * 3 / 4 },
	{ CASE(leak_refcount), .size = sizeof(struct lab_counted), .calls = 2 * LEAKS, .innocent = LEAKS },
	{ CASE(leak_device), .size = ROOT_DEVICE_SIZE, .calls = LEAKS },
	/* These three by the case before them. */
	{ CASE_OF(leak_device_name, lab_leak_device, NULL), .size = sizeof(DEVICE_NAME), .calls = LEAKS },
	{ CASE_OF(leak_device_private, lab_leak_device, NULL), .calls = LEAKS },
	{ CASE_OF(leak_devm, lab_leak_devm_managed, NULL), .size = DEVRES_SIZE + DEVM_SIZE, .calls = LEAKS },
	{ CASE(leak_slab_object), .size = ITEM_SIZE, .calls = LEAKS },
	{ CASE(leak_bulk), .size = ITEM_SIZE, .calls = 1, .per_call = BULK },
	{ CASE(leak_vmalloc_5k), .size = 5 * 1024, .calls = LEAKS },
	{ CASE(leak_vmalloc_again), .size = 6 * 1024, .calls = LEAKS },
	{ CASE(leak_kvmalloc_small), .size = 620, .calls = LEAKS },
	{ CASE(leak_kvmalloc_large), .size = KVMALLOC_LARGE, .calls = LEAKS },
	{ CASE(leak_percpu), .size = sizeof(struct lab_counters), .calls = LEAKS, .percpu = true },
	{ CASE(leak_large_kmalloc), .size = 20000, .calls = LEAKS },
	{ CASE(leak_large_kmalloc_twice), .size = 24000, .calls = LEAKS },
	{ CASE(leak_krealloc), .size = 900, .calls = LEAKS, .per_call = 2, .innocent = LEAKS },
	{ CASE(leak_krealloc_in_place), .size = 520, .calls = LEAKS },
	{ CASE(leak_kstrdup), .size = 44, .calls = LEAKS },
	{ CASE(leak_kmemdup), .size = 200, .calls = LEAKS },
	{ CASE(leak_accounted), .size = 72, .calls = LEAKS },
	{ CASE(leak_memdup_user), .size = 60, .calls = LEAKS },
	{ CASE(leak_skb), .calls = LEAKS },
	{ CASE_OF(leak_skb_data, lab_leak_skb, NULL), .calls = LEAKS },
	{},
};

static bool init_leaks = true;
module_param(init_leaks, bool, 0444);
MODULE_PARM_DESC(init_leaks, "whether loading leaks, as the case init_leak says");

int __init lab_leaks_init(void)
{
	char name[32];
	unsigned int i;

	/* It stays when items have leaked: destroying it would be noticed. So the next load needs another name. */
	snprintf(name, sizeof(name), "kleaktrace_lab_item_%u", lab_load_number);
	item_cache = kmem_cache_create(name, ITEM_SIZE, 0, 0, item_constructor);
	if (!item_cache)
		return -ENOMEM;
	for (i = 0; init_leaks && i < LEAKS; i++)
		lab_init_leak();
	lab_scrub();
	return 0;
}

void lab_leaks_exit(void)
{
	if (!items_leaked)
		kmem_cache_destroy(item_cache);
}

// SPDX-License-Identifier: GPL-2.0-only
/*
 * Objects that something points to: kmemleak is blind. Some are freed when the module goes, others are not.
 */
#include <linux/debugfs.h>
#include <linux/device.h>
#include <linux/kobject.h>
#include <linux/list.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/workqueue.h>

#include "lab.h"

#define KEPT_SIZE 1000

struct lab_kept_item {
	struct list_head link;
	u32 value;
	char payload[KEPT_SIZE - sizeof(struct list_head) - sizeof(u32)];
};

/* -- freed when the module goes */

static LIST_HEAD(kept);

static LAB_SITE void lab_referenced(void)
{
	struct lab_kept_item *item = kzalloc(KEPT_SIZE, GFP_KERNEL);

	lab_book("referenced", item, KEPT_SIZE);
	if (item)
		list_add(&item->link, &kept);
}

#define LIST_SIZE 120
#define LIST_LENGTH 40

/* Grows by so much each time the case is run. */
static LAB_SITE void lab_list_grows(void)
{
	struct list_head *item = kzalloc(LIST_SIZE, GFP_KERNEL);

	lab_book("list_grows", item, LIST_SIZE);
	if (item)
		list_add(item, &kept);
}

static struct device *device;
/* See lab_leaks.c. */
#define DEVRES_SIZE ALIGN(5 * sizeof(void *), ARCH_DMA_MINALIGN)
#define DEVM_SIZE 310

/* Managed memory that is asked for again with every call, where once was meant: it piles up until the device goes. */
static LAB_SITE void lab_referenced_devm(void)
{
	char *memory = devm_kzalloc(device, DEVM_SIZE, GFP_KERNEL);

	lab_book("referenced_devm", memory ? memory - DEVRES_SIZE : NULL, DEVRES_SIZE + DEVM_SIZE);
}

struct lab_device_item {
	struct list_head link;
	struct device *device;
};
static LIST_HEAD(devices);

/* See below. */
static const char *next_name(char *name, size_t size);

/* A device that stays on its driver's list, and in sysfs: as who forgets to unregister one leaves it. */
static LAB_SITE void lab_device_on_list(void)
{
	struct lab_device_item *item = kzalloc(sizeof(*item), GFP_KERNEL);
	char name[40];

	if (!item)
		return;
	item->device = root_device_register(next_name(name, sizeof(name)));
	if (IS_ERR(item->device)) {
		kfree(item);
		return;
	}
	lab_book("device_on_list", item, sizeof(*item));
	list_add(&item->link, &devices);
}

static void unregister_devices(void)
{
	struct lab_device_item *item, *next;

	list_for_each_entry_safe(item, next, &devices, link) {
		root_device_unregister(item->device);
		kfree(item);
	}
}

/* -- forgotten when the module goes */

static LIST_HEAD(forgotten);

static LAB_SITE void lab_unload_forgets(void)
{
	struct lab_kept_item *item = kzalloc(KEPT_SIZE, GFP_KERNEL);

	lab_book("unload_forgets", item, KEPT_SIZE);
	if (item)
		list_add(&item->link, &forgotten);
}

/*
 * What the kernel keeps for the rest of its life. None of these needs the module's code or data ever again; they
 * need names of their own, as those of an earlier load are still there.
 */
static const char *next_name(char *name, size_t size)
{
	static unsigned int count;

	snprintf(name, size, "kleaktrace_lab_%u_%u", lab_load_number, count++);
	return name;
}

/* An object of ours, which a file in debugfs points to. */
static LAB_SITE void lab_unload_registered(void)
{
	struct lab_kept_item *item = kzalloc(KEPT_SIZE, GFP_KERNEL);
	char name[40];

	if (!item)
		return;
	lab_book("unload_registered", item, KEPT_SIZE);
	debugfs_create_u32(next_name(name, sizeof(name)), 0400, NULL, &item->value);
}

static LAB_SITE void lab_unload_kobject(void)
{
	char name[40];

	lab_book("unload_kobject", kobject_create_and_add(next_name(name, sizeof(name)), kernel_kobj),
		 sizeof(struct kobject));
}

static LAB_SITE void lab_unload_workqueue(void)
{
	lab_book("unload_workqueue", alloc_workqueue("kleaktrace_lab", 0, 0), 0);
}

/* -- the table */

const struct lab_case lab_kept[] = {
	{ CASE(referenced), .truth = REFERENCED, .size = KEPT_SIZE, .calls = 1 },
	{ CASE(list_grows), .truth = REFERENCED, .size = LIST_SIZE, .calls = LIST_LENGTH },
	{ CASE(referenced_devm), .truth = REFERENCED, .size = DEVRES_SIZE + DEVM_SIZE, .calls = LEAKS },
	{ CASE(device_on_list), .truth = REFERENCED, .size = sizeof(struct lab_device_item), .calls = 1 },
	{ CASE(unload_forgets), .truth = UNLOAD, .size = KEPT_SIZE, .calls = LEAKS },
	{ CASE(unload_registered), .truth = UNLOAD_REFERENCED, .size = KEPT_SIZE, .calls = LEAKS },
	{ CASE(unload_kobject), .truth = UNLOAD_CORE, .size = sizeof(struct kobject), .calls = LEAKS },
	{ CASE(unload_workqueue), .truth = UNLOAD_CORE, .calls = LEAKS },
	{},
};

int lab_kept_init(void)
{
	device = root_device_register("kleaktrace_lab_device");
	return PTR_ERR_OR_ZERO(device);
}

void lab_kept_exit(void)
{
	struct list_head *item, *next;

	if (!IS_ERR_OR_NULL(device))
		root_device_unregister(device);
	unregister_devices();
	/* Of every kind of item the link is the first member. */
	list_for_each_safe(item, next, &kept)
		kfree(item);
	/* The list of what is forgotten goes with the module, its items stay. */
}

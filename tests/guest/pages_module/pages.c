// SPDX-License-Identifier: GPL-2.0-only
/*
 * Pages that no allocator's event tells of: `order` and `count` say how many are taken when the module is loaded, `keep`
 * whether they are still there when it is gone.
 */
#include <linux/gfp.h>
#include <linux/list.h>
#include <linux/mm.h>
#include <linux/module.h>

static unsigned int order, count;
static bool keep = true;
module_param(order, uint, 0);
module_param(count, uint, 0);
module_param(keep, bool, 0);

static LIST_HEAD(taken);

static void take_one(void)
{
	struct page *page = alloc_pages(GFP_KERNEL, order);

	if (page)
		list_add(&page->lru, &taken);
}

static int __init pages_init(void)
{
	for (unsigned int i = 0; i < count; i++)
		take_one();
	return 0;
}

static void __exit pages_exit(void)
{
	struct page *page, *next;

	list_for_each_entry_safe(page, next, &taken, lru)
		if (!keep)
			__free_pages(page, order);
}

module_init(pages_init);
module_exit(pages_exit);
MODULE_DESCRIPTION("Takes pages, and keeps them or not");
MODULE_LICENSE("GPL");

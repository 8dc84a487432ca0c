// SPDX-License-Identifier: GPL-2.0-only
/*
 * Pages straight from the page allocator: leaks that kmemleak never sees, and frees that come in other pieces than the
 * allocation. Not among the cases: what traces no pages knows nothing of them. They are in the file page_cases, and run
 * as all others.
 */
#include <linux/dma-mapping.h>
#include <linux/gfp.h>
#include <linux/mm.h>
#include <linux/platform_device.h>
#include <linux/slab.h>
#include <linux/string.h>

#include "lab.h"

#ifdef PAGES_BULK_ARRAY /* Its name before v6.14: see Makefile. */
#define alloc_pages_bulk alloc_pages_bulk_array
#endif

#define ORDER 3
#define BLOCK (PAGE_SIZE << ORDER)
#define BLOCK_PAGES (1 << ORDER)

static void book_page(enum lab_truth truth, const char *name, struct page *page, size_t size)
{
	lab_book_as(truth, name, page ? page_address(page) : NULL, size);
}

static LAB_SITE void lab_leak_page(void)
{
	book_page(LEAK, "leak_page", alloc_page(GFP_KERNEL), PAGE_SIZE);
}

static LAB_SITE void lab_leak_pages(void)
{
	book_page(LEAK, "leak_pages", alloc_pages(GFP_KERNEL, ORDER), BLOCK);
}

static LAB_SITE void lab_leak_free_pages(void)
{
	lab_book("leak_free_pages", (void *)__get_free_pages(GFP_KERNEL | __GFP_ZERO, 1), 2 * PAGE_SIZE);
}

static struct platform_device *device;

/* Made when it is needed first: its nodes in sysfs are nothing that the other cases know of. */
static struct device *dma_device(void)
{
	if (!device)
		device = platform_device_register_simple("kleaktrace_lab_dma", PLATFORM_DEVID_NONE, NULL, 0);
	if (IS_ERR(device) || dma_coerce_mask_and_coherent(&device->dev, DMA_BIT_MASK(64)))
		return NULL;
	return &device->dev;
}

/* Three pages, of which the page allocator makes a block of four. */
#define DMA_SIZE (4 * PAGE_SIZE)

static LAB_SITE void lab_leak_dma_buffer(void)
{
	dma_addr_t bus_address;

	if (dma_device())
		lab_book("leak_dma_buffer", dma_alloc_coherent(dma_device(), 3 * PAGE_SIZE, &bus_address, GFP_KERNEL),
			 DMA_SIZE);
}

static LAB_SITE void lab_freed_dma_buffer(void)
{
	dma_addr_t bus_address;
	void *buffer = NULL;

	if (dma_device())
		buffer = dma_alloc_coherent(dma_device(), 3 * PAGE_SIZE, &bus_address, GFP_KERNEL);
	lab_book("freed_dma_buffer", buffer, DMA_SIZE);
	lab_book_free(buffer);
	if (buffer)
		dma_free_coherent(dma_device(), 3 * PAGE_SIZE, buffer, bus_address);
}

/* Split, and freed page by page: all of them, or all but one. */
static noinline void free_split(const char *name, struct page *page, unsigned int forgotten)
{
	unsigned int i;

	if (!page)
		return;
	split_page(page, ORDER);
	for (i = 0; i < BLOCK_PAGES; i++) {
		book_page(i == forgotten ? LEAK : INNOCENT, name, page + i, PAGE_SIZE);
		if (i == forgotten)
			continue;
		lab_book_free(page_address(page + i));
		__free_page(page + i);
	}
}

static LAB_SITE void lab_leak_split_page(void)
{
	free_split("leak_split_page", alloc_pages(GFP_KERNEL, ORDER), 5);
}

static LAB_SITE void lab_freed_split_pages(void)
{
	free_split("freed_split_pages", alloc_pages(GFP_KERNEL, ORDER), BLOCK_PAGES);
}

/* Five pages of a block of eight: three come back at once, five one by one. */
static LAB_SITE void lab_freed_exact_pages(void)
{
	void *pages = alloc_pages_exact(5 * PAGE_SIZE, GFP_KERNEL);

	lab_book("freed_exact_pages", pages, 5 * PAGE_SIZE);
	lab_book_free(pages);
	if (pages)
		free_pages_exact(pages, 5 * PAGE_SIZE);
}

#define BATCH 12

/* Compound pages and single ones, released all at once: the way of folio batches. */
static LAB_SITE void lab_freed_page_batch(void)
{
	struct page *pages[BATCH];
	unsigned int i, order, count = 0;

	for (i = 0; i < BATCH; i++) {
		order = i % 3 == 2 ? 2 : 0;
		pages[count] = alloc_pages(GFP_KERNEL | __GFP_COMP, order);
		if (!pages[count])
			continue;
		book_page(INNOCENT, "freed_page_batch", pages[count], PAGE_SIZE << order);
		lab_book_free(page_address(pages[count++]));
	}
	release_pages(pages, count);
}

/* From alloc_pages_bulk(), every fourth of which is forgotten. */
static LAB_SITE void lab_leak_bulk_pages(void)
{
	struct page *pages[BATCH] = {};
	unsigned int i;

	if (alloc_pages_bulk(GFP_KERNEL, BATCH, pages) != BATCH)
		pr_err("leak_bulk_pages: no memory\n");
	for (i = 0; i < BATCH; i++) {
		if (!pages[i])
			continue;
		book_page(i % 4 ? INNOCENT : LEAK, "leak_bulk_pages", pages[i], PAGE_SIZE);
		if (!(i % 4))
			continue;
		lab_book_free(page_address(pages[i]));
		__free_page(pages[i]);
	}
}

/* What has a kmalloc event, too, and is to be counted once. */
static LAB_SITE void lab_large_kmalloc_too(void)
{
	lab_book("large_kmalloc_too", kmalloc(40000, GFP_KERNEL), 40000);
}

const struct lab_case lab_pages[] = {
	{ CASE(leak_page), .size = PAGE_SIZE, .calls = LEAKS },
	{ CASE(leak_pages), .size = BLOCK, .calls = LEAKS },
	{ CASE(leak_free_pages), .size = 2 * PAGE_SIZE, .calls = LEAKS },
	{ CASE(leak_dma_buffer), .size = DMA_SIZE, .calls = LEAKS },
	{ CASE(freed_dma_buffer), .size = DMA_SIZE, .truth = INNOCENT, .calls = LEAKS },
	{ CASE(leak_split_page), .size = PAGE_SIZE, .calls = LEAKS, .per_call = BLOCK_PAGES,
	  .innocent = LEAKS * (BLOCK_PAGES - 1) },
	{ CASE(freed_split_pages), .size = PAGE_SIZE, .truth = INNOCENT, .calls = LEAKS, .per_call = BLOCK_PAGES },
	{ CASE(freed_exact_pages), .size = 5 * PAGE_SIZE, .truth = INNOCENT, .calls = LEAKS },
	{ CASE(freed_page_batch), .size = PAGE_SIZE << 2, .truth = INNOCENT, .calls = LEAKS, .per_call = BATCH },
	{ CASE(leak_bulk_pages), .size = PAGE_SIZE, .calls = LEAKS, .per_call = BATCH, .innocent = LEAKS * 9 },
	{ CASE(large_kmalloc_too), .size = 40000, .calls = LEAKS },
	{},
};

void lab_pages_exit(void)
{
	if (!IS_ERR_OR_NULL(device))
		platform_device_unregister(device);
}

// SPDX-License-Identifier: GPL-2.0-only
/* Reads where nothing is when it is loaded. */

#include <linux/module.h>

static int *volatile nowhere;

static int __init oops_driver_init(void)
{
	return *nowhere;
}

module_init(oops_driver_init);
MODULE_DESCRIPTION("Makes the kernel oops");
MODULE_LICENSE("GPL");

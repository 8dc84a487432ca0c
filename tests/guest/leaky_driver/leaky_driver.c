// SPDX-License-Identifier: GPL-2.0-only
/* A driver as somebody might write it: each write to /proc/leaky_driver begins a session, and none is ever ended. */

#include <linux/module.h>
#include <linux/proc_fs.h>
#include <linux/slab.h>

struct session {
	size_t size;
	char name[200];
};

static ssize_t begin_session(struct file *file, const char __user *buffer, size_t size, loff_t *at)
{
	struct session *session = kzalloc(sizeof(*session), GFP_KERNEL);

	if (!session)
		return -ENOMEM;
	session->size = size;
	return size;
}

static const struct proc_ops operations = {
	.proc_write = begin_session,
};

static int __init leaky_driver_init(void)
{
	return proc_create("leaky_driver", 0200, NULL, &operations) ? 0 : -ENOMEM;
}

static void __exit leaky_driver_exit(void)
{
	remove_proc_entry("leaky_driver", NULL);
}

module_init(leaky_driver_init);
module_exit(leaky_driver_exit);
MODULE_DESCRIPTION("Leaks on purpose");
MODULE_LICENSE("GPL");

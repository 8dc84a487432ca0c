// SPDX-License-Identifier: GPL-2.0-only
/* A device with an attribute, and a file in a directory of /proc; nothing else, and all is removed in the end. */
#include <linux/err.h>
#include <linux/module.h>
#include <linux/platform_device.h>
#include <linux/proc_fs.h>
#include <linux/seq_file.h>

static struct platform_device *device;

static ssize_t state_show(struct device *dev, struct device_attribute *attribute, char *buffer)
{
	return sysfs_emit(buffer, "idle\n");
}
static DEVICE_ATTR_RO(state);

static int state_of_proc(struct seq_file *out, void *unused)
{
	seq_puts(out, "idle\n");
	return 0;
}

static int __init entries_init(void)
{
	struct proc_dir_entry *directory = proc_mkdir("driver/kleaktrace_entries", NULL);
	int error;

	if (!directory || !proc_create_single("state", 0444, directory, state_of_proc))
		return -ENOMEM;
	device = platform_device_register_simple("kleaktrace_entries", PLATFORM_DEVID_NONE, NULL, 0);
	if (IS_ERR(device))
		return PTR_ERR(device);
	error = device_create_file(&device->dev, &dev_attr_state);
	if (error)
		platform_device_unregister(device);
	return error;
}

static void __exit entries_exit(void)
{
	platform_device_unregister(device);
	remove_proc_subtree("driver/kleaktrace_entries", NULL);
}

module_init(entries_init);
module_exit(entries_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Entries in /sys and /proc, for tests");

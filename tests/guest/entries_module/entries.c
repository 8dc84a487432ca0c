// SPDX-License-Identifier: GPL-2.0-only
/*
 * A device with an attribute, a file in a directory of /proc, and one in a directory of debugfs; nothing else, and all is
 * removed in the end, but for what the module forgets.
 */
#include <linux/debugfs.h>
#include <linux/err.h>
#include <linux/module.h>
#include <linux/platform_device.h>
#include <linux/proc_fs.h>
#include <linux/seq_file.h>

static bool forgets;
module_param(forgets, bool, 0444);
MODULE_PARM_DESC(forgets, "whether what is in debugfs stays behind");

static struct platform_device *device;
static struct dentry *debug;
static u32 reads;

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
	if (error) {
		platform_device_unregister(device);
		return error;
	}
	debug = debugfs_create_dir("kleaktrace_entries", NULL);
	if (!forgets)
		debugfs_create_u32("reads", 0444, debug, &reads);
	return 0;
}

static void __exit entries_exit(void)
{
	platform_device_unregister(device);
	remove_proc_subtree("driver/kleaktrace_entries", NULL);
	if (!forgets)
		debugfs_remove(debug);
}

module_init(entries_init);
module_exit(entries_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Entries in /sys, /proc and debugfs, for tests");

// SPDX-License-Identifier: GPL-2.0-only
/*
 * /dev/notepad: what is written to it goes to the kernel log when it is closed.
 *
 * An example that leaks: docs/first-leak.md walks from here to "clean".
 */
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#define NOTE_BYTES 1000

struct note {
	size_t length;
	char *text;
};

static int notepad_open(struct inode *inode, struct file *file)
{
	struct note *note = kzalloc(sizeof(*note), GFP_KERNEL);

	if (!note)
		return -ENOMEM;
	note->text = kzalloc(NOTE_BYTES, GFP_KERNEL);
	if (!note->text)
		return -ENOMEM;
	file->private_data = note;
	return 0;
}

static ssize_t notepad_write(struct file *file, const char __user *from, size_t count, loff_t *at)
{
	struct note *note = file->private_data;
	ssize_t written = simple_write_to_buffer(note->text, NOTE_BYTES, at, from, count);

	if (written > 0)
		note->length = *at;
	return written;
}

static int notepad_release(struct inode *inode, struct file *file)
{
	struct note *note = file->private_data;

	pr_info("notepad: %.*s\n", (int)note->length, note->text);
	kfree(note);
	return 0;
}

static const struct file_operations notepad_operations = {
	.owner = THIS_MODULE,
	.open = notepad_open,
	.write = notepad_write,
	.release = notepad_release,
};

static struct miscdevice notepad = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "notepad",
	.fops = &notepad_operations,
};

module_misc_device(notepad);

MODULE_DESCRIPTION("An example that leaks, for the manual of kleaktrace");
MODULE_LICENSE("GPL");

// SPDX-License-Identifier: GPL-2.0-only
/* Clones of one skb, more and more of them in a queue that nobody empties. A clone is a head alone: it has no data. */
#include <linux/module.h>
#include <linux/skbuff.h>
#include <linux/workqueue.h>

#define CLONES_AT_ONCE 20

static struct sk_buff_head queue;
static struct sk_buff *original;

static void clone_more(struct work_struct *work);
static DECLARE_DELAYED_WORK(cloning, clone_more);

static void clone_more(struct work_struct *work)
{
	struct sk_buff *clone;
	int i;

	for (i = 0; i < CLONES_AT_ONCE; i++) {
		clone = skb_clone(original, GFP_KERNEL);
		if (clone)
			skb_queue_tail(&queue, clone);
	}
	schedule_delayed_work(&cloning, HZ / 10);
}

static int __init clones_init(void)
{
	skb_queue_head_init(&queue);
	original = alloc_skb(64, GFP_KERNEL);
	if (!original)
		return -ENOMEM;
	schedule_delayed_work(&cloning, HZ / 10);
	return 0;
}

static void __exit clones_exit(void)
{
	cancel_delayed_work_sync(&cloning);
	skb_queue_purge(&queue);
	kfree_skb(original);
}

module_init(clones_init);
module_exit(clones_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("A queue of clones that grows, for tests");

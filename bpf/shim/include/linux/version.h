/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * bcc wants a version to compile against. Nothing of ours reads it: what differs between kernels is
 * detected and arrives as -D macros.
 */
#pragma once
#define KERNEL_VERSION(a, b, c) (((a) << 16) + ((b) << 8) + (c))
#define LINUX_VERSION_CODE KERNEL_VERSION(6, 1, 0)

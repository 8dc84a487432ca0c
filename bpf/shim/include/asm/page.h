/* SPDX-License-Identifier: GPL-2.0-only */
/* bcc sizes its perf maps with it; nothing of ours depends on it. */
#pragma once
#define PAGE_SIZE 4096

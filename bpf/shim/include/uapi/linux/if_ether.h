/* SPDX-License-Identifier: GPL-2.0-only */
/* Empty: bcc carries its own bpf.h, and we look at no packets. */
#pragma once

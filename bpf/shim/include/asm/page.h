/* SPDX-License-Identifier: GPL-2.0-only */
/* What bcc makes rings of: _MACROS in kleaktrace/edge/tracing/tracer.py go by it. */
#pragma once
#define PAGE_SIZE 4096

/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the kernel side hands to user space. The Python side of these layouts is kleaktrace/core/events/records.py
 * (allocations and frees) and kleaktrace/edge/tracing/abi.py (stacks, caches, modules, programs).
 *
 * The event ring is read as an array of 64-byte units: a ring header of 8 bytes and 56 of payload. A free is one
 * unit, an allocation two. The second unit of an allocation starts with SECOND_UNIT, which no ring header can
 * equal (a header's length has its two top bits clear once the record is committed), so that a batch can be
 * taken apart without walking it record by record.
 */
#include <uapi/linux/ptrace.h>

#define SECOND_UNIT 0xffffffffffffffffULL
#define COMM_LENGTH 16

enum kind { KMALLOC, CACHE, VMALLOC, PERCPU, PAGES, KINDS };
enum context { TASK, SOFTIRQ, HARDIRQ, NMI, UNKNOWN_CONTEXT = 255 };

struct free_record {
	u64 object; /* the complement of its address (of pages: see pages.c): hide() in kleaktrace/core/events/records.py */
	u64 time_ns;
	u64 call_site;
	u64 stack;
	u64 cgroup;
	u32 tid;
	u32 tgid;
	u32 jiffies;
	u16 cpu;
	u8 kind;
	u8 context;
};

struct allocation_record {
	struct free_record first; /* the same fields, of the allocation */
	u64 second_unit;
	char comm[COMM_LENGTH];
	u64 bytes_req;
	u64 bytes_alloc;
	u64 cache;
	u32 gfp_flags;
	u32 reserved;
	u64 reserved_too;
};

_Static_assert(sizeof(struct free_record) == 56, "one unit");
_Static_assert(sizeof(struct allocation_record) == 120, "two units");

/* The name ring: things said once. Order in it is the order in which they happened. */
enum name_type { STACK_NAME = 1, CACHE_NAME, MODULE_LOAD, MODULE_FREE, MODULE_PAGE, STACK_SAMPLE, PROGRAM_NAME };

#define STACK_DEPTH 127 /* kernel.perf_event_max_stack; what lies deeper is cut */
#define CACHE_NAME_LENGTH 64
#define MODULE_NAME_LENGTH 64
#define MODULE_PAGE_LENGTH 4096

struct stack_name {
	u32 type;
	u32 depth;
	u64 key;
	u64 time_ns;
	u64 frames[STACK_DEPTH + 1]; /* one spare, so that a masked index stays inside */
};

#define WINDOW_WORDS 512

/* A stack with the memory it lies in, to learn from: see kleaktrace/core/unwind/stack_paths.py. */
struct stack_sample {
	struct stack_name name;
	u64 root;
	u64 modules;	/* the state of that name (bpf/maps.h) */
	u64 recognised; /* the key that a known path gave this stack; 0: none did */
	u32 event;
	u32 words_read; /* the others are left over from another time */
	u32 rest;	/* words there are up to the end of the stack */
	u16 in_module;	/* not 0: a frame lies in the module that is filtered for */
	u16 cut;	/* not 0: what lies further out does not matter, see pages.c */
	u64 base;	/* address of the first word */
	/* From the program's context upwards; complements, as they may be addresses of objects. */
	u64 words[WINDOW_WORDS];
};

struct cache_name {
	u32 type;
	u32 object_size;
	u64 key;
	u32 size;
	u32 gfp_flags; /* of the pages it takes; 0 where BTF does not show them */
	char name[CACHE_NAME_LENGTH];
};

struct module_name {
	u32 type;
	u32 symbols;
	u64 key;      /* struct module */
	u64 identity; /* the same: it was loaded at this place before, with the same symbols */
	u64 time_ns;
	u64 text, text_size;
	u64 init_text, init_text_size;
	u64 symbol_table; /* `symbols` of Elf64_Sym */
	u64 string_table, string_table_end;
	char name[MODULE_NAME_LENGTH];
};

#define ARGUMENTS_LENGTH 256

/* What a process runs from now on. */
struct program_name {
	u32 type;
	u32 tgid; /* as in events */
	u64 time_ns;
	u32 length; /* of the arguments, a NUL behind each */
	char arguments[ARGUMENTS_LENGTH];
	u32 reserved;
};

/* One page of a module's memory, as it was when the module was loaded. */
struct module_page {
	u32 type;
	s32 error; /* of reading it */
	u64 key;
	u64 address;
	char data[MODULE_PAGE_LENGTH];
};

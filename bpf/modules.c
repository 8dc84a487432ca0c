// SPDX-License-Identifier: GPL-2.0-only
/*
 * Modules coming and going. At module_load (kernel/module/main.c) the symbols are relocated and complete, __init
 * functions included, and no line of the module has run yet: copy its symbol table now, for once init is done or the
 * module is gone nobody can name its addresses any more.
 *
 * What an address outside the kernel's own text means depends on the modules that are loaded. Each has an identity: a
 * hash of its name, its places and all its symbols. The sum of the identities of those loaded is the state MODULES. So
 * when a module comes again to the same place, what is known of stacks through it is right again, and when another one
 * comes, or another build of it with a function elsewhere, nothing is. The place of its __init text is given back without
 * a word when that has run, and the next module's may lie there: what an address in it means depends on whose init ran
 * there last. That is part of the state, too, page by page.
 */

#define MOST_MODULES 4096

/* By struct module, hidden: what was added to the state. */
BPF_HASH(loaded_modules, u64, u64, MOST_MODULES);
/* By page of __init text, hidden: the last one's identity. */
BPF_HASH(init_pages, u64, u64, MOST_MODULES);
/* Identities of those whose symbols user space keeps. */
BPF_HASH(told_modules, u64, u64, TOLD_MODULES);

/* Pieces of modules' tables, and a number for each. */
#define CHUNK_WORDS 63 /* 21 of Elf64_Sym */
struct chunk {
	u64 words[CHUNK_WORDS];
};
BPF_TABLE("lru_hash", struct chunk, u64, chunks, 8192);

INLINE void add_to_modules(u64 change)
{
	u32 what = MODULES;
	u64 *value = state.lookup(&what);

	if (value)
		__sync_fetch_and_add(value, change);
}

/* A state that never was. */
INLINE u64 unheard_of(u64 module)
{
	return mix(mix(bpf_ktime_get_ns()) ^ module) | 1;
}

#ifdef MODULE_LOAD_MOD
#define ELF_SYMBOL_LENGTH 24
#define TABLE_PAGES 512	 /* 2 MiB */
#define TABLE_CHUNKS 192 /* of one table: 94 KiB. A module with more of them, or without one, is new each time */
#define INIT_PAGES 16

/* Whole pages, so that the verifier has one constant length to check and not a path for each. */
INLINE void send_pages(u64 module, u64 start, u64 end)
{
	u64 page = start & ~(MODULE_PAGE_LENGTH - 1ULL);

	for (u32 i = 0; i < TABLE_PAGES; i++, page += MODULE_PAGE_LENGTH) {
		if (page >= end)
			return;

		struct module_page *record = names.ringbuf_reserve(sizeof(*record));

		if (!record)
			return; /* user space sees that it has not all */
		record->type = MODULE_PAGE;
		record->key = module;
		record->address = page;
		record->error = bpf_probe_read_kernel(record->data, MODULE_PAGE_LENGTH, (void *)page);
		names.ringbuf_submit(record, BPF_RB_NO_WAKEUP); /* one of the next names will wake */
	}
}

/*
 * Add a table to the hash, chunk by chunk; the last one ends where the table does. Chunks go by a number that each got
 * when it was seen first, which is exact, and little work for the verifier.
 */
INLINE void hash_table(struct scratch *s, u64 start, u64 length, u64 symbols_near)
{
	struct chunk *chunk = (struct chunk *)s->sample.words;

	s->unreadable |= length < sizeof(*chunk) || length > TABLE_CHUNKS * sizeof(*chunk);
	s->hash = mix(s->hash ^ length);
	/* In memory, where the verifier does not remember what each turn says of it. */
	s->length = length - sizeof(*chunk);
	for (u32 i = 0; i < TABLE_CHUNKS; i++) {
		u64 last = LOAD(s->length), at = i * sizeof(*chunk);

		if (at > last)
			at = last;
		s->unreadable |= bpf_probe_read_kernel(chunk, sizeof(*chunk), (void *)(start + at));
		/* No code is 2 GiB away. Values there are others each time: per-CPU symbols, and what is only in the file. */
		for (u32 word = 1; symbols_near && word < CHUNK_WORDS; word += 3) {
			u64 far = (chunk->words[word] - symbols_near + (1ULL << 31)) >> 32;

			asm volatile("" : "+r"(far)); /* or the compiler makes a branch of it */
			chunk->words[word] &= (u64)((s64)(far - 1) >> 63);
		}

		u64 *number = chunks.lookup(chunk);

		if (number) {
			s->number = *number;
		} else {
			s->number = (u64)bpf_get_prandom_u32() << 32 | bpf_get_prandom_u32();
			chunks.update(chunk, &s->number);
		}
		s->hash = mix(LOAD(s->hash) ^ LOAD(s->number));
	}
}

INLINE u64 identity_of(struct scratch *s, struct module_name *told)
{
	u64 *name = (u64 *)told->name;

	s->hash = told->key;
	s->unreadable = told->init_text_size > INIT_PAGES * MODULE_PAGE_LENGTH;
	for (u32 i = 0; i < MODULE_NAME_LENGTH / sizeof(u64); i++)
		s->hash = mix(s->hash ^ name[i]);
	s->hash = mix(mix(s->hash ^ told->text) ^ told->text_size);
	s->hash = mix(mix(s->hash ^ told->init_text) ^ told->init_text_size);
	hash_table(s, told->symbol_table, (u64)told->symbols * ELF_SYMBOL_LENGTH, told->text | 1);
	hash_table(s, told->string_table, told->string_table_end - told->string_table, 0);
	return LOAD(s->unreadable) ? unheard_of(told->key) : LOAD(s->hash) | 1;
}

/* What becomes of the state as a module's init text takes the place of others'. */
INLINE u64 take_init_pages(struct module_name *told)
{
	u64 change = 0;

	for (u32 i = 0; i < INIT_PAGES; i++) {
		u64 page = told->init_text + i * MODULE_PAGE_LENGTH;

		if (page >= told->init_text + told->init_text_size)
			break;

		u64 place = hidden(page), *before = init_pages.lookup(&place);

		if (before)
			change -= mix(*before ^ place);
		change += mix(told->identity ^ place);
		if (init_pages.update(&place, &told->identity))
			change += unheard_of(told->key);
	}
	return change;
}

int on_module_load(struct bpf_raw_tracepoint_args *ctx)
{
	u64 module = ctx->args[MODULE_LOAD_MOD], place = hidden(module);
	u64 kallsyms = word_at(module + MODULE_KALLSYMS);
	u32 program = ON_MODULE;
	struct scratch *s = scratch.lookup(&program);

	bump(EPOCH);
	if (!s)
		return 0;

	struct module_name *told = &s->module;
	u64 *name = (u64 *)told->name;

	told->type = MODULE_LOAD;
	told->key = module;
	told->time_ns = bpf_ktime_get_ns();
	told->symbols = half_at(kallsyms + KALLSYMS_NUM_SYMTAB);
	told->text = word_at(module + MODULE_TEXT_BASE);
	told->text_size = half_at(module + MODULE_TEXT_SIZE);
	told->init_text = word_at(module + MODULE_INIT_TEXT_BASE);
	told->init_text_size = half_at(module + MODULE_INIT_TEXT_SIZE);
	told->symbol_table = word_at(kallsyms + KALLSYMS_SYMTAB);
	told->string_table = word_at(kallsyms + KALLSYMS_STRTAB);
	/* The length of the string table is not kept; it lies in the init data, which has an end. */
	told->string_table_end = word_at(module + MODULE_INIT_DATA_BASE) + half_at(module + MODULE_INIT_DATA_SIZE);
	for (u32 i = 0; i < MODULE_NAME_LENGTH / sizeof(u64); i++)
		name[i] = 0;
	bpf_probe_read_kernel_str(told->name, sizeof(told->name), (void *)module + MODULE_NAME_OFFSET);
	told->identity = identity_of(s, told);
	/* One that could not be entered is unknown when it goes, and then nothing is as it ever was. */
	loaded_modules.update(&place, &told->identity);
	add_to_modules(told->identity + take_init_pages(told));

#ifdef FILTER_MODULE
	if (FILTER_MODULE((u64 *)told->name)) {
		u32 core = CORE_TEXT, init = INIT_TEXT;
		struct text_range core_text = { told->text, told->text_size };
		struct text_range init_text = { told->init_text, told->init_text_size };

		module_text.update(&core, &core_text);
		module_text.update(&init, &init_text);
	}
#endif
	if (names.ringbuf_output(told, sizeof(*told), wake_if_filled(NAME_RING))) {
		count(LOST_NAMES);
		return 0;
	}
	if (told_modules.lookup(&told->identity))
		return 0;
	send_pages(module, told->symbol_table, told->symbol_table + (u64)told->symbols * ELF_SYMBOL_LENGTH);
	send_pages(module, told->string_table, told->string_table_end);
	return 0;
}
#endif

#ifdef MODULE_FREE_MOD
int on_module_free(struct bpf_raw_tracepoint_args *ctx)
{
	u32 program = ON_MODULE;
	struct scratch *s = scratch.lookup(&program);
	u64 module = ctx->args[MODULE_FREE_MOD], place = hidden(module);
	u64 *identity = loaded_modules.lookup(&place);

	bump(EPOCH);
	add_to_modules(identity ? -*identity : unheard_of(module));
	loaded_modules.delete(&place);
	if (!s)
		return 0;

	struct module_name *told = &s->module;

	told->type = MODULE_FREE;
	told->key = module;
	told->time_ns = bpf_ktime_get_ns();
	told->name[0] = 0;
	bpf_probe_read_kernel_str(told->name, sizeof(told->name), (void *)module + MODULE_NAME_OFFSET);
	if (names.ringbuf_output(told, sizeof(*told), wake_if_filled(NAME_RING)))
		count(LOST_NAMES);
	return 0;
}
#endif

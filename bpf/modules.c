/*
 * Modules coming and going. At module_load (kernel/module/main.c) the symbols are relocated and complete, __init
 * functions included, and no line of the module has run yet: copy its symbol table now, for once init is done or the
 * module is gone nobody can name its addresses any more.
 */

#ifdef MODULE_LOAD_MOD
#define ELF_SYMBOL_LENGTH 24
#define PAGES 512 /* of one table: 2 MiB */

/* Whole pages, so that the verifier has one constant length to check and not a path for each. */
INLINE void send_pages(u64 module, u64 start, u64 end)
{
	u64 page = start & ~(MODULE_PAGE_LENGTH - 1ULL);

	for (u32 i = 0; i < PAGES; i++, page += MODULE_PAGE_LENGTH) {
		if (page >= end)
			return;

		struct module_page *record = names.ringbuf_reserve(sizeof(*record));

		if (!record) {
			count(LOST_NAMES);
			return;
		}
		record->type = MODULE_PAGE;
		record->key = module;
		record->address = page;
		record->error = bpf_probe_read_kernel(record->data, MODULE_PAGE_LENGTH, (void *)page);
		names.ringbuf_submit(record, wake_if_filled(NAME_RING));
	}
}

int on_module_load(struct bpf_raw_tracepoint_args *ctx)
{
	u64 module = ctx->args[MODULE_LOAD_MOD];
	u64 kallsyms = word_at(module + MODULE_KALLSYMS);
	u32 program = ON_MODULE;
	struct scratch *s = scratch.lookup(&program);

	bump(EPOCH);
	if (!s)
		return 0;

	struct module_name *told = &s->module;

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
	told->name[0] = 0;
	bpf_probe_read_kernel_str(told->name, sizeof(told->name), (void *)module + MODULE_NAME_OFFSET);

#ifdef FILTER_MODULE
	if (FILTER_MODULE((u64 *)told->name)) {
		u32 core = CORE_TEXT, init = INIT_TEXT;
		struct text_range core_text = {told->text, told->text_size};
		struct text_range init_text = {told->init_text, told->init_text_size};

		module_text.update(&core, &core_text);
		module_text.update(&init, &init_text);
	}
#endif
	if (names.ringbuf_output(told, sizeof(*told), wake_if_filled(NAME_RING))) {
		count(LOST_NAMES);
		return 0;
	}
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

	bump(EPOCH);
	if (!s)
		return 0;

	struct module_name *told = &s->module;

	told->type = MODULE_FREE;
	told->key = ctx->args[MODULE_FREE_MOD];
	told->time_ns = bpf_ktime_get_ns();
	told->name[0] = 0;
	bpf_probe_read_kernel_str(told->name, sizeof(told->name), (void *)told->key + MODULE_NAME_OFFSET);
	if (names.ringbuf_output(told, sizeof(*told), wake_if_filled(NAME_RING)))
		count(LOST_NAMES);
	return 0;
}
#endif

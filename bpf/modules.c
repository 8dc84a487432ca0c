/*
 * Modules coming and going. At module_load (kernel/module/main.c) the symbols are relocated and complete, __init
 * functions included, and no line of the module has run yet: copy its symbol table now, for once init is done or the
 * module is gone nobody can name its addresses any more.
 */

INLINE void new_epoch(void)
{
	u32 zero = 0;
	u64 *value = epoch.lookup(&zero);

	if (value)
		__sync_fetch_and_add(value, 1);
}

#ifdef MODULE_LOAD_MOD
INLINE u64 word_at(u64 address)
{
	u64 word = 0;

	bpf_probe_read_kernel(&word, sizeof(word), (void *)address);
	return word;
}

INLINE u32 half_at(u64 address)
{
	u32 half = 0;

	bpf_probe_read_kernel(&half, sizeof(half), (void *)address);
	return half;
}

#define CHUNKS 256 /* of one table: 2 MiB */

INLINE void send_table(u64 module, u32 part, u64 start, u64 length)
{
	for (u32 i = 0; i < CHUNKS; i++) {
		u64 offset = (u64)i * CHUNK_LENGTH;

		if (offset >= length)
			return;

		struct module_chunk *chunk = names.ringbuf_reserve(sizeof(*chunk));

		if (!chunk) {
			count(LOST_NAMES);
			return;
		}

		u64 left = length - offset;
		u32 size = left < CHUNK_LENGTH ? left : CHUNK_LENGTH;

		chunk->type = MODULE_CHUNK;
		chunk->part = part;
		chunk->key = module;
		chunk->offset = offset;
		/* The verifier must see the bound on the very value it is given. */
		if (size > CHUNK_LENGTH || size == 0)
			size = CHUNK_LENGTH;
		chunk->length = bpf_probe_read_kernel(chunk->data, size, (void *)start + offset) ? 0 : size;
		names.ringbuf_submit(chunk, BPF_RB_NO_WAKEUP);
	}
}

int on_module_load(struct bpf_raw_tracepoint_args *ctx)
{
	u64 module = ctx->args[MODULE_LOAD_MOD];
	u64 kallsyms = word_at(module + MODULE_KALLSYMS);
	u64 symbol_table = word_at(kallsyms + KALLSYMS_SYMTAB);
	u64 string_table = word_at(kallsyms + KALLSYMS_STRTAB);
	u64 init_end = word_at(module + MODULE_INIT_DATA_BASE) + half_at(module + MODULE_INIT_DATA_SIZE);
	u32 program = ON_MODULE;
	struct scratch *s = scratch.lookup(&program);

	new_epoch();
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
	told->name[0] = 0;
	bpf_probe_read_kernel_str(told->name, sizeof(told->name), (void *)module + MODULE_NAME_OFFSET);

#ifdef FILTER_MODULE
	const char wanted_module[] = FILTER_MODULE;
	if (same_name(told->name, wanted_module, sizeof(wanted_module))) {
		u32 core = CORE_TEXT, init = INIT_TEXT;
		struct text_range core_text = {told->text, told->text_size};
		struct text_range init_text = {told->init_text, told->init_text_size};

		module_text.update(&core, &core_text);
		module_text.update(&init, &init_text);
	}
#endif
	u64 symbols = told->symbols;

	if (names.ringbuf_output(told, sizeof(*told), BPF_RB_NO_WAKEUP)) {
		count(LOST_NAMES);
		return 0;
	}
	send_table(module, SYMBOL_TABLE, symbol_table, symbols * 24);
	/* The length of the string table is not kept; it lies in the init data, which has an end. */
	if (string_table < init_end)
		send_table(module, STRING_TABLE, string_table, init_end - string_table);
	return 0;
}
#endif

#ifdef MODULE_FREE_MOD
int on_module_free(struct bpf_raw_tracepoint_args *ctx)
{
	u32 program = ON_MODULE;
	struct scratch *s = scratch.lookup(&program);

	new_epoch();
	if (!s)
		return 0;

	struct module_name *told = &s->module;

	told->type = MODULE_FREE;
	told->key = ctx->args[MODULE_FREE_MOD];
	told->time_ns = bpf_ktime_get_ns();
	told->name[0] = 0;
	bpf_probe_read_kernel_str(told->name, sizeof(told->name), (void *)told->key + MODULE_NAME_OFFSET);
	if (names.ringbuf_output(told, sizeof(*told), BPF_RB_NO_WAKEUP))
		count(LOST_NAMES);
	return 0;
}
#endif

// SPDX-License-Identifier: GPL-2.0-only
/* What objects hold. Not attached: who wants to know has it run, object by object, and maps the table. */

#define CONTENTS_WORDS 512

struct contents {
	u64 words[CONTENTS_WORDS]; /* complements, as they may be addresses of objects */
};
BPF_F_TABLE("array", u32, struct contents, contents, 1, BPF_F_MMAPABLE);

/* Of an object, by its hidden address, so many bytes (whole words). Returns whether they could be read. */
int read_object(struct bpf_raw_tracepoint_args *ctx)
{
	u32 zero = 0;
	u64 address = ~ctx->args[0], size = ctx->args[1];
	struct contents *into = contents.lookup(&zero);

	if (!into || size > sizeof(into->words))
		return 0;
	if (bpf_probe_read_kernel(into->words, size, (void *)address))
		return 0;
	for (u32 i = 0; i < CONTENTS_WORDS; i++) {
		if (i * sizeof(u64) >= size)
			break;
		into->words[i] = ~into->words[i];
	}
	return 1;
}

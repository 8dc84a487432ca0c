// SPDX-License-Identifier: GPL-2.0-only
/* Programs that processes begin to run, with their arguments. One that could not be told is only a word less. */

#ifdef TASK_MM
int on_exec(struct bpf_raw_tracepoint_args *ctx)
{
	u64 mm = word_at(bpf_get_current_task() + TASK_MM);
	u64 start = word_at(mm + MM_ARG_START), length = word_at(mm + MM_ARG_END) - start;
	struct program_name *told;

	if (is_filled_to(QUARTERS_FOR_EXTRAS))
		return 0;
	told = names.ringbuf_reserve(sizeof(*told));
	if (!told)
		return 0;
	if (length > sizeof(told->arguments))
		length = sizeof(told->arguments);
	told->type = PROGRAM_NAME;
	told->tgid = bpf_get_current_pid_tgid() >> 32;
	told->time_ns = bpf_ktime_get_ns();
	told->length = length;
	if (bpf_probe_read_user(told->arguments, length, (void *)start))
		told->length = 0;
	names.ringbuf_submit(told, wake_if_filled(NAME_RING));
	return 0;
}
#endif

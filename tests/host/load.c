// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A load whose kernel allocations are known: every open file is one object of the cache filp, every eventfd one of
 * kmalloc-64 besides, and both are freed before close() returns (fs/file_table.c, fs/eventfd.c).
 *
 *   load NAME churn SECONDS CPU   open and close files as fast as possible; prints how many were opened
 *   load NAME sockets SECONDS CPU the same with TCP through the loopback device: allocations in softirqs
 *   load NAME hold                obeys lines on standard input, and answers each: `open N`, `eventfd N`, `close [N]`
 *
 * NAME becomes the task's comm before the first of these files is opened.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <err.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static int checked(int fd, const char *what)
{
	if (fd < 0)
		err(1, "%s", what);
	return fd;
}

static void run_on(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	checked(sched_setaffinity(0, sizeof(set), &set), "sched_setaffinity");
}

static void churn(double seconds)
{
	double end = now() + seconds;
	long opened = 0;

	while (now() < end)
		for (int i = 0; i < 100; i++, opened++)
			close(checked(open("/dev/null", O_RDONLY | O_CLOEXEC), "open"));
	printf("%ld\n", opened);
}

static void sockets(double seconds)
{
	static char buffer[16384];
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t length = sizeof(address);
	int server = checked(socket(AF_INET, SOCK_STREAM, 0), "socket");
	double end = now() + seconds;
	long connections = 0;

	checked(bind(server, (struct sockaddr *)&address, length), "bind");
	checked(listen(server, 16), "listen");
	checked(getsockname(server, (struct sockaddr *)&address, &length), "getsockname");
	for (; now() < end; connections++) {
		struct linger reset = {.l_onoff = 1}; /* no TIME_WAIT: ports would run out */
		int client = checked(socket(AF_INET, SOCK_STREAM, 0), "socket");
		int served;

		checked(connect(client, (struct sockaddr *)&address, length), "connect");
		served = checked(accept(server, NULL, NULL), "accept");
		for (int i = 0; i < 10; i++) {
			checked(write(client, buffer, 4096), "write");
			checked(read(served, buffer, sizeof(buffer)), "read");
		}
		setsockopt(client, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
		close(client);
		close(served);
	}
	printf("%ld\n", connections);
}

static void hold(void)
{
	static int held[65536];
	char line[64];
	int count = 0;

	while (fgets(line, sizeof(line), stdin)) {
		int more;

		if (sscanf(line, "open %d", &more) == 1)
			while (more-- > 0)
				held[count++] = checked(open("/dev/null", O_RDONLY | O_CLOEXEC), "open");
		else if (sscanf(line, "eventfd %d", &more) == 1)
			while (more-- > 0)
				held[count++] = checked(eventfd(0, EFD_CLOEXEC), "eventfd");
		else
			for (more = sscanf(line, "close %d", &more) == 1 ? more : count; count && more > 0; more--)
				close(held[--count]);
		puts("done");
		fflush(stdout);
	}
}

int main(int argc, char **argv)
{
	struct rlimit files;

	if (argc < 3)
		errx(2, "usage: load NAME churn|sockets|hold [SECONDS CPU]");
	checked(getrlimit(RLIMIT_NOFILE, &files), "getrlimit");
	files.rlim_cur = files.rlim_max;
	checked(setrlimit(RLIMIT_NOFILE, &files), "setrlimit");
	prctl(PR_SET_NAME, argv[1]);
	if (argc == 5)
		run_on(atoi(argv[4]));
	if (argc == 5 && !strcmp(argv[2], "churn"))
		churn(atof(argv[3]));
	else if (argc == 5 && !strcmp(argv[2], "sockets"))
		sockets(atof(argv[3]));
	else if (!strcmp(argv[2], "hold"))
		hold();
	return 0;
}

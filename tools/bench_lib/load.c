// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Loads for the benchmark. Each times itself and prints one line of JSON: turns made, wall and processor time of them.
 *
 *   kt-bench KIND SECONDS WARM-UP
 *
 *   sockets   a datagram through a socket pair, and an open and close: two skbs with data, a name, a file
 *   files     one directory of a tree: list it, stat and open what is in it; link, rename and unlink a file there
 *   forks     fork, execute this program again, wait for its end
 *   flat      sockets, on every processor at once
 *   paced     sockets, some 50,000 allocations a second
 *   memory    a MiB of memory of its own, touched and given back
 *   pages     a page in each of 16 slots of a pipe, which is then closed: pages that the kernel takes for itself
 *   held      open files, pipes, sockets and eventfds that are all kept, and closed together at 16,000 of them
 *
 * Single loads keep to the last processor. The first WARM-UP seconds are not counted. `files` works in a directory
 * of its own under the current one. What a load does in children is counted, its interrupts are too.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <err.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define NS 1000000000LL
#define HELD 16000
#define PACE_NS 162000
#define TREE_DEPTH 3
#define TREE_WIDTH 3
#define FILE_NAME "a file with a name too long to be kept in the dentry "

struct spent {
	long long turns, wall_ns, cpu_ns;
};

static int checked(int result, const char *what)
{
	if (result < 0)
		err(1, "%s", what);
	return result;
}

static long long clock_ns(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return t.tv_sec * NS + t.tv_nsec;
}

static long long cpu_ns(void)
{
	struct rusage children;

	getrusage(RUSAGE_CHILDREN, &children);
	return clock_ns(CLOCK_PROCESS_CPUTIME_ID) + (children.ru_utime.tv_sec + children.ru_stime.tv_sec) * NS +
	       (children.ru_utime.tv_usec + children.ru_stime.tv_usec) * 1000LL;
}

static void run_on(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	checked(sched_setaffinity(0, sizeof(set), &set), "sched_setaffinity");
}

/* Turns until the time is up; `some` makes a number of turns and returns it. */
static struct spent repeat(long (*some)(void), double seconds)
{
	long long wall = clock_ns(CLOCK_MONOTONIC), cpu = cpu_ns(), end = wall + (long long)(seconds * NS);
	struct spent spent = {0};

	while (clock_ns(CLOCK_MONOTONIC) < end)
		spent.turns += some();
	spent.wall_ns = clock_ns(CLOCK_MONOTONIC) - wall;
	spent.cpu_ns = cpu_ns() - cpu;
	return spent;
}

static long sockets(void)
{
	static int pair[2];
	static char buffer[64];

	if (!pair[0])
		checked(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair), "socketpair");
	for (int i = 0; i < 50; i++) {
		checked(write(pair[0], buffer, sizeof(buffer)), "write");
		checked(read(pair[1], buffer, sizeof(buffer)), "read");
		close(checked(open("/dev/null", O_RDONLY | O_CLOEXEC), "open"));
	}
	return 50;
}

#define MEMORY (1 << 20)

static long memory(void)
{
	char *own = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (own == MAP_FAILED)
		err(1, "mmap");
	madvise(own, MEMORY, MADV_NOHUGEPAGE);
	for (long at = 0; at < MEMORY; at += 4096)
		own[at] = 1;
	munmap(own, MEMORY);
	return 1;
}

#define PIPE_SLOTS 16

static long pages(void)
{
	static char page[4096];
	int ends[2];

	checked(pipe(ends), "pipe");
	for (int i = 0; i < PIPE_SLOTS; i++)
		checked(write(ends[1], page, sizeof(page)), "write");
	close(ends[0]);
	close(ends[1]);
	return 1;
}

static long paced(void)
{
	static long long next;
	long turns = sockets();

	if (!next)
		next = clock_ns(CLOCK_MONOTONIC);
	next += turns * PACE_NS;
	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME,
			&(struct timespec){ .tv_sec = next / NS, .tv_nsec = next % NS }, NULL);
	return turns;
}

static void enter(const char *directory)
{
	checked(chdir(directory), directory);
}

static void make_tree(int depth)
{
	char name[64];

	for (int i = 0; i < 3; i++) {
		snprintf(name, sizeof(name), FILE_NAME "%d", i);
		close(checked(open(name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600), name));
	}
	for (int i = 0; depth && i < TREE_WIDTH; i++) {
		snprintf(name, sizeof(name), "directory %d", i);
		checked(mkdir(name, 0700), name);
		enter(name);
		make_tree(depth - 1);
		enter("..");
	}
}

/*
 * Visit the directory and those below it; returns how many. Names come and go, inodes stay: ext4 takes its time over
 * a new inode by how many were deleted in the last seconds (fs/ext4/ialloc.c, recently_deleted), and no tracer's cost
 * would be seen in that.
 */
static long walk(void)
{
	static const char linked[] = "another name of a file, too long to be kept in the dentry";
	static const char renamed[] = "a third name of a file, too long to be kept in the dentry";
	DIR *directory = opendir(".");
	struct dirent *entry;
	long visited = 1;

	if (!directory)
		err(1, "opendir");
	while ((entry = readdir(directory))) {
		struct stat status;

		if (entry->d_name[0] == '.')
			continue;
		checked(stat(entry->d_name, &status), entry->d_name);
		if (S_ISREG(status.st_mode)) {
			close(checked(open(entry->d_name, O_RDONLY | O_CLOEXEC), entry->d_name));
			if (strcmp(entry->d_name, FILE_NAME "0"))
				continue;
			checked(link(entry->d_name, linked), "link");
			checked(rename(linked, renamed), "rename");
			checked(unlink(renamed), "unlink");
		} else {
			enter(entry->d_name);
			visited += walk();
			enter("..");
		}
	}
	closedir(directory);
	return visited;
}

static long forks(void)
{
	int status;
	pid_t child = checked(fork(), "fork");

	if (!child) {
		execl("/proc/self/exe", "kt-bench", "exit", NULL);
		_exit(127);
	}
	checked(waitpid(child, &status, 0), "waitpid");
	if (status)
		errx(1, "the child failed");
	return 1;
}

static long held(void)
{
	static int kept[HELD + 4];
	int count = 0, turns = 0;

	for (; count < HELD; turns++) {
		kept[count++] = checked(open("/dev/null", O_RDONLY | O_CLOEXEC), "open");
		kept[count++] = checked(eventfd(0, EFD_CLOEXEC), "eventfd");
		kept[count++] = checked(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0), "socket");
		checked(pipe2(kept + count, O_CLOEXEC), "pipe2");
		count += 2;
	}
	while (count)
		close(kept[--count]);
	return turns;
}

static struct spent measure(long (*some)(void), double seconds, double warm_up)
{
	repeat(some, warm_up);
	return repeat(some, seconds);
}

/* One child on each processor; the wall time is their mean. */
static struct spent flat(double seconds, double warm_up)
{
	int cpus = sysconf(_SC_NPROCESSORS_ONLN), results[2], status;
	struct spent sum = {0}, one;

	checked(pipe(results), "pipe");
	for (int cpu = 0; cpu < cpus; cpu++)
		if (!checked(fork(), "fork")) {
			run_on(cpu);
			one = measure(sockets, seconds, warm_up);
			_exit(write(results[1], &one, sizeof(one)) != sizeof(one));
		}
	for (int cpu = 0; cpu < cpus; cpu++) {
		checked(wait(&status), "wait");
		if (status || read(results[0], &one, sizeof(one)) != sizeof(one))
			errx(1, "a child failed");
		sum.turns += one.turns;
		sum.wall_ns += one.wall_ns / cpus;
		sum.cpu_ns += one.cpu_ns;
	}
	return sum;
}

static struct spent walks(double seconds, double warm_up)
{
	char tree[] = "tree-XXXXXX", remove[64];
	struct spent spent;

	if (!mkdtemp(tree))
		err(1, "mkdtemp");
	enter(tree);
	make_tree(TREE_DEPTH);
	spent = measure(walk, seconds, warm_up);
	enter("..");
	snprintf(remove, sizeof(remove), "rm -r %s", tree);
	checked(system(remove), "rm");
	return spent;
}

static void allow_many_files(void)
{
	struct rlimit files;

	checked(getrlimit(RLIMIT_NOFILE, &files), "getrlimit");
	if (files.rlim_max < HELD + 64)
		files.rlim_max = HELD + 64;
	files.rlim_cur = files.rlim_max;
	checked(setrlimit(RLIMIT_NOFILE, &files), "setrlimit");
}

int main(int argc, char **argv)
{
	const char *kind = argc > 1 ? argv[1] : "";
	double seconds, warm_up;
	struct spent spent;

	if (!strcmp(kind, "exit"))
		return 0;
	if (argc != 4)
		errx(2, "usage: kt-bench sockets|files|forks|flat|paced|held|memory|pages SECONDS WARM-UP");
	seconds = atof(argv[2]);
	warm_up = atof(argv[3]);
	if (strcmp(kind, "flat"))
		run_on(sysconf(_SC_NPROCESSORS_ONLN) - 1);
	if (!strcmp(kind, "sockets")) {
		spent = measure(sockets, seconds, warm_up);
	} else if (!strcmp(kind, "files")) {
		spent = walks(seconds, warm_up);
	} else if (!strcmp(kind, "forks")) {
		spent = measure(forks, seconds, warm_up);
	} else if (!strcmp(kind, "flat")) {
		spent = flat(seconds, warm_up);
	} else if (!strcmp(kind, "paced")) {
		spent = measure(paced, seconds, warm_up);
	} else if (!strcmp(kind, "memory")) {
		spent = measure(memory, seconds, warm_up);
	} else if (!strcmp(kind, "pages")) {
		spent = measure(pages, seconds, warm_up);
	} else if (!strcmp(kind, "held")) {
		allow_many_files();
		spent = measure(held, seconds, warm_up);
	} else {
		errx(2, "no such load: %s", kind);
	}
	printf("{\"turns\": %lld, \"wall_ns\": %lld, \"cpu_ns\": %lld}\n", spent.turns, spent.wall_ns, spent.cpu_ns);
	return 0;
}

/* What the kernel asks of the daemon for what a user does: the shortest that it can be had with.
 *
 * Every request costs a program more than all that the store does for it, so a flag forgotten or
 * an answer that may not be kept would make everything slower, and nothing else would show it. The
 * daemon runs in debug mode, in which libfuse writes each request to our log. Requests that nobody
 * waits for (RELEASE, FORGET) are left out. A STATFS, which is never answered from a cache, marks
 * where an action begins and ends. */
#include "mount/mount.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <unistd.h>

enum {
	REQUESTS_MAX = 65536,
	ENTRIES = 1000,
	PER_REPLY = 190, /* entries that at least fit into an answer to READDIRPLUS */
	HANDLE_KILLPRIV_V2 = 1 << 28,
};

struct request {
	uint64_t unique; /* rises in the order in which they were asked */
	char name[20];
};

static struct request *requests;
static size_t count;

/* ---- reading the log ------------------------------------------------------------------------ */

static int by_unique(const void *a, const void *b)
{
	const struct request *x = a, *y = b;

	return (x->unique > y->unique) - (x->unique < y->unique);
}

static void read_requests(void)
{
	FILE *f = fopen(log_path(), "re");
	unsigned long long unique;
	char line[512];

	assert_non_null(f);
	count = 0;
	while (fgets(line, sizeof(line), f)) {
		struct request *r = &requests[count];

		if (sscanf(line, "unique: %llu, opcode: %19[A-Z_0-9]", &unique, r->name) != 2)
			continue;
		r->unique = unique;
		if (strcmp(r->name, "INIT") == 0)
			count = 0; /* mounted again, and counted anew */
		else
			count++;
		assert_true(count < REQUESTS_MAX);
	}
	fclose(f);
	qsort(requests, count, sizeof(*requests), by_unique);
}

static size_t times(const char *name)
{
	size_t n = 0;

	for (size_t i = 0; i < count; i++)
		n += strcmp(requests[i].name, name) == 0;
	return n;
}

static bool awaited(const char *name)
{
	static const char *const others[] = { "RELEASE", "RELEASEDIR", "FORGET", "BATCH_FORGET",
					      "INTERRUPT" };

	for (size_t i = 0; i < sizeof(others) / sizeof(*others); i++)
		if (strcmp(name, others[i]) == 0)
			return false;
	return true;
}

/* Waits until everything that was opened has been released: what goes on from here is new. */
static void settle(void)
{
	struct statvfs vfs;

	do {
		sleep_ms(1);
		read_requests();
	} while (times("OPEN") + times("CREATE") != times("RELEASE") ||
		 times("OPENDIR") != times("RELEASEDIR"));
	assert_ok(statvfs(point_path(), &vfs));
}

/* What was asked since the last call, or since begin(), as "LOOKUP READ*3 ..."; lent until the next
 * call. *number of them, unless NULL. times() then counts these. */
static const char *asked(size_t *number)
{
	static char text[4096];
	size_t end, start, n = 0;

	settle();
	read_requests();
	for (end = count; end-- > 0 && strcmp(requests[end].name, "STATFS") != 0;)
		;
	for (start = end; start-- > 0 && strcmp(requests[start].name, "STATFS") != 0;)
		;
	text[0] = '\0';
	for (size_t i = start + 1, same; i < end; i += same) {
		char *at = text + strlen(text);

		for (same = 1; i + same < end &&
			       strcmp(requests[i].name, requests[i + same].name) == 0; same++)
			;
		if (!awaited(requests[i].name))
			continue;
		n += same;
		at += sprintf(at, "%s%s", at == text ? "" : " ", requests[i].name);
		if (same > 1)
			sprintf(at, "*%zu", same);
		assert_true(strlen(text) < sizeof(text) - 64);
	}
	count = end - start - 1;
	memmove(requests, &requests[start + 1], count * sizeof(*requests));
	if (number)
		*number = n;
	return text;
}

static void begin(void)
{
	settle();
}

/* ---- what the kernel forgets ----------------------------------------------------------------- */

static uint64_t forgotten_before;

/* Counts what it took back of its caches, for want of memory or because it was told to. */
static uint64_t forgotten(void)
{
	static const char *const counts[] = { "drop_slab", "drop_pagecache", "slabs_scanned",
					      "pginodesteal", "kswapd_inodesteal" };
	FILE *f = fopen("/proc/vmstat", "re");
	unsigned long long n;
	uint64_t sum = 0;
	char name[64];

	while (f && fscanf(f, "%63s %llu", name, &n) == 2)
		for (size_t i = 0; i < sizeof(counts) / sizeof(*counts); i++)
			sum += strcmp(name, counts[i]) == 0 ? n : 0;
	if (f)
		fclose(f);
	return sum;
}

/* What it has forgotten the kernel must ask for again, and then the test says nothing. */
static void excuse(void)
{
	if (forgotten() != forgotten_before) {
		print_message("more was asked, but the kernel has forgotten things meanwhile\n");
		skip();
	}
}

static void assert_asked(const char *expected)
{
	const char *seen = asked(NULL);

	if (strcmp(seen, expected) != 0)
		excuse();
	assert_string_equal(seen, expected);
}

/* ---- the tests' own words ------------------------------------------------------------------- */

static int with_log(void **state)
{
	forgotten_before = forgotten();
	requests = calloc(REQUESTS_MAX, sizeof(*requests));
	if (!requests || mount_fresh(state) < 0)
		return -1;
	mount_start("debug,sync=standard");
	return chdir("/");	/* a shell asks for the folder it starts in */
}

static int without_log(void **state)
{
	free(requests);
	requests = NULL;
	return mount_end(state);
}

/* An ordinary user's mount has default_permissions, with which the kernel asks more
 * (MEASURED 21). */
static void only_here(void **state)
{
	(void)state;
	only_cubby();
	only_root();
}

static const char *in_mount(const char *name)
{
	static char path[PATH_MAX + 32];

	snprintf(path, sizeof(path), "%s/%s", point_path(), name);
	return path;
}

static void write_file(const char *name, int flags, const char *text)
{
	const int fd = open(in_mount(name), O_WRONLY | flags, 0644);

	assert_ok(fd);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	assert_ok(close(fd));
}

static void read_file(const char *name)
{
	char bytes[64];
	const int fd = open(in_mount(name), O_RDONLY);

	assert_ok(fd);
	assert_true(read(fd, bytes, sizeof(bytes)) > 0);
	assert_ok(close(fd));
}

static void stat_file(const char *name)
{
	struct stat st;

	assert_ok(stat(in_mount(name), &st));
}

/* A kernel without it asks for security.capability at every turn. */
static void only_with_killpriv(void)
{
	unsigned flags = 0;
	char line[512];
	FILE *f = fopen(log_path(), "re");

	assert_non_null(f);
	while (!flags && fgets(line, sizeof(line), f))
		if (sscanf(line, "flags=%x", &flags) != 1)
			flags = 0;
	fclose(f);
	if (!(flags & HANDLE_KILLPRIV_V2)) {
		print_message("this kernel does not leave set-user-id to us\n");
		skip();
	}
}

/* ---- what is asked -------------------------------------------------------------------------- */

/* The kernel asks for the capabilities of what it writes to, once a file that it has just met; not
 * to be asked one must write past its page cache (fs/DESIGN.md, "Requests"). */
static void a_new_file_is_looked_up_created_written_and_flushed(void **state)
{
	only_here(state);
	only_with_killpriv();
	begin();
	write_file("k", O_CREAT, "one");
	assert_asked("LOOKUP CREATE GETXATTR WRITE FLUSH");
}

static void what_was_just_created_is_known(void **state)
{
	struct stat st;
	int fd;

	only_here(state);
	begin();
	fd = open(in_mount("k"), O_WRONLY | O_CREAT, 0644);
	assert_ok(fd);
	assert_ok(fstat(fd, &st));
	assert_ok(close(fd));
	stat_file("k");
	assert_asked("LOOKUP CREATE FLUSH");
}

static void a_file_is_overwritten_with_three_requests(void **state)
{
	only_here(state);
	only_with_killpriv();
	write_file("k", O_CREAT, "one");
	begin();
	write_file("k", O_TRUNC, "two");
	assert_asked("OPEN WRITE FLUSH");
}

static void a_file_is_changed_in_place_with_three_requests(void **state)
{
	only_here(state);
	write_file("k", O_CREAT, "one");
	begin();
	write_file("k", 0, "two");
	assert_asked("OPEN WRITE FLUSH");
	write_file("k", O_APPEND, "three");
	assert_asked("OPEN WRITE FLUSH");
}

static void many_writes_through_the_cache_ask_for_capabilities_once(void **state)
{
	int fd;

	only_here(state);
	only_with_killpriv();
	begin();
	fd = open(in_mount("k"), O_RDWR | O_CREAT, 0644);
	assert_ok(fd);
	for (int i = 0; i < 10; i++)
		assert_int_equal(write(fd, "1", 1), 1);
	assert_ok(close(fd));
	assert_asked("LOOKUP CREATE GETXATTR WRITE*10 FLUSH");
}

/* The kernel is given the contents of a small file when it is opened, if nobody else has it open. */
static void a_small_file_is_opened_and_nothing_else(void **state)
{
	only_here(state);
	write_file("k", O_CREAT, "one");
	stat_file("k");
	begin();
	read_file("k");
	assert_asked("OPEN");
	read_file("k");
	assert_asked("OPEN");
	write_file("k", 0, "another");
	stat_file("k");
	begin();
	read_file("k");
	assert_asked("OPEN");
}

static void a_small_file_that_is_not_known_is_looked_up_and_opened(void **state)
{
	only_here(state);
	write_file("k", O_CREAT, "one");
	mount_again();
	begin();
	read_file("k");
	assert_asked("LOOKUP OPEN");
}

static void a_large_file_is_read_once(void **state)
{
	only_here(state);
	write_file("k", O_CREAT, "");
	assert_ok(truncate(in_mount("k"), 20000));
	begin();
	read_file("k");
	assert_asked("OPEN READ");
	read_file("k");
	assert_asked("OPEN");
}

static void stat_asks_once_after_a_write_and_then_never(void **state)
{
	only_here(state);
	write_file("k", O_CREAT, "one");
	begin();
	stat_file("k");
	assert_asked("GETATTR");
	for (int i = 0; i < 3; i++)
		stat_file("k");
	assert_asked("");
}

static void what_is_not_there_is_asked_for_once(void **state)
{
	only_here(state);
	begin();
	assert_errno(access(in_mount("absent"), F_OK), ENOENT);
	assert_asked("LOOKUP");
	assert_errno(access(in_mount("absent"), F_OK), ENOENT);
	assert_errno(open(in_mount("absent"), O_RDONLY), ENOENT);
	assert_asked("");
}

static void names_change_with_one_request_and_one_for_the_target(void **state)
{
	char from[PATH_MAX + 32];

	only_here(state);
	write_file("a", O_CREAT, "one");
	strcpy(from, in_mount("a"));
	begin();
	assert_ok(rename(from, in_mount("b")));
	assert_asked("LOOKUP RENAME");
	assert_ok(unlink(in_mount("b")));
	assert_asked("UNLINK");
	assert_ok(mkdir(in_mount("dir"), 0755));
	assert_asked("LOOKUP MKDIR");
	assert_ok(rmdir(in_mount("dir")));
	assert_asked("RMDIR");
}

static void attributes_are_set_with_one_request(void **state)
{
	only_here(state);
	write_file("k", O_CREAT, "one");
	begin();
	assert_ok(setxattr(in_mount("k"), "user.colour", "green", 5, 0));
	assert_asked("SETXATTR");
	assert_ok(chmod(in_mount("k"), 0600));
	assert_asked("SETATTR");
}

static void make_entries(void)
{
	char name[32];

	assert_ok(mkdir(in_mount("dir"), 0755));
	for (int i = 0; i < ENTRIES; i++) {
		sprintf(name, "dir/%06d", i);
		assert_ok(mknod(in_mount(name), S_IFREG | 0644, 0));
	}
}

/* After this the kernel knows nothing of what is there. */
static void forget_all(void)
{
	mount_again();
	assert_ok(chdir("/"));
}

static void a_listing_brings_the_attributes_along(void **state)
{
	size_t number;

	only_here(state);
	make_entries();
	forget_all();
	begin();
	run("ls -l %s", in_mount("dir"));
	asked(&number);
	if (times("LOOKUP") != 1 || number > 5 + ENTRIES / PER_REPLY + 1)
		excuse();
	assert_int_equal(times("LOOKUP"), 1);
	assert_in_range(times("READDIRPLUS"), 1, ENTRIES / PER_REPLY + 1);
	assert_int_equal(times("READDIR"), 0);
	assert_true(number <= 5 + ENTRIES / PER_REPLY + 1);
	assert_true(times("GETXATTR") <= 2);
}

static void a_listing_of_names_alone_brings_no_attributes(void **state)
{
	only_here(state);
	make_entries();
	forget_all();
	begin();
	run("ls -f %s", in_mount("dir"));
	asked(NULL);
	if (times("LOOKUP") != 1)
		excuse();
	assert_int_equal(times("READDIRPLUS"), 1);	/* the first time the kernel cannot know */
	assert_in_range(times("READDIR"), 1, ENTRIES / (2 * PER_REPLY) + 1);
	assert_int_equal(times("LOOKUP"), 1);
}

/* What tools do is theirs to change; but with those of Debian 12 it takes no more than this. */
static void tools_cost_no_more_than_they_ask_for(void **state)
{
	static const struct {
		const char *command;
		const char *most;
	} actions[] = {
		{ "echo one > $M/k", "LOOKUP CREATE FLUSH GETXATTR WRITE FLUSH" },
		{ "echo two > $M/k", "OPEN FLUSH GETATTR GETXATTR WRITE FLUSH" },
		{ "echo three >> $M/k", "OPEN FLUSH GETATTR GETXATTR WRITE FLUSH" },
		{ "cat $M/k", "OPEN GETATTR" },		/* of what was written */
		{ "cat $M/k", "OPEN" },
		{ "stat $M/k", "" },
		{ "touch $M/t", "LOOKUP CREATE FLUSH SETATTR FLUSH" },
		{ "touch $M/t", "OPEN FLUSH SETATTR FLUSH" },
		{ "mv $M/t $M/u", "LOOKUP RENAME" },
		{ "rm $M/u", "GETATTR UNLINK" },
		{ "setfattr -n user.colour -v green $M/k", "SETXATTR" },
		{ "cp /etc/passwd $M/c", "LOOKUP LOOKUP CREATE GETXATTR WRITE FLUSH" },
		{ "cp /etc/passwd $M/c", "GETATTR OPEN GETXATTR GETATTR GETXATTR WRITE FLUSH" },
		/* ACCESS: it changes to the directory, and here the kernel decides nothing. */
		{ "rsync -a /etc/passwd $M/r",
		  "LOOKUP GETATTR ACCESS LOOKUP CREATE SETATTR GETXATTR WRITE FLUSH GETATTR "
		  "SETATTR OPEN SETATTR LOOKUP RENAME" },
	};

	only_here(state);
	only_with_killpriv();
	for (size_t i = 0; i < sizeof(actions) / sizeof(*actions); i++) {
		const char *seen, *most = actions[i].most;
		size_t number, words = *most != '\0';

		for (const char *p = most; *p; p++)
			words += *p == ' ' ? 1 : *p == '*' ? (size_t)(p[1] - '1') : 0;
		begin();
		run("M=%s; %s", point_path(), actions[i].command);
		seen = asked(&number);
		if (number > words)
			excuse();
		if (number > words)
			fail_msg("%s: %s\n   instead of %s", actions[i].command, seen, most);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(test) cmocka_unit_test_setup_teardown(test, with_log, without_log)
		T(a_new_file_is_looked_up_created_written_and_flushed),
		T(what_was_just_created_is_known),
		T(a_file_is_overwritten_with_three_requests),
		T(a_file_is_changed_in_place_with_three_requests),
		T(many_writes_through_the_cache_ask_for_capabilities_once),
		T(a_small_file_is_opened_and_nothing_else),
		T(a_small_file_that_is_not_known_is_looked_up_and_opened),
		T(a_large_file_is_read_once),
		T(stat_asks_once_after_a_write_and_then_never),
		T(what_is_not_there_is_asked_for_once),
		T(names_change_with_one_request_and_one_for_the_target),
		T(attributes_are_set_with_one_request),
		T(a_listing_brings_the_attributes_along),
		T(a_listing_of_names_alone_brings_no_attributes),
		T(tools_cost_no_more_than_they_ask_for),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* O_SYNC, O_DSYNC, O_DIRECT, mappings and appending: what was waited for outlives the daemon, and
 * everybody sees the same. */
#include "mount/mount.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PAGE = 4096 };

static void *map(int fd, size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	assert_ptr_not_equal(p, MAP_FAILED);
	return p;
}

/* The file is still open when the daemon dies. */
static void a_synchronous_write_outlives_the_daemon(void **state)
{
	static const int flags[] = { O_SYNC, O_DSYNC };

	(void)state;
	for (int i = 0; i < 2; i++) {
		const int fd = open("k", O_WRONLY | O_CREAT | O_TRUNC | flags[i], 0644);

		assert_ok(fd);
		assert_int_equal(write(fd, i ? "two" : "one", 3), 3);
		if (i == 0)
			assert_int_equal(pwrite(fd, "far", 3, 100000), 3);
		mount_kill();
		close(fd);
		mount_start(NULL);
		assert_memory_equal(get("k"), i ? "two" : "one", 4);
		assert_int_equal(atol(run("stat -c %%s k")),
				 i ? 3 : 100003);
	}
}

static void a_synced_mapping_outlives_the_daemon(void **state)
{
	char *p;
	int fd;

	(void)state;
	run("head -c 200000 /dev/zero > k");
	fd = open("k", O_RDWR);
	p = map(fd, 200000);
	memcpy(p + 100000, "mapped", 6);
	assert_ok(msync(p, 200000, MS_SYNC));
	memcpy(p + 3, "late", 4);
	mount_kill();
	munmap(p, 200000);
	close(fd);
	mount_start(NULL);
	assert_string_equal(run("tail -c +100001 k | head -c 6"), "mapped");
}

/* What was mapped and then unmapped and closed is published, without msync. */
static void an_unmapped_mapping_is_published_by_close(void **state)
{
	uint64_t before;
	char *p;
	int fd;

	(void)state;
	only_cubby();
	run("head -c 20000 /dev/zero > k");
	before = version("k");
	fd = open("k", O_RDWR);
	p = map(fd, 20000);
	memcpy(p + 10000, "mapped", 6);
	assert_ok(munmap(p, 20000));
	assert_ok(close(fd));
	assert_true(version("k") > before);
	mount_kill();
	mount_start(NULL);
	assert_string_equal(run("tail -c +10001 k | head -c 6"), "mapped");
}

/* The mapping outlives the descriptor. */
static void a_mapping_can_be_written_after_close(void **state)
{
	char *p;
	int fd;

	(void)state;
	run("head -c 20000 /dev/zero > k");
	fd = open("k", O_RDWR);
	p = map(fd, 20000);
	assert_ok(close(fd));
	memcpy(p + 10000, "mapped", 6);
	assert_ok(msync(p, 20000, MS_SYNC));
	assert_string_equal(run("tail -c +10001 k | head -c 6"), "mapped");
	memcpy(p + 10000, "MAPPED", 6);
	assert_ok(munmap(p, 20000));
	mount_again();
	assert_string_equal(run("tail -c +10001 k | head -c 6"), "MAPPED");
}

static void mappings_writes_and_reads_mix(void **state)
{
	char bytes[16];
	char *p;
	int fd, other;

	(void)state;
	run("head -c 20000 /dev/zero | tr '\\0' . > k");
	fd = open("k", O_RDWR);
	other = open("k", O_WRONLY);
	p = map(fd, 20000);
	memcpy(p + 5000, "map", 3);
	assert_int_equal(pread(fd, bytes, 5, 4999), 5);
	assert_memory_equal(bytes, ".map.", 5);
	assert_int_equal(pwrite(fd, "write", 5, 5001), 5);
	assert_memory_equal(p + 4999, ".mwrite.", 8);
	assert_int_equal(pwrite(other, "OTHER", 5, 9000), 5);
	assert_memory_equal(p + 8999, ".OTHER.", 7);
	assert_ok(ftruncate(fd, 9002));
	assert_memory_equal(p + 8999, ".OT\0\0", 5);
	assert_int_equal(pwrite(other, "end", 3, 12000), 3);
	assert_memory_equal(p + 11999, "\0end\0", 5);
	assert_ok(munmap(p, 20000));
	assert_ok(close(other));
	assert_ok(close(fd));
	assert_string_equal(run("tr '\\0' 0 < k | tail -c 6; stat -c %%s k"), "000end12003");
}

static void direct_input_and_output_agree_with_the_cache(void **state)
{
	static char aligned[4 * PAGE] __attribute__((aligned(PAGE)));
	int direct, plain;

	(void)state;
	direct = open("k", O_RDWR | O_CREAT | O_DIRECT, 0644);
	assert_ok(direct);
	plain = open("k", O_RDWR);
	random_fill(aligned, sizeof(aligned), 1);
	assert_int_equal(pwrite(direct, aligned, sizeof(aligned), 0), sizeof(aligned));
	assert_true(holds("k", aligned, sizeof(aligned)));
	assert_int_equal(pwrite(plain, "cached", 6, PAGE), 6);
	assert_int_equal(pread(direct, aligned, 2 * PAGE, 0), 2 * PAGE);
	assert_memory_equal(aligned + PAGE, "cached", 6);
	memset(aligned, 'd', PAGE);
	assert_int_equal(pwrite(direct, aligned, PAGE, PAGE), PAGE);
	assert_int_equal(pread(plain, aligned + PAGE, PAGE, PAGE), PAGE);
	assert_memory_equal(aligned + PAGE, aligned, PAGE);
	assert_ok(close(direct));
	assert_ok(close(plain));
	run("dd if=k of=l bs=4k iflag=direct oflag=direct status=none; cmp k l");
}

/* ---- appending ------------------------------------------------------------------------------ */

enum { LINES = 300, APPENDERS = 6, LINE = 64 };

static int append_lines(void *arg)
{
	const int who = *(const int *)arg;
	const int fd = open("log", O_WRONLY | O_APPEND | O_CREAT, 0644);
	char line[LINE + 1];

	for (int i = 0; i < LINES; i++) {
		snprintf(line, sizeof(line), "%d %*d\n", who, LINE - 3, i);
		if (write(fd, line, LINE) != LINE)
			return -1;
	}
	return close(fd);
}

static void appending_processes_lose_and_mix_nothing(void **state)
{
	pid_t children[APPENDERS];
	int who[APPENDERS];

	(void)state;
	for (int i = 0; i < APPENDERS; i++) {
		who[i] = i;
		children[i] = spawn(append_lines, &who[i]);
	}
	for (int i = 0; i < APPENDERS; i++)
		assert_true(joined(children[i]));
	assert_int_equal(atol(run("stat -c %%s log")), APPENDERS * LINES * LINE);
	for (int i = 0; i < APPENDERS; i++)
		assert_string_equal(run("grep '^%d' log | tr -s ' ' | cut -d' ' -f2 | "
					"diff - <(seq 0 %d)", i, LINES - 1), "");
	mount_again();
	assert_string_equal(run("awk 'length != %d' log", LINE - 1), "");
}

/* ---- what was only made or emptied ----------------------------------------------------------- */

static void whoever_asks_sees_the_version_of_what_was_just_closed(void **state)
{
	char name[32];

	(void)state;
	only_cubby();
	for (int i = 0; i < 200; i++) {
		snprintf(name, sizeof(name), "k%d", i);
		assert_ok(close(open(name, O_CREAT | O_WRONLY, 0644)));
		assert_int_equal(version(name), 1);
		assert_ok(close(open(name, O_TRUNC | O_RDWR)));
		assert_int_equal(version(name), 2);
	}
}

/* Asking must not publish what somebody is about to write. */
static void asking_publishes_nothing(void **state)
{
	int fd, again;

	(void)state;
	only_cubby();
	put("k", "old");
	fd = open("k", O_WRONLY | O_TRUNC);
	again = dup(fd);
	assert_ok(close(again));
	assert_int_equal(version("k"), 1);
	assert_int_equal(version("k"), 1);
	assert_int_equal(write(fd, "new", 3), 3);
	assert_ok(close(fd));
	assert_int_equal(version("k"), 2);
	assert_string_equal(get("k"), "new");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, mount_begin, mount_end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_synchronous_write_outlives_the_daemon),
		TEST(a_synced_mapping_outlives_the_daemon),
		TEST(an_unmapped_mapping_is_published_by_close),
		TEST(a_mapping_can_be_written_after_close),
		TEST(mappings_writes_and_reads_mix),
		TEST(direct_input_and_output_agree_with_the_cache),
		TEST(appending_processes_lose_and_mix_nothing),
		TEST(whoever_asks_sees_the_version_of_what_was_just_closed),
		TEST(asking_publishes_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

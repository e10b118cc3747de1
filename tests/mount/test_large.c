/* Large values changed in small ways: what was synced is there after a kill, whole and nothing
 * else; what is cut off comes back as zeros; and stat tells what a file really takes. */
#include "mount/mount.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MIB = 1 << 20, LARGE = 3 * MIB + 12345 };

static uint64_t bytes_kept(const char *name)
{
	struct stat st;

	assert_ok(stat(name, &st));
	return (uint64_t)st.st_blocks * 512;
}

/* Is it `size`, as blocks of 512 tell it? */
static bool keeps(const char *name, uint64_t size)
{
	return bytes_kept(name) == (size + 511) / 512 * 512;
}

static int open_large(uint8_t *bytes, int flags)
{
	int fd;

	random_fill(bytes, LARGE, 7);
	put_bytes("k", bytes, LARGE);
	fd = open("k", flags);
	assert_ok(fd);
	return fd;
}

static void lines_that_were_synced_survive_a_kill(void **state)
{
	const uint64_t lines = number_from_env("N", 300);
	const size_t most = LARGE + lines * 200;
	uint8_t *bytes = malloc(most);
	size_t size = LARGE;
	int fd;

	(void)state;
	only_cubby();
	fd = open_large(bytes, O_WRONLY | O_APPEND);
	for (uint64_t i = 0; i < lines; i++) {
		const size_t line = 1 + i * 31 % 200;

		random_fill(bytes + size, line, i);
		assert_int_equal(write(fd, bytes + size, line), line);
		size += line;
		if (i % 3 == 0)
			assert_ok(fsync(fd));
	}
	assert_ok(fsync(fd));
	assert_int_equal(write(fd, "lost", 4), 4);
	mount_kill();
	close(fd);
	mount_start(NULL);
	assert_true(holds("k", bytes, size));
	assert_int_equal(version("k"), 1 + (lines + 2) / 3 + 1);
	assert_true(keeps("k", size));
	free(bytes);
}

/* Every so often it is killed, and what was not synced is gone. */
static void small_changes_are_there_as_they_were_synced(void **state)
{
	const uint64_t changes = number_from_env("N", 300);
	uint8_t *now = malloc(LARGE), *synced = malloc(LARGE), *page = malloc(20000);
	uint64_t seed = number_from_env("SEED", 1);
	int fd;

	(void)state;
	only_cubby();
	fd = open_large(now, O_RDWR);
	memcpy(synced, now, LARGE);
	for (uint64_t i = 1; i <= changes; i++) {
		const uint64_t dice = random_next(&seed);
		const size_t offset = dice % 3 ? dice / 3 % 8 * 4096 : dice / 3 % (LARGE - 20000);
		const size_t size = dice % 5 ? 4096 : 1 + dice / 7 % 20000;

		random_fill(page, size, i);
		assert_int_equal(pwrite(fd, page, size, (off_t)offset), size);
		memcpy(now + offset, page, size);
		assert_int_equal(pread(fd, page, size, (off_t)offset), size);
		assert_memory_equal(page, now + offset, size);
		if (i % 4 == 0) {
			assert_ok(fsync(fd));
			memcpy(synced, now, LARGE);
		}
		if (i % 75 == 74) {
			mount_kill();
			close(fd);
			mount_start(NULL);
			assert_true(holds("k", synced, LARGE));
			memcpy(now, synced, LARGE);
			fd = open("k", O_RDWR);
			assert_ok(fd);
		}
	}
	assert_ok(close(fd));
	assert_true(holds("k", now, LARGE));
	assert_true(keeps("k", LARGE));
	mount_again();
	assert_true(holds("k", now, LARGE));
	free(now);
	free(synced);
	free(page);
}

static void what_was_cut_off_comes_back_as_zeros(void **state)
{
	static const size_t cuts[] = { LARGE - 1, LARGE - 70000, 2 * MIB, MIB + 7, 65536, 4000 };
	uint8_t *bytes = malloc(LARGE);
	int fd;

	(void)state;
	for (size_t i = 0; i < sizeof(cuts) / sizeof(cuts[0]); i++) {
		fd = open_large(bytes, O_RDWR);
		assert_ok(ftruncate(fd, (off_t)cuts[i]));
		if (i % 2)
			assert_ok(fsync(fd));
		assert_ok(ftruncate(fd, LARGE));
		memset(bytes + cuts[i], 0, LARGE - cuts[i]);
		assert_ok(close(fd));
		assert_true(holds("k", bytes, LARGE));
		mount_again();
		assert_true(holds("k", bytes, LARGE));
	}
	free(bytes);
}

/* More than one publication can delete. */
static void a_file_of_gigabytes_is_cut_and_grows_again_at_once(void **state)
{
	const off_t size = (off_t)5 << 30;
	const int fd = open("k", O_RDWR | O_CREAT, 0644);
	char byte = 'z';

	(void)state;
	assert_ok(fd);
	assert_int_equal(pwrite(fd, &byte, 1, size - 1), 1);
	assert_int_equal(pwrite(fd, &byte, 1, 0), 1);
	assert_ok(fsync(fd));
	assert_ok(ftruncate(fd, 1));
	assert_ok(ftruncate(fd, size));
	assert_int_equal(pread(fd, &byte, 1, size - 1), 1);
	assert_int_equal(byte, 0);
	assert_int_equal(pread(fd, &byte, 1, 0), 1);
	assert_int_equal(byte, 'z');
	assert_ok(close(fd));
	assert_int_equal(strtoll(run("stat -c %%s k"), NULL, 10), size);
}

static void blocks_tell_what_a_file_takes(void **state)
{
	uint8_t *bytes = malloc(LARGE);
	int fd;

	(void)state;
	only_cubby();
	fd = open_large(bytes, O_RDWR);
	assert_true(keeps("k", LARGE));
	assert_ok(ftruncate(fd, 100ll * MIB));
	assert_true(keeps("k", LARGE));		/* seen before it is published, and then */
	assert_ok(fsync(fd));
	assert_true(keeps("k", LARGE));
	assert_int_equal(pwrite(fd, bytes, 5000, 50ll * MIB + 3000), 5000);
	assert_ok(fsync(fd));
	assert_true(keeps("k", LARGE + 5000));
	assert_ok(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, MIB));
	assert_ok(fsync(fd));
	assert_true(keeps("k", LARGE + 5000 - MIB));
	assert_ok(ftruncate(fd, 2 * MIB));
	assert_ok(close(fd));
	assert_true(keeps("k", MIB));
	mount_again();
	assert_true(keeps("k", MIB));
	run("cp --sparse=always k sparse; cp --sparse=never k full");
	assert_in_range(bytes_kept("sparse"), 1, MIB);
	assert_int_equal(bytes_kept("full"), 2 * MIB);
	run("cmp k sparse && cmp k full");
	put("small", "text");
	assert_int_equal(bytes_kept("small"), 512);
	free(bytes);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, mount_begin, mount_end)
	const struct CMUnitTest tests[] = {
		TEST(lines_that_were_synced_survive_a_kill),
		TEST(small_changes_are_there_as_they_were_synced),
		TEST(what_was_cut_off_comes_back_as_zeros),
		TEST(a_file_of_gigabytes_is_cut_and_grows_again_at_once),
		TEST(blocks_tell_what_a_file_takes),
	};

	return cmocka_run_group_tests_name("large", tests, NULL, NULL);
}

/* What a value holds: written in pieces, cut, grown, mapped, and large. */
#include "mount/mount.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static int64_t size_of(const char *name)
{
	struct stat st;

	assert_ok(stat(name, &st));
	return st.st_size;
}

static void truncation_cuts_and_grows_with_zeros(void **state)
{
	const char grown[10] = "abc";

	(void)state;
	put("k", "abcdef");
	assert_ok(truncate("k", 3));
	assert_string_equal(get("k"), "abc");
	assert_ok(truncate("k", 10));
	assert_true(holds("k", grown, 10));
	mount_again();
	assert_true(holds("k", grown, 10));
	assert_ok(truncate("k", 0));
	assert_int_equal(size_of("k"), 0);
}

static void an_open_file_can_be_truncated_and_written_again(void **state)
{
	int fd;

	(void)state;
	put("k", "0123456789");
	fd = open("k", O_RDWR);
	assert_ok(fd);
	assert_ok(ftruncate(fd, 4));
	assert_int_equal(size_of("k"), 4);
	assert_int_equal(pwrite(fd, "XY", 2, 6), 2);
	assert_ok(close(fd));
	assert_true(holds("k", "0123\0\0XY", 8));
}

static void a_hole_reads_as_zeros(void **state)
{
	const off_t far = (off_t)1 << 33;
	char byte = 1;
	int fd;

	(void)state;
	fd = open("k", O_RDWR | O_CREAT, 0644);
	assert_ok(fd);
	assert_int_equal(pwrite(fd, "end", 3, far), 3);
	assert_int_equal(pread(fd, &byte, 1, far / 2), 1);
	assert_int_equal(byte, 0);
	assert_ok(close(fd));
	mount_again();
	assert_int_equal(size_of("k"), far + 3);
	assert_string_equal(run("tail -c 3 k"), "end");
	assert_string_equal(run("head -c 100000 k | tr -d '\\0' | wc -c"), "0");
}

static void appending_writers_never_overwrite_each_other(void **state)
{
	int a, b;

	(void)state;
	a = open("k", O_WRONLY | O_CREAT | O_APPEND, 0644);
	b = open("k", O_WRONLY | O_APPEND);
	assert_ok(a);
	assert_ok(b);
	for (int i = 0; i < 100; i++) {
		assert_int_equal(write(a, "aa\n", 3), 3);
		assert_int_equal(write(b, "bb\n", 3), 3);
	}
	assert_ok(close(a));
	assert_ok(close(b));
	assert_string_equal(run("grep -cx aa k; grep -cx bb k; wc -c < k"), "100\n100\n600");
}

/* Writes the same pieces to memory and to the file; both must agree all along. */
static void random_writes_and_cuts_leave_what_memory_would(void **state)
{
	enum { SIZE = 400000, STEPS = 600 };
	static uint8_t model[SIZE], piece[50000];
	uint64_t seed = 7;
	size_t size = 0;
	int fd;

	(void)state;
	fd = open("k", O_RDWR | O_CREAT, 0644);
	assert_ok(fd);
	for (int i = 0; i < STEPS; i++) {
		const size_t length = random_next(&seed) % (i % 4 ? 300 : sizeof(piece)) + 1;
		const size_t offset = random_next(&seed) % (SIZE - length);

		if (i % 50 == 49) {
			assert_ok(ftruncate(fd, (off_t)offset));
			memset(model + offset, 0, SIZE - offset);
			size = offset;
			continue;
		}
		random_fill(piece, length, seed);
		assert_int_equal(pwrite(fd, piece, length, (off_t)offset), length);
		memcpy(model + offset, piece, length);
		size = size < offset + length ? offset + length : size;
		if (i % 40 == 0)
			assert_ok(fsync(fd));
		if (i % 30 == 0)
			assert_true(holds("k", model, size));
	}
	assert_ok(close(fd));
	assert_true(holds("k", model, size));
	mount_again();
	assert_true(holds("k", model, size));
}

static void a_mapping_is_written_back_and_others_see_it(void **state)
{
	char *map;
	int fd;

	(void)state;
	run("head -c 20000 /dev/zero | tr '\\0' . > k");
	fd = open("k", O_RDWR);
	assert_ok(fd);
	map = mmap(NULL, 20000, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(map, MAP_FAILED);
	assert_memory_equal(map + 19998, "..", 2);
	memcpy(map + 9000, "mapped", 6);
	assert_ok(msync(map, 20000, MS_SYNC));
	assert_string_equal(run("tail -c +9001 k | head -c 6"), "mapped");
	memcpy(map, "later", 5);
	assert_ok(munmap(map, 20000));
	assert_ok(close(fd));
	assert_string_equal(run("head -c 5 k"), "later");
	mount_again();
	assert_string_equal(run("head -c 5 k; tail -c +9001 k | head -c 6; wc -c < k"),
			    "latermapped20000");
}

static void programs_run_from_the_mount(void **state)
{
	(void)state;
	run("cp /bin/ls ls; chmod +x ls; ./ls ls");
	run("printf '#!/bin/sh\\necho script\\n' > s; chmod +x s");
	assert_string_equal(run("./s"), "script");
}

static void a_value_of_many_chunks_survives_partial_overwrite(void **state)
{
	enum { SIZE = 3 * 1024 * 1024 + 17 };
	uint8_t *bytes = test_malloc(SIZE);
	int fd;

	(void)state;
	random_fill(bytes, SIZE, 1);
	put_bytes("k", bytes, SIZE);
	assert_true(holds("k", bytes, SIZE));
	random_fill(bytes + 65536 - 10, 20, 2);
	random_fill(bytes + 2000000, 100000, 3);
	fd = open("k", O_WRONLY);
	assert_ok(fd);
	assert_int_equal(pwrite(fd, bytes + 65536 - 10, 20, 65536 - 10), 20);
	assert_int_equal(pwrite(fd, bytes + 2000000, 100000, 2000000), 100000);
	assert_ok(close(fd));
	assert_true(holds("k", bytes, SIZE));
	mount_again();
	assert_true(holds("k", bytes, SIZE));
	test_free(bytes);
}

static void a_copy_of_a_large_value_is_the_same(void **state)
{
	(void)state;
	run("head -c 100M /dev/urandom > %s/big; cp %s/big big; cmp %s/big big", base_path(),
	    base_path(), base_path());
	mount_again();
	run("cmp %s/big big; cp big copy; cmp big copy; rm big; cmp %s/big copy", base_path(),
	    base_path());
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, mount_begin, mount_end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(truncation_cuts_and_grows_with_zeros),
		TEST(an_open_file_can_be_truncated_and_written_again),
		TEST(a_hole_reads_as_zeros),
		TEST(appending_writers_never_overwrite_each_other),
		TEST(random_writes_and_cuts_leave_what_memory_would),
		TEST(a_mapping_is_written_back_and_others_see_it),
		TEST(programs_run_from_the_mount),
		TEST(a_value_of_many_chunks_survives_partial_overwrite),
		TEST(a_copy_of_a_large_value_is_the_same),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

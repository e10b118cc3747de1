/* Parts of a file as a whole: allocated, punched, found, copied inside the mount,
 * sent and spliced. */
#include "mount/mount.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum { CHUNK = 64 * 1024 };

static int open_new(const char *name)
{
	const int fd = open(name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	assert_ok(fd);
	return fd;
}

static void fill(int fd, off_t offset, size_t size, int byte)
{
	char *bytes = test_malloc(size);

	memset(bytes, byte, size);
	assert_int_equal(pwrite(fd, bytes, size, offset), size);
	test_free(bytes);
}

static bool all(int fd, off_t offset, size_t size, int byte)
{
	char *bytes = test_malloc(size);
	bool ok = pread(fd, bytes, size, offset) == (ssize_t)size;

	for (size_t i = 0; i < size && ok; i++)
		ok = bytes[i] == (char)byte;
	test_free(bytes);
	return ok;
}

static int64_t size_of(int fd)
{
	struct stat st;

	assert_ok(fstat(fd, &st));
	return st.st_size;
}

/* ---- allocating ---------------------------------------------------------------------------- */

static void allocating_grows_unless_told_otherwise(void **state)
{
	int fd;

	(void)state;
	fd = open_new("k");
	fill(fd, 0, 10, 'a');
	assert_ok(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 100000));
	assert_int_equal(size_of(fd), 10);
	assert_ok(fallocate(fd, 0, 5, 3));
	assert_int_equal(size_of(fd), 10);
	assert_ok(fallocate(fd, 0, 1000, 200000));
	assert_int_equal(size_of(fd), 201000);
	assert_true(all(fd, 0, 10, 'a'));
	assert_true(all(fd, 10, 200990, 0));
	assert_int_equal(posix_fallocate(fd, 0, 300000), 0);
	assert_ok(close(fd));
	mount_again();
	fd = open("k", O_RDONLY);
	assert_int_equal(size_of(fd), 300000);
	assert_true(all(fd, 10, 299990, 0));
	assert_ok(close(fd));
}

static void a_punched_hole_reads_as_zeros(void **state)
{
	const int punch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
	int fd;

	(void)state;
	fd = open_new("k");
	fill(fd, 0, 10 * CHUNK + 100, 'a');
	assert_ok(fsync(fd));
	assert_true(all(fd, 0, 10 * CHUNK, 'a'));
	assert_ok(fallocate(fd, punch, CHUNK + 10, 3 * CHUNK));
	assert_ok(fallocate(fd, punch, 10 * CHUNK + 50, 1 << 20));
	for (int i = 0; i < 2; i++) {
		assert_int_equal(size_of(fd), 10 * CHUNK + 100);
		assert_true(all(fd, 0, CHUNK + 10, 'a'));
		assert_true(all(fd, CHUNK + 10, 3 * CHUNK, 0));
		assert_true(all(fd, 4 * CHUNK + 10, 6 * CHUNK + 40, 'a'));
		assert_true(all(fd, 10 * CHUNK + 50, 50, 0));
		assert_ok(close(fd));
		mount_again();
		fd = open("k", O_RDONLY);
	}
	assert_ok(close(fd));
}

static void a_zeroed_range_may_reach_beyond_the_end(void **state)
{
	int fd;

	(void)state;
	fd = open_new("k");
	fill(fd, 0, 2 * CHUNK, 'a');
	assert_ok(fallocate(fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, 100, 4 * CHUNK));
	assert_int_equal(size_of(fd), 2 * CHUNK);
	assert_true(all(fd, 0, 100, 'a'));
	assert_true(all(fd, 100, 2 * CHUNK - 100, 0));
	fill(fd, 0, 2 * CHUNK, 'b');
	assert_ok(fallocate(fd, FALLOC_FL_ZERO_RANGE, CHUNK, 4 * CHUNK));
	assert_int_equal(size_of(fd), 5 * CHUNK);
	assert_true(all(fd, 0, CHUNK, 'b'));
	assert_true(all(fd, CHUNK, 4 * CHUNK, 0));
	assert_ok(close(fd));
}

static void what_cannot_be_allocated_is_refused(void **state)
{
	int fd;

	(void)state;
	fd = open_new("k");
	assert_errno(fallocate(fd, 0, 0, 0), EINVAL);
	assert_errno(fallocate(fd, 0, -1, 10), EINVAL);
	assert_errno(fallocate(fd, FALLOC_FL_PUNCH_HOLE, 0, 10), EOPNOTSUPP);
	assert_ok(close(fd));
	fd = open("k", O_RDONLY);
	assert_errno(fallocate(fd, 0, 0, 10), EBADF);
	assert_ok(close(fd));
	fd = open(".", O_RDONLY | O_DIRECTORY);
	assert_errno(fallocate(fd, 0, 0, 10), EBADF);
	assert_ok(close(fd));
}

/* Not on a plain folder: there it would fill the disk first. */
static void more_than_is_free_is_not_allocated(void **state)
{
	struct statvfs st;
	int fd;

	(void)state;
	only_cubby();
	fd = open_new("k");
	assert_ok(fstatvfs(fd, &st));
	assert_errno(fallocate(fd, 0, 0, (off_t)(2 * st.f_blocks * st.f_frsize)), ENOSPC);
	assert_errno(fallocate(fd, 0, (off_t)1 << 50, 1), EFBIG);
	assert_int_equal(size_of(fd), 0);
	assert_ok(close(fd));
}

static void ranges_are_neither_collapsed_nor_inserted(void **state)
{
	int fd;

	(void)state;
	only_cubby();
	fd = open_new("k");
	fill(fd, 0, 3 * CHUNK, 'a');
	assert_errno(fallocate(fd, FALLOC_FL_COLLAPSE_RANGE, 0, CHUNK), EOPNOTSUPP);
	assert_errno(fallocate(fd, FALLOC_FL_INSERT_RANGE, 0, CHUNK), EOPNOTSUPP);
	assert_ok(close(fd));
}

/* The value as it was published stays until the change is. */
static void a_hole_is_published_as_a_new_version(void **state)
{
	int fd;

	(void)state;
	only_cubby();
	fd = open_new("k");
	fill(fd, 0, 4 * CHUNK, 'a');
	assert_ok(fsync(fd));
	assert_int_equal(version("k"), 1);
	assert_ok(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 2 * CHUNK));
	assert_int_equal(version("k"), 1);
	mount_kill();
	close(fd);
	mount_start(NULL);
	fd = open("k", O_RDWR);
	assert_true(all(fd, 0, 4 * CHUNK, 'a'));
	assert_ok(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 2 * CHUNK));
	assert_ok(close(fd));
	assert_int_equal(version("k"), 2);
	mount_kill();
	mount_start(NULL);
	fd = open("k", O_RDONLY);
	assert_true(all(fd, 0, 2 * CHUNK, 0));
	assert_true(all(fd, 2 * CHUNK, 2 * CHUNK, 'a'));
	assert_ok(close(fd));
}

static void an_unlinked_file_can_be_punched(void **state)
{
	int fd;

	(void)state;
	fd = open_new("k");
	fill(fd, 0, 4 * CHUNK, 'a');
	assert_ok(unlink("k"));
	assert_ok(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, CHUNK, CHUNK));
	assert_true(all(fd, CHUNK, CHUNK, 0));
	assert_int_equal(lseek(fd, 0, SEEK_HOLE), CHUNK);
	assert_ok(fallocate(fd, 0, 0, 8 * CHUNK));
	assert_int_equal(size_of(fd), 8 * CHUNK);
	assert_ok(close(fd));
}

/* ---- finding ------------------------------------------------------------------------------- */

static void holes_and_data_are_found_where_they_are(void **state)
{
	int fd;

	(void)state;
	fd = open_new("k");
	fill(fd, 2 * CHUNK, CHUNK, 'a');
	fill(fd, 8 * CHUNK, 2 * CHUNK, 'b');
	assert_ok(ftruncate(fd, 20 * CHUNK));
	for (int i = 0; i < 3; i++) {
		assert_int_equal(lseek(fd, 0, SEEK_HOLE), 0);
		assert_int_equal(lseek(fd, 0, SEEK_DATA), 2 * CHUNK);
		assert_int_equal(lseek(fd, 2 * CHUNK + 5, SEEK_DATA), 2 * CHUNK + 5);
		assert_int_equal(lseek(fd, 2 * CHUNK + 5, SEEK_HOLE), 3 * CHUNK);
		assert_int_equal(lseek(fd, 3 * CHUNK, SEEK_DATA), 8 * CHUNK);
		assert_int_equal(lseek(fd, 9 * CHUNK, SEEK_HOLE), 10 * CHUNK);
		assert_errno(lseek(fd, 10 * CHUNK, SEEK_DATA), ENXIO);
		assert_int_equal(lseek(fd, 10 * CHUNK, SEEK_HOLE), 10 * CHUNK);
		assert_errno(lseek(fd, 20 * CHUNK, SEEK_HOLE), ENXIO);
		assert_errno(lseek(fd, 20 * CHUNK, SEEK_DATA), ENXIO);
		assert_int_equal(lseek(fd, 0, SEEK_END), 20 * CHUNK);
		if (i == 1) {
			assert_ok(close(fd));
			mount_again();
			fd = open("k", O_RDONLY);
		} else {
			fsync(fd);
		}
	}
	assert_ok(close(fd));
}

static void a_file_without_holes_has_one_at_its_end(void **state)
{
	int fd;

	(void)state;
	put("k", "small");
	fd = open("k", O_RDONLY);
	assert_int_equal(lseek(fd, 1, SEEK_DATA), 1);
	assert_int_equal(lseek(fd, 1, SEEK_HOLE), 5);
	assert_errno(lseek(fd, 5, SEEK_DATA), ENXIO);
	assert_errno(lseek(fd, -1, SEEK_DATA), ENXIO);
	assert_ok(close(fd));
}

static void sparse_copies_and_archives_come_out_the_same(void **state)
{
	(void)state;
	run("truncate -s 40M s; printf middle | "
	    "dd of=s bs=1 seek=20000000 conv=notrunc status=none");
	run("cp --sparse=always s c; cmp s c; tar -cSf t.tar s; mkdir out; tar -xSf t.tar -C out");
	run("cmp s out/s; rsync --sparse s r; cmp s r; test $(stat -c %%s t.tar) -lt 1000000");
	run("dd if=s of=d conv=sparse bs=64K status=none; cmp s d");
}

/* ---- copying ------------------------------------------------------------------------------- */

static void a_range_is_copied_inside_the_mount(void **state)
{
	enum { SIZE = 300000 };
	char *bytes = test_malloc(SIZE + 50000);
	loff_t from = 1000, to = 50000;
	int a, b;

	(void)state;
	random_fill(bytes, SIZE, 1);
	put_bytes("a", bytes, SIZE);
	a = open("a", O_RDWR);
	b = open_new("b");
	fill(a, 2000, 100, 'x');	/* staged, and seen by the copy */
	memset(bytes + 2000, 'x', 100);
	assert_int_equal(copy_file_range(a, &from, b, &to, SIZE, 0), SIZE - 1000);
	assert_int_equal(from, SIZE);
	assert_int_equal(to, SIZE + 49000);
	assert_int_equal(copy_file_range(a, &from, b, &to, SIZE, 0), 0);
	assert_true(all(b, 0, 50000, 0));
	from = 0;
	to = SIZE;
	assert_int_equal(copy_file_range(a, &from, a, &to, 5000, 0), 5000);
	from = 10;
	to = 20;
	assert_errno(copy_file_range(a, &from, a, &to, 500, 0), EINVAL);
	assert_ok(close(a));
	assert_ok(close(b));
	mount_again();
	run("cmp <(tail -c +1001 a | head -c 299000) <(tail -c +50001 b)");
	run("cmp <(head -c 5000 a) <(tail -c 5000 a)");
	test_free(bytes);
}

/* More than one request copies. */
static void a_large_copy_is_whole(void **state)
{
	loff_t from = 0, to = 0;
	size_t done = 0;
	int a, b;

	(void)state;
	run("head -c 150000000 /dev/urandom > a");
	a = open("a", O_RDONLY);
	b = open_new("b");
	while (done < 150000000) {
		const ssize_t n = copy_file_range(a, &from, b, &to, 150000000 - done, 0);

		assert_true(n > 0);
		done += (size_t)n;
	}
	assert_ok(close(a));
	assert_ok(close(b));
	run("cmp a b");
}

/* Between two kinds of filesystem the kernel leaves it to the program. */
static void copies_from_elsewhere_are_left_to_the_program(void **state)
{
	char path[4200];
	int in, out;

	(void)state;
	only_cubby();
	snprintf(path, sizeof(path), "%s/elsewhere", base_path());
	put(path, "from elsewhere");
	in = open(path, O_RDONLY);
	out = open_new("k");
	assert_errno(copy_file_range(in, NULL, out, NULL, 100, 0), EXDEV);
	assert_ok(close(in));
	assert_ok(close(out));
	run("cp %s k; cmp %s k; cp k %s; cmp %s k", path, path, path, path);
}

static void sendfile_and_splice_move_what_is_there(void **state)
{
	enum { SIZE = 200000 };
	char *bytes = test_malloc(SIZE);
	int in, out, pipes[2];
	off_t offset = 0;
	size_t done = 0;

	(void)state;
	random_fill(bytes, SIZE, 2);
	put_bytes("a", bytes, SIZE);
	in = open("a", O_RDONLY);
	out = open("b", O_WRONLY | O_CREAT, 0644);
	while (offset < SIZE)
		assert_true(sendfile(out, in, &offset, (size_t)(SIZE - offset)) > 0);
	assert_ok(close(out));
	assert_true(holds("b", bytes, SIZE));

	assert_ok(pipe(pipes));
	assert_ok(lseek(in, 0, SEEK_SET));
	out = open("c", O_WRONLY | O_CREAT, 0644);
	while (done < SIZE) {
		const ssize_t n = splice(in, NULL, pipes[1], NULL, 65536, 0);

		assert_true(n > 0);
		for (ssize_t left = n; left > 0;) {
			const ssize_t moved = splice(pipes[0], NULL, out, NULL, (size_t)left, 0);

			assert_true(moved > 0);
			left -= moved;
		}
		done += (size_t)n;
	}
	assert_ok(close(out));
	assert_true(holds("c", bytes, SIZE));
	assert_ok(close(in));
	assert_ok(close(pipes[0]));
	assert_ok(close(pipes[1]));
	mount_again();
	assert_true(holds("b", bytes, SIZE));
	assert_true(holds("c", bytes, SIZE));
	test_free(bytes);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, mount_begin, mount_end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(allocating_grows_unless_told_otherwise),
		TEST(a_punched_hole_reads_as_zeros),
		TEST(a_zeroed_range_may_reach_beyond_the_end),
		TEST(what_cannot_be_allocated_is_refused),
		TEST(more_than_is_free_is_not_allocated),
		TEST(ranges_are_neither_collapsed_nor_inserted),
		TEST(a_hole_is_published_as_a_new_version),
		TEST(an_unlinked_file_can_be_punched),
		TEST(holes_and_data_are_found_where_they_are),
		TEST(a_file_without_holes_has_one_at_its_end),
		TEST(sparse_copies_and_archives_come_out_the_same),
		TEST(a_range_is_copied_inside_the_mount),
		TEST(a_large_copy_is_whole),
		TEST(copies_from_elsewhere_are_left_to_the_program),
		TEST(sendfile_and_splice_move_what_is_there),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

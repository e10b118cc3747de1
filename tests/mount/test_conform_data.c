/* read, write, seek, truncate, map, copy, sync: bytes, and every way not to get them. */
#include "mount/conform.h"

#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

enum { USER = 12345, GROUP = 23456, PAGE = 4096 };

static int open_with(const char *name, const char *text, int flags)
{
	int fd;

	put(name, text);
	fd = open(name, flags);
	assert_ok(fd);
	return fd;
}

static off_t size_of(int fd)
{
	struct stat st;

	assert_ok(fstat(fd, &st));
	return st.st_size;
}

/* ---- reading and writing -------------------------------------------------------------------- */

static void a_handle_does_only_what_it_was_opened_for(void **state)
{
	char byte = 'x';
	int fd;

	(void)state;
	fd = open_with("f", "hello", O_WRONLY);
	assert_errno(read(fd, &byte, 1), EBADF);
	assert_errno(pread(fd, &byte, 1, 0), EBADF);
	assert_ok(close(fd));
	fd = open("f", O_RDONLY);
	assert_errno(write(fd, &byte, 1), EBADF);
	assert_errno(pwrite(fd, &byte, 1, 0), EBADF);
	assert_errno(ftruncate(fd, 0), EINVAL);
	assert_ok(close(fd));
	fd = open(".", O_RDONLY);
	assert_errno(read(fd, &byte, 1), EISDIR);
	assert_errno(write(fd, &byte, 1), EBADF);
	assert_errno(ftruncate(fd, 0), EINVAL);
	assert_ok(fsync(fd));
	assert_ok(fdatasync(fd));
	assert_ok(close(fd));
}

static void places_and_sizes_that_cannot_be(void **state)
{
	char byte = 'x';
	struct iovec v = { &byte, 1 };
	int fd;

	(void)state;
	fd = open_with("f", "hello", O_RDWR);
	assert_errno(pread(fd, &byte, 1, -1), EINVAL);
	assert_errno(pwrite(fd, &byte, 1, -1), EINVAL);
	assert_errno(preadv(fd, &v, 1, -2), EINVAL);
	/* By syscall(2): compilers know better than to ask for these. */
	assert_errno(syscall(SYS_readv, fd, &v, -1), EINVAL);
	assert_errno(syscall(SYS_writev, fd, &v, IOV_MAX + 1), EINVAL);
	assert_errno(syscall(SYS_read, fd, 16, 1), EFAULT);
	assert_errno(syscall(SYS_write, fd, 16, 1), EFAULT);
	assert_int_equal(writev(fd, &v, 0), 0);
	assert_errno(ftruncate(fd, -1), EINVAL);
	assert_errno(truncate("f", -1), EINVAL);
	assert_int_equal(size_of(fd), 5);
	assert_errno(truncate("gone", 0), ENOENT);
	assert_errno(truncate(".", 0), EISDIR);
	assert_ok(mkfifo("p", 0644));
	assert_errno(truncate("p", 0), EINVAL);
	assert_ok(close(fd));
}

static void reading_ends_at_the_end(void **state)
{
	char bytes[16];
	int fd;

	(void)state;
	fd = open_with("f", "hello", O_RDWR);
	assert_all(read(fd, bytes, sizeof(bytes)), 5);
	assert_all(read(fd, bytes, sizeof(bytes)), 0);
	assert_all(pread(fd, bytes, sizeof(bytes), 3), 2);
	assert_all(pread(fd, bytes, sizeof(bytes), 5), 0);
	assert_all(pread(fd, bytes, sizeof(bytes), (off_t)1 << 60), 0);
	assert_all(pread(fd, bytes, 0, 0), 0);
	assert_ok(close(fd));
}

static void seeking_goes_anywhere_but_before_the_start(void **state)
{
	int fd;

	(void)state;
	fd = open_with("f", "hello", O_RDWR);
	assert_int_equal(lseek(fd, 0, SEEK_END), 5);
	assert_int_equal(lseek(fd, -5, SEEK_END), 0);
	assert_errno(lseek(fd, -6, SEEK_END), EINVAL);
	assert_errno(lseek(fd, -1, SEEK_SET), EINVAL);
	assert_errno(lseek(fd, -1, SEEK_CUR), EINVAL);
	assert_errno(lseek(fd, 0, 99), EINVAL);
	assert_int_equal(lseek(fd, 100, SEEK_SET), 100);
	assert_int_equal(size_of(fd), 5);
	assert_all(write(fd, "x", 1), 1);
	assert_int_equal(size_of(fd), 101);
	assert_int_equal(lseek(fd, 0, SEEK_CUR), 101);
	assert_ok(close(fd));
	assert_ok(mkfifo("p", 0644));
	fd = open("p", O_RDWR);
	assert_errno(lseek(fd, 0, SEEK_SET), ESPIPE);
	assert_errno(pread(fd, &fd, 1, 0), ESPIPE);
	assert_ok(close(fd));
}

static void the_gap_reads_as_zeros(void **state)
{
	static char bytes[3 * PAGE];
	int fd;

	(void)state;
	fd = open_with("f", "hello", O_RDWR);
	assert_all(pwrite(fd, "x", 1, 2 * PAGE + 7), 1);
	memset(bytes, 1, sizeof(bytes));
	assert_all(pread(fd, bytes, sizeof(bytes), 0), 2 * PAGE + 8);
	assert_memory_equal(bytes, "hello\0\0", 7);
	for (int i = 5; i < 2 * PAGE + 7; i++)
		assert_int_equal(bytes[i], 0);
	assert_ok(ftruncate(fd, 3));
	assert_ok(ftruncate(fd, 6));
	assert_all(pread(fd, bytes, sizeof(bytes), 0), 6);
	assert_memory_equal(bytes, "hel\0\0\0", 6);
	assert_ok(close(fd));
	assert_ok(truncate("f", (off_t)1 << 40));
	assert_int_equal(stat_of("f").st_size, (off_t)1 << 40);
	assert_in_range(stat_of("f").st_blocks, 1, 100);
}

/* What is seen is what was written, whoever looks, and at once. */
static void every_view_agrees(void **state)
{
	char bytes[32];
	int a, b;

	(void)state;
	a = open_with("f", "0123456789", O_RDWR);
	b = open("f", O_RDWR);
	assert_all(pwrite(a, "AB", 2, 2), 2);
	assert_all(pread(b, bytes, sizeof(bytes), 0), 10);
	assert_memory_equal(bytes, "01AB456789", 10);
	assert_all(pwrite(b, "XYZ", 3, 9), 3);
	assert_int_equal(size_of(a), 12);
	assert_int_equal(stat_of("f").st_size, 12);
	assert_all(pread(a, bytes, sizeof(bytes), 8), 4);
	assert_memory_equal(bytes, "8XYZ", 4);
	assert_ok(ftruncate(a, 1));
	assert_all(pread(b, bytes, sizeof(bytes), 0), 1);
	assert_string_equal(get("f"), "0");
	put("f", "replaced");
	assert_all(pread(b, bytes, sizeof(bytes), 0), 8);
	assert_memory_equal(bytes, "replaced", 8);
	assert_ok(close(a));
	assert_ok(close(b));
}

static void appending_goes_to_the_end_as_it_is_then(void **state)
{
	int a, b;

	(void)state;
	a = open_with("f", "", O_WRONLY | O_APPEND);
	b = open("f", O_WRONLY | O_APPEND);
	assert_all(write(a, "one ", 4), 4);
	assert_all(write(b, "two ", 4), 4);
	assert_all(write(a, "three", 5), 5);
	assert_int_equal(lseek(a, 0, SEEK_CUR), 13);
	assert_ok(ftruncate(b, 2));
	assert_all(write(a, "!", 1), 1);
	assert_int_equal(lseek(a, 0, SEEK_CUR), 3);
	assert_string_equal(get("f"), "on!");
	assert_ok(close(a));
	assert_ok(close(b));
}

static void vectors_are_written_and_read_in_order(void **state)
{
	char a[3], b[4], c[9];
	char one[] = "one", two[] = "two+", three[] = "three";
	struct iovec out[] = { { one, 3 }, { one, 0 }, { two, 4 }, { three, 5 } };
	struct iovec in[] = { { a, 3 }, { b, 4 }, { c, 9 } };
	int fd;

	(void)state;
	fd = open_with("f", "", O_RDWR);
	assert_all(writev(fd, out, 4), 12);
	assert_all(preadv(fd, in, 3, 0), 12);
	assert_memory_equal(a, "one", 3);
	assert_memory_equal(b, "two+", 4);
	assert_memory_equal(c, "three", 5);
	assert_all(pwritev(fd, out, 1, 7), 3);
	assert_string_equal(get("f"), "onetwo+oneee");
	assert_all(pwritev2(fd, out, 1, -1, RWF_APPEND), 3);
	assert_string_equal(get("f"), "onetwo+oneeeone");
	assert_errno(pwritev2(fd, out, 1, 0, 1 << 20), EOPNOTSUPP);
	assert_ok(close(fd));
}

/* The limit on a file's size: the signal first, then the error; what fits below it is written. */
static void beyond_the_limit_is_efbig(void **state)
{
	struct rlimit limit, less;
	char bytes[16] = "0123456789abcdef";
	int fd;

	(void)state;
	fd = open_with("f", "", O_RDWR);
	assert_ok(getrlimit(RLIMIT_FSIZE, &limit));
	less = limit;
	less.rlim_cur = 10;
	signal(SIGXFSZ, SIG_IGN);
	assert_ok(setrlimit(RLIMIT_FSIZE, &less));
	assert_all(write(fd, bytes, 16), 10);
	assert_errno(write(fd, bytes, 1), EFBIG);
	assert_errno(pwrite(fd, bytes, 1, 100), EFBIG);
	assert_errno(ftruncate(fd, 11), EFBIG);
	assert_errno(truncate("f", 11), EFBIG);
	assert_ok(ftruncate(fd, 3));
	assert_ok(setrlimit(RLIMIT_FSIZE, &limit));
	signal(SIGXFSZ, SIG_DFL);
	assert_int_equal(size_of(fd), 3);
	assert_ok(close(fd));
}

static void beyond_what_a_file_can_be_is_efbig(void **state)
{
	int fd;

	(void)state;
	fd = open_with("f", "hello", O_RDWR);
	assert_errno(ftruncate(fd, LLONG_MAX), EFBIG);
	assert_errno(truncate("f", LLONG_MAX - PAGE), EFBIG);
	assert_errno(pwrite(fd, "x", 1, LLONG_MAX - 1), EFBIG);
	assert_int_equal(size_of(fd), 5);
	assert_string_equal(get("f"), "hello");
	assert_ok(close(fd));
}

static void truncating_wants_the_right_to_write(void **state)
{
	(void)state;
	only_root();
	put("f", "hello");
	assert_ok(chmod("f", 0444));
	become(USER, GROUP);
	assert_errno(truncate("f", 0), EACCES);
	assert_errno(truncate("gone", 0), ENOENT);
	become_root();
	assert_ok(truncate("f", 0));
}

/* ---- mapping -------------------------------------------------------------------------------- */

static char *map(int fd, size_t size, int protection, int flags)
{
	char *at = mmap(NULL, size, protection, flags, fd, 0);

	return at == MAP_FAILED ? NULL : at;
}

static void a_shared_mapping_is_the_file(void **state)
{
	char bytes[PAGE], *at, *other;
	int fd, again;

	(void)state;
	fd = open_with("f", "hello", O_RDWR);
	assert_ok(ftruncate(fd, 2 * PAGE));
	at = map(fd, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED);
	assert_non_null(at);
	again = open("f", O_RDONLY);
	other = map(again, 2 * PAGE, PROT_READ, MAP_SHARED);
	assert_non_null(other);
	assert_memory_equal(at, "hello", 6);
	memcpy(at, "HELLO", 5);
	at[PAGE] = 'x';
	assert_memory_equal(other, "HELLO", 5);
	assert_all(pread(again, bytes, 5, 0), 5);
	assert_memory_equal(bytes, "HELLO", 5);
	assert_all(pwrite(fd, "written", 7, 10), 7);
	assert_memory_equal(at + 10, "written", 7);
	assert_memory_equal(other + 10, "written", 7);
	assert_ok(msync(at, 2 * PAGE, MS_SYNC));
	assert_ok(munmap(at, 2 * PAGE));
	assert_ok(munmap(other, 2 * PAGE));
	assert_ok(close(fd));
	assert_ok(close(again));
	assert_string_equal(run("tr -d '\\0' < f"), "HELLOwrittenx");
}

/* Writing by a handle that may only write, while others have it mapped. */
static void a_mapping_sees_what_a_writer_writes(void **state)
{
	char *at;
	int reader, writer;

	(void)state;
	reader = open_with("f", "0123456789", O_RDONLY);
	writer = open("f", O_WRONLY);
	at = map(reader, PAGE, PROT_READ, MAP_SHARED);
	assert_non_null(at);
	assert_int_equal(at[3], '3');
	assert_all(pwrite(writer, "X", 1, 3), 1);
	assert_int_equal(at[3], 'X');
	assert_ok(ftruncate(writer, 2));
	assert_ok(ftruncate(writer, 5));
	assert_int_equal(at[1], '1');
	assert_int_equal(at[3], 0);
	assert_ok(munmap(at, PAGE));
	assert_ok(close(reader));
	assert_ok(close(writer));
}

static void a_private_mapping_is_ones_own(void **state)
{
	char *at;
	int fd;

	(void)state;
	fd = open_with("f", "hello", O_RDONLY);
	at = map(fd, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	assert_non_null(at);
	at[0] = 'J';
	assert_string_equal(get("f"), "hello");
	assert_string_equal(at, "Jello");
	assert_ok(munmap(at, PAGE));
	assert_ok(close(fd));
}

static void mapping_wants_the_right_handle(void **state)
{
	int fd;

	(void)state;
	fd = open_with("f", "hello", O_RDONLY);
	assert_null(map(fd, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED));
	assert_int_equal(errno, EACCES);
	assert_null(map(fd, 0, PROT_READ, MAP_SHARED));
	assert_int_equal(errno, EINVAL);
	assert_ok(close(fd));
	fd = open("f", O_WRONLY);
	assert_null(map(fd, PAGE, PROT_READ, MAP_SHARED));
	assert_int_equal(errno, EACCES);
	assert_null(map(fd, PAGE, PROT_WRITE, MAP_SHARED));
	assert_int_equal(errno, EACCES);
	assert_ok(close(fd));
	fd = open(".", O_RDONLY);
	assert_null(map(fd, PAGE, PROT_READ, MAP_SHARED));
	assert_int_equal(errno, ENODEV);
	assert_ok(close(fd));
}

/* A page beyond the end is a bus error; the rest of the last page is zeros, and stays the file's
 * affair: it is not written. */
static void beyond_the_end_of_a_mapping_is_sigbus(void **state)
{
	char *at;
	int fd, status;
	pid_t child;

	(void)state;
	fd = open_with("f", "hello", O_RDWR);
	at = map(fd, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED);
	assert_non_null(at);
	assert_int_equal(at[5], 0);
	at[100] = 'x';
	child = fork();
	if (child == 0) {
		signal(SIGBUS, SIG_DFL);
		setrlimit(RLIMIT_CORE, &(struct rlimit){ 0, 0 });
		at[PAGE] = 'x';
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
	assert_ok(msync(at, PAGE, MS_SYNC));
	assert_int_equal(size_of(fd), 5);
	assert_ok(munmap(at, 2 * PAGE));
	assert_ok(close(fd));
	assert_string_equal(get("f"), "hello");
}

static void a_mapping_outlives_its_handle_and_its_name(void **state)
{
	char *at;
	int fd;

	(void)state;
	fd = open_with("f", "hello", O_RDWR);
	at = map(fd, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED);
	assert_non_null(at);
	assert_ok(close(fd));
	memcpy(at, "HE", 2);
	assert_string_equal(get("f"), "HEllo");
	assert_ok(unlink("f"));
	memcpy(at, "he", 2);
	assert_ok(msync(at, PAGE, MS_SYNC));
	assert_memory_equal(at, "hello", 5);
	assert_ok(munmap(at, PAGE));

	fd = open_with("f", "mapped", O_RDWR);
	at = map(fd, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED);
	assert_ok(close(fd));
	memcpy(at, "MAP", 3);
	assert_ok(munmap(at, PAGE));	/* nothing but this may write it back */
	assert_string_equal(get("f"), "MAPped");
}

/* ---- copying -------------------------------------------------------------------------------- */

static void sendfile_copies(void **state)
{
	off_t from = 2;
	int in, out;

	(void)state;
	in = open_with("f", "0123456789", O_RDONLY);
	out = open("g", O_RDWR | O_CREAT, 0644);
	assert_all(sendfile(out, in, &from, 5), 5);
	assert_int_equal(from, 7);
	assert_all(sendfile(out, in, NULL, 100), 10);
	assert_string_equal(get("g"), "234560123456789");
	assert_errno(sendfile(in, in, NULL, 1), EBADF);
	assert_ok(close(in));
	assert_ok(close(out));
}

static void copy_file_range_copies(void **state)
{
	loff_t from = 2, to = 12;
	int in, out, dir;

	(void)state;
	in = open_with("f", "0123456789", O_RDWR);
	out = open("g", O_RDWR | O_CREAT, 0644);
	dir = open(".", O_RDONLY);
	assert_all(copy_file_range(in, &from, out, &to, 5, 0), 5);
	assert_int_equal(from, 7);
	assert_int_equal(to, 17);
	assert_string_equal(run("tr '\\0' . < g"), "............23456");
	assert_all(copy_file_range(in, NULL, out, NULL, 100, 0), 10);
	assert_all(copy_file_range(in, NULL, out, NULL, 100, 0), 0);
	assert_errno(copy_file_range(in, NULL, out, NULL, 1, 1), EINVAL);
	assert_errno(copy_file_range(dir, NULL, out, NULL, 1, 0), EISDIR);
	from = 0, to = 3;
	assert_errno(copy_file_range(in, &from, in, &to, 5, 0), EINVAL); /* overlapping */
	to = 5;
	assert_all(copy_file_range(in, &from, in, &to, 5, 0), 5);
	assert_string_equal(get("f"), "0123401234");
	assert_ok(close(out));
	out = open("g", O_RDONLY);
	assert_errno(copy_file_range(in, NULL, out, NULL, 1, 0), EBADF);
	assert_ok(close(out));
	out = open("g", O_WRONLY | O_APPEND);
	assert_errno(copy_file_range(in, NULL, out, NULL, 1, 0), EBADF);
}

static void splice_carries_through_a_pipe(void **state)
{
	int in, out, pipes[2];
	loff_t to = 3;

	(void)state;
	in = open_with("f", "0123456789", O_RDONLY);
	out = open("g", O_RDWR | O_CREAT, 0644);
	assert_ok(pipe(pipes));
	assert_all(splice(in, NULL, pipes[1], NULL, 10, 0), 10);
	assert_all(splice(pipes[0], NULL, out, &to, 10, 0), 10);
	assert_string_equal(run("tr '\\0' . < g"), "...0123456789");
}

/* ---- syncing, direct I/O -------------------------------------------------------------------- */

static void every_kind_of_handle_can_be_synced(void **state)
{
	static const int flags[] = { O_RDONLY, O_WRONLY, O_RDWR, O_RDWR | O_SYNC,
				     O_WRONLY | O_DSYNC | O_APPEND };
	int fd;

	(void)state;
	put("f", "hello");
	for (size_t i = 0; i < sizeof(flags) / sizeof(*flags); i++) {
		fd = open("f", flags[i]);
		assert_ok(fd);
		if ((flags[i] & O_ACCMODE) != O_RDONLY)
			assert_all(write(fd, "x", 1), 1);
		assert_ok(fsync(fd));
		assert_ok(fdatasync(fd));
		assert_ok(syncfs(fd));
		assert_ok(sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE));
		assert_ok(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED));
		assert_ok(close(fd));
	}
	assert_string_equal(get("f"), "xellox");
	assert_ok(mkfifo("p", 0644));
	fd = open("p", O_RDWR);
	assert_errno(fsync(fd), EINVAL);
	assert_ok(close(fd));
}

static void direct_reads_and_writes_agree_with_the_others(void **state)
{
	char *bytes = aligned_alloc(PAGE, 2 * PAGE), two[2] = "";
	int direct, plain;

	(void)state;
	assert_non_null(bytes);
	plain = open_with("f", "", O_RDWR);
	direct = open("f", O_RDWR | O_DIRECT);
	assert_ok(direct);
	memset(bytes, 'd', 2 * PAGE);
	assert_all(pwrite(direct, bytes, 2 * PAGE, 0), 2 * PAGE);
	assert_all(pread(plain, two, 2, PAGE - 1), 2);
	assert_memory_equal(two, "dd", 2);
	assert_all(pwrite(plain, "pp", 2, PAGE - 1), 2);
	assert_all(pread(direct, bytes, 2 * PAGE, 0), 2 * PAGE);
	assert_memory_equal(bytes + PAGE - 2, "dppd", 4);
	assert_all(pread(direct, bytes, 2 * PAGE, PAGE), PAGE);
	if (differs(DIRECT_TAKES_ALL))
		assert_all(pread(direct, bytes + 1, 3, 1), 3);
	else
		assert_errno(pread(direct, bytes + 1, 3, 1), EINVAL);
	assert_ok(close(direct));
	assert_ok(close(plain));
	free(bytes);
}

/* ---- holes ---------------------------------------------------------------------------------- */

enum {
	KEEP = FALLOC_FL_KEEP_SIZE,
	PUNCH = FALLOC_FL_PUNCH_HOLE | KEEP,
	ZERO = FALLOC_FL_ZERO_RANGE,
};

static void fallocate_says_what_is_wrong(void **state)
{
	int fd, reader, pipes[2];

	(void)state;
	fd = open_with("f", "hello", O_RDWR);
	reader = open("f", O_RDONLY);
	assert_errno(fallocate(reader, 0, 0, 1), EBADF);
	assert_errno(fallocate(fd, 0, -1, 1), EINVAL);
	assert_errno(fallocate(fd, 0, 0, 0), EINVAL);
	assert_errno(fallocate(fd, 0, 0, -1), EINVAL);
	assert_errno(fallocate(fd, PUNCH, 0, 0), EINVAL);
	assert_errno(fallocate(fd, FALLOC_FL_PUNCH_HOLE, 0, 1), EOPNOTSUPP); /* wants KEEP_SIZE */
	assert_errno(fallocate(fd, PUNCH | ZERO, 0, 1), EOPNOTSUPP);
	assert_errno(fallocate(fd, 1 << 20, 0, 1), EOPNOTSUPP);
	assert_errno(fallocate(fd, 0, LLONG_MAX, 1), EFBIG);
	assert_errno(fallocate(fd, 0, LLONG_MAX - 10, 5), EFBIG);
	assert_ok(pipe(pipes));
	assert_errno(fallocate(pipes[1], 0, 0, 1), ESPIPE);
	assert_int_equal(size_of(fd), 5);
	assert_string_equal(get("f"), "hello");
	assert_ok(close(fd));
	fd = open(".", O_RDONLY);
	assert_errno(fallocate(fd, 0, 0, 1), EBADF);
}

static void fallocate_grows_keeps_punches_and_zeroes(void **state)
{
	static char bytes[4 * PAGE], expected[4 * PAGE];
	int fd;

	(void)state;
	fd = open_with("f", "", O_RDWR);
	memset(bytes, 'x', sizeof(bytes));
	assert_all(pwrite(fd, bytes, sizeof(bytes), 0), sizeof(bytes));
	memcpy(expected, bytes, sizeof(bytes));
	assert_ok(fallocate(fd, KEEP, 0, 100 * PAGE));
	assert_int_equal(size_of(fd), 4 * PAGE);
	assert_ok(fallocate(fd, PUNCH, PAGE - 10, 20));
	memset(expected + PAGE - 10, 0, 20);
	assert_ok(fallocate(fd, PUNCH, 3 * PAGE, 10 * PAGE));
	memset(expected + 3 * PAGE, 0, PAGE);
	assert_ok(fallocate(fd, ZERO | KEEP, 2 * PAGE, 7));
	memset(expected + 2 * PAGE, 0, 7);
	assert_int_equal(size_of(fd), 4 * PAGE);
	assert_all(pread(fd, bytes, sizeof(bytes), 0), sizeof(bytes));
	assert_memory_equal(bytes, expected, sizeof(bytes));
	assert_ok(fallocate(fd, ZERO, 4 * PAGE - 1, 11));
	assert_int_equal(size_of(fd), 4 * PAGE + 10);
	assert_ok(fallocate(fd, 0, 0, 5 * PAGE));
	assert_int_equal(size_of(fd), 5 * PAGE);
	assert_all(pread(fd, bytes, sizeof(bytes), 0), sizeof(bytes));
	assert_memory_equal(bytes, expected, sizeof(bytes));
	assert_int_equal(posix_fallocate(fd, 0, 6 * PAGE), 0);
	assert_int_equal(size_of(fd), 6 * PAGE);
	assert_ok(close(fd));
}

static void data_and_holes_are_found(void **state)
{
	enum { FAR = 8 << 20 };
	off_t data, hole;
	int fd;

	(void)state;
	fd = open_with("f", "", O_RDWR);
	assert_errno(lseek(fd, 0, SEEK_DATA), ENXIO);
	assert_errno(lseek(fd, 0, SEEK_HOLE), ENXIO);
	assert_all(pwrite(fd, "x", 1, FAR), 1);
	assert_ok(ftruncate(fd, 2 * FAR));
	for (int round = 0; round < 2; round++) {
		data = lseek(fd, 0, SEEK_DATA);
		assert_in_range(data, 1, FAR); /* up to a block before it */
		assert_int_equal(lseek(fd, FAR, SEEK_DATA), FAR);
		assert_int_equal(lseek(fd, 0, SEEK_HOLE), 0);
		hole = lseek(fd, FAR, SEEK_HOLE);
		assert_in_range(hole, FAR + 1, 2 * FAR - 1);
		assert_errno(lseek(fd, hole, SEEK_DATA), ENXIO);
		assert_int_equal(lseek(fd, 2 * FAR - 1, SEEK_HOLE), 2 * FAR - 1);
		assert_errno(lseek(fd, 2 * FAR, SEEK_HOLE), ENXIO);
		assert_errno(lseek(fd, 2 * FAR, SEEK_DATA), ENXIO);
		assert_errno(lseek(fd, -1, SEEK_DATA), ENXIO);
		assert_ok(fsync(fd)); /* and again when it lies in the store */
	}
	assert_ok(close(fd));
	fd = open_with("g", "full", O_RDWR);
	assert_int_equal(lseek(fd, 1, SEEK_DATA), 1);
	assert_int_equal(lseek(fd, 1, SEEK_HOLE), 4);
	assert_ok(close(fd));
}

/* Inside the file and beyond its end, too, where nothing changes. */
static void fallocate_always_moves_the_times(void **state)
{
	static const struct {
		int mode;
		off_t at;
	} ways[] = {
		{ 0, 0 },	  { KEEP, 0 }, { KEEP, 5 }, { PUNCH, 0 }, { PUNCH, 5 },
		{ ZERO | KEEP, 5 }, { ZERO, 0 },
	};
	const int fd = open_with("f", "hello", O_RDWR);

	(void)state;
	for (size_t i = 0; i < sizeof(ways) / sizeof(*ways); i++) {
		const struct stat before = stat_of("f");
		struct stat after;

		wait_for_tick();
		assert_ok(fallocate(fd, ways[i].mode, ways[i].at, 4));
		after = stat_of("f");
		assert_int_equal(after.st_size, 5);
		assert_true(ns_of(after.st_mtim) > ns_of(before.st_mtim));
		assert_true(ns_of(after.st_ctim) > ns_of(before.st_ctim));
	}
	assert_ok(close(fd));
}

/* ---- not waiting ---------------------------------------------------------------------------- */

static void what_is_in_memory_is_read_without_waiting(void **state)
{
	char byte;
	const struct iovec one = { &byte, 1 };
	const int fd = open_with("f", "hello", O_RDWR);

	(void)state;
	assert_all(pread(fd, &byte, 1, 0), 1);
	if (differs(NO_NOWAIT))
		assert_errno(preadv2(fd, &one, 1, 0, RWF_NOWAIT), EOPNOTSUPP);
	else
		assert_all(preadv2(fd, &one, 1, 0, RWF_NOWAIT), 1);
	assert_ok(close(fd));
}

/* ---- the bits that a write takes away ------------------------------------------------------- */

static void writing_takes_setuid_away(void **state)
{
	int fd;

	(void)state;
	only_root();
	put("f", "hello");
	assert_ok(chmod("f", 06777));
	become(USER, GROUP);
	fd = open("f", O_RDWR);
	assert_ok(fd);
	assert_int_equal(stat_of("f").st_mode & 07777, 06777);
	assert_all(write(fd, "x", 1), 1);
	assert_int_equal(stat_of("f").st_mode & 07777, 0777);
	become_root();
	assert_ok(chmod("f", 06777));
	become(USER, GROUP);
	assert_ok(ftruncate(fd, 2));
	assert_int_equal(stat_of("f").st_mode & 07777, 0777);
	become_root();
	assert_ok(chmod("f", 06777));
	become(USER, GROUP);
	assert_ok(truncate("f", 1));
	assert_int_equal(stat_of("f").st_mode & 07777, 0777);
	become_root();
	assert_ok(chmod("f", 06777));
	become(USER, GROUP);
	assert_ok(close(open("f", O_WRONLY | O_TRUNC)));
	assert_int_equal(stat_of("f").st_mode & 07777, 0777);
	/* Without the group's x the other bit means something else, and stays for those
	 * in the group. */
	become_root();
	assert_ok(chown("f", 0, GROUP));
	assert_ok(chmod("f", 06767));
	become(USER, GROUP);
	assert_all(write(fd, "x", 1), 1);
	assert_int_equal(stat_of("f").st_mode & 07777, 02767);
	become_root();
	assert_ok(chmod("f", 06767));
	become(USER, USER);
	assert_all(write(fd, "x", 1), 1);
	assert_int_equal(stat_of("f").st_mode & 07777, 0767);
	/* What is refused changes nothing. */
	become_root();
	assert_ok(chmod("f", 06777));
	become(USER, GROUP);
	assert_errno(ftruncate(fd, LLONG_MAX), EFBIG);
	assert_errno(truncate("f", LLONG_MAX), EFBIG);
	assert_int_equal(stat_of("f").st_mode & 07777, 06777);
	/* Root may. */
	become_root();
	assert_ok(chmod("f", 06777));
	assert_all(write(fd, "x", 1), 1);
	assert_int_equal(stat_of("f").st_mode & 07777, 06777);
	assert_ok(close(fd));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		CONFORM(a_handle_does_only_what_it_was_opened_for),
		CONFORM(places_and_sizes_that_cannot_be),
		CONFORM(reading_ends_at_the_end),
		CONFORM(seeking_goes_anywhere_but_before_the_start),
		CONFORM(the_gap_reads_as_zeros),
		CONFORM(every_view_agrees),
		CONFORM(appending_goes_to_the_end_as_it_is_then),
		CONFORM(vectors_are_written_and_read_in_order),
		CONFORM(beyond_the_limit_is_efbig),
		CONFORM(beyond_what_a_file_can_be_is_efbig),
		CONFORM(truncating_wants_the_right_to_write),
		CONFORM(a_shared_mapping_is_the_file),
		CONFORM(a_mapping_sees_what_a_writer_writes),
		CONFORM(a_private_mapping_is_ones_own),
		CONFORM(mapping_wants_the_right_handle),
		CONFORM(beyond_the_end_of_a_mapping_is_sigbus),
		CONFORM(a_mapping_outlives_its_handle_and_its_name),
		CONFORM(sendfile_copies),
		CONFORM(copy_file_range_copies),
		CONFORM(splice_carries_through_a_pipe),
		CONFORM(every_kind_of_handle_can_be_synced),
		CONFORM(direct_reads_and_writes_agree_with_the_others),
		CONFORM(fallocate_says_what_is_wrong),
		CONFORM(fallocate_grows_keeps_punches_and_zeroes),
		CONFORM(fallocate_always_moves_the_times),
		CONFORM(data_and_holes_are_found),
		CONFORM(what_is_in_memory_is_read_without_waiting),
		CONFORM(writing_takes_setuid_away),
	};

	return conform_run(tests, sizeof(tests) / sizeof(*tests));
}

/* What os.h promises, on a real folder and on the lying disk: the tests of the store rely on both
 * keeping the same contract.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "os.h"
#include "sim/disk.h"

struct bench {
	struct os *os;
	struct sim *disk;	/* NULL: the real one */
	char path[64];
	struct os_dir *dir;
};

static int setup_real(void **state)
{
	struct bench *b = test_calloc(1, sizeof(*b));

	b->os = os_posix();
	snprintf(b->path, sizeof(b->path), "/tmp/cubby-test-os-XXXXXX");
	assert_non_null(mkdtemp(b->path));
	assert_int_equal(b->os->open_dir(b->os, b->path, 0, &b->dir), 0);
	*state = b;
	return 0;
}

static int setup_sim(void **state)
{
	struct bench *b = test_calloc(1, sizeof(*b));

	b->disk = sim_new(1);
	b->os = sim_os(b->disk);
	snprintf(b->path, sizeof(b->path), "/store");
	assert_int_equal(b->os->open_dir(b->os, b->path, OS_CREATE, &b->dir), 0);
	*state = b;
	return 0;
}

static int remove_one(void *arg, const char *name)
{
	struct bench *b = arg;

	return b->os->remove(b->dir, name);
}

static int teardown(void **state)
{
	struct bench *b = *state;

	assert_int_equal(b->os->list(b->dir, remove_one, b), 0);
	b->os->close_dir(b->dir);
	if (!b->disk)
		assert_int_equal(rmdir(b->path), 0);
	sim_free(b->disk);
	test_free(b);
	return 0;
}

static struct os_file *file(struct bench *b, const char *name)
{
	struct os_file *f;

	assert_int_equal(b->os->open(b->dir, name, OS_CREATE, &f), 0);
	return f;
}

static uint64_t size_of(struct bench *b, struct os_file *f)
{
	uint64_t size = UINT64_MAX;

	assert_int_equal(b->os->size(f, &size), 0);
	return size;
}

static void a_file_holds_what_was_written_where_it_was_written(void **state)
{
	struct bench *b = *state;
	struct os_file *f = file(b, "f");
	char bytes[32] = "................";

	assert_int_equal(b->os->write(f, "hello", 5, 5000), 0);
	assert_int_equal(size_of(b, f), 5005);
	assert_int_equal(b->os->read(f, bytes, 32, 4998), 7);
	assert_memory_equal(bytes, "\0\0hello.", 8);
	assert_int_equal(b->os->read(f, bytes, 32, 5005), 0);
	assert_int_equal(b->os->read(f, bytes, 32, 90000), 0);
	assert_int_equal(b->os->sync(f), 0);
	assert_int_equal(b->os->sync_dir(b->dir), 0);
	b->os->close(f);
}

static void a_missing_file_is_not_made_unless_asked_for(void **state)
{
	struct bench *b = *state;
	struct os_file *f;

	assert_int_equal(b->os->open(b->dir, "f", 0, &f), -ENOENT);
	assert_int_equal(b->os->open(b->dir, "f", OS_CREATE | OS_EXCLUSIVE, &f), 0);
	b->os->close(f);
	assert_int_equal(b->os->open(b->dir, "f", OS_CREATE | OS_EXCLUSIVE, &f), -EEXIST);
	assert_int_equal(b->os->open(b->dir, "f", 0, &f), 0);
	b->os->close(f);
	assert_int_equal(b->os->remove(b->dir, "f"), 0);
	assert_int_equal(b->os->remove(b->dir, "f"), -ENOENT);
}

static void a_missing_folder_is_not_made_unless_asked_for(void **state)
{
	struct bench *b = *state;
	char path[80];
	struct os_dir *dir;

	snprintf(path, sizeof(path), "%s/sub", b->path);
	assert_int_equal(b->os->open_dir(b->os, path, 0, &dir), -ENOENT);
	assert_int_equal(b->os->open_dir(b->os, path, OS_CREATE | OS_EXCLUSIVE, &dir), 0);
	b->os->close_dir(dir);
	assert_int_equal(b->os->open_dir(b->os, path, OS_CREATE | OS_EXCLUSIVE, &dir), -EEXIST);
	assert_int_equal(b->os->open_dir(b->os, path, OS_CREATE, &dir), 0);
	b->os->close_dir(dir);
	if (!b->disk)
		assert_int_equal(rmdir(path), 0);
}

static void allocating_changes_no_byte_and_grows_if_need_be(void **state)
{
	struct bench *b = *state;
	struct os_file *f = file(b, "f");
	char bytes[4] = "....";

	assert_int_equal(b->os->write(f, "abc", 3, 4095), 0);
	assert_int_equal(b->os->allocate(f, 0, 10000), 0);
	assert_int_equal(size_of(b, f), 10000);
	assert_int_equal(b->os->allocate(f, 0, 100), 0);
	assert_int_equal(size_of(b, f), 10000);
	assert_int_equal(b->os->read(f, bytes, 4, 4095), 4);
	assert_memory_equal(bytes, "abc\0", 4);
	b->os->close(f);
}

static void truncating_cuts_off_and_growing_again_brings_nothing_back(void **state)
{
	struct bench *b = *state;
	struct os_file *f = file(b, "f");
	char bytes[4];

	assert_int_equal(b->os->write(f, "abcd", 4, 0), 0);
	assert_int_equal(b->os->truncate(f, 2), 0);
	assert_int_equal(size_of(b, f), 2);
	assert_int_equal(b->os->truncate(f, 4), 0);
	assert_int_equal(b->os->read(f, bytes, 4, 0), 4);
	assert_memory_equal(bytes, "ab\0\0", 4);
	b->os->close(f);
}

static void a_lock_keeps_out_a_second_open_of_the_same_process(void **state)
{
	struct bench *b = *state;
	struct os_file *one = file(b, "lock"), *two = file(b, "lock");

	assert_int_equal(b->os->lock(one), 0);
	assert_int_equal(b->os->lock(one), 0);
	assert_int_equal(b->os->lock(two), -EBUSY);
	b->os->close(one);
	assert_int_equal(b->os->lock(two), 0);
	b->os->close(two);
}

static int count_names(void *arg, const char *name)
{
	unsigned *seen = arg;

	if (strcmp(name, "a") == 0)
		*seen += 1;
	else if (strcmp(name, "b") == 0)
		*seen += 16;
	else
		*seen += 256;
	return 0;
}

static int stop_at_once(void *arg, const char *name)
{
	(void)name;
	++*(int *)arg;
	return 42;
}

static void listing_meets_each_name_once_and_can_be_stopped(void **state)
{
	struct bench *b = *state;
	unsigned seen = 0;
	int met = 0;

	b->os->close(file(b, "a"));
	b->os->close(file(b, "b"));
	assert_int_equal(b->os->list(b->dir, count_names, &seen), 0);
	assert_int_equal(seen, 17);
	assert_int_equal(b->os->list(b->dir, stop_at_once, &met), 42);
	assert_int_equal(met, 1);
}

static void a_full_count_of_space_is_no_less_than_what_is_free(void **state)
{
	struct bench *b = *state;
	uint64_t free_bytes = 1, total_bytes = 0;

	assert_int_equal(b->os->space(b->dir, &free_bytes, &total_bytes), 0);
	assert_true(total_bytes > 0 && free_bytes <= total_bytes);
}

static void random_bytes_differ(void **state)
{
	struct bench *b = *state;
	uint8_t one[32] = { 0 }, two[32] = { 0 };

	assert_int_equal(b->os->random(b->os, one, sizeof(one)), 0);
	assert_int_equal(b->os->random(b->os, two, sizeof(two)), 0);
	assert_memory_not_equal(one, two, sizeof(one));
}

static void clocks_do_not_step_back(void **state)
{
	struct bench *b = *state;
	const uint64_t before = b->os->monotonic_ns(b->os);

	assert_true(b->os->monotonic_ns(b->os) >= before);
	assert_true(b->os->now_ns(b->os) > (uint64_t)1600000000 * 1000000000);
}

/* ---- the real one only ----------------------------------------------------------------- */

static void files_and_folders_are_private(void **state)
{
	struct bench *b = *state;
	char path[80];
	struct os_dir *dir;
	struct stat st;

	b->os->close(file(b, "f"));
	snprintf(path, sizeof(path), "%s/f", b->path);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	snprintf(path, sizeof(path), "%s/sub", b->path);
	assert_int_equal(b->os->open_dir(b->os, path, OS_CREATE, &dir), 0);
	b->os->close_dir(dir);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
	assert_int_equal(rmdir(path), 0);
}

static void only_regular_files_are_opened_and_links_not_followed(void **state)
{
	struct bench *b = *state;
	char path[80], target[80];
	struct os_file *f;
	struct os_dir *dir;

	b->os->close(file(b, "f"));
	snprintf(target, sizeof(target), "%s/f", b->path);
	snprintf(path, sizeof(path), "%s/link", b->path);
	assert_int_equal(symlink(target, path), 0);
	assert_int_equal(b->os->open(b->dir, "link", OS_CREATE, &f), -ELOOP);
	snprintf(path, sizeof(path), "%s/pipe", b->path);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(b->os->open(b->dir, "pipe", 0, &f), -EINVAL);
	assert_int_equal(b->os->open_dir(b->os, target, OS_CREATE, &dir), -ENOTDIR);
}

static void a_lock_ends_with_its_process(void **state)
{
	struct bench *b = *state;
	struct os_file *f = file(b, "lock");
	int go[2], told[2], status;
	char byte;
	pid_t child;

	assert_int_equal(pipe(go) | pipe(told), 0);
	child = fork();
	if (child == 0) {
		struct os_file *g;

		if (b->os->open(b->dir, "lock", 0, &g) == 0 && b->os->lock(g) == 0)
			(void)!write(told[1], "", 1);
		(void)!read(go[0], &byte, 1);
		_exit(0);
	}
	assert_int_equal(read(told[0], &byte, 1), 1);
	assert_int_equal(b->os->lock(f), -EBUSY);
	assert_int_equal(write(go[1], "", 1), 1);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(b->os->lock(f), 0);
	b->os->close(f);
	for (int i = 0; i < 2; i++) {
		close(go[i]);
		close(told[i]);
	}
}

/* ---- maps ------------------------------------------------------------------------------ */

enum { MAPPED = 2 * 4096 };

static struct os_file *mapped_file(struct bench *b, const char *name)
{
	struct os_file *f = file(b, name);

	assert_int_equal(b->os->truncate(f, MAPPED), 0);
	assert_int_equal(b->os->map(f, MAPPED), 0);
	return f;
}

static void what_is_put_is_read_like_what_is_written(void **state)
{
	struct bench *b = *state;
	struct os_file *f = mapped_file(b, "f");
	char bytes[8] = "";

	assert_int_equal(b->os->put(f, "hello", 5, 5000), 0);
	assert_int_equal(b->os->write(f, "J", 1, 5000), 0);
	assert_int_equal(b->os->put(f, "y", 1, 5004), 0);
	assert_int_equal(b->os->read(f, bytes, 7, 4999), 7);
	assert_memory_equal(bytes, "\0Jelly\0", 7);
	assert_int_equal(b->os->sync(f), 0);
	b->os->close(f);
}

/* Does it in a process of its own, and returns how that ended. */
static int in_a_child(struct bench *b, void (*work)(struct bench *b))
{
	const pid_t child = fork();
	int status;

	if (child == 0) {
		work(b);
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	return status;
}

static void put_and_be_killed(struct bench *b)
{
	b->os->put(mapped_file(b, "f"), "there", 5, 100);
	kill(getpid(), SIGKILL);
}

static void what_was_put_outlives_the_process(void **state)
{
	struct bench *b = *state;
	struct os_file *f;
	char bytes[5];

	assert_true(WIFSIGNALED(in_a_child(b, put_and_be_killed)));
	f = file(b, "f");
	assert_int_equal(b->os->read(f, bytes, 5, 100), 5);
	assert_memory_equal(bytes, "there", 5);
	b->os->close(f);
}

/* Here the file is cut off, elsewhere the disk may be gone. */
static void what_cannot_be_put_is_an_error_and_no_death(void **state)
{
	struct bench *b = *state;
	struct os_file *f = mapped_file(b, "f"), *g = mapped_file(b, "g");

	assert_int_equal(b->os->truncate(f, 0), 0);
	assert_int_equal(b->os->put(f, "x", 1, 5000), -EIO);
	assert_int_equal(b->os->put(f, "x", 1, 0), -EIO);
	assert_int_equal(b->os->put(g, "x", 1, 5000), 0);
	b->os->close(f);
	b->os->close(g);
	f = mapped_file(b, "f");
	assert_int_equal(b->os->put(f, "x", 1, 5000), 0);
	b->os->close(f);
}

/* The file of a map that os.h knows nothing of. */
static void touch_what_is_not_there(struct bench *b)
{
	char path[80];
	volatile char *bytes;
	int fd;

	signal(SIGBUS, SIG_DFL);	/* cmocka has a handler */
	mapped_file(b, "f");
	snprintf(path, sizeof(path), "%s/f", b->path);
	fd = open(path, O_RDWR);
	bytes = mmap(NULL, MAPPED, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (fd < 0 || bytes == MAP_FAILED || ftruncate(fd, 0) < 0)
		return;
	close(STDERR_FILENO);	/* sanitizers tell at length of what is wanted here */
	bytes[5000] = 1;
}

static void a_bus_error_of_others_is_theirs(void **state)
{
	const int status = in_a_child(*state, touch_what_is_not_there);

	assert_true(WIFSIGNALED(status) ? WTERMSIG(status) == SIGBUS : WEXITSTATUS(status) != 0);
}

static void there_are_so_many_maps_and_no_more(void **state)
{
	enum { MOST = 16 };
	struct bench *b = *state;
	struct os_file *f[MOST + 1];

	for (int i = 0; i < MOST; i++)
		f[i] = mapped_file(b, "f");
	f[MOST] = file(b, "f");
	assert_int_equal(b->os->map(f[MOST], MAPPED), -ENFILE);
	b->os->close(f[3]);
	assert_int_equal(b->os->map(f[MOST], MAPPED), 0);
	for (int i = 0; i <= MOST; i++)
		if (i != 3)
			b->os->close(f[i]);
}

#define BOTH(name)                                                                                \
	{ "real: " #name, name, setup_real, teardown, NULL },                                     \
	{ "sim: " #name, name, setup_sim, teardown, NULL }
#define REAL(name) { #name, name, setup_real, teardown, NULL }

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH(a_file_holds_what_was_written_where_it_was_written),
		BOTH(a_missing_file_is_not_made_unless_asked_for),
		BOTH(a_missing_folder_is_not_made_unless_asked_for),
		BOTH(allocating_changes_no_byte_and_grows_if_need_be),
		BOTH(truncating_cuts_off_and_growing_again_brings_nothing_back),
		BOTH(a_lock_keeps_out_a_second_open_of_the_same_process),
		BOTH(listing_meets_each_name_once_and_can_be_stopped),
		BOTH(a_full_count_of_space_is_no_less_than_what_is_free),
		BOTH(random_bytes_differ),
		BOTH(clocks_do_not_step_back),
		BOTH(what_is_put_is_read_like_what_is_written),
		REAL(what_was_put_outlives_the_process),
		REAL(what_cannot_be_put_is_an_error_and_no_death),
		REAL(a_bus_error_of_others_is_theirs),
		REAL(there_are_so_many_maps_and_no_more),
		REAL(files_and_folders_are_private),
		REAL(only_regular_files_are_opened_and_links_not_followed),
		REAL(a_lock_ends_with_its_process),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

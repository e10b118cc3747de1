/* getdents, readdir, telldir, seekdir, rewinddir, also while the directory changes. */
#include "mount/conform.h"

#include <dirent.h>
#include <stdlib.h>
#include <sys/syscall.h>

enum { MANY = 1500 };

struct entry { /* as getdents64 writes it */
	uint64_t ino;
	int64_t offset;
	unsigned short size;
	unsigned char type;
	char name[];
};

static void make_many(const char *prefix, int count)
{
	char name[32];

	for (int i = 0; i < count; i++) {
		snprintf(name, sizeof(name), "%s%d", prefix, i);
		assert_ok(close(open(name, O_WRONLY | O_CREAT, 0644)));
	}
}

/* Reads a directory with a buffer of `size`, counting in seen[] names of `prefix` and a number. */
static int count_with(int fd, size_t size, const char *prefix, unsigned char *seen, int count)
{
	char *bytes = malloc(size);
	int others = 0, number;
	long n;

	assert_non_null(bytes);
	while ((n = syscall(SYS_getdents64, fd, bytes, size)) > 0)
		for (long at = 0; at < n;) {
			const struct entry *e = (const void *)(bytes + at);

			if (strncmp(e->name, prefix, strlen(prefix)) == 0 &&
			    sscanf(e->name + strlen(prefix), "%d", &number) == 1 && number < count)
				seen[number]++;
			else
				others++;
			at += e->size;
		}
	assert_ok(n);
	free(bytes);
	return others;
}

static void assert_each_once(const unsigned char *seen, int count)
{
	for (int i = 0; i < count; i++)
		if (seen[i] != 1)
			fail_msg("entry %d was listed %u times", i, seen[i]);
}

static void reading_a_directory_says_what_is_wrong(void **state)
{
	char bytes[512];
	int fd;

	(void)state;
	furnish();
	fd = open("f", O_RDONLY);
	assert_errno(syscall(SYS_getdents64, fd, bytes, sizeof(bytes)), ENOTDIR);
	assert_ok(close(fd));
	assert_errno(syscall(SYS_getdents64, fd, bytes, sizeof(bytes)), EBADF);
	fd = open(".", O_RDONLY);
	assert_errno(syscall(SYS_getdents64, fd, bytes, 8), EINVAL); /* too small for one */
	assert_true(syscall(SYS_getdents64, fd, bytes, sizeof(bytes)) > 0);
	assert_errno(lseek(fd, -1, SEEK_SET), EINVAL);
	assert_ok(close(fd));
	assert_null(opendir("gone"));
	assert_int_equal(errno, ENOENT);
	assert_null(opendir("f"));
	assert_int_equal(errno, ENOTDIR);
}

static void every_entry_has_its_type_and_number(void **state)
{
	static const struct { const char *name; int type; } kinds[] = {
		{ ".", DT_DIR }, { "..", DT_DIR }, { "f", DT_REG },  { "d", DT_DIR },
		{ "l", DT_LNK }, { "p", DT_FIFO }, { "s", DT_SOCK }, { "dangling", DT_LNK },
	};
	struct dirent *e;
	size_t met = 0;
	DIR *d;

	(void)state;
	furnish();
	assert_ok(mknod("s", S_IFSOCK | 0644, 0));
	d = opendir(".");
	assert_non_null(d);
	while ((e = readdir(d)))
		for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++)
			if (strcmp(e->d_name, kinds[i].name) == 0) {
				met++;
				assert_int_equal(e->d_type, kinds[i].type);
				assert_int_equal(e->d_ino, stat_of(e->d_name).st_ino);
			}
	assert_ok(closedir(d));
	assert_int_equal(met, sizeof(kinds) / sizeof(*kinds));
}

static void any_size_of_buffer_lists_all_once(void **state)
{
	static const size_t sizes[] = { 48, 100, 1000, 4096, 32768, 1 << 20 };
	unsigned char seen[MANY];
	int fd;

	(void)state;
	make_many("", MANY);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
		memset(seen, 0, sizeof(seen));
		fd = open(".", O_RDONLY);
		assert_int_equal(count_with(fd, sizes[i], "", seen, MANY), 2);
		assert_each_once(seen, MANY);
		assert_int_equal(lseek(fd, 0, SEEK_SET), 0); /* once more with the same handle */
		memset(seen, 0, sizeof(seen));
		assert_int_equal(count_with(fd, 777, "", seen, MANY), 2);
		assert_each_once(seen, MANY);
		assert_ok(close(fd));
	}
}

/* What telldir said leads back there, in any order, and however often. */
static void seekdir_goes_back_to_any_place(void **state)
{
	static char names[MANY + 2][16];
	static long places[MANY + 3]; /* the end too */
	struct dirent *e;
	uint64_t seed = 7;
	int count = 0;
	DIR *d;

	(void)state;
	make_many("", MANY);
	d = opendir(".");
	assert_non_null(d);
	do {
		places[count] = telldir(d);
		e = readdir(d);
		if (e)
			snprintf(names[count++], sizeof(names[0]), "%.15s", e->d_name);
	} while (e);
	assert_int_equal(count, MANY + 2);
	for (int i = 0; i < 300; i++) {
		const int at = (int)(random_next(&seed) % (uint64_t)count);

		seekdir(d, places[at]);
		e = readdir(d);
		assert_non_null(e);
		assert_string_equal(e->d_name, names[at]);
	}
	rewinddir(d);
	assert_string_equal(readdir(d)->d_name, names[0]);
	assert_ok(closedir(d));
}

/* Others come and go: whatever is there all along is listed once. */
static void changes_meanwhile_neither_hide_nor_repeat(void **state)
{
	unsigned char seen[MANY] = { 0 };
	char name[32], bytes[1024];
	int fd, number;
	long n;

	(void)state;
	make_many("stays", MANY);
	make_many("goes", MANY);
	fd = open(".", O_RDONLY);
	for (int i = 0; (n = syscall(SYS_getdents64, fd, bytes, sizeof(bytes))) > 0; i++) {
		for (long at = 0; at < n; at += ((struct entry *)(void *)(bytes + at))->size) {
			const struct entry *e = (const void *)(bytes + at);

			if (sscanf(e->name, "stays%d", &number) == 1)
				seen[number]++;
		}
		for (int j = 0; j < 20; j++) {
			snprintf(name, sizeof(name), "goes%d", i * 20 + j);
			unlink(name);
			snprintf(name, sizeof(name), "%dcomes", i * 20 + j);
			assert_ok(close(open(name, O_WRONLY | O_CREAT, 0644)));
		}
		snprintf(name, sizeof(name), "goes%d", MANY - 1 - i);
		rename(name, "goes");
		assert_true(i < 5000); /* it comes to an end */
	}
	assert_ok(n);
	assert_ok(close(fd));
	assert_each_once(seen, MANY);
}

/* Removing while reading, as rm -r does, misses nothing. */
static void all_can_be_removed_while_they_are_read(void **state)
{
	struct dirent *e;
	int removed = 0;
	DIR *d;

	(void)state;
	make_many("", MANY);
	d = opendir(".");
	while ((e = readdir(d)))
		if (e->d_name[0] != '.') {
			assert_ok(unlink(e->d_name));
			removed++;
		}
	assert_int_equal(removed, MANY);
	assert_ok(closedir(d));
	assert_string_equal(run("ls -A"), "");
}

static void a_handle_sees_what_came_after_it_was_rewound(void **state)
{
	struct dirent *e;
	bool met = false;
	DIR *d;

	(void)state;
	d = opendir(".");
	while (readdir(d))
		;
	put("new", "x");
	rewinddir(d);
	while ((e = readdir(d)))
		met |= strcmp(e->d_name, "new") == 0;
	assert_true(met);
	assert_ok(closedir(d));
}

static void two_handles_read_each_for_itself(void **state)
{
	unsigned char a[MANY] = { 0 }, b[MANY] = { 0 };
	char bytes[512];
	int one, two;

	(void)state;
	make_many("", MANY);
	one = open(".", O_RDONLY);
	two = open(".", O_RDONLY);
	assert_true(syscall(SYS_getdents64, one, bytes, sizeof(bytes)) > 0);
	assert_int_equal(count_with(two, 4096, "", b, MANY), 2);
	assert_each_once(b, MANY);
	assert_int_equal(lseek(one, 0, SEEK_SET), 0);
	assert_int_equal(count_with(one, 500, "", a, MANY), 2);
	assert_each_once(a, MANY);
	assert_ok(close(one));
	assert_ok(close(two));
}

static void tools_remove_a_tree(void **state)
{
	(void)state;
	run("for d in $(seq 30); do mkdir -p t/$d/x/y; touch t/$d/{1..50} t/$d/x/{1..20}; done");
	assert_string_equal(run("find t -type f | wc -l"), "2100");
	run("cp -a t u; rm -rf t; find u -delete");
	assert_string_equal(run("ls -A"), "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		CONFORM(reading_a_directory_says_what_is_wrong),
		CONFORM(every_entry_has_its_type_and_number),
		CONFORM(any_size_of_buffer_lists_all_once),
		CONFORM(seekdir_goes_back_to_any_place),
		CONFORM(changes_meanwhile_neither_hide_nor_repeat),
		CONFORM(all_can_be_removed_while_they_are_read),
		CONFORM(a_handle_sees_what_came_after_it_was_rewound),
		CONFORM(two_handles_read_each_for_itself),
		CONFORM(tools_remove_a_tree),
	};

	return conform_run(tests, sizeof(tests) / sizeof(*tests));
}

/* How long, how deep and how many. ENTRIES= and FILES= for more. */
#include "mount/mount.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static int begin(void **state)
{
	const int rc = mount_fresh(state);

	if (rc == 0)
		mount_start("sync=standard");
	return rc;
}

static void touch(const char *name)
{
	const int fd = open(name, O_CREAT | O_WRONLY | O_EXCL, 0644);

	if (fd < 0)
		fail_msg("%s: %s", name, strerror(errno));
	assert_ok(close(fd));
}

/* ---- long and deep -------------------------------------------------------------------------- */

static void a_name_of_255_bytes_may_be_anything(void **state)
{
	static const char *const kinds[] = { "\xff\xfe", "\n", "\xc3", " ", "\"\\", "\x01", "-" };
	char name[NAME_MAX + 2];

	(void)state;
	for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++) {
		for (size_t k = 0; k < NAME_MAX; k++)
			name[k] = kinds[i][k % strlen(kinds[i])];
		name[NAME_MAX] = '\0';
		put(name, "text");
		mount_again();
		assert_string_equal(get(name), "text");
		assert_ok(rename(name, "k"));
		assert_ok(rename("k", name));
		name[NAME_MAX] = 'x';
		name[NAME_MAX + 1] = '\0';
		assert_errno(open(name, O_CREAT | O_WRONLY, 0644), ENAMETOOLONG);
		assert_errno(mkdir(name, 0755), ENAMETOOLONG);
		assert_errno(access(name, F_OK), ENAMETOOLONG);
		put("k", "text");
		assert_errno(rename("k", name), ENAMETOOLONG);
		assert_ok(unlink("k"));
	}
	assert_string_equal(run("find . -type f | tr -d '\\n' | tr -c / x | tr -d x"), "///////");
	run("rm -f -- ./*; test -z \"$(ls -A)\"");
}

/* A path of exactly this many bytes below the working directory; its folders are made. */
static void make_path(char *path, size_t size)
{
	size_t n = 0;

	while (size - n > NAME_MAX + 1) {
		memset(path + n, 'd', 200);
		n += 200;
		path[n] = '\0';
		if (mkdir(path, 0755) < 0)
			assert_int_equal(errno, EEXIST);
		path[n++] = '/';
	}
	memset(path + n, 'f', size - n);
	path[size] = '\0';
}

static void a_path_has_4095_bytes(void **state)
{
	char path[PATH_MAX + 2];

	(void)state;
	make_path(path, PATH_MAX - 1);
	put(path, "far");
	assert_string_equal(get(path), "far");
	make_path(path, PATH_MAX);
	assert_errno(open(path, O_CREAT | O_WRONLY, 0644), ENAMETOOLONG);
	mount_again();
	make_path(path, PATH_MAX - 1);
	assert_string_equal(get(path), "far");
}

static void a_symbolic_link_has_4095_bytes(void **state)
{
	char target[PATH_MAX + 1], found[PATH_MAX + 1];

	(void)state;
	memset(target, 't', sizeof(target));
	target[PATH_MAX] = '\0';
	assert_errno(symlink(target, "l"), ENAMETOOLONG);
	assert_errno(symlink("", "l"), ENOENT);
	target[0] = '\xff';
	target[1] = '\n';
	target[PATH_MAX - 1] = '\0';
	assert_ok(symlink(target, "l"));
	mount_again();
	assert_int_equal(readlink("l", found, sizeof(found)), PATH_MAX - 1);
	assert_memory_equal(found, target, PATH_MAX - 1);
	assert_int_equal(readlink("l", found, 10), 10);
	assert_errno(open("l", O_RDONLY), ENAMETOOLONG);
	assert_ok(symlink("m", "m"));
	assert_errno(open("m", O_RDONLY), ELOOP);
}

/* Too deep for any path: one goes there step by step. */
static void folders_nest_by_the_thousand(void **state)
{
	const int depth = (int)number_from_env("DEPTH", 1500);
	char parent[32];

	(void)state;
	for (int i = 0; i < depth; i++) {
		assert_ok(mkdir("d", 0755));
		assert_ok(chdir("d"));
	}
	put("k", "deep");
	assert_ok(chdir(point_path()));
	mount_again();
	for (int i = 0; i < depth; i++)
		assert_ok(chdir("d"));
	assert_string_equal(get("k"), "deep");
	for (int i = 0; i < depth; i++)
		assert_ok(chdir(".."));
	assert_ok(access("d", F_OK));
	snprintf(parent, sizeof(parent), "%d", depth);
	assert_string_equal(run("find . -type d -name d | wc -l"), parent);
	run("rm -rf d");
	assert_false(exists("d"));
}

/* ---- many ----------------------------------------------------------------------------------- */

static long entries(void)
{
	return (long)number_from_env("ENTRIES", 5000);
}

static void make_many(const char *folder)
{
	char name[64];

	assert_ok(mkdir(folder, 0755));
	for (long i = 0; i < entries(); i++) {
		snprintf(name, sizeof(name), "%s/%ld", folder, i * 7919 % 1000003);
		touch(name);
	}
}

static void many_entries_are_listed_and_removed(void **state)
{
	(void)state;
	make_many("a");
	make_many("b");
	assert_int_equal(atol(run("ls -f a | wc -l")), entries() + 2);
	assert_int_equal(atol(run("ls -l a | wc -l")), entries() + 1);
	mount_again();
	assert_int_equal(atol(run("ls a | sort -u | wc -l")), entries());
	run("rm -rf a; find b -delete");
	assert_string_equal(run("ls -A"), "");
}

struct linux_dirent {
	uint64_t ino;
	int64_t offset;
	uint16_t size;
	uint8_t type;
	char name[];
};

/* Lists with a buffer that holds hardly more than one name, and removes every other
 * one on the way. */
static void small_buffers_and_removals_skip_and_repeat_nothing(void **state)
{
	char bytes[400] __attribute__((aligned(8)));
	char *seen = test_calloc(1000003, 1);
	long found = 0, left, n;
	int fd;

	(void)state;
	make_many("a");
	for (left = 0; left < 100; left++)
		run("touch a/stays-%ld-$(printf '%%0200d' 0)", left);
	fd = open("a", O_RDONLY | O_DIRECTORY);
	assert_ok(fd);
	while ((n = syscall(SYS_getdents64, fd, bytes, sizeof(bytes))) > 0) {
		for (long at = 0; at < n;) {
			const struct linux_dirent *d = (const void *)(bytes + at);

			at += d->size;
			if (d->name[0] == '.')
				continue;
			if (d->name[0] == 's') {
				left--;
				continue;
			}
			found++;
			if (seen[atol(d->name)]++)
				fail_msg("%s twice", d->name);
			if (found % 2)
				assert_ok(unlinkat(fd, d->name, 0));
		}
	}
	assert_int_equal(n, 0);
	assert_int_equal(left, 0);
	assert_int_equal(found, entries());
	assert_ok(close(fd));
	assert_int_equal(atol(run("ls a | grep -vc stays")), entries() / 2);
	test_free(seen);
}

static void a_place_in_a_listing_outlives_removals(void **state)
{
	enum { PLACES = 50 };
	char names[PLACES][NAME_MAX + 1];
	long places[PLACES];
	struct dirent *e;
	int count = 0;
	DIR *dir;

	(void)state;
	make_many("a");
	dir = opendir("a");
	assert_non_null(dir);
	for (long i = 0; count < PLACES; i++) {
		const long place = telldir(dir);

		e = readdir(dir);
		assert_non_null(e);
		if (i % 40 != 5 || e->d_name[0] == '.')
			continue;
		places[count] = place;
		snprintf(names[count++], sizeof(names[0]), "%s", e->d_name);
	}
	rewinddir(dir);
	for (long i = 0; (e = readdir(dir)); i++) {
		bool kept = false;

		for (int k = 0; k < PLACES; k++)
			kept |= strcmp(e->d_name, names[k]) == 0;
		if (!kept && e->d_name[0] != '.' && i % 3)
			assert_ok(unlinkat(dirfd(dir), e->d_name, 0));
	}
	for (int k = PLACES - 1; k >= 0; k -= 3) {
		seekdir(dir, places[k]);
		e = readdir(dir);
		assert_non_null(e);
		if (strcmp(e->d_name, names[k]) != 0)
			fail_msg("%s instead of %s", e->d_name, names[k]);
	}
	assert_ok(closedir(dir));
}

/* Files open at once, written and unlinked among them. */
static void files_are_open_by_the_thousand(void **state)
{
	const size_t count = (size_t)number_from_env("FILES", 3000);
	int *fds = test_calloc(count, sizeof(*fds));
	struct rlimit limit;
	char name[32], byte;

	(void)state;
	assert_ok(getrlimit(RLIMIT_NOFILE, &limit));
	limit.rlim_cur = limit.rlim_max;
	assert_ok(setrlimit(RLIMIT_NOFILE, &limit));
	for (size_t i = 0; i < count; i++) {
		snprintf(name, sizeof(name), "f%zu", i);
		fds[i] = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
		if (fds[i] < 0)
			fail_msg("%s: %s", name, strerror(errno));
		assert_int_equal(write(fds[i], name + 1, 1), 1);
		if (i % 3 == 0)
			assert_ok(unlink(name));
	}
	for (size_t i = 0; i < count; i++) {
		snprintf(name, sizeof(name), "%zu", i);
		assert_int_equal(pread(fds[i], &byte, 1, 0), 1);
		assert_int_equal(byte, name[0]);
		assert_ok(close(fds[i]));
	}
	assert_int_equal(atol(run("ls | wc -l")), count - (count + 2) / 3);
	test_free(fds);
}

/* ---- together ------------------------------------------------------------------------------- */

enum { CLIENTS = 64 };

/* Makes, reads, renames and removes, in a folder that all share and in one of its own. */
static int client(void *arg)
{
	const int who = *(const int *)arg;
	uint64_t seed = (uint64_t)who + 1;
	char name[64], other[64], text[32];
	int fd;

	snprintf(name, sizeof(name), "own-%d", who);
	if (mkdir(name, 0755) < 0)
		return -1;
	for (int i = 0; i < (int)number_from_env("ROUNDS", 25); i++) {
		snprintf(text, sizeof(text), "%d-%d", who, i);
		snprintf(name, sizeof(name), "own-%d/%d", who, i);
		snprintf(other, sizeof(other), "shared/%d", (int)(random_next(&seed) % 40));
		put(name, text);
		if (strcmp(get(name), text) != 0 || rename(name, other) < 0)
			return -1;
		if (random_next(&seed) % 3 == 0 && unlink(other) < 0 && errno != ENOENT)
			return -1;
		fd = open(other, O_RDONLY | O_CLOEXEC);
		if (fd < 0 ? errno != ENOENT : close(fd) < 0)
			return -1;
		put(name, text);
	}
	return 0;
}

/* Meanwhile the kernel is made to forget all it knows, again and again. */
static void many_clients_and_a_forgetful_kernel_agree(void **state)
{
	pid_t children[CLIENTS];
	int who[CLIENTS];
	pid_t forgetful;

	(void)state;
	run("mkdir shared");
	forgetful = fork();
	assert_ok(forgetful);
	if (forgetful == 0) {
		/* What it starts may outlive it, and must not be found in the mount. */
		execlp("bash", "bash", "-c",
		       "cd /; while kill -0 $PPID; do echo 2 > /proc/sys/vm/drop_caches; "
		       "sleep 0.02; done",
		       NULL);
		_exit(127);
	}
	for (int i = 0; i < CLIENTS; i++) {
		who[i] = i;
		children[i] = spawn(client, &who[i]);
	}
	for (int i = 0; i < CLIENTS; i++)
		assert_true(joined(children[i]));
	assert_ok(kill(forgetful, SIGKILL));
	joined(forgetful);
	assert_int_equal(atol(run("cat own-*/* | tr -cd - | wc -c")),
			 CLIENTS * (long)number_from_env("ROUNDS", 25));
	mount_again();
	assert_int_equal(atol(run("ls own-* | grep -vc :")) - (CLIENTS - 1),
			 CLIENTS * (long)number_from_env("ROUNDS", 25));
}

/* ---- memory --------------------------------------------------------------------------------- */

static long resident_kib(void)
{
	char path[64], line[256];
	long kib = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)daemon_pid());
	f = fopen(path, "r");
	assert_non_null(f);
	while (fgets(line, sizeof(line), f))
		sscanf(line, "VmRSS: %ld", &kib);
	fclose(f);
	return kib;
}

static void list_in_peace(void)
{
	run("ls -l a > /dev/null");
}

/* After each piece, once the next may have been made ready, something is changed, and that was in
 * vain. That each file is looked at has the kernel ask with attributes. */
static void list_among_changes(void)
{
	const int fd = open("a", O_RDONLY | O_DIRECTORY);
	char bytes[16384];
	struct stat st;
	long size;

	assert_ok(fd);
	for (mode_t mode = 0700; (size = syscall(SYS_getdents64, fd, bytes, sizeof(bytes))) > 0;
	     mode ^= 1) {
		for (long at = 0; at < size;) {
			const struct dirent64 *entry = (const struct dirent64 *)(bytes + at);

			assert_ok(fstatat(fd, entry->d_name, &st, 0));
			at += entry->d_reclen;
		}
		assert_ok(chmod("b", mode));
	}
	assert_int_equal(size, 0);
	close(fd);
}

/* What the kernel forgets costs no memory for long. Under a sanitizer memory is not given back. */
static void check_forgotten(void (*list)(void))
{
	const long many = (long)number_from_env("ENTRIES", 25000);
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	const int64_t end = 0;	/* in vain */
#else
	const int64_t end = patience_ends();
#endif
	char name[200];
	long full, before;

	only_cubby();
	only_root();
	mount_stop();
	mount_start("sync=standard,cache=4M");
	run("mkdir a b; for i in 1 2 3; do sync; done");
	before = resident_kib();
	for (long i = 0; i < many; i++) {
		snprintf(name, sizeof(name), "a/%ld-%0100d", i, 0);
		touch(name);
	}
	run("sync a");
	list();
	full = resident_kib();
	while (resident_kib() - before > (full - before) / 2 + 8192 && is_patient(end)) {
		run("echo 2 > /proc/sys/vm/drop_caches");
		sleep_ms(200);
	}
	print_message("%ld KiB, %ld with %ld files known, %ld when forgotten\n", before, full, many,
		      resident_kib());
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
	assert_true(resident_kib() - before <= (full - before) / 2 + 8192);
#endif
	assert_int_equal(atol(run("ls a | wc -l")), many);
}

static void what_is_forgotten_costs_nothing(void **state)
{
	(void)state;
	check_forgotten(list_in_peace);
}

static void what_was_listed_ahead_in_vain_costs_nothing(void **state)
{
	(void)state;
	check_forgotten(list_among_changes);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, mount_end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_name_of_255_bytes_may_be_anything),
		TEST(a_path_has_4095_bytes),
		TEST(a_symbolic_link_has_4095_bytes),
		TEST(folders_nest_by_the_thousand),
		TEST(many_entries_are_listed_and_removed),
		TEST(small_buffers_and_removals_skip_and_repeat_nothing),
		TEST(a_place_in_a_listing_outlives_removals),
		TEST(files_are_open_by_the_thousand),
		TEST(many_clients_and_a_forgetful_kernel_agree),
		TEST(what_is_forgotten_costs_nothing),
		TEST(what_was_listed_ahead_in_vain_costs_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

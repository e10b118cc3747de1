/* Many processes at once, in directories of their own and in the same one. ROUNDS=n lets readers
 * stand against so many replacements (200). */
#include "mount/mount.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { WORKERS = 8 };

struct worker {
	int id;
	const char *folder; /* where it works; "own": one for each */
	unsigned granted;   /* what it was granted, for the test to add up */
};

static struct worker *workers; /* shared with the children */

/* Runs `work` in all workers at once; all must succeed. */
static void all(int (*work)(void *worker), const char *folder)
{
	pid_t pids[WORKERS];

	if (!workers)
		workers = mmap(NULL, WORKERS * sizeof(*workers), PROT_READ | PROT_WRITE,
			       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(workers, MAP_FAILED);
	for (int i = 0; i < WORKERS; i++) {
		workers[i] = (struct worker){ .id = i, .folder = folder };
		pids[i] = spawn(work, &workers[i]);
	}
	for (int i = 0; i < WORKERS; i++)
		assert_true(joined(pids[i]));
}

/* Creates, rewrites, renames, removes and lists, as the only one to use names with its number; its
 * memory is the model. 0: free. */
static int mix(void *arg)
{
	enum { NAMES = 40, STEPS = 1500 };
	const struct worker *w = arg;
	unsigned model[NAMES] = { 0 };
	uint64_t seed = (uint64_t)w->id;
	char name[64], other[64], text[32], folder[32];

	if (strcmp(w->folder, "own") == 0)
		snprintf(folder, sizeof(folder), "own%d", w->id);
	else
		snprintf(folder, sizeof(folder), "%s", w->folder);
	if (mkdir(folder, 0755) < 0)
		assert_int_equal(errno, EEXIST);
	for (unsigned step = 1; step <= STEPS; step++) {
		const unsigned a = (unsigned)(random_next(&seed) % NAMES);
		const unsigned b = (unsigned)(random_next(&seed) % NAMES);

		snprintf(name, sizeof(name), "%s/%d-%u", folder, w->id, a);
		snprintf(other, sizeof(other), "%s/%d-%u", folder, w->id, b);
		snprintf(text, sizeof(text), "%u", step);
		switch (random_next(&seed) % 4) {
		case 0:
			put(name, text);
			model[a] = step;
			break;
		case 1:
			if (model[a] == 0) {
				assert_errno(rename(name, other), ENOENT);
			} else if (a != b) {
				assert_ok(rename(name, other));
				model[b] = model[a];
				model[a] = 0;
			}
			break;
		case 2:
			if (model[a])
				assert_ok(unlink(name));
			else
				assert_errno(unlink(name), ENOENT);
			model[a] = 0;
			break;
		default:
			if (model[a])
				assert_int_equal(strtoul(get(name), NULL, 10), model[a]);
			else
				assert_false(exists(name));
		}
	}
	for (unsigned i = 0; i < NAMES; i++) {
		snprintf(name, sizeof(name), "%s/%d-%u", folder, w->id, i);
		assert_int_equal(exists(name), model[i] != 0);
		if (model[i])
			assert_int_equal(strtoul(get(name), NULL, 10), model[i]);
	}
	return 0;
}

static void workers_in_their_own_directories_do_not_disturb_each_other(void **state)
{
	(void)state;
	all(mix, "own");
}

static void workers_in_one_directory_do_not_disturb_each_other(void **state)
{
	(void)state;
	all(mix, "shared");
	run("ls shared > %s/before", base_path());
	mount_again();
	run("ls shared | cmp - %s/before; cat shared/* > /dev/null", base_path());
}

static int create_exclusively(void *arg)
{
	struct worker *w = arg;
	char name[32];

	for (int i = 0; i < 300; i++) {
		int fd;

		snprintf(name, sizeof(name), "k%d", i);
		fd = open(name, O_WRONLY | O_CREAT | O_EXCL, 0644);
		if (fd >= 0) {
			w->granted++;
			assert_ok(close(fd));
		} else {
			assert_int_equal(errno, EEXIST);
		}
	}
	return 0;
}

static void exclusive_creation_is_granted_to_exactly_one(void **state)
{
	unsigned granted = 0;

	(void)state;
	all(create_exclusively, "");
	for (int i = 0; i < WORKERS; i++)
		granted += workers[i].granted;
	assert_int_equal(granted, 300);
}

static int replace(void *arg)
{
	const struct worker *w = arg;
	char name[32];

	snprintf(name, sizeof(name), "t%d", w->id);
	for (int i = 0; i < 100; i++) {
		put(name, "x");
		assert_ok(rename(name, "k"));
	}
	return 0;
}

static void each_of_many_replacements_is_one_version(void **state)
{
	(void)state;
	only_cubby();
	put("k", "first");
	all(replace, "");
	assert_int_equal(version("k"), 1 + WORKERS * 100);
}

static int append(void *arg)
{
	const struct worker *w = arg;
	char line[64];
	const int fd = open("log", O_WRONLY | O_CREAT | O_APPEND, 0644);

	assert_ok(fd);
	for (int i = 0; i < 200; i++) {
		const int n = snprintf(line, sizeof(line), "worker %d line %d\n", w->id, i);

		assert_int_equal(write(fd, line, (size_t)n), n);
	}
	assert_ok(close(fd));
	return 0;
}

static void appended_lines_are_whole_and_all_there(void **state)
{
	(void)state;
	all(append, "");
	assert_string_equal(
		run("grep -Ecx 'worker [0-7] line [0-9]+' log; wc -l < log; sort -u log | wc -l"),
		"1600\n1600\n1600");
}

/* Worker 0 replaces by rename, the others read: always one whole value, and never an older one. */
static int replace_or_read(void *arg)
{
	const unsigned long rounds = number_from_env("ROUNDS", 200);
	const struct worker *w = arg;
	char text[64];
	unsigned long last = 0;

	for (unsigned long i = 1; w->id == 0 && i <= rounds; i++) {
		snprintf(text, sizeof(text), "%lu %lu\n", i, i);
		put("t", text);
		assert_ok(rename("t", "k"));
	}
	while (w->id != 0 && last < rounds) {
		unsigned long a = 0, b = 1;

		assert_int_equal(sscanf(get("k"), "%lu %lu\n", &a, &b), 2);
		assert_int_equal(a, b);
		assert_true(a >= last);
		last = a;
	}
	return 0;
}

static void a_reader_sees_one_whole_value_while_it_is_replaced(void **state)
{
	(void)state;
	put("k", "0 0\n");
	all(replace_or_read, "");
}

/* Worker 0 lists, the others create and remove between the names that stay. */
static int churn_or_list(void *arg)
{
	enum { STABLE = 600, LISTINGS = 30 };
	struct worker *w = arg;
	unsigned seen[STABLE];
	char name[32];

	for (int i = 0; w->id != 0 && exists("d/go-on"); i++) {
		snprintf(name, sizeof(name), "d/k%04d.%d", i * 7 % STABLE, w->id);
		put(name, "");
		assert_ok(unlink(name));
	}
	for (int i = 0; w->id == 0 && i < LISTINGS; i++) {
		DIR *d = opendir("d");
		struct dirent *e;
		unsigned index;
		char dot;

		assert_non_null(d);
		memset(seen, 0, sizeof(seen));
		while ((e = readdir(d)))
			if (sscanf(e->d_name, "k%4u%c", &index, &dot) == 1)
				seen[index]++;
		assert_ok(closedir(d));
		for (int k = 0; k < STABLE; k++)
			assert_int_equal(seen[k], 1);
	}
	if (w->id == 0)
		assert_ok(unlink("d/go-on"));
	return 0;
}

static void a_listing_neither_skips_nor_repeats_names_that_stay(void **state)
{
	(void)state;
	run("mkdir d; touch d/go-on $(seq -f 'd/k%%04g' 0 599)");
	all(churn_or_list, "");
}

/* Four pairs of names are swapped while others rename whole tables to and fro: nothing is lost. */
static int shuffle(void *arg)
{
	const struct worker *w = arg;
	char a[32], b[32];

	snprintf(a, sizeof(a), "%s%d", w->id % 2 ? "a/d" : "b/d", w->id / 2 * 2);
	snprintf(b, sizeof(b), "%s%d", w->id % 2 ? "b/d" : "a/d", w->id / 2 * 2);
	for (int i = 0; i < 300; i++)
		if (rename(a, b) < 0)
			assert_true(errno == ENOENT || errno == ENOTEMPTY || errno == EEXIST);
	return 0;
}

static void tables_renamed_to_and_fro_keep_what_is_in_them(void **state)
{
	(void)state;
	run("mkdir a b; for i in 0 2 4 6; do mkdir a/d$i; echo $i > a/d$i/k; done");
	all(shuffle, "");
	assert_string_equal(run("cat $(find a b -name k) | sort | tr -d '\\n'"), "0246");
	mount_again();
	assert_string_equal(run("cat $(find a b -name k) | sort | tr -d '\\n'"), "0246");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, mount_begin, mount_end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(workers_in_their_own_directories_do_not_disturb_each_other),
		TEST(workers_in_one_directory_do_not_disturb_each_other),
		TEST(exclusive_creation_is_granted_to_exactly_one),
		TEST(each_of_many_replacements_is_one_version),
		TEST(appended_lines_are_whole_and_all_there),
		TEST(a_reader_sees_one_whole_value_while_it_is_replaced),
		TEST(a_listing_neither_skips_nor_repeats_names_that_stay),
		TEST(tables_renamed_to_and_fro_keep_what_is_in_them),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

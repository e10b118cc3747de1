/* What is removed from a mounted store makes its files smaller, when nobody wants anything: on a
 * mount that stays, on one that comes back, and if the daemon dies again and again meanwhile. */
#include "mount/mount.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store.h"

enum {
	LARGE = 200, LARGE_SIZE = 300 * 1000,
	SMALL = 6000, SMALL_SIZE = 900,
	KEEP = 10,		/* one in so many stays */
	/* What is left takes some 7 MiB; a quarter more, and a few MiB. */
	ENOUGH = 14 << 20,
	PATIENCE_MS = 150 * 1000,
};

/* The background counts in commit intervals. */
static const char quick[] = "commit=0.1,sync=standard";

static void fill_in(const char *folder, unsigned count, unsigned size)
{
	static uint8_t bytes[LARGE_SIZE];
	char name[64];

	assert_ok(mkdir(folder, 0755));
	for (unsigned i = 0; i < count; i++) {
		snprintf(name, sizeof(name), "%s/%04u", folder, i);
		random_fill(bytes, size, i);
		put_bytes(name, bytes, size);
	}
}

static void remove_most(const char *folder, unsigned count)
{
	char name[64];

	for (unsigned i = 0; i < count; i++) {
		if (i % KEEP == 0)
			continue;
		snprintf(name, sizeof(name), "%s/%04u", folder, i);
		assert_ok(unlink(name));
	}
}

static void rest_is_there(const char *folder, unsigned count, unsigned size)
{
	static uint8_t bytes[LARGE_SIZE];
	char name[64];

	for (unsigned i = 0; i < count; i++) {
		snprintf(name, sizeof(name), "%s/%04u", folder, i);
		random_fill(bytes, size, i);
		if (i % KEEP ? exists(name) : !holds(name, bytes, size))
			fail_msg("%s is not what it should be", name);
	}
}

static uint64_t pages_size(void)
{
	char path[4096];
	struct stat st;

	snprintf(path, sizeof(path), "%s/pages", store_path());
	assert_ok(stat(path, &st));
	return (uint64_t)st.st_size;
}

static void becomes_small(void)
{
	const int64_t end = now_ms() + PATIENCE_MS;

	while (pages_size() > ENOUGH && now_ms() < end)
		sleep_ms(100);
	print_message("%llu KiB\n", (unsigned long long)pages_size() / 1024);
	assert_in_range(pages_size(), 0, ENOUGH);
}

/* A store from which most was removed just now. */
static void begin(void)
{
	only_cubby();
	mount_start(quick);
	fill_in("large", LARGE, LARGE_SIZE);
	fill_in("small", SMALL, SMALL_SIZE);
	assert_true(pages_size() > 3 * (uint64_t)ENOUGH);
	remove_most("large", LARGE);
	remove_most("small", SMALL);
}

static void verify(void)
{
	const struct store_options options = { .commit_ns = 1000000000 };
	struct store *store;
	struct err err;

	if (store_open(os_posix(), store_path(), &options, &store, &err) < 0)
		fail_msg("open: %s", err.text);
	if (store_verify(store, NULL, NULL, &err) < 0)
		fail_msg("verify: %s", err.text);
	assert_int_equal(store_close(store), 0);
}

static void all_is_well(void)
{
	rest_is_there("large", LARGE, LARGE_SIZE);
	rest_is_there("small", SMALL, SMALL_SIZE);
	mount_stop();
	verify();
	mount_start(quick);
	rest_is_there("large", LARGE, LARGE_SIZE);
	rest_is_there("small", SMALL, SMALL_SIZE);
}

static void an_idle_mount_gives_its_space_back(void **state)
{
	(void)state;
	begin();
	becomes_small();
	all_is_well();
}

static void the_next_mount_goes_on_with_it(void **state)
{
	(void)state;
	begin();
	mount_stop();
	mount_start(quick);
	becomes_small();
	all_is_well();
}

static void a_daemon_may_die_of_it_at_any_moment(void **state)
{
	uint64_t seed = number_from_env("SEED", 1);
	(void)state;

	begin();
	for (unsigned i = 0; i < number_from_env("KILLS", 6); i++) {
		sleep_ms(900 + (int64_t)(random_next(&seed) % 700));
		mount_kill();
		mount_start(quick);
	}
	becomes_small();
	all_is_well();
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, mount_fresh, mount_end)
	const struct CMUnitTest tests[] = {
		TEST(an_idle_mount_gives_its_space_back),
		TEST(the_next_mount_goes_on_with_it),
		TEST(a_daemon_may_die_of_it_at_any_moment),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

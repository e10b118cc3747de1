/* Resident memory, as the machine counts it, while everything happens for long on a real disk, a
 * slow one too: it stays within the cache and what a store may have beside it, though the store is
 * many times larger and though drafts and several snapshots are open. Not under a sanitizer, which
 * has a memory of its own. */
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "draft_kit.h"
#include "engine.h"
#include "sim/sanitized.h"

enum {
	MIB = 1 << 20,
	CACHE = 8 * MIB,
	BESIDE = 32 * MIB,
	THREADS = 3,
	KEYS = 20000,			/* of each thread */
	STEPS = 15000,			/* likewise */
	LARGE = 8,			/* of the keys are those of large values */
	LARGE_MAX = 2 * MIB,
	KEPT = 4,			/* snapshots at a time */
};

/* ---- vocabulary ------------------------------------------------------------------------- */

static uint64_t resident(void)
{
	char text[128] = "";
	unsigned long long all, pages;
	const int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_true(read(fd, text, sizeof(text) - 1) > 0);
	close(fd);
	assert_int_equal(sscanf(text, "%llu %llu", &all, &pages), 2);
	return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static void new_folder(char *path)
{
	strcpy(path, "/var/tmp/cubby-memory.XXXXXX");
	assert_non_null(mkdtemp(path));
}

static void remove_folder(const char *path)
{
	char command[64];

	snprintf(command, sizeof(command), "rm -r %s", path);
	assert_int_equal(system(command), 0);
}

static uint64_t pick_of(uint64_t *random, uint64_t below)
{
	*random = *random * 6364136223846793005u + 1442695040888963407u;
	return (*random >> 33) % below;
}

struct worker {
	uint32_t number;
	uint64_t random;
	struct engine *engine;
	struct store *store;
	atomic_int *running;
	int rc;				/* the first answer that should not have been */
	uint8_t *bytes;			/* LARGE_MAX of them */
};

/* Looks at the memory until all are done, and returns the most that there was. */
static uint64_t watch(struct worker *workers, void *(*work)(void *arg))
{
	pthread_t threads[THREADS];
	atomic_int running = THREADS;
	uint64_t most = 0;

	for (uint32_t t = 0; t < THREADS; t++) {
		workers[t].running = &running;
		workers[t].random = workers[t].number = t;
		workers[t].bytes = pattern(LARGE_MAX, t);
		assert_int_equal(pthread_create(&threads[t], NULL, work, &workers[t]), 0);
	}
	while (atomic_load(&running)) {
		const uint64_t now = resident();

		most = now > most ? now : most;
		usleep(5000);
	}
	for (uint32_t t = 0; t < THREADS; t++) {
		pthread_join(threads[t], NULL);
		assert_int_equal(workers[t].rc, 0);
		free(workers[t].bytes);
	}
	return most;
}

/* `base`: what the process had before, with what the workers themselves have. */
static void assert_within(uint64_t most, uint64_t base, uint64_t held)
{
	print_message("%llu KiB, of a store of %llu KiB\n",
		      (unsigned long long)(most - base) / 1024, (unsigned long long)held / 1024);
	assert_true(held > 4 * (uint64_t)CACHE);
	if (most > base + CACHE + BESIDE)
		fail_msg("%llu bytes", (unsigned long long)(most - base));
}

/* ---- the engine ------------------------------------------------------------------------- */

static int count_some(void *arg, const struct engine_entry *entry)
{
	unsigned *left = arg;

	(void)entry;
	return --*left == 0;
}

static int change_snapshots(struct worker *w, struct engine_snapshot **moment)
{
	const uint64_t name = pick_of(&w->random, KEPT);
	unsigned left = 300;
	int rc = 0;

	if (*moment)
		rc = engine_snapshot_scan(*moment, slice_str("key 1"), count_some, &left);
	engine_snapshot_close(*moment);
	*moment = NULL;
	if (rc >= 0)
		rc = engine_snapshot_open(w->engine, moment);
	if (rc == 0)
		rc = engine_snapshot_create(w->engine, slice_of(&name, 1));
	if (rc == -EEXIST)
		rc = engine_snapshot_delete(w->engine, slice_of(&name, 1));
	return rc == -ENOENT || rc == -EEXIST ? 0 : rc;
}

static int change_entry(struct worker *w, struct batch *batch, uint32_t k)
{
	const size_t size = (size_t)pick_of(&w->random, 700);
	char text[32];
	const struct slice key = slice_of(text, (size_t)sprintf(text, "key %u %u", k, w->number));
	struct ref run;
	int rc = 0;

	if (k % 200 == 0) {
		rc = engine_run_write(w->engine, slice_of(w->bytes, 65536), &run);
		if (rc == 0)
			batch_put_run(batch, key, &run, slice_str("beside"));
	} else if (k % 11 == 0) {
		batch_delete(batch, key);
	} else {
		batch_put(batch, key, slice_of(w->bytes, 100 + size));
		batch_patch(batch, key, 50, slice_of(w->bytes, size));
	}
	return rc;
}

static void *work_on_engine(void *arg)
{
	struct worker *w = arg;
	struct engine_snapshot *moment = NULL;
	struct batch batch = { 0 };
	uint64_t revision;

	for (uint32_t i = 0; w->rc == 0 && i < STEPS; i++) {
		w->rc = change_entry(w, &batch, (uint32_t)pick_of(&w->random, KEYS));
		if (w->rc == 0 && i % 8 == 0) {
			engine_pace(w->engine);
			w->rc = engine_commit(w->engine, &batch, false, &revision);
			batch_clear(&batch);
		}
		if (w->rc == 0 && i % 4000 == 17)
			w->rc = change_snapshots(w, &moment);
	}
	engine_snapshot_close(moment);
	batch_done(&batch);
	atomic_fetch_sub(w->running, 1);
	return NULL;
}

/* A disk that makes some two hundred syncs a second, and writes 100 MB. */
static int slow_sync(struct os_file *file)
{
	static const struct timespec nap = { 0, 4000000 };

	nanosleep(&nap, NULL);
	return os_posix()->sync(file);
}

static int slow_flush(struct os_file *file, uint64_t offset, uint64_t size, bool wait)
{
	const struct timespec nap = { 0, (long)(size * 10) };

	nanosleep(&nap, NULL);
	return os_posix()->flush(file, offset, size, wait);
}

static void engine_stays_within(struct os *os)
{
	const struct engine_options options = {
		.create = true, .background = true, .cache = CACHE, .log_cap = 16 * MIB,
		.commit_ns = 50000000,
	};
	struct worker workers[THREADS] = { 0 };
	struct engine_stats stats;
	struct engine *e;
	uint64_t base, most;
	char path[32];

	if (SANITIZED)
		skip();
	new_folder(path);
	base = resident() + THREADS * (uint64_t)LARGE_MAX;
	assert_int_equal(engine_open(os, path, &options, &e, NULL), 0);
	for (int t = 0; t < THREADS; t++)
		workers[t].engine = e;
	most = watch(workers, work_on_engine);
	assert_int_equal(engine_stats(e, &stats), 0);
	assert_within(most, base, stats.page_bytes);
	assert_int_equal(engine_close(e), 0);
	remove_folder(path);
}

static void an_engine_stays_within_its_cache_and_32_mib(void **state)
{
	(void)state;
	engine_stays_within(os_posix());
}

static void it_does_so_on_a_slow_disk(void **state)
{
	struct os os = *os_posix();
	(void)state;

	os.sync = slow_sync;
	os.flush = slow_flush;
	engine_stays_within(&os);
}

/* ---- the store -------------------------------------------------------------------------- */

/* Overwrites a part of a value, or all of it, in pieces as programs write them. */
static int write_value(struct worker *w, struct draft *d, bool large)
{
	const uint64_t size = 1 + pick_of(&w->random, large ? LARGE_MAX : 3000);
	const uint64_t first = large && pick_of(&w->random, 4) ? size - size % 40000 : 0;
	int rc = first ? 0 : draft_truncate(d, 0);

	for (uint64_t at = first; rc == 0 && at < size; at += 128 * KIB)
		rc = draft_write(d, at, slice_of(w->bytes, size - at < 128 * KIB ?
						 (size_t)(size - at) : 128 * KIB));
	return rc;
}

static int change_value(struct worker *w, struct place place, bool large)
{
	const struct store_new what = { .mode = S_IFREG | 0644, .staged = true };
	struct draft *d = NULL;
	uint64_t revision;
	int rc = store_make(w->store, place, &what, NULL, &revision);

	if (rc == 0 || rc == -EEXIST)
		rc = draft_open(w->store, place, &d);
	if (rc == 0)
		rc = write_value(w, d, large);
	if (rc == 0)
		rc = draft_publish(d, place, NULL, &revision);
	draft_close(d);
	return rc;
}

static int read_value(struct worker *w, struct place place)
{
	static _Thread_local uint8_t bytes[128 * KIB];
	const ssize_t n = store_read(w->store, place, 0, bytes, sizeof(bytes));

	return n < 0 && n != -ENOENT ? (int)n : 0;
}

static void *work_on_store(void *arg)
{
	struct worker *w = arg;

	for (uint32_t i = 0; w->rc == 0 && i < STEPS / 3; i++) {
		const uint64_t k = pick_of(&w->random, KEYS);
		const bool large = i % 100 == 0;
		char name[32];
		uint64_t revision;

		snprintf(name, sizeof(name), "%s %u %u", large ? "large" : "small", w->number,
			 (unsigned)(large ? k % LARGE : k));
		switch (i % 8) {
		case 3:
			w->rc = store_remove(w->store, at(STORE_ROOT, name), 0, NULL, &revision);
			w->rc = w->rc == -ENOENT ? 0 : w->rc;
			break;
		case 5:
			w->rc = read_value(w, at(STORE_ROOT, name));
			break;
		default:
			w->rc = change_value(w, at(STORE_ROOT, name), large);
		}
	}
	atomic_fetch_sub(w->running, 1);
	return NULL;
}

static void a_store_stays_within_its_cache_and_32_mib(void **state)
{
	const struct store_options options = {
		.create = true, .background = true, .cache = CACHE, .log_cap = 16 * MIB,
		.commit_ns = 50000000,
	};
	struct worker workers[THREADS] = { 0 };
	struct engine_stats stats;
	struct store *s;
	uint64_t base, most;
	char path[32];
	(void)state;

	if (SANITIZED)
		skip();
	new_folder(path);
	base = resident() + THREADS * (uint64_t)LARGE_MAX;
	assert_int_equal(store_open(os_posix(), path, &options, &s, NULL), 0);
	for (int t = 0; t < THREADS; t++)
		workers[t].store = s;
	most = watch(workers, work_on_store);
	assert_int_equal(store_stats(s, &stats), 0);
	assert_within(most, base, stats.page_bytes);
	assert_int_equal(store_close(s), 0);
	remove_folder(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_engine_stays_within_its_cache_and_32_mib),
		cmocka_unit_test(it_does_so_on_a_slow_disk),
		cmocka_unit_test(a_store_stays_within_its_cache_and_32_mib),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

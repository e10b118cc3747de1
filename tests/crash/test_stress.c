/* Everybody at once: writers of small and of large values, patches, readers, listings, snapshots,
 * checkpoints and verifications, with a cache that is far too small and a log that is always full;
 * then the power goes. A thread sanitizer is who sees most of what could be wrong; the rest is
 * compared.
 *
 * ROUNDS=n does it so many times (2). */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "engine.h"
#include "sim/medium.h"
#include "sim/moments.h"
#include "sim/tell.h"
#include "sum.h"

enum {
	WRITERS = 3,
	KEYS = 40,		/* of each writer, and of nobody else */
	COMMITS = 250,		/* of each, in a round */
	ROUNDS = 2,
	CUT_LATEST = 1500,	/* operations until the power goes */
	PACED = 16,		/* one commit of so many waits as it is asked to */
	KEPT = 3,		/* snapshots that are kept at a time */
};

struct crowd {
	struct sim *disk;	/* NULL: a real one */
	struct engine *engine;
	atomic_bool stop;
	atomic_int wrong;	/* the first answer that should not have been */
};

/* What one writer did. Its stamps rise, so a key has the stamp that was acknowledged or a later
 * one. */
struct writer {
	struct crowd *crowd;
	uint32_t number;
	uint64_t random;
	uint32_t tried[KEYS], acknowledged[KEYS];
};

static void complain(struct crowd *c, int rc)
{
	int none = 0;

	if (rc < 0 && !(c->disk && sim_is_cut(c->disk)))
		atomic_compare_exchange_strong(&c->wrong, &none, rc);
}

static struct slice key_of(char *text, uint32_t writer, uint32_t k)
{
	return slice_of(text, (size_t)sprintf(text, "w%u key %u", writer, k));
}

/* The stamp, and filler that tells a mixture. */
static uint32_t size_of(uint32_t stamp)
{
	return 4 + stamp * 37 % (stamp % 9 ? 500 : 3000);
}

static int put(struct writer *w, struct batch *batch, uint32_t k, uint32_t stamp)
{
	static _Thread_local uint8_t bytes[70000];
	char text[32];
	const struct slice key = key_of(text, w->number, k);
	struct ref run;
	int rc = 0;

	if (k % 8 == 0) {
		moments_fill(bytes, stamp, 1000 + stamp % 60000);
		rc = engine_run_write(w->crowd->engine, slice_of(bytes, 1000 + stamp % 60000),
				      &run);
		moments_fill(bytes, stamp, 4);
		if (rc == 0)
			batch_put_run(batch, key, &run, slice_of(bytes, 4));
	} else {
		moments_fill(bytes, stamp, size_of(stamp));
		batch_put(batch, key, slice_of(bytes, size_of(stamp)));
		batch_patch(batch, key, size_of(stamp), slice_of("patched", 7));
	}
	return rc;
}

static int commit(struct writer *w, uint32_t stamp)
{
	const uint32_t first = (uint32_t)(chance(&w->random) % KEYS);
	struct batch batch = { 0 };
	uint64_t revision;
	int rc = 0;

	for (uint32_t k = first; k < first + 3 && rc == 0; k++) {
		w->tried[k % KEYS] = stamp;
		rc = put(w, &batch, k % KEYS, stamp);
	}
	if (stamp % PACED == 0)
		engine_pace(w->crowd->engine);
	if (rc == 0)
		rc = engine_commit(w->crowd->engine, &batch, false, &revision);
	if (rc == 0)
		rc = engine_wait_blocking(w->crowd->engine, revision,
					  stamp % 3 ? LOG_WRITTEN : LOG_SYNCED);
	for (uint32_t k = first; k < first + 3 && rc == 0 && stamp % 3 == 0; k++)
		w->acknowledged[k % KEYS] = stamp;
	batch_done(&batch);
	return rc;
}

static void *write_for_long(void *arg)
{
	struct writer *w = arg;
	int rc = 0;

	for (uint32_t i = 1; i <= COMMITS && rc == 0; i++)
		rc = commit(w, i);
	complain(w->crowd, rc);
	return NULL;
}

/* ---- whoever looks on ------------------------------------------------------------------- */

/* What is found is some stamp, whole. Returns it, 0 if there is none, or an error. */
static int read_key(struct engine *engine, uint32_t writer, uint32_t k)
{
	static _Thread_local uint8_t bytes[70000];
	struct buffer value = { 0 };
	struct what what = { 0 };
	struct ref run;
	char text[32];
	int rc = engine_get(engine, key_of(text, writer, k), &value, &run);

	if (rc == 0)
		what.stamp = get32(value.data);
	what.run_size = run.length;
	if (rc == 0 && run.length) {
		what.size = 4;
		rc = engine_run_read(engine, &run, bytes);
		if (rc == 0 && !moments_match_run(slice_of(bytes, run.length), what))
			rc = -EILSEQ;
	} else if (rc == 0) {
		what.size = size_of(what.stamp);
		if (value.size != what.size + 7 ||
		    memcmp(value.data + what.size, "patched", 7) != 0 ||
		    !moments_match_value(slice_of(value.data, what.size), what))
			rc = -EILSEQ;
	}
	buffer_done(&value);
	return rc == 0 ? (int)what.stamp : rc == -ENOENT ? 0 : rc;
}

/* A run may have been replaced since its entry was read; then the entry is read again. */
static void *read_for_long(void *arg)
{
	struct crowd *c = arg;
	uint64_t random = 5;

	while (!atomic_load(&c->stop)) {
		const uint32_t w = (uint32_t)(chance(&random) % WRITERS);
		const int rc = read_key(c->engine, w, (uint32_t)(chance(&random) % KEYS));

		if (rc != -EBADMSG)
			complain(c, rc);
	}
	return NULL;
}

struct order {
	char last[MOMENTS_KEY_MAX];
	size_t size;
};

static int rises(void *arg, const struct engine_entry *entry)
{
	struct order *o = arg;

	if (slice_compare(slice_of(o->last, o->size), entry->key) >= 0)
		return -EILSEQ;
	memcpy(o->last, entry->key.data, o->size = entry->key.size);
	return 0;
}

static void *list_for_long(void *arg)
{
	struct crowd *c = arg;

	while (!atomic_load(&c->stop)) {
		struct order o = { .size = 0 };

		complain(c, engine_scan(c->engine, slice_of("", 0), rises, &o));
	}
	return NULL;
}

static int add_up(void *arg, const struct engine_entry *entry)
{
	uint64_t *sum = arg;

	*sum = *sum * 31 + sum64(entry->value.data, entry->value.size) + entry->run->offset;
	return 0;
}

/* A moment stays what it is, whatever happens meanwhile. */
static int look_twice(struct engine_snapshot *snapshot)
{
	uint64_t sums[2] = { 0, 0 };
	int rc = 0;

	for (int i = 0; i < 2 && rc == 0; i++)
		rc = engine_snapshot_scan(snapshot, slice_of("", 0), add_up, &sums[i]);
	return rc == 0 && sums[0] != sums[1] ? -EILSEQ : rc;
}

/* Keeps one more, and drops the oldest while it is read. */
static int keep_and_drop(struct engine *engine, uint32_t number)
{
	struct engine_snapshot *snapshot = NULL;
	const uint8_t fresh = (uint8_t)number, old = (uint8_t)(number - KEPT);
	int rc = engine_snapshot_create(engine, slice_of(&fresh, 1));

	if (rc < 0 || number < KEPT)
		return rc;
	rc = engine_snapshot_open_kept(engine, slice_of(&old, 1), &snapshot);
	if (rc == 0)
		rc = engine_snapshot_delete(engine, slice_of(&old, 1));
	if (rc == 0)
		rc = look_twice(snapshot);
	engine_snapshot_close(snapshot);
	return rc;
}

static void *snapshot_for_long(void *arg)
{
	struct crowd *c = arg;
	struct engine_snapshot *snapshot;
	int rc = 0;

	for (uint32_t i = 0; rc == 0 && !atomic_load(&c->stop); i++) {
		rc = engine_snapshot_open(c->engine, &snapshot);
		if (rc < 0)
			break;
		rc = look_twice(snapshot);
		if (rc == 0)
			rc = keep_and_drop(c->engine, i);
		if (rc == 0)
			rc = look_twice(snapshot);
		engine_snapshot_close(snapshot);
	}
	complain(c, rc);
	return NULL;
}

static void *checkpoint_for_long(void *arg)
{
	struct crowd *c = arg;

	while (!atomic_load(&c->stop))
		complain(c, engine_checkpoint(c->engine));
	return NULL;
}

static void *verify_for_long(void *arg)
{
	struct crowd *c = arg;

	while (!atomic_load(&c->stop))
		complain(c, engine_verify(c->engine, NULL, NULL, NULL));
	return NULL;
}

/* ---- stories ---------------------------------------------------------------------------- */

static const struct engine_options options = {
	.create = true, .background = true, .segment_size = 64 * 1024, .log_cap = 256 * 1024,
	.cache = 40 * 1024, .commit_ns = 1000000,
};

static void everybody_at_once(struct crowd *c, struct writer *writers)
{
	void *(*const others[])(void *) = {
		read_for_long, read_for_long, list_for_long, snapshot_for_long, checkpoint_for_long,
		verify_for_long,
	};
	enum { OTHERS = sizeof(others) / sizeof(others[0]) };
	pthread_t threads[WRITERS + OTHERS];

	for (uint32_t i = 0; i < OTHERS; i++)
		assert_int_equal(pthread_create(&threads[WRITERS + i], NULL, others[i], c), 0);
	for (uint32_t i = 0; i < WRITERS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, write_for_long, &writers[i]), 0);
	for (uint32_t i = 0; i < WRITERS + OTHERS; i++) {
		if (i == WRITERS)
			atomic_store(&c->stop, true);
		pthread_join(threads[i], NULL);
	}
	assert_int_equal(atomic_load(&c->wrong), 0);
}

static void holds_what_was_written(struct engine *engine, const struct writer *writers)
{
	struct err err;

	for (uint32_t w = 0; w < WRITERS; w++)
		for (uint32_t k = 0; k < KEYS; k++)
			assert_in_range(read_key(engine, w, k), writers[w].acknowledged[k],
					writers[w].tried[k]);
	if (engine_verify(engine, NULL, NULL, &err) != 0)
		fail_msg("verify: %s", err.text);
}

/* `cut`: after so many operations the power goes; negative: it does not. */
static void a_round(uint64_t seed, int64_t cut)
{
	struct crowd c = { .disk = sim_new(seed) };
	struct writer writers[WRITERS];
	struct err err;

	for (uint32_t w = 0; w < WRITERS; w++)
		writers[w] = (struct writer){ .crowd = &c, .number = w, .random = seed + w };
	assert_int_equal(engine_open(sim_os(c.disk), "/store", &options, &c.engine, &err), 0);
	sim_cut_after(c.disk, cut);
	everybody_at_once(&c, writers);
	if (cut < 0)
		holds_what_was_written(c.engine, writers);
	engine_close(c.engine);
	sim_reboot(c.disk, SIM_SCATTER, seed);
	if (engine_open(sim_os(c.disk), "/store", &options, &c.engine, &err) != 0)
		fail_msg("open: %s", err.text);
	holds_what_was_written(c.engine, writers);
	assert_int_equal(engine_close(c.engine), 0);
	sim_free(c.disk);
}

/* The lying disk has one lock for all, which puts those in order who should be so without it. */
static void on_a_real_disk_nobody_is_disturbed_either(void **state)
{
	struct crowd c = { .disk = NULL };
	char path[] = "/tmp/cubby-stress.XXXXXX", command[64];
	struct writer writers[WRITERS];
	struct err err;
	(void)state;

	assert_non_null(mkdtemp(path));
	for (uint32_t w = 0; w < WRITERS; w++)
		writers[w] = (struct writer){ .crowd = &c, .number = w, .random = w + 1 };
	if (engine_open(os_posix(), path, &options, &c.engine, &err) != 0)
		fail_msg("open: %s", err.text);
	everybody_at_once(&c, writers);
	holds_what_was_written(c.engine, writers);
	assert_int_equal(engine_close(c.engine), 0);
	snprintf(command, sizeof(command), "rm -r %s", path);
	assert_int_equal(system(command), 0);
}

static void everybody_at_once_disturbs_nobody(void **state)
{
	const uint64_t rounds = tell_given("ROUNDS", ROUNDS);
	(void)state;

	for (uint64_t seed = 1; seed <= rounds; seed++)
		a_round(seed, -1);
}

static void what_was_acknowledged_among_many_survives_the_cut(void **state)
{
	const uint64_t rounds = 4 * tell_given("ROUNDS", ROUNDS);
	uint64_t random = 1;
	(void)state;

	for (uint64_t seed = 1; seed <= rounds; seed++)
		a_round(seed, (int64_t)(chance(&random) % CUT_LATEST));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(everybody_at_once_disturbs_nobody),
		cmocka_unit_test(on_a_real_disk_nobody_is_disturbed_either),
		cmocka_unit_test(what_was_acknowledged_among_many_survives_the_cut),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

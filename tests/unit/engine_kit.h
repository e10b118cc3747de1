/* engine_kit.h - the vocabulary of the engine's tests: an engine on a lying disk, whose values tell
 * which they are. */
#ifndef CUBBY_ENGINE_KIT_H
#define CUBBY_ENGINE_KIT_H

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "engine.h"
#include "sim/disk.h"

static const struct engine_options small = {
	.create = true, .segment_size = 64 * 1024, .log_cap = 256 * 1024,
};

static inline int try_open(struct sim *disk, const struct engine_options *options,
			   struct engine **e, struct err *err)
{
	return engine_open(sim_os(disk), "/store", options, e, err);
}

static inline struct engine *open_engine(struct sim *disk)
{
	struct engine *e;
	struct err err;

	if (try_open(disk, &small, &e, &err) != 0)
		fail_msg("open: %s", err.text);
	return e;
}

static inline struct slice key_of(char *text, uint32_t k)
{
	return slice_of(text, (size_t)sprintf(text, "key %06u", k));
}

static inline void fill(uint8_t *bytes, uint32_t stamp, uint32_t size)
{
	for (uint32_t i = 0; i < size; i++)
		bytes[i] = (uint8_t)(stamp * 37 + i * 11 + (i >> 7));
}

static inline int try_put(struct engine *e, uint32_t k, uint32_t stamp, uint32_t size, bool run)
{
	static _Thread_local uint8_t bytes[ENGINE_RUN_MAX];
	struct batch batch = { 0 };
	struct ref ref = { 0 };
	uint64_t revision;
	char text[32];
	int rc = 0;

	fill(bytes, stamp, size);
	if (run)
		rc = engine_run_write(e, slice_of(bytes, size), &ref);
	if (rc == 0) {
		if (run)
			batch_put_run(&batch, key_of(text, k), &ref, slice_of(&stamp, 4));
		else
			batch_put(&batch, key_of(text, k), slice_of(bytes, size));
		rc = engine_commit(e, &batch, false, &revision);
		if (rc < 0 && run)
			engine_run_drop(e, &ref);
	}
	if (rc == 0)
		rc = engine_wait_blocking(e, revision, LOG_SYNCED);
	batch_done(&batch);
	return rc;
}

static inline void put(struct engine *e, uint32_t k, uint32_t stamp, uint32_t size)
{
	assert_int_equal(try_put(e, k, stamp, size, false), 0);
}

/* 1: it holds just that; 0: there is no such key; else an error. */
static inline int holds(struct engine *e, uint32_t k, uint32_t stamp, uint32_t size)
{
	static uint8_t bytes[ENGINE_RUN_MAX], wanted[ENGINE_RUN_MAX];
	struct buffer value = { 0 };
	struct ref run;
	char text[32];
	int rc = engine_get(e, key_of(text, k), &value, &run);

	fill(wanted, stamp, size);
	if (rc == 0 && run.length) {
		rc = engine_run_read(e, &run, bytes);
		if (rc == 0)
			rc = run.length == size && memcmp(bytes, wanted, size) == 0 ? 1 : -EILSEQ;
	} else if (rc == 0) {
		rc = slice_equal(buffer_slice(&value), slice_of(wanted, size)) ? 1 : -EILSEQ;
	}
	buffer_done(&value);
	return rc == -ENOENT ? 0 : rc;
}

static inline void verified(struct engine *e)
{
	struct err err;

	if (engine_verify(e, NULL, NULL, &err) != 0)
		fail_msg("verify: %s", err.text);
}

#endif

/* draft_kit.h - what the tests of drafts share beyond store_kit.h: one value whose bytes tell where
 * they are, and words for what is to be done with it. */
#ifndef CUBBY_DRAFT_KIT_H
#define CUBBY_DRAFT_KIT_H

#include "store_kit.h"

#define KEY ((struct place){ STORE_ROOT, { "key", 3 } })

enum { KIB = 1024, CHUNK = STORE_CHUNK };

static uint64_t seed;		/* not 0 when `pick` is first asked */

static inline uint64_t pick(uint64_t below)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (seed >> 11) % below;
}

/* Bytes that tell where they are, and which value they belong to. */
static inline uint8_t *pattern(size_t size, unsigned value)
{
	uint8_t *bytes = malloc(size + 1);

	for (size_t i = 0; i < size; i++)
		bytes[i] = (uint8_t)(value * 37 + i * 7 + (i >> 8) * 3 + (i >> 16) * 11);
	return bytes;
}

static inline bool same(struct kit *k, struct draft *d, const uint8_t *want, size_t size)
{
	uint8_t *got = malloc(size + 10);
	const ssize_t n = d ? draft_read(d, 0, got, size + 10) :
			      store_read(k->store, KEY, 0, got, size + 10);
	const bool ok = n == (ssize_t)size && memcmp(got, want, size) == 0;

	free(got);
	return ok;
}

/* The published value is the pattern of this size. */
static inline bool published(struct kit *k, size_t size, unsigned value)
{
	uint8_t *want = pattern(size, value);
	const bool ok = same(k, NULL, want, size) && look(k, KEY).size == size;

	free(want);
	return ok;
}

/* Writes a whole new value in pieces of `step` bytes, and publishes it. */
static inline void put_pattern(struct kit *k, size_t size, unsigned value, size_t step)
{
	uint8_t *bytes = pattern(size, value);
	struct draft *d;

	if (!there(k, KEY))
		create(k, KEY);
	d = draft_of(k, KEY);
	assert_int_equal(draft_truncate(d, 0), 0);
	for (size_t i = 0; i < size; i += step)
		write_at(d, i, bytes + i, size - i < step ? size - i : step);
	assert_true(same(k, d, bytes, size));
	publish(k, d, KEY);
	assert_true(same(k, d, bytes, size));
	draft_close(d);
	free(bytes);
}

static inline uint64_t entries(struct kit *k)
{
	struct engine_stats stats;

	assert_int_equal(store_stats(k->store, &stats), 0);
	return stats.entries;
}

static inline void reclaim_all(struct kit *k)
{
	int rc;

	do {
		rc = store_reclaim(k->store, 100);
		assert_true(rc >= 0);
	} while (rc > 0);
}

#endif

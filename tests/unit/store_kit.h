/* store_kit.h - the vocabulary of the store's tests: a store on a lying disk, and short words for
 * what is done to it. Each word fails the test if the store answers otherwise. */
#ifndef CUBBY_STORE_KIT_H
#define CUBBY_STORE_KIT_H

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "draft.h"
#include "mem.h"
#include "sim/disk.h"
#include "store.h"

struct kit {
	struct sim *disk;
	struct store *store;
	struct store_options options;
	uint64_t revision;		/* of the last change made by a word below */
};

static inline void kit_mount(struct kit *k)
{
	struct err err = { "" };
	const int rc = store_open(sim_os(k->disk), "store", &k->options, &k->store, &err);

	if (rc)
		print_message("store_open: %s\n", err.text);
	assert_int_equal(rc, 0);
}

static inline void kit_is_clean(struct kit *k)
{
	struct err err = { "" };
	const int rc = store_verify(k->store, NULL, NULL, &err);

	if (rc)
		print_message("store_verify: %s\n", err.text);
	assert_int_equal(rc, 0);
}

static inline void kit_begin(struct kit *k)
{
	*k = (struct kit){
		.disk = sim_new(1),
		.options = { .create = true, .uid = 7, .gid = 8 },
	};
	sim_set_now(k->disk, 1700000000ull * 1000000000);
	kit_mount(k);
}

static inline void kit_end(struct kit *k)
{
	kit_is_clean(k);
	assert_int_equal(store_close(k->store), 0);
	sim_free(k->disk);
}

static inline void kit_reopen(struct kit *k)
{
	assert_int_equal(store_close(k->store), 0);
	kit_mount(k);
	kit_is_clean(k);
}

/* The power goes; of what was not synced `fate` decides. */
static inline void kit_crash(struct kit *k, enum sim_fate fate)
{
	sim_cut_after(k->disk, 0);
	store_close(k->store);
	sim_reboot(k->disk, fate, 42);
	kit_mount(k);
	kit_is_clean(k);
}

static inline void kit_sync(struct kit *k)
{
	assert_int_equal(store_wait_blocking(k->store, k->revision, LOG_SYNCED), 0);
}

static inline struct place at(uint64_t table, const char *name)
{
	return (struct place){ table, slice_str(name) };
}

/* ---- changes ------------------------------------------------------------------------------- */

static inline int make(struct kit *k, struct place place, uint32_t mode, bool staged,
		       struct attr *out)
{
	const struct store_new what = { .mode = mode, .uid = 1, .gid = 2, .staged = staged };

	return store_make(k->store, place, &what, out, &k->revision);
}

static inline uint64_t table(struct kit *k, struct place place)
{
	struct attr attr;

	assert_int_equal(make(k, place, S_IFDIR | 0755, false, &attr), 0);
	return attr.id;
}

static inline void create(struct kit *k, struct place place)
{
	assert_int_equal(make(k, place, S_IFREG | 0644, true, NULL), 0);
	assert_int_equal(k->revision, 0);
}

static inline struct draft *draft_of(struct kit *k, struct place place)
{
	struct draft *draft;

	assert_int_equal(draft_open(k->store, place, &draft), 0);
	return draft;
}

static inline void write_at(struct draft *d, uint64_t offset, const void *bytes, size_t size)
{
	assert_int_equal(draft_write(d, offset, slice_of(bytes, size)), 0);
}

static inline void publish(struct kit *k, struct draft *d, struct place place)
{
	assert_int_equal(draft_publish(d, place, NULL, &k->revision), 0);
}

/* Writes a whole new value, creating the key if there is none. */
static inline void put(struct kit *k, struct place place, const char *text)
{
	const int rc = make(k, place, S_IFREG | 0644, true, NULL);
	struct draft *d;

	assert_true(rc == 0 || rc == -EEXIST);
	d = draft_of(k, place);
	assert_int_equal(draft_truncate(d, 0), 0);
	write_at(d, 0, text, strlen(text));
	publish(k, d, place);
	draft_close(d);
}

static inline int renamed(struct kit *k, struct place from, struct place to, unsigned flags)
{
	return store_rename(k->store, from, to, flags, &k->revision);
}

static inline int removed(struct kit *k, struct place place, unsigned flags)
{
	return store_remove(k->store, place, flags, NULL, &k->revision);
}

static inline int set_version(struct kit *k, struct place place, uint64_t version, unsigned more)
{
	const struct attr values = { .version = version };

	return store_set(k->store, place, SET_VERSION | more, &values, NULL, &k->revision);
}

static inline int set_expires(struct kit *k, struct place place, uint64_t expires_ms)
{
	const struct attr values = { .expires_ms = expires_ms };

	return store_set(k->store, place, SET_EXPIRES, &values, NULL, &k->revision);
}

/* ---- looking ------------------------------------------------------------------------------- */

static inline struct attr look(struct kit *k, struct place place)
{
	struct attr attr = { 0 };

	assert_int_equal(store_lookup(k->store, place, &attr), 0);
	return attr;
}

static inline bool there(struct kit *k, struct place place)
{
	struct attr attr;
	const int rc = store_lookup(k->store, place, &attr);

	assert_true(rc == 0 || rc == -ENOENT);
	return rc == 0;
}

static inline uint64_t version(struct kit *k, struct place place)
{
	return look(k, place).version;
}

static inline bool holds(struct kit *k, struct place place, const char *text)
{
	char bytes[256];
	const ssize_t size = store_read(k->store, place, 0, bytes, sizeof(bytes));

	return size == (ssize_t)strlen(text) && memcmp(bytes, text, (size_t)size) == 0;
}

#endif

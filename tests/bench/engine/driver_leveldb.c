/* LevelDB, through its C interface. Compression off: the bench's values do not compress. */
#include <err.h>
#include <leveldb/c.h>
#include <stdlib.h>

#include "driver.h"

static leveldb_writeoptions_t *with_sync, *without_sync;
static leveldb_readoptions_t *reading;

static void check(const char *error)
{
	if (error)
		errx(1, "leveldb: %s", error);
}

static void *open_db(const char *path, const struct settings *settings)
{
	leveldb_options_t *options = leveldb_options_create();
	char *error = NULL;
	leveldb_t *db;

	leveldb_options_set_cache(options, leveldb_cache_create_lru(settings->cache));
	leveldb_options_set_filter_policy(options, leveldb_filterpolicy_create_bloom(10));
	leveldb_options_set_create_if_missing(options, 1);
	leveldb_options_set_compression(options, leveldb_no_compression);
	if (settings->keep_log)
		leveldb_options_set_write_buffer_size(options, (size_t)1 << 30);
	with_sync = leveldb_writeoptions_create();
	leveldb_writeoptions_set_sync(with_sync, 1);
	without_sync = leveldb_writeoptions_create();
	reading = leveldb_readoptions_create();
	db = leveldb_open(options, path, &error);
	check(error);
	return db;
}

static void close_db(void *db)
{
	leveldb_close(db);
}

static void write_ops(void *db, const struct op *ops, size_t count, bool durable)
{
	leveldb_writebatch_t *batch = leveldb_writebatch_create();
	char *error = NULL;

	for (size_t i = 0; i < count; i++)
		if (ops[i].value.data)
			leveldb_writebatch_put(batch, ops[i].key.data, ops[i].key.size,
					       ops[i].value.data, ops[i].value.size);
		else
			leveldb_writebatch_delete(batch, ops[i].key.data, ops[i].key.size);
	leveldb_write(db, durable ? with_sync : without_sync, batch, &error);
	check(error);
	leveldb_writebatch_destroy(batch);
}

static bool get(void *db, struct slice key, struct buffer *value)
{
	char *error = NULL;
	size_t size;
	char *found = leveldb_get(db, reading, key.data, key.size, &size, &error);

	check(error);
	if (!found)
		return false;
	buffer_clear(value);
	buffer_append(value, found, size);
	leveldb_free(found);
	return true;
}

static uint64_t scan(void *db, struct slice from, uint64_t limit)
{
	leveldb_iterator_t *it = leveldb_create_iterator(db, reading);
	uint64_t count = 0;
	size_t size;

	leveldb_iter_seek(it, from.data, from.size);
	while (count < limit && leveldb_iter_valid(it)) {
		const char *value = leveldb_iter_value(it, &size);

		look_at(value, size);
		if (++count < limit)
			leveldb_iter_next(it);
	}
	leveldb_iter_destroy(it);
	return count;
}

const struct driver driver_leveldb = {
	"LevelDB", open_db, close_db, NULL, NULL, write_ops, NULL, get, scan,
};

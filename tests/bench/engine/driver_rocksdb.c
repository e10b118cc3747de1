/* RocksDB, through its C interface. Compression off: the bench's values do not compress. */
#include <err.h>
#include <rocksdb/c.h>
#include <stdlib.h>

#include "driver.h"

static rocksdb_writeoptions_t *with_sync, *without_sync;
static rocksdb_readoptions_t *reading;

static void check(const char *error)
{
	if (error)
		errx(1, "rocksdb: %s", error);
}

static void *open_db(const char *path, const struct settings *settings)
{
	rocksdb_options_t *options = rocksdb_options_create();
	rocksdb_block_based_table_options_t *table = rocksdb_block_based_options_create();
	char *error = NULL;
	rocksdb_t *db;

	rocksdb_block_based_options_set_block_cache(table,
						    rocksdb_cache_create_lru(settings->cache));
	rocksdb_block_based_options_set_filter_policy(table,
						      rocksdb_filterpolicy_create_bloom(10));
	rocksdb_options_set_block_based_table_factory(options, table);
	rocksdb_options_set_create_if_missing(options, 1);
	rocksdb_options_set_compression(options, rocksdb_no_compression);
	if (settings->keep_log)
		rocksdb_options_set_write_buffer_size(options, (size_t)4 << 30);
	with_sync = rocksdb_writeoptions_create();
	rocksdb_writeoptions_set_sync(with_sync, 1);
	without_sync = rocksdb_writeoptions_create();
	reading = rocksdb_readoptions_create();
	db = rocksdb_open(options, path, &error);
	check(error);
	return db;
}

static void close_db(void *db)
{
	rocksdb_flushoptions_t *flush = rocksdb_flushoptions_create();
	char *error = NULL;

	rocksdb_flush(db, flush, &error);
	check(error);
	rocksdb_close(db);
}

static void write_ops(void *db, const struct op *ops, size_t count, bool durable)
{
	rocksdb_writebatch_t *batch = rocksdb_writebatch_create();
	char *error = NULL;

	for (size_t i = 0; i < count; i++)
		if (ops[i].value.data)
			rocksdb_writebatch_put(batch, ops[i].key.data, ops[i].key.size,
					       ops[i].value.data, ops[i].value.size);
		else
			rocksdb_writebatch_delete(batch, ops[i].key.data, ops[i].key.size);
	rocksdb_write(db, durable ? with_sync : without_sync, batch, &error);
	check(error);
	rocksdb_writebatch_destroy(batch);
}

static bool get(void *db, struct slice key, struct buffer *value)
{
	char *error = NULL;
	rocksdb_pinnableslice_t *found =
		rocksdb_get_pinned(db, reading, key.data, key.size, &error);
	const char *bytes;
	size_t size;

	check(error);
	if (!found)
		return false;
	bytes = rocksdb_pinnableslice_value(found, &size);
	buffer_clear(value);
	buffer_append(value, bytes, size);
	rocksdb_pinnableslice_destroy(found);
	return true;
}

static uint64_t scan(void *db, struct slice from, uint64_t limit)
{
	rocksdb_iterator_t *it = rocksdb_create_iterator(db, reading);
	uint64_t count = 0;
	size_t size;

	rocksdb_iter_seek(it, from.data, from.size);
	while (count < limit && rocksdb_iter_valid(it)) {
		const char *value = rocksdb_iter_value(it, &size);

		look_at(value, size);
		if (++count < limit)
			rocksdb_iter_next(it);
	}
	rocksdb_iter_destroy(it);
	return count;
}

const struct driver driver_rocksdb = {
	"RocksDB", open_db, close_db, NULL, NULL, write_ops, NULL, get, scan,
};

/* Berkeley DB: a transactional B-tree. A deadlock is tried again, as its manual says. */
#include <db.h>
#include <err.h>
#include <stdlib.h>

#include "driver.h"

enum { CHECKPOINT_KIB = 64 * 1024 };

struct handle {
	DB_ENV *env;
	DB *db;
	bool keep_log;
};

static void check(int rc, const char *what)
{
	if (rc != 0)
		errx(1, "bdb: %s: %s", what, db_strerror(rc));
}

static void *open_db(const char *path, const struct settings *settings)
{
	struct handle *h = calloc(1, sizeof(*h));

	h->keep_log = settings->keep_log;
	check(db_env_create(&h->env, 0), "env");
	check(h->env->set_cachesize(h->env, (uint32_t)(settings->cache >> 30),
				    (uint32_t)(settings->cache & ((1 << 30) - 1)), 1), "cache");
	check(h->env->set_lk_detect(h->env, DB_LOCK_DEFAULT), "detect");
	check(h->env->set_lk_max_locks(h->env, 100000), "locks");
	check(h->env->set_lk_max_objects(h->env, 100000), "objects");
	if (!settings->keep_log)
		check(h->env->log_set_config(h->env, DB_LOG_AUTO_REMOVE, 1), "log");
	check(h->env->open(h->env, path, DB_CREATE | DB_INIT_MPOOL | DB_INIT_TXN | DB_INIT_LOG |
			   DB_INIT_LOCK | DB_RECOVER | DB_PRIVATE | DB_THREAD, 0600), "open");
	check(db_create(&h->db, h->env, 0), "create");
	check(h->db->open(h->db, NULL, "db", NULL, DB_BTREE, DB_CREATE | DB_AUTO_COMMIT | DB_THREAD,
			  0600), "open");
	return h;
}

static void close_db(void *arg)
{
	struct handle *h = arg;

	check(h->env->txn_checkpoint(h->env, 0, 0, 0), "checkpoint");
	check(h->db->close(h->db, 0), "close");
	check(h->env->close(h->env, 0), "close");
	free(h);
}

static DBT dbt(struct slice s)
{
	return (DBT){ .data = (void *)(uintptr_t)s.data, .size = (uint32_t)s.size };
}

static int try_write(struct handle *h, DB_TXN *txn, const struct op *ops, size_t count)
{
	int rc = 0;

	for (size_t i = 0; i < count && rc == 0; i++) {
		DBT key = dbt(ops[i].key), value = dbt(ops[i].value);

		rc = value.data ? h->db->put(h->db, txn, &key, &value, 0)
				: h->db->del(h->db, txn, &key, 0);
		if (rc == DB_NOTFOUND)
			rc = 0;
	}
	return rc;
}

static void write_ops(void *arg, const struct op *ops, size_t count, bool durable)
{
	struct handle *h = arg;
	DB_TXN *txn;
	int rc;

	do {
		check(h->env->txn_begin(h->env, NULL, &txn, 0), "begin");
		rc = try_write(h, txn, ops, count);
		if (rc == 0)
			check(txn->commit(txn, durable ? DB_TXN_SYNC : DB_TXN_WRITE_NOSYNC),
			      "commit");
		else
			check(txn->abort(txn), "abort");
	} while (rc == DB_LOCK_DEADLOCK);
	check(rc, "write");
	if (!h->keep_log)
		check(h->env->txn_checkpoint(h->env, CHECKPOINT_KIB, 0, 0), "checkpoint");
}

static bool get(void *arg, struct slice wanted, struct buffer *value)
{
	struct handle *h = arg;
	DBT key = dbt(wanted), found = { .flags = DB_DBT_USERMEM };
	int rc;

	buffer_clear(value);
	check(buffer_reserve(value, 64 * 1024), "memory");
	found.data = value->data;
	found.ulen = (uint32_t)value->capacity;
	rc = h->db->get(h->db, NULL, &key, &found, 0);
	if (rc != DB_NOTFOUND)
		check(rc, "get");
	value->size = rc == 0 ? found.size : 0;
	return rc == 0;
}

static uint64_t scan(void *arg, struct slice from, uint64_t limit)
{
	struct handle *h = arg;
	static _Thread_local uint8_t key_bytes[64], value_bytes[64 * 1024];
	DBT key = { .data = key_bytes, .size = (uint32_t)from.size, .ulen = sizeof(key_bytes),
		    .flags = DB_DBT_USERMEM };
	DBT value = { .data = value_bytes, .ulen = sizeof(value_bytes), .flags = DB_DBT_USERMEM };
	uint64_t count = 0;
	DBC *cursor;
	int rc;

	memcpy(key_bytes, from.data, from.size);
	check(h->db->cursor(h->db, NULL, &cursor, 0), "cursor");
	for (rc = cursor->get(cursor, &key, &value, DB_SET_RANGE); rc == 0;
	     rc = cursor->get(cursor, &key, &value, DB_NEXT)) {
		look_at(value.data, value.size);
		if (++count == limit)
			break;
	}
	check(cursor->close(cursor), "cursor");
	return count;
}

const struct driver driver_bdb = {
	"BerkeleyDB", open_db, close_db, NULL, NULL, write_ops, NULL, get, scan,
};

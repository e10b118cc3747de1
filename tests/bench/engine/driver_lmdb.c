/* LMDB. A session keeps a read transaction, renewed for each look. */
#include <err.h>
#include <lmdb.h>
#include <stdlib.h>

#include "driver.h"

#define MAP_SIZE (64ULL << 30)

struct db {
	MDB_env *env;
	MDB_dbi dbi;
	bool durable;
};

struct session {
	struct db *db;
	MDB_txn *reading;
};

static void check(int rc, const char *what)
{
	if (rc != 0)
		errx(1, "lmdb: %s: %s", what, mdb_strerror(rc));
}

static void *open_db(const char *path, const struct settings *settings)
{
	struct db *db = calloc(1, sizeof(*db));
	MDB_txn *txn;

	(void)settings;
	check(mdb_env_create(&db->env), "create");
	check(mdb_env_set_mapsize(db->env, MAP_SIZE), "mapsize");
	check(mdb_env_set_maxreaders(db->env, 256), "readers");
	check(mdb_env_open(db->env, path, MDB_NOTLS, 0600), "open");
	check(mdb_txn_begin(db->env, NULL, 0, &txn), "begin");
	check(mdb_dbi_open(txn, NULL, 0, &db->dbi), "dbi");
	check(mdb_txn_commit(txn), "commit");
	db->durable = true;
	return db;
}

static void close_db(void *arg)
{
	struct db *db = arg;

	check(mdb_env_sync(db->env, 1), "sync");
	mdb_env_close(db->env);
	free(db);
}

static void *session(void *arg)
{
	struct session *s = calloc(1, sizeof(*s));

	s->db = arg;
	check(mdb_txn_begin(s->db->env, NULL, MDB_RDONLY, &s->reading), "begin");
	mdb_txn_reset(s->reading);
	return s;
}

static void session_done(void *arg)
{
	struct session *s = arg;

	mdb_txn_abort(s->reading);
	free(s);
}

static MDB_val val(struct slice s)
{
	return (MDB_val){ s.size, (void *)(uintptr_t)s.data };
}

static void write_ops(void *arg, const struct op *ops, size_t count, bool durable)
{
	struct session *s = arg;
	MDB_txn *txn;

	check(mdb_txn_begin(s->db->env, NULL, 0, &txn), "begin");
	if (s->db->durable != durable)		/* under the writer's lock */
		check(mdb_env_set_flags(s->db->env, MDB_NOSYNC, !durable), "flags");
	s->db->durable = durable;
	for (size_t i = 0; i < count; i++) {
		MDB_val key = val(ops[i].key), value = val(ops[i].value);
		const int rc = value.mv_data ? mdb_put(txn, s->db->dbi, &key, &value, 0)
					     : mdb_del(txn, s->db->dbi, &key, NULL);

		check(rc == MDB_NOTFOUND ? 0 : rc, "write");
	}
	check(mdb_txn_commit(txn), "commit");
}

static bool get(void *arg, struct slice wanted, struct buffer *value)
{
	struct session *s = arg;
	MDB_val key = val(wanted), found;
	int rc;

	check(mdb_txn_renew(s->reading), "renew");
	rc = mdb_get(s->reading, s->db->dbi, &key, &found);
	if (rc == 0) {
		buffer_clear(value);
		buffer_append(value, found.mv_data, found.mv_size);
	} else if (rc != MDB_NOTFOUND) {
		check(rc, "get");
	}
	mdb_txn_reset(s->reading);
	return rc == 0;
}

static uint64_t scan(void *arg, struct slice from, uint64_t limit)
{
	struct session *s = arg;
	MDB_val key = val(from), value;
	uint64_t count = 0;
	MDB_cursor *cursor;
	int rc;

	check(mdb_txn_renew(s->reading), "renew");
	check(mdb_cursor_open(s->reading, s->db->dbi, &cursor), "cursor");
	rc = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
	while (rc == 0) {
		look_at(value.mv_data, value.mv_size);
		if (++count == limit)
			break;
		rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
	}
	mdb_cursor_close(cursor);
	mdb_txn_reset(s->reading);
	return count;
}

const struct driver driver_lmdb = {
	"LMDB", open_db, close_db, session, session_done, write_ops, NULL, get, scan,
};

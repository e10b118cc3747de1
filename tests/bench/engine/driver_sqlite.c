/* SQLite in WAL mode, a connection for each session; synchronous=FULL where durable, else
 * NORMAL. */
#include <err.h>
#include <limits.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>

#include "driver.h"

struct db {
	char name[PATH_MAX];
	struct settings settings;
	sqlite3 *first;		/* keeps the WAL alive between sessions */
};

enum { BEGIN, COMMIT, PUT, DELETE, GET, SCAN, STATEMENTS };

static const char *const sql[STATEMENTS] = {
	"BEGIN IMMEDIATE", "COMMIT", "INSERT OR REPLACE INTO kv VALUES (?, ?)",
	"DELETE FROM kv WHERE k = ?", "SELECT v FROM kv WHERE k = ?",
	"SELECT k, v FROM kv WHERE k >= ? ORDER BY k",
};

struct session {
	sqlite3 *sqlite;
	sqlite3_stmt *statements[STATEMENTS];
	bool durable;
};

static void fail(sqlite3 *sqlite)
{
	errx(1, "sqlite: %s", sqlite3_errmsg(sqlite));
}

static void run(sqlite3 *sqlite, const char *text)
{
	if (sqlite3_exec(sqlite, text, NULL, NULL, NULL) != SQLITE_OK)
		fail(sqlite);
}

static sqlite3 *connect_to(const struct db *db)
{
	sqlite3 *sqlite;
	char text[96];

	if (sqlite3_open(db->name, &sqlite) != SQLITE_OK)
		fail(sqlite);
	sqlite3_busy_timeout(sqlite, 600000);
	run(sqlite, "PRAGMA journal_mode=WAL");
	run(sqlite, "PRAGMA synchronous=FULL");
	snprintf(text, sizeof(text), "PRAGMA cache_size=-%llu",
		 (unsigned long long)db->settings.cache / 1024);
	run(sqlite, text);
	if (db->settings.keep_log)
		run(sqlite, "PRAGMA wal_autocheckpoint=0");
	return sqlite;
}

static void *open_db(const char *path, const struct settings *settings)
{
	struct db *db = calloc(1, sizeof(*db));

	snprintf(db->name, sizeof(db->name), "%s/db", path);
	db->settings = *settings;
	db->first = connect_to(db);
	run(db->first, "CREATE TABLE IF NOT EXISTS kv (k BLOB PRIMARY KEY, v BLOB) WITHOUT ROWID");
	return db;
}

static void close_db(void *arg)
{
	struct db *db = arg;

	sqlite3_close(db->first);
	free(db);
}

static void *session(void *db)
{
	struct session *s = calloc(1, sizeof(*s));

	s->sqlite = connect_to(db);
	s->durable = true;
	for (int i = 0; i < STATEMENTS; i++)
		if (sqlite3_prepare_v2(s->sqlite, sql[i], -1, &s->statements[i], NULL) != SQLITE_OK)
			fail(s->sqlite);
	return s;
}

static void session_done(void *arg)
{
	struct session *s = arg;

	for (int i = 0; i < STATEMENTS; i++)
		sqlite3_finalize(s->statements[i]);
	sqlite3_close(s->sqlite);
	free(s);
}

static void step(struct session *s, int which)
{
	if (sqlite3_step(s->statements[which]) != SQLITE_DONE)
		fail(s->sqlite);
	sqlite3_reset(s->statements[which]);
}

static void bind(struct session *s, int which, int at, struct slice bytes)
{
	sqlite3_bind_blob(s->statements[which], at, bytes.data, (int)bytes.size, SQLITE_STATIC);
}

static void write_ops(void *arg, const struct op *ops, size_t count, bool durable)
{
	struct session *s = arg;

	if (s->durable != durable)
		run(s->sqlite, durable ? "PRAGMA synchronous=FULL" : "PRAGMA synchronous=NORMAL");
	s->durable = durable;
	step(s, BEGIN);
	for (size_t i = 0; i < count; i++) {
		const int which = ops[i].value.data ? PUT : DELETE;

		bind(s, which, 1, ops[i].key);
		if (which == PUT)
			bind(s, which, 2, ops[i].value);
		step(s, which);
	}
	step(s, COMMIT);
}

static bool get(void *arg, struct slice key, struct buffer *value)
{
	struct session *s = arg;
	sqlite3_stmt *st = s->statements[GET];
	bool found;

	bind(s, GET, 1, key);
	found = sqlite3_step(st) == SQLITE_ROW;
	if (found) {
		buffer_clear(value);
		buffer_append(value, sqlite3_column_blob(st, 0),
			      (size_t)sqlite3_column_bytes(st, 0));
	}
	sqlite3_reset(st);
	return found;
}

static uint64_t scan(void *arg, struct slice from, uint64_t limit)
{
	struct session *s = arg;
	sqlite3_stmt *st = s->statements[SCAN];
	uint64_t count = 0;

	bind(s, SCAN, 1, from);
	while (count < limit && sqlite3_step(st) == SQLITE_ROW) {
		look_at(sqlite3_column_blob(st, 1), (size_t)sqlite3_column_bytes(st, 1));
		count++;
	}
	sqlite3_reset(st);
	return count;
}

const struct driver driver_sqlite = {
	"SQLite", open_db, close_db, session, session_done, write_ops, NULL, get, scan,
};

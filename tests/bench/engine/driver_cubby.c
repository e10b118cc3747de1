/* cubby's engine, through engine.h. Large values are runs, as the store above makes them. */
#include <err.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "driver.h"
#include "engine.h"

enum { RUN_MIN = 64 * 1024 };

static void check(int rc, const char *what)
{
	if (rc < 0)
		errx(1, "cubby: %s: %s", what, strerror(-rc));
}

static void *open_engine(const char *path, const struct settings *settings)
{
	const struct engine_options options = {
		.create = true,
		.background = true,
		.cache = settings->keep_log ? 4ULL << 30 : settings->cache,
		.log_cap = settings->keep_log ? 4ULL << 30 : 0,
	};
	struct engine *engine;
	struct err error;

	if (engine_open(os_posix(), path, &options, &engine, &error) < 0)
		errx(1, "cubby: %s", error.text);
	return engine;
}

/* With the memory that a mount takes unless told otherwise. */
static void *open_small(const char *path, const struct settings *settings)
{
	const struct settings small = { .keep_log = settings->keep_log };

	return open_engine(path, &small);
}

static void close_engine(void *db)
{
	check(engine_close(db), "close");
}

static void add(struct engine *engine, struct batch *batch, const struct op *op)
{
	struct ref run;

	if (!op->value.data) {
		batch_delete(batch, op->key);
	} else if (op->value.size < RUN_MIN) {
		batch_put(batch, op->key, op->value);
	} else {
		check(engine_run_write(engine, op->value, &run), "run");
		batch_put_run(batch, op->key, &run, slice_of("", 0));
	}
}

static uint64_t commit(struct engine *engine, const struct op *ops, size_t count)
{
	static _Thread_local struct batch batch;
	uint64_t revision;

	batch_clear(&batch);
	for (size_t i = 0; i < count; i++)
		add(engine, &batch, &ops[i]);
	engine_pace(engine);
	check(engine_commit(engine, &batch, false, &revision), "commit");
	return revision;
}

static void write_ops(void *db, const struct op *ops, size_t count, bool durable)
{
	const uint64_t revision = commit(db, ops, count);

	if (durable)
		check(engine_wait_blocking(db, revision, LOG_SYNCED), "sync");
}

struct pending {
	struct log_waiter waiter;
	struct ticket *ticket;
};

static void synced(struct log_waiter *waiter, int rc)
{
	struct pending *p = (struct pending *)waiter;
	struct ticket *ticket = p->ticket;

	check(rc, "sync");
	ticket->done(ticket);
}

static void submit(void *db, const struct op *op, struct ticket *ticket)
{
	struct pending *p = ticket->internal ? ticket->internal : calloc(1, sizeof(*p));

	if (!p)
		err(1, "cubby");
	ticket->internal = p;
	*p = (struct pending){
		.waiter = { .revision = commit(db, op, 1), .level = LOG_SYNCED, .done = synced },
		.ticket = ticket,
	};
	engine_wait(db, &p->waiter);
}

static bool get(void *db, struct slice key, struct buffer *value)
{
	const int rc = engine_get(db, key, value, NULL);

	if (rc != -ENOENT)
		check(rc, "get");
	return rc == 0;
}

struct counting {
	uint64_t count, limit;
};

static int count_entry(void *arg, const struct engine_entry *entry)
{
	struct counting *c = arg;

	look_at(entry->value.data, entry->value.size);
	return ++c->count == c->limit;
}

static uint64_t scan(void *db, struct slice from, uint64_t limit)
{
	struct counting c = { .limit = limit };

	check(engine_scan(db, from, count_entry, &c), "scan");
	return c.count;
}

const struct driver driver_cubby = {
	"cubby", open_engine, close_engine, NULL, NULL, write_ops, submit, get, scan,
};

const struct driver driver_cubby_small = {
	"cubby 64M", open_small, close_engine, NULL, NULL, write_ops, submit, get, scan,
};

#include "engine.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "engine_impl.h"
#include "mem.h"

enum {
	SEGMENT_MAX = 16 << 20,
	SEGMENT_MIN = 1 << 20,
	SEGMENTS = 16,			/* that a log has, or a little more */
	LOG_CAP = 256 << 20,
	LOG_SHARE = 8,			/* of the disk, that the log may have unless told */
	CACHE = 64 << 20,
	/* Free units that only deletes may use, so that deleting makes room on a full disk. */
	RECLAIM_UNITS = 256,
	NAMING_UNITS = 128,		/* ... and only commits whose runs are written ... */
	NAMING_FRACTION = 8,		/* ... or one for each so many of those, if that is more */
	TRIES = 16,			/* to find room: others may be faster, again and again */
	ROOM_SLACK = 64,		/* units that are not promised to writers, beside ... */
	ROOM_FRACTION = 32,		/* ... a part of all there is, for leaves and free map */
	SHORT_BYTES = 1 << 30,		/* less room than this is short, as is less than ... */
	SHORT_FRACTION = 8,		/* ... this part of the disk */
	ENTRY_OVERHEAD = 48,		/* bytes of an entry in a leaf beside its value, about */
	PID_TEXT = 24,
};
#define FILE_CREATING "creating"	/* there while a store is being made: see settle_creating */

/* ---- trouble ---------------------------------------------------------------------------- */

int engine_note(struct engine *engine, int rc, const struct err *err)
{
	struct err found;

	if (rc == 0 || rc == -ENOENT || rc == -ENOMEM || rc == -EINVAL || rc == -E2BIG)
		return rc;
	err_clear(&found);
	if (err && err->text[0])
		found = *err;
	else if (engine->log && log_failure(engine->log)[0])
		err_set(&found, 0, "%s", log_failure(engine->log));
	else if (rc == -EBADMSG || rc == -EUCLEAN)
		space_trouble(engine->space, &found);
	else
		(void)pages_failure(engine->pages, &found);
	if (found.text[0]) {
		mutex_lock(&engine->trouble_lock);
		engine->trouble = found;
		engine->troubled = true;
		mutex_unlock(&engine->trouble_lock);
	}
	return rc;
}

bool engine_trouble(struct engine *engine, struct err *err)
{
	bool troubled;

	mutex_lock(&engine->trouble_lock);
	troubled = engine->troubled;
	if (troubled)
		*err = engine->trouble;
	mutex_unlock(&engine->trouble_lock);
	return troubled;
}

/* ---- opening and closing ---------------------------------------------------------------- */

/* What the folder holds, beside a lock that somebody left. */
struct contents {
	bool pages, creating, ours, foreign;
};

static int look(void *arg, const char *name)
{
	struct contents *c = arg;

	if (strcmp(name, FILE_PAGES) == 0)
		c->pages = true;
	else if (strcmp(name, FILE_CREATING) == 0)
		c->creating = true;
	else if (log_is_segment(name) || strcmp(name, FILE_WITNESS) == 0 ||
		 strcmp(name, FILE_TAIL) == 0)
		c->ours = true;
	else if (strcmp(name, FILE_LOCK) != 0 && strcmp(name, "lost+found") != 0)
		c->foreign = true;
	return 0;
}

static int read_pid(struct engine *engine, long *pid)
{
	char text[PID_TEXT] = "";
	const ssize_t got = engine->os->read(engine->lock_file, text, sizeof(text) - 1, 0);

	return got > 0 && sscanf(text, "%ld", pid) == 1 ? 0 : -ENODATA;
}

/* Takes the store for this process, and leaves a note for whoever comes second. */
static int lock_store(struct engine *engine, struct err *err)
{
	char text[PID_TEXT];
	long pid;
	int rc = engine->os->open(engine->dir, FILE_LOCK, OS_CREATE, &engine->lock_file);

	if (rc < 0)
		return err_set(err, rc, FILE_LOCK ": cannot open: %s", strerror(-rc));
	rc = engine->os->lock(engine->lock_file);
	if (rc == -EBUSY && read_pid(engine, &pid) == 0)
		return err_set(err, rc, "in use by process %ld", pid);
	if (rc == -EBUSY)
		return err_set(err, rc, "in use by another process");
	if (rc < 0)
		return err_set(err, rc, FILE_LOCK ": cannot lock: %s", strerror(-rc));
	snprintf(text, sizeof(text), "%ld\n", (long)getpid());
	/* Over what is there: a full disk has no room for it twice. */
	rc = engine->os->write(engine->lock_file, text, strlen(text), 0);
	if (rc == 0)
		rc = engine->os->truncate(engine->lock_file, strlen(text));
	return rc == -ENOSPC ? 0 : rc;	/* a full disk must not lock us out for want of a note */
}

static int remove_ours(void *arg, const char *name)
{
	struct engine *engine = arg;

	if (strcmp(name, FILE_PAGES) == 0 || log_is_segment(name))
		return engine->os->remove(engine->dir, name);
	return 0;
}

/* Makes the files of a store, so that a crash meanwhile leaves what the next one starts afresh. */
static int create(struct engine *engine, struct err *err)
{
	struct os_file *creating;
	int rc = engine->os->open(engine->dir, FILE_CREATING, OS_CREATE, &creating);

	if (rc < 0)
		return err_set(err, rc, "cannot make files in the folder: %s", strerror(-rc));
	engine->os->close(creating);
	rc = engine->os->sync_dir(engine->dir);
	if (rc == 0)
		rc = engine->os->list(engine->dir, remove_ours, engine);
	if (rc == 0)
		rc = recovery_create(engine, err);
	if (rc == 0)
		rc = engine->os->sync_dir(engine->dir);
	if (rc == 0)
		rc = engine->os->remove(engine->dir, FILE_CREATING);
	if (rc == 0)
		rc = engine->os->sync_dir(engine->dir);
	return rc;
}

/* Only what was never finished may be made afresh. A note that a creation has left beside a
 * finished store (the power went before it was removed, or a copy brought it along) goes. */
static int settle_creating(struct engine *engine, struct contents *c, struct err *err)
{
	int rc = pages_finished(engine->os, engine->dir, err);

	if (rc <= 0)
		return rc;
	c->creating = false;
	rc = engine->os->remove(engine->dir, FILE_CREATING);
	return rc == 0 ? engine->os->sync_dir(engine->dir) : rc;
}

/* May a store be opened or made here? */
static int check_contents(struct engine *engine, const struct contents *c, struct err *err)
{
	if (c->pages && !c->creating)
		return 0;
	if (c->foreign || (c->ours && !c->creating))
		return err_set(err, -EINVAL,
			       c->ours ? "there is a log but no file \"" FILE_PAGES "\""
				       : "not empty, and no cubby store");
	if (!engine->options.create)
		return err_set(err, c->creating ? -EINVAL : -ENOENT, "no store was made here yet");
	return 0;
}

/* Looks twice: not even a lock is put into a folder that is not ours, and until we have it another
 * process may be making the store. */
static int open_files(struct engine *engine, struct err *err)
{
	struct contents c = { 0 };
	int rc = engine->os->list(engine->dir, look, &c);

	if (rc == 0)
		rc = check_contents(engine, &c, err);
	if (rc == 0)
		rc = lock_store(engine, err);
	c = (struct contents){ 0 };
	if (rc == 0)
		rc = engine->os->list(engine->dir, look, &c);
	if (rc == 0 && c.creating && c.pages)
		rc = settle_creating(engine, &c, err);
	if (rc == 0)
		rc = check_contents(engine, &c, err);
	if (rc < 0)
		return rc;
	return c.pages && !c.creating ? recovery_open(engine, err) : create(engine, err);
}

/* A sixteenth of the log, in a power of two. */
static uint64_t segment_size(uint64_t log_cap)
{
	uint64_t size = SEGMENT_MAX;

	while (size > SEGMENT_MIN && size > log_cap / SEGMENTS)
		size /= 2;
	return size;
}

static void set_log_defaults(struct engine *engine)
{
	struct engine_options *options = &engine->options;
	uint64_t free_bytes, total;

	if (!options->log_cap) {
		options->log_cap = LOG_CAP;
		if (engine->os->space(engine->dir, &free_bytes, &total) == 0 &&
		    total / LOG_SHARE < LOG_CAP)
			options->log_cap = total / LOG_SHARE;
	}
	if (!options->segment_size)
		options->segment_size = segment_size(options->log_cap);
}

static void set_defaults(struct engine_options *options)
{
	if (!options->cache)
		options->cache = CACHE;
	if (!options->commit_ns)
		options->commit_ns = 1000000000;
}

static void init_locks(struct engine *engine)
{
	pthread_condattr_t attr;

	mutex_init(&engine->compacting);
	mutex_init(&engine->checkpoint);
	mutex_init(&engine->keeper_lock);
	mutex_init(&engine->trouble_lock);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&engine->keeper_wake, &attr);
	filler_init(engine, &attr);
	pthread_condattr_destroy(&attr);
}

static void free_engine(struct engine *engine)
{
	tree_close(engine->tree);
	kept_close(engine->kept);
	space_close(engine->space);
	pages_close(engine->pages);
	if (engine->lock_file)
		engine->os->close(engine->lock_file);
	if (engine->dir)
		engine->os->close_dir(engine->dir);
	pthread_cond_destroy(&engine->keeper_wake);
	filler_done(engine);
	mutex_done(&engine->trouble_lock);
	mutex_done(&engine->keeper_lock);
	mutex_done(&engine->checkpoint);
	mutex_done(&engine->compacting);
	mem_free(engine);
}

int engine_open(struct os *os, const char *path, const struct engine_options *options,
		struct engine **out, struct err *err)
{
	struct engine *engine = mem_zalloc(sizeof(*engine));
	int rc;

	if (err)
		err->text[0] = '\0';
	if (!engine)
		return -ENOMEM;
	init_locks(engine);
	engine->os = os;
	engine->options = *options;
	set_defaults(&engine->options);
	rc = os->open_dir(os, path, options->create ? OS_CREATE : 0, &engine->dir);
	if (rc < 0)
		err_set(err, rc, "%s", strerror(-rc));
	else
		set_log_defaults(engine);
	if (rc == 0)
		rc = open_files(engine, err);
	if (rc == 0)
		rc = filler_start(engine);
	if (rc == 0)
		rc = keeper_start(engine);
	if (rc < 0) {
		if (err && !err->text[0])
			err_set(err, rc, "%s", strerror(-rc));
		filler_stop(engine);
		log_close(engine->log);
		free_engine(engine);
	} else {
		*out = engine;
	}
	return rc;
}

int engine_close(struct engine *engine)
{
	int rc, closed;

	if (!engine)
		return 0;
	keeper_stop(engine);
	filler_stop(engine);
	rc = engine_checkpoint(engine);
	if (rc == 0)
		rc = checkpoint_close(engine);
	if (rc == -ENOSPC || rc == -ENOMEM)
		rc = 0;			/* the log has everything; the next opening replays it */
	closed = log_close(engine->log);
	free_engine(engine);
	return rc < 0 ? rc : closed;
}

/* ---- reading ---------------------------------------------------------------------------- */

struct getting {
	struct buffer *value;
	struct ref *run;
};

static int copy_entry(void *arg, const struct leaf_entry *entry)
{
	struct getting *g = arg;
	int rc;

	buffer_clear(g->value);
	rc = buffer_append(g->value, entry->value.data, entry->value.size);
	if (rc == 0 && g->run)
		*g->run = entry->run;
	return rc;
}

/* `view` NULL: the present. */
int engine_view_get(struct engine *engine, struct tree_view *view, struct slice key,
		    struct buffer *value, struct ref *run)
{
	struct getting g = { value, run };
	struct err err;
	int rc;

	err_clear(&err);
	rc = view ? tree_view_get(engine->tree, view, key, copy_entry, &g, &err) :
		    tree_get(engine->tree, key, copy_entry, &g, &err);
	return engine_note(engine, rc, &err);
}

int engine_get(struct engine *engine, struct slice key, struct buffer *value, struct ref *run)
{
	return engine_view_get(engine, NULL, key, value, run);
}

struct scanning {
	int (*visit)(void *arg, const struct engine_entry *entry);
	void *arg;
	bool stopped;
};

static int visit_entry(void *arg, const struct leaf_entry *entry)
{
	struct scanning *s = arg;
	/* Part by part: each slice was written just now in two, and read as one whole it would have to
	 * wait until both are through to the cache. It is a tenth of a listing. */
	const struct engine_entry e = {
		.key = slice_of(entry->key.data, entry->key.size),
		.value = slice_of(entry->value.data, entry->value.size),
		.run = &entry->run,
	};
	const int rc = s->visit(s->arg, &e);

	s->stopped = rc != 0;
	return rc;
}

int engine_view_scan(struct engine *engine, struct tree_view *view, struct slice from,
		     int (*visit)(void *arg, const struct engine_entry *entry), void *arg)
{
	struct scanning s = { visit, arg, false };
	struct err err = { "" };
	const int rc = view ? tree_view_scan(engine->tree, view, from, visit_entry, &s, &err) :
			      tree_scan(engine->tree, from, visit_entry, &s, &err);

	return s.stopped ? rc : engine_note(engine, rc, &err);
}

int engine_scan(struct engine *engine, struct slice from,
		int (*visit)(void *arg, const struct engine_entry *entry), void *arg)
{
	return engine_view_scan(engine, NULL, from, visit, arg);
}

/* ---- committing ------------------------------------------------------------------------- */

/* What stood in the way of a batch, beside its own faults. */
enum obstacle { NONE, PAGES_FULL, NO_ROW, LOG_FULL };

struct admission {
	struct engine *engine;
	struct slice batch;
	bool reclaim;
	uint64_t ops;			/* of the batch: each may end a run's life */
	uint64_t runs;			/* that it names */
	uint64_t need;			/* units that must be free */
	uint64_t revision;
	enum obstacle obstacle;
};

/* Units that are left to those whose runs are written: it is when they are written that there must
 * be room, not when it is too late for the writer to do anything about it. */
static uint64_t naming_units(struct engine *engine)
{
	const uint64_t runs = atomic_load(&engine->runs_unnamed) / NAMING_FRACTION;

	return runs > NAMING_UNITS ? runs : NAMING_UNITS;
}

/* Units that the batch must leave to others. */
static uint64_t units_to_leave(const struct admission *a)
{
	if (a->reclaim)
		return 0;
	return RECLAIM_UNITS + (a->runs ? 0 : naming_units(a->engine));
}

uint64_t engine_admits(struct engine *engine, uint64_t units, uint64_t deaths)
{
	struct space_stats space;

	space_stats(engine->space, &space);
	return units + checkpoint_overhead(engine, space.dead_blocks + deaths) + RECLAIM_UNITS +
	       naming_units(engine);
}

/* Under the tree's lock: is there room for the checkpoint that this will need? Then the log has
 * it, and nothing can fail any more. */
static int admit(void *arg, uint64_t units)
{
	struct admission *a = arg;
	struct space_stats space;
	int rc;

	a->obstacle = NONE;
	space_stats(a->engine->space, &space);
	a->need = units + checkpoint_overhead(a->engine, space.dead_blocks + a->ops * REF_PIECES) +
		  units_to_leave(a);
	if (!space_has(a->engine->space, a->need)) {
		a->obstacle = PAGES_FULL;
		return -ENOSPC;
	}
	rc = log_append(a->engine->log, a->batch, &a->revision);
	if (rc == -EAGAIN)
		a->obstacle = LOG_FULL;
	return rc;
}

/* Units in a row that the batch may need: for all its large entries together, so that one search is
 * enough. How large a patched one is only the tree knows. */
static uint64_t row_needed(struct slice batch)
{
	enum {
		LARGEST = ENGINE_VALUE_MAX / 2 * 3 / UNIT + 1 + PAGES_QUAD,
		ROW_MAX = REGION_UNITS / 2,
	};
	struct batch_op op;
	size_t offset = BATCH_HEADER;
	uint64_t row = 0;

	while (batch_next(batch, &offset, &op) > 0)
		if (op.kind == BATCH_PATCH)
			row += LARGEST;
		else if (op.value.size > NODE_BYTES / 2)
			row += op.value.size / UNIT + 1 + PAGES_QUAD;
	return row < ROW_MAX ? row : ROW_MAX;
}

/* Removes the obstacle, by growing the page file or the log, or by a checkpoint that frees what is
 * dead; `seen` is how many of them there had been before. */
static int make_room(struct engine *engine, const struct admission *a, unsigned long long seen)
{
	const uint64_t row = row_needed(a->batch);
	int rc;

	if (a->obstacle == PAGES_FULL)		/* which was asked while the rows were held */
		rc = space_ensure(engine->space, a->need + row, 0);
	else if (a->obstacle == NO_ROW)
		rc = space_ensure(engine->space, 0, row);
	else
		rc = log_prepare(engine->log, 1);
	return rc == -ENOSPC || rc == -EAGAIN ? checkpoint_after(engine, seen) : rc;
}

int engine_check_batch(struct slice bytes)
{
	struct batch_op op;
	size_t offset = BATCH_HEADER;
	int rc;

	while ((rc = batch_next(bytes, &offset, &op)) > 0)
		if (op.key.size > ENGINE_KEY_MAX || op.offset > ENGINE_VALUE_MAX ||
		    op.value.size > ENGINE_VALUE_MAX - op.offset || op.run.length > ENGINE_RUN_MAX)
			return -EINVAL;
	return rc < 0 || offset == BATCH_HEADER ? -EINVAL : 0;
}

int engine_commit(struct engine *engine, const struct batch *batch, bool reclaim,
		  uint64_t *revision)
{
	struct admission a = {
		.engine = engine, .batch = buffer_slice(&batch->bytes), .reclaim = reclaim,
		.ops = batch->count, .runs = batch->runs,
	};
	struct err err;
	int rc = batch->failed ? batch->failed : engine_check_batch(a.batch);

	if (rc < 0)
		return rc;
	err_clear(&err);
	for (int i = 0; i < TRIES; i++) {
		const unsigned long long seen = atomic_load(&engine->checkpoints);

		a.obstacle = NONE;
		rc = tree_apply(engine->tree, a.batch, admit, &a, &err);
		if (rc == -ENOSPC && a.obstacle == NONE)
			a.obstacle = NO_ROW;
		if (a.obstacle == NONE)
			break;
		rc = make_room(engine, &a, seen);
		if (rc < 0)
			break;
		rc = -ENOSPC;
	}
	if (rc == -ENOSPC)
		atomic_store(&engine->starved, true);
	if (rc < 0)
		return engine_note(engine, rc, &err);
	atomic_fetch_sub(&engine->runs_unnamed, a.runs);
	keeper_committed(engine);
	pace_charge(engine);
	if (log_wants_spares(engine->log))
		filler_wake(engine);
	*revision = a.revision;
	return 0;
}

uint64_t engine_batch_max(const struct engine *engine)
{
	return log_batch_max(engine->log);
}

void engine_wait(struct engine *engine, struct log_waiter *waiter)
{
	log_wait(engine->log, waiter);
}

int engine_wait_blocking(struct engine *engine, uint64_t revision, enum log_level level)
{
	return engine_note(engine, log_wait_blocking(engine->log, revision, level), NULL);
}

uint64_t engine_revision(struct engine *engine)
{
	return log_revision(engine->log);
}

/* ---- runs ------------------------------------------------------------------------------- */

uint64_t engine_need(struct engine *engine)
{
	struct tree_stats tree;
	struct space_stats space;

	tree_stats(engine->tree, &tree);
	space_stats(engine->space, &space);
	return tree.dirty_units + checkpoint_overhead(engine, space.dead_blocks) + RECLAIM_UNITS;
}

/* Will a checkpoint free something? */
static bool room_is_coming(struct engine *engine)
{
	struct space_stats space;

	space_stats(engine->space, &space);
	return space.dead_units > 0 || kept_pending(engine->kept);
}

/* Is there so little room that it is worth some time not to waste any? */
static bool room_is_short(struct engine *engine)
{
	struct space_stats space;
	uint64_t free_bytes, total;

	if (engine->os->space(engine->dir, &free_bytes, &total) < 0)
		return false;
	space_stats(engine->space, &space);
	free_bytes += space.quad_units * UNIT;
	return free_bytes < SHORT_BYTES || free_bytes < total / SHORT_FRACTION;
}

/* Units that a run of so many takes: a quad for each four, or three, and for one or two no more. */
static uint64_t run_takes(uint64_t units)
{
	return units + (units % PAGES_QUAD == PAGES_QUAD - 1);
}

/* An entry that does not fit a leaf of the usual size takes whole quads. Smaller ones had better
 * not be runs: if half of those were removed again, hardly a quad would be free. */
static bool run_takes_less(uint64_t size)
{
	const uint64_t entry = size + ENTRY_OVERHEAD, quad = PAGES_QUAD * UNIT;

	return entry > NODE_BYTES &&
	       run_takes((size + UNIT - 1) / UNIT) < (entry + quad - 1) / quad * PAGES_QUAD;
}

bool engine_run_saves(struct engine *engine, uint64_t size)
{
	return run_takes_less(size) && room_is_short(engine);
}

/* A place for a run that leaves room for the next checkpoint. A commit may have been admitted
 * between looking and taking, on account of the same room: so it is looked at again. */
static int take_place(struct engine *engine, uint32_t length, struct ref *place)
{
	const bool tight = length % (PAGES_QUAD * UNIT) && room_is_short(engine);
	int rc = space_alloc_run(engine->space, length,
				 engine_need(engine) + naming_units(engine), tight, place);

	if (rc == 0 && !space_has(engine->space, engine_need(engine))) {
		space_give_back(engine->space, place);
		rc = -ENOSPC;
	}
	return rc;
}

/* The same, after as many checkpoints as it takes: what is dead is room. */
static int place_run(struct engine *engine, uint32_t length, struct ref *place)
{
	bool more = true;
	int rc = -ENOSPC;

	for (int i = 0; i < TRIES && more; i++) {
		const unsigned long long seen = atomic_load(&engine->checkpoints);

		more = room_is_coming(engine);
		rc = take_place(engine, length, place);
		if (rc == -ENOSPC && more) {
			const int made = checkpoint_after(engine, seen);

			more = made == 0;
			rc = made < 0 ? made : rc;
		} else {
			more = false;
		}
	}
	if (rc == -ENOSPC)
		atomic_store(&engine->starved, true);
	return rc;
}

int engine_run_write(struct engine *engine, struct slice bytes, struct ref *out)
{
	struct tree_stats tree;
	struct ref ref;
	int rc;

	if (bytes.size == 0 || bytes.size > ENGINE_RUN_MAX)
		return -EINVAL;
	rc = place_run(engine, (uint32_t)bytes.size, &ref);
	if (rc < 0)
		return engine_note(engine, rc, NULL);
	tree_stats(engine->tree, &tree);
	rc = pages_write_run(engine->pages, tree.generation, bytes.data, &ref);
	atomic_fetch_add(&engine->runs_written, 1);
	if (rc < 0) {
		space_give_back(engine->space, &ref);
	} else {
		atomic_fetch_add(&engine->runs_unnamed, 1);
		*out = ref;
	}
	return engine_note(engine, rc, NULL);
}

void engine_run_drop(struct engine *engine, const struct ref *run)
{
	atomic_fetch_sub(&engine->runs_unnamed, 1);
	space_give_back(engine->space, run);
}

int engine_run_read(struct engine *engine, const struct ref *run, void *bytes)
{
	struct err err = { "" };
	const int rc = pages_read(engine->pages, run, bytes, &err);

	return rc == -EBADMSG ? rc : engine_note(engine, rc, &err);
}

void engine_run_damaged(struct engine *engine, const struct ref *run)
{
	struct err err;

	pages_blame(run, &err);
	(void)engine_note(engine, -EBADMSG, &err);
}

/* ---- numbers ---------------------------------------------------------------------------- */

/* How much of the free disk is for the page file: the log may take the rest. That grows to its cap,
 * but only while the disk has as much as it could still want, and no faster than what is put. */
static uint64_t units_to_grow(const struct engine_stats *s)
{
	const uint64_t wanted = s->log.cap > s->log.bytes ? s->log.cap - s->log.bytes : 0;
	const uint64_t beyond = s->disk_bytes_free > wanted ? s->disk_bytes_free - wanted : 0;

	return (s->disk_bytes_free - (wanted < beyond ? wanted : beyond)) / UNIT;
}

static uint64_t room_bytes(struct engine *engine, const struct space_stats *space,
			   const struct engine_stats *s, uint64_t coming)
{
	/* What the map has left out is there to be taken back until it is cut off. */
	const uint64_t all = space->quad_units + (s->page_bytes / UNIT - space->units) +
			     units_to_grow(s) + coming + tree_spare_units(engine->tree);
	const uint64_t kept = engine_need(engine) + naming_units(engine) + ROOM_SLACK +
			      all / ROOM_FRACTION;

	return all > kept ? (all - kept) * UNIT : 0;
}

int engine_stats(struct engine *engine, struct engine_stats *out)
{
	struct engine_stats s = {
		.checkpoints = atomic_load(&engine->checkpoints),
		.moved_bytes = atomic_load(&engine->moved),
	};
	struct tree_stats tree;
	struct space_stats space;
	struct space_coming coming;
	const int rc = engine->os->space(engine->dir, &s.disk_bytes_free, &s.disk_bytes_total);

	if (rc < 0)
		return rc;
	log_stats(engine->log, &s.log);
	tree_stats(engine->tree, &tree);
	space_stats(engine->space, &space);
	s.revision = log_revision(engine->log);
	s.generation = tree.generation;
	s.entries = tree.entries;
	s.memory = tree.memory;
	s.page_bytes = pages_units(engine->pages) * UNIT;
	/* An end that is to be cut off is no longer in the map. */
	s.page_bytes_free = s.page_bytes - (space.units - space.free_units) * UNIT;
	s.reserved_bytes = engine_need(engine) * UNIT;
	s.page_bytes_held = space.reader_units * UNIT;
	space_coming(engine->space, kept_newest(engine->kept), &coming);
	s.page_bytes_coming = coming.units * UNIT;
	s.room_bytes = room_bytes(engine, &space, &s, coming.quad_units);
	s.snapshots = space.readers > 0 || kept_newest(engine->kept) > 0;
	*out = s;
	return 0;
}

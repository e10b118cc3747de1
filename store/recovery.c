/* From what is on disk to a running engine: the newest superblock, then the log's tail. */
#include <errno.h>
#include <inttypes.h>

#include "engine_impl.h"
#include "mem.h"

enum {
	/* Revisions skipped at an opening: somebody may have seen some that the disk lost, perhaps
	 * without a trace. Far more than can be committed between two syncs. */
	REVISION_LEAP = 1 << 20,
};

/* What the log is about to vouch for must be on disk: runs. Without new ones there is nothing to
 * wait for, least of all for a checkpoint that is syncing the page file. */
static int before_sync(void *arg)
{
	struct engine *engine = arg;
	const unsigned long long runs = atomic_load(&engine->runs_written);
	int rc = 0;

	if (runs != atomic_load(&engine->runs_synced)) {
		rc = pages_sync(engine->pages);
		if (rc == 0)	/* one sync of the log at a time: nobody else stores here */
			atomic_store(&engine->runs_synced, runs);
	}
	return rc;
}

static struct log_options log_options(struct engine *engine)
{
	struct log_options options = {
		.segment_size = engine->options.segment_size,
		.cap = engine->options.log_cap,
		.before_sync = before_sync,
		.arg = engine,
	};

	memcpy(options.store, engine->store, STORE_ID_SIZE);
	return options;
}

/* Did the run reach the disk? Asked of commits that nobody was told are on disk. */
static int check_run(struct engine *engine, const struct ref *run, void *bytes)
{
	int rc;

	if (run->length > ENGINE_RUN_MAX)
		return -EUCLEAN;
	rc = pages_read(engine->pages, run, bytes, NULL);
	return rc == -EBADMSG ? -ENODATA : rc;
}

static int check(void *arg, struct slice batch)
{
	struct engine *engine = arg;
	struct batch_op op;
	size_t offset = BATCH_HEADER;
	void *bytes = NULL;
	int rc;

	while ((rc = batch_next(batch, &offset, &op)) > 0) {
		if (op.kind != BATCH_PUT_RUN)
			continue;
		if (!bytes)
			bytes = mem_alloc(ENGINE_RUN_MAX);
		rc = bytes ? check_run(engine, &op.run, bytes) : -ENOMEM;
		if (rc < 0)
			break;
	}
	mem_free(bytes);
	return rc;
}

static int hold_runs(struct engine *engine, struct slice batch)
{
	struct batch_op op;
	size_t offset = BATCH_HEADER;
	int rc;

	while ((rc = batch_next(batch, &offset, &op)) > 0)
		if (op.kind == BATCH_PUT_RUN) {
			rc = space_hold(engine->space, &op.run);
			if (rc < 0)
				break;
		}
	return rc;
}

static int admit_all(void *arg, uint64_t units)
{
	(void)arg;
	(void)units;
	return 0;
}

static int apply(void *arg, uint64_t revision, struct slice batch)
{
	struct engine *engine = arg;
	int rc = engine_check_batch(batch);

	if (rc == 0)
		rc = hold_runs(engine, batch);
	if (rc == 0)
		rc = tree_apply(engine->tree, batch, admit_all, NULL, &engine->trouble);
	if (rc == -EINVAL)	/* it was refused before it was logged, if it is one of ours */
		rc = err_set(&engine->trouble, -EUCLEAN, "log: commit %" PRIu64 " is none that can be "
			     "made of what is there before it", revision);
	return rc;
}

static int replay(struct engine *engine, const struct super *super, struct err *err)
{
	const struct log_options options = log_options(engine);
	const struct log_reader reader = { check, apply, engine };
	int rc = log_open(engine->os, engine->dir, &options, &super->mark, REVISION_LEAP, &reader,
			  &engine->log, NULL, err);

	if (rc < 0 && err && !err->text[0])
		*err = engine->trouble;
	if (rc < 0 && err && !err->text[0])
		space_trouble(engine->space, err);
	return rc;
}

/* The newer superblock may be unreadable because the power went while it was written: then the log
 * still has everything since the older one. If not, it was damaged later, and that is the thing to
 * say. */
static int blame_super(int rc, const struct super *super, struct err *err)
{
	struct err log = *err;

	return err_set(err, rc, FILE_PAGES ": the superblock in slot %u (offset %d) is damaged, and "
		       "the log does not reach back to the other one: %.300s",
		       (unsigned)((super->generation + 1) % SUPER_SLOTS),
		       (int)((super->generation + 1) % SUPER_SLOTS) * UNIT, log.text);
}

/* The superblock must know, before anything is committed, that the store is open again, and which
 * revisions will have been skipped. */
static int reopened(struct engine *engine)
{
	struct super *super = &engine->super;
	int rc;

	/* What the replayed commits rely on may only be in the page cache, after a kill. */
	pages_touch(engine->pages);
	rc = pages_sync(engine->pages);
	super->generation++;
	super->mark.closed = false;
	super->mark.seen = log_revision(engine->log);
	return rc == 0 ? pages_write_super(engine->pages, super) : rc;
}

int recovery_open(struct engine *engine, struct err *err)
{
	struct super super;
	bool damaged;
	int rc = pages_open(engine->os, engine->dir, &super, &damaged, &engine->pages, err);

	if (rc < 0)
		return rc;
	memcpy(engine->store, super.store, STORE_ID_SIZE);
	engine->super = super;
	rc = space_open(engine->pages, &super, &engine->space, err);
	if (rc == 0)
		rc = kept_open(engine->pages, engine->space, &super, &engine->kept, err);
	if (rc == 0)
		rc = tree_open(engine->pages, engine->space, &super, engine->options.cache,
			       &engine->tree);
	if (rc < 0)
		return rc;
	if (damaged)			/* the other one may have been newer */
		super.mark.closed = false;
	rc = replay(engine, &super, err);
	if (rc == -EUCLEAN && damaged)
		return blame_super(rc, &super, err);
	tree_replayed(engine->tree);
	return rc == 0 ? reopened(engine) : rc;
}

int recovery_create(struct engine *engine, struct err *err)
{
	const struct super *super = &engine->super;
	int rc = engine->os->random(engine->os, engine->store, STORE_ID_SIZE);

	if (rc == 0)
		rc = pages_create(engine->os, engine->dir, &engine->pages, err);
	if (rc < 0)
		return rc;
	const struct log_options options = log_options(engine);

	engine->super = (struct super){ .generation = 1, .units = SUPER_UNITS };
	memcpy(engine->super.store, engine->store, STORE_ID_SIZE);
	rc = log_create(engine->os, engine->dir, &options, &engine->super.mark, &engine->log, err);
	if (rc == 0)
		rc = pages_write_super(engine->pages, super);
	if (rc == 0)
		rc = space_open(engine->pages, super, &engine->space, err);
	if (rc == 0)
		rc = kept_open(engine->pages, engine->space, super, &engine->kept, err);
	if (rc == 0)
		rc = tree_open(engine->pages, engine->space, super, engine->options.cache,
			       &engine->tree);
	if (rc == 0)
		tree_replayed(engine->tree);
	return rc;
}

/* From what is on disk to a running engine: the newest superblock, then the log's tail. */
#include <errno.h>

#include "engine_impl.h"

enum {
	/* Revisions skipped at an opening: somebody may have seen some that the disk lost, perhaps
	 * without a trace. Far more than can be committed between two syncs. */
	REVISION_LEAP = 1 << 20,
	WITNESS_FRACTION = 1000,	/* of a commit interval, between two tellings */
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
		.witness_ns = engine->options.commit_ns / WITNESS_FRACTION,
		.before_sync = before_sync,
		.arg = engine,
	};

	memcpy(options.store, engine->store, STORE_ID_SIZE);
	return options;
}

static int replay(struct engine *engine, const struct super *super, struct err *err)
{
	const struct log_options options = log_options(engine);
	struct replay *replay;
	struct log_reader reader;
	int rc = replay_begin(engine, &replay, &reader);

	if (rc == 0)
		rc = log_open(engine->os, engine->dir, &options, &super->mark, REVISION_LEAP,
			      &reader, &engine->log, NULL, err);
	rc = replay_end(replay, rc);
	if (rc < 0 && err && !err->text[0])
		*err = engine->trouble;
	if (rc < 0 && err && !err->text[0])
		space_trouble(engine->space, err);
	return rc;
}

/* The newer superblock may be unreadable because the power went while it was written: then the log
 * still has everything since the older one. If not, it may have been damaged later, and that must
 * be said; or the store is young and had no other one. */
static int blame_super(int rc, const struct super *super, struct err *err)
{
	const unsigned slot = (unsigned)((super->generation + 1) % SUPER_SLOTS);
	struct err log = *err;

	return err_set(err, rc,
		       "%.350s; or else " FILE_PAGES ": the superblock in slot %u (offset %u), "
		       "which is damaged or was never written, was newer",
		       log.text, slot, slot * UNIT);
}

/* The superblock must know, before anything is committed, that the store is open again, and which
 * revisions will have been skipped. Its sync is also that of the runs that were written again: from
 * here on the log may vouch for those who name them. */
static int reopened(struct engine *engine)
{
	struct super *super = &engine->super;

	log_recycle(engine->log, &super->mark);		/* checkpoints of the replay moved it */
	super->generation++;
	super->mark.closed = false;
	super->mark.seen = log_revision(engine->log);
	super->mark.files = log_files(engine->log);
	return pages_write_super(engine->pages, super);
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
	/* It may be in the page cache only. Before anything is written to what it says is free, or
	 * the other one is overwritten, it must be on disk: written again, for what a failed sync
	 * left behind no later one takes along. The same bytes: if they are there already, nothing
	 * can tear them. */
	rc = pages_write_super(engine->pages, &engine->super);
	if (rc == 0)
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

/* Snapshots as the engine's users see them: a view of the tree, and a reader of the space, so that
 * what the view leads to is not handed out again. A kept one can be dropped while it is read. */
#include <errno.h>

#include "engine_impl.h"
#include "mem.h"

struct engine_snapshot {
	struct engine *engine;
	struct tree_view *view;
	struct space_reader *reader;
	uint64_t revision;
};

/* ---- moments ---------------------------------------------------------------------------- */

/* Under the tree's lock: no commit comes between the moment and this. */
static int mark(void *arg, uint64_t generation)
{
	struct engine_snapshot *snapshot = arg;

	snapshot->revision = log_revision(snapshot->engine->log);
	return space_reader_open(snapshot->engine->space, generation, &snapshot->reader);
}

int engine_snapshot_open(struct engine *engine, struct engine_snapshot **out)
{
	struct engine_snapshot *snapshot = mem_zalloc(sizeof(*snapshot));
	int rc;

	if (!snapshot)
		return -ENOMEM;
	snapshot->engine = engine;
	rc = tree_view_open(engine->tree, mark, snapshot, &snapshot->view);
	if (rc < 0)
		engine_snapshot_close(snapshot);
	else
		*out = snapshot;
	return rc;
}

void engine_snapshot_close(struct engine_snapshot *snapshot)
{
	if (!snapshot)
		return;
	tree_view_close(snapshot->engine->tree, snapshot->view);	/* before its blocks go */
	space_reader_close(snapshot->engine->space, snapshot->reader);
	keeper_wake(snapshot->engine);
	mem_free(snapshot);
}

uint64_t engine_snapshot_revision(const struct engine_snapshot *snapshot)
{
	return snapshot->revision;
}

uint64_t engine_snapshot_entries(const struct engine_snapshot *snapshot)
{
	return tree_view_entries(snapshot->view);
}

int engine_snapshot_get(struct engine_snapshot *snapshot, struct slice key, struct buffer *value,
			struct ref *run)
{
	return engine_view_get(snapshot->engine, snapshot->view, key, value, run);
}

int engine_snapshot_scan(struct engine_snapshot *snapshot, struct slice from,
			 int (*visit)(void *arg, const struct engine_entry *entry), void *arg)
{
	return engine_view_scan(snapshot->engine, snapshot->view, from, visit, arg);
}

/* ---- kept ones -------------------------------------------------------------------------- */

static int check_name(struct slice name)
{
	return name.size > 0 && name.size <= SNAPSHOT_NAME_MAX ? 0 : -EINVAL;
}

static int found(void *arg, const struct kept_snapshot *kept)
{
	(void)arg;
	(void)kept;
	return 0;
}

static int count_one(void *arg, const struct kept_snapshot *kept)
{
	uint32_t *count = arg;

	(void)kept;
	++*count;
	return 0;
}

static int may_create(struct engine *engine, struct slice name)
{
	uint32_t count = 0;

	if (kept_find(engine->kept, name, found, NULL) == 0)
		return -EEXIST;
	kept_each(engine->kept, count_one, &count);
	return count < SNAPSHOTS_MAX ? 0 : -EMLINK;
}

/* The moment is that of a checkpoint, whose tree is not given back. */
static int create(struct engine *engine, struct slice name) NEEDS(engine->checkpoint)
{
	struct kept_snapshot kept = {
		.created_ns = engine->os->now_ns(engine->os), .name_size = (uint8_t)name.size,
	};
	const struct kept_change change = { .create = &kept };
	int rc = may_create(engine, name);

	if (rc == 0)
		rc = space_ensure(engine->space, engine_need(engine) + KEPT_CREATE_UNITS, 0);
	if (rc < 0)
		return rc;
	memcpy(kept.name, name.data, name.size);
	return checkpoint_change(engine, &change);
}

int engine_snapshot_create(struct engine *engine, struct slice name)
{
	int rc = check_name(name);

	if (rc < 0)
		return rc;
	checkpoint_await(engine, 1);
	mutex_lock(&engine->checkpoint);
	rc = create(engine, name);
	mutex_unlock(&engine->checkpoint);
	checkpoint_await(engine, -1);
	return rc == -EEXIST || rc == -EMLINK ? rc : engine_note(engine, rc, NULL);
}

int engine_snapshot_delete(struct engine *engine, struct slice name)
{
	const struct kept_change change = { .drop = name };
	int rc = check_name(name);

	if (rc < 0)
		return rc;
	checkpoint_await(engine, 1);
	mutex_lock(&engine->checkpoint);
	rc = kept_find(engine->kept, name, found, NULL);
	if (rc == 0)
		rc = checkpoint_change(engine, &change);
	mutex_unlock(&engine->checkpoint);
	checkpoint_await(engine, -1);
	keeper_wake(engine);
	return engine_note(engine, rc, NULL);
}

struct listing {
	int (*visit)(void *arg, const struct engine_kept *kept);
	void *arg;
};

static int list_one(void *arg, const struct kept_snapshot *kept)
{
	const struct listing *l = arg;
	const struct engine_kept e = {
		.name = slice_of(kept->name, kept->name_size),
		.revision = kept->revision,
		.created_ns = kept->created_ns,
		.entries = kept->entries,
	};

	return kept->dropped ? 0 : l->visit(l->arg, &e);
}

int engine_snapshot_list(struct engine *engine,
			 int (*visit)(void *arg, const struct engine_kept *kept), void *arg)
{
	struct listing l = { visit, arg };

	return kept_each(engine->kept, list_one, &l);
}

static int open_kept(void *arg, const struct kept_snapshot *kept)
{
	struct engine_snapshot *snapshot = arg;
	struct engine *engine = snapshot->engine;
	int rc = space_reader_open(engine->space, kept->generation, &snapshot->reader);

	if (rc == 0)
		rc = tree_view_open_at(engine->tree, &kept->root, kept->generation, kept->entries,
				       &snapshot->view);
	snapshot->revision = kept->revision;
	return rc;
}

int engine_snapshot_open_kept(struct engine *engine, struct slice name,
			      struct engine_snapshot **out)
{
	struct engine_snapshot *snapshot = mem_zalloc(sizeof(*snapshot));
	int rc;

	if (!snapshot)
		return -ENOMEM;
	snapshot->engine = engine;
	rc = kept_find(engine->kept, name, open_kept, snapshot);
	if (rc < 0)
		engine_snapshot_close(snapshot);
	else
		*out = snapshot;
	return rc;
}

/* Snapshots as the engine's users see them: a view of the tree, and a reader of the space, so that
 * what the view leads to is not handed out again. */
#include <errno.h>

#include "engine_impl.h"
#include "mem.h"

struct engine_snapshot {
	struct engine *engine;
	struct tree_view *view;
	struct space_reader *reader;
	uint64_t revision;
};

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
	tree_view_close(snapshot->engine->tree, snapshot->view);
	space_reader_close(snapshot->engine->space, snapshot->reader);
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

/* What is due next. Its index is kept in step by batch_entry; removing is the caller's. */
#include <errno.h>

#include "store_impl.h"

struct due_list {
	struct due *items;
	int count, max;
};

static int visit_due(void *arg, const struct engine_entry *entry)
{
	struct due_list *list = arg;
	struct due *due = &list->items[list->count];
	struct slice name;
	int rc;

	if (list->count == list->max)
		return 1;
	rc = record_expiry_parse(entry->key, &due->expires_ms, &due->table, &name);
	if (rc < 0)
		return rc;
	due->name_size = (uint8_t)name.size;
	memcpy(due->name, name.data, name.size);
	list->count++;
	return 0;
}

int store_due(struct store *store, struct due *list, int max)
{
	const struct record_key space = record_space(RECORD_EXPIRY);
	struct due_list found = { list, 0, max };
	const int rc = records_scan(store->engine, record_slice(&space), record_slice(&space),
				    visit_due, &found);

	return rc < 0 ? rc : found.count;
}

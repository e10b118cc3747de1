/* What is due next, and under which names. The index is kept in step by batch_entry; removing is
 * the caller's. */
#include <errno.h>

#include "store_impl.h"

struct due_list {
	struct due *items;
	int count, max;
	struct record_key next;	/* where the walk goes on, if it ended at a shared entry: */
	uint64_t shared;	/* this one, whose names are to be added; 0: none */
	uint64_t expires_ms;	/* of it */
};

static void add(struct due_list *list, uint64_t expires_ms, uint64_t table, struct slice name)
{
	struct due *due = &list->items[list->count++];

	due->expires_ms = expires_ms;
	due->table = table;
	due->name_size = (uint8_t)name.size;
	memcpy(due->name, name.data, name.size);
}

/* ---- the names of a shared entry ------------------------------------------------------------- */

static int visit_shared_name(void *arg, const struct engine_entry *entry)
{
	struct due_list *list = arg;
	uint64_t id, table;
	struct slice name;
	int rc;

	if (list->count == list->max)
		return 1;
	rc = record_shared_parse(entry->key, &id, &table, &name);
	if (rc == 1)
		add(list, list->expires_ms, table, name);
	return rc < 0 ? rc : 0;
}

static int add_names(struct store *store, struct due_list *list, uint64_t id,
		     const struct due *after)
{
	const struct record_key prefix = record_shared(id);
	struct record_key from = prefix;

	if (after) {
		from = record_shared_name(id, after->table,
					  slice_of(after->name, after->name_size));
		from = record_key_after(&from);
	}
	return records_scan(store->engine, record_slice(&from), record_slice(&prefix),
			    visit_shared_name, list);
}

int store_names(struct store *store, uint64_t id, const struct due *after, struct due *list,
		int max)
{
	struct due_list found = { .items = list, .max = max };
	const int rc = add_names(store, &found, id, after);

	return rc < 0 ? rc : found.count;
}

int store_id(struct store *store, struct place place, uint64_t *id)
{
	uint8_t room[RECORD_ROOM];
	struct buffer record = buffer_on(room, sizeof(room));
	struct record_key key;
	struct glimpse glimpse;
	int rc = record_name_check(place.name);

	if (rc < 0)
		return rc;
	key = record_name(place.table, place.name);
	rc = engine_get(store->engine, record_slice(&key), &record, NULL);
	if (rc == 0)
		rc = named_glimpse(buffer_slice(&record), &glimpse, id);
	if (rc == 0)
		*id = glimpse.id;
	buffer_done(&record);
	return rc < 0 ? rc : 0;
}

/* ---- what is due ----------------------------------------------------------------------------- */

static int visit_due(void *arg, const struct engine_entry *entry)
{
	struct due_list *list = arg;
	struct place place;
	uint64_t expires_ms;
	int rc;

	if (list->count == list->max)
		return 1;
	rc = record_expiry_parse(entry->key, &expires_ms, &place.table, &place.name);
	if (rc < 0)
		return rc;
	if (!place_is_shared(place)) {
		add(list, expires_ms, place.table, place.name);
		return 0;
	}
	list->shared = get64be(place.name.data);
	list->expires_ms = expires_ms;
	list->next = record_expiry(expires_ms, place.table, place.name);
	return 1;
}

int store_due(struct store *store, struct due *list, int max)
{
	const struct record_key space = record_space(RECORD_EXPIRY);
	struct due_list found = { .items = list, .max = max, .next = space };
	int rc;

	do {
		const struct record_key from = found.next;

		found.shared = 0;
		rc = records_scan(store->engine, record_slice(&from), record_slice(&space),
				  visit_due, &found);
		if (rc >= 0 && found.shared) {
			rc = add_names(store, &found, found.shared, NULL);
			found.next = record_key_after(&found.next);
		}
	} while (rc >= 0 && found.shared && found.count < max);
	return rc < 0 ? rc : found.count;
}

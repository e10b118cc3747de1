/* Opening and closing, and what every other file of the store needs to read and change records. */
#include "store.h"

#include <assert.h>
#include <errno.h>

#include "mem.h"
#include "store_impl.h"
#include "value.h"

enum {
	IDS_LEASE = 65536,		/* ids taken into use with one record */
	DRAFT_MEMORY_DEFAULT = 4 << 20,
	DRAFT_MEMORY_MIN = 4 * STORE_CHUNK,
	ROOT_MODE = S_IFDIR | 0755,
};

/* ---- time, names ---------------------------------------------------------------------------- */

int64_t store_now(struct store *store)
{
	return (int64_t)store->os->now_ns(store->os);
}

uint64_t store_now_ms(struct store *store)
{
	return store->os->now_ns(store->os) / 1000000;
}

bool entry_expired(struct store *store, const struct entry *entry)
{
	return entry->expires_ms && entry->expires_ms <= store_now_ms(store);
}

bool place_is_root(struct place place)
{
	return place.table == 0 && place.name.size == 0;
}

/* ---- reading records ------------------------------------------------------------------------ */

void loaded_done(struct loaded *l)
{
	buffer_done(&l->record);
}

int table_read(struct store *store, uint64_t id, struct table *table)
{
	const struct record_key key = record_table(id);
	struct buffer record = { 0 };
	int rc = engine_get(store->engine, record_slice(&key), &record, NULL);

	if (rc == 0)
		rc = table_decode(buffer_slice(&record), table);
	buffer_done(&record);
	return rc;
}

static struct known_table *known_table(struct store *store, uint64_t id) NEEDS(store->lock)
{
	return &store->known[id % TABLES_KNOWN];
}

int table_recall(struct store *store, uint64_t id, struct table *table)
{
	struct known_table *known = known_table(store, id);
	int rc = 0;

	if (known->id != id)
		rc = table_read(store, id, table);
	else
		*table = known->table;
	if (rc == 0)
		*known = (struct known_table){ id, *table };
	return rc;
}

static int read_shared(struct store *store, uint64_t id, struct loaded *l)
{
	const struct record_key key = record_shared(id);
	const int rc = engine_get(store->engine, record_slice(&key), &l->record, NULL);

	return rc < 0 ? rc : shared_decode(buffer_slice(&l->record), id, &l->entry);
}

/* 0: the entry; 1: it is the shared one *id. */
static int read_name(struct store *store, struct place place, struct loaded *l, uint64_t *id)
{
	const struct record_key key = record_name(place.table, place.name);
	const int rc = engine_get(store->engine, record_slice(&key), &l->record, NULL);

	return rc < 0 ? rc : named_decode(buffer_slice(&l->record), &l->entry, id);
}

/* A name and what it refers to are read one after the other, and the entry may lose its last name
 * in between. Then the name has another entry now, or none; ids never come back. */
static int read_named(struct store *store, struct place place, struct loaded *l)
{
	uint64_t id = 0, missing;
	int rc = read_name(store, place, l, &id);

	while (rc == 1) {
		missing = id;
		rc = read_shared(store, id, l);
		if (rc != -ENOENT)
			return rc;
		rc = read_name(store, place, l, &id);
		if (rc == 1 && id == missing)
			return -EUCLEAN;
	}
	return rc;
}

int loaded_read(struct store *store, struct place place, struct loaded *l)
{
	int rc;

	if (place_is_shared(place))
		return read_shared(store, get64be(place.name.data), l);
	rc = place_is_root(place) ? 0 : record_name_check(place.name);
	if (rc == 0)
		rc = read_named(store, place, l);
	if (rc < 0 || !entry_is_table(&l->entry))
		return rc;
	return table_read(store, l->entry.id, &l->table);
}

int loaded_read_live(struct store *store, struct place place, struct loaded *l)
{
	const int rc = loaded_read(store, place, l);

	return rc == 0 && entry_expired(store, &l->entry) ? -ENOENT : rc;
}

struct scan {
	struct slice prefix;
	int (*visit)(void *arg, const struct engine_entry *entry);
	void *arg;
	bool ended;
};

static int visit_in_prefix(void *arg, const struct engine_entry *entry)
{
	struct scan *s = arg;

	s->ended = !slice_starts(entry->key, s->prefix);
	return s->ended ? 1 : s->visit(s->arg, entry);
}

int records_scan(struct engine *engine, struct slice from, struct slice prefix,
		 int (*visit)(void *arg, const struct engine_entry *entry), void *arg)
{
	struct scan s = { prefix, visit, arg, false };
	const int rc = engine_scan(engine, from, visit_in_prefix, &s);

	return s.ended && rc > 0 ? 0 : rc;
}

void attr_describe_table(const struct table *table, struct attr *out)
{
	out->links = table->tables < UINT32_MAX - 2 ? 2 + (uint32_t)table->tables : UINT32_MAX;
	out->entries = table->entries;
	out->mtime_ns = table->mtime_ns;
	out->ctime_ns = table->ctime_ns;
}

void attr_describe(const struct entry *e, const struct table *table, struct attr *out)
{
	*out = (struct attr){
		.id = e->id,
		.mode = e->mode,
		.uid = e->uid,
		.gid = e->gid,
		.links = e->links ? e->links : 1,
		.shared = e->links,
		.rdev = e->rdev,
		.size = e->size,
		.stored = e->size - e->holes,
		.version = e->version,
		.expires_ms = e->expires_ms,
		.unpublished = e->flags & ENTRY_UNPUBLISHED,
		.atime_ns = e->atime_ns,
		.mtime_ns = e->mtime_ns,
		.ctime_ns = e->ctime_ns,
		.btime_ns = e->btime_ns,
	};
	if (entry_is_table(e))
		attr_describe_table(table, out);
}

int store_lookup(struct store *store, struct place place, struct attr *out)
{
	uint8_t room[RECORD_ROOM];
	struct loaded l = { .record = buffer_on(room, sizeof(room)) };
	const int rc = loaded_read_live(store, place, &l);

	if (rc == 0)
		attr_describe(&l.entry, &l.table, out);
	loaded_done(&l);
	return rc;
}

int store_readlink(struct store *store, struct place place, struct buffer *out)
{
	struct loaded l = { 0 };
	int rc = loaded_read_live(store, place, &l);

	if (rc == 0 && !S_ISLNK(l.entry.mode))
		rc = -EINVAL;
	if (rc == 0) {
		buffer_clear(out);
		rc = buffer_append(out, l.entry.contents.data, l.entry.contents.size);
	}
	loaded_done(&l);
	return rc;
}

/* ---- changing records ------------------------------------------------------------------------ */

/* A record that says something by being there. */
static void batch_mark(struct batch *batch, const struct record_key *key, bool is)
{
	if (is)
		batch_put(batch, record_slice(key), slice_of("", 0));
	else
		batch_delete(batch, record_slice(key));
}

static void batch_expiry(struct batch *batch, struct place place, uint64_t was, uint64_t is)
{
	if (was && was != is) {
		const struct record_key key = record_expiry(was, place.table, place.name);

		batch_mark(batch, &key, false);
	}
	if (is && was != is) {
		const struct record_key key = record_expiry(is, place.table, place.name);

		batch_mark(batch, &key, true);
	}
}

static void batch_unpublished(struct batch *batch, struct place place, bool was, bool is)
{
	if (was != is) {
		const struct record_key key = record_unpublished(place.table, place.name);

		batch_mark(batch, &key, is);
	}
}

static void batch_put_entry(struct batch *batch, struct slice key, const struct entry *entry)
{
	uint8_t *room = batch_put_room(batch, key, entry_size_max(entry));

	if (room)
		batch_put_done(batch, room, entry_encode(entry, room));
}

/* `home`: where the entry itself lies. NULL: there was none, or shall be none. */
static void batch_record(struct batch *batch, struct place home, const struct entry *old,
			 const struct entry *fresh)
{
	const struct record_key key = record_at(home);

	batch_expiry(batch, home, old ? old->expires_ms : 0, fresh ? fresh->expires_ms : 0);
	batch_unpublished(batch, home, old && old->flags & ENTRY_UNPUBLISHED,
			  fresh && fresh->flags & ENTRY_UNPUBLISHED);
	if (fresh)
		batch_put_entry(batch, record_slice(&key), fresh);
	else
		batch_delete(batch, record_slice(&key));
}

void batch_shared(struct batch *batch, const struct entry *old, const struct entry *fresh)
{
	uint8_t name[STORE_SHARED_NAME];

	batch_record(batch, place_shared(old ? old->id : fresh->id, name), old, fresh);
}

void batch_entry(struct batch *batch, struct place place, const struct entry *old,
		 const struct entry *fresh)
{
	if (fresh->links)
		batch_shared(batch, old, fresh);
	else
		batch_record(batch, place, old, fresh);
}

static void batch_reference(struct batch *batch, struct place place, uint64_t id)
{
	const struct record_key key = record_name(place.table, place.name);
	uint8_t record[REFERENCE_MAX];

	batch_put(batch, record_slice(&key), slice_of(record, reference_encode(id, record)));
}

static void batch_shared_name(struct batch *batch, uint64_t id, struct place place, bool is)
{
	const struct record_key key = record_shared_name(id, place.table, place.name);

	batch_mark(batch, &key, is);
}

void batch_name(struct batch *batch, struct place place, const struct entry *old,
		const struct entry *fresh)
{
	const bool was = old && old->links, is = fresh && fresh->links;
	const struct entry *old_here = was ? NULL : old, *fresh_here = is ? NULL : fresh;

	if (was)
		batch_shared_name(batch, old->id, place, false);
	if (is)
		batch_shared_name(batch, fresh->id, place, true);
	if (old_here || !is)
		batch_record(batch, place, old_here, fresh_here);
	if (is)
		batch_reference(batch, place, fresh->id);
}

void batch_table(struct batch *batch, uint64_t id, const struct table *table)
{
	const struct record_key key = record_table(id);
	uint8_t record[TABLE_RECORD_MAX];

	batch_put(batch, record_slice(&key), slice_of(record, table_encode(table, record)));
}

/* The table's own record may be known as it was before. */
static void note_record(struct store *store, uint64_t id, const struct batch_op *op)
	NEEDS(store->lock)
{
	const struct record_key key = record_table(id);
	struct known_table *known = known_table(store, id);

	if (known->id != id || !slice_equal(op->key, record_slice(&key)))
		return;
	if (op->kind != BATCH_PUT || table_decode(op->value, &known->table) < 0)
		known->id = 0;
}

/* Here, and not where names are changed, so that no change can be forgotten: whatever a table shows
 * of itself or of its names is in records that begin with its id. */
static void note_tables(struct store *store, struct slice batch, uint64_t revision)
	NEEDS(store->lock)
{
	struct batch_op op;
	uint64_t table;

	for (size_t at = BATCH_HEADER; batch_next(batch, &at, &op) > 0;)
		if (record_of_table(op.key, &table)) {
			store->noted[table % TABLES_NOTED] = revision;
			note_record(store, table, &op);
		}
}

int store_commit(struct store *store, const struct batch *batch, bool reclaim,
		 uint64_t *revision)
{
	int rc = engine_commit(store->engine, batch, reclaim, revision);

	while (rc == -ENOSPC && reclaim_locked(store) > 0)
		rc = engine_commit(store->engine, batch, reclaim, revision);
	if (rc == 0)
		note_tables(store, buffer_slice(&batch->bytes), *revision);
	return rc;
}

int store_run_write(struct store *store, struct slice bytes, struct ref *out)
{
	int rc = engine_run_write(store->engine, bytes, out);

	while (rc == -ENOSPC && store_reclaim(store, RECLAIM_STEP) > 0)
		rc = engine_run_write(store->engine, bytes, out);
	return rc;
}

static void batch_ids(struct batch *batch, uint64_t leased)
{
	const struct record_key key = record_catalogue(CATALOGUE_IDS);
	uint8_t record[IDS_SIZE];

	put64(record, leased);
	batch_put(batch, record_slice(&key), slice_of(record, sizeof(record)));
}

/* A commit of its own: whatever uses one of these ids comes later in history. */
static int lease_ids(struct store *store) NEEDS(store->lock)
{
	struct batch batch = { 0 };
	uint64_t revision;
	int rc;

	batch_ids(&batch, store->id_leased + IDS_LEASE);
	rc = store_commit(store, &batch, false, &revision);
	if (rc == 0)
		store->id_leased += IDS_LEASE;
	batch_done(&batch);
	return rc;
}

int store_take_id(struct store *store, uint64_t *id)
{
	const int rc = store->id_next < store->id_leased ? 0 : lease_ids(store);

	if (rc == 0)
		*id = store->id_next++;
	return rc;
}

/* ---- opening -------------------------------------------------------------------------------- */

/* An empty store gets its root and the first ids. */
static int make_root(struct store *store, const struct store_options *options)
{
	const int64_t now = store_now(store);
	const struct entry root = {
		.id = STORE_ROOT,
		.mode = ROOT_MODE,
		.uid = options->uid,
		.gid = options->gid,
		.atime_ns = now,
		.mtime_ns = now,
		.ctime_ns = now,
		.btime_ns = now,
	};
	const struct table table = { .mtime_ns = now, .ctime_ns = now };
	struct batch batch = { 0 };
	uint64_t revision;
	int rc;

	batch_name(&batch, PLACE_ROOT, NULL, &root);
	batch_table(&batch, STORE_ROOT, &table);
	batch_ids(&batch, STORE_ROOT + 1);
	mutex_lock(&store->lock);
	rc = store_commit(store, &batch, false, &revision);
	mutex_unlock(&store->lock);
	if (rc == 0)
		rc = engine_wait_blocking(store->engine, revision, LOG_SYNCED);
	batch_done(&batch);
	return rc;
}

static int visit_any(void *arg, const struct engine_entry *entry)
{
	(void)arg;
	(void)entry;
	return 1;
}

/* 0: there is a root; -ENOENT: there is nothing at all. */
static int find_root(struct store *store, struct err *err)
{
	struct loaded root = { 0 };
	int rc = loaded_read(store, PLACE_ROOT, &root);

	if (rc == 0 && (!entry_is_table(&root.entry) || root.entry.id != STORE_ROOT))
		rc = err_set(err, -EUCLEAN, "the record of the root table is not one");
	if (rc == -ENOENT) {
		rc = engine_scan(store->engine, slice_of("", 1), visit_any, NULL);
		if (rc == 0)
			rc = -ENOENT;
		else if (rc == 1)
			rc = err_set(err, -EUCLEAN, "there are records, but no root table");
	}
	loaded_done(&root);
	return rc;
}

static int read_ids(struct store *store, struct err *err)
{
	const struct record_key key = record_catalogue(CATALOGUE_IDS);
	struct buffer record = { 0 };
	uint64_t next = 0;
	int rc = engine_get(store->engine, record_slice(&key), &record, NULL);

	if (rc == 0)
		rc = ids_parse(buffer_slice(&record), &next);
	if (rc == -ENOENT || rc == -EUCLEAN)
		rc = err_set(err, -EUCLEAN, "the record of used ids is missing or damaged");
	store->id_next = store->id_leased = next;
	buffer_done(&record);
	return rc;
}

static int visit_first(void *arg, const struct engine_entry *entry)
{
	struct record_key *key = arg;

	if (entry->key.size > sizeof(key->bytes))
		return -EUCLEAN;
	memcpy(key->bytes, entry->key.data, entry->key.size);
	key->size = (uint16_t)entry->key.size;
	return 1;
}

static int remove_unpublished(struct store *store, const struct record_key *key)
{
	struct loaded l = { 0 };
	struct place place;
	uint64_t revision;
	int rc = record_name_parse(record_slice(key), &place.table, &place.name);

	if (rc == 0)
		rc = loaded_read(store, place, &l);
	if (rc == -ENOENT || (rc == 0 && !(l.entry.flags & ENTRY_UNPUBLISHED)))
		rc = -EUCLEAN;
	if (rc == 0) {
		mutex_lock(&store->lock);
		rc = entry_remove(store, place, &l, &revision);
		mutex_unlock(&store->lock);
	}
	loaded_done(&l);
	return rc;
}

/* What was created but not published when the store was last closed, or crashed, never was. */
static int remove_all_unpublished(struct store *store, struct err *err)
{
	const struct record_key space = record_space(RECORD_UNPUBLISHED);
	struct record_key key;
	int rc;

	do {
		rc = records_scan(store->engine, record_slice(&space), record_slice(&space),
				  visit_first, &key);
		if (rc == 1) {
			rc = remove_unpublished(store, &key);
			rc = rc < 0 ? rc : 1;
		}
	} while (rc == 1);
	if (rc == -EUCLEAN)
		return err_set(err, rc, "an unpublished entry does not match its record");
	return rc;
}

static int open_records(struct store *store, const struct store_options *options, struct err *err)
{
	int rc = find_root(store, err);

	if (rc == -ENOENT)
		rc = make_root(store, options);
	if (rc < 0)
		return rc;
	rc = read_ids(store, err);
	return rc < 0 ? rc : remove_all_unpublished(store, err);
}

static int store_free(struct store *store)
{
	int rc;

	reclaim_join(store);
	rc = engine_close(store->engine);
	idmap_done(&store->held);
	pthread_cond_destroy(&store->reclaim_wanted);
	mutex_done(&store->lock);
	mem_free(store);
	return rc;
}

int store_open(struct os *os, const char *path, const struct store_options *options,
	       struct store **out, struct err *err)
{
	const struct engine_options engine_options = {
		.create = options->create,
		.background = options->background,
		.segment_size = options->segment_size,
		.log_cap = options->log_cap,
		.cache = options->cache,
		.commit_ns = options->commit_ns,
	};
	struct store *store = mem_zalloc(sizeof(*store));
	int rc;

	if (!store)
		return -ENOMEM;
	store->os = os;
	store->draft_memory = options->draft_memory ? options->draft_memory : DRAFT_MEMORY_DEFAULT;
	if (store->draft_memory < DRAFT_MEMORY_MIN)
		store->draft_memory = DRAFT_MEMORY_MIN;
	mutex_init(&store->lock);
	pthread_cond_init(&store->reclaim_wanted, NULL);
	rc = engine_open(os, path, &engine_options, &store->engine, err);
	if (rc < 0)
		goto out;
	rc = open_records(store, options, err);
	if (rc < 0)
		goto out;
	rc = options->background ? reclaim_start(store) : 0;
	if (rc < 0)
		goto out;

	*out = store;
	store = NULL;
out:
	if (store)
		store_free(store);
	return rc;
}

int store_close(struct store *store)
{
	assert(!store || store->held.count == 0);	/* all drafts are closed */
	return store ? store_free(store) : 0;
}

/* ---- durability and care --------------------------------------------------------------------- */

void store_wait(struct store *store, struct log_waiter *waiter)
{
	if (waiter->revision)
		engine_wait(store->engine, waiter);
	else
		waiter->done(waiter, 0);
}

int store_wait_blocking(struct store *store, uint64_t revision, enum log_level level)
{
	return revision ? engine_wait_blocking(store->engine, revision, level) : 0;
}

int store_sync(struct store *store)
{
	return engine_wait_blocking(store->engine, engine_revision(store->engine), LOG_SYNCED);
}

uint64_t store_revision(struct store *store)
{
	return engine_revision(store->engine);
}

/* Under the lock: what can be seen already was noted then, too. */
uint64_t store_table_revision(struct store *store, uint64_t table)
{
	uint64_t revision;

	mutex_lock(&store->lock);
	revision = store->noted[table % TABLES_NOTED];
	mutex_unlock(&store->lock);
	return revision;
}

int store_checkpoint(struct store *store)
{
	return engine_checkpoint(store->engine);
}

int store_stats(struct store *store, struct engine_stats *out)
{
	const uint64_t doomed = atomic_load(&store->doomed);
	int rc = engine_stats(store->engine, out);

	if (rc < 0 || out->snapshots)		/* which may need it */
		return rc;
	out->page_bytes_coming += doomed;
	out->room_bytes += doomed;
	return 0;
}

bool store_trouble(struct store *store, struct err *err)
{
	return engine_trouble(store->engine, err);
}

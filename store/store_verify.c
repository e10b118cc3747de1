/* Do the records agree with each other? One walk over all of them, in key order, which is
 * fortunate: what is doomed comes before what has a name, shared entries before names, names before
 * tables and chunks, and those before the expiry index. Memory grows with the number of tables and
 * of values in chunks. */
#include <errno.h>
#include <inttypes.h>

#include "sum.h"
#include "value.h"

enum { PAGE = 1024 };	/* records looked at under the engine's lock at a time */

/* What names and their index say must be the same set, whose order differs: so count and add up. */
struct tally {
	uint64_t count, sum;
};

/* In a table's slot, `a` counts its names, `b` its tables in the upper bits. */
enum {
	TABLE_NAMED = 1,	/* in `b`: an entry is this table */
	TABLE_RECORD = 2,	/* in `b`: it has its record */
	TABLE_ONE = 4,		/* in `b`: one table in it */
};

struct verify {
	struct store *store;
	struct err *err;
	int (*progress)(void *arg, uint64_t blocks);
	void *arg;
	uint64_t blocks;		/* what progress was told last */

	struct idmap tables;
	struct idmap values;		/* a: size; b: bytes of its chunks still to be met */
	struct idmap doomed;		/* a: first chunk that is to go */
	struct idmap shared;		/* a: how many names it says it has; b: how many it has */
	uint64_t ids_next;		/* from the catalogue */
	struct tally expiry_named, expiry_index, unpublished_named, unpublished_index;
	struct tally shared_named, shared_index;

	int page_left;
	struct record_key next;		/* where the walk goes on */
};

static void tally_add(struct tally *t, const struct record_key *key)
{
	t->count++;
	t->sum += sum64(key->bytes, key->size);
}

static bool tally_equal(const struct tally *a, const struct tally *b)
{
	return a->count == b->count && a->sum == b->sum;
}

#define FAULT(v, ...) err_set((v)->err, -EUCLEAN, __VA_ARGS__)

/* ---- one kind of record each ----------------------------------------------------------------- */

static int see_catalogue(struct verify *v, const struct engine_entry *r)
{
	const struct record_key ids = record_catalogue(CATALOGUE_IDS);

	if (!slice_equal(r->key, record_slice(&ids)))
		return FAULT(v, "the catalogue has a record of unknown name");
	if (ids_parse(r->value, &v->ids_next) < 0)
		return FAULT(v, "the record of used ids is damaged");
	return 0;
}

static int see_doomed(struct verify *v, const struct engine_entry *r)
{
	struct idmap_slot *slot;
	uint32_t first;
	uint64_t value;

	if (record_id_parse(r->key, &value) < 0 || doomed_parse(r->value, &first) < 0)
		return FAULT(v, "the record of a doomed value is damaged");
	slot = idmap_add(&v->doomed, value);
	if (!slot)
		return -ENOMEM;
	slot->a = first;
	return 0;
}

static int see_table_entry(struct verify *v, const struct entry *e)
{
	struct idmap_slot *slot = idmap_add(&v->tables, e->id);

	if (!slot)
		return -ENOMEM;
	if (slot->b & TABLE_NAMED)
		return FAULT(v, "table %" PRIu64 " has two names", e->id);
	slot->b |= TABLE_NAMED;
	return 0;
}

static int see_value(struct verify *v, const struct entry *e)
{
	const struct idmap_slot *doomed = idmap_find(&v->doomed, e->value_id);
	struct idmap_slot *slot;

	if (idmap_find(&v->values, e->value_id))
		return FAULT(v, "value %" PRIu64 " has two names", e->value_id);
	if (doomed && (doomed->a == 0 || doomed->a < chunk_count(e->size)))
		return FAULT(v, "value %" PRIu64 " is doomed, and has a name", e->value_id);
	slot = idmap_add(&v->values, e->value_id);
	if (!slot)
		return -ENOMEM;
	slot->a = e->size;
	slot->b = e->size - e->holes;
	return 0;
}

static int see_parent(struct verify *v, uint64_t table, bool is_table)
{
	struct idmap_slot *slot;

	if (table == 0)
		return 0;	/* the root has none */
	slot = idmap_add(&v->tables, table);
	if (!slot)
		return -ENOMEM;
	slot->a++;
	slot->b += is_table ? TABLE_ONE : 0;
	return 0;
}

/* An entry, wherever it lies: `home` is its place, or that of a shared one. */
static int see_entry(struct verify *v, struct place home, const struct entry *e)
{
	int rc = 0;

	if (e->id >= v->ids_next || e->value_id >= v->ids_next)
		return FAULT(v, "entry %" PRIu64 " has an id not handed out yet", e->id);
	if (e->expires_ms) {
		const struct record_key key = record_expiry(e->expires_ms, home.table, home.name);

		tally_add(&v->expiry_named, &key);
	}
	if (e->flags & ENTRY_UNPUBLISHED) {
		const struct record_key key = record_unpublished(home.table, home.name);

		tally_add(&v->unpublished_named, &key);
	}
	if (entry_is_table(e))
		rc = see_table_entry(v, e);
	if (rc == 0 && e->value_id)
		rc = see_value(v, e);
	return rc;
}

static int see_reference(struct verify *v, struct place place, uint64_t id)
{
	const struct record_key key = record_shared_name(id, place.table, place.name);

	tally_add(&v->shared_named, &key);
	return 0;
}

static int see_name(struct verify *v, const struct engine_entry *r)
{
	struct place place;
	struct entry e = { 0 };
	uint64_t id;
	int rc;

	if (record_name_parse(r->key, &place.table, &place.name) < 0)
		return FAULT(v, "the key of an entry is damaged");
	rc = named_decode(r->value, &e, &id);
	if (rc < 0)
		return FAULT(v, "an entry in table %" PRIu64 " is damaged", place.table);
	rc = rc == 1 ? see_reference(v, place, id) : see_entry(v, place, &e);
	return rc < 0 ? rc : see_parent(v, place.table, entry_is_table(&e));
}

static int see_shared_entry(struct verify *v, uint64_t id, struct slice record)
{
	uint8_t name[STORE_SHARED_NAME];
	struct idmap_slot *slot;
	struct entry e;

	if (shared_decode(record, id, &e) < 0)
		return FAULT(v, "the shared entry %" PRIu64 " is damaged", id);
	slot = idmap_add(&v->shared, id);
	if (!slot)
		return -ENOMEM;
	slot->a = e.links;
	return see_entry(v, place_shared(id, name), &e);
}

/* The entry comes first, then its names. */
static int see_shared(struct verify *v, const struct engine_entry *r)
{
	struct idmap_slot *slot;
	struct record_key key;
	uint64_t id, table;
	struct slice name;
	const int rc = record_shared_parse(r->key, &id, &table, &name);

	if (rc == 0)
		return see_shared_entry(v, id, r->value);
	if (rc < 0 || r->value.size)
		return FAULT(v, "the record of a shared entry's name is damaged");
	slot = idmap_find(&v->shared, id);
	if (!slot)
		return FAULT(v, "the shared entry %" PRIu64 " has a name, and is not there", id);
	slot->b++;
	key = record_shared_name(id, table, name);
	tally_add(&v->shared_index, &key);
	return 0;
}

static int see_table(struct verify *v, const struct engine_entry *r)
{
	struct idmap_slot *slot;
	struct table table;
	uint64_t id;

	if (record_id_parse(r->key, &id) < 0 || table_decode(r->value, &table) < 0)
		return FAULT(v, "a table's record is damaged");
	slot = idmap_find(&v->tables, id);
	if (!slot || !(slot->b & TABLE_NAMED))
		return FAULT(v, "table %" PRIu64 " has no name", id);
	if (slot->a != table.entries || slot->b / TABLE_ONE != table.tables)
		return FAULT(v, "table %" PRIu64 " counts %" PRIu64 " names and %" PRIu64
			     " tables, and has %" PRIu64 " and %" PRIu64, id, table.entries,
			     table.tables, slot->a, slot->b / TABLE_ONE);
	slot->b |= TABLE_RECORD;
	return 0;
}

static int see_unpublished(struct verify *v, const struct engine_entry *r)
{
	struct record_key key;
	struct slice name;
	uint64_t table;

	if (record_name_parse(r->key, &table, &name) < 0 || r->value.size)
		return FAULT(v, "the record of an unpublished entry is damaged");
	key = record_unpublished(table, name);
	tally_add(&v->unpublished_index, &key);
	return 0;
}

/* Does a chunk lie within its value, or is it to go anyway? */
static bool chunk_belongs(const struct verify *v, uint64_t value, uint32_t chunk,
			  const struct chunk_shape *shape)
{
	struct idmap_slot *named = idmap_find(&v->values, value);
	const struct idmap_slot *doomed = idmap_find(&v->doomed, value);

	if (doomed && chunk >= doomed->a)
		return true;
	if (!named || (uint64_t)chunk * STORE_CHUNK + shape->used > named->a)
		return false;
	named->b -= chunk_stored(shape);
	return true;
}

static int see_chunk(struct verify *v, const struct engine_entry *r)
{
	struct chunk c;
	uint64_t value;
	uint32_t chunk;

	if (record_chunk_parse(r->key, &value, &chunk) < 0 ||
	    chunk_parse(r->value, r->run->length, &c) < 0)
		return FAULT(v, "a chunk's record is damaged");
	if (!chunk_belongs(v, value, chunk, &c.shape))
		return FAULT(v, "chunk %" PRIu32 " of value %" PRIu64 " belongs to nothing", chunk,
			     value);
	return 0;
}

static int see_expiry(struct verify *v, const struct engine_entry *r)
{
	uint64_t expires_ms, table;
	struct record_key key;
	struct slice name;

	if (record_expiry_parse(r->key, &expires_ms, &table, &name) < 0 || r->value.size)
		return FAULT(v, "a record of the expiry index is damaged");
	key = record_expiry(expires_ms, table, name);
	tally_add(&v->expiry_index, &key);
	return 0;
}

static int see_record(struct verify *v, const struct engine_entry *r)
{
	const uint8_t kind = *(const uint8_t *)r->key.data;

	if (r->run->length && kind != RECORD_CHUNK)
		return FAULT(v, "a record of kind 0x%02x has a run", kind);
	switch (kind) {
	case RECORD_CATALOGUE:
		return see_catalogue(v, r);
	case RECORD_DOOMED:
		return see_doomed(v, r);
	case RECORD_SHARED:
		return see_shared(v, r);
	case RECORD_NAME:
		return see_name(v, r);
	case RECORD_TABLE:
		return see_table(v, r);
	case RECORD_UNPUBLISHED:
		return see_unpublished(v, r);
	case RECORD_CHUNK:
		return see_chunk(v, r);
	case RECORD_EXPIRY:
		return see_expiry(v, r);
	default:
		return FAULT(v, "a record of unknown kind 0x%02x", kind);
	}
}

/* ---- the walk -------------------------------------------------------------------------------- */

static int visit_record(void *arg, const struct engine_entry *r)
{
	struct verify *v = arg;

	if (r->key.size == 0 || r->key.size > RECORD_KEY_MAX)
		return FAULT(v, "a record's key has %zu bytes", r->key.size);
	if (v->page_left-- == 0) {
		memcpy(v->next.bytes, r->key.data, r->key.size);
		v->next.size = (uint16_t)r->key.size;
		return 1;
	}
	return see_record(v, r);
}

static int tell_progress(struct verify *v)
{
	return v->progress && v->progress(v->arg, v->blocks) ? -EINTR : 0;
}

static int walk(struct verify *v) NEEDS(v->store->lock)
{
	int rc = 1;

	v->next = record_space(0);
	while (rc == 1) {
		const struct record_key from = v->next;

		rc = tell_progress(v);
		v->page_left = PAGE;
		if (rc == 0)
			rc = engine_scan(v->store->engine, record_slice(&from), visit_record, v);
	}
	return rc;
}

/* What only the whole can tell. */
static int check_rest(struct verify *v)
{
	const uint64_t both = TABLE_NAMED | TABLE_RECORD;

	for (size_t i = 0; i < v->tables.capacity; i++) {
		const struct idmap_slot *slot = &v->tables.slots[i];

		if (slot->id && (slot->b & both) != both)
			return FAULT(v, "table %" PRIu64 " has no record of its own, or no name",
				     slot->id);
	}
	for (size_t i = 0; i < v->shared.capacity; i++) {
		const struct idmap_slot *slot = &v->shared.slots[i];

		if (slot->id && slot->a != slot->b)
			return FAULT(v,
				     "entry %" PRIu64 " counts %" PRIu64 " names, and has %" PRIu64,
				     slot->id, slot->a, slot->b);
	}
	if (!tally_equal(&v->shared_named, &v->shared_index))
		return FAULT(v, "the names of shared entries do not match their lists");
	if (!idmap_find(&v->tables, STORE_ROOT))
		return FAULT(v, "there is no root table");
	if (!tally_equal(&v->expiry_named, &v->expiry_index))
		return FAULT(v, "the expiry index does not match the entries");
	if (!tally_equal(&v->unpublished_named, &v->unpublished_index))
		return FAULT(v, "the list of unpublished entries does not match the entries");
	return 0;
}

/* Has each value as many bytes as its entry says? */
static int check_values(struct verify *v)
{
	for (size_t i = 0; i < v->values.capacity; i++) {
		const struct idmap_slot *slot = &v->values.slots[i];

		if (slot->id && slot->b)
			return FAULT(v, "value %" PRIu64 " keeps %" PRId64 " bytes fewer than its "
				     "entry says", slot->id, (int64_t)slot->b);
	}
	return 0;
}

static int note_progress(void *arg, uint64_t blocks)
{
	struct verify *v = arg;

	v->blocks = blocks;
	return v->progress(v->arg, blocks);
}

int store_verify(struct store *store, int (*progress)(void *arg, uint64_t blocks), void *arg,
		 struct err *err)
{
	struct verify v = { .store = store, .err = err, .progress = progress, .arg = arg };
	int rc = engine_verify(store->engine, progress ? note_progress : NULL, &v, err);

	if (rc < 0)
		return rc;
	mutex_lock(&v.store->lock);	/* changes wait; looking does not */
	rc = walk(&v);
	mutex_unlock(&v.store->lock);
	if (rc == 0)
		rc = check_rest(&v);
	if (rc == 0)
		rc = check_values(&v);
	idmap_done(&v.tables);
	idmap_done(&v.values);
	idmap_done(&v.doomed);
	idmap_done(&v.shared);
	return rc;
}

/* Names come, go and move: make, link, remove, rename, list. */
#include <assert.h>
#include <errno.h>

#include "mem.h"
#include "value.h"
#include "xattr_set.h"

enum {
	LIST_PAGE = 64,		/* entries read at a time, at most ... */
	LIST_LEAST = 8,		/* ... and at least */
};

/* ---- making --------------------------------------------------------------------------------- */

static void table_touch(struct table *table, int64_t now)
{
	table->mtime_ns = now;
	table->ctime_ns = now;
}

static void table_gain(struct table *table, const struct entry *e, int64_t now)
{
	table->entries++;
	table->tables += entry_is_table(e);
	table_touch(table, now);
}

/* The counts come from disk, and may be wrong there: they stop at zero rather than wrap. */
static void table_lose(struct table *table, const struct entry *e, int64_t now)
{
	table->entries -= table->entries > 0;
	table->tables -= entry_is_table(e) && table->tables > 0;
	if (table->tables > table->entries)
		table->tables = table->entries;
	table_touch(table, now);
}

static int new_check(struct place place, const struct store_new *what)
{
	const bool link = S_ISLNK(what->mode), device = S_ISCHR(what->mode) || S_ISBLK(what->mode);

	if (place_is_root(place))
		return -EEXIST;
	assert(xattr_set_check(what->xattrs) == 0);
	if (!entry_type_known(what->mode) || (what->staged && !S_ISREG(what->mode)) ||
	    (what->expires_ms && S_ISDIR(what->mode)) ||
	    (what->rdev && !device))
		return -EINVAL;
	if (what->target.size > STORE_TARGET_MAX)
		return -ENAMETOOLONG;
	if (link != (what->target.size > 0) ||
	    (link && memchr(what->target.data, 0, what->target.size)))
		return -EINVAL;
	return record_name_check(place.name);
}

/* 0 if nothing is in the way. */
static int check_free(struct store *store, struct place place)
{
	uint8_t room[RECORD_ROOM];
	struct loaded l = { .record = buffer_on(room, sizeof(room)) };
	int rc = loaded_read(store, place, &l);

	if (rc == 0)
		rc = entry_expired(store, &l.entry) ? -EKEYEXPIRED : -EEXIST;
	loaded_done(&l);
	return rc == -ENOENT ? 0 : rc;
}

static struct entry entry_new(const struct store_new *what, uint64_t id, int64_t now)
{
	const bool file = S_ISREG(what->mode), table = S_ISDIR(what->mode);

	return (struct entry){
		.id = id,
		.mode = what->mode & (S_IFMT | 07777),
		.uid = what->uid,
		.gid = what->gid,
		.rdev = what->rdev,
		.flags = what->staged ? ENTRY_UNPUBLISHED : file ? ENTRY_FRESH : 0,
		.version = table || what->staged ? 0 : 1,
		.atime_ns = now,
		.mtime_ns = now,
		.ctime_ns = now,
		.btime_ns = now,
		.expires_ms = what->expires_ms,
		.size = what->target.size,
		.contents = what->target,
		.xattrs = what->xattrs,
	};
}

static int make_locked(struct store *store, struct place place, const struct store_new *what,
		       struct attr *out, uint64_t *revision) NEEDS(store->lock)
{
	const int64_t now = store_now(store);
	const struct table empty = { .mtime_ns = now, .ctime_ns = now };
	uint8_t room[BATCH_ROOM];
	struct batch batch = { .bytes = buffer_on(room, sizeof(room)) };
	struct table parent;
	struct entry e;
	uint64_t id, made;
	int rc = check_free(store, place);

	if (rc == 0)
		rc = table_recall(store, place.table, &parent);
	if (rc == 0)
		rc = store_take_id(store, &id);
	if (rc < 0)
		return rc;
	e = entry_new(what, id, now);
	table_gain(&parent, &e, now);
	batch_name(&batch, place, NULL, &e);
	batch_table(&batch, place.table, &parent);
	if (entry_is_table(&e))
		batch_table(&batch, id, &empty);
	rc = store_commit(store, &batch, false, &made);
	if (rc == 0) {
		*revision = what->staged ? 0 : made;
		if (out)
			attr_describe(&e, &empty, out);
	}
	batch_done(&batch);
	return rc;
}

int store_make(struct store *store, struct place place, const struct store_new *what,
	       struct attr *out, uint64_t *revision)
{
	int rc = new_check(place, what);

	if (rc < 0)
		return rc;
	store_lock_to_change(store);
	rc = make_locked(store, place, what, out, revision);
	mutex_unlock(&store->lock);
	return rc;
}

/* ---- removing ------------------------------------------------------------------------------- */

/* A walk over a table's names that ends at the first that has not expired. */
struct emptiness {
	uint64_t now_ms;
	bool expired;		/* there was an entry that has expired */
	uint64_t shared;	/* the walk met this shared entry, to be asked for; 0: none */
	struct record_key next;	/* then it goes on here */
};

static bool still_live(struct emptiness *seen, const struct entry *e)
{
	const bool live = !e->expires_ms || e->expires_ms > seen->now_ms;

	seen->expired |= !live;
	return live;
}

static int visit_live(void *arg, const struct engine_entry *entry)
{
	struct emptiness *seen = arg;
	struct slice name;
	struct entry e;
	uint64_t table;
	int rc = named_decode(entry->value, &e, &seen->shared);

	if (rc == 0)
		return still_live(seen, &e);
	if (rc == 1 && record_name_parse(entry->key, &table, &name) < 0)
		rc = -EUCLEAN;
	if (rc == 1)
		seen->next = record_name_after(table, name);
	return rc;
}

/* 1: it has not expired. */
static int shared_live(struct store *store, struct emptiness *seen)
{
	uint8_t name[STORE_SHARED_NAME];
	struct loaded l = { 0 };
	int rc = loaded_read(store, place_shared(seen->shared, name), &l);

	if (rc == 0)
		rc = still_live(seen, &l.entry);
	else if (rc == -ENOENT)
		rc = -EUCLEAN;	/* names do not go while the caller has the lock */
	seen->shared = 0;
	loaded_done(&l);
	return rc;
}

int table_check_empty(struct store *store, uint64_t id, const struct table *table)
{
	const struct record_key prefix = record_names_of(id);
	struct emptiness seen = { .now_ms = store_now_ms(store), .next = prefix };
	bool more = true;
	int rc = 0;

	if (table->entries == 0)
		return 0;
	while (more && rc == 0) {
		const struct record_key from = seen.next;

		rc = records_scan(store->engine, record_slice(&from), record_slice(&prefix),
				  visit_live, &seen);
		more = seen.shared != 0;
		if (more && rc > 0)
			rc = shared_live(store, &seen);
	}
	if (rc < 0)
		return rc;
	return rc == 0 && seen.expired ? -EKEYEXPIRED : -ENOTEMPTY;
}

/* What else there is of an entry that has lost its name at one place. */
static void batch_name_lost(struct batch *batch, struct store *store, const struct entry *e,
			    int64_t now) NEEDS(store->lock)
{
	const struct record_key key = record_table(e->id);
	struct entry left = *e;

	if (e->links > 1) {
		left.links = e->links - 1;
		left.ctime_ns = now;
		batch_shared(batch, e, &left);
		return;
	}
	if (e->links)
		batch_shared(batch, e, NULL);
	if (entry_is_table(e))
		batch_delete(batch, record_slice(&key));
	batch_doom(batch, store, e->value_id, e->size);
}

/* Tells what batch_name_lost did to those who hold the value, once the batch is committed. */
static void name_lost(struct store *store, const struct entry *e) NEEDS(store->lock)
{
	if (e->links <= 1)
		value_doomed(store, e->value_id, e->size - e->holes);
}

int entry_remove(struct store *store, struct place place, const struct loaded *l,
		 uint64_t *revision)
{
	const int64_t now = store_now(store);
	uint8_t room[BATCH_ROOM];
	struct batch batch = { .bytes = buffer_on(room, sizeof(room)) };
	struct table parent;
	int rc = table_recall(store, place.table, &parent);

	if (rc < 0)
		return rc;
	table_lose(&parent, &l->entry, now);
	batch_name(&batch, place, &l->entry, NULL);
	batch_table(&batch, place.table, &parent);
	batch_name_lost(&batch, store, &l->entry, now);
	rc = store_commit(store, &batch, true, revision);
	if (rc == 0)
		name_lost(store, &l->entry);
	batch_done(&batch);
	return rc;
}

static int remove_check(struct store *store, const struct loaded *l, unsigned flags)
{
	const bool table = entry_is_table(&l->entry), expired = entry_expired(store, &l->entry);

	if (expired && !(flags & STORE_EXPIRED))
		return -ENOENT;
	if (!expired && flags & STORE_EXPIRED)
		return -EAGAIN;
	if (table != !!(flags & STORE_TABLE))
		return table ? -EISDIR : -ENOTDIR;
	return table ? table_check_empty(store, l->entry.id, &l->table) : 0;
}

int store_remove(struct store *store, struct place place, unsigned flags, struct attr *out,
		 uint64_t *revision)
{
	uint8_t room[RECORD_ROOM];
	struct loaded l = { .record = buffer_on(room, sizeof(room)) };
	uint64_t removed = 0;
	int rc;

	if (place_is_root(place))
		return -EBUSY;
	if (place_is_shared(place))
		return -EINVAL;
	store_lock_to_change(store);
	rc = loaded_read(store, place, &l);
	if (rc == 0)
		rc = remove_check(store, &l, flags);
	if (rc == 0)
		rc = entry_remove(store, place, &l, &removed);
	mutex_unlock(&store->lock);
	if (rc == 0 && out)
		attr_describe(&l.entry, &l.table, out);
	if (rc == 0)
		*revision = l.entry.flags & ENTRY_UNPUBLISHED ? 0 : removed;
	loaded_done(&l);
	return rc;
}

/* ---- renaming ------------------------------------------------------------------------------- */

/* Everything a rename looks at before it changes anything. */
struct move {
	struct store *store;
	struct place from, to;
	unsigned flags;
	uint64_t expires_ms;	/* for what has no expiry */
	int64_t now;
	struct loaded source, target;
	bool taken;		/* there is a target */
	struct batch batch;
};

static bool move_same_place(const struct move *m)
{
	return m->from.table == m->to.table && slice_equal(m->from.name, m->to.name);
}

static bool move_same_entry(const struct move *m)
{
	return m->taken && m->source.entry.links && m->source.entry.id == m->target.entry.id;
}

static int move_load(struct move *m)
{
	int rc = loaded_read_live(m->store, m->from, &m->source);

	if (rc < 0)
		return rc;
	rc = loaded_read(m->store, m->to, &m->target);
	if (rc < 0)
		return rc == -ENOENT ? 0 : rc;
	m->taken = true;
	if (entry_expired(m->store, &m->target.entry) && !move_same_place(m))
		return m->flags & STORE_EXCHANGE ? -ENOENT : -EKEYEXPIRED;
	return 0;
}

static int move_check(struct move *m)
{
	const struct entry *source = &m->source.entry, *target = &m->target.entry;

	if (m->taken && m->flags & STORE_NOREPLACE)
		return -EEXIST;
	if (!m->taken && m->flags & STORE_EXCHANGE)
		return -ENOENT;
	if (entry_is_table(source) && source->id == m->to.table)
		return -EINVAL;
	if (!m->taken)
		return 0;
	if (m->flags & STORE_EXCHANGE)
		return entry_is_table(target) && target->id == m->from.table ? -EINVAL : 0;
	if (entry_is_table(source) != entry_is_table(target))
		return entry_is_table(source) ? -ENOTDIR : -EISDIR;
	return entry_is_table(target) ? table_check_empty(m->store, target->id, &m->target.table) :
					0;
}

/* The entry as it goes to another name, where nothing counts as its predecessor. */
static struct entry moved(const struct entry *e, int64_t now)
{
	struct entry fresh = *e;

	fresh.ctime_ns = now;
	if (fresh.flags & ENTRY_UNPUBLISHED && fresh.version == 0)
		fresh.version = 1;
	fresh.flags &= ~(unsigned)ENTRY_UNPUBLISHED;
	return fresh;
}

/* The entry as the next version of the one it replaces. */
static struct entry moved_over(const struct entry *e, const struct entry *replaced, int64_t now)
{
	struct entry fresh = moved(e, now);
	const uint64_t last = replaced->flags & ENTRY_UNPUBLISHED ? 0 : replaced->version;
	const uint64_t set = e->flags & ENTRY_VERSION_SET || e->links > 1 ? e->version : 0;

	if (entry_is_table(e))
		return fresh;
	fresh.version = last + 1 > set ? last + 1 : set;
	fresh.flags = 0;
	return fresh;
}

/* What of a moved entry does not lie under its name: a shared one, and a table's ctime. */
static void batch_moved(struct move *m, const struct loaded *l, const struct entry *fresh)
{
	struct table table = l->table;

	if (fresh->links)
		batch_shared(&m->batch, &l->entry, fresh);
	if (!entry_is_table(fresh))
		return;
	table.ctime_ns = m->now;
	batch_table(&m->batch, l->entry.id, &table);
}

static int move_tables(struct move *m) NEEDS(m->store->lock)
{
	const bool same = m->from.table == m->to.table, swap = m->flags & STORE_EXCHANGE;
	struct table one, other, *from = &one, *to = same ? &one : &other;
	int rc = table_recall(m->store, m->from.table, from);

	if (rc == 0 && !same)
		rc = table_recall(m->store, m->to.table, to);
	if (rc < 0)
		return rc;
	if (m->taken)
		table_lose(to, &m->target.entry, m->now);
	table_lose(from, &m->source.entry, m->now);
	table_gain(to, &m->source.entry, m->now);
	if (swap)
		table_gain(from, &m->target.entry, m->now);
	batch_table(&m->batch, m->from.table, from);
	if (!same)
		batch_table(&m->batch, m->to.table, to);
	return 0;
}

static void move_exchange(struct move *m)
{
	const struct entry source = moved(&m->source.entry, m->now);
	const struct entry target = moved(&m->target.entry, m->now);

	batch_name(&m->batch, m->to, &m->target.entry, &source);
	batch_name(&m->batch, m->from, &m->source.entry, &target);
	batch_moved(m, &m->source, &source);
	batch_moved(m, &m->target, &target);
}

static void move_replace(struct move *m) NEEDS(m->store->lock)
{
	struct entry fresh = m->taken ?
		moved_over(&m->source.entry, &m->target.entry, m->now) :
		moved(&m->source.entry, m->now);

	if (!fresh.expires_ms && !entry_is_table(&fresh) && fresh.links <= 1)
		fresh.expires_ms = m->expires_ms;
	batch_name(&m->batch, m->from, &m->source.entry, NULL);
	batch_name(&m->batch, m->to, m->taken ? &m->target.entry : NULL, &fresh);
	batch_moved(m, &m->source, &fresh);
	if (m->taken)
		batch_name_lost(&m->batch, m->store, &m->target.entry, m->now);
}

static int move_commit(struct move *m, uint64_t *revision) NEEDS(m->store->lock)
{
	const bool replaces = m->taken && !(m->flags & STORE_EXCHANGE);
	int rc = move_tables(m);

	if (rc < 0)
		return rc;
	if (m->flags & STORE_EXCHANGE)
		move_exchange(m);
	else
		move_replace(m);
	rc = store_commit(m->store, &m->batch, replaces, revision);
	if (rc == 0 && replaces)
		name_lost(m->store, &m->target.entry);
	return rc;
}

static int move_run(struct move *m, uint64_t *revision) NEEDS(m->store->lock)
{
	int rc;

	m->now = store_now(m->store);
	rc = move_load(m);
	if (rc < 0)
		return rc;
	if ((move_same_place(m) || move_same_entry(m)) && !(m->flags & STORE_NOREPLACE)) {
		*revision = 0;
		return 0;
	}
	rc = move_check(m);
	return rc < 0 ? rc : move_commit(m, revision);
}

int store_rename(struct store *store, struct place from, struct place to, unsigned flags,
		 uint64_t *revision)
{
	return store_rename_due(store, from, to, flags, 0, revision);
}

int store_rename_due(struct store *store, struct place from, struct place to, unsigned flags,
		     uint64_t expires_ms, uint64_t *revision)
{
	uint8_t source[RECORD_ROOM], target[RECORD_ROOM], batch[BATCH_ROOM];
	struct move m = {
		.store = store, .from = from, .to = to, .flags = flags, .expires_ms = expires_ms,
		.source.record = buffer_on(source, sizeof(source)),
		.target.record = buffer_on(target, sizeof(target)),
		.batch.bytes = buffer_on(batch, sizeof(batch)),
	};
	int rc;

	if (place_is_root(from) || place_is_root(to))
		return -EBUSY;
	if (place_is_shared(from) || place_is_shared(to))
		return -EINVAL;
	if ((flags & STORE_NOREPLACE && flags & STORE_EXCHANGE) ||
	    flags & ~(unsigned)(STORE_NOREPLACE | STORE_EXCHANGE))
		return -EINVAL;
	store_lock_to_change(m.store);
	rc = move_run(&m, revision);
	mutex_unlock(&m.store->lock);
	loaded_done(&m.source);
	loaded_done(&m.target);
	batch_done(&m.batch);
	return rc;
}

/* ---- linking -------------------------------------------------------------------------------- */

static int link_check(struct store *store, struct place to, const struct entry *e)
{
	if (entry_is_table(e))
		return -EPERM;
	if (e->links >= STORE_LINKS_MAX)
		return -EMLINK;
	return check_free(store, to);
}

/* With its second name the entry becomes shared, and leaves its first name. */
static int link_commit(struct store *store, struct place from, struct place to,
		       const struct entry *old, const struct entry *fresh, uint64_t *revision)
	NEEDS(store->lock)
{
	struct batch batch = { 0 };
	struct table parent;
	int rc = table_recall(store, to.table, &parent);

	if (rc < 0)
		return rc;
	table_gain(&parent, fresh, fresh->ctime_ns);
	if (!old->links)
		batch_name(&batch, from, old, fresh);
	batch_shared(&batch, old->links ? old : NULL, fresh);
	batch_name(&batch, to, NULL, fresh);
	batch_table(&batch, to.table, &parent);
	rc = store_commit(store, &batch, false, revision);
	batch_done(&batch);
	return rc;
}

static int link_locked(struct store *store, struct place from, struct place to, struct attr *out,
		       uint64_t *revision) NEEDS(store->lock)
{
	struct loaded l = { 0 };
	struct entry fresh;
	int rc = loaded_read_live(store, from, &l);

	if (rc == 0)
		rc = link_check(store, to, &l.entry);
	if (rc < 0)
		goto out;
	fresh = moved(&l.entry, store_now(store));
	fresh.links = l.entry.links ? l.entry.links + 1 : 2;
	rc = link_commit(store, from, to, &l.entry, &fresh, revision);
	if (rc == 0 && out)
		attr_describe(&fresh, NULL, out);
out:
	loaded_done(&l);
	return rc;
}

int store_link(struct store *store, struct place from, struct place to, struct attr *out,
	       uint64_t *revision)
{
	int rc;

	if (place_is_root(to))
		return -EEXIST;
	rc = record_name_check(to.name);
	if (rc < 0)
		return rc;
	store_lock_to_change(store);
	rc = link_locked(store, from, to, out, revision);
	mutex_unlock(&store->lock);
	return rc;
}

/* ---- listing -------------------------------------------------------------------------------- */

struct item {
	struct attr attr;
	bool refers;		/* to a shared entry, of which nothing else is known yet */
	uint8_t name_size;
	uint8_t name[STORE_NAME_MAX + 1];	/* and a NUL */
};

static struct slice item_name(const struct item *item)
{
	return slice_of(item->name, item->name_size);
}

struct item_page {
	uint64_t table;
	bool ended;		/* behind these comes no other name */
	uint64_t now_ms;
	int count, most;
	struct item items[LIST_PAGE];
};

/* 0: it is described; 1: it refers to a shared entry. */
static int item_describe(struct slice record, struct attr *out)
{
	static const struct table unknown;	/* the engine must not be asked from here */
	struct entry e;
	uint64_t id;
	const int rc = named_decode(record, &e, &id);

	if (rc == 0)
		attr_describe(&e, &unknown, out);
	return rc;
}

static int visit_item(void *arg, const struct engine_entry *entry)
{
	struct item_page *page = arg;
	struct item *item = &page->items[page->count];
	struct slice name;
	int rc;

	if (page->count == page->most)
		return 1;
	rc = record_name_in(entry->key, page->table, &name);
	page->ended = rc > 0;
	if (rc)
		return rc;
	rc = item_describe(entry->value, &item->attr);
	if (rc < 0)
		return rc;
	item->refers = rc == 1;
	if (!item->refers && item->attr.expires_ms && item->attr.expires_ms <= page->now_ms)
		return 0;
	item->name_size = (uint8_t)name.size;
	memcpy(item->name, name.data, name.size);
	item->name[name.size] = '\0';
	page->count++;
	return 0;
}

/* Adds what lies in a record of its own. -ENOENT: the entry was just removed, or has expired. */
static int item_complete(struct store *store, uint64_t in, struct item *item)
{
	const struct place place = { in, item_name(item) };
	struct table table;
	int rc;

	if (item->refers)
		return store_lookup(store, place, &item->attr);
	if (!S_ISDIR(item->attr.mode))
		return 0;
	rc = table_read(store, item->attr.id, &table);
	if (rc == 0)
		attr_describe_table(&table, &item->attr);
	return rc;
}

static int visit_page(struct store *store, uint64_t table, struct item_page *page,
		      int (*visit)(void *arg, struct slice name, const struct attr *attr),
		      void *arg)
{
	int rc = 0;

	for (int i = 0; i < page->count && rc == 0; i++) {
		struct item *item = &page->items[i];

		rc = item_complete(store, table, item);
		if (rc == 0)
			rc = visit(arg, item_name(item), &item->attr);
		else if (rc == -ENOENT)
			rc = 0;
	}
	return rc;
}

/* How many to read when so many are still wanted. */
static int next_most(size_t wanted)
{
	if (wanted > LIST_PAGE)
		return LIST_PAGE;
	return wanted > LIST_LEAST ? (int)wanted : LIST_LEAST;
}

static int list(struct store *store, uint64_t table, struct slice after, size_t wanted,
		int (*visit)(void *arg, struct slice name, const struct attr *attr), void *arg)
{
	struct record_key from;
	struct item_page *page;
	struct table exists;
	int more, rc = table_read(store, table, &exists);

	if (rc < 0)
		return rc;
	if (after.size > STORE_NAME_MAX)
		return -ENAMETOOLONG;
	page = mem_alloc(sizeof(*page));	/* large, and rarely filled */
	if (!page)
		return -ENOMEM;
	page->table = table;
	page->ended = false;
	do {
		from = record_name_after(table, after);
		page->count = 0;
		page->most = next_most(wanted);
		page->now_ms = store_now_ms(store);
		more = engine_scan(store->engine, record_slice(&from), visit_item, page);
		if (page->count)
			after = item_name(&page->items[page->count - 1]);
		wanted -= wanted < (size_t)page->count ? wanted : (size_t)page->count;
		rc = more < 0 ? more : visit_page(store, table, page, visit, arg);
	} while (more == 1 && rc == 0 && !page->ended);
	mem_free(page);
	return rc;
}

int store_list(struct store *store, uint64_t table, struct slice after,
	       int (*visit)(void *arg, struct slice name, const struct attr *attr), void *arg)
{
	return list(store, table, after, SIZE_MAX, visit, arg);
}

int store_list_some(struct store *store, uint64_t table, struct slice after, size_t count,
		    int (*visit)(void *arg, struct slice name, const struct attr *attr), void *arg)
{
	return list(store, table, after, count, visit, arg);
}

/* A listing of names goes straight from the tree to whoever wants it. */
struct name_scan {
	uint64_t table;
	uint64_t now_ms;
	int (*visit)(void *arg, struct slice name, const struct attr *attr);
	void *arg;
	int rc;			/* what ended it: an error, or what `visit` said */
	bool refers;		/* it stopped at a name of a shared entry, which is: */
	uint8_t name_size;
	uint8_t name[STORE_NAME_MAX];
};

static int stop(struct name_scan *s, int rc)
{
	s->rc = rc;
	return 1;
}

static int visit_name(void *arg, const struct engine_entry *entry)
{
	struct name_scan *s = arg;
	struct attr attr;
	struct glimpse g;
	struct slice name;
	uint64_t id;
	int rc = record_name_in(entry->key, s->table, &name);

	if (rc)
		return stop(s, rc < 0 ? rc : 0);
	rc = named_glimpse(entry->value, &g, &id);
	if (rc < 0)
		return stop(s, rc);
	if (rc == 1) {
		s->refers = true;
		s->name_size = (uint8_t)name.size;
		memcpy(s->name, name.data, name.size);
		return stop(s, 0);
	}
	if (g.expires_ms && g.expires_ms <= s->now_ms)
		return 0;
	attr.id = g.id;
	attr.mode = g.type;
	attr.expires_ms = g.expires_ms;
	rc = s->visit(s->arg, name, &attr);
	return rc ? stop(s, rc) : 0;
}

/* What lies in a record of its own cannot be read from within the scan. */
static int visit_shared(struct store *store, struct name_scan *s)
{
	const struct slice name = slice_of(s->name, s->name_size);
	struct attr attr;
	const int rc = store_lookup(store, (struct place){ s->table, name }, &attr);

	return rc == 0 ? s->visit(s->arg, name, &attr) : rc == -ENOENT ? 0 : rc;
}

int store_list_names(struct store *store, uint64_t table, struct slice after,
		     int (*visit)(void *arg, struct slice name, const struct attr *attr), void *arg)
{
	struct name_scan s = { .table = table, .visit = visit, .arg = arg };
	struct record_key from;
	struct table exists;
	int rc = table_read(store, table, &exists);

	if (rc < 0)
		return rc;
	if (after.size > STORE_NAME_MAX)
		return -ENAMETOOLONG;
	do {
		from = record_name_after(table, after);
		s.refers = false;
		s.now_ms = store_now_ms(store);
		rc = engine_scan(store->engine, record_slice(&from), visit_name, &s);
		rc = rc < 0 ? rc : s.rc;
		if (rc == 0 && s.refers)
			rc = visit_shared(store, &s);
		after = slice_of(s.name, s.name_size);
	} while (rc == 0 && s.refers);
	return rc;
}

/* Changing what an entry says about its value: mode, owner, times, version, expiry, and extended
 * attributes. All of them are one commit that rewrites the entry. */
#include <errno.h>

#include "mem.h"
#include "store_impl.h"
#include "xattr_set.h"

/* ---- looking ------------------------------------------------------------------------------- */

int store_xattr_get(struct store *store, struct place place, struct slice name,
		    struct buffer *out)
{
	uint8_t room[RECORD_ROOM];
	struct loaded l = { .record = buffer_on(room, sizeof(room)) };
	struct slice value;
	int rc = loaded_read_live(store, place, &l);

	if (rc == 0)
		rc = xattr_set_find(l.entry.xattrs, name, &value);
	if (rc == 0) {
		buffer_clear(out);
		rc = buffer_append(out, value.data, value.size);
	}
	loaded_done(&l);
	return rc;
}

int store_xattr_all(struct store *store, struct place place, struct buffer *out)
{
	struct loaded l = { 0 };
	int rc = loaded_read(store, place, &l);

	if (rc == 0) {
		buffer_clear(out);
		rc = buffer_append(out, l.entry.xattrs.data, l.entry.xattrs.size);
	}
	loaded_done(&l);
	return rc;
}

/* ---- changing ------------------------------------------------------------------------------ */

/* Replaces the entry by `fresh`, which `l` became, and describes it. */
static int entry_replace(struct store *store, struct place place, const struct loaded *l,
			 const struct entry *fresh, const struct table *table, struct attr *out,
			 uint64_t *revision) NEEDS(store->lock)
{
	uint8_t room[BATCH_ROOM];
	struct batch batch = { .bytes = buffer_on(room, sizeof(room)) };
	int rc;

	batch_entry(&batch, place, &l->entry, fresh);
	if (entry_is_table(fresh))
		batch_table(&batch, fresh->id, table);
	rc = store_commit(store, &batch, false, revision);
	if (rc == 0 && out)
		attr_describe(fresh, table, out);
	batch_done(&batch);
	return rc;
}

/* Which version counts as explicitly set, and for which value: the published one, unless
 * there is none worth the name yet. */
static int set_version(struct entry *e, uint64_t version, bool staged)
{
	if (entry_is_table(e) || version < e->version || version > INT64_MAX)
		return -EINVAL;
	if (e->flags & (ENTRY_UNPUBLISHED | ENTRY_FRESH) || staged)
		e->flags |= ENTRY_VERSION_NEXT;
	e->flags |= ENTRY_VERSION_SET;
	e->version = version;
	return 0;
}

static int set_expires(struct entry *e, uint64_t expires_ms)
{
	if (entry_is_table(e))
		return -EINVAL;
	e->expires_ms = expires_ms;
	return 0;
}

static int set_fields(struct entry *e, struct table *table, unsigned mask,
		      const struct attr *values)
{
	int rc = 0;

	if (mask & SET_MODE)
		e->mode = (e->mode & S_IFMT) | (values->mode & 07777);
	if (mask & SET_UID)
		e->uid = values->uid;
	if (mask & SET_GID)
		e->gid = values->gid;
	if (mask & SET_ATIME)
		e->atime_ns = values->atime_ns;
	if (mask & SET_MTIME)
		e->mtime_ns = table->mtime_ns = values->mtime_ns;
	if (mask & SET_CTIME)
		e->ctime_ns = table->ctime_ns = values->ctime_ns;
	if (mask & SET_VERSION)
		rc = set_version(e, values->version, mask & SET_STAGED);
	if (rc == 0 && mask & SET_EXPIRES)
		rc = set_expires(e, values->expires_ms);
	return rc;
}

/* What becomes of an entry: fields, as of store_set, and of one extended attribute. */
struct change {
	unsigned mask;
	const struct attr *values;	/* what `mask` names */
	struct slice name;		/* empty: no attribute changes */
	const struct slice *value;	/* NULL: it is removed */
	unsigned flags;			/* as of store_xattr_set */
};

/* Writes the attributes as they shall be to `set`, if they change. */
static int change_xattrs(const struct change *c, struct slice old, struct buffer *set)
{
	struct slice value;
	int rc;

	if (c->name.size == 0)
		return 0;
	rc = xattr_set_find(old, c->name, &value);
	if (rc == 0 && c->flags & XATTR_MUST_CREATE)
		return -EEXIST;
	if (rc == -ENODATA && !(c->flags & XATTR_MUST_EXIST))
		rc = 0;
	return rc < 0 ? rc : xattr_set_with(old, c->name, c->value, set);
}

static int change_entry(struct store *store, struct place place, const struct change *c,
			struct attr *out, uint64_t *revision) WITHOUT(store->lock)
{
	uint8_t record[RECORD_ROOM], xattrs[RECORD_ROOM];
	struct loaded l = { .record = buffer_on(record, sizeof(record)) };
	struct buffer set = buffer_on(xattrs, sizeof(xattrs));
	struct entry fresh;
	struct table table;
	int rc;

	store_lock_to_change(store);
	rc = loaded_read_live(store, place, &l);
	if (rc == 0)
		rc = change_xattrs(c, l.entry.xattrs, &set);
	if (rc < 0)
		goto out;
	fresh = l.entry;
	table = l.table;
	if (c->name.size)
		fresh.xattrs = buffer_slice(&set);
	fresh.ctime_ns = table.ctime_ns = store_now(store);
	rc = set_fields(&fresh, &table, c->mask, c->values);
	if (rc == 0)
		rc = entry_replace(store, place, &l, &fresh, &table, out, revision);
out:
	mutex_unlock(&store->lock);
	loaded_done(&l);
	buffer_done(&set);
	return rc;
}

int store_set(struct store *store, struct place place, unsigned mask, const struct attr *values,
	      struct attr *out, uint64_t *revision)
{
	const struct change c = { .mask = mask, .values = values };

	return change_entry(store, place, &c, out, revision);
}

static int check_xattr(struct slice name, const struct slice *value)
{
	if (name.size == 0 || name.size > STORE_XATTR_NAME_MAX)
		return -ERANGE;
	if (memchr(name.data, 0, name.size))
		return -EINVAL;
	return value && value->size > STORE_XATTR_MAX ? -E2BIG : 0;
}

int store_set_with(struct store *store, struct place place, unsigned mask,
		   const struct attr *values, struct slice name, const struct slice *value,
		   struct attr *out, uint64_t *revision)
{
	const struct change c = { .mask = mask, .values = values, .name = name, .value = value };
	const int rc = check_xattr(name, value);

	return rc < 0 ? rc : change_entry(store, place, &c, out, revision);
}

int store_xattr_set(struct store *store, struct place place, struct slice name,
		    struct slice value, unsigned flags, uint64_t *revision)
{
	const struct change c = { .name = name, .value = &value, .flags = flags };
	const int rc = check_xattr(name, &value);

	return rc < 0 ? rc : change_entry(store, place, &c, NULL, revision);
}

int store_xattr_remove(struct store *store, struct place place, struct slice name,
		       uint64_t *revision)
{
	const struct change c = { .name = name, .flags = XATTR_MUST_EXIST };

	return name.size ? change_entry(store, place, &c, NULL, revision) : -ENODATA;
}

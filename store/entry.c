/* The fields that most entries do not need are optional: a bit in the mask says which are there.
 * One with its usual value is left out, and refused if it is there, so each entry has one
 * encoding. */
#include "entry.h"

#include <assert.h>
#include <errno.h>

#include "store.h"
#include "varint.h"
#include "xattr_set.h"

enum { RECORD_FORMAT = 1 };

/* In the order in which they lie in the record. */
enum {
	HAS_UID = 1 << 0,
	HAS_GID = 1 << 1,
	HAS_ATIME = 1 << 2,
	HAS_CTIME = 1 << 3,
	HAS_BTIME = 1 << 4,
	HAS_VERSION = 1 << 5,
	HAS_EXPIRES = 1 << 6,
	HAS_RDEV = 1 << 7,
	HAS_FLAGS = 1 << 8,
	HAS_XATTRS = 1 << 9,
	HAS_VALUE = 1 << 10,
	HAS_LINKS = 1 << 11,
	HAS_HOLES = 1 << 12,
	HAS_ALL = (1 << 13) - 1,
};

enum {
	FLAGS_ALL = ENTRY_VERSION_SET | ENTRY_VERSION_NEXT | ENTRY_FRESH | ENTRY_UNPUBLISHED,
	PERMISSIONS = 07777,
	FIXED_MAX = 2 + 14 * VARINT_MAX + 8,	/* all but contents and attributes */
};

/* Index is the kind in the record. */
static const uint32_t type_of_kind[] = {
	0, S_IFREG, S_IFDIR, S_IFLNK, S_IFIFO, S_IFSOCK, S_IFCHR, S_IFBLK,
};
enum {
	KINDS = sizeof(type_of_kind) / sizeof(type_of_kind[0]),
	KIND_REFERENCE = KINDS,
};

static uint8_t kind_of(uint32_t mode)
{
	uint8_t kind = KINDS - 1;

	while (kind > 0 && type_of_kind[kind] != (mode & S_IFMT))
		kind--;
	return kind;
}

bool entry_type_known(uint32_t mode)
{
	return kind_of(mode) != 0;
}

static uint64_t usual_version(const struct entry *e)
{
	return entry_is_table(e) ? 0 : 1;
}

/* What holds of every entry, in memory and on disk. */
static bool possible(const struct entry *e)
{
	const bool file = S_ISREG(e->mode), table = entry_is_table(e);
	const bool unpublished = e->flags & ENTRY_UNPUBLISHED;

	if (e->id == 0 || e->flags & ~(unsigned)FLAGS_ALL)
		return false;
	if (table && (e->version || e->expires_ms || e->flags))
		return false;
	if (e->links && (table || unpublished))
		return false;
	if (!table && e->version == 0 && !unpublished)
		return false;
	if (unpublished && (!file || e->size))
		return false;
	if (e->flags & ENTRY_VERSION_NEXT && !(e->flags & ENTRY_VERSION_SET))
		return false;
	if (e->rdev && !S_ISCHR(e->mode) && !S_ISBLK(e->mode))
		return false;
	if (e->holes > e->size || (e->holes && !e->value_id))
		return false;
	if (e->value_id)
		return file && e->contents.size == 0 && e->size > STORE_INLINE_MAX &&
		       e->size <= STORE_SIZE_MAX;
	if (e->size != e->contents.size)
		return false;
	if (S_ISLNK(e->mode))
		return e->size > 0 && e->size <= STORE_TARGET_MAX &&
		       !memchr(e->contents.data, 0, e->contents.size);
	return e->size <= (file ? STORE_INLINE_MAX : 0);
}

static unsigned mask_of(const struct entry *e)
{
	return (e->uid ? HAS_UID : 0) | (e->gid ? HAS_GID : 0) |
	       (e->atime_ns != e->mtime_ns ? HAS_ATIME : 0) |
	       (e->ctime_ns != e->mtime_ns ? HAS_CTIME : 0) |
	       (e->btime_ns != e->mtime_ns ? HAS_BTIME : 0) |
	       (e->version != usual_version(e) ? HAS_VERSION : 0) |
	       (e->expires_ms ? HAS_EXPIRES : 0) | (e->rdev ? HAS_RDEV : 0) |
	       (e->flags ? HAS_FLAGS : 0) | (e->xattrs.size ? HAS_XATTRS : 0) |
	       (e->value_id ? HAS_VALUE : 0) | (e->links ? HAS_LINKS : 0) |
	       (e->holes ? HAS_HOLES : 0);
}

/* The difference wraps, so that any two times have one. */
static uint64_t time_delta(int64_t time, int64_t mtime)
{
	return zigzag((int64_t)((uint64_t)time - (uint64_t)mtime));
}

static int64_t time_behind(uint64_t delta, int64_t mtime)
{
	return (int64_t)((uint64_t)mtime + (uint64_t)unzigzag(delta));
}

static uint8_t *put_varint(uint8_t *to, uint64_t v)
{
	return to + varint_put(to, v);
}

static uint8_t *put_if(uint8_t *to, bool there, uint64_t v)
{
	return there ? put_varint(to, v) : to;
}

size_t entry_size_max(const struct entry *e)
{
	return FIXED_MAX + e->contents.size + e->xattrs.size;
}

size_t entry_encode(const struct entry *e, uint8_t *to)
{
	const unsigned mask = mask_of(e);
	uint8_t *p = to;

	assert(possible(e) && kind_of(e->mode));
	*p++ = RECORD_FORMAT;
	*p++ = kind_of(e->mode);
	p = put_varint(p, mask);
	p = put_varint(p, e->id);
	p = put_varint(p, e->mode & PERMISSIONS);
	put64(p, (uint64_t)e->mtime_ns);
	p += 8;
	p = put_if(p, mask & HAS_UID, e->uid);
	p = put_if(p, mask & HAS_GID, e->gid);
	p = put_if(p, mask & HAS_ATIME, time_delta(e->atime_ns, e->mtime_ns));
	p = put_if(p, mask & HAS_CTIME, time_delta(e->ctime_ns, e->mtime_ns));
	p = put_if(p, mask & HAS_BTIME, time_delta(e->btime_ns, e->mtime_ns));
	p = put_if(p, mask & HAS_VERSION, e->version);
	p = put_if(p, mask & HAS_EXPIRES, e->expires_ms);
	p = put_if(p, mask & HAS_RDEV, e->rdev);
	p = put_if(p, mask & HAS_FLAGS, e->flags);
	p = put_if(p, mask & HAS_XATTRS, e->xattrs.size);
	p = put_slice(p, e->xattrs);
	p = put_if(p, mask & HAS_VALUE, e->value_id);
	p = put_if(p, mask & HAS_VALUE, e->size);
	p = put_if(p, mask & HAS_LINKS, e->links);
	p = put_if(p, mask & HAS_HOLES, e->holes);
	p = put_slice(p, e->contents);
	return (size_t)(p - to);
}

/* A record that is being taken apart. Once something is wrong, whatever is taken means nothing. */
struct reader {
	struct slice rest;
	uint64_t mask;
	bool bad;
};

static uint64_t take(struct reader *r, uint64_t max)
{
	uint64_t v = 0;

	if (varint_take(&r->rest, &v) < 0 || v > max)
		r->bad = true;
	return v;
}

static uint64_t take_if(struct reader *r, uint64_t bit, uint64_t max, uint64_t usual)
{
	uint64_t v;

	if (!(r->mask & bit))
		return usual;
	v = take(r, max);
	if (v == usual)
		r->bad = true;
	return v;
}

static int64_t take_time(struct reader *r, uint64_t bit, int64_t mtime)
{
	return time_behind(take_if(r, bit, UINT64_MAX, 0), mtime);
}

static uint64_t take_fixed64(struct reader *r)
{
	const uint8_t *p = r->rest.data;

	if (r->rest.size < 8) {
		r->bad = true;
		return 0;
	}
	r->rest = slice_of(p + 8, r->rest.size - 8);
	return get64(p);
}

static struct slice take_xattrs(struct reader *r)
{
	struct slice set = slice_of(NULL, 0);

	if (!(r->mask & HAS_XATTRS))
		return set;
	if (varint_take_bytes(&r->rest, &set) < 0 || set.size == 0 || xattr_set_check(set) < 0)
		r->bad = true;
	return set;
}

int entry_decode(struct slice record, struct entry *entry)
{
	const uint8_t *p = record.data;
	struct reader r = { 0 };
	struct entry e;

	if (record.size < 2 || p[0] != RECORD_FORMAT || p[1] == 0 || p[1] >= KINDS)
		return -EUCLEAN;
	r.rest = slice_of(p + 2, record.size - 2);
	r.mask = take(&r, HAS_ALL);
	e.id = take(&r, UINT64_MAX);
	e.mode = type_of_kind[p[1]] | (uint32_t)take(&r, PERMISSIONS);
	e.mtime_ns = (int64_t)take_fixed64(&r);
	e.uid = (uint32_t)take_if(&r, HAS_UID, UINT32_MAX, 0);
	e.gid = (uint32_t)take_if(&r, HAS_GID, UINT32_MAX, 0);
	e.atime_ns = take_time(&r, HAS_ATIME, e.mtime_ns);
	e.ctime_ns = take_time(&r, HAS_CTIME, e.mtime_ns);
	e.btime_ns = take_time(&r, HAS_BTIME, e.mtime_ns);
	e.version = take_if(&r, HAS_VERSION, UINT64_MAX, usual_version(&e));
	e.expires_ms = take_if(&r, HAS_EXPIRES, UINT64_MAX, 0);
	e.rdev = take_if(&r, HAS_RDEV, UINT64_MAX, 0);
	e.flags = (unsigned)take_if(&r, HAS_FLAGS, FLAGS_ALL, 0);
	e.xattrs = take_xattrs(&r);
	e.value_id = take_if(&r, HAS_VALUE, UINT64_MAX, 0);
	e.size = take_if(&r, HAS_VALUE, STORE_SIZE_MAX, 0);
	e.links = (uint32_t)take_if(&r, HAS_LINKS, UINT32_MAX, 0);
	e.holes = take_if(&r, HAS_HOLES, STORE_SIZE_MAX, 0);
	if (!r.bad && !e.value_id)
		e.size = r.rest.size;
	e.contents = r.rest;
	if (r.bad || !possible(&e))
		return -EUCLEAN;
	*entry = e;
	return 0;
}

size_t reference_encode(uint64_t id, uint8_t *to)
{
	assert(id);
	to[0] = RECORD_FORMAT;
	to[1] = KIND_REFERENCE;
	return 2 + varint_put(to + 2, id);
}

static int reference_decode(struct slice record, uint64_t *id)
{
	const uint8_t *p = record.data;
	struct reader r = { .rest = slice_of(p + 2, record.size - 2) };
	const uint64_t value = take(&r, UINT64_MAX);

	if (r.bad || r.rest.size || value == 0)
		return -EUCLEAN;
	*id = value;
	return 1;
}

static bool is_reference(struct slice record)
{
	const uint8_t *p = record.data;

	return record.size >= 2 && p[0] == RECORD_FORMAT && p[1] == KIND_REFERENCE;
}

int named_decode(struct slice record, struct entry *entry, uint64_t *id)
{
	int rc;

	if (is_reference(record))
		return reference_decode(record, id);
	rc = entry_decode(record, entry);
	return rc == 0 && entry->links ? -EUCLEAN : rc;
}

/* Reads the expiry, which is there, from what is behind the id. */
static int take_expiry(struct slice rest, uint64_t mask, uint64_t *expires_ms)
{
	static const uint64_t before[] = {
		HAS_UID, HAS_GID, HAS_ATIME, HAS_CTIME, HAS_BTIME, HAS_VERSION,
	};
	struct reader r = { .rest = rest, .mask = mask };

	take(&r, PERMISSIONS);
	take_fixed64(&r);
	for (size_t i = 0; i < sizeof(before) / sizeof(*before); i++)
		if (mask & before[i])
			take(&r, UINT64_MAX);
	*expires_ms = take(&r, UINT64_MAX);
	return r.bad ? -EUCLEAN : 0;
}

int named_glimpse(struct slice record, struct glimpse *glimpse, uint64_t *id)
{
	const uint8_t *p = record.data;
	struct slice rest;
	uint64_t mask;

	if (is_reference(record))
		return reference_decode(record, id);
	if (record.size < 2 || p[0] != RECORD_FORMAT || p[1] == 0 || p[1] >= KINDS)
		return -EUCLEAN;
	rest = slice_of(p + 2, record.size - 2);
	if (varint_take(&rest, &mask) < 0 || mask > HAS_ALL ||
	    varint_take(&rest, &glimpse->id) < 0 || glimpse->id == 0)
		return -EUCLEAN;
	glimpse->type = type_of_kind[p[1]];
	glimpse->expires_ms = 0;
	return mask & HAS_EXPIRES ? take_expiry(rest, mask, &glimpse->expires_ms) : 0;
}

int shared_decode(struct slice record, uint64_t id, struct entry *entry)
{
	struct entry e;
	int rc = entry_decode(record, &e);

	if (rc == 0 && (e.links == 0 || e.id != id))
		rc = -EUCLEAN;
	if (rc == 0)
		*entry = e;
	return rc;
}

size_t table_encode(const struct table *table, uint8_t *to)
{
	size_t n = 0;

	assert(table->tables <= table->entries);
	to[n++] = RECORD_FORMAT;
	put64(to + n, (uint64_t)table->mtime_ns);
	n += 8;
	n += varint_put(to + n, time_delta(table->ctime_ns, table->mtime_ns));
	n += varint_put(to + n, table->entries);
	n += varint_put(to + n, table->tables);
	return n;
}

int table_decode(struct slice record, struct table *table)
{
	struct reader r = { 0 };
	struct table t;

	if (record.size < 1 || *(const uint8_t *)record.data != RECORD_FORMAT)
		return -EUCLEAN;
	r.rest = slice_of((const uint8_t *)record.data + 1, record.size - 1);
	t.mtime_ns = (int64_t)take_fixed64(&r);
	t.ctime_ns = time_behind(take(&r, UINT64_MAX), t.mtime_ns);
	t.entries = take(&r, UINT64_MAX);
	t.tables = take(&r, t.entries);
	if (r.bad || r.rest.size)
		return -EUCLEAN;
	*table = t;
	return 0;
}

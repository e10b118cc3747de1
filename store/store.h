/* store.h - a store: tables of keys, each with a value, a version, perhaps an expiry.
 *
 * Everything has a *name* in a *table*. A table is itself an entry, with a name in the table
 * above; the root table is STORE_ROOT, and its own entry is the empty name in table 0. Every
 * entry has an *id* (never 0, never used twice, kept for life, through rename and restart); a
 * table's id is what its entries are filed under, so renaming a table moves nothing below it.
 *
 * A value changes whole: bytes are staged in a draft (draft.h) and *published* as one new
 * version. An entry made by store_make as `staged` does not count until it is first published: it
 * is seen and may be changed, renamed and removed like any other, its version is 0, and after a
 * crash it never was.
 *
 * Each change is one commit: it happens whole or not at all, and is visible when the call
 * returns. It hands out a `revision`, for store_wait to make safe; 0 says that there is nothing to
 * wait for. Waiting is the caller's choice, so that one disk write serves many.
 *
 * Expiry: from `expires_ms` on, an entry is gone from store_lookup and store_list. Its
 * record stays until store_remove with STORE_EXPIRED; a change that needs its name answers
 * -EKEYEXPIRED until then. (So the filesystem can keep the value for whoever has it open.)
 *
 * Any thread may call anything; changes are serialized inside, for microseconds. Functions return
 * 0 or a negative errno and leave out-parameters alone when they fail. Beyond those of engine.h:
 *   -ENOENT        no such entry, or it has expired
 *   -EEXIST -ENOTDIR -EISDIR -ENOTEMPTY -EINVAL   as POSIX has them
 *   -ENAMETOOLONG  a name over STORE_NAME_MAX
 *   -EKEYEXPIRED   an expired entry is in the way
 */
#ifndef CUBBY_STORE_H
#define CUBBY_STORE_H

#include <stdbool.h>
#include <stdint.h>

#include "bytes.h"
#include "engine.h"
#include "err.h"
#include "os.h"

struct store;

enum {
	STORE_ROOT = 1,			/* the root table's id */
	STORE_NAME_MAX = 255,		/* bytes; any but '/' and NUL, and not "." or ".." */
	STORE_TARGET_MAX = 4095,	/* bytes of a symbolic link */
	STORE_XATTR_NAME_MAX = 255,
	STORE_XATTR_MAX = 64 * 1024,	/* bytes of one attribute's value */
	STORE_XATTRS_MAX = 64 * 1024,	/* bytes of all names and values of one entry */
	STORE_CHUNK = 64 * 1024,	/* large values are cut into these */
	STORE_INLINE_MAX = 1024,	/* values up to this lie in their entry */
};
enum { STORE_LINKS_MAX = 65000 };	/* names of one entry */
#define STORE_SIZE_MAX ((uint64_t)STORE_CHUNK << 32)	/* bytes of a value: 256 TiB */

struct store_options {
	bool create;		/* make the store if the folder is missing or empty */
	bool background;	/* threads for checkpoints and for giving back dead values' space */
	uint32_t uid, gid;	/* who owns the root table of a new store (mode 0755) */
	uint64_t segment_size, log_cap, cache, commit_ns;	/* see engine.h; 0: its defaults */
	uint64_t draft_memory;	/* bytes that one draft may hold in memory; 0: 4 MiB */
};

/* As engine_open. What was created but never published is removed here. */
int store_open(struct os *os, const char *path, const struct store_options *options,
	       struct store **out, struct err *err);

/* Everything on disk, checkpoint, unlock, free. Accepts NULL. All drafts must be closed. */
int store_close(struct store *store);

/* One entry, described. Times are nanoseconds since 1970-01-01 UTC. */
struct attr {
	uint64_t id;
	uint32_t mode;		/* type and permissions, as in st_mode */
	uint32_t uid, gid;
	uint32_t links;		/* names; for a table 2 and its tables */
	bool shared;		/* has, or once had, several names: see place_shared */
	uint64_t rdev;		/* of a device node */
	uint64_t size;		/* bytes of the value, or of a link's target; 0 for a table */
	uint64_t stored;	/* how many of them are kept, holes not counted */
	uint64_t version;	/* 0: not published yet; 0 for tables */
	bool unpublished;	/* does not count yet (its version may have been set already) */
	uint64_t expires_ms;	/* milliseconds since 1970-01-01 UTC; 0: never */
	uint64_t entries;	/* of a table: how many it has, with expired ones not yet removed */
	int64_t atime_ns, mtime_ns, ctime_ns, btime_ns;
};

/* An entry's place. `name` is lent for the call. */
struct place {
	uint64_t table;
	struct slice name;
};

#define PLACE_ROOT ((struct place){ 0, { "", 0 } })

/* An entry that was given a second name is *shared* from then on. Its names come and go, but as
 * long as it has one it can also be found here, by what is about the entry and not about a
 * name: looking, reading, attributes, drafts, and as what store_link gives another name. `name`
 * (STORE_SHARED_NAME bytes) is filled, and lent to the place. */
enum { STORE_SHARED_NAME = 8 };

static inline struct place place_shared(uint64_t id, uint8_t *name)
{
	put64be(name, id);
	return (struct place){ 0, { name, STORE_SHARED_NAME } };
}

static inline bool place_is_shared(struct place place)
{
	return place.table == 0 && place.name.size == STORE_SHARED_NAME &&
	       get64be((const uint8_t *)place.name.data) != 0;
}

/* ---- looking -------------------------------------------------------------------------- */

int store_lookup(struct store *store, struct place place, struct attr *out);

/* Calls visit for the live entries of `table` in the order of their names, beginning with the
 * first name greater than `after` (empty: from the start), until the end or a non-zero answer,
 * which is returned. `name`, which a NUL follows, is lent until visit returns. No lock is held
 * meanwhile: visit may call the store. An entry that is there all along is met exactly once,
 * whatever comes and goes around it. -ENOENT: no such table. */
int store_list(struct store *store, uint64_t table, struct slice after,
	       int (*visit)(void *arg, struct slice name, const struct attr *attr), void *arg);

/* The same for who wants about `count` entries, of which no more are read than it takes. */
int store_list_some(struct store *store, uint64_t table, struct slice after, size_t count,
		    int (*visit)(void *arg, struct slice name, const struct attr *attr), void *arg);

/* As store_list, but of *attr only the id, the type (in `mode`) and the expiry count, no NUL follows
 * the name, and a lock is held: `visit` must be quick and must not call the store. A third of the
 * work. */
int store_list_names(struct store *store, uint64_t table, struct slice after,
		     int (*visit)(void *arg, struct slice name, const struct attr *attr),
		     void *arg);

/* Reads the published value: up to `size` bytes at `offset`; returns how many there are (0 at
 * and beyond its end). -EISDIR for a table, -EINVAL for what has no value. */
ssize_t store_read(struct store *store, struct place place, uint64_t offset, void *bytes,
		   size_t size);

/* Finds the first place at or behind `offset` in the published value that is in a hole, or that is
 * not. Holes are whole chunks of which nothing is kept, and the end of the value counts as one;
 * not every stretch of zeros is a hole, but every hole is zeros. -ENXIO: at or beyond the end, or
 * no data there. */
int store_seek(struct store *store, struct place place, uint64_t offset, bool hole,
	       uint64_t *found);

/* Copies a symbolic link's target to `out`. -EINVAL: it is none. */
int store_readlink(struct store *store, struct place place, struct buffer *out);

/* ---- changing names ------------------------------------------------------------------- */

/* What a new entry starts with. */
struct store_new {
	uint32_t mode;		/* type and permissions */
	uint32_t uid, gid;
	uint64_t rdev;		/* S_IFCHR and S_IFBLK */
	struct slice target;	/* S_IFLNK */
	struct slice xattrs;	/* extended attributes, as a set of xattr_set.h */
	uint64_t expires_ms;	/* 0: never; -EINVAL for a table */
	bool staged;		/* S_IFREG only: does not count until published */
};

/* Makes a regular file (empty), table, symbolic link, fifo, socket or device node. A regular file
 * that is not `staged` is published at once, as version 1; if its version is then set before
 * anything was written to it, the first publication keeps that version (tar restores in this
 * order). The table's mtime and ctime become now. Nothing needs waiting for if it is staged. */
int store_make(struct store *store, struct place place, const struct store_new *what,
	       struct attr *out, uint64_t *revision);

enum {
	STORE_TABLE = 1,	/* it must be a table, and empty (-ENOTDIR, -ENOTEMPTY); else it
				 * must not be one (-EISDIR) */
	STORE_EXPIRED = 2,	/* only if it has expired; -EAGAIN if it has not */
};

/* Gives the entry at `from` another name, `to`, in any table: value, version, expiry and attributes
 * are one and the same under both. An entry that is not published yet is published, as empty.
 * Describes it in *out (unless NULL). -EPERM: a table; -EMLINK: it has STORE_LINKS_MAX names. */
int store_link(struct store *store, struct place from, struct place to, struct attr *out,
	       uint64_t *revision);

/* Removes a name, and with its last name the entry, as it was then described in *out (unless NULL).
 * The value stays readable through drafts that hold it. -EKEYEXPIRED: a table that has only
 * expired entries; store_due and remove those first. -EBUSY: the root. */
int store_remove(struct store *store, struct place place, unsigned flags, struct attr *out,
		 uint64_t *revision);

enum {
	STORE_NOREPLACE = 1,	/* -EEXIST if the new name is taken */
	STORE_EXCHANGE = 2,	/* both must exist, and change places */
};

/* Renames; what was at the new name is replaced, as rename(2) has it: a table by a table and only
 * when empty. Renaming onto itself, or onto another name of the same entry, does nothing. A value
 * that replaces another is published as the key's next version: the replaced one's plus one, or
 * the version explicitly set on the source, or that of a source with several names, if that is
 * greater. The source's expiry, mode, owner and attributes come along.
 *   -EINVAL  a table into itself or below itself: the caller checks, with what it knows of parents;
 *            the store sees only what the two places say */
int store_rename(struct store *store, struct place from, struct place to, unsigned flags,
		 uint64_t *revision);

/* The same, and what has no expiry gets this one (0: none) in the same step, unless it is a table,
 * changes places, or has other names. */
int store_rename_due(struct store *store, struct place from, struct place to, unsigned flags,
		     uint64_t expires_ms, uint64_t *revision);

/* ---- changing attributes --------------------------------------------------------------- */

enum {
	SET_MODE = 1,		/* permissions only; the type stays */
	SET_UID = 2,
	SET_GID = 4,
	SET_ATIME = 8,
	SET_MTIME = 16,
	SET_CTIME = 32,		/* else every change sets ctime to now */
	SET_VERSION = 64,	/* raising only, or the same: else -EINVAL; -EINVAL for a table */
	SET_EXPIRES = 128,	/* -EINVAL for a table */
	SET_STAGED = 256,	/* with SET_VERSION: a draft of it has staged bytes, whose
				 * publication is to keep this version */
};

/* Sets what `mask` names from `values`, and describes the result in *out (unless NULL). */
int store_set(struct store *store, struct place place, unsigned mask, const struct attr *values,
	      struct attr *out, uint64_t *revision);

/* The same, and in the same step sets the extended attribute `name` to *value, or, if that is NULL,
 * removes it; that it was not there is no error then. */
int store_set_with(struct store *store, struct place place, unsigned mask,
		   const struct attr *values, struct slice name, const struct slice *value,
		   struct attr *out, uint64_t *revision);

/* Extended attributes, by full name ("user.colour"); values are any bytes. The store gives
 * names no meaning. */
enum {
	XATTR_MUST_CREATE = 1,	/* -EEXIST */
	XATTR_MUST_EXIST = 2,	/* -ENODATA */
};

/* Copies the value to `out`. -ENODATA: no such attribute. */
int store_xattr_get(struct store *store, struct place place, struct slice name,
		    struct buffer *out);

/* Copies all of them to `out`, as a set of xattr_set.h; those of an expired entry too. */
int store_xattr_all(struct store *store, struct place place, struct buffer *out);

/* -ERANGE: the name is empty or over STORE_XATTR_NAME_MAX; -E2BIG: the value is over
 * STORE_XATTR_MAX; -ENOSPC: all together over STORE_XATTRS_MAX. */
int store_xattr_set(struct store *store, struct place place, struct slice name,
		    struct slice value, unsigned flags, uint64_t *revision);

int store_xattr_remove(struct store *store, struct place place, struct slice name,
		       uint64_t *revision);

/* ---- expiry ---------------------------------------------------------------------------- */

uint64_t store_now_ms(struct store *store);

/* The entry that expires next, or that expired longest ago. */
struct due {
	uint64_t expires_ms;
	uint64_t table;
	uint8_t name[STORE_NAME_MAX];
	uint8_t name_size;
};

/* Fills `list` with up to `max` entries that expire first, expired ones included, in the order of
 * their expiry, and returns how many. A shared entry is listed with each of its names. */
int store_due(struct store *store, struct due *list, int max);

/* Fills `list` with up to `max` names of a shared entry, expired or not, those behind `after`
 * (NULL: from the first), and returns how many; their expires_ms is 0. */
int store_names(struct store *store, uint64_t id, const struct due *after, struct due *list,
		int max);

/* The id of the entry, expired or not, that this is a name of. -ENOENT: of none. */
int store_id(struct store *store, struct place place, uint64_t *id);

/* ---- durability and care ---------------------------------------------------------------- */

/* As log_wait: waiter->done is called exactly once when waiter->revision is as safe as
 * waiter->level asks, maybe before this returns. Revision 0 is safe already. Hold no lock. */
void store_wait(struct store *store, struct log_waiter *waiter);
int store_wait_blocking(struct store *store, uint64_t revision, enum log_level level);

/* Everything committed so far is on disk when this returns 0. */
int store_sync(struct store *store);

/* The last revision committed. */
uint64_t store_revision(struct store *store);

/* A revision no earlier than the last change of `table` since the store was opened: of its names,
 * of the entries under them (if these have no other name), and of its own attributes. 0: there was
 * none. It may be later, since a table shares it with those whose ids differ by a
 * multiple of 1024. */
uint64_t store_table_revision(struct store *store, uint64_t table);

int store_checkpoint(struct store *store);

/* Gives back the space of values that nothing names or holds any more, up to `max` chunks (the
 * background thread does it unasked). Returns how many it gave back; 0: nothing left to do. */
int store_reclaim(struct store *store, int max);

int store_stats(struct store *store, struct engine_stats *out);
bool store_trouble(struct store *store, struct err *err);

/* engine_verify, and then that records agree with each other: every name's table exists, counts
 * are right, values have all their chunks, expiry and its index match. */
int store_verify(struct store *store, int (*progress)(void *arg, uint64_t blocks), void *arg,
		 struct err *err);

#endif

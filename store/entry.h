/* entry.h - one key's attributes, and its value if that is small, to bytes and back. Pure.
 *
 * Three records: the *entry*, under its name; for an entry that was given a second name, and so is
 * *shared*, a *reference* under each name, and the entry under its id; and for each table its
 * *table record*, which changes whenever a name comes or goes, and so lies apart. Decoders trust
 * nothing and answer -EUCLEAN; what they accept, the encoders give back byte for byte. Bytes:
 * FORMAT.md, "Entries".
 */
#ifndef CUBBY_ENTRY_H
#define CUBBY_ENTRY_H

#include <sys/stat.h>

#include "bytes.h"

enum {
	ENTRY_VERSION_SET = 1,	/* somebody said which version this value is */
	ENTRY_VERSION_NEXT = 2,	/* ... and meant the value that is published next */
	ENTRY_FRESH = 4,	/* made already published and empty, and not written to since */
	ENTRY_UNPUBLISHED = 8,	/* does not count yet; a RECORD_UNPUBLISHED says so too */
};

struct entry {
	uint64_t id;
	uint32_t mode;		/* type and permissions, as in st_mode */
	uint32_t uid, gid;
	unsigned flags;
	uint32_t links;		/* of a shared entry: how many names it has; 0: not shared */
	uint64_t rdev;		/* of a device node */
	uint64_t version;	/* 0 for a table, and for an unpublished file unless it was set */
	uint64_t expires_ms;	/* 0: never */
	int64_t atime_ns, mtime_ns, ctime_ns, btime_ns;	/* a table's record has later m and c */
	uint64_t value_id;	/* of a value in chunks; 0: what there is lies in `contents` */
	uint64_t size;		/* of the value, or of a symbolic link's target */
	uint64_t holes;		/* of a value in chunks: its bytes that are not kept, being zeros */
	struct slice contents;	/* lent: a small value, or the target */
	struct slice xattrs;	/* lent: as in xattr_set.h */
};

static inline bool entry_is_table(const struct entry *e)
{
	return S_ISDIR(e->mode);
}

/* Can an entry be of this type? (S_IFREG and the like) */
bool entry_type_known(uint32_t mode);

/* The bytes that encoding it may take, at most. */
size_t entry_size_max(const struct entry *entry);

/* Writes `entry` to `to`, which has room for so many, and returns how many it took. */
size_t entry_encode(const struct entry *entry, uint8_t *to);

/* *entry's slices are lent from `record`. */
int entry_decode(struct slice record, struct entry *entry);

enum { REFERENCE_MAX = 2 + 10 };

/* Writes a reference to the shared entry `id` to `to` (REFERENCE_MAX bytes); returns its size. */
size_t reference_encode(uint64_t id, uint8_t *to);

/* What lies under a name: 0: *entry, which is not shared; 1: a reference to the shared one *id. */
int named_decode(struct slice record, struct entry *entry, uint64_t *id);

/* What a list of names shows of an entry. */
struct glimpse {
	uint64_t id;
	uint32_t type;		/* as in st_mode, without permissions */
	uint64_t expires_ms;
};

/* As named_decode, but looks at no more of an entry than it tells of: the rest may be damaged. */
int named_glimpse(struct slice record, struct glimpse *glimpse, uint64_t *id);

/* What lies under the id of a shared entry. */
int shared_decode(struct slice record, uint64_t id, struct entry *entry);

/* What changes in a table when a name comes or goes. */
struct table {
	int64_t mtime_ns, ctime_ns;
	uint64_t entries;	/* names in it */
	uint64_t tables;	/* of those, tables */
};

enum { TABLE_RECORD_MAX = 1 + 8 + 3 * 10 };

/* Writes to `to` (TABLE_RECORD_MAX bytes) and returns how many it took. */
size_t table_encode(const struct table *table, uint8_t *to);
int table_decode(struct slice record, struct table *table);

#endif

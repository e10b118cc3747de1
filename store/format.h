/* format.h - every magic number and offset of the files of a store; twin of FORMAT.md.
 *
 * All integers are little-endian, but for those inside keys, which are big-endian so that keys
 * sort as their numbers do.
 */
#ifndef CUBBY_FORMAT_H
#define CUBBY_FORMAT_H

#define FORMAT_VERSION 2u

#define FILE_LOCK "lock"	/* holds the pid of whoever has the store open */
#define FILE_PAGES "pages"
#define FILE_LOG_PREFIX "log."	/* log.00000000, log.00000001, ...: the number is only a name */
#define FILE_WITNESS "witness"	/* how far the log is known to be on disk */
#define FILE_TAIL "tail"	/* commits that are in no segment of the log yet */

enum {
	UNIT = 4096,			/* space is handed out, and the log is searched, in these */
	STORE_ID_SIZE = 16,
};

/* Block reference: where a block lies, and proof that what is read there is that block. */
enum {
	REF_OFFSET = 0,			/* 8  bytes from the start of the page file; 0: no block */
	REF_GENERATION = 8,		/* 8  the generation that wrote it */
	REF_SUM = 16,			/* 8  sum64 of its bytes */
	REF_LENGTH = 24,		/* 4  its bytes; it occupies whole units */
	REF_SIZE = 28,

	/* Of a run whose length has this bit, behind the rest: where its other pieces lie. */
	REF_MORE = 28,
	REF_PIECE_UNITS = 4,
	REF_PIECES = 4,
	REF_SCATTERED_SIZE = REF_MORE + (REF_PIECES - 1) * 8,
};

/* The page file: units 0 to 3 hold two superblocks, each twice; blocks follow. */
enum {
	SUPER_SLOTS = 2,		/* generation % 2 tells which */
	SUPER_COPIES = 2,		/* copy c of slot s lies in unit c * SUPER_SLOTS + s */
	SUPER_UNITS = SUPER_SLOTS * SUPER_COPIES,

	SUPER_MAGIC = 0,		/* 8  "cubby" CR LF SUB */
	SUPER_VERSION = 8,		/* 4  FORMAT_VERSION */
	SUPER_UNIT = 12,		/* 4  UNIT */
	SUPER_STORE = 16,		/* 16 random, the same in every file of the store */
	SUPER_GENERATION = 32,		/* 8 */
	SUPER_REVISION = 40,		/* 8  the last commit that the tree contains */
	SUPER_LOG_SEGMENT = 48,		/* 8  the log's first segment that may hold later ones */
	SUPER_LOG_NUMBER = 56,		/* 8  the number of that segment's first group */
	SUPER_LOG_CHAIN = 64,		/* 8  the sum of the group before that one */
	SUPER_ROOT = 72,		/* 28 reference to the tree's root; zeros: an empty tree */
	SUPER_SPACE = 100,		/* 28 reference to the free map's directory */
	SUPER_UNITS_TOTAL = 128,	/* 8  units of the page file that the free map describes */
	SUPER_ENTRIES = 136,		/* 8  entries in the tree */
	SUPER_SNAPSHOTS = 144,		/* 28 reference to the kept snapshots' list; zeros: none */
	SUPER_DEAD = 172,		/* 28 reference to the list of the newest one's dead */
	SUPER_RESERVED = 200,		/* zeros */
	SUPER_LOG_FILES = UNIT - 32,	/* 8  files of the log, at least */
	SUPER_SEEN = UNIT - 24,		/* 8  revisions up to here were given out */
	SUPER_CLOSED = UNIT - 16,	/* 8  1: nothing was committed after this; else 0 */
	SUPER_SUM = UNIT - 8,		/* 8  sum64 of everything before it */
};
#define SUPER_MAGIC_TEXT "cubby\r\n\x1a"

/* A tree node as a block: header, then its entries in key order. */
enum {
	NODE_MAGIC = 0,			/* 4 */
	NODE_LEVEL = 4,			/* 1  0 is a leaf */
	NODE_CODEC = 5,			/* 1  how the body is stored; 0: as it is */
	NODE_ZERO = 6,			/* 2  zeros */
	NODE_GENERATION = 8,		/* 8  as in the reference to it */
	NODE_COUNT = 16,		/* 4  entries */
	NODE_BODY_SIZE = 20,		/* 4  bytes of entries */
	NODE_HEADER = 24,
	NODE_LEVEL_MAX = 32,
	NODE_KEY_MAX = 512,
	NODE_BODY_MAX = 1 << 20,	/* nothing larger is believed */
};
#define NODE_MAGIC_VALUE 0x4e424243u	/* "CBBN" */

/* A leaf's entry: key size 2, value size 4 (its top bit: the value begins with a reference to a
 * run of bytes in the page file, which lives and dies with the entry), key, value.
 * An inner node's entry: key size 2, key, reference. The key is no greater than any below the
 * child, and greater than any below the child before; the first one's is not looked at. */
enum {
	LEAF_ENTRY_HEADER = 6,
	INNER_ENTRY_HEADER = 2,
};
#define LEAF_VALUE_RUN 0x80000000u
#define REF_SCATTERED 0x80000000u

/* The free map: a directory of regions, and for each region in use one unit of bits (1: taken). */
enum {
	REGION_UNITS = UNIT * 8,	/* 128 MiB of page file to a region */

	SPACE_MAGIC = 0,		/* 4 */
	SPACE_COUNT = 4,		/* 4  regions */
	SPACE_GENERATION = 8,		/* 8 */
	SPACE_HEADER = 16,		/* then per region: */
	SPACE_REGION_REF = 0,		/* 28 reference to its bits; all zeros: nothing is taken */
	SPACE_REGION_TAKEN = 28,	/* 4  units taken */
	SPACE_REGION_BROKEN = 32,	/* 4  quads (4 units, aligned to 4) of which any is taken */
	SPACE_REGION_SIZE = 36,
};
#define SPACE_MAGIC_VALUE 0x53424243u	/* "CBBS" */

/* Kept snapshots: a chain of blocks of records, the oldest snapshot in the first; and for each
 * snapshot a chain of blocks of extents that died after it and before the next. */
enum {
	SNAPSHOTS_MAX = 1024,
	SNAPSHOT_NAME_MAX = 255,	/* bytes, at least 1 */

	KEPT_BLOCK = 4 * UNIT,		/* at most */
	KEPT_MAGIC = 0,			/* 4 */
	KEPT_COUNT = 4,			/* 4  records or extents, at least 1 */
	KEPT_NEXT = 8,			/* 28 reference to the block behind this; zeros: the last */
	KEPT_HEADER = 36,		/* then records: */
	KEPT_RECORD_GENERATION = 0,	/* 8 */
	KEPT_RECORD_REVISION = 8,	/* 8 */
	KEPT_RECORD_CREATED = 16,	/* 8  nanoseconds since 1970 */
	KEPT_RECORD_ENTRIES = 24,	/* 8 */
	KEPT_RECORD_ROOT = 32,		/* 28 reference to its tree's root */
	KEPT_RECORD_DEAD = 60,		/* 28 reference to its dead; the newest's: in superblock */
	KEPT_RECORD_DROPPED = 88,	/* 1  1: only its dead are left */
	KEPT_RECORD_NAME_SIZE = 89,	/* 1 */
	KEPT_RECORD_NAME = 90,
	/* or extents: */
	DEAD_FIRST = 0,			/* 8  unit */
	DEAD_BIRTH = 8,			/* 8  generation of the first tree that named it */
	DEAD_COUNT = 16,		/* 4  units */
	DEAD_SIZE = 20,
};
#define KEPT_MAGIC_LIST 0x4b424243u	/* "CBBK" */
#define KEPT_MAGIC_DEAD 0x44424243u	/* "CBBD" */

/* A log segment: one unit of header, then groups. */
enum {
	SEGMENT_MAGIC = 0,		/* 8  "cubbylog" */
	SEGMENT_VERSION = 8,		/* 4  FORMAT_VERSION */
	SEGMENT_SALT = 12,		/* 4  random at each use; in every group of that use */
	SEGMENT_STORE = 16,		/* 16 */
	SEGMENT_SEQUENCE = 32,		/* 8  one more than the segment before; never reused */
	SEGMENT_NUMBER = 40,		/* 8  the number of its first group */
	SEGMENT_REVISION = 48,		/* 8  the last commit before it */
	SEGMENT_CHAIN = 56,		/* 8  the sum of the group before its first */
	SEGMENT_SUM = 64,		/* 8  sum64 of everything before it */
	SEGMENT_HEADER = UNIT,		/* the rest of the unit is not looked at */

	SEGMENT_INDEX_MAX = 99999999,	/* in a name */
};
#define SEGMENT_MAGIC_TEXT "cubbylog"

/* A log group: header, then batches. Groups lie 8-byte aligned, one behind the other; the first
 * after a sync begins a unit. */
enum {
	GROUP_SUM = 0,			/* 8  sum64 of all that follows, to the end of the group */
	GROUP_NUMBER = 8,		/* 8  one more than the group before */
	GROUP_SYNCED = 16,		/* 8  the last group known to be on disk at this writing */
	GROUP_CHAIN = 24,		/* 8  the sum of the group before */
	GROUP_REVISION = 32,		/* 8  of its first batch; each further batch has one more */
	GROUP_SALT = 40,		/* 4  copied from the segment's header */
	GROUP_SIZE = 44,		/* 4  bytes of batches that follow; 0 is never valid */
	GROUP_HEADER = 48,
	GROUP_ALIGN = 8,
};

/* The witness: one unit, of which the rest is zeros. */
enum {
	WITNESS_MAGIC = 0,		/* 8  "cubbysaw" */
	WITNESS_STORE = 8,		/* 16 */
	WITNESS_NUMBER = 24,		/* 8  of a group that is on disk, from 1 */
	WITNESS_CHAIN = 32,		/* 8  its sum */
	WITNESS_FILE = 40,		/* 8  the number in the name of the segment in use then */
	WITNESS_SUM = 48,		/* 8  sum64 of everything before it */
	WITNESS_SIZE = 56,
};
#define WITNESS_MAGIC_TEXT "cubbysaw"

/* The tail: a header, and behind it records, as far as they follow each other; then zeros, or what is
 * left of earlier ones. */
enum {
	TAIL_MAGIC = 0,			/* 8  "cubbyend" */
	TAIL_STORE = 8,			/* 16 */
	TAIL_NUMBER = 24,		/* 8  of the group that the records' batches are to become */
	TAIL_SYNCED = 32,		/* 8  the last group known to be on disk at this writing */
	TAIL_CHAIN = 40,		/* 8  the sum of the group before */
	TAIL_REVISION = 48,		/* 8  of the first batch */
	TAIL_SUM = 56,			/* 8  sum64 of everything before it */
	TAIL_HEADER = 64,

	TAIL_RECORD_SUM = 0,		/* 8  sum64 of the 24 bytes that follow */
	TAIL_RECORD_REVISION = 8,	/* 8  of its first batch; each further one has one more */
	TAIL_RECORD_SIZE = 16,		/* 8  bytes of batches that follow, without padding to 8 */
	TAIL_RECORD_BATCHES = 24,	/* 8  sum64 of those */
	TAIL_RECORD_HEADER = 32,

	TAIL_SIZE = 128 * 1024,		/* of the file */
};
#define TAIL_MAGIC_TEXT "cubbyend"

/* A batch: size 4 (of what follows), then operations, each: kind 1, key size 2, key, and, but for
 * a delete, value size 4, value. A value of kind RUN begins with a reference, one of kind PATCH
 * with the offset (4) at which its bytes belong. */
enum {
	BATCH_HEADER = 4,
	BATCH_PUT = 1,
	BATCH_PUT_RUN = 2,
	BATCH_DELETE = 3,
	BATCH_PATCH = 4,
	BATCH_PATCH_OFFSET = 4,		/* bytes of the offset */
};

#endif

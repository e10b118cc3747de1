/* record.h - the keys of the store's records, and the records too small for a file of their own.
 *
 * Everything lies in one ordered map; the first byte of a key tells the key space. Pure: no I/O, no
 * locks. Parsers trust nothing and answer -EUCLEAN. Bytes: FORMAT.md, "Records".
 */
#ifndef CUBBY_RECORD_H
#define CUBBY_RECORD_H

#include "bytes.h"
#include "store.h"

enum {
	RECORD_NAME = 'N',		/* table, name: an entry, or a reference to a shared one */
	RECORD_SHARED = 'L',		/* entry: a shared one; entry, table, name: its names */
	RECORD_TABLE = 'T',		/* table: its times and counts */
	RECORD_CHUNK = 'V',		/* value, chunk: a piece of a value */
	RECORD_DOOMED = 'D',		/* value: its chunks are to be deleted */
	RECORD_UNPUBLISHED = 'U',	/* table, name: removed when the store is opened */
	RECORD_EXPIRY = 'X',		/* expires, table, name: what is due next */
	RECORD_CATALOGUE = 'C',		/* what the store keeps about itself */

	RECORD_KEY_MAX = 1 + 8 + 8 + STORE_NAME_MAX,
};

struct record_key {
	uint16_t size;
	uint8_t bytes[RECORD_KEY_MAX + 1];	/* room for record_key_after */
};

static inline struct slice record_slice(const struct record_key *key)
{
	return slice_of(key->bytes, key->size);
}

/* Names are at most STORE_NAME_MAX bytes; chunk numbers take all 32 bits. */
struct record_key record_name(uint64_t table, struct slice name);
struct record_key record_shared(uint64_t id);
struct record_key record_shared_name(uint64_t id, uint64_t table, struct slice name);
struct record_key record_table(uint64_t table);
struct record_key record_chunk(uint64_t value, uint32_t chunk);
struct record_key record_doomed(uint64_t value);
struct record_key record_unpublished(uint64_t table, struct slice name);
struct record_key record_expiry(uint64_t expires_ms, uint64_t table, struct slice name);
struct record_key record_catalogue(const char *name);

/* Where the entry at a place lies: under its name, or, at place_shared, under its id. */
struct record_key record_at(struct place place);

/* The first key at which an entry of `table` with a name greater than `after` can lie. */
struct record_key record_name_after(uint64_t table, struct slice after);

/* The first key that is greater. */
struct record_key record_key_after(const struct record_key *key);

/* What all keys of one kind, or of one table or value, begin with. */
struct record_key record_space(uint8_t kind);
struct record_key record_names_of(uint64_t table);
struct record_key record_chunks_of(uint64_t value);

/* RECORD_NAME and RECORD_UNPUBLISHED. `name` is lent from `key`, and is one that may be used, or
 * empty for the root's. */
int record_name_parse(struct slice key, uint64_t *table, struct slice *name);

/* The same, if it is the RECORD_NAME of something in `table`; 1: it is not. */
int record_name_in(struct slice key, uint64_t table, struct slice *name);
int record_chunk_parse(struct slice key, uint64_t *value, uint32_t *chunk);

/* For a shared entry, which has one such record whatever its names, it is place_shared's. */
int record_expiry_parse(struct slice key, uint64_t *expires_ms, uint64_t *table,
			struct slice *name);

/* Does this record belong to a table: as one of its names, or as its own? Then *table is its id. */
bool record_of_table(struct slice key, uint64_t *table);

/* RECORD_SHARED: 0: an entry; 1: one of its names. */
int record_shared_parse(struct slice key, uint64_t *id, uint64_t *table, struct slice *name);

/* RECORD_TABLE and RECORD_DOOMED. */
int record_id_parse(struct slice key, uint64_t *id);

/* 0, -EINVAL or -ENAMETOOLONG. */
int record_name_check(struct slice name);

/* ---- values of small records ------------------------------------------------------------- */

/* The value of a chunk's record is a byte that tells how its bytes are kept, and for CHUNK_INLINE
 * those bytes; for the others patches to what lies below: the record's run, or zeros. A chunk's
 * bytes may be fewer than STORE_CHUNK: zeros follow. */
enum {
	CHUNK_INLINE = 1,
	CHUNK_RUN = 2,
	CHUNK_SPARSE = 3,		/* there is no run; at least one patch */
};

/* What a chunk's record is like. All zeros: there is none, so the chunk is a hole. */
struct chunk_shape {
	uint8_t kind;
	uint16_t count;			/* of patches */
	uint32_t list;			/* bytes of the list of patches */
	uint32_t patched;		/* bytes they lay over the chunk */
	uint32_t used;			/* of the chunk's bytes; zeros follow */
};

/* How many of its bytes are kept, holes not counted: what stat's blocks add up to. */
static inline uint32_t chunk_stored(const struct chunk_shape *shape)
{
	return shape->kind == CHUNK_SPARSE && shape->patched < shape->used ? shape->patched :
									     shape->used;
}

struct chunk {
	struct chunk_shape shape;
	struct slice bytes;		/* lent; of CHUNK_INLINE */
	struct slice patches;		/* lent; of the others */
};

/* Takes apart a chunk's record that has a run of `run_size` bytes (0: none). */
int chunk_parse(struct slice value, uint32_t run_size, struct chunk *out);

/* A doomed value's record holds the first chunk that is to go: 0 if nothing names the value any
 * more; more if its end was cut off, too much of it for one batch. */
enum { DOOMED_SIZE = 4 };

int doomed_parse(struct slice value, uint32_t *first);

/* The record "ids" of the catalogue: no id from here on was ever used. */
#define CATALOGUE_IDS "ids"
enum { IDS_SIZE = 8 };

int ids_parse(struct slice value, uint64_t *next);

#endif

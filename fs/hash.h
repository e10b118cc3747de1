/* hash.h - a hash table of things that carry their own link, growing and shrinking without a pause.
 *
 * The table allocates nothing but its array of buckets, so inserting cannot fail. It grows by
 * splitting one bucket at each insertion (linear hashing), so no insertion ever moves everything;
 * and shrinks in the same way once it is three quarters empty.
 * What is equal is for the caller to say, who walks the candidates:
 *
 *	for (link = hash_first(&t, hash); link; link = hash_next(link)) ...
 *
 * Nothing here locks.
 */
#ifndef CUBBY_FS_HASH_H
#define CUBBY_FS_HASH_H

#include <stddef.h>
#include <stdint.h>

struct hash_link {
	struct hash_link *next;
	uint64_t hash;
};

struct hash {
	struct hash_link **buckets;
	size_t capacity;	/* of the array */
	size_t round;		/* a power of two: buckets when this round of splitting began */
	size_t split;		/* buckets of this round already split; round + split are in use */
	size_t count;		/* links */
};

int hash_init(struct hash *table);

/* The links are the caller's. */
void hash_done(struct hash *table);

void hash_insert(struct hash *table, struct hash_link *link, uint64_t hash);

/* `link` must be in the table. */
void hash_remove(struct hash *table, struct hash_link *link);

/* The first link with this hash, and the next with the same; NULL: no more. */
struct hash_link *hash_first(const struct hash *table, uint64_t hash);
struct hash_link *hash_next(const struct hash_link *link);

#endif

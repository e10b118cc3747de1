/* moments.h - what a map held after each of many commits, and which of those moments are kept by
 * name: the model that an engine is compared with.
 *
 * Keys are numbers below a bound, and stand for byte strings of many lengths; values are described
 * by what they were made of. Commits are numbered from 1; moment 0 is the empty map. Plain data.
 */
#ifndef CUBBY_SIM_MOMENTS_H
#define CUBBY_SIM_MOMENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bytes.h"

enum {
	MOMENTS_KEY_MAX = 512,
	MOMENTS_VALUE_MAX = 1 << 20,
	MOMENTS_NAMES = 4,
};

/* All zeros: there is no such key. */
struct what {
	uint32_t stamp;		/* never 0; says which bytes */
	uint32_t size;		/* of the value */
	uint32_t run_size;	/* 0: it has no run; else the run has the same stamp */
	uint8_t *bytes;		/* of a value that was patched; the moments' own. Else NULL */
};

/* Which moment a name stands for: the number of its commit and one, or 0 if for none. */
struct keeping {
	uint32_t since;		/* since the last change that is known to have been made ... */
	uint32_t tried;		/* ... or, for all we know, since the one after it */
};

struct past;

/* All zeros, but for `keys`, is a map in which nothing has happened yet. */
struct moments {
	uint32_t keys;
	uint32_t *order;	/* of the keys, as byte strings */
	struct past *pasts;	/* one a key */
	struct keeping kept[MOMENTS_NAMES];
};

void moments_init(struct moments *m, uint32_t keys);
void moments_done(struct moments *m);

/* Since commit `commit`, which is no earlier than any that was set, the key has this. */
void moments_set(struct moments *m, uint32_t commit, uint32_t key, struct what what);

/* ... or what it had, with `bytes` at `offset`, which is not behind its end. */
void moments_patch(struct moments *m, uint32_t commit, uint32_t key, uint32_t offset,
		   struct slice bytes);

/* Lent until the next change. */
struct what moments_get(const struct moments *m, uint32_t commit, uint32_t key);

/* Nobody will ask for a moment before `commit` any more, but for those that are kept. */
void moments_forget(struct moments *m, uint32_t commit);

/* What came after `commit` has not happened. */
void moments_cut(struct moments *m, uint32_t commit);

/* ---- bytes ----------------------------------------------------------------------------- */

/* Lent until the next call of this thread; every key begins with 'k'. */
struct slice moments_key(uint32_t key);

/* What a snapshot is called: lent for ever. */
struct slice moments_name(uint32_t name);

/* Writes the bytes of a stamp: half of them can be compressed. */
void moments_fill(uint8_t *to, uint32_t stamp, uint32_t size);

bool moments_match_value(struct slice value, struct what what);
bool moments_match_run(struct slice run, struct what what);

#endif

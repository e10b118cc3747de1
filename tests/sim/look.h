/* look.h - compares an engine with what must be there: moments.h says what.
 *
 * Besides the keys of the moments the map has the key "now", which every commit sets to its number:
 * so what is found can be told from what was, whichever moment came back. Keys that begin with '~'
 * are not looked at.
 *
 * What is wrong is put into words, in `wrong`, of LOOK_WRONG_SIZE bytes, empty at first: the first
 * sentence stays. Functions return false then.
 */
#ifndef CUBBY_SIM_LOOK_H
#define CUBBY_SIM_LOOK_H

#include "engine.h"
#include "sim/moments.h"

enum { LOOK_WRONG_SIZE = 600 };

/* What was found. */
struct seen {
	uint32_t commit;		/* the moment that the map shows */
	uint32_t kept[MOMENTS_NAMES];	/* and the snapshots, as in struct keeping */
};

/* Says what is wrong. Returns false, for `return look_is_wrong(...)`. */
bool look_is_wrong(char *wrong, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Is the map, or the snapshot unless that is NULL, as it was after that commit, and whole? */
bool look_at_moment(struct engine *engine, struct engine_snapshot *snapshot,
		    const struct moments *moments, uint32_t commit, char *wrong);

/* Is the map as it was after some commit between `from` and `to`, and each kept snapshot there, as
 * it was then, and no other? */
bool look_compare(struct engine *engine, const struct moments *moments, uint32_t from, uint32_t to,
		  struct seen *seen, char *wrong);

bool look_is_value(struct slice value, const struct ref *run, struct what what);
bool look_at_run(struct engine *engine, const struct ref *ref, struct what what, char *wrong);

bool look_verify(struct engine *engine, char *wrong);

#endif

/* play.h - plays stories on an engine over a lying disk, and compares what the engine says with
 * what must be.
 *
 * Commits of the engine are known by the number of the commit in the story, which the map has under
 * the key "now" (look.h).
 *
 * Everything that goes wrong is put into words instead of failing a test at once, so that a story
 * can be played again and made small. One thread; but many plays at once, one per process.
 */
#ifndef CUBBY_SIM_PLAY_H
#define CUBBY_SIM_PLAY_H

#include "engine.h"
#include "sim/disk.h"
#include "sim/look.h"
#include "sim/story.h"

enum { PLAY_WRONG_SIZE = LOOK_WRONG_SIZE, PLAY_BATCH_RUNS = 32, PLAY_VIEWS = 3 };

/* What came of a commit, as far as its author knows. */
struct play_progress {
	uint32_t tried;		/* the last one */
	uint32_t written;	/* survives a kill */
	uint32_t acknowledged;	/* survives anything */
};

/* A reader. */
struct play_view {
	struct engine_snapshot *snapshot;	/* NULL: it is closed */
	uint32_t commit;		/* whose moment it shows */
};

struct play {
	const struct mix *mix;
	struct sim *disk;
	struct engine *engine;		/* NULL: it is not open */
	struct moments moments;
	struct play_progress progress;
	uint64_t revision;		/* of the last commit */
	struct batch batch;		/* gathering; the moments know it as commit `tried` + 1 */
	struct ref runs[PLAY_BATCH_RUNS];	/* in it */
	size_t run_count;
	bool puts;			/* in it */
	struct play_view views[PLAY_VIEWS];
	int dying;			/* the cut that is ahead: 0, STEP_KILL or STEP_POWER */
	enum sim_fate fate;		/* of that */
	uint64_t seed;			/* of the next one */
	const struct step *next, *end;	/* what is still to be played */
	int allowed;			/* an error that a test has planned; 0: none */
	uint64_t felt;			/* how many steps failed with it, or with -EROFS */
	bool read_only;			/* the engine says -EROFS since it was opened */
	char wrong[PLAY_WRONG_SIZE];	/* empty: all is well */
};

/* Begins on a disk of its own. Gives nothing open. */
void play_begin(struct play *p, const struct mix *mix, uint64_t seed);

/* Plays the story, opening the store first unless it is open. False: p->wrong says why. */
bool play(struct play *p, const struct story *story);

/* Commits what was gathered and compares everything with what must be there now. */
bool play_look(struct play *p);

/* Something else is wrong. Returns false. */
bool play_is_wrong(struct play *p, const char *sentence);

/* Closes the store, without a crash. */
bool play_close(struct play *p);

/* Closes what is open, whatever comes of that. */
void play_abandon(struct play *p);

/* Frees everything. */
void play_end(struct play *p);

/* ---- after a crash ---------------------------------------------------------------------- */

/* Opens the store of `disk`; false with the reason in `wrong`. */
bool play_open(struct sim *disk, const struct mix *mix, struct engine **out, char *wrong);

/* The store on `disk`, which was rebooted and is nobody else's, must open, be as it was after some
 * commit in that range, take a commit, and be so still when it is opened again. */
bool play_comes_back(struct sim *disk, const struct mix *mix, const struct moments *moments,
		     uint32_t from, uint32_t to, char *wrong);

#endif

/* story.h - what is done to an engine, written down: a list of steps, drawn by lot from a mix, that
 * makes sense whatever is left out of it, and so can be made small when it fails.
 *
 * play.h plays it. Plain data; the same mix and seed give the same story.
 */
#ifndef CUBBY_SIM_STORY_H
#define CUBBY_SIM_STORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "engine.h"

/* Puts and deletes gather in a batch until a commit, which without them is none. */
enum step_kind {
	STEP_PUT,		/* key, size, stamp */
	STEP_RUN,		/* likewise, with a run */
	STEP_DROP,		/* a run of `size` bytes is written, and given back */
	STEP_PATCH,		/* key, size, stamp; somewhere in what is there, or behind it */
	STEP_DELETE,		/* key */
	STEP_COMMIT,
	STEP_WRITTEN,		/* wait for the last commit: it survives a kill */
	STEP_SYNCED,		/* ... and a power cut */
	STEP_CHECKPOINT,	/* `size` of the steps behind it happen while it is under way */
	STEP_LOOK,		/* everything is compared */
	STEP_GET,		/* key: it is compared */
	STEP_KEEP,		/* key: a snapshot is made, of one of a few names; size as above */
	STEP_FORGET,		/* ... or deleted */
	STEP_MOMENT,		/* key: one of a few readers is closed, and opened on the present */
				/* or, if `size` is not 0, on a kept snapshot */
	STEP_LOOK_BACK,		/* key: what that reader sees is compared */
	STEP_REOPEN,
	STEP_KILL,		/* kill -9, `size` changing operations from now */
	STEP_POWER,		/* the power goes, likewise; key: the fate of what was not synced */
	STEP_CLEAR,		/* deletes most keys: all but each eighth, from `key` on */
	STEP_COMPACT,		/* the file is made shorter, to the end; size as above */
	STEP_KINDS
};

struct step {
	uint8_t kind;
	uint32_t key, size, stamp;
};

struct story {
	struct step *at;
	size_t count;
};

/* A kind of story: what may happen in it, and how often beside the rest. */
struct mix {
	const char *name;
	uint32_t keys;
	uint32_t value_max, run_max;	/* bytes */
	uint16_t weights[STEP_KINDS];
	uint32_t meanwhile;		/* most steps that happen while a checkpoint is under way */
	uint64_t limit;			/* of the disk, bytes; else 0. -ENOSPC is no mistake then */
	struct engine_options options;
};

/* The mixes, to the one without a name. */
extern const struct mix mixes[];

/* Gives `count` steps, for story_done. */
struct story story_draw(const struct mix *mix, uint64_t seed, size_t count);
void story_done(struct story *story);

/* Leaves out whatever can be left out so that `fails` still says yes, as it must of the whole: no
 * single step of what is left can. */
void story_shrink(struct story *story, bool (*fails)(void *arg, const struct story *story),
		  void *arg);

/* One step a line, as a person reads it. */
void story_print(const struct story *story, FILE *to);

#endif

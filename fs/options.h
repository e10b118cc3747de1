/* options.h - what -o says: our own options, those of mount(8), and the rest for libfuse. Pure.
 */
#ifndef CUBBY_FS_OPTIONS_H
#define CUBBY_FS_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "bytes.h"
#include "err.h"

enum sync_mode {
	SYNC_CLOSE,	/* closing what was written, and changes of names, wait for the disk */
	SYNC_ALWAYS,	/* so does every write(2), and every other change */
	SYNC_STANDARD,	/* only fsync waits */
};

/* Less is refused: a number without a unit was meant in another one, most likely. */
#define LOG_LEAST (UINT64_C(4) << 20)
#define CACHE_LEAST (UINT64_C(1) << 20)

struct options {
	enum sync_mode sync;
	uint64_t commit_ns;		/* everything committed is on disk after this */
	uint64_t stage_ns;		/* what is written is published after this; 0: never */
	uint64_t log_cap, cache;	/* bytes; 0: the store's default */
	bool allow_other;
	bool default_permissions;
	bool acl;			/* POSIX access control lists */
	bool security;			/* attributes named security.* */
	bool read_only;
	struct buffer fuse;		/* options for libfuse, a NUL behind each; none is empty */
};

/* The defaults. */
void options_init(struct options *o);
void options_done(struct options *o);

/* Reads one comma-separated list, as behind -o; a comma or backslash behind a backslash is itself.
 * Several lists may be read one after the other. -EINVAL: an option of ours with a value that
 * makes no sense, err says which; -ENOMEM. What is unknown is kept for libfuse to judge. */
int options_read(struct options *o, const char *list, struct err *err);

/* Adds the options that follow from the others and from who mounts. */
void options_settle(struct options *o, bool root);

#endif

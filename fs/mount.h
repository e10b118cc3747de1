/* mount.h - `cubby mount`: options in, the store opened, mounted, served, unmounted, closed.
 *
 * Going to the background is the first step, so that the lock, the log and all threads belong to
 * the process that stays; the parent waits, and its exit status is the daemon's if that fails
 * before the mount is ready.
 */
#ifndef CUBBY_FS_MOUNT_H
#define CUBBY_FS_MOUNT_H

#include "options.h"

struct mount_plan {
	const char *store, *point;	/* as given */
	struct options options;
	bool foreground, debug, single_threaded;
};

/* Returns the exit status: 0, 1 if it failed, 2 for options that make no sense. Has said why. */
int mount_run(struct mount_plan *plan);

#endif

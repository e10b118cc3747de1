/* mounted.h - what is mounted where, and taking it away.
 */
#ifndef CUBBY_FS_MOUNTED_H
#define CUBBY_FS_MOUNTED_H

#include <limits.h>
#include <stdbool.h>

/* The folder of the store that is mounted at `path` (absolute, without symbolic links), by the
 * latest mount there. -EINVAL: nothing of ours is. */
int mounted_find(const char *path, char store[PATH_MAX]);

/* Unmounts, as this user or with fusermount3's help. `dead`: its daemon is gone, so that it does
 * not matter who still has files open there. Says itself what is wrong. */
int mounted_take_away(const char *point, bool dead);

#endif

/* mounted.h - what is mounted where, and taking it away.
 */
#ifndef CUBBY_FS_MOUNTED_H
#define CUBBY_FS_MOUNTED_H

#include <limits.h>
#include <stdbool.h>

/* The folder of the store that is mounted at `path` (absolute, without symbolic links), by the
 * latest mount there. -EINVAL: nothing of ours is. */
int mounted_find(const char *path, char store[PATH_MAX]);

/* The number of the connection that serves it. -EINVAL: nothing of ours is mounted there. */
int mounted_number(const char *path, unsigned *number);

/* Is the daemon that serves `store` killed, but not gone? One of its threads may be waiting in the
 * kernel for a lock whose owner waits for an answer that nobody will give: then every access to
 * the mount hangs until somebody takes it away. */
bool mounted_dying(const char *store);

/* Waits until it is gone, for some seconds at most. */
void mounted_wait_dying(const char *store);

/* Unmounts, as this user or with fusermount3's help. `dead`: its daemon is gone, or dying, so
 * that it does not matter who still has files open there; who waits for an answer gets an error.
 * Says itself what is wrong. */
int mounted_take_away(const char *point, bool dead);

#endif

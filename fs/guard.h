/* guard.h - a process beside the daemon that ends the daemon's connection with the kernel if it is
 * killed.
 *
 * The kernel does that itself when the last descriptor of the connection is closed. But a thread
 * that is telling the kernel of an expiry may wait there for a lock whose owner waits for the
 * daemon: it cannot end then, and keeps the descriptor open (DESIGN.md, "What the kernel may
 * keep"). The guard holds none.
 */
#ifndef CUBBY_FS_GUARD_H
#define CUBBY_FS_GUARD_H

#include <sys/types.h>

/* Guards the mount at `point`, until the calling thread ends or guard_stop. Returns the guard's
 * process, or 0 if there can be none (no fusectl filesystem, and no right to have one): nothing is
 * lost then but what it would do. */
pid_t guard_start(const char *point);

/* Accepts 0. */
void guard_stop(pid_t guard);

#endif

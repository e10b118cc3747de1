/* fs.h - one mounted store: what every module of the filesystem shares.
 *
 * Made by mount.c, handed to each request as its user data. Locks, outermost first:
 *
 *   names           who is where: held for reading while a node's place is used in a call of the
 *                   store, for writing while places change
 *   node.lock       one node's draft, handles and last attributes
 *   nodes.lock, warden.lock, dirs_lock    leaves, held for a few instructions
 *
 * The store's own locks come below all of these. None is held across a reply, a notification to
 * the kernel or store_wait. DESIGN.md has the reasons.
 */
#ifndef CUBBY_FS_FS_H
#define CUBBY_FS_FS_H

#include <stdatomic.h>

#include "warden.h"
#include "locks.h"
#include "node.h"
#include "options.h"
#include "store.h"

struct dir;
struct fuse_session;

struct fs {
	struct os *os;
	struct store *store;
	struct fuse_session *session;
	struct options options;
	struct nodes nodes;
	struct rwlock names;
	struct warden warden;
	struct mutex dirs_lock;
	struct dir *dirs;	/* the open listings, in no order; guarded by dirs_lock */
	atomic_bool troubled;	/* the store's trouble has been told */
};

#endif

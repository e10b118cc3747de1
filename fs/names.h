/* names.h - finding, making, removing and renaming entries, with what the kernel knows of them.
 *
 * Each function is one step for everybody: the store and the nodes change together, under
 * `names`. An expired entry that is in the way is removed first. Whoever has a removed or
 * replaced file open keeps its value, through a draft.
 *
 * Functions return 0 or a negative errno; `revision` is what to wait for (store.h).
 */
#ifndef CUBBY_FS_NAMES_H
#define CUBBY_FS_NAMES_H

#include "attr.h"
#include "fs.h"

/* The attribute of a table that says for how long what is new in it lives: seconds, with up to
 * three decimals. Who changes it tells names_ttl_changed. */
#define DEFAULT_TTL "user.cubby.default-ttl"

void names_ttl_changed(struct node *node);

/* Shows the entry, and its node, which has one more of the kernel's references. */
int names_lookup(struct fs *fs, struct place place, struct node **out, struct shown *shown)
	WITHOUT(fs->names);

/* The same for an entry just read, as `attr`, under the `names` that the caller holds. */
int names_meet(struct fs *fs, struct place place, const struct attr *attr, struct node **out,
	       struct shown *shown) NEEDS_SHARED(fs->names);

/* The same for what a listing shows. */
int names_list(struct fs *fs, struct place place, const struct attr *attr, struct shown *shown)
	NEEDS_SHARED(fs->names);

/* Copies a symbolic link's target to `out`. */
int names_readlink(struct fs *fs, struct node *node, struct buffer *out);

/* Makes an entry; the rest as names_lookup. In a table with the set-group-id bit it takes the
 * table's group, and a table the bit too. A table's default access control list is inherited;
 * otherwise `umask` counts. */
int names_make(struct fs *fs, struct place place, const struct store_new *what, mode_t umask,
	       struct node **out, struct shown *shown, uint64_t *revision);

/* Gives the node's entry another name; the rest as names_lookup. What is staged in it is published
 * first. */
int names_link(struct fs *fs, struct node *node, struct place to, struct shown *shown,
	       uint64_t *revision);

/* `flags` as of store_remove: STORE_TABLE or 0. */
int names_remove(struct fs *fs, struct place place, unsigned flags, uint64_t *revision);

/* `flags` as of store_rename. A source with something staged is published first; one without an
 * expiry gets the default of the table that it comes to. That no table
 * is moved below itself is the kernel's care: it locks what it must and checks before it asks. */
int names_rename(struct fs *fs, struct place from, struct place to, unsigned flags,
		 uint64_t *revision);

/* Removes the entry at `place` if it has expired: 1 if it was, 0 if there is nothing to do. */
int names_expire(struct fs *fs, struct place place);

/* The same for where the node is now. */
int names_expire_node(struct fs *fs, struct node *node);

/* The kernel is to ask for all names of the node again. */
void names_recheck(struct fs *fs, struct node *node);

/* Removes what is due, all of it. *next_ms is when the next is due, 0: never. */
int names_expire_due(struct fs *fs, uint64_t *next_ms);

#endif

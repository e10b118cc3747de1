/* attr.h - what stat shows: an entry's attributes, with what is staged over them, and for how
 * long the kernel may believe it.
 *
 * All changes come through this mount, so the kernel may keep what it was told for long; but never
 * beyond the key's expiry, and attributes not while something is staged, for publication
 * changes them.
 */
#ifndef CUBBY_FS_ATTR_H
#define CUBBY_FS_ATTR_H

#include <sys/stat.h>

#include "connection.h"
#include "fs.h"

struct shown {
	struct stat st;
	struct timespec born;	/* which stat has no room for */
	double attr_seconds;	/* how long the kernel may keep `st` */
	double entry_seconds;	/* and that the name is there */
};

/* What is known of the node: from the store or, once it is gone, as last seen; with what is
 * staged. */
int attr_get(struct fs *fs, struct node *node, struct attr *out);
int attr_show(struct fs *fs, struct node *node, struct shown *out);

/* Shows `attr`, just read by name; or reads it again, if its node (NULL: there is none) has or had
 * something staged: what was read may be older than what the kernel already knows. The caller holds
 * `names`. */
int attr_show_found(struct fs *fs, struct node *node, const struct attr *attr,
		    struct shown *out) NEEDS_SHARED(fs->names);

/* What setattr changes, but for the size. */
struct attr_change {
	unsigned mask;		/* as of store_set */
	struct attr values;
	bool mtime_now;		/* SET_MTIME means this moment, and not one chosen by hand */
	bool strip;		/* as chown(2): a file's set-user-id and set-group-id go ... */
	bool of_group;		/* ... unless it is no program for its group, and he is of that */
	bool of_stranger;	/* -EPERM if that takes anything off: he does not own the file */
	const char *xattr;	/* an attribute that changes with it: NULL for none */
	const struct slice *xattr_value;	/* NULL: it goes */
};

/* Once the access control list is not `change`'s own concern, it follows the mode. */
int attr_set(struct fs *fs, struct node *node, const struct attr_change *change,
	     uint64_t *revision);

/* Keeps the attributes of a node that is about to lose its last name, at `place`, for whoever has
 * it open or, if it is `replaced`, is about to. Of a symbolic link, which is never open in a way
 * that we are told of, it keeps the target instead, as the attribute GONE_TARGET. */
int attr_keep(struct fs *fs, struct node *node, struct place place, bool replaced)
	NEEDS(fs->names);

#define GONE_TARGET "target"	/* in no name space: nobody can ask for it or set it */

/* Takes set-user-id and set-group-id off a file that an ordinary user is about to change: left to
 * us (connection_begin). `of_group` as in attr_change. */
int attr_strip(struct fs *fs, struct node *node, bool of_group);

#endif

/* xattr.h - extended attributes: user.* as given, and what cubby knows of a key as user.cubby.*.
 *
 *   user.cubby.version   of regular files, listed: decimal; may be raised; removing does nothing
 *   user.cubby.expires   listed if set: when_read and when_write; "" or removing clears it
 *   user.cubby.ttl       not listed: the same as seconds from now
 *   user.cubby.revision  not listed, read only: the store's last commit
 *   user.cubby.default-ttl  of tables, listed if set: seconds that new keys live (names.h); takes
 *                        +30m and the like too; "" or removing clears it
 *   user.cubby.entries   of tables, not listed, read only
 *
 * Everything else below user.cubby. is ours and does not exist yet.
 *
 * trusted.* is kept as given; the kernel lets only root ask. security.* is kept with the option
 * `security`, and POSIX access control lists (system.posix_acl_*) with `acl`: there list and mode
 * are kept in step (acl.h), and the kernel decides by them. Of other name spaces, and of these two
 * without their options, nothing is known; -EOPNOTSUPP (and not -ENODATA) makes tools stop asking
 * (MEASURED 21).
 *
 * What belongs to a node that is gone goes with the last who has it open.
 */
#ifndef CUBBY_FS_XATTR_H
#define CUBBY_FS_XATTR_H

#include "fs.h"

/* Appends the value to `out`. */
int xattr_get(struct fs *fs, struct node *node, const char *name, struct buffer *out);

/* Appends the names, a NUL behind each; to `root` those of trusted.* too. */
int xattr_list(struct fs *fs, struct node *node, bool root, struct buffer *out);

struct xattr_how {
	int flags;		/* as of setxattr(2) */
	bool keep_setgid;	/* he who sets an access control list (xattr_is_acl) may keep
				 * set-group-id */
};

int xattr_set(struct fs *fs, struct node *node, const char *name, struct slice value,
	      const struct xattr_how *how, uint64_t *revision);
int xattr_remove(struct fs *fs, struct node *node, const char *name, uint64_t *revision);

/* After a change of this attribute: does the key expire so soon that the kernel should be told
 * before the answer (warden_answer)? */
bool xattr_is_urgent(struct fs *fs, struct node *node, const char *name);

/* Is it an access control list? */
bool xattr_is_acl(const char *name);

/* Does a change of this attribute count as one of the key itself (P2)? */
bool xattr_is_ours(const char *name);

#endif

/* xattr.h - extended attributes: user.* as given, and what cubby knows of a key as user.cubby.*.
 *
 *   user.cubby.version   of regular files, listed: decimal; may be raised; removing does nothing
 *   user.cubby.expires   listed if set: when_read and when_write; "" or removing clears it
 *   user.cubby.ttl       not listed: the same as seconds from now
 *   user.cubby.revision  not listed, read only: the store's last commit
 *   user.cubby.entries   of tables, not listed, read only
 *
 * Everything else below user.cubby. is ours and does not exist yet. Other name spaces are not
 * kept; -EOPNOTSUPP (and not -ENODATA) makes tools stop asking for them (MEASURED 21).
 */
#ifndef CUBBY_FS_XATTR_H
#define CUBBY_FS_XATTR_H

#include "fs.h"

/* Appends the value to `out`. */
int xattr_get(struct fs *fs, struct node *node, const char *name, struct buffer *out);

/* Appends the names, a NUL behind each. */
int xattr_list(struct fs *fs, struct node *node, struct buffer *out);

/* `flags` as of setxattr(2). */
int xattr_set(struct fs *fs, struct node *node, const char *name, struct slice value, int flags,
	      uint64_t *revision);
int xattr_remove(struct fs *fs, struct node *node, const char *name, uint64_t *revision);

/* Does a change of this attribute count as one of the key itself (P2)? */
bool xattr_is_ours(const char *name);

#endif

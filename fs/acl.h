/* acl.h - POSIX access control lists, as the kernel writes them into attributes: what they say of
 * the mode, and what a new file inherits. Pure.
 *
 * Who may do what the kernel decides, from the list; this is only about keeping list and mode in
 * step, as POSIX 1003.1e (draft 17) has it: the owner's and others' permissions are in both, and
 * the mode's group permissions are those of the list's mask, or, if it has none, of the owning
 * group. A list with nothing beyond owner, group and others is no more than a mode, and is not
 * kept.
 *
 * A list is version (4, always 2) and entries: tag (2), permissions (2), id (4), little-endian.
 */
#ifndef CUBBY_FS_ACL_H
#define CUBBY_FS_ACL_H

#include <stdbool.h>
#include <stdint.h>

#include "bytes.h"

#define ACL_ACCESS "system.posix_acl_access"
#define ACL_DEFAULT "system.posix_acl_default"

/* Is it a list that means something? All below takes only such. */
bool acl_is_valid(struct slice acl);

/* The nine permission bits that belong to the list. */
uint32_t acl_mode(struct slice acl);

/* Is it no more than a mode? */
bool acl_is_mode(struct slice acl);

/* Writes to `out` (replacing what is in it) the list after chmod(2) to `mode`. */
int acl_chmod(struct slice acl, uint32_t mode, struct buffer *out);

/* What is made with `mode` in a directory with this default list: *mode as it is to be, and in
 * `out` (replacing what is in it) its own list. */
int acl_inherit(struct slice default_acl, uint32_t *mode, struct buffer *out);

#endif

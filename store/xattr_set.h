/* xattr_set.h - the extended attributes of one entry, as bytes: pairs of name and value, sorted by
 * name, no name twice. Pure. What comes from disk is checked once, when the entry is decoded; the
 * others ask for a set that was found good, and only never read beyond its end.
 *
 * Bytes: FORMAT.md, "Entries".
 */
#ifndef CUBBY_XATTR_SET_H
#define CUBBY_XATTR_SET_H

#include "bytes.h"

/* Takes the next pair off the front of `set`. 1: there was one, lent from `set`, its name no longer
 * than STORE_XATTR_NAME_MAX; 0: the end; -EUCLEAN: nonsense. */
int xattr_set_next(struct slice *set, struct slice *name, struct slice *value);

/* 0 if `set` is whole, sorted and within the limits of store.h, else -EUCLEAN. */
int xattr_set_check(struct slice set);

/* The value of `name`, lent from `set`. -ENODATA: no such attribute. */
int xattr_set_find(struct slice set, struct slice name, struct slice *value);

/* Writes to `out` (replacing what is in it) what `set` is with `name` set to *value, or, if
 * `value` is NULL, without it. -ENOSPC: that would be over STORE_XATTRS_MAX, counting the few
 * bytes that each pair costs beyond its name and value. */
int xattr_set_with(struct slice set, struct slice name, const struct slice *value,
		   struct buffer *out);

#endif

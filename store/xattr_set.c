#include "xattr_set.h"

#include <errno.h>

#include "store.h"
#include "varint.h"

int xattr_set_next(struct slice *set, struct slice *name, struct slice *value)
{
	struct slice rest = *set, n, v;

	if (rest.size == 0)
		return 0;
	if (varint_take_bytes(&rest, &n) < 0 || varint_take_bytes(&rest, &v) < 0)
		return -EUCLEAN;
	if (n.size == 0 || n.size > STORE_XATTR_NAME_MAX || v.size > STORE_XATTR_MAX)
		return -EUCLEAN;
	*set = rest;
	*name = n;
	*value = v;
	return 1;
}

int xattr_set_check(struct slice set)
{
	struct slice last = slice_of(NULL, 0), name, value;
	int rc;

	if (set.size > STORE_XATTRS_MAX)
		return -EUCLEAN;
	while ((rc = xattr_set_next(&set, &name, &value)) == 1) {
		if (slice_compare(last, name) >= 0 || memchr(name.data, 0, name.size))
			return -EUCLEAN;
		last = name;
	}
	return rc;
}

int xattr_set_find(struct slice set, struct slice name, struct slice *value)
{
	struct slice n, v;
	int rc;

	while ((rc = xattr_set_next(&set, &n, &v)) == 1) {
		if (!slice_equal(n, name))
			continue;
		*value = v;
		return 0;
	}
	return rc < 0 ? rc : -ENODATA;
}

/* What of a set comes before the pair of a name, and what behind it, or behind where it would be. */
struct parts {
	struct slice before, behind;
};

static int divide(struct slice set, struct slice name, struct parts *out)
{
	struct slice rest = set, n, v;
	int rc, order = -1;

	*out = (struct parts){ .before = slice_of(set.data, 0), .behind = set };
	while (order < 0 && (rc = xattr_set_next(&rest, &n, &v)) != 0) {
		if (rc < 0)
			return rc;
		order = slice_compare(n, name);
		if (order < 0)
			out->before.size = set.size - rest.size;
		if (order <= 0)
			out->behind = rest;
	}
	return 0;
}

static uint8_t *put_sized(uint8_t *to, struct slice bytes)
{
	return put_slice(to + varint_put(to, bytes.size), bytes);
}

int xattr_set_with(struct slice set, struct slice name, const struct slice *value,
		   struct buffer *out)
{
	struct parts parts;
	uint8_t *to;
	int rc = divide(set, name, &parts);

	buffer_clear(out);
	if (rc == 0)
		rc = buffer_reserve(out, set.size + 2 * VARINT_MAX + name.size +
					 (value ? value->size : 0));
	if (rc < 0)
		return rc;
	to = put_slice(out->data, parts.before);
	if (value)
		to = put_sized(put_sized(to, name), *value);
	to = put_slice(to, parts.behind);
	out->size = (size_t)(to - out->data);
	return value && out->size > STORE_XATTRS_MAX ? -ENOSPC : 0;
}

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
	if (n.size == 0 || n.size > STORE_XATTR_NAME_MAX || memchr(n.data, 0, n.size))
		return -EUCLEAN;
	if (v.size > STORE_XATTR_MAX)
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
		if (slice_compare(last, name) >= 0)
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

static int append_bytes(struct buffer *out, struct slice bytes)
{
	uint8_t size[VARINT_MAX];
	const int rc = buffer_append(out, size, varint_put(size, bytes.size));

	return rc < 0 ? rc : buffer_append(out, bytes.data, bytes.size);
}

static int append_pair(struct buffer *out, struct slice name, struct slice value)
{
	const int rc = append_bytes(out, name);

	return rc < 0 ? rc : append_bytes(out, value);
}

int xattr_set_with(struct slice set, struct slice name, const struct slice *value,
		   struct buffer *out)
{
	bool pending = value != NULL;
	struct slice n, v;
	int rc, more;

	buffer_clear(out);
	while ((more = xattr_set_next(&set, &n, &v)) == 1) {
		const int order = slice_compare(n, name);

		if (pending && order >= 0) {
			pending = false;
			rc = append_pair(out, name, *value);
			if (rc < 0)
				return rc;
		}
		rc = order == 0 ? 0 : append_pair(out, n, v);
		if (rc < 0)
			return rc;
	}
	rc = more < 0 ? more : pending ? append_pair(out, name, *value) : 0;
	if (rc < 0)
		return rc;
	return value && out->size > STORE_XATTRS_MAX ? -ENOSPC : 0;
}

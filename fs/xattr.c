#include "xattr.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "acl.h"
#include "attr.h"
#include "handle.h"
#include "names.h"
#include "when.h"
#include "xattr_set.h"

#define OURS "user.cubby."

enum {
	RESTORE_MS = 10 * 1000,
	URGENT_MS = 10 * 1000,
};

/* An entry that expired under our hands is removed, and then gone: worth another try. */
static bool expired_meanwhile(struct fs *fs, struct node *node, int rc)
{
	return (rc == -ENOENT || rc == -EKEYEXPIRED) && names_expire_node(fs, node) > 0;
}

/* ---- user.cubby.* ---------------------------------------------------------------------------- */

static int append_number(struct buffer *out, uint64_t n)
{
	char text[24];
	const int size = snprintf(text, sizeof(text), "%" PRIu64, n);

	return buffer_append(out, text, (size_t)size);
}

static int append_time(struct buffer *out, uint64_t ms)
{
	char text[WHEN_TEXT];
	const size_t size = when_write(ms, text);

	return buffer_append(out, text, size);
}

static int read_number(struct slice text, uint64_t *out)
{
	const uint8_t *p = text.data;
	uint64_t n = 0;

	if (text.size == 0)
		return -EINVAL;
	for (size_t i = 0; i < text.size; i++) {
		const unsigned digit = p[i] - (unsigned)'0';

		if (digit > 9 || n > (UINT64_MAX - digit) / 10)
			return -EINVAL;
		n = n * 10 + digit;
	}
	*out = n;
	return 0;
}

static int get_version(struct fs *fs, const struct attr *attr, struct buffer *out)
{
	(void)fs;
	return S_ISREG(attr->mode) ? append_number(out, attr->version) : -ENODATA;
}

static int get_expires(struct fs *fs, const struct attr *attr, struct buffer *out)
{
	(void)fs;
	return attr->expires_ms ? append_time(out, attr->expires_ms) : -ENODATA;
}

static int get_ttl(struct fs *fs, const struct attr *attr, struct buffer *out)
{
	const uint64_t now_ms = store_now_ms(fs->store);

	if (attr->expires_ms == 0)
		return -ENODATA;
	return append_time(out, attr->expires_ms > now_ms ? attr->expires_ms - now_ms : 0);
}

static int get_revision(struct fs *fs, const struct attr *attr, struct buffer *out)
{
	(void)attr;
	return append_number(out, store_revision(fs->store));
}

static int get_entries(struct fs *fs, const struct attr *attr, struct buffer *out)
{
	(void)fs;
	return S_ISDIR(attr->mode) ? append_number(out, attr->entries) : -ENODATA;
}

static int read_version(struct fs *fs, struct slice text, struct attr_change *change)
{
	(void)fs;
	change->mask = SET_VERSION;
	return read_number(text, &change->values.version);
}

/* An instant long past is what a copy or a backup says of a key that has expired since. Tools
 * restore a file in several steps, and were it gone between them, they would fail (rsync) or make
 * it again without an expiry (tar): so it stays until they are through. */
static int read_expires(struct fs *fs, struct slice text, struct attr_change *change)
{
	const uint64_t now_ms = store_now_ms(fs->store);
	uint64_t *ms = &change->values.expires_ms;
	int rc;

	change->mask = SET_EXPIRES;
	if (text.size == 0)
		return 0;
	rc = when_read(text, now_ms, ms);
	if (rc == 0 && *ms + RESTORE_MS < now_ms)
		*ms = now_ms + RESTORE_MS;
	return rc;
}

static int read_ttl(struct fs *fs, struct slice text, struct attr_change *change)
{
	const uint64_t now_ms = store_now_ms(fs->store);
	uint64_t span_ms = 0;
	int rc;

	change->mask = SET_EXPIRES;
	if (text.size == 0)
		return 0;
	rc = when_read_span(text, &span_ms);
	if (rc == 0 && span_ms > WHEN_MAX_MS - now_ms)
		rc = -EINVAL;
	change->values.expires_ms = now_ms + span_ms;
	return rc;
}

/* One attribute of ours. `read` turns a value into a change of the entry; an empty one, as from
 * removal, clears it. */
struct special {
	const char *name;
	bool listed, removable;
	int (*get)(struct fs *fs, const struct attr *attr, struct buffer *out);
	int (*read)(struct fs *fs, struct slice text, struct attr_change *change);
};

static const struct special specials[] = {
	{ OURS "version", true, false, get_version, read_version },
	{ OURS "expires", true, true, get_expires, read_expires },
	{ OURS "ttl", false, true, get_ttl, read_ttl },
	{ OURS "revision", false, false, get_revision, NULL },
	{ OURS "entries", false, false, get_entries, NULL },
};
static const size_t special_count = sizeof(specials) / sizeof(*specials);

/* The rest of `name`, if it begins with `space`; else NULL. Names are looked at a lot. */
static const char *behind(const char *name, const char *space)
{
	while (*space && *name == *space) {
		name++;
		space++;
	}
	return *space ? NULL : name;
}

bool xattr_is_ours(const char *name)
{
	return behind(name, OURS) != NULL;
}

bool xattr_is_acl(const char *name)
{
	const char *rest = behind(name, "system.posix_acl_");

	return rest && (strcmp(name, ACL_ACCESS) == 0 || strcmp(name, ACL_DEFAULT) == 0);
}

static const struct special *special_of(const char *name)
{
	for (size_t i = 0; xattr_is_ours(name) && i < special_count; i++)
		if (strcmp(name, specials[i].name) == 0)
			return &specials[i];
	return NULL;
}

bool xattr_is_urgent(struct fs *fs, struct node *node, const char *name)
{
	const struct special *s = special_of(name);
	uint64_t expires_ms;

	if (!s || (s->read != read_expires && s->read != read_ttl))
		return false;
	mutex_lock(&node->lock);
	expires_ms = node->attr.expires_ms;
	mutex_unlock(&node->lock);
	return expires_ms && expires_ms < store_now_ms(fs->store) + URGENT_MS;
}

static bool is_default_ttl(const char *name)
{
	return strcmp(name, DEFAULT_TTL) == 0;
}

/* What of a name is behind its name space, if that is one that we keep; else NULL. Who may, in each
 * of them, is the kernel's care. */
static const char *kept(const struct fs *fs, const char *name)
{
	const char *rest = behind(name, "user.");

	if (!rest)
		rest = behind(name, "trusted.");
	if (!rest && fs->options.security)
		rest = behind(name, "security.");
	if (!rest && fs->options.acl && xattr_is_acl(name))
		rest = behind(name, "system.");
	return rest;
}

/* A name space alone is no name. */
static int check_name(const struct fs *fs, const char *name)
{
	const char *rest = kept(fs, name);

	if (!rest)
		return -EOPNOTSUPP;
	return *rest ? 0 : -EINVAL;
}

static int get_special(struct fs *fs, struct node *node, const char *name, struct buffer *out)
{
	const struct special *s = special_of(name);
	struct attr attr;
	int rc;

	if (!s)
		return -ENODATA;
	if (s->get == get_version)
		handle_settle(node);
	rc = attr_get(fs, node, &attr);
	return rc < 0 ? rc : s->get(fs, &attr, out);
}

static int list_specials(struct fs *fs, struct node *node, struct buffer *out)
{
	struct buffer value = { 0 };
	struct attr attr;
	int rc = attr_get(fs, node, &attr);

	for (size_t i = 0; rc == 0 && i < special_count; i++) {
		const struct special *s = &specials[i];

		if (!s->listed)
			continue;
		rc = s->get(fs, &attr, &value);
		if (rc == 0)
			rc = buffer_append(out, s->name, strlen(s->name) + 1);
		else if (rc == -ENODATA)
			rc = 0;
	}
	buffer_done(&value);
	return rc;
}

/* With setxattr(2)'s flags: must it be there, or not? */
static int check_flags(struct fs *fs, struct node *node, const struct special *s, int flags)
{
	struct buffer value = { 0 };
	int rc;

	if (flags == 0)
		return 0;
	rc = get_special(fs, node, s->name, &value);
	buffer_done(&value);
	if (rc == 0)
		return flags & XATTR_CREATE ? -EEXIST : 0;
	return rc == -ENODATA && flags & XATTR_CREATE ? 0 : rc;
}

static int change_special(struct fs *fs, struct node *node, const struct special *s,
			  struct slice value, uint64_t *revision)
{
	struct attr_change change = { 0 };
	int rc = s->read(fs, value, &change);

	if (rc == 0)
		rc = attr_set(fs, node, &change, revision);
	if (rc == 0 && change.mask & SET_EXPIRES)
		names_recheck(fs, node);	/* the kernel may have cached it for longer */
	return rc;
}

static int set_special(struct fs *fs, struct node *node, const char *name, struct slice value,
		       int flags, uint64_t *revision)
{
	const struct special *s = special_of(name);
	int rc;

	if (!s || !s->read)
		return -EOPNOTSUPP;
	rc = check_flags(fs, node, s, flags);
	return rc < 0 ? rc : change_special(fs, node, s, value, revision);
}

/* rsync -X removes what the source does not have: the version stays, and that is no error. */
static int remove_special(struct fs *fs, struct node *node, const char *name, uint64_t *revision)
{
	const struct special *s = special_of(name);
	struct buffer value = { 0 };
	const int rc = get_special(fs, node, name, &value);

	buffer_done(&value);
	*revision = 0;
	if (rc < 0 || (s->read && !s->removable))
		return rc;
	return s->removable ? change_special(fs, node, s, slice_of("", 0), revision) : -EOPNOTSUPP;
}

/* ---- all of them ----------------------------------------------------------------------------- */

/* Of a node that is gone. */
static int get_gone(struct node *node, const char *name, struct buffer *out)
{
	struct slice value;
	int rc;

	mutex_lock(&node->lock);
	rc = xattr_set_find(buffer_slice(&node->xattrs), slice_str(name), &value);
	if (rc == 0)
		rc = buffer_append(out, value.data, value.size);
	mutex_unlock(&node->lock);
	return rc;
}

static int get_held(struct fs *fs, struct node *node, const char *name, struct buffer *out)
	NEEDS_SHARED(fs->names)
{
	return node->gone ? get_gone(node, name, out)
			  : store_xattr_get(fs->store, node_place(node), slice_str(name), out);
}

int xattr_get(struct fs *fs, struct node *node, const char *name, struct buffer *out)
{
	int rc = check_name(fs, name);

	if (rc < 0)
		return rc;
	if (xattr_is_ours(name) && !is_default_ttl(name))
		return get_special(fs, node, name, out);
	do {
		rwlock_read(&fs->names);
		rc = get_held(fs, node, name, out);
		rwlock_read_done(&fs->names);
	} while (expired_meanwhile(fs, node, rc));
	return rc;
}

/* Adds the names in `set` that are to be seen. */
static int append_names(const struct fs *fs, struct slice set, bool root, struct buffer *out)
{
	char text[STORE_XATTR_NAME_MAX + 1];
	struct slice name, value;
	int rc;

	while ((rc = xattr_set_next(&set, &name, &value)) == 1) {
		memcpy(text, name.data, name.size);
		text[name.size] = '\0';
		if (!kept(fs, text) || (!root && behind(text, "trusted.")))
			continue;
		rc = buffer_append(out, text, name.size + 1);
		if (rc < 0)
			return rc;
	}
	return rc;
}

static int list_held(struct fs *fs, struct node *node, struct buffer *set)
	NEEDS_SHARED(fs->names)
{
	int rc;

	if (!node->gone)
		return store_xattr_all(fs->store, node_place(node), set);
	mutex_lock(&node->lock);
	rc = buffer_append(set, node->xattrs.data, node->xattrs.size);
	mutex_unlock(&node->lock);
	return rc;
}

int xattr_list(struct fs *fs, struct node *node, bool root, struct buffer *out)
{
	struct buffer set = { 0 };
	int rc = list_specials(fs, node, out);

	if (rc < 0)
		return rc;
	do {
		rwlock_read(&fs->names);
		rc = list_held(fs, node, &set);
		rwlock_read_done(&fs->names);
	} while (expired_meanwhile(fs, node, rc));
	if (rc == 0)
		rc = append_names(fs, buffer_slice(&set), root, out);
	buffer_done(&set);
	return rc;
}

/* ---- changing -------------------------------------------------------------------------------- */

/* Of a node that is gone; *value as of xattr_set_with. */
static int change_gone(struct node *node, const char *name, const struct slice *value,
		       unsigned must)
{
	struct buffer set = { 0 };
	struct slice old;
	int rc;

	mutex_lock(&node->lock);
	rc = xattr_set_find(buffer_slice(&node->xattrs), slice_str(name), &old);
	if (rc == 0 && must & XATTR_MUST_CREATE)
		rc = -EEXIST;
	else if (rc == -ENODATA && !(must & XATTR_MUST_EXIST))
		rc = 0;
	if (rc == 0)
		rc = xattr_set_with(buffer_slice(&node->xattrs), slice_str(name), value, &set);
	if (rc == 0) {
		buffer_done(&node->xattrs);
		node->xattrs = set;
	} else {
		buffer_done(&set);
	}
	mutex_unlock(&node->lock);
	return rc;
}

/* *value as of xattr_set_with. */
static int change_held(struct fs *fs, struct node *node, const char *name,
		       const struct slice *value, unsigned must, uint64_t *revision)
	NEEDS_SHARED(fs->names)
{
	*revision = 0;
	if (node->gone)
		return change_gone(node, name, value, must);
	return value ? store_xattr_set(fs->store, node_place(node), slice_str(name), *value, must,
				       revision) :
		       store_xattr_remove(fs->store, node_place(node), slice_str(name), revision);
}

static int change(struct fs *fs, struct node *node, const char *name, const struct slice *value,
		  unsigned must, uint64_t *revision)
{
	int rc;

	do {
		rwlock_read(&fs->names);
		rc = change_held(fs, node, name, value, must, revision);
		rwlock_read_done(&fs->names);
	} while (expired_meanwhile(fs, node, rc));
	return rc;
}

/* The list of who may do what is also in the mode, and only there if it says no more. The kernel
 * has checked the list, and keeps other changes of this file away meanwhile. */
static int set_access(struct fs *fs, struct node *node, struct slice acl, bool keep_setgid,
		      uint64_t *revision)
{
	struct attr_change c = { .mask = SET_MODE, .xattr = ACL_ACCESS };
	struct attr attr;
	int rc = acl_is_valid(acl) ? attr_get(fs, node, &attr) : -EINVAL;

	if (rc < 0)
		return rc;
	c.values.mode = (attr.mode & (S_ISUID | S_ISGID | S_ISVTX)) | acl_mode(acl);
	if (!keep_setgid)
		c.values.mode &= ~(uint32_t)S_ISGID;
	c.xattr_value = acl_is_mode(acl) ? NULL : &acl;
	return attr_set(fs, node, &c, revision);
}

static int set_default(struct fs *fs, struct node *node, struct slice acl, uint64_t *revision)
{
	struct attr attr;
	int rc = acl_is_valid(acl) ? attr_get(fs, node, &attr) : -EINVAL;

	if (rc == 0 && !S_ISDIR(attr.mode))
		rc = -EACCES;
	return rc < 0 ? rc : change(fs, node, ACL_DEFAULT, &acl, 0, revision);
}

/* For how long what is new in a table lives: kept like the user's own, in one form. */
static int set_default_ttl(struct fs *fs, struct node *node, struct slice text, unsigned must,
			   uint64_t *revision)
{
	char plain[WHEN_TEXT];
	struct slice value;
	struct attr attr;
	uint64_t ms = 0;
	int rc = attr_get(fs, node, &attr);

	if (rc == 0 && !S_ISDIR(attr.mode))
		rc = -EINVAL;
	if (rc == 0 && text.size)
		rc = when_read_span(text, &ms);
	if (rc == 0 && text.size && (ms == 0 || ms > WHEN_MAX_MS - store_now_ms(fs->store)))
		rc = -EINVAL;
	if (rc < 0)
		return rc;
	value = slice_of(plain, when_write(ms, plain));
	rc = change(fs, node, DEFAULT_TTL, text.size ? &value : NULL, must, revision);
	names_ttl_changed(node);
	return rc;
}

int xattr_set(struct fs *fs, struct node *node, const char *name, struct slice value,
	      const struct xattr_how *how, uint64_t *revision)
{
	const unsigned must = (how->flags & XATTR_CREATE ? XATTR_MUST_CREATE : 0) |
			      (how->flags & XATTR_REPLACE ? XATTR_MUST_EXIST : 0);
	const int rc = check_name(fs, name);

	if (rc < 0)
		return rc;
	if (xattr_is_ours(name))
		return is_default_ttl(name) ?
			       set_default_ttl(fs, node, value, must, revision) :
			       set_special(fs, node, name, value, how->flags, revision);
	if (xattr_is_acl(name))
		return strcmp(name, ACL_ACCESS) == 0 ?
			       set_access(fs, node, value, how->keep_setgid, revision) :
			       set_default(fs, node, value, revision);
	return change(fs, node, name, &value, must, revision);
}

/* That a list to be removed is not there is no error: the kernel's own filesystems do not mind. */
int xattr_remove(struct fs *fs, struct node *node, const char *name, uint64_t *revision)
{
	int rc = check_name(fs, name);

	if (rc < 0)
		return rc;
	if (xattr_is_ours(name) && !is_default_ttl(name))
		return remove_special(fs, node, name, revision);
	rc = change(fs, node, name, NULL, XATTR_MUST_EXIST, revision);
	if (is_default_ttl(name))
		names_ttl_changed(node);
	return rc == -ENODATA && xattr_is_acl(name) ? 0 : rc;
}

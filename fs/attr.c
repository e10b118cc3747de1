#include "attr.h"

#include <errno.h>

#include "acl.h"
#include "names.h"
#include "xattr_set.h"

#define NS_PER_S INT64_C(1000000000)

enum {
	BLOCK_SIZE = 4096,
	STAT_BLOCK = 512,	/* st_blocks counts in these, whatever st_blksize says */

	/* The kernel rounds a timeout up to its ticks, of up to 10 ms, and counts from when
	 * whoever asked runs again. On a busy machine that is late, perhaps after the warden has
	 * told that the key is gone, and nobody tells it twice. */
	EARLY_MS = 1000,
};

static struct timespec timespec_of(int64_t ns)
{
	const int64_t s = ns / NS_PER_S, rest = ns % NS_PER_S;

	return rest < 0 ? (struct timespec){ s - 1, rest + NS_PER_S }
			: (struct timespec){ s, rest };
}

/* One by one: all that is shown passes here, and clearing the whole takes longer. */
static void fill_stat(struct stat *st, const struct attr *attr)
{
	st->st_dev = 0;
	st->st_ino = attr->id;
	st->st_mode = attr->mode;
	st->st_nlink = attr->links;
	st->st_uid = attr->uid;
	st->st_gid = attr->gid;
	st->st_rdev = attr->rdev;
	st->st_size = (off_t)attr->size;
	st->st_blksize = BLOCK_SIZE;
	st->st_blocks =
		(blkcnt_t)(attr->stored / STAT_BLOCK + (attr->stored % STAT_BLOCK != 0));
	st->st_atim = timespec_of(attr->atime_ns);
	st->st_mtim = timespec_of(attr->mtime_ns);
	st->st_ctim = timespec_of(attr->ctime_ns);
}

static double seconds_until(struct fs *fs, uint64_t expires_ms)
{
	double left;

	if (expires_ms == 0)
		return CACHE_SECONDS;
	left = ((double)expires_ms - (double)store_now_ms(fs->store) - EARLY_MS) / 1000;
	return left < 0 ? 0 : left < CACHE_SECONDS ? left : CACHE_SECONDS;
}

static void show(struct fs *fs, const struct attr *attr, bool staged, struct shown *out)
{
	fill_stat(&out->st, attr);
	out->born = timespec_of(attr->btime_ns);
	out->entry_seconds = seconds_until(fs, attr->expires_ms);
	out->attr_seconds = staged ? 0 : out->entry_seconds;
}

/* Lays what is staged over what is published; true if there is something. A bare creation is
 * nothing of the kind: its publication changes nothing that stat shows. */
static bool overlay(struct node *node, struct attr *attr) NEEDS(node->lock)
{
	struct draft *draft = atomic_load(&node->draft);
	int64_t mtime_ns;

	if (!draft)
		return false;
	attr->size = draft_size(draft);
	attr->stored = draft_stored(draft);
	mtime_ns = draft_mtime_ns(draft);
	if (mtime_ns)
		attr->mtime_ns = mtime_ns;
	if (mtime_ns > attr->ctime_ns)
		attr->ctime_ns = mtime_ns;
	return draft_staged_since(draft) != 0;
}

/* What the store says goes to node->attr first: it is what remains once the entry is gone. */
static int look(struct fs *fs, struct node *node, struct attr *out, bool *staged)
	NEEDS_SHARED(fs->names) NEEDS(node->lock)
{
	int rc = 0;

	if (!node->gone)
		rc = store_lookup(fs->store, node_place(node), &node->attr);
	if (rc < 0)
		return rc;
	*out = node->attr;
	*staged = overlay(node, out);
	if (node->gone)
		out->links = 0;
	return 0;
}

static int get(struct fs *fs, struct node *node, struct attr *out, bool *staged)
{
	int rc;

	do {
		rwlock_read(&fs->names);
		mutex_lock(&node->lock);
		rc = look(fs, node, out, staged);
		mutex_unlock(&node->lock);
		rwlock_read_done(&fs->names);
	} while (rc == -ENOENT && names_expire_node(fs, node) > 0);
	return rc;
}

int attr_get(struct fs *fs, struct node *node, struct attr *out)
{
	bool staged;

	return get(fs, node, out, &staged);
}

int attr_show(struct fs *fs, struct node *node, struct shown *out)
{
	struct attr attr;
	bool staged;
	const int rc = get(fs, node, &attr, &staged);

	if (rc == 0)
		show(fs, &attr, staged, out);
	return rc;
}

/* Most never had a draft, which is known without the lock: a publication notes its revision before the
 * draft goes. */
int attr_show_found(struct fs *fs, struct node *node, const struct attr *attr,
		    struct shown *out)
{
	struct attr again;
	bool staged;
	int rc;

	if (!node || (!atomic_load(&node->draft) && !atomic_load(&node->revision))) {
		show(fs, attr, false, out);
		return 0;
	}
	mutex_lock(&node->lock);
	rc = look(fs, node, &again, &staged);
	mutex_unlock(&node->lock);
	if (rc == 0)
		show(fs, &again, staged, out);
	return rc;
}

/* ---- changing -------------------------------------------------------------------------------- */

/* Which of a file's bits let it run with others' rights (a fifo's would not, but are taken off
 * too). Without execution by the group its bit means something else, and those of the
 * group may keep it. */
static uint32_t stripped_from(uint32_t mode, bool of_group)
{
	if (S_ISDIR(mode))
		return 0;
	return S_ISUID | (mode & S_IXGRP || !of_group ? S_ISGID : 0);
}

/* Only the node is left of it. */
static int set_gone(struct fs *fs, struct node *node, const struct attr_change *change)
	NEEDS(node->lock)
{
	const struct attr *v = &change->values;
	struct attr *a = &node->attr;
	struct buffer set = { 0 };
	int rc = 0;

	if (change->xattr)
		rc = xattr_set_with(buffer_slice(&node->xattrs), slice_str(change->xattr),
				    change->xattr_value, &set);
	if (rc < 0)
		goto out;
	if (change->xattr) {
		buffer_done(&node->xattrs);
		node->xattrs = set;
		set = (struct buffer){ 0 };	/* the node's now */
	}
	if (change->mask & SET_MODE)
		a->mode = (a->mode & S_IFMT) | (v->mode & ~(uint32_t)S_IFMT);
	if (change->mask & SET_UID)
		a->uid = v->uid;
	if (change->mask & SET_GID)
		a->gid = v->gid;
	if (change->mask & SET_ATIME)
		a->atime_ns = v->atime_ns;
	if (change->mask & SET_MTIME)
		a->mtime_ns = v->mtime_ns;
	if (change->mask & SET_EXPIRES)
		a->expires_ms = v->expires_ms;
	a->ctime_ns = (int64_t)fs->os->now_ns(fs->os);
out:
	buffer_done(&set);
	return rc;
}

/* cp -p sets the times before it closes: publication must then keep them. */
static void settle_mtime(struct node *node, const struct attr_change *change) NEEDS(node->lock)
{
	struct draft *draft = atomic_load(&node->draft);

	if (draft && change->mask & SET_MTIME && !change->mtime_now)
		draft_keep_mtime(draft);
}

/* A version set while something is staged is meant for what is staged. */
static unsigned version_flag(struct node *node, const struct attr_change *change)
	NEEDS(node->lock)
{
	struct draft *draft = atomic_load(&node->draft);
	const bool staged = draft && draft_staged_since(draft);

	return change->mask & SET_VERSION && (staged || node->attr.version == 0) ? SET_STAGED : 0;
}

static int set_there(struct fs *fs, struct node *node, const struct attr_change *change,
		     uint64_t *revision) NEEDS_SHARED(fs->names) NEEDS(node->lock)
{
	const unsigned mask = change->mask | version_flag(node, change);

	if (!change->xattr)
		return store_set(fs->store, node_place(node), mask, &change->values, &node->attr,
				 revision);
	return store_set_with(fs->store, node_place(node), mask, &change->values,
			      slice_str(change->xattr), change->xattr_value, &node->attr, revision);
}

/* The access control list as it is; -ENODATA: there is none. */
static int read_acl(struct fs *fs, struct node *node, struct buffer *out)
	NEEDS_SHARED(fs->names) NEEDS(node->lock)
{
	const struct slice name = slice_str(ACL_ACCESS);
	struct slice value;
	int rc;

	if (!node->gone)
		return store_xattr_get(fs->store, node_place(node), name, out);
	rc = xattr_set_find(buffer_slice(&node->xattrs), name, &value);
	return rc < 0 ? rc : buffer_append(out, value.data, value.size);
}

/* Adds to a change of mode what becomes of the list; `next` and *value hold it. */
static int follow_mode(struct fs *fs, struct node *node, struct attr_change *change,
		       struct buffer *next, struct slice *value)
	NEEDS_SHARED(fs->names) NEEDS(node->lock)
{
	struct buffer now = { 0 };
	int rc = read_acl(fs, node, &now);

	if (rc == 0 && !acl_is_valid(buffer_slice(&now)))
		rc = -EUCLEAN;
	if (rc == 0)
		rc = acl_chmod(buffer_slice(&now), change->values.mode, next);
	if (rc == 0) {
		*value = buffer_slice(next);
		change->xattr = ACL_ACCESS;
		change->xattr_value = value;
	}
	buffer_done(&now);
	return rc == -ENODATA ? 0 : rc;
}

static int set_locked(struct fs *fs, struct node *node, struct attr_change *change,
		      uint64_t *revision) NEEDS_SHARED(fs->names) NEEDS(node->lock)
{
	const uint32_t strip = change->strip ?
		stripped_from(node->attr.mode, change->of_group) : 0;
	const uint32_t mode = change->mask & SET_MODE ? change->values.mode : node->attr.mode;
	struct buffer next = { 0 };
	struct slice value;
	int rc = 0;

	if (mode & strip && change->of_stranger)
		return -EPERM;
	if (mode & strip) {
		change->mask |= SET_MODE;
		change->values.mode = mode & 07777 & ~strip;
	}
	if (fs->options.acl && change->mask & SET_MODE && !change->xattr)
		rc = follow_mode(fs, node, change, &next, &value);
	*revision = 0;
	if (rc == 0)
		rc = node->gone ? set_gone(fs, node, change) :
				  set_there(fs, node, change, revision);
	if (rc == 0)
		settle_mtime(node, change);
	buffer_done(&next);
	return rc;
}

static int set_held(struct fs *fs, struct node *node, const struct attr_change *change,
		    uint64_t *revision) NEEDS_SHARED(fs->names)
{
	struct attr_change whole = *change;
	int rc;

	mutex_lock(&node->lock);
	rc = set_locked(fs, node, &whole, revision);
	mutex_unlock(&node->lock);
	return rc;
}

int attr_set(struct fs *fs, struct node *node, const struct attr_change *change,
	     uint64_t *revision)
{
	int rc;

	do {
		rwlock_read(&fs->names);
		rc = set_held(fs, node, change, revision);
		rwlock_read_done(&fs->names);
	} while ((rc == -ENOENT || rc == -EKEYEXPIRED) && names_expire_node(fs, node) > 0);
	return rc;
}

int attr_strip(struct fs *fs, struct node *node, bool of_group)
{
	const struct attr_change change = { .strip = true, .of_group = of_group };
	uint64_t revision;
	uint32_t mode;
	int rc;

	mutex_lock(&node->lock);
	mode = node->attr.mode;
	mutex_unlock(&node->lock);
	if (!(mode & stripped_from(mode, of_group)))
		return 0;
	rc = attr_set(fs, node, &change, &revision);
	if (rc == 0)
		warden_post(&fs->warden, note_attributes(node->id));
	return rc;
}

static int keep_target(struct fs *fs, struct node *node, struct place place) NEEDS(node->lock)
{
	struct buffer target = { 0 };
	struct slice value;
	int rc = store_readlink(fs->store, place, &target);

	value = buffer_slice(&target);
	if (rc == 0)
		rc = xattr_set_with(slice_of(NULL, 0), slice_str(GONE_TARGET), &value,
				    &node->xattrs);
	buffer_done(&target);
	return rc;
}

int attr_keep(struct fs *fs, struct node *node, struct place place, bool replaced)
{
	int rc = 0;

	mutex_lock(&node->lock);
	if (S_ISLNK(node->attr.mode))
		rc = keep_target(fs, node, place);
	else if (node->opens || replaced || S_ISDIR(node->attr.mode))
		rc = store_xattr_all(fs->store, place, &node->xattrs);
	mutex_unlock(&node->lock);
	return rc == -ENOENT ? 0 : rc;
}

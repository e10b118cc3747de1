#include "ops.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "attr.h"
#include "connection.h"
#include "dir.h"
#include "extent.h"
#include "handle.h"
#include "mem.h"
#include "names.h"
#include "reply.h"
#include "xattr.h"

static struct fs *fs_of(fuse_req_t req)
{
	return fuse_req_userdata(req);
}

/* The kernel names only what it holds. NULL: there is no memory, and that is answered. */
static struct node *node_of(fuse_req_t req, fuse_ino_t ino)
{
	struct fs *fs = fs_of(req);
	struct node *node;
	const int rc = nodes_find(&fs->nodes, ino, &node);

	if (!node)
		reply_err(fs, req, rc < 0 ? rc : -ESTALE);
	return node;
}

static struct node *file_of(const struct fuse_file_info *fi)
{
	return (struct node *)(uintptr_t)fi->fh;
}

static struct dir *dir_of(const struct fuse_file_info *fi)
{
	return (struct dir *)(uintptr_t)fi->fh;
}

static struct place place_of(fuse_ino_t parent, const char *name)
{
	return (struct place){ parent, slice_str(name) };
}

/* ---- the connection -------------------------------------------------------------------------- */

static void op_init(void *userdata, struct fuse_conn_info *conn)
{
	const struct fs *fs = userdata;

	connection_init(conn);
	if (fs->options.acl)	/* a default list takes the umask's place, which only we can know */
		conn->want |= conn->capable & (FUSE_CAP_POSIX_ACL | FUSE_CAP_DONT_MASK);
}

static void op_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct fs *fs = fs_of(req);
	struct engine_stats s;
	struct statvfs st = { .f_bsize = UNIT, .f_frsize = UNIT, .f_namemax = STORE_NAME_MAX };
	const int rc = store_stats(fs->store, &s);

	(void)ino;
	if (rc < 0) {
		reply_err(fs, req, rc);
		return;
	}
	st.f_blocks = s.disk_bytes_total / UNIT;
	st.f_bfree = (s.disk_bytes_free + s.page_bytes_free + s.page_bytes_coming) / UNIT;
	st.f_bavail = s.room_bytes / UNIT;
	st.f_ffree = st.f_favail = st.f_bfree;
	st.f_files = s.entries + st.f_ffree;
	fuse_reply_statfs(req, &st);
}

/* ---- names ----------------------------------------------------------------------------------- */

/* That a name is not there may be kept too: it can only appear through this mount. */
static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	static const struct fuse_entry_param nothing = { .entry_timeout = CACHE_SECONDS };
	struct fs *fs = fs_of(req);
	struct shown shown;
	struct node *node;
	const int rc = names_lookup(fs, place_of(parent, name), &node, &shown);

	if (rc == -ENOENT)
		fuse_reply_entry(req, &nothing);
	else if (rc < 0)
		reply_err(fs, req, rc);
	else
		reply_entry(fs, req, node, &shown, (struct wait){ 0 });
}

static void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t count)
{
	struct fs *fs = fs_of(req);

	warden_tidy(fs, 1);
	nodes_forget_id(&fs->nodes, ino, count);
	fuse_reply_none(req);
}

static void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
	struct fs *fs = fs_of(req);

	warden_tidy(fs, count);
	for (size_t i = 0; i < count; i++)
		nodes_forget_id(&fs->nodes, forgets[i].ino, forgets[i].nlookup);
	fuse_reply_none(req);
}

static void make(fuse_req_t req, fuse_ino_t parent, const char *name, struct store_new *what)
{
	struct fs *fs = fs_of(req);
	struct wait wait = { .care = CARE_LOGGED };
	struct shown shown;
	struct node *node;
	int rc;

	what->uid = fuse_req_ctx(req)->uid;
	what->gid = fuse_req_ctx(req)->gid;
	rc = names_make(fs, place_of(parent, name), what, fuse_req_ctx(req)->umask, &node, &shown,
			&wait.revision);
	if (rc < 0)
		reply_err(fs, req, rc);
	else
		reply_entry(fs, req, node, &shown, wait);
}

static void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	make(req, parent, name, &(struct store_new){ .mode = mode, .rdev = rdev });
}

static void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	make(req, parent, name, &(struct store_new){ .mode = S_IFDIR | (mode & 07777) });
}

static void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
	make(req, parent, name,
	     &(struct store_new){ .mode = S_IFLNK | 0777, .target = slice_str(target) });
}

static void op_readlink(fuse_req_t req, fuse_ino_t ino)
{
	struct fs *fs = fs_of(req);
	struct node *node = node_of(req, ino);
	struct buffer target = { 0 };
	int rc;

	if (!node)
		return;
	rc = names_readlink(fs, node, &target);
	if (rc == 0)
		rc = buffer_append(&target, "", 1);
	if (rc < 0)
		reply_err(fs, req, rc);
	else
		fuse_reply_readlink(req, (const char *)target.data);
	buffer_done(&target);
}

static void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char *name)
{
	struct fs *fs = fs_of(req);
	struct wait wait = { .care = CARE_KEPT };
	struct node *node = node_of(req, ino);
	struct shown shown;
	int rc;

	if (!node)
		return;
	rc = names_link(fs, node, place_of(parent, name), &shown, &wait.revision);
	if (rc < 0)
		reply_err(fs, req, rc);
	else
		reply_entry(fs, req, node, &shown, wait);
}

static void finish(fuse_req_t req, int rc, struct wait wait)
{
	if (rc < 0)
		reply_err(fs_of(req), req, rc);
	else
		reply_done(fs_of(req), req, wait);
}

static void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct wait wait = { .care = CARE_KEPT };
	const int rc = names_remove(fs_of(req), place_of(parent, name), 0, &wait.revision);

	finish(req, rc, wait);
}

static void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct wait wait = { .care = CARE_KEPT };
	const int rc = names_remove(fs_of(req), place_of(parent, name), STORE_TABLE,
				    &wait.revision);

	finish(req, rc, wait);
}

static void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent,
		      const char *new_name, unsigned flags)
{
	const unsigned how = (flags & RENAME_NOREPLACE ? STORE_NOREPLACE : 0) |
			     (flags & RENAME_EXCHANGE ? STORE_EXCHANGE : 0);
	struct wait wait = { .care = CARE_KEPT };
	int rc = -EINVAL;

	if (!(flags & ~(unsigned)(RENAME_NOREPLACE | RENAME_EXCHANGE)))
		rc = names_rename(fs_of(req), place_of(parent, name),
				  place_of(new_parent, new_name), how, &wait.revision);
	finish(req, rc, wait);
}

/* ---- attributes ------------------------------------------------------------------------------ */

static void reply_current(fuse_req_t req, struct node *node, struct wait wait)
{
	struct fs *fs = fs_of(req);
	struct shown shown;
	const int rc = attr_show(fs, node, &shown);

	if (rc < 0)
		reply_err(fs, req, rc);
	else
		reply_attr(fs, req, &shown, wait);
}

static void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct node *node = node_of(req, ino);

	(void)fi;
	if (node)
		reply_current(req, node, (struct wait){ 0 });
}

/* Nanoseconds since 1970 in 64 bits reach from 1677 to 2262: what lies beyond is moved there. */
static int64_t ns_of(struct timespec t)
{
	const int64_t s = t.tv_sec, most = INT64_MAX / 1000000000;

	if (s >= most)
		return INT64_MAX;
	return s <= -most ? INT64_MIN : s * 1000000000 + t.tv_nsec;
}

/* What of `to_set` is not about the size. Truncation sets the time anyway, when published. */
static struct attr_change change_of(struct fs *fs, const struct stat *st, int to_set)
{
	const int64_t now_ns = (int64_t)fs->os->now_ns(fs->os);
	struct attr_change c = {
		.values = { .mode = st->st_mode & 07777, .uid = st->st_uid, .gid = st->st_gid },
	};

	c.mask = (to_set & FUSE_SET_ATTR_MODE ? SET_MODE : 0) |
		 (to_set & FUSE_SET_ATTR_UID ? SET_UID : 0) |
		 (to_set & FUSE_SET_ATTR_GID ? SET_GID : 0) |
		 (to_set & (FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_ATIME_NOW) ? SET_ATIME : 0) |
		 (to_set & (FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_MTIME_NOW) ? SET_MTIME : 0);
	c.mtime_now = to_set & FUSE_SET_ATTR_MTIME_NOW;
	/* chown(2) that changes nothing still takes these off, and says nothing else */
	c.strip = to_set == 0 || to_set & (FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID);
	if (c.mtime_now && to_set & FUSE_SET_ATTR_SIZE)
		c.mask &= ~(unsigned)SET_MTIME;
	c.values.atime_ns = to_set & FUSE_SET_ATTR_ATIME_NOW ? now_ns : ns_of(st->st_atim);
	c.values.mtime_ns = c.mtime_now ? now_ns : ns_of(st->st_mtim);
	return c;
}

static bool in_group(fuse_req_t req, gid_t gid)
{
	gid_t groups[256];
	int count;

	if (fuse_req_ctx(req)->gid == gid)
		return true;
	count = fuse_req_getgroups(req, sizeof(groups) / sizeof(*groups), groups);
	for (int i = 0; i < count && i < (int)(sizeof(groups) / sizeof(*groups)); i++)
		if (groups[i] == gid)
			return true;
	return false;
}

/* Of a SETATTR that sets nothing. The kernel sends the same for who writes, and so may change what
 * is not his: then the file is open. */
static bool is_stranger(fuse_req_t req, struct node *node)
{
	const uid_t uid = fuse_req_ctx(req)->uid;
	bool yes;

	mutex_lock(&node->lock);
	yes = uid != 0 && uid != node->attr.uid && node->writers == 0;
	mutex_unlock(&node->lock);
	return yes;
}

/* Who is not of a file's group must not make others of it by set-group-id. */
static bool keeps_setgid(fuse_req_t req, struct node *node)
{
	uint32_t mode, gid;

	mutex_lock(&node->lock);
	mode = node->attr.mode;
	gid = node->attr.gid;
	mutex_unlock(&node->lock);
	return !(mode & S_ISGID) || fuse_req_ctx(req)->uid == 0 || in_group(req, gid);
}

/* What is written to loses its capabilities, whoever writes, and if an ordinary user does,
 * set-user-id and set-group-id. */
static int strip(fuse_req_t req, struct node *node)
{
	struct fs *fs = fs_of(req);
	uint64_t revision;
	int rc = 0;

	if (fs->options.security)
		rc = xattr_remove(fs, node, "security.capability", &revision);
	if (rc == -ENODATA)
		rc = 0;
	if (rc < 0 || fuse_req_ctx(req)->uid == 0)
		return rc;
	return attr_strip(fs, node, keeps_setgid(req, node));
}

static int set_size(struct fs *fs, struct node *node, uint64_t size, bool open, struct wait *wait)
{
	if (open)
		return handle_truncate(fs, node, size);
	wait->care = CARE_KEPT;
	return handle_truncate_now(fs, node, size, &wait->revision);
}

static void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *st, int to_set,
		       struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct node *node = node_of(req, ino);
	struct attr_change change = change_of(fs, st, to_set);
	struct wait wait = { .care = CARE_LOGGED };
	int rc = 0;

	if (!node)
		return;
	change.of_group = change.strip && keeps_setgid(req, node);
	change.of_stranger = to_set == 0 && is_stranger(req, node);
	if (to_set & FUSE_SET_ATTR_SIZE)
		rc = st->st_size > (off_t)STORE_SIZE_MAX ? -EFBIG : strip(req, node);
	if (rc == 0 && to_set & FUSE_SET_ATTR_SIZE)
		rc = set_size(fs, node, (uint64_t)st->st_size, fi != NULL, &wait);
	if (rc == 0 && (change.mask || change.strip))
		rc = attr_set(fs, node, &change, &wait.revision);
	if (rc < 0)
		reply_err(fs, req, rc);
	else
		reply_current(req, node, wait);
}

/* Asked only where the kernel does not decide by itself (default_permissions), which is where none
 * but root comes: he may all, but execute what nobody may. */
static void op_access(fuse_req_t req, fuse_ino_t ino, int mask)
{
	struct fs *fs = fs_of(req);
	struct node *node = node_of(req, ino);
	struct attr attr;
	int rc;

	if (!node)
		return;
	rc = attr_get(fs, node, &attr);
	if (rc == 0 && mask & X_OK && !S_ISDIR(attr.mode) && !(attr.mode & 0111))
		rc = -EACCES;
	reply_err(fs, req, rc);
}

static void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	struct fs *fs = fs_of(req);
	struct node *node = node_of(req, ino);
	struct buffer value = { 0 };
	int rc;

	if (!node)
		return;
	rc = xattr_get(fs, node, name, &value);
	if (rc < 0)
		reply_err(fs, req, rc);
	else
		reply_sized(req, &value, size);
	buffer_done(&value);
}

static void op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	struct fs *fs = fs_of(req);
	struct node *node = node_of(req, ino);
	struct buffer names = { 0 };
	int rc;

	if (!node)
		return;
	rc = xattr_list(fs, node, fuse_req_ctx(req)->uid == 0, &names);
	if (rc < 0)
		reply_err(fs, req, rc);
	else
		reply_sized(req, &names, size);
	buffer_done(&names);
}

static void op_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value,
			size_t size, int flags)
{
	struct wait wait = { .care = xattr_is_ours(name) ? CARE_KEPT : CARE_LOGGED };
	struct node *node = node_of(req, ino);
	struct xattr_how how = { .flags = flags };
	struct fs *fs = fs_of(req);
	int rc;

	if (!node)
		return;
	how.keep_setgid = xattr_is_acl(name) && keeps_setgid(req, node);
	rc = xattr_set(fs, node, name, slice_of(value, size), &how, &wait.revision);
	if (rc == 0 && xattr_is_urgent(fs, node, name))
		warden_answer(fs, req, wait);
	else
		finish(req, rc, wait);
}

static void op_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name)
{
	struct wait wait = { .care = xattr_is_ours(name) ? CARE_KEPT : CARE_LOGGED };
	struct node *node = node_of(req, ino);
	int rc;

	if (!node)
		return;
	rc = xattr_remove(fs_of(req), node, name, &wait.revision);
	finish(req, rc, wait);
}

/* ---- files ----------------------------------------------------------------------------------- */

static void hand_out(struct fuse_file_info *fi, struct node *node)
{
	fi->fh = (uintptr_t)node;
	connection_open(fi);
}

static void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct node *node = node_of(req, ino);
	int rc = 0;

	if (!node)
		return;
	if (fi->flags & O_TRUNC) {
		handle_settle(node);
		rc = strip(req, node);
	}
	if (rc == 0)
		rc = handle_open(fs, node, fi->flags);
	if (rc < 0) {
		reply_err(fs, req, rc);
		return;
	}
	hand_out(fi, node);
	if (fuse_reply_open(req, fi) == -ENOENT)
		handle_release(fs, node, fi->flags, &(uint64_t){ 0 });
}

static void reply_create(fuse_req_t req, struct node *node, const struct shown *shown,
			 struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	const struct fuse_entry_param e = entry_of(node, shown);

	handle_created(fs, node, fi->flags);
	hand_out(fi, node);
	if (fuse_reply_create(req, &e, fi) == -ENOENT) {
		handle_release(fs, node, fi->flags, &(uint64_t){ 0 });
		nodes_forget(&fs->nodes, node, 1);
	}
}

static void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
		      struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct store_new what = {
		.mode = S_IFREG | (mode & 07777),
		.uid = fuse_req_ctx(req)->uid,
		.gid = fuse_req_ctx(req)->gid,
		.staged = true,
	};
	uint64_t revision;
	struct shown shown;
	struct node *node;
	const int rc = names_make(fs, place_of(parent, name), &what, fuse_req_ctx(req)->umask,
				  &node, &shown, &revision);

	if (rc < 0)
		reply_err(fs, req, rc);
	else
		reply_create(req, node, &shown, fi);
}

static void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
		    struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	char *bytes = mem_alloc(size);
	ssize_t got = -ENOMEM;

	(void)ino;
	if (bytes)
		got = handle_read(fs, file_of(fi), (uint64_t)offset, bytes, size);
	if (got < 0)
		reply_err(fs, req, (int)got);
	else
		fuse_reply_buf(req, bytes, (size_t)got);
	mem_free(bytes);
}

/* How a write(2) on this handle is to be waited for, if at all. */
static bool writes_through(const struct fs *fs, const struct fuse_file_info *fi, enum care *care)
{
	*care = fi->flags & (O_SYNC | O_DSYNC) ? CARE_SYNCED : CARE_KEPT;
	return *care == CARE_SYNCED || fs->options.sync == SYNC_ALWAYS;
}

/* After a change of contents by the handle `fi` that is not through write(2). */
static void finish_change(fuse_req_t req, const struct fuse_file_info *fi, int rc)
{
	struct fs *fs = fs_of(req);
	struct wait wait = { 0 };

	if (rc == 0 && writes_through(fs, fi, &wait.care))
		rc = handle_flush(fs, file_of(fi), &wait.revision);
	finish(req, rc, wait);
}

/* A change through a mapping takes off neither set-user-id nor capabilities: no disk does that. */
static int stage(fuse_req_t req, struct node *node, uint64_t offset, struct slice bytes,
		 bool written_back)
{
	struct fs *fs = fs_of(req);
	int rc;

	if (written_back)
		return handle_write_back(fs, node, offset, bytes);
	rc = strip(req, node);
	return rc < 0 ? rc : handle_write(fs, node, offset, bytes);
}

static void op_write(fuse_req_t req, fuse_ino_t ino, const char *bytes, size_t size, off_t offset,
		     struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct wait wait = { 0 };
	int rc = stage(req, file_of(fi), (uint64_t)offset, slice_of(bytes, size), fi->writepage);

	(void)ino;
	if (rc == 0 && writes_through(fs, fi, &wait.care))
		rc = handle_flush(fs, file_of(fi), &wait.revision);
	if (rc < 0)
		reply_err(fs, req, rc);
	else
		reply_write(fs, req, size, wait);
}

static void op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t size,
			 struct fuse_file_info *fi)
{
	int rc = strip(req, file_of(fi));

	(void)ino;
	if (rc == 0)
		rc = extent_allocate(fs_of(req), file_of(fi), mode, (uint64_t)offset,
				     (uint64_t)size);
	finish_change(req, fi, rc);
}

static void op_lseek(fuse_req_t req, fuse_ino_t ino, off_t offset, int whence,
		     struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	uint64_t found;
	const int rc = extent_seek(fs, file_of(fi), (uint64_t)offset, whence, &found);

	(void)ino;
	if (rc < 0)
		reply_err(fs, req, rc);
	else
		fuse_reply_lseek(req, (off_t)found);
}

static void op_copy_file_range(fuse_req_t req, fuse_ino_t ino, off_t offset,
			       struct fuse_file_info *fi, fuse_ino_t to_ino, off_t to_offset,
			       struct fuse_file_info *to, size_t size, int flags)
{
	struct fs *fs = fs_of(req);
	struct wait wait = { 0 };
	ssize_t done = flags ? -EINVAL : strip(req, file_of(to));
	int rc = 0;

	(void)ino, (void)to_ino;
	if (done == 0)
		done = extent_copy(fs, file_of(fi), (uint64_t)offset, file_of(to),
				   (uint64_t)to_offset, size);
	if (done > 0 && writes_through(fs, to, &wait.care))
		rc = handle_flush(fs, file_of(to), &wait.revision);
	if (done < 0 || rc < 0)
		reply_err(fs, req, rc < 0 ? rc : (int)done);
	else
		reply_write(fs, req, (size_t)done, wait);
}

static void op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct wait wait = { .care = CARE_KEPT };
	const int rc = handle_flush(fs_of(req), file_of(fi), &wait.revision);

	(void)ino;
	finish(req, rc, wait);
}

/* Attributes count too, even with fdatasync: all that was logged goes with one sync anyway. */
static void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct wait wait = { .care = CARE_SYNCED };
	const int rc = handle_publish(fs, file_of(fi), &wait.revision);

	(void)ino, (void)datasync;
	wait.revision = store_revision(fs->store);
	finish(req, rc, wait);
}

/* close(2) has returned already, but what release publishes is to outlive the daemon soon. */
static void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct wait wait = { .care = CARE_LOGGED };
	const int rc = handle_release(fs_of(req), file_of(fi), fi->flags, &wait.revision);

	(void)ino;
	finish(req, rc, wait);
}

/* ---- tables ---------------------------------------------------------------------------------- */

static void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct node *node = node_of(req, ino);
	struct dir *dir;
	int rc;

	if (!node)
		return;
	rc = dir_open(fs, node, &dir);
	if (rc < 0) {
		reply_err(fs, req, rc);
		return;
	}
	fi->fh = (uintptr_t)dir;
	if (fuse_reply_open(req, fi) == -ENOENT)
		dir_close(fs, dir);
}

static void list(fuse_req_t req, const struct fuse_file_info *fi, off_t cookie, size_t size,
		 bool plus)
{
	struct fs *fs = fs_of(req);
	struct dir *dir = dir_of(fi);
	char *bytes;
	const ssize_t got = dir_read(fs, dir, (uint64_t)cookie, plus, size, &bytes);

	if (got < 0)
		reply_err(fs, req, (int)got);
	else
		fuse_reply_buf(req, bytes, (size_t)got);
	mem_free(bytes);
	dir_read_ahead(fs, dir);
}

static void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t cookie,
		       struct fuse_file_info *fi)
{
	(void)ino;
	list(req, fi, cookie, size, false);
}

static void op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t cookie,
			   struct fuse_file_info *fi)
{
	(void)ino;
	list(req, fi, cookie, size, true);
}

static void op_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);

	(void)ino;
	dir_close(fs, dir_of(fi));
	reply_err(fs, req, 0);
}

/* Of the root: everything, for sync(1) and syncfs(2) never reach us, but `sync MOUNTPOINT` does. */
static void op_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	const uint64_t revision = ino == FUSE_ROOT_ID ? store_revision(fs->store) :
							store_table_revision(fs->store, ino);

	(void)datasync, (void)fi;
	reply_done(fs, req, (struct wait){ revision, CARE_SYNCED });
}

/* What is missing here (locks, ...) the kernel does by itself, once it was told ENOSYS. */
const struct fuse_lowlevel_ops ops = {
	.init = op_init,
	.statfs = op_statfs,
	.lookup = op_lookup,
	.forget = op_forget,
	.forget_multi = op_forget_multi,
	.mknod = op_mknod,
	.mkdir = op_mkdir,
	.symlink = op_symlink,
	.readlink = op_readlink,
	.link = op_link,
	.unlink = op_unlink,
	.rmdir = op_rmdir,
	.rename = op_rename,
	.access = op_access,
	.getattr = op_getattr,
	.setattr = op_setattr,
	.getxattr = op_getxattr,
	.listxattr = op_listxattr,
	.setxattr = op_setxattr,
	.removexattr = op_removexattr,
	.open = op_open,
	.create = op_create,
	.read = op_read,
	.write = op_write,
	.fallocate = op_fallocate,
	.lseek = op_lseek,
	.copy_file_range = op_copy_file_range,
	.flush = op_flush,
	.fsync = op_fsync,
	.release = op_release,
	.opendir = op_opendir,
	.readdir = op_readdir,
	.readdirplus = op_readdirplus,
	.releasedir = op_releasedir,
	.fsyncdir = op_fsyncdir,
};

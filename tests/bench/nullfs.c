/* nullfs - a file system that does nothing: files live in memory and end with the process.
 *
 *     nullfs MOUNTPOINT		serves in the foreground until it is unmounted
 *
 * It is the limit that the bench compares cubby with: whatever stands between a program and
 * cubby's store stands before this one too, for it speaks with the kernel through the same
 * fs/connection.c, with the same timeouts. It does what it must with one lock and one hash table,
 * and promises nothing else: no links, no permissions, no care for lack of memory.
 *
 * A file's inode number is its address. Its names are found by (parent, name); a directory
 * lists its entries from an array in which they keep their index, which is their cookie. */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <fuse_lowlevel.h>

#include "connection.h"
#include "hash.h"

struct xattr {
	struct xattr *next;
	char *name, *value;
	size_t size;
};

struct file {
	struct hash_link link;
	struct file *parent;	/* NULL: it has no name any more */
	char *name;
	size_t index;		/* among its parent's entries */
	uint64_t lookups;
	unsigned opens;
	struct stat st;
	char *bytes;		/* of a regular file */
	size_t room;
	struct file **entries;	/* of a directory; NULL where one was removed */
	size_t entry_end, entry_room, entry_count;
	struct xattr *xattrs;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards everything */
static struct hash places;
static struct file root = { .lookups = 1 };

enum { COOKIE_FIRST = 2 }; /* of the entry at index 0, behind "." and ".." */

/* ---- files -------------------------------------------------------------------------------- */

static void *need(void *memory)
{
	if (!memory)
		err(1, "memory");
	return memory;
}

static struct file *file_of(fuse_ino_t ino)
{
	return ino == FUSE_ROOT_ID ? &root : (struct file *)ino;
}

static fuse_ino_t ino_of(const struct file *f)
{
	return f == &root ? FUSE_ROOT_ID : (fuse_ino_t)f;
}

static uint64_t mix(uint64_t h)
{
	h = (h ^ h >> 33) * UINT64_C(0xff51afd7ed558ccd);
	return h ^ h >> 29;
}

static uint64_t hash_of(const struct file *parent, const char *name)
{
	size_t left = strlen(name);
	uint64_t h = mix((uintptr_t)parent), part;

	for (; left >= sizeof(part); left -= sizeof(part), name += sizeof(part)) {
		memcpy(&part, name, sizeof(part));
		h = mix(h ^ part);
	}
	for (; left; left--, name++)
		h = mix(h ^ (unsigned char)*name);
	return h;
}

static struct file *find(const struct file *parent, const char *name)
{
	struct hash_link *link = hash_first(&places, hash_of(parent, name));

	for (; link; link = hash_next(link)) {
		struct file *f = (struct file *)link;

		if (f->parent == parent && strcmp(f->name, name) == 0)
			return f;
	}
	return NULL;
}

static void touch(struct file *f)
{
	clock_gettime(CLOCK_REALTIME, &f->st.st_mtim);
	f->st.st_ctim = f->st.st_mtim;
}

/* Gives the file a name, which must be free. */
static void attach(struct file *f, struct file *parent, const char *name)
{
	if (parent->entry_end == parent->entry_room) {
		parent->entry_room = parent->entry_room ? 2 * parent->entry_room : 16;
		parent->entries = need(realloc(parent->entries,
					       parent->entry_room * sizeof(*parent->entries)));
	}
	f->parent = parent;
	f->name = need(strdup(name));
	f->index = parent->entry_end++;
	parent->entries[f->index] = f;
	parent->entry_count++;
	hash_insert(&places, &f->link, hash_of(parent, name));
	touch(parent);
}

static void detach(struct file *f)
{
	struct file *parent = f->parent;

	hash_remove(&places, &f->link);
	parent->entries[f->index] = NULL;
	if (--parent->entry_count == 0)
		parent->entry_end = 0;
	free(f->name);
	f->name = NULL;
	f->parent = NULL;
	touch(parent);
}

static void free_unheld(struct file *f)
{
	struct xattr *next;

	if (f == &root || f->parent || f->lookups || f->opens)
		return;
	for (struct xattr *x = f->xattrs; x; x = next) {
		next = x->next;
		free(x->name);
		free(x->value);
		free(x);
	}
	free(f->bytes);
	free(f->entries);
	free(f);
}

static void resize(struct file *f, size_t size)
{
	const size_t old = (size_t)f->st.st_size;

	if (size > f->room) {
		f->room = size > 2 * f->room ? size : 2 * f->room;
		f->bytes = need(realloc(f->bytes, f->room));
	}
	if (size > old)
		memset(f->bytes + old, 0, size - old);
	f->st.st_size = (off_t)size;
	f->st.st_blocks = (blkcnt_t)((size + 511) / 512);
}

/* ---- answers ------------------------------------------------------------------------------ */

static struct fuse_entry_param entry_of(struct file *f)
{
	return (struct fuse_entry_param){
		.ino = ino_of(f),
		.attr = f->st,
		.attr_timeout = CACHE_SECONDS,
		.entry_timeout = CACHE_SECONDS,
	};
}

static void op_init(void *userdata, struct fuse_conn_info *conn)
{
	(void)userdata;
	connection_init(conn);
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fuse_entry_param e = { .entry_timeout = CACHE_SECONDS };
	struct file *f;

	pthread_mutex_lock(&lock);
	f = find(file_of(parent), name);
	if (f) {
		f->lookups++;
		e = entry_of(f);
	}
	pthread_mutex_unlock(&lock);
	fuse_reply_entry(req, &e);
}

static void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t count)
{
	pthread_mutex_lock(&lock);
	file_of(ino)->lookups -= count;
	free_unheld(file_of(ino));
	pthread_mutex_unlock(&lock);
	fuse_reply_none(req);
}

static void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
	pthread_mutex_lock(&lock);
	for (size_t i = 0; i < count; i++) {
		file_of(forgets[i].ino)->lookups -= forgets[i].nlookup;
		free_unheld(file_of(forgets[i].ino));
	}
	pthread_mutex_unlock(&lock);
	fuse_reply_none(req);
}

static void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct stat st;

	(void)fi;
	pthread_mutex_lock(&lock);
	st = file_of(ino)->st;
	pthread_mutex_unlock(&lock);
	fuse_reply_attr(req, &st, CACHE_SECONDS);
}

static void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *to, int what,
		       struct fuse_file_info *fi)
{
	struct file *f = file_of(ino);
	struct stat st;

	(void)fi;
	pthread_mutex_lock(&lock);
	if (what & FUSE_SET_ATTR_SIZE)
		resize(f, (size_t)to->st_size);
	if (what & FUSE_SET_ATTR_MODE)
		f->st.st_mode = (f->st.st_mode & S_IFMT) | (to->st_mode & 07777);
	if (what & FUSE_SET_ATTR_UID)
		f->st.st_uid = to->st_uid;
	if (what & FUSE_SET_ATTR_GID)
		f->st.st_gid = to->st_gid;
	clock_gettime(CLOCK_REALTIME, &f->st.st_ctim);
	if (what & (FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_SIZE))
		f->st.st_mtim = what & FUSE_SET_ATTR_MTIME ? to->st_mtim : f->st.st_ctim;
	if (what & FUSE_SET_ATTR_ATIME)
		f->st.st_atim = to->st_atim;
	st = f->st;
	pthread_mutex_unlock(&lock);
	fuse_reply_attr(req, &st, CACHE_SECONDS);
}

/* ---- names -------------------------------------------------------------------------------- */

/* Makes a file and describes it, with one of the kernel's references. -EEXIST. */
static int make(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
		struct fuse_entry_param *e)
{
	struct file *f = need(calloc(1, sizeof(*f)));
	int rc = 0;

	f->st = (struct stat){
		.st_ino = (ino_t)f,
		.st_mode = mode,
		.st_nlink = S_ISDIR(mode) ? 2 : 1,
		.st_uid = fuse_req_ctx(req)->uid,
		.st_gid = fuse_req_ctx(req)->gid,
		.st_blksize = 4096,
	};
	touch(f);
	f->st.st_atim = f->st.st_mtim;
	f->lookups = 1;
	pthread_mutex_lock(&lock);
	if (find(file_of(parent), name))
		rc = -EEXIST;
	else
		attach(f, file_of(parent), name);
	*e = entry_of(f);
	pthread_mutex_unlock(&lock);
	if (rc < 0)
		free(f);
	return rc;
}

static void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	struct fuse_entry_param e;
	const int rc = make(req, parent, name, mode, &e);

	(void)rdev;
	if (rc < 0)
		fuse_reply_err(req, -rc);
	else
		fuse_reply_entry(req, &e);
}

static void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	op_mknod(req, parent, name, S_IFDIR | mode, 0);
}

static void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
		      struct fuse_file_info *fi)
{
	struct fuse_entry_param e;
	const int rc = make(req, parent, name, S_IFREG | mode, &e);

	if (rc < 0) {
		fuse_reply_err(req, -rc);
		return;
	}
	file_of(e.ino)->opens++; /* nobody else knows it yet */
	connection_open(fi);
	fuse_reply_create(req, &e, fi);
}

static int remove_locked(struct file *f, bool directory)
{
	if (!f)
		return ENOENT;
	if (!directory && S_ISDIR(f->st.st_mode))
		return EISDIR;
	if (directory && !S_ISDIR(f->st.st_mode))
		return ENOTDIR;
	if (f->entry_count)
		return ENOTEMPTY;
	detach(f);
	f->st.st_nlink = 0;
	free_unheld(f);
	return 0;
}

static void drop(fuse_req_t req, fuse_ino_t parent, const char *name, bool directory)
{
	int error;

	pthread_mutex_lock(&lock);
	error = remove_locked(find(file_of(parent), name), directory);
	pthread_mutex_unlock(&lock);
	fuse_reply_err(req, error);
}

static void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	drop(req, parent, name, false);
}

static void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	drop(req, parent, name, true);
}

static int rename_locked(struct file *from, const char *name, struct file *to,
			 const char *new_name)
{
	struct file *f = find(from, name), *replaced = find(to, new_name);
	int error = 0;

	if (!f)
		return ENOENT;
	if (f == replaced)
		return 0;
	if (replaced)
		error = remove_locked(replaced, S_ISDIR(f->st.st_mode));
	if (error)
		return error;
	detach(f);
	attach(f, to, new_name);
	f->st.st_ctim = to->st.st_ctim;
	return 0;
}

static void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent,
		      const char *new_name, unsigned flags)
{
	int error = EINVAL;

	pthread_mutex_lock(&lock);
	if (flags == 0)
		error = rename_locked(file_of(parent), name, file_of(new_parent), new_name);
	pthread_mutex_unlock(&lock);
	fuse_reply_err(req, error);
}

/* ---- contents ----------------------------------------------------------------------------- */

static void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	pthread_mutex_lock(&lock);
	file_of(ino)->opens++;
	if (fi->flags & O_TRUNC) {
		resize(file_of(ino), 0);
		touch(file_of(ino));
	}
	pthread_mutex_unlock(&lock);
	connection_open(fi);
	fuse_reply_open(req, fi);
}

static void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
		    struct fuse_file_info *fi)
{
	const struct file *f = file_of(ino);
	char *bytes = need(malloc(size));
	size_t got = 0;

	(void)fi;
	pthread_mutex_lock(&lock);
	if (offset < f->st.st_size) {
		got = (size_t)(f->st.st_size - offset);
		got = got < size ? got : size;
		memcpy(bytes, f->bytes + offset, got);
	}
	pthread_mutex_unlock(&lock);
	fuse_reply_buf(req, bytes, got);
	free(bytes);
}

static void op_write(fuse_req_t req, fuse_ino_t ino, const char *bytes, size_t size, off_t offset,
		     struct fuse_file_info *fi)
{
	struct file *f = file_of(ino);
	const size_t end = (size_t)offset + size;

	(void)fi;
	pthread_mutex_lock(&lock);
	if (end > (size_t)f->st.st_size)
		resize(f, end);
	memcpy(f->bytes + offset, bytes, size);
	touch(f);
	pthread_mutex_unlock(&lock);
	fuse_reply_write(req, size);
}

static void op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino, (void)fi;
	fuse_reply_err(req, 0);
}

static void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	(void)ino, (void)datasync, (void)fi;
	fuse_reply_err(req, 0);
}

static void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)fi;
	pthread_mutex_lock(&lock);
	file_of(ino)->opens--;
	free_unheld(file_of(ino));
	pthread_mutex_unlock(&lock);
	fuse_reply_err(req, 0);
}

/* ---- extended attributes ------------------------------------------------------------------ */

static struct xattr *xattr_find(struct file *f, const char *name)
{
	struct xattr *x = f->xattrs;

	while (x && strcmp(x->name, name) != 0)
		x = x->next;
	return x;
}

static void op_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value,
			size_t size, int flags)
{
	struct file *f = file_of(ino);
	struct xattr *x;

	(void)flags;
	if (strncmp(name, "user.", 5) != 0) {
		fuse_reply_err(req, EOPNOTSUPP);
		return;
	}
	pthread_mutex_lock(&lock);
	x = xattr_find(f, name);
	if (!x) {
		x = need(calloc(1, sizeof(*x)));
		x->name = need(strdup(name));
		x->next = f->xattrs;
		f->xattrs = x;
	}
	x->value = need(realloc(x->value, size + 1));
	memcpy(x->value, value, size);
	x->size = size;
	clock_gettime(CLOCK_REALTIME, &f->st.st_ctim);
	pthread_mutex_unlock(&lock);
	fuse_reply_err(req, 0);
}

static void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	char *value = NULL;
	struct xattr *x;
	size_t found = 0;

	if (strncmp(name, "user.", 5) != 0) {
		fuse_reply_err(req, EOPNOTSUPP);
		return;
	}
	pthread_mutex_lock(&lock);
	x = xattr_find(file_of(ino), name);
	if (x) {
		found = x->size;
		value = need(malloc(found + 1));
		memcpy(value, x->value, found);
	}
	pthread_mutex_unlock(&lock);
	if (!x)
		fuse_reply_err(req, ENODATA);
	else if (size == 0)
		fuse_reply_xattr(req, found);
	else if (size < found)
		fuse_reply_err(req, ERANGE);
	else
		fuse_reply_buf(req, value, found);
	free(value);
}

/* ---- listing ------------------------------------------------------------------------------ */

/* Adds one entry; 0 if there is no room for it. */
static size_t add(fuse_req_t req, char *at, size_t left, struct file *f, const char *name,
		  off_t cookie, bool plus)
{
	struct fuse_entry_param e = entry_of(f);
	const bool dots = cookie <= COOKIE_FIRST;
	size_t size;

	if (!plus)
		size = fuse_add_direntry(req, at, left, name, &e.attr, cookie);
	else if (dots) /* the kernel knows them, and counts no lookup */
		e.ino = 0;
	if (plus)
		size = fuse_add_direntry_plus(req, at, left, name, &e, cookie);
	if (size > left)
		return 0;
	if (plus && !dots)
		f->lookups++;
	return size;
}

static size_t list_locked(fuse_req_t req, struct file *dir, char *bytes, size_t size,
			  size_t cookie, bool plus)
{
	size_t used = 0, added = 1;

	for (; cookie < COOKIE_FIRST && added; cookie += added != 0) {
		added = add(req, bytes + used, size - used, dir, cookie ? ".." : ".",
			    (off_t)cookie + 1, plus);
		used += added;
	}
	for (size_t i = cookie - COOKIE_FIRST; i < dir->entry_end && added; i++) {
		struct file *f = dir->entries[i];

		if (!f)
			continue;
		added = add(req, bytes + used, size - used, f, f->name,
			    (off_t)i + COOKIE_FIRST + 1, plus);
		used += added;
	}
	return used;
}

static void list(fuse_req_t req, fuse_ino_t ino, size_t size, off_t cookie, bool plus)
{
	char *bytes = need(malloc(size));
	size_t used;

	pthread_mutex_lock(&lock);
	used = list_locked(req, file_of(ino), bytes, size, (size_t)cookie, plus);
	pthread_mutex_unlock(&lock);
	fuse_reply_buf(req, bytes, used);
	free(bytes);
}

static void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t cookie,
		       struct fuse_file_info *fi)
{
	(void)fi;
	list(req, ino, size, cookie, false);
}

static void op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t cookie,
			   struct fuse_file_info *fi)
{
	(void)fi;
	list(req, ino, size, cookie, true);
}

static void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	fuse_reply_open(req, fi);
}

static void op_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino, (void)fi;
	fuse_reply_err(req, 0);
}

/* ---- all of it ---------------------------------------------------------------------------- */

static const struct fuse_lowlevel_ops ops = {
	.init = op_init,
	.lookup = op_lookup,
	.forget = op_forget,
	.forget_multi = op_forget_multi,
	.getattr = op_getattr,
	.setattr = op_setattr,
	.mknod = op_mknod,
	.mkdir = op_mkdir,
	.unlink = op_unlink,
	.rmdir = op_rmdir,
	.rename = op_rename,
	.open = op_open,
	.create = op_create,
	.read = op_read,
	.write = op_write,
	.flush = op_flush,
	.fsync = op_fsync,
	.release = op_release,
	.setxattr = op_setxattr,
	.getxattr = op_getxattr,
	.opendir = op_opendir,
	.readdir = op_readdir,
	.readdirplus = op_readdirplus,
	.releasedir = op_releasedir,
	.fsyncdir = op_fsync,
};

int main(int argc, char **argv)
{
	char *names[] = { (char[]){ "nullfs" }, (char[]){ "-o" }, (char[]){ "fsname=nullfs" } };
	struct fuse_args args = FUSE_ARGS_INIT(3, names);
	struct fuse_session *session;
	int rc;

	if (argc != 2)
		errx(2, "usage: nullfs MOUNTPOINT");
	if (hash_init(&places) < 0)
		errx(1, "memory");
	root.st = (struct stat){ .st_ino = 1, .st_mode = S_IFDIR | 0755, .st_nlink = 2 };
	touch(&root);
	session = fuse_session_new(&args, &ops, sizeof(ops), NULL);
	if (!session || fuse_set_signal_handlers(session) < 0 ||
	    fuse_session_mount(session, argv[1]) < 0)
		errx(1, "%s: cannot be mounted on", argv[1]);
	rc = connection_begin(session, NULL);
	if (rc == 0)
		rc = connection_loop(session);
	fuse_session_unmount(session);
	fuse_remove_signal_handlers(session);
	fuse_session_destroy(session);
	return rc == 0 ? 0 : 1;
}

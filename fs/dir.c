#include "dir.h"

#include <errno.h>
#include <string.h>

#include <linux/fuse.h>

#include "mem.h"
#include "names.h"

enum {
	COOKIE_DOT = 1,
	COOKIE_DOTDOT,
	COOKIE_FIRST,			/* of the first real entry */

	REMEMBERED_MAX = 1 << 20,	/* bytes of names */
	REMEMBERED_FEW = 32 << 10,	/* more than these, and there are likely to be many more */
};

/* The next piece, made before it is asked for. */
struct ahead {
	char *bytes;			/* NULL: there is none */
	size_t used;
	bool more;			/* something may come behind it */
	uint64_t cookie, last;		/* behind which it begins, and of its last entry */
	uint64_t revision;		/* of the store, before it was made */
	uint64_t expires_ms;		/* of what expires first in it; 0: nothing does */
	bool plus;			/* with attributes: each entry counts as a lookup */
	uint64_t drafts;		/* if so: how many there ever were, and none was left */
};

struct dir {
	struct node *node;		/* pinned */
	struct dir *prev, *next;	/* of the open ones; guarded by fs.dirs_lock */
	struct mutex lock;

	unsigned holders;		/* its opener, and who reads it; guarded by lock */
	struct ahead ahead;		/* guarded by lock */
	uint64_t last;			/* cookie of the last entry handed out; guarded by lock */
	size_t wanted;			/* bytes to be read ahead behind that; guarded by lock */
	bool wanted_plus;		/* with attributes; guarded by lock */
	bool expiring;			/* some of it; guarded by lock */

	/* The names at the cookies from `first` on, without gaps: packed, and where each ends.
	 * Guarded by lock. */
	uint64_t first;
	struct buffer names;
	struct buffer ends;		/* of uint32_t */
};

static void enlist(struct fs *fs, struct dir *dir)
{
	mutex_lock(&fs->dirs_lock);
	dir->next = fs->dirs;
	if (dir->next)
		dir->next->prev = dir;
	fs->dirs = dir;
	mutex_unlock(&fs->dirs_lock);
}

static void unlist(struct fs *fs, struct dir *dir)
{
	mutex_lock(&fs->dirs_lock);
	if (dir->prev)
		dir->prev->next = dir->next;
	else
		fs->dirs = dir->next;
	if (dir->next)
		dir->next->prev = dir->prev;
	mutex_unlock(&fs->dirs_lock);
}

int dir_open(struct fs *fs, struct node *node, struct dir **out)
{
	struct dir *dir = mem_zalloc(sizeof(*dir));

	if (!dir)
		return -ENOMEM;
	nodes_pin(&fs->nodes, node);
	dir->node = node;
	dir->first = COOKIE_FIRST;
	dir->holders = 1;
	mutex_init(&dir->lock);
	enlist(fs, dir);
	*out = dir;
	return 0;
}

/* The kernel never hears of what is in this piece, with attributes. */
static void take_back(struct fs *fs, const char *bytes, size_t size)
{
	for (size_t at = 0; at < size;) {
		const struct fuse_direntplus *entry = (const struct fuse_direntplus *)(bytes + at);

		if (entry->entry_out.nodeid)	/* "." and ".." have none */
			nodes_forget_id(&fs->nodes, entry->entry_out.nodeid, 1);
		at += FUSE_DIRENTPLUS_SIZE(entry);
	}
}

static void drop(struct fs *fs, struct ahead *ahead)
{
	if (ahead->plus)
		take_back(fs, ahead->bytes, ahead->used);
	mem_free(ahead->bytes);
	*ahead = (struct ahead){ 0 };
}

/* The last to let go frees it. */
static void let_go(struct fs *fs, struct dir *dir)
{
	bool last;

	mutex_lock(&dir->lock);
	last = --dir->holders == 0;
	mutex_unlock(&dir->lock);
	if (!last)
		return;
	nodes_unpin(&fs->nodes, dir->node);
	buffer_done(&dir->names);
	buffer_done(&dir->ends);
	drop(fs, &dir->ahead);
	mutex_done(&dir->lock);
	mem_free(dir);
}

void dir_close(struct fs *fs, struct dir *dir)
{
	unlist(fs, dir);
	let_go(fs, dir);
}

/* Nobody is served any more: the list is ours alone. */
void dir_close_all(struct fs *fs)
{
	while (fs->dirs)
		dir_close(fs, fs->dirs);
}

/* ---- which name belongs to which cookie ------------------------------------------------------ */

static size_t remembered(const struct dir *dir)
{
	return dir->ends.size / sizeof(uint32_t);
}

/* Where the name at `index` ends, and so the next one begins. */
static uint32_t end_of(const struct dir *dir, size_t index)
{
	return get32(dir->ends.data + index * sizeof(uint32_t));
}

static uint32_t start_of(const struct dir *dir, size_t index)
{
	return index ? end_of(dir, index - 1) : 0;
}

static struct slice name_at(const struct dir *dir, size_t index)
{
	const uint32_t start = start_of(dir, index);

	return slice_of(dir->names.data + start, end_of(dir, index) - start);
}

static bool knows(const struct dir *dir, uint64_t cookie)
{
	return cookie >= dir->first && cookie - dir->first < remembered(dir);
}

static void forget_from(struct dir *dir, size_t index)
{
	dir->names.size = start_of(dir, index);
	dir->ends.size = index * sizeof(uint32_t);
}

static void forget_older_half(struct dir *dir)
{
	const size_t half = remembered(dir) / 2, left = remembered(dir) - half;
	const uint32_t cut = start_of(dir, half);

	dir->names.size -= cut;
	memmove(dir->names.data, dir->names.data + cut, dir->names.size);
	for (size_t i = 0; i < left; i++)
		put32(dir->ends.data + i * sizeof(uint32_t), end_of(dir, half + i) - cut);
	dir->ends.size = left * sizeof(uint32_t);
	dir->first += half;
}

/* A name at the next cookie. There is room, and some more, for it is copied by words. */
static void append(struct dir *dir, const struct fuse_dirent *entry)
{
	uint8_t *to = dir->names.data + dir->names.size;

	for (size_t at = 0; at < entry->namelen; at += sizeof(uint64_t))
		memcpy(to + at, entry->name + at, sizeof(uint64_t));
	dir->names.size += entry->namelen;
	put32(dir->ends.data + dir->ends.size, (uint32_t)dir->names.size);
	dir->ends.size += sizeof(uint32_t);
}

/* Makes room for the names of `size` bytes of a listing, the first of them at `cookie`. A long
 * listing gets at once all that it may fill: memory that is not touched costs nothing, and growing
 * by and by would touch, and copy, twice as much. */
static int make_room(struct dir *dir, uint64_t cookie, size_t size)
{
	size_t more = size, count = size / FUSE_NAME_OFFSET;
	int rc;

	if (cookie != dir->first + remembered(dir)) {	/* there is a gap */
		forget_from(dir, 0);
		dir->first = cookie;
	}
	if (dir->names.size > REMEMBERED_MAX)
		forget_older_half(dir);
	if (dir->names.size > REMEMBERED_FEW) {
		more += REMEMBERED_MAX - dir->names.size;
		count += more * remembered(dir) / dir->names.size;
	}
	rc = buffer_reserve(&dir->names, more);
	return rc < 0 ? rc : buffer_reserve(&dir->ends, count * sizeof(uint32_t));
}

/* Remembers the names of a piece of the listing that are not known yet, all of them behind those that
 * are. `head` is what each entry has before its fuse_dirent. */
static int remember(struct dir *dir, const char *bytes, size_t size, size_t head)
{
	const struct fuse_dirent *entry;
	bool room = false;
	int rc = 0;

	for (size_t at = 0; rc == 0 && at < size; at += head + FUSE_DIRENT_SIZE(entry)) {
		entry = (const struct fuse_dirent *)(bytes + at + head);
		if (!room && (entry->off < COOKIE_FIRST || knows(dir, entry->off)))
			continue;
		if (!room)
			rc = make_room(dir, entry->off, size - at);
		room = rc == 0;
		if (room)
			append(dir, entry);
	}
	return rc;
}

/* Finds the cookie of `name`, the next to be listed, from *cookie on. Cookies that were given out
 * keep their names, so where the listing has been before it skips those of names that are gone; a
 * new name there has no cookie (false), and is left out until the listing is begun again. */
static bool number(const struct dir *dir, struct slice name, uint64_t *cookie)
{
	for (; knows(dir, *cookie); ++*cookie) {
		const int order = slice_compare(name, name_at(dir, *cookie - dir->first));

		if (order <= 0)
			return order == 0;
	}
	return true;
}

/* ---- listing --------------------------------------------------------------------------------- */

struct listing {
	struct fs *fs;
	struct dir *dir;
	bool plus;
	char *bytes;
	size_t size, used;
	uint64_t cookie;	/* of the last entry listed */
	uint64_t skip;		/* entries still to be passed over */
	uint64_t expires_ms;	/* of what expires first; 0: nothing does */
};

enum {
	FULL = 1,		/* ends store_list */
	NAME_USUAL = 8,		/* bytes */
};

/* What one more entry takes. */
static size_t entry_size(const struct listing *l, struct slice name)
{
	const size_t head = l->plus ? FUSE_NAME_OFFSET_DIRENTPLUS : FUSE_NAME_OFFSET;

	return FUSE_DIRENT_ALIGN(head + name.size);
}

static uint32_t nsec_of(double seconds)
{
	return (uint32_t)((seconds - (double)(uint64_t)seconds) * 1e9);
}

/* What there is only of an entry with attributes. */
static void add_shown(struct listing *l, uint64_t node, const struct shown *shown)
{
	const struct stat *st = &shown->st;
	struct fuse_entry_out *out = (struct fuse_entry_out *)(l->bytes + l->used);

	out->nodeid = node;
	out->generation = 0;
	out->entry_valid = (uint64_t)shown->entry_seconds;
	out->attr_valid = (uint64_t)shown->attr_seconds;
	out->entry_valid_nsec = nsec_of(shown->entry_seconds);
	out->attr_valid_nsec = nsec_of(shown->attr_seconds);
	out->attr.ino = st->st_ino;
	out->attr.size = (uint64_t)st->st_size;
	out->attr.blocks = (uint64_t)st->st_blocks;
	out->attr.atime = (uint64_t)st->st_atim.tv_sec;
	out->attr.mtime = (uint64_t)st->st_mtim.tv_sec;
	out->attr.ctime = (uint64_t)st->st_ctim.tv_sec;
	out->attr.atimensec = (uint32_t)st->st_atim.tv_nsec;
	out->attr.mtimensec = (uint32_t)st->st_mtim.tv_nsec;
	out->attr.ctimensec = (uint32_t)st->st_ctim.tv_nsec;
	out->attr.mode = st->st_mode;
	out->attr.nlink = (uint32_t)st->st_nlink;
	out->attr.uid = st->st_uid;
	out->attr.gid = st->st_gid;
	out->attr.rdev = (uint32_t)st->st_rdev;
	out->attr.blksize = (uint32_t)st->st_blksize;
	out->attr.flags = 0;
}

/* Adds the entry, of `size` bytes; what it has of attributes is there already. */
static inline void add(struct listing *l, size_t size, struct slice name, uint64_t id,
		       uint32_t mode, uint64_t cookie)
{
	char *end = l->bytes + l->used + size;
	struct fuse_dirent *out = (struct fuse_dirent *)
		(l->bytes + l->used + (l->plus ? sizeof(struct fuse_entry_out) : 0));

	put64(end - sizeof(uint64_t), 0);	/* what the name leaves of the last eight bytes */
	out->ino = id;
	out->off = cookie;
	out->namelen = (uint32_t)name.size;
	out->type = (mode & S_IFMT) >> 12;
	copy_short(out->name, name.data, name.size);
	l->used += size;
	l->cookie = cookie;
}

/* "." and "..": the kernel knows both, and counts no lookup for them. */
static int add_dots(struct listing *l, uint64_t above)
{
	const uint64_t ids[] = { l->dir->node->id, above };
	const struct slice names[] = { slice_str("."), slice_str("..") };

	for (size_t i = l->cookie; i < COOKIE_DOTDOT; i++) {
		const struct shown shown = { .st = { .st_ino = ids[i], .st_mode = S_IFDIR } };
		const size_t size = entry_size(l, names[i]);

		if (size > l->size - l->used)
			return FULL;
		if (l->plus)
			add_shown(l, 0, &shown);
		add(l, size, names[i], ids[i], S_IFDIR, i + 1);
	}
	return 0;
}

/* `names` is held since before store_list was called, which the analysis cannot see. */
static int look_up(struct listing *l, struct slice name, const struct attr *attr) NO_TSA
{
	const struct place place = { l->dir->node->id, name };
	struct shown shown;
	const int rc = names_list(l->fs, place, attr, &shown);

	if (rc == 0)
		add_shown(l, attr->id, &shown);
	return rc;
}

static int visit(void *arg, struct slice name, const struct attr *attr)
{
	struct listing *l = arg;
	const size_t size = entry_size(l, name);
	uint64_t cookie = l->cookie + 1;
	int rc;

	if (l->skip) {
		l->skip--;
		return 0;
	}
	if (size > l->size - l->used)
		return FULL;
	if (!number(l->dir, name, &cookie))
		return 0;
	rc = l->plus ? look_up(l, name, attr) : 0;
	if (rc == -ENOENT)
		return 0;	/* expired since it was read */
	if (rc < 0)
		return rc;
	if (attr->expires_ms && (!l->expires_ms || attr->expires_ms < l->expires_ms))
		l->expires_ms = attr->expires_ms;
	add(l, size, name, attr->id, attr->mode, cookie);
	return 0;
}

static uint64_t table_above(const struct node *node)
{
	return node->table ? node->table : node->id;	/* above the root is the root */
}

/* The name to go on behind; if it is no longer known, how many entries to pass over instead. */
static int seek(struct listing *l, struct buffer *after)
{
	struct slice name;

	if (l->cookie == 0) {
		forget_from(l->dir, 0);
		l->dir->first = COOKIE_FIRST;
	}
	if (l->cookie < COOKIE_FIRST)
		return 0;
	if (!knows(l->dir, l->cookie)) {
		l->skip = l->cookie - COOKIE_FIRST + 1;
		return 0;
	}
	name = name_at(l->dir, l->cookie - l->dir->first);
	return buffer_append(after, name.data, name.size);
}

/* About so many entries are to be read: those to be passed over, and as many as have room if their
 * names are like those before. */
static size_t fitting(const struct listing *l)
{
	const size_t count = remembered(l->dir);
	const size_t name = count ? l->dir->names.size / count : NAME_USUAL;

	return l->skip + (l->size - l->used) / entry_size(l, slice_of(NULL, name)) + 1;
}

static int list_held(struct listing *l)
{
	struct buffer after = { 0 };
	int rc = seek(l, &after);

	if (rc == 0)
		rc = add_dots(l, table_above(l->dir->node));
	if (rc == 0 && l->plus)
		rc = store_list_some(l->fs->store, l->dir->node->id, buffer_slice(&after),
				     fitting(l), visit, l);
	else if (rc == 0)
		rc = store_list_names(l->fs->store, l->dir->node->id, buffer_slice(&after), visit,
				      l);
	if (rc == -ENOENT && l->dir->node->gone)
		rc = 0;		/* a removed directory is empty */
	buffer_done(&after);
	return rc;
}

/* Fills l->bytes; 1: there is more. What was listed before an error is listed. */
static int fill(struct listing *l)
{
	int rc;

	rwlock_read(&l->fs->names);
	rc = list_held(l);
	rwlock_read_done(&l->fs->names);
	if (remember(l->dir, l->bytes, l->used, l->plus ? sizeof(struct fuse_entry_out) : 0) < 0) {
		if (l->plus)
			take_back(l->fs, l->bytes, l->used);
		l->used = 0;
		rc = -ENOMEM;
	}
	return l->used ? rc != 0 : rc;
}

/* Attributes change with each commit, and with what is staged: then there is a draft. */
static bool still_true(struct fs *fs, const struct ahead *ahead)
{
	return ahead->revision == store_revision(fs->store) &&
	       (!ahead->expires_ms || ahead->expires_ms > store_now_ms(fs->store)) &&
	       (!ahead->plus || ahead->drafts == nodes_drafts(&fs->nodes, NULL));
}

/* Nobody has been told of the cookies in it. */
static void unmake_ahead(struct fs *fs, struct dir *dir)
{
	const uint64_t begin = dir->ahead.cookie + 1;

	drop(fs, &dir->ahead);
	if (knows(dir, begin))
		forget_from(dir, begin - dir->first);
}

/* Takes what was made ready: 0, or 1 if there is more behind it; -EAGAIN: it is not what is asked
 * for. */
static int take_ahead(struct listing *l)
{
	struct dir *dir = l->dir;
	struct ahead *ahead = &dir->ahead;
	bool more;

	if (!ahead->bytes)
		return -EAGAIN;
	if (l->plus != ahead->plus || l->cookie != ahead->cookie || l->size < ahead->used ||
	    !still_true(l->fs, ahead)) {
		unmake_ahead(l->fs, dir);
		return -EAGAIN;
	}
	l->bytes = ahead->bytes;
	l->used = ahead->used;
	l->cookie = ahead->last;
	more = ahead->more;
	*ahead = (struct ahead){ 0 };
	return more;
}

/* Is there any use in making the next piece ready? One with attributes is asked for at the start of
 * every listing, whoever lists. For how long what expires may be believed is known only in the
 * moment of the answer. */
static bool worth_ahead(const struct dir *dir, uint64_t cookie, bool plus)
{
	return !plus || (cookie > 0 && !dir->expiring);
}

ssize_t dir_read(struct fs *fs, struct dir *dir, uint64_t cookie, bool plus, size_t size,
		 char **bytes)
{
	struct listing l = {
		.fs = fs, .dir = dir, .plus = plus, .size = size, .cookie = cookie,
	};
	int rc;

	mutex_lock(&dir->lock);
	dir->holders++;
	rc = take_ahead(&l);
	if (rc == -EAGAIN) {
		l.bytes = mem_alloc(size);
		rc = l.bytes ? fill(&l) : -ENOMEM;
	}
	dir->expiring |= l.expires_ms != 0;
	dir->last = l.cookie;
	dir->wanted = rc > 0 && l.used && worth_ahead(dir, cookie, plus) ? size : 0;
	dir->wanted_plus = plus;
	mutex_unlock(&dir->lock);
	*bytes = l.bytes;
	return rc < 0 ? rc : (ssize_t)l.used;
}

/* Whoever asks is told what goes wrong here. */
static void make_ahead(struct fs *fs, struct dir *dir) NEEDS(dir->lock)
{
	struct listing l = {
		.fs = fs, .dir = dir, .plus = dir->wanted_plus, .size = dir->wanted,
		.cookie = dir->last,
	};
	struct ahead ahead = { .plus = l.plus, .cookie = l.cookie };
	bool staged;
	int rc;

	ahead.revision = store_revision(fs->store);
	ahead.drafts = nodes_drafts(&fs->nodes, &staged);
	if (l.plus && staged)
		return;
	l.bytes = mem_alloc(l.size);
	rc = l.bytes ? fill(&l) : -ENOMEM;
	ahead.bytes = l.bytes;
	ahead.used = l.used;
	ahead.more = rc > 0 && l.used;
	ahead.last = l.cookie;
	ahead.expires_ms = l.expires_ms;
	dir->ahead = ahead;
	dir->expiring |= l.expires_ms != 0;
	if (rc < 0 || (l.plus && dir->expiring))
		unmake_ahead(fs, dir);
}

void dir_read_ahead(struct fs *fs, struct dir *dir)
{
	mutex_lock(&dir->lock);
	if (dir->wanted && !dir->ahead.bytes && dir->holders > 1)
		make_ahead(fs, dir);
	dir->wanted = 0;
	mutex_unlock(&dir->lock);
	let_go(fs, dir);
}

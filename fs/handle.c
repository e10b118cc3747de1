#include "handle.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>

#include "connection.h"
#include "names.h"

enum {
	SETTLE_NS = 50000000,
	SETTLE_STEPS = 250,
	GIVEN_MAX = 16384,	/* bytes of a value that is given to the kernel unasked */
};

static bool may_write(int flags)
{
	return (flags & O_ACCMODE) != O_RDONLY;
}

/* ---- the draft ------------------------------------------------------------------------------- */

static int need_draft(struct fs *fs, struct node *node) NEEDS_SHARED(fs->names) NEEDS(node->lock)
{
	struct draft *draft;
	int rc;

	if (atomic_load(&node->draft))
		return 0;
	if (node->gone)
		return -ESTALE;
	rc = draft_open(fs->store, node_place(node), &draft);
	if (rc == 0)
		node_set_draft(&fs->nodes, node, draft);
	return rc;
}

/* The draft for one who has a handle, and so may use it without the lock. */
static int draft_of(struct fs *fs, struct node *node, struct draft **out)
{
	int rc = 0;

	*out = atomic_load(&node->draft);
	if (*out)
		return 0;
	rwlock_read(&fs->names);
	mutex_lock(&node->lock);
	rc = need_draft(fs, node);
	*out = atomic_load(&node->draft);
	mutex_unlock(&node->lock);
	rwlock_read_done(&fs->names);
	return rc;
}

int handle_keep(struct fs *fs, struct node *node, bool replaced)
{
	int rc = 0;

	mutex_lock(&node->lock);
	if ((node->opens || replaced) && S_ISREG(node->attr.mode))
		rc = need_draft(fs, node);
	mutex_unlock(&node->lock);
	return rc;
}

/* Takes the draft away for the caller to close, if no handle needs it. What is dropped with it
 * may still be in the kernel's page cache, which is then told. That of a gone node stays: nothing
 * else is left of its value. */
static struct draft *take_unneeded(struct fs *fs, struct node *node)
	NEEDS_SHARED(fs->names) NEEDS(node->lock)
{
	struct draft *draft;

	if (node->opens || node->gone)
		return NULL;
	node->failed = 0;
	draft = node_take_draft(&fs->nodes, node);
	if (draft && draft_staged_since(draft)) {
		atomic_store(&node->given, false);
		warden_post(&fs->warden, note_contents(node->id));
	}
	return draft;
}

/* The moment from which the warden counts. Set only after the bytes are staged: a flush in between
 * would otherwise clear it and leave them behind. */
static void mark_written(struct fs *fs, struct node *node)
{
	unsigned long long none = 0;

	atomic_store(&node->given, false);
	if (atomic_compare_exchange_strong(&node->written_ns, &none,
					   fs->os->monotonic_ns(fs->os)))
		warden_watch(fs);
}

/* ---- publishing ------------------------------------------------------------------------------ */

/* What is not published and stays so until somebody asks (store_make); its version is 0, or one
 * that was set before. */
static bool never_published(const struct node *node)
{
	return S_ISREG(node->attr.mode) && (node->attr.version == 0 || node->attr.unpublished);
}

static int publish_locked(struct fs *fs, struct node *node)
	NEEDS_SHARED(fs->names) NEEDS(node->lock)
{
	unsigned long long written;
	uint64_t revision = 0;
	int rc = 0;

	if (node->gone) {
		atomic_store(&node->written_ns, 0);
		return 0;
	}
	if (never_published(node))
		rc = need_draft(fs, node);
	if (rc < 0 || !atomic_load(&node->draft))
		return rc;

	written = atomic_exchange(&node->written_ns, 0);
	rc = node->failed;
	/* At most releases there is nothing: the flush before has published it. */
	if (rc == 0 && (never_published(node) || draft_staged_since(node->draft)))
		rc = draft_publish(node->draft, node_place(node), &node->attr, &revision);
	if (rc == 0 && revision)
		atomic_store(&node->revision, revision);
	if (rc == 0)
		node->renewed = node->settling = false;
	if (rc < 0 && written)
		mark_written(fs, node);		/* to be tried again */
	return rc;
}

int handle_publish_held(struct fs *fs, struct node *node)
{
	int rc;

	mutex_lock(&node->lock);
	rc = publish_locked(fs, node);
	mutex_unlock(&node->lock);
	return rc;
}

/* An entry that expired under our hands is removed, and then gone: worth another try. */
static bool expired_meanwhile(struct fs *fs, struct node *node, int rc)
{
	return (rc == -ENOENT || rc == -EKEYEXPIRED) && names_expire_node(fs, node) > 0;
}

enum occasion { AT_FLUSH, AT_RELEASE, AT_ONCE };

static bool is_time(const struct node *node, enum occasion when) NEEDS(node->lock)
{
	switch (when) {
	case AT_FLUSH:
		return atomic_load(&node->written_ns) != 0;
	case AT_RELEASE:
		return node->writers == 0;
	case AT_ONCE:
		break;
	}
	return true;
}

/* After a flush with nothing written: is a release all that can be expected? */
static void note_flush(struct node *node) NEEDS(node->lock)
{
	struct draft *draft = atomic_load(&node->draft);

	node->flushes++;
	node->settling = node->flushes >= node->writers && atomic_load(&node->written_ns) == 0 &&
			 (never_published(node) || (draft && draft_staged_since(draft)));
}

static int publish(struct fs *fs, struct node *node, enum occasion when, uint64_t *revision)
{
	int rc;

	do {
		rwlock_read(&fs->names);
		mutex_lock(&node->lock);
		rc = is_time(node, when) ? publish_locked(fs, node) : 0;
		*revision = atomic_load(&node->revision);
		if (when == AT_FLUSH && rc == 0)
			note_flush(node);
		mutex_unlock(&node->lock);
		rwlock_read_done(&fs->names);
	} while (expired_meanwhile(fs, node, rc));
	return rc;
}

int handle_flush(struct fs *fs, struct node *node, uint64_t *revision)
{
	return publish(fs, node, AT_FLUSH, revision);
}

/* The last step gives up. */
static bool is_settling(struct node *node, bool last)
{
	bool settling;

	mutex_lock(&node->lock);
	settling = node->settling && atomic_load(&node->written_ns) == 0;
	node->settling = settling && !last;
	mutex_unlock(&node->lock);
	return settling;
}

void handle_settle(struct node *node)
{
	const struct timespec step = { .tv_nsec = SETTLE_NS / SETTLE_STEPS };

	for (int i = 0; i < SETTLE_STEPS && is_settling(node, i == SETTLE_STEPS - 1); i++)
		nanosleep(&step, NULL);
}

int handle_publish(struct fs *fs, struct node *node, uint64_t *revision)
{
	return publish(fs, node, AT_ONCE, revision);
}

/* ---- opening and closing --------------------------------------------------------------------- */

static void count_open(struct node *node, int flags) NEEDS(node->lock)
{
	node->opens++;
	if (!may_write(flags))
		return;
	node->writers++;
	node->flushes = 0;
	node->settling = false;
}

static void begin_anew(struct node *node) NEEDS(node->lock)
{
	node->renewed = node->attr.version != 0;	/* there is an old value to be kept */
	node->failed = 0;
	atomic_store(&node->given, false);
}

/* Opening truncates without being a write: see the top of handle.h. Who opens only for reading may
 * truncate too, and the kernel has asked whether he may write. */
static int open_locked(struct fs *fs, struct node *node, int flags)
	NEEDS_SHARED(fs->names) NEEDS(node->lock)
{
	int rc = 0;

	if (node->gone && !atomic_load(&node->draft))
		return -ESTALE;
	if (flags & O_TRUNC) {
		rc = need_draft(fs, node);
		if (rc == 0)
			rc = draft_truncate(node->draft, 0);
		if (rc == 0)
			begin_anew(node);
	}
	if (rc == 0)
		count_open(node, flags);
	return rc;
}

/* Only to the first handle: with others open the kernel may be about to read or write, and hold a page
 * until we have answered. */
static bool is_to_be_given(const struct node *node, int flags) NEEDS(node->lock)
{
	return !(flags & (O_ACCMODE | O_TRUNC | O_DIRECT)) && node->opens == 1 && !node->gone &&
	       !atomic_load(&node->draft) && !atomic_load(&node->given) &&
	       node->attr.size <= GIVEN_MAX;
}

/* Reads what is to be given to `bytes`, which has room for GIVEN_MAX and one more, and returns how
 * much that is; 0: nothing. */
static size_t read_to_give(struct fs *fs, struct node *node, int flags, void *bytes)
	NEEDS_SHARED(fs->names) NEEDS(node->lock)
{
	ssize_t got;

	if (!is_to_be_given(node, flags))
		return 0;
	got = store_read(fs->store, node_place(node), 0, bytes, GIVEN_MAX + 1);
	if (got >= 0)
		atomic_store(&node->given, true);
	return got > 0 && got <= GIVEN_MAX ? (size_t)got : 0;
}

/* Until the kernel has what it is given, all other openings wait for the node's lock. */
int handle_open(struct fs *fs, struct node *node, int flags)
{
	char value[GIVEN_MAX + 1];
	struct draft *unneeded;
	size_t size;
	int rc;

	nodes_pin(&fs->nodes, node);
	rwlock_read(&fs->names);
	mutex_lock(&node->lock);
	rc = open_locked(fs, node, flags);
	size = rc == 0 ? read_to_give(fs, node, flags, value) : 0;
	unneeded = take_unneeded(fs, node);
	rwlock_read_done(&fs->names);
	if (size)
		connection_give(fs->session, node->id, value, size);
	mutex_unlock(&node->lock);
	draft_close(unneeded);
	if (rc < 0)
		nodes_unpin(&fs->nodes, node);
	return rc;
}

/* The draft is opened at once, so that handle_close_all finds what was created and never released.
 * Without memory for it, the first write opens it. */
void handle_created(struct fs *fs, struct node *node, int flags)
{
	nodes_pin(&fs->nodes, node);
	rwlock_read(&fs->names);
	mutex_lock(&node->lock);
	count_open(node, flags);
	need_draft(fs, node);
	mutex_unlock(&node->lock);
	rwlock_read_done(&fs->names);
}

int handle_release(struct fs *fs, struct node *node, int flags, uint64_t *revision)
{
	struct draft *unneeded;
	int rc;

	mutex_lock(&node->lock);
	node->writers -= may_write(flags);
	mutex_unlock(&node->lock);
	rc = publish(fs, node, AT_RELEASE, revision);

	rwlock_read(&fs->names);
	mutex_lock(&node->lock);
	node->opens--;
	unneeded = take_unneeded(fs, node);
	mutex_unlock(&node->lock);
	rwlock_read_done(&fs->names);
	draft_close(unneeded);
	nodes_unpin(&fs->nodes, node);
	return rc;
}

static int close_one(struct fs *fs, struct node *node, bool all)
{
	struct draft *draft;
	uint64_t revision;
	const int rc = publish(fs, node, all ? AT_ONCE : AT_FLUSH, &revision);

	mutex_lock(&node->lock);
	draft = node_take_draft(&fs->nodes, node);
	mutex_unlock(&node->lock);
	draft_close(draft);
	return rc;
}

int handle_close_all(struct fs *fs, bool all)
{
	struct node *node;
	int first = 0;

	while ((node = nodes_drafted(&fs->nodes))) {
		const int rc = close_one(fs, node, all);

		if (first == 0)
			first = rc;
		nodes_unpin(&fs->nodes, node);
	}
	return first;
}

/* ---- reading and writing --------------------------------------------------------------------- */

static ssize_t read_held(struct fs *fs, struct node *node, uint64_t offset, void *bytes,
			 size_t size) NEEDS_SHARED(fs->names)
{
	struct draft *draft = atomic_load(&node->draft);

	if (draft)
		return draft_read(draft, offset, bytes, size);
	if (node->gone)
		return -ESTALE;
	return store_read(fs->store, node_place(node), offset, bytes, size);
}

ssize_t handle_read(struct fs *fs, struct node *node, uint64_t offset, void *bytes, size_t size)
{
	struct draft *draft = atomic_load(&node->draft);
	ssize_t got;

	if (draft)
		return draft_read(draft, offset, bytes, size);
	do {
		rwlock_read(&fs->names);
		got = read_held(fs, node, offset, bytes, size);
		rwlock_read_done(&fs->names);
	} while (got < 0 && expired_meanwhile(fs, node, (int)got));
	return got;
}

static int seek_held(struct fs *fs, struct node *node, uint64_t offset, bool hole, uint64_t *found)
	NEEDS_SHARED(fs->names)
{
	struct draft *draft = atomic_load(&node->draft);

	if (draft)
		return draft_seek(draft, offset, hole, found);
	if (node->gone)
		return -ESTALE;
	return store_seek(fs->store, node_place(node), offset, hole, found);
}

int handle_seek(struct fs *fs, struct node *node, uint64_t offset, bool hole, uint64_t *found)
{
	int rc;

	do {
		rwlock_read(&fs->names);
		rc = seek_held(fs, node, offset, hole, found);
		rwlock_read_done(&fs->names);
	} while (expired_meanwhile(fs, node, rc));
	return rc;
}

static void write_failed(struct node *node, int rc)
{
	mutex_lock(&node->lock);
	if (node->renewed && node->failed == 0)
		node->failed = rc;
	mutex_unlock(&node->lock);
}

/* As draft_write_within. */
static ssize_t write_all(struct draft *draft, uint64_t offset, struct slice bytes)
{
	const int rc = draft_write(draft, offset, bytes);

	return rc < 0 ? rc : (ssize_t)bytes.size;
}

/* A value changed in too many places at once (draft.h) is published in between. */
static int stage(struct fs *fs, struct node *node, uint64_t offset, struct slice bytes,
		 ssize_t (*write)(struct draft *draft, uint64_t offset, struct slice bytes))
{
	struct draft *draft;
	uint64_t revision;
	ssize_t rc = draft_of(fs, node, &draft);

	if (rc < 0)
		return (int)rc;
	rc = write(draft, offset, bytes);
	if (rc == -EFBIG && offset + bytes.size <= STORE_SIZE_MAX) {
		rc = handle_publish(fs, node, &revision);
		if (rc == 0)
			rc = write(draft, offset, bytes);
	}
	if (rc > 0)
		mark_written(fs, node);
	if (rc < 0)
		write_failed(node, (int)rc);
	return rc < 0 ? (int)rc : 0;
}

int handle_write(struct fs *fs, struct node *node, uint64_t offset, struct slice bytes)
{
	return stage(fs, node, offset, bytes, write_all);
}

int handle_write_back(struct fs *fs, struct node *node, uint64_t offset, struct slice bytes)
{
	return stage(fs, node, offset, bytes, draft_write_within);
}

/* Changes the size, or not all of it, as draft_truncate and draft_grow do. What was cut off may
 * have to be published before the value grows again. */
static int resize(struct fs *fs, struct node *node, uint64_t size,
		  int (*change)(struct draft *draft, uint64_t size))
{
	struct draft *draft;
	uint64_t revision;
	int rc = draft_of(fs, node, &draft);

	if (rc == 0)
		rc = change(draft, size);
	if (rc == -EFBIG && size <= STORE_SIZE_MAX) {
		rc = handle_publish(fs, node, &revision);
		if (rc == 0)
			rc = change(draft, size);
	}
	if (rc == 0)
		mark_written(fs, node);
	return rc;
}

int handle_truncate(struct fs *fs, struct node *node, uint64_t size)
{
	return resize(fs, node, size, draft_truncate);
}

int handle_grow(struct fs *fs, struct node *node, uint64_t size)
{
	return resize(fs, node, size, draft_grow);
}

/* A hole that takes away more than one publication can is made in several. */
int handle_punch(struct fs *fs, struct node *node, uint64_t offset, uint64_t size)
{
	struct draft *draft;
	uint64_t revision;
	int rc = draft_of(fs, node, &draft);

	if (rc < 0)
		return rc;
	while ((rc = draft_punch(draft, offset, size)) == -EFBIG && draft_staged_since(draft)) {
		rc = handle_publish(fs, node, &revision);
		if (rc < 0)
			break;
	}
	if (rc == 0)
		mark_written(fs, node);
	else
		write_failed(node, rc);
	return rc;
}

/* For a moment the caller is a handle of its own. */
int handle_truncate_now(struct fs *fs, struct node *node, uint64_t size, uint64_t *revision)
{
	int rc = handle_open(fs, node, O_WRONLY), closed;

	if (rc < 0)
		return rc;
	rc = handle_truncate(fs, node, size);
	if (rc == 0)
		rc = handle_publish(fs, node, revision);
	closed = handle_release(fs, node, O_WRONLY, revision);
	return rc < 0 ? rc : closed;
}

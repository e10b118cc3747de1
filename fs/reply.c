#include "reply.h"

#include <errno.h>

#include "mem.h"
#include "say.h"

struct reply {
	struct log_waiter waiter;	/* first: what the callback is given */
	struct fs *fs;
	fuse_req_t req;
	void (*send)(const struct reply *reply);
	struct node *node;		/* of an entry */
	struct shown shown;		/* of an entry, or attributes */
	size_t count;			/* of bytes written */
};

/* ---- errors ---------------------------------------------------------------------------------- */

static void tell_trouble(struct fs *fs)
{
	struct err err;

	if (store_trouble(fs->store, &err) && !atomic_exchange(&fs->troubled, true))
		say("%s", err.text);
}

int reply_errno(struct fs *fs, int rc)
{
	switch (rc) {
	case -EBADMSG:
	case -EUCLEAN:
		tell_trouble(fs);
		return EIO;
	case -EIO:
	case -EROFS:
		tell_trouble(fs);
		return -rc;
	case -EKEYEXPIRED:
		return ENOENT;
	default:
		return -rc;
	}
}

void reply_err(struct fs *fs, fuse_req_t req, int rc)
{
	fuse_reply_err(req, rc < 0 ? reply_errno(fs, rc) : 0);
}

/* ---- answers --------------------------------------------------------------------------------- */

struct fuse_entry_param entry_of(const struct node *node, const struct shown *shown)
{
	return (struct fuse_entry_param){
		.ino = node->id,
		.attr = shown->st,
		.attr_timeout = shown->attr_seconds,
		.entry_timeout = shown->entry_seconds,
	};
}

static void send_done(const struct reply *r)
{
	fuse_reply_err(r->req, 0);
}

static void send_write(const struct reply *r)
{
	fuse_reply_write(r->req, r->count);
}

static void send_attr(const struct reply *r)
{
	fuse_reply_attr(r->req, &r->shown.st, r->shown.attr_seconds);
}

/* An answer that the kernel does not take (the caller was interrupted) gives it no reference. */
static void send_entry(const struct reply *r)
{
	const struct fuse_entry_param e = entry_of(r->node, &r->shown);

	if (fuse_reply_entry(r->req, &e) == -ENOENT)
		nodes_forget(&r->fs->nodes, r->node, 1);
}

static void finish(const struct reply *r, int rc)
{
	if (rc == 0) {
		r->send(r);
		return;
	}
	if (r->node)
		nodes_forget(&r->fs->nodes, r->node, 1);
	reply_err(r->fs, r->req, rc);
}

/* ---- waiting --------------------------------------------------------------------------------- */

static void waited(struct log_waiter *waiter, int rc)
{
	struct reply *r = (struct reply *)waiter;

	finish(r, rc);
	mem_free(r);
}

static enum log_level level_of(const struct fs *fs, enum care care)
{
	switch (fs->options.sync) {
	case SYNC_ALWAYS:
		return LOG_SYNCED;
	case SYNC_STANDARD:
		return care == CARE_SYNCED ? LOG_SYNCED : LOG_WRITTEN;
	case SYNC_CLOSE:
		break;
	}
	return care == CARE_LOGGED ? LOG_WRITTEN : LOG_SYNCED;
}

/* Sends `r`, which is on the caller's stack, when its time has come. What need only be written is
 * so before anybody could take over; without memory this thread stands and waits too. */
static void send_after(const struct reply *r, struct wait wait)
{
	const enum log_level level = level_of(r->fs, wait.care);
	struct reply *copy;

	if (wait.revision == 0) {
		finish(r, 0);
		return;
	}
	copy = level == LOG_SYNCED ? mem_copy(r, sizeof(*r)) : NULL;
	if (!copy) {
		finish(r, store_wait_blocking(r->fs->store, wait.revision, level));
		return;
	}
	copy->waiter = (struct log_waiter){ wait.revision, level, waited, NULL };
	store_wait(r->fs->store, &copy->waiter);
}

void reply_done(struct fs *fs, fuse_req_t req, struct wait wait)
{
	const struct reply r = { .fs = fs, .req = req, .send = send_done };

	send_after(&r, wait);
}

void reply_write(struct fs *fs, fuse_req_t req, size_t count, struct wait wait)
{
	const struct reply r = { .fs = fs, .req = req, .send = send_write, .count = count };

	send_after(&r, wait);
}

void reply_attr(struct fs *fs, fuse_req_t req, const struct shown *shown, struct wait wait)
{
	const struct reply r = { .fs = fs, .req = req, .send = send_attr, .shown = *shown };

	send_after(&r, wait);
}

void reply_entry(struct fs *fs, fuse_req_t req, struct node *node, const struct shown *shown,
		 struct wait wait)
{
	const struct reply r = {
		.fs = fs, .req = req, .send = send_entry, .node = node, .shown = *shown,
	};

	send_after(&r, wait);
}

void reply_sized(fuse_req_t req, const struct buffer *bytes, size_t size)
{
	if (size == 0)
		fuse_reply_xattr(req, bytes->size);
	else if (bytes->size > size)
		fuse_reply_err(req, ERANGE);
	else
		fuse_reply_buf(req, (const char *)bytes->data, bytes->size);
}

/* reply.h - answers to the kernel: each request gets exactly one, some only once the disk has
 * what they tell of.
 *
 * Such a request waits in a small block of its own; the answer is sent from the commit's callback,
 * so no thread sleeps for the disk. Errors of the store that mean damage reach the caller as EIO,
 * and their sentence is told once.
 */
#ifndef CUBBY_FS_REPLY_H
#define CUBBY_FS_REPLY_H

#include <fuse_lowlevel.h>

#include "attr.h"
#include "fs.h"

/* How much a change matters, which with sync= decides how safe it is to be before the answer. */
enum care {
	CARE_LOGGED,	/* attributes, new tables: not lost by kill -9 */
	CARE_KEPT,	/* values and names: on disk, unless sync=standard */
	CARE_SYNCED,	/* fsync: on disk in any case */
};

/* What a request waits for. Revision 0: nothing. */
struct wait {
	uint64_t revision;
	enum care care;
};

/* 0, or the negative errno `rc`. */
void reply_err(struct fs *fs, fuse_req_t req, int rc);

/* Each of these answers with an error instead if waiting ends with one. */
void reply_done(struct fs *fs, fuse_req_t req, struct wait wait);
void reply_write(struct fs *fs, fuse_req_t req, size_t count, struct wait wait);
void reply_attr(struct fs *fs, fuse_req_t req, const struct shown *shown, struct wait wait);

/* `node` was looked up for this answer; if it cannot be given, that is taken back. */
void reply_entry(struct fs *fs, fuse_req_t req, struct node *node, const struct shown *shown,
		 struct wait wait);

/* Bytes for a caller who has room for `size` of them; 0: who only asks how many there are. */
void reply_sized(fuse_req_t req, const struct buffer *bytes, size_t size);

struct fuse_entry_param entry_of(const struct node *node, const struct shown *shown);

/* The store failed with `rc`: what to tell a program. Tells the reason too, once. */
int reply_errno(struct fs *fs, int rc);

#endif

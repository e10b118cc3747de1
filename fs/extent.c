#include "extent.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "attr.h"
#include "handle.h"
#include "mem.h"

enum {
	COPY_STEP = 1 << 20,
	COPY_MAX = 64 << 20,	/* so that a request ends before somebody loses patience */
};

/* ---- allocating ------------------------------------------------------------------------------ */

/* Is there room for what a value of `size` bytes would grow by? What lies inside it may be there
 * already. */
static int check_room(struct fs *fs, uint64_t size, uint64_t offset, uint64_t end)
{
	const uint64_t from = size > offset ? size : offset;
	struct engine_stats stats;
	const int rc = store_stats(fs->store, &stats);

	if (rc < 0)
		return rc;
	return end > from && end - from > stats.room_bytes ? -ENOSPC : 0;
}

/* Where there was nothing to change the times move all the same. */
static int touch(struct fs *fs, struct node *node)
{
	const struct attr_change now = {
		.mask = SET_MTIME,
		.values = { .mtime_ns = (int64_t)fs->os->now_ns(fs->os) },
	};
	uint64_t revision;

	return attr_set(fs, node, &now, &revision);
}

int extent_allocate(struct fs *fs, struct node *node, int mode, uint64_t offset, uint64_t size)
{
	const bool zero = mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE);
	const bool grow = !(mode & FALLOC_FL_KEEP_SIZE);
	const uint64_t end = offset + size;
	struct attr attr;
	int rc;

	if (mode & ~(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE))
		return -EOPNOTSUPP;
	if (end > STORE_SIZE_MAX || end < offset)
		return -EFBIG;
	rc = attr_get(fs, node, &attr);
	if (rc == 0)
		rc = zero ? handle_punch(fs, node, offset, size) :
			    check_room(fs, attr.size, offset, end);
	if (rc == 0 && grow)
		rc = handle_grow(fs, node, end);
	if (rc == 0 && !(zero && offset < attr.size) && !(grow && end > attr.size))
		rc = touch(fs, node);
	return rc;
}

/* ---- finding --------------------------------------------------------------------------------- */

int extent_seek(struct fs *fs, struct node *node, uint64_t offset, int whence, uint64_t *found)
{
	if (whence != SEEK_DATA && whence != SEEK_HOLE)
		return -EINVAL;
	return handle_seek(fs, node, offset, whence == SEEK_HOLE, found);
}

/* ---- copying --------------------------------------------------------------------------------- */

static ssize_t copy_step(struct fs *fs, struct node *from, uint64_t from_offset, struct node *to,
			 uint64_t to_offset, char *bytes, size_t size)
{
	const ssize_t got = handle_read(fs, from, from_offset, bytes, size);
	int rc;

	if (got <= 0)
		return got;
	rc = handle_write(fs, to, to_offset, slice_of(bytes, (size_t)got));
	return rc < 0 ? rc : got;
}

ssize_t extent_copy(struct fs *fs, struct node *from, uint64_t from_offset, struct node *to,
		    uint64_t to_offset, uint64_t size)
{
	const size_t most = size < COPY_MAX ? (size_t)size : COPY_MAX;
	char *bytes = mem_alloc(most < COPY_STEP ? most + 1 : COPY_STEP);
	ssize_t step = bytes ? 1 : -ENOMEM;
	size_t done = 0;

	while (step > 0 && done < most) {
		const size_t left = most - done;

		step = copy_step(fs, from, from_offset + done, to, to_offset + done, bytes,
				 left < COPY_STEP ? left : COPY_STEP);
		done += step > 0 ? (size_t)step : 0;
	}
	mem_free(bytes);
	return step < 0 && done == 0 ? step : (ssize_t)done;
}

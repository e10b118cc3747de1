#include "statx.h"

#include <errno.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <unistd.h>

#include <linux/fuse.h>
#include <linux/stat.h>

#include "attr.h"
#include "reply.h"
#include "say.h"

/* Protocol 7.39, which Debian 12's header does not have yet. */
enum { OPCODE_STATX = 52 };

struct sx_time {
	int64_t sec;
	uint32_t nsec;
	int32_t reserved;
};

struct sx_answer {
	struct fuse_out_header header;
	uint64_t valid_sec;
	uint32_t valid_nsec;
	uint32_t flags;
	uint64_t spare[2];

	uint32_t mask;
	uint32_t blksize;
	uint64_t attributes;
	uint32_t nlink;
	uint32_t uid;
	uint32_t gid;
	uint16_t mode;
	uint16_t spare0;
	uint64_t ino;
	uint64_t size;
	uint64_t blocks;
	uint64_t attributes_mask;
	struct sx_time atime, btime, ctime, mtime;
	uint32_t rdev_major, rdev_minor, dev_major, dev_minor;
	uint64_t spare2[14];
};
_Static_assert(sizeof(struct sx_answer) == sizeof(struct fuse_out_header) + 288, "as the kernel's");

static struct sx_time time_of(struct timespec t)
{
	return (struct sx_time){ .sec = t.tv_sec, .nsec = (uint32_t)t.tv_nsec };
}

static void fill(struct sx_answer *a, const struct shown *shown)
{
	const struct stat *st = &shown->st;

	a->valid_sec = (uint64_t)shown->attr_seconds;
	a->valid_nsec = (uint32_t)((shown->attr_seconds - (double)a->valid_sec) * 1e9);
	a->mask = STATX_BASIC_STATS | STATX_BTIME;
	a->blksize = (uint32_t)st->st_blksize;
	a->nlink = (uint32_t)st->st_nlink;
	a->uid = st->st_uid;
	a->gid = st->st_gid;
	a->mode = (uint16_t)st->st_mode;
	a->ino = st->st_ino;
	a->size = (uint64_t)st->st_size;
	a->blocks = (uint64_t)st->st_blocks;
	a->atime = time_of(st->st_atim);
	a->btime = time_of(shown->born);
	a->ctime = time_of(st->st_ctim);
	a->mtime = time_of(st->st_mtim);
	a->rdev_major = major(st->st_rdev);
	a->rdev_minor = minor(st->st_rdev);
}

/* That the asker has gone meanwhile (-ENOENT) is no trouble. */
static void answer(struct fs *fs, int fd, const struct fuse_in_header *request)
{
	struct node *node;
	struct sx_answer a = { .header = { .unique = request->unique } };
	struct shown shown;
	int rc = nodes_find(&fs->nodes, request->nodeid, &node);

	if (rc == 0)
		rc = node ? attr_show(fs, node, &shown) : -ENOENT;
	a.header.len = rc == 0 ? sizeof(a) : sizeof(a.header);
	if (rc == 0)
		fill(&a, &shown);
	else
		a.header.error = -reply_errno(fs, rc);
	if (write(fd, &a, a.header.len) < 0 && errno != ENOENT)
		say("an answer was not taken: %s", strerror(errno));
}

ssize_t statx_read(int fd, void *bytes, size_t size, void *fs)
{
	const struct fuse_in_header *request = bytes;
	ssize_t got;

	while ((got = read(fd, bytes, size)) >= (ssize_t)sizeof(*request) &&
	       request->opcode == OPCODE_STATX)
		answer(fs, fd, request);
	return got;
}

/* os_posix.c - the real machine: the only file of the store, with os_map.c, that makes system calls
 * (futexes and threads excepted).
 *
 * Everything is relative to the folder's descriptor, so it does not matter what becomes of its
 * path. Calls that a signal interrupted are made again.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "mem.h"
#include "os.h"
#include "os_map.h"

struct os_dir {
	int fd;
};

struct os_file {
	int fd;
	struct os_map *map;	/* or NULL */
};

/* The call's result, made again as long as signals interrupt it. */
#define UNINTERRUPTED(call)                                                                       \
	({                                                                                        \
		__typeof__(call) result_;                                                         \
		do                                                                                \
			result_ = (call);                                                         \
		while (result_ < 0 && errno == EINTR);                                            \
		result_;                                                                          \
	})

static int error_of(ssize_t result)
{
	return result < 0 ? -errno : 0;
}

/* ---- folders -------------------------------------------------------------------------- */

/* Makes the name of the new folder `fd` durable. Its parent may be one that we can write to but not
 * read; then the whole file system is synced. */
static int sync_parent(int fd)
{
	const int parent = openat(fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int rc;

	if (parent < 0)
		return error_of(UNINTERRUPTED(syncfs(fd)));
	rc = error_of(UNINTERRUPTED(fsync(parent)));
	close(parent);
	return rc;
}

static int posix_open_dir(struct os *os, const char *path, unsigned flags, struct os_dir **out)
{
	struct os_dir *dir = mem_alloc(sizeof(*dir));
	bool made = false;
	int rc = 0;
	(void)os;

	if (!dir)
		return -ENOMEM;
	dir->fd = -1;
	if (flags & OS_CREATE) {
		made = mkdir(path, 0700) == 0;
		if (!made && (errno != EEXIST || flags & OS_EXCLUSIVE)) {
			rc = -errno;
			goto out;
		}
	}
	dir->fd = UNINTERRUPTED(open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	rc = error_of(dir->fd);
	if (rc == 0 && made)
		rc = sync_parent(dir->fd);
	if (rc < 0)
		goto out;

	*out = dir;
	dir = NULL;
out:
	if (dir && dir->fd >= 0)
		close(dir->fd);
	mem_free(dir);
	return rc;
}

static void posix_close_dir(struct os_dir *dir)
{
	if (!dir)
		return;
	close(dir->fd);
	mem_free(dir);
}

static int posix_sync_dir(struct os_dir *dir)
{
	return error_of(UNINTERRUPTED(fsync(dir->fd)));
}

static bool is_dot(const char *name)
{
	return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

static int posix_list(struct os_dir *dir, int (*visit)(void *arg, const char *name), void *arg)
{
	const int fd = UNINTERRUPTED(openat(dir->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	struct dirent *entry;
	DIR *stream;
	int rc = 0;

	if (fd < 0)
		return -errno;
	stream = fdopendir(fd);
	if (!stream) {
		rc = -errno;
		close(fd);
		return rc;
	}
	while (rc == 0) {
		errno = 0;
		entry = readdir(stream);
		if (!entry) {
			rc = -errno;
			break;
		}
		if (!is_dot(entry->d_name))
			rc = visit(arg, entry->d_name);
	}
	closedir(stream);
	return rc;
}

static int posix_space(struct os_dir *dir, uint64_t *free_bytes, uint64_t *total_bytes)
{
	struct statvfs s;

	if (UNINTERRUPTED(fstatvfs(dir->fd, &s)) < 0)
		return -errno;
	*free_bytes = (uint64_t)s.f_bavail * s.f_frsize;
	*total_bytes = (uint64_t)s.f_blocks * s.f_frsize;
	/* What is kept for root is neither free nor used. */
	if (s.f_bfree > s.f_bavail && s.f_bfree <= s.f_blocks)
		*total_bytes -= (uint64_t)(s.f_bfree - s.f_bavail) * s.f_frsize;
	return 0;
}

/* ---- files ---------------------------------------------------------------------------- */

/* On Btrfs a write needs new room though it is over what was written before: on a full disk not
 * even the log could be written, and so nothing be removed. The flag, which only an empty file
 * takes, has it write in place. Other file systems do, or refuse the flag. */
static void write_in_place(const struct os_file *file, const struct stat *st)
{
	int flags;

	if (st->st_size == 0 && ioctl(file->fd, FS_IOC_GETFLAGS, &flags) == 0) {
		flags |= FS_NOCOW_FL;
		(void)!ioctl(file->fd, FS_IOC_SETFLAGS, &flags);
	}
}

/* O_NONBLOCK: what is no regular file is refused, and must not hold us up before we know. */
static int posix_open(struct os_dir *dir, const char *name, unsigned flags, struct os_file **out)
{
	const int mode = O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY | O_NONBLOCK |
			 (flags & OS_CREATE ? O_CREAT : 0) | (flags & OS_EXCLUSIVE ? O_EXCL : 0);
	struct os_file *file = mem_alloc(sizeof(*file));
	struct stat st;
	int rc;

	if (!file)
		return -ENOMEM;
	file->map = NULL;
	file->fd = UNINTERRUPTED(openat(dir->fd, name, mode, 0600));
	rc = error_of(file->fd);
	if (rc < 0)
		goto out;
	rc = error_of(fstat(file->fd, &st));
	if (rc == 0 && !S_ISREG(st.st_mode))
		rc = -EINVAL;
	if (rc < 0)
		goto out;
	if (flags & OS_CREATE)
		write_in_place(file, &st);

	*out = file;
	file = NULL;
out:
	if (file && file->fd >= 0)
		close(file->fd);
	mem_free(file);
	return rc;
}

static void posix_close(struct os_file *file)
{
	if (!file)
		return;
	os_map_done(file->map);
	close(file->fd);
	mem_free(file);
}

static int posix_remove(struct os_dir *dir, const char *name)
{
	return error_of(UNINTERRUPTED(unlinkat(dir->fd, name, 0)));
}

static bool in_range(uint64_t offset, uint64_t size)
{
	return offset <= INT64_MAX && size <= INT64_MAX - offset;
}

static ssize_t posix_read(struct os_file *file, void *bytes, size_t size, uint64_t offset)
{
	size_t done = 0;

	if (!in_range(offset, size))
		return -EINVAL;
	while (done < size) {
		const ssize_t n = UNINTERRUPTED(pread(file->fd, (char *)bytes + done, size - done,
						      (off_t)(offset + done)));
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		done += (size_t)n;
	}
	return (ssize_t)done;
}

static int posix_write(struct os_file *file, const void *bytes, size_t size, uint64_t offset)
{
	size_t done = 0;

	if (!in_range(offset, size))
		return -EFBIG;
	while (done < size) {
		const ssize_t n = UNINTERRUPTED(pwrite(file->fd, (const char *)bytes + done,
						       size - done, (off_t)(offset + done)));
		if (n < 0)
			return -errno;
		if (n == 0)
			return -EIO;
		done += (size_t)n;
	}
	return 0;
}

static int posix_map(struct os_file *file, size_t size)
{
	return os_map_new(file->fd, size, &file->map);
}

static int posix_put(struct os_file *file, const void *bytes, size_t size, uint64_t offset)
{
	return os_map_put(file->map, bytes, size, offset);
}

static atomic_uint syncs;	/* under way */

static int posix_sync(struct os_file *file)
{
	int rc;

	atomic_fetch_add(&syncs, 1);
	rc = error_of(UNINTERRUPTED(fdatasync(file->fd)));
	atomic_fetch_sub(&syncs, 1);
	return rc;
}

static bool posix_syncing(struct os *os)
{
	(void)os;
	return atomic_load(&syncs) > 0;
}

static int posix_flush(struct os_file *file, uint64_t offset, uint64_t size, bool wait)
{
	const unsigned begin = SYNC_FILE_RANGE_WRITE;
	const unsigned end = SYNC_FILE_RANGE_WAIT_BEFORE | begin | SYNC_FILE_RANGE_WAIT_AFTER;
	int rc;

	if (!in_range(offset, size))
		return -EFBIG;
	rc = error_of(UNINTERRUPTED(sync_file_range(file->fd, (off_t)offset, (off_t)size,
						    wait ? end : begin)));
	return rc == -ENOSYS ? 0 : rc;
}

static bool all_zeros(const char *bytes, size_t size)
{
	return size == 0 || (bytes[0] == 0 && memcmp(bytes, bytes + 1, size - 1) == 0);
}

/* What fallocate would do, for a file system that has none: zeros are written wherever zeros are
 * read, be they a hole, beyond the end, or real. Nobody may write there meanwhile. */
static int allocate_by_writing(struct os_file *file, uint64_t offset, uint64_t size)
{
	char bytes[4096];

	while (size) {
		const size_t part = size < sizeof(bytes) ? (size_t)size : sizeof(bytes);
		const ssize_t n = posix_read(file, bytes, part, offset);
		int rc = 0;

		if (n < 0)
			return (int)n;
		memset(bytes + n, 0, part - (size_t)n);
		if (all_zeros(bytes, (size_t)n))
			rc = posix_write(file, bytes, part, offset);
		else if ((size_t)n < part)
			rc = posix_write(file, bytes + n, part - (size_t)n, offset + (size_t)n);
		if (rc < 0)
			return rc;
		offset += part;
		size -= part;
	}
	return 0;
}

static int posix_allocate(struct os_file *file, uint64_t offset, uint64_t size)
{
	if (size == 0)
		return 0;
	if (!in_range(offset, size))
		return -EFBIG;
	if (UNINTERRUPTED(fallocate(file->fd, 0, (off_t)offset, (off_t)size)) == 0)
		return 0;
	if (errno != EOPNOTSUPP && errno != ENOSYS)
		return -errno;
	return allocate_by_writing(file, offset, size);
}

static int posix_truncate(struct os_file *file, uint64_t size)
{
	if (size > INT64_MAX)
		return -EFBIG;
	return error_of(UNINTERRUPTED(ftruncate(file->fd, (off_t)size)));
}

static int posix_size(struct os_file *file, uint64_t *size)
{
	struct stat st;

	if (fstat(file->fd, &st) < 0)
		return -errno;
	*size = (uint64_t)st.st_size;
	return 0;
}

/* flock, not fcntl: it belongs to the open file, so a second open in this process is refused too.
 *  */
static int posix_lock(struct os_file *file)
{
	if (UNINTERRUPTED(flock(file->fd, LOCK_EX | LOCK_NB)) == 0)
		return 0;
	return errno == EWOULDBLOCK ? -EBUSY : -errno;
}

/* ---- clocks and chance ---------------------------------------------------------------- */

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static uint64_t posix_now_ns(struct os *os)
{
	(void)os;
	return clock_ns(CLOCK_REALTIME);
}

static uint64_t posix_monotonic_ns(struct os *os)
{
	(void)os;
	return clock_ns(CLOCK_MONOTONIC);
}

static int posix_random(struct os *os, void *bytes, size_t size)
{
	size_t done = 0;
	(void)os;

	while (done < size) {
		const ssize_t n =
			UNINTERRUPTED(getrandom((char *)bytes + done, size - done, 0));
		if (n < 0)
			return -errno;
		done += (size_t)n;
	}
	return 0;
}

struct os *os_posix(void)
{
	static struct os table = {
		.open_dir = posix_open_dir,
		.close_dir = posix_close_dir,
		.sync_dir = posix_sync_dir,
		.list = posix_list,
		.space = posix_space,
		.open = posix_open,
		.close = posix_close,
		.remove = posix_remove,
		.read = posix_read,
		.write = posix_write,
		.map = posix_map,
		.put = posix_put,
		.sync = posix_sync,
		.flush = posix_flush,
		.syncing = posix_syncing,
		.allocate = posix_allocate,
		.truncate = posix_truncate,
		.size = posix_size,
		.lock = posix_lock,
		.now_ns = posix_now_ns,
		.monotonic_ns = posix_monotonic_ns,
		.random = posix_random,
	};
	return &table;
}

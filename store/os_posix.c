/* The real machine. The only file of the store that makes system calls for files. */
#include "os.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "mem.h"

struct os_dir {
	int fd;
};

struct os_file {
	int fd;
};

/* ---- folders ---------------------------------------------------------------------------- */

static int posix_open_dir(struct os *os, const char *path, unsigned flags, struct os_dir **out)
{
	struct os_dir *dir = mem_alloc(sizeof(*dir));
	int rc = 0;

	(void)os;
	if (!dir)
		return -ENOMEM;
	if ((flags & OS_CREATE) && mkdir(path, 0700) < 0 &&
	    (errno != EEXIST || (flags & OS_EXCLUSIVE)))
		rc = -errno;
	dir->fd = rc < 0 ? -1 : open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (rc == 0 && dir->fd < 0)
		rc = -errno;
	if (rc < 0)
		mem_free(dir);
	else
		*out = dir;
	return rc;
}

static void posix_close_dir(struct os_dir *dir)
{
	close(dir->fd);
	mem_free(dir);
}

static int posix_sync_dir(struct os_dir *dir)
{
	return fsync(dir->fd) < 0 ? -errno : 0;
}

static int each_name(DIR *stream, int (*visit)(void *arg, const char *name), void *arg)
{
	const struct dirent *e;
	int rc = 0;

	while (rc == 0) {
		errno = 0;
		e = readdir(stream);
		if (!e)
			return -errno;
		if (e->d_name[0] == '.' &&
		    (!e->d_name[1] || (e->d_name[1] == '.' && !e->d_name[2])))
			continue;
		rc = visit(arg, e->d_name);
	}
	return rc;
}

static int posix_list(struct os_dir *dir, int (*visit)(void *arg, const char *name), void *arg)
{
	const int fd = openat(dir->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *stream = fd < 0 ? NULL : fdopendir(fd);
	int rc;

	if (!stream) {
		rc = -errno;
		if (fd >= 0)
			close(fd);
		return rc;
	}
	rc = each_name(stream, visit, arg);
	closedir(stream);
	return rc;
}

static int posix_space(struct os_dir *dir, uint64_t *free_bytes, uint64_t *total_bytes)
{
	struct statvfs s;

	if (fstatvfs(dir->fd, &s) < 0)
		return -errno;
	*free_bytes = (uint64_t)s.f_bavail * s.f_frsize;
	*total_bytes = (uint64_t)s.f_blocks * s.f_frsize;
	return 0;
}

/* ---- files ------------------------------------------------------------------------------ */

static int posix_open(struct os_dir *dir, const char *name, unsigned flags, struct os_file **out)
{
	const int how = O_RDWR | O_CLOEXEC | O_NOFOLLOW |
			(flags & OS_CREATE ? O_CREAT : 0) | (flags & OS_EXCLUSIVE ? O_EXCL : 0);
	struct os_file *file = mem_alloc(sizeof(*file));

	if (!file)
		return -ENOMEM;
	file->fd = openat(dir->fd, name, how, 0600);
	if (file->fd < 0) {
		const int rc = -errno;

		mem_free(file);
		return rc;
	}
	*out = file;
	return 0;
}

static void posix_close(struct os_file *file)
{
	close(file->fd);
	mem_free(file);
}

static int posix_remove(struct os_dir *dir, const char *name)
{
	return unlinkat(dir->fd, name, 0) < 0 ? -errno : 0;
}

static ssize_t posix_read(struct os_file *file, void *bytes, size_t size, uint64_t offset)
{
	size_t done = 0;

	while (done < size) {
		const ssize_t n = pread(file->fd, (char *)bytes + done, size - done,
					(off_t)(offset + done));

		if (n == 0)
			break;
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0)
			done += (size_t)n;
	}
	return (ssize_t)done;
}

static int posix_write(struct os_file *file, const void *bytes, size_t size, uint64_t offset)
{
	size_t done = 0;

	while (done < size) {
		const ssize_t n = pwrite(file->fd, (const char *)bytes + done, size - done,
					 (off_t)(offset + done));

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0)
			done += (size_t)n;
	}
	return 0;
}

static int posix_sync(struct os_file *file)
{
	return fdatasync(file->fd) < 0 ? -errno : 0;
}

/* Where the file system cannot allocate, writing zeros does; only behind the end, where nothing is
 * lost by it. */
static int write_zeros(struct os_file *file, uint64_t offset, uint64_t end)
{
	static const uint8_t zeros[64 * 1024];
	struct stat st;
	int rc = 0;

	if (fstat(file->fd, &st) < 0)
		return -errno;
	if (offset < (uint64_t)st.st_size)
		offset = (uint64_t)st.st_size;
	while (rc == 0 && offset < end) {
		const size_t piece = end - offset < sizeof(zeros) ? (size_t)(end - offset) :
								     sizeof(zeros);

		rc = posix_write(file, zeros, piece, offset);
		offset += piece;
	}
	return rc;
}

static int posix_allocate(struct os_file *file, uint64_t offset, uint64_t size)
{
	int rc;

	do
		rc = fallocate(file->fd, 0, (off_t)offset, (off_t)size);
	while (rc < 0 && errno == EINTR);
	if (rc == 0)
		return 0;
	return errno == EOPNOTSUPP ? write_zeros(file, offset, offset + size) : -errno;
}

static int posix_truncate(struct os_file *file, uint64_t size)
{
	return ftruncate(file->fd, (off_t)size) < 0 ? -errno : 0;
}

static int posix_size(struct os_file *file, uint64_t *size)
{
	struct stat st;

	if (fstat(file->fd, &st) < 0)
		return -errno;
	*size = (uint64_t)st.st_size;
	return 0;
}

/* flock, not fcntl: it belongs to the open file, so that another open in this very process is
 * refused too. */
static int posix_lock(struct os_file *file)
{
	if (flock(file->fd, LOCK_EX | LOCK_NB) == 0)
		return 0;
	return errno == EWOULDBLOCK ? -EBUSY : -errno;
}

/* ---- clocks and chance ------------------------------------------------------------------ */

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
	(void)os;
	for (size_t done = 0; done < size;) {
		const ssize_t n = getrandom((char *)bytes + done, size - done, 0);

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0)
			done += (size_t)n;
	}
	return 0;
}

struct os *os_posix(void)
{
	static struct os os = {
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
		.sync = posix_sync,
		.allocate = posix_allocate,
		.truncate = posix_truncate,
		.size = posix_size,
		.lock = posix_lock,
		.now_ns = posix_now_ns,
		.monotonic_ns = posix_monotonic_ns,
		.random = posix_random,
	};

	return &os;
}

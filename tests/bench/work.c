/* Anything that fails ends the program: a bench of errors would be fast. */
#include "work.h"

#include <dirent.h>
#include <err.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
	FILES = 2000, /* made, rewritten, read, ... in each round */
	VALUE = 200,
	ENTRIES = 20000, /* of the folder that is listed */
	REPLACES = 400,  /* durable ones, by all threads together: times 4 with many */
	THREADS = 16,
	BIG = 256 << 20,
	BLOCK = 1 << 20,
};

static char value[VALUE];
static char block[BLOCK];

/* ---- time --------------------------------------------------------------------------------- */

static struct timespec began;
static double seconds;

static void start(void)
{
	clock_gettime(CLOCK_MONOTONIC, &began);
}

static void stop(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	seconds = (double)(now.tv_sec - began.tv_sec) + (double)(now.tv_nsec - began.tv_nsec) / 1e9;
}

double work_seconds(void)
{
	return seconds;
}

/* ---- small files --------------------------------------------------------------------------- */

static int ok(int rc, const char *what)
{
	if (rc < 0)
		err(1, "%s", what);
	return rc;
}

/* Writes a small file; on disk when this returns, if asked to. */
static void write_file(const struct place *p, const char *name, int flags, bool durable)
{
	const int fd = ok(openat(p->folder, name, O_WRONLY | O_CREAT | flags, 0644), name);

	if (write(fd, value, VALUE) != VALUE)
		err(1, "%s", name);
	if (durable && !p->close_is_durable)
		ok(fsync(fd), name);
	ok(close(fd), name);
}

static void read_file(const struct place *p, const char *name)
{
	char found[VALUE + 1];
	const int fd = ok(openat(p->folder, name, O_RDONLY), name);

	if (read(fd, found, sizeof(found)) != VALUE)
		errx(1, "%s has not %d bytes", name, VALUE);
	ok(close(fd), name);
}

/* The same order each time, but not that of creation. */
static void file_name(char *name, int i)
{
	sprintf(name, "files/%05d", (int)((unsigned)i * 787u % FILES));
}

static double create(struct place *p)
{
	char name[32];

	ok(mkdirat(p->folder, "files", 0755), "files");
	start();
	for (int i = 0; i < FILES; i++) {
		file_name(name, i);
		write_file(p, name, O_EXCL, false);
	}
	stop();
	return FILES;
}

static double overwrite(struct place *p)
{
	char name[32];

	start();
	for (int i = 0; i < FILES; i++) {
		file_name(name, i);
		write_file(p, name, O_TRUNC, false);
	}
	stop();
	return FILES;
}

static double read_all(struct place *p)
{
	char name[32];

	start();
	for (int i = 0; i < FILES; i++) {
		file_name(name, i);
		read_file(p, name);
	}
	stop();
	return FILES;
}

static double stat_all(struct place *p)
{
	struct stat st;
	char name[32];

	start();
	for (int i = 0; i < 10 * FILES; i++) {
		file_name(name, i);
		ok(fstatat(p->folder, name, &st, 0), name);
	}
	stop();
	return 10 * FILES;
}

static double rename_all(struct place *p)
{
	char name[32], other[40];

	start();
	for (int i = 0; i < FILES; i++) {
		file_name(name, i);
		sprintf(other, "%s+", name);
		ok(renameat(p->folder, name, p->folder, other), name);
	}
	stop();
	return FILES;
}

static double unlink_all(struct place *p)
{
	char name[40];

	start();
	for (int i = 0; i < FILES; i++) {
		file_name(name, i);
		strcat(name, "+");
		ok(unlinkat(p->folder, name, 0), name);
	}
	stop();
	ok(unlinkat(p->folder, "files", AT_REMOVEDIR), "files");
	return FILES;
}

/* ---- listing ------------------------------------------------------------------------------- */

static double list_entries(struct place *p, bool with_stat)
{
	const int fd = ok(openat(p->folder, "listed", O_RDONLY | O_DIRECTORY), "listed");
	DIR *d = fdopendir(fd);
	struct dirent *e;
	struct stat st;
	int count = 0;

	if (!d)
		err(1, "listed");
	start();
	while ((e = readdir(d))) {
		count++;
		if (with_stat)
			ok(fstatat(fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW), e->d_name);
	}
	stop();
	closedir(d);
	if (count != ENTRIES + 2)
		errx(1, "%d entries listed", count);
	return count;
}

static double list(struct place *p)
{
	return list_entries(p, false);
}

static double list_long(struct place *p)
{
	return list_entries(p, true);
}

/* ---- durable changes ----------------------------------------------------------------------- */

struct writer {
	const struct place *place;
	int id;
	int count;
	void (*put)(const struct place *place, const char *name);
	pthread_t thread;
};

/* What every careful program does on any file system. Each writer has a directory of its own: in a
 * shared one the kernel lets one rename at a time, and ours waits for the disk. */
static void replace(const struct place *p, const char *name)
{
	char temporary[40];
	int fd;

	sprintf(temporary, "%s.new", name);
	fd = ok(openat(p->folder, temporary, O_WRONLY | O_CREAT | O_TRUNC, 0644), temporary);
	if (write(fd, value, VALUE) != VALUE)
		err(1, "%s", temporary);
	ok(fsync(fd), temporary);
	ok(close(fd), temporary);
	ok(renameat(p->folder, temporary, p->folder, name), temporary);
	strcpy(temporary, name);
	*strrchr(temporary, '/') = '\0';
	fd = ok(openat(p->folder, temporary, O_RDONLY | O_DIRECTORY), temporary);
	ok(fsync(fd), temporary);
	ok(close(fd), temporary);
}

/* The shortest way to the same promise. */
static void put(const struct place *p, const char *name)
{
	if (p->put_is_atomic)
		write_file(p, name, O_TRUNC, true);
	else
		replace(p, name);
}

static void *write_on(void *arg)
{
	const struct writer *w = arg;
	char name[32];

	for (int i = 0; i < w->count; i++) {
		sprintf(name, "durable%02d/%02d", w->id, i % 20);
		w->put(w->place, name);
	}
	return NULL;
}

static double write_durably(struct place *p, int threads,
			    void (*how)(const struct place *, const char *))
{
	const int each = REPLACES * (threads > 1 ? 4 : 1) / threads;
	struct writer writers[THREADS];

	start();
	for (int i = 0; i < threads; i++) {
		writers[i] = (struct writer){ .place = p, .id = i, .count = each, .put = how };
		if (pthread_create(&writers[i].thread, NULL, write_on, &writers[i]) != 0)
			errx(1, "no thread");
	}
	for (int i = 0; i < threads; i++)
		pthread_join(writers[i].thread, NULL);
	stop();
	return each * threads;
}

static double replace_1(struct place *p)
{
	return write_durably(p, 1, replace);
}

static double replace_16(struct place *p)
{
	return write_durably(p, THREADS, replace);
}

static double put_1(struct place *p)
{
	return write_durably(p, 1, put);
}

static double put_16(struct place *p)
{
	return write_durably(p, THREADS, put);
}

/* ---- one big file -------------------------------------------------------------------------- */

static double write_big(struct place *p)
{
	int fd;

	start();
	fd = ok(openat(p->folder, "big", O_WRONLY | O_CREAT | O_TRUNC, 0644), "big");
	for (int done = 0; done < BIG; done += BLOCK)
		if (write(fd, block, BLOCK) != BLOCK)
			err(1, "big");
	ok(fsync(fd), "big");
	ok(close(fd), "big");
	stop();
	return BIG / 1e6;
}

static double read_big(struct place *p)
{
	const int fd = ok(openat(p->folder, "big", O_RDONLY), "big");

	posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	start();
	for (int done = 0; done < BIG; done += BLOCK)
		if (read(fd, block, BLOCK) != BLOCK)
			err(1, "big");
	stop();
	ok(close(fd), "big");
	return BIG / 1e6;
}

/* ---- all of it ----------------------------------------------------------------------------- */

void work_prepare(struct place *p)
{
	char name[32];

	memset(value, 'v', sizeof(value));
	for (size_t i = 0; i < sizeof(block); i++)
		block[i] = (char)rand();
	p->folder = ok(open(p->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), p->path);
	for (int i = 0; i < THREADS; i++) {
		sprintf(name, "durable%02d", i);
		ok(mkdirat(p->folder, name, 0755), name);
	}
	ok(mkdirat(p->folder, "listed", 0755), "listed");
	for (int i = 0; i < ENTRIES; i++) {
		sprintf(name, "listed/%06d", i);
		ok(mknodat(p->folder, name, S_IFREG | 0644, 0), name);
	}
}

const struct work works[] = {
	{ "create, write, close (200 B)", "/s", create },
	{ "overwrite (200 B)", "/s", overwrite },
	{ "open, read, close", "/s", read_all },
	{ "stat", "/s", stat_all },
	{ "list 20 000", "/s", list },
	{ "list and stat 20 000", "/s", list_long },
	{ "rename", "/s", rename_all },
	{ "unlink", "/s", unlink_all },
	{ "durable replace, 1 writer", "/s", replace_1 },
	{ "durable replace, 16 writers", "/s", replace_16 },
	{ "durable put, 1 writer *", "/s", put_1 },
	{ "durable put, 16 writers *", "/s", put_16 },
	{ "write 256 MiB, fsync", "MB/s", write_big },
	{ "read 256 MiB", "MB/s", read_big },
	{ 0 },
};

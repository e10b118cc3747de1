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
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

enum {
	FILES = 2000, /* made, rewritten, read, ... in each round */
	VALUE = 200,
	ENTRIES = 20000, /* of the folder that is listed, */
	MANY = 200000,   /* and of a larger one */
	REPLACES = 400,  /* durable ones, by all threads together: times 4 with many */
	THREADS = 16,
	BIG = 1 << 30,
	BIG_QUICK = 128 << 20,
	BLOCK = 1 << 20,
};

static int big = BIG;

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

/* Has the kernel forget all names and attributes that it can: only root may ask for it. All mounts
 * are told then, of hundreds of thousands after a long listing; the kernel frees what they were, and
 * cubby gives its memory back a second later. Each would disturb the others. */
static void drop_names(int most)
{
	const struct timespec while_told = { most == MANY ? 2 : 0, 500000000 };
	const int fd = open("/proc/sys/vm/drop_caches", O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return;
	if (write(fd, "2", 1) != 1)
		warn("drop_caches");
	close(fd);
	nanosleep(&while_told, NULL);
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

/* What the kernel has cached of the contents is dropped first; names and attributes stay. */
static double read_all_cold(struct place *p)
{
	char name[32];
	int fd;

	for (int i = 0; i < FILES; i++) {
		file_name(name, i);
		fd = ok(openat(p->folder, name, O_RDONLY), name);
		posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
		ok(close(fd), name);
	}
	return read_all(p);
}

/* Neither names nor contents are known to the kernel. */
static double read_all_first(struct place *p)
{
	drop_names(FILES);
	return read_all(p);
}

static double set_xattr_all(struct place *p)
{
	char name[32], path[4096];

	start();
	for (int i = 0; i < FILES; i++) {
		file_name(name, i);
		snprintf(path, sizeof(path), "%s/%s", p->path, name);
		ok(setxattr(path, "user.colour", "green", 5, 0), name);
	}
	stop();
	return FILES;
}

/* Names that nobody has asked for yet. */
static double miss_all(struct place *p)
{
	struct stat st;
	char name[48];

	start();
	for (int i = 0; i < FILES; i++) {
		sprintf(name, "files/absent-%d-%05d", p->round, i);
		if (fstatat(p->folder, name, &st, 0) == 0)
			errx(1, "%s is there", name);
	}
	stop();
	return FILES;
}

static double stat_each(struct place *p, int times)
{
	struct stat st;
	char name[32];

	start();
	for (int i = 0; i < times * FILES; i++) {
		file_name(name, i);
		ok(fstatat(p->folder, name, &st, 0), name);
	}
	stop();
	return times * FILES;
}

/* The kernel knows them all, whatever it has forgotten for the other places' sake. */
static double stat_all(struct place *p)
{
	stat_each(p, 1);
	return stat_each(p, 10);
}

static double stat_all_cold(struct place *p)
{
	drop_names(FILES);
	return stat_each(p, 1);
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

static double list_entries(struct place *p, const char *folder, int entries, bool with_stat)
{
	int count = 0, fd;
	struct dirent *e;
	struct stat st;
	DIR *d;

	drop_names(entries);
	start();
	fd = ok(openat(p->folder, folder, O_RDONLY | O_DIRECTORY), folder);
	d = fdopendir(fd);
	if (!d)
		err(1, "%s", folder);
	while ((e = readdir(d))) {
		count++;
		if (with_stat)
			ok(fstatat(fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW), e->d_name);
	}
	closedir(d);
	stop();
	if (count != entries + 2)
		errx(1, "%d entries listed", count);
	return count;
}

static double list(struct place *p)
{
	return list_entries(p, "listed", ENTRIES, false);
}

static double list_long(struct place *p)
{
	return list_entries(p, "listed", ENTRIES, true);
}

static double list_many(struct place *p)
{
	return list_entries(p, "many", MANY, false);
}

static double list_many_long(struct place *p)
{
	return list_entries(p, "many", MANY, true);
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
	for (int done = 0; done < big; done += BLOCK)
		if (write(fd, block, BLOCK) != BLOCK)
			err(1, "big");
	ok(fsync(fd), "big");
	ok(close(fd), "big");
	stop();
	return big / 1e6;
}

/* A mount's pages are dropped; what the kernel has cached of the disk below it stays. */
static double read_big(struct place *p)
{
	const int fd = ok(openat(p->folder, "big", O_RDONLY), "big");

	posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	start();
	for (int done = 0; done < big; done += BLOCK)
		if (read(fd, block, BLOCK) != BLOCK)
			err(1, "big");
	stop();
	ok(close(fd), "big");
	return big / 1e6;
}

/* ---- all of it ----------------------------------------------------------------------------- */

static void make_listed(const struct place *p, const char *folder, int count)
{
	char name[32];

	ok(mkdirat(p->folder, folder, 0755), folder);
	for (int i = 0; i < count; i++) {
		sprintf(name, "%s/%06d", folder, i);
		ok(mknodat(p->folder, name, S_IFREG | 0644, 0), name);
	}
}

enum {
	EVERYWHERE = 1 << PLAIN | 1 << NULLFS | 1 << STANDARD | 1 << CLOSE,
	DURABLY = 1 << PLAIN | 1 << STANDARD | 1 << CLOSE,
	BIGLY = 1 << PLAIN | 1 << PASSTHROUGH | 1 << STANDARD | 1 << CLOSE,
};

/* passthrough_ll, an example, gets nothing but the big file. */
void work_prepare(struct place *p, unsigned places, bool quick)
{
	char name[32];

	memset(value, 'v', sizeof(value));
	for (size_t i = 0; i < sizeof(block); i++)
		block[i] = (char)rand();
	big = quick ? BIG_QUICK : BIG;
	p->folder = ok(open(p->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), p->path);
	for (int i = 0; i < THREADS && places & DURABLY; i++) {
		sprintf(name, "durable%02d", i);
		ok(mkdirat(p->folder, name, 0755), name);
	}
	if (places & EVERYWHERE)
		make_listed(p, "listed", ENTRIES);
	if (places & EVERYWHERE && !quick)
		make_listed(p, "many", MANY);
}

const struct work works[] = {
	{ "create, write, close (200 B)", "/s", create, EVERYWHERE },
	{ "overwrite (200 B)", "/s", overwrite, EVERYWHERE },
	{ "open, read, close, unknown", "/s", read_all_first, EVERYWHERE },
	{ "open, read, close, cold", "/s", read_all_cold, EVERYWHERE },
	{ "open, read, close, warm", "/s", read_all, EVERYWHERE },
	{ "setxattr", "/s", set_xattr_all, EVERYWHERE },
	{ "stat, cold", "/s", stat_all_cold, EVERYWHERE },
	{ "stat, warm", "/s", stat_all, EVERYWHERE },
	{ "stat of what is not there", "/s", miss_all, EVERYWHERE },
	{ "list 20 000 (ls -f)", "/s", list, EVERYWHERE },
	{ "list and stat 20 000 (ls -l)", "/s", list_long, EVERYWHERE },
	{ "list 200 000 (ls -f)", "/s", list_many, EVERYWHERE },
	{ "list and stat 200 000 (ls -l)", "/s", list_many_long, EVERYWHERE },
	{ "rename", "/s", rename_all, EVERYWHERE },
	{ "unlink", "/s", unlink_all, EVERYWHERE },
	{ "durable replace, 1 writer", "/s", replace_1, DURABLY },
	{ "durable replace, 16 writers", "/s", replace_16, DURABLY },
	{ "durable put, 1 writer *", "/s", put_1, DURABLY },
	{ "durable put, 16 writers *", "/s", put_16, DURABLY },
	{ "write 1 GiB, fsync", "MB/s", write_big, BIGLY },
	{ "read 1 GiB", "MB/s", read_big, BIGLY },
	{ 0 },
};

bool work_wanted(const struct work *work, bool quick)
{
	return !quick || (work->run != list_many && work->run != list_many_long);
}

const char *work_part(const struct work *work)
{
	return work->places == BIGLY ? "big" : work->places == DURABLY ? "durable" : "small";
}

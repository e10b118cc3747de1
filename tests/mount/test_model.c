/* The same random steps on the mount and on a plain folder of the disk: every answer must be the
 * same, and so must everything that can be seen afterwards. Now and then it is mounted again, or
 * the daemon is killed when everything was synced. SEED= repeats a run, STEPS= makes it longer. */
#include "mount/mount.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

enum {
	STEPS_DEFAULT = 20000,
	LOOK_EVERY = 250, /* steps, at everything */
	REMOUNT_EVERY = 5000,
	KILL_EVERY = 7000,
	SYNC_EVERY_US = 5000,
	SLOTS = 6,          /* files kept open */
	SMALL = 200000, /* bytes that a write, or a file not grown by it, has at most */
	LARGE = 6000000, /* more than a draft keeps in memory */
	LARGE_COST = 20, /* such a step takes as long as so many others */
	MAPPED = 128 * 1024, /* of a file that is kept open for reading and writing */
	XATTR_MAX = 800,
	TOLD = 12,          /* steps that are told when one goes wrong */
	PATHS = 3 + 9 + 27,
	SIDES = 2, /* the plain folder, the mount */
};

enum action {
	OPEN,
	CLOSE,
	WRITE,
	READ,
	FTRUNCATE,
	FSYNC,
	MAP_WRITE,
	MAP_READ,
	MSYNC,
	ALLOCATE,
	COPY,
	FSTAT,
	STAT,
	UNLINK,
	MKDIR,
	RMDIR,
	RENAME,
	LINK,
	SYMLINK,
	READLINK,
	CHMOD,
	CHOWN,
	FIFO,
	TRUNCATE,
	TIMES,
	XATTR_SET,
	XATTR_GET,
	XATTR_REMOVE,
	XATTR_LIST,
	LIST,
	CONTENT,
	ACTIONS,
};

static const char *const names[ACTIONS] = {
	"open",	     "close",	 "write",    "read",	  "ftruncate", "fsync",	    "map_write",
	"map_read",  "msync",	 "allocate", "copy",	  "fstat",     "stat",	    "unlink",
	"mkdir",     "rmdir",	 "rename",   "link",	  "symlink",   "readlink",  "chmod",
	"chown",     "fifo",	 "truncate", "times",	  "xattr_set", "xattr_get", "xattr_remove",
	"xattr_list", "list",	 "content",
};

struct step {
	enum action action;
	unsigned slot;
	unsigned path, other; /* numbers of paths */
	int flags;
	mode_t mode;
	off_t offset;
	size_t size;
	uint64_t seed; /* of what is written */
};

static char roots[SIDES][4096];
static size_t biggest;	/* SMALL or LARGE */
static uint8_t *bytes; /* twice as many */
static int slots[SIDES][SLOTS];
static uint8_t *maps[SIDES][SLOTS]; /* NULL: none */

/* "a", "b", "c", "a/a", ... "c/c/c" */
static const char *path_of(unsigned path)
{
	static char text[2][8];
	static unsigned turn;
	char *p = text[turn++ % 2];
	const unsigned n = path < 3 ? path : path < 12 ? path - 3 : path - 12;

	if (path < 3)
		sprintf(p, "%c", 'a' + n);
	else if (path < 12)
		sprintf(p, "%c/%c", 'a' + n / 3, 'a' + n % 3);
	else
		sprintf(p, "%c/%c/%c", 'a' + n / 9, 'a' + n / 3 % 3, 'a' + n % 3);
	return p;
}

static void full_path(char *to, int side, unsigned path)
{
	snprintf(to, 4096 + 8, "%s/%s", roots[side], path_of(path));
}

/* ---- what a step shows, as a number -------------------------------------------------------- */

static uint64_t mix(uint64_t sum, const void *data, size_t size)
{
	const uint8_t *p = data;
	uint64_t word;

	for (; size >= sizeof(word); p += sizeof(word), size -= sizeof(word)) {
		memcpy(&word, p, sizeof(word));
		sum = (sum ^ word) * 0x100000001b3;
		sum ^= sum >> 29;
	}
	while (size-- > 0)
		sum = (sum ^ *p++) * 0x100000001b3;
	return sum;
}

/* Type, mode and owner; of a file also size and links; of a link its size. */
static uint64_t mix_stat(uint64_t sum, const struct stat *st)
{
	sum = mix(sum, &st->st_mode, sizeof(st->st_mode));
	sum = mix(sum, &st->st_uid, sizeof(st->st_uid));
	if (!S_ISDIR(st->st_mode))
		sum = mix(sum, &st->st_size, sizeof(st->st_size));
	return mix(sum, &st->st_nlink, sizeof(st->st_nlink));
}

static int by_name(const void *a, const void *b)
{
	return strcmp(a, b);
}

static long list(const char *path, uint64_t *sum)
{
	char found[64][8];
	DIR *d = opendir(path);
	struct dirent *e;
	size_t count = 0;

	if (!d)
		return -1;
	while ((e = readdir(d)) && count < 64)
		snprintf(found[count++], sizeof(found[0]), "%.7s", e->d_name);
	closedir(d);
	qsort(found, count, sizeof(found[0]), by_name);
	for (size_t i = 0; i < count; i++)
		*sum = mix(*sum, found[i], strlen(found[i]) + 1);
	return (long)count;
}

static long read_at(int fd, off_t offset, size_t size, uint64_t *sum)
{
	const ssize_t n = pread(fd, bytes, size, offset);

	if (n > 0)
		*sum = mix(*sum, bytes, (size_t)n);
	return n;
}

static long content(const char *path, uint64_t *sum)
{
	const int fd = open(path, O_RDONLY | O_NONBLOCK);
	long n;

	if (fd < 0)
		return -1;
	n = read_at(fd, 0, biggest * 2, sum);
	if (n < 0) {
		const int error = errno;

		close(fd);
		errno = error;
		return -1;
	}
	close(fd);
	return n;
}

/* ---- mappings ----------------------------------------------------------------------------- */

static void map_slot(int side, unsigned slot)
{
	void *at = mmap(NULL, MAPPED, PROT_READ | PROT_WRITE, MAP_SHARED, slots[side][slot], 0);

	maps[side][slot] = at == MAP_FAILED ? NULL : at;
}

static void unmap_slot(int side, unsigned slot)
{
	if (maps[side][slot])
		assert_ok(munmap(maps[side][slot], MAPPED));
	maps[side][slot] = NULL;
}

/* How much of the step's range is mapped and within the file: beyond would be SIGBUS. */
static size_t within_map(const struct step *s, int side)
{
	struct stat st;
	off_t end = MAPPED;

	if (!maps[side][s->slot] || fstat(slots[side][s->slot], &st) < 0)
		return 0;
	if (st.st_size < end)
		end = st.st_size;
	if (s->offset >= end)
		return 0;
	return s->offset + (off_t)s->size < end ? s->size : (size_t)(end - s->offset);
}

static long act_on_map(const struct step *s, int side, uint64_t *sum)
{
	uint8_t *map = maps[side][s->slot];
	const size_t size = within_map(s, side);

	if (!map)
		return 0;
	if (s->action == MSYNC)
		return msync(map, MAPPED, MS_SYNC);
	if (s->action == MAP_WRITE)
		random_fill(map + s->offset, size, s->seed);
	else
		*sum = mix(*sum, map + s->offset, size);
	return (long)size;
}

static void msync_all(int side)
{
	for (unsigned slot = 0; slot < SLOTS; slot++)
		if (maps[side][slot])
			assert_ok(msync(maps[side][slot], MAPPED, MS_SYNC));
}

/* Linux 6.18 may lose what is written behind the end of a file that is being written back, on any
 * FUSE file system (fs/DESIGN.md, "Written back"): so nothing is. */
static void avoid_linux(const struct step *s, int side)
{
	struct stat st;

	if (fstat(slots[side][s->slot], &st) < 0)
		return;
	if (s->offset + (off_t)s->size > st.st_size ||
	    fcntl(slots[side][s->slot], F_GETFL) & O_APPEND)
		msync_all(side);
}

/* ---- steps --------------------------------------------------------------------------------- */

/* All of it, however little at a time. */
static long copy(const struct step *s, int side)
{
	const int to = slots[side][s->other % SLOTS];
	loff_t in = s->offset, out = (loff_t)(s->seed % biggest);
	long done = 0;
	ssize_t n = 0;

	if (to < 0)
		return 0;
	while ((size_t)done < s->size &&
	       (n = copy_file_range(slots[side][s->slot], &in, to, &out, s->size - (size_t)done,
				    0)) > 0)
		done += n;
	return n < 0 ? -1 : done;
}

static long act_on_slot(const struct step *s, int side, uint64_t *sum)
{
	int *slot = &slots[side][s->slot];
	struct stat st;
	long rc;

	switch (s->action) {
	case CLOSE:
		unmap_slot(side, s->slot);
		rc = close(*slot);
		*slot = -1;
		return rc;
	case WRITE:
		avoid_linux(s, side);
		random_fill(bytes, s->size, s->seed);
		return pwrite(*slot, bytes, s->size, s->offset);
	case READ:
		return read_at(*slot, s->offset, s->size, sum);
	case FTRUNCATE:
		return ftruncate(*slot, s->offset);
	case FSYNC:
		return fsync(*slot);
	case MAP_WRITE:
	case MAP_READ:
	case MSYNC:
		return act_on_map(s, side, sum);
	case ALLOCATE:
		return fallocate(*slot, s->flags, s->offset, (off_t)s->size);
	case COPY:
		return copy(s, side);
	default:
		if (fstat(*slot, &st) < 0)
			return -1;
		*sum = mix_stat(*sum, &st);
		return 0;
	}
}

/* Adds up the names in any order, but for those that only one side has. */
static long list_xattrs(const char *path, uint64_t *sum)
{
	char list[1024];
	const ssize_t size = llistxattr(path, list, sizeof(list));
	long count = 0;

	for (const char *name = list; name < list + size; name += strlen(name) + 1) {
		if (strncmp(name, "user.cubby.", 11) == 0)
			continue;
		*sum += mix(0, name, strlen(name));
		count++;
	}
	return size < 0 ? -1 : count;
}

static long act_on_xattr(const struct step *s, const char *path, uint64_t *sum)
{
	static const char *const xattrs[] = { "user.x", "user.y", "user.a longer name" };
	const char *name = xattrs[s->other % 3];
	uint8_t value[XATTR_MAX];
	ssize_t size;

	switch (s->action) {
	case XATTR_SET:
		random_fill(value, s->size % XATTR_MAX, s->seed);
		return lsetxattr(path, name, value, s->size % XATTR_MAX, s->flags);
	case XATTR_GET:
		size = lgetxattr(path, name, value, sizeof(value));
		if (size > 0)
			*sum = mix(*sum, value, (size_t)size);
		return size;
	case XATTR_REMOVE:
		return lremovexattr(path, name);
	default:
		return list_xattrs(path, sum);
	}
}

static long act_on_path(const struct step *s, int side, uint64_t *sum)
{
	const struct timespec times[2] = { { s->offset, 1 }, { s->offset, 999999999 } };
	char path[4096 + 8], other[4096 + 8], text[64];
	struct stat st;
	long rc;

	full_path(path, side, s->path);
	full_path(other, side, s->other);
	switch (s->action) {
	case STAT:
		if (lstat(path, &st) < 0)
			return -1;
		*sum = mix_stat(*sum, &st);
		return 0;
	case UNLINK:
		return unlink(path);
	case MKDIR:
		return mkdir(path, s->mode);
	case RMDIR:
		return rmdir(path);
	case RENAME:
		return syscall(SYS_renameat2, AT_FDCWD, path, AT_FDCWD, other, s->flags);
	case LINK:
		return linkat(AT_FDCWD, path, AT_FDCWD, other, 0);
	case SYMLINK:
		return symlink(path_of(s->other), path);
	case READLINK:
		rc = readlink(path, text, sizeof(text));
		if (rc > 0)
			*sum = mix(*sum, text, (size_t)rc);
		return rc;
	case CHMOD:
		return chmod(path, s->mode);
	case TRUNCATE:
		return truncate(path, s->offset);
	case TIMES:	/* what a mapping changed may get its time as late as at msync (POSIX) */
		msync_all(side);
		if (utimensat(AT_FDCWD, path, times, AT_SYMLINK_NOFOLLOW) < 0 ||
		    lstat(path, &st) < 0)
			return -1;
		*sum = mix(*sum, &st.st_mtim, sizeof(st.st_mtim));
		return 0;
	case FIFO:
		return mkfifo(path, s->mode & 0777);
	case CHOWN:
		return lchown(path, (uid_t)(s->seed % 3), (gid_t)(s->seed / 3 % 3));
	case XATTR_SET:
	case XATTR_GET:
	case XATTR_REMOVE:
	case XATTR_LIST:
		return act_on_xattr(s, path, sum);
	case LIST:
		return list(path, sum);
	default:
		return content(path, sum);
	}
}

static long open_slot(const struct step *s, int side)
{
	char path[4096 + 8];

	full_path(path, side, s->path);
	slots[side][s->slot] = open(path, s->flags | O_NONBLOCK, s->mode);
	if (slots[side][s->slot] < 0)
		return -1;
	map_slot(side, s->slot);
	return 0;
}

struct answer {
	long rc;
	int error;
	uint64_t sum;
};

static struct answer act(const struct step *s, int side)
{
	struct answer a = { .sum = 0xcbf29ce484222325 };

	errno = 0;
	if (s->action == OPEN)
		a.rc = open_slot(s, side);
	else if (s->action <= FSTAT)
		a.rc = act_on_slot(s, side, &a.sum);
	else
		a.rc = act_on_path(s, side, &a.sum);
	a.error = a.rc < 0 ? errno : 0;
	return a;
}

/* Those that are not so deep more often, so that there is something at most of them. */
static unsigned choose_path(uint64_t *seed)
{
	const uint64_t r = random_next(seed);

	return (unsigned)(r >> 8) % (r & 7 ? 12 : PATHS);
}

static struct step choose(uint64_t *seed)
{
	static const int opens[] = { O_RDWR | O_CREAT,
				     O_RDWR,
				     O_RDWR | O_TRUNC,
				     O_RDONLY,
				     O_RDWR | O_CREAT | O_TRUNC,
				     O_RDWR | O_CREAT | O_EXCL,
				     O_RDWR | O_CREAT,
				     O_RDWR | O_CREAT | O_APPEND,
				     O_WRONLY | O_CREAT | O_APPEND };
	static const int renames[] = { 0, 0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE };
	static const int sets[] = { 0, 0, XATTR_CREATE, XATTR_REPLACE };
	static const int allocations[] = { 0, FALLOC_FL_KEEP_SIZE, FALLOC_FL_ZERO_RANGE,
					   FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
					   FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE };
	const uint64_t r = random_next(seed);
	struct step s = {
		.action = random_next(seed) % ACTIONS,
		.slot = (unsigned)(r % SLOTS),
		.path = choose_path(seed),
		.other = choose_path(seed),
		.mode = 0600 | (r >> 8 & 0177) | (r & 1 << 22 ? r >> 30 & 06000 : 0),
		.offset = (off_t)(random_next(seed) % (r & 1 << 20 ? 5000 : biggest)),
		.size = random_next(seed) % (r & 1 << 21 ? 300 : biggest),
		.seed = r,
	};

	if (r & 1 << 23 && slots[0][s.slot] >= 0)
		s.action = WRITE + random_next(seed) % (FSTAT - WRITE + 1);
	if (s.action == RENAME)
		s.flags = renames[r % 5];
	else if (s.action == XATTR_SET)
		s.flags = sets[r % 4];
	else if (s.action == ALLOCATE)
		s.flags = allocations[r % 5];
	else
		s.flags = opens[r % (sizeof(opens) / sizeof(*opens))];
	if (s.action == OPEN && slots[0][s.slot] >= 0)
		s.action = CLOSE;
	else if (s.action <= FSTAT && slots[0][s.slot] < 0)
		s.action = OPEN;
	return s;
}

/* ---- the run ------------------------------------------------------------------------------- */

static struct step told[TOLD]; /* the last steps, in a ring */
static struct answer answers[TOLD];

static void tell(uint64_t step)
{
	for (uint64_t i = step < TOLD ? 0 : step - TOLD + 1; i <= step; i++) {
		const struct step *s = &told[i % TOLD];

		print_message("%6" PRIu64
			      " %-12s slot %u, %-5s %-5s flags %#x, at %jd, size %zu: %ld %s\n",
			      i, names[s->action], s->slot, path_of(s->path), path_of(s->other),
			      s->flags, (intmax_t)s->offset, s->size, answers[i % TOLD].rc,
			      answers[i % TOLD].error ? strerror(answers[i % TOLD].error) : "");
	}
}

/* Says in which ranges the sides differ, and with which bytes these begin and end. */
static void tell_ranges(const char *how, const uint8_t *plain, const uint8_t *mount, size_t size)
{
	for (size_t at = 0, end; at < size; at = end) {
		const bool same = plain[at] == mount[at];

		for (end = at; end < size && (plain[end] == mount[end]) == same; end++)
			;
		if (!same)
			print_message("%s: %zu to %zu: %02x ... %02x, not %02x ... %02x\n", how, at, end,
				      mount[at], mount[end - 1], plain[at], plain[end - 1]);
	}
}

static void tell_files(const char *how, const int *fds)
{
	const ssize_t plain = pread(fds[0], bytes, biggest, 0);
	const ssize_t mount = pread(fds[1], bytes + biggest, biggest, 0);
	const ssize_t size = plain < mount ? plain : mount;

	print_message("%s: %zd bytes, not %zd\n", how, mount, plain);
	if (size > 0)
		tell_ranges(how, bytes, bytes + biggest, (size_t)size);
}

/* Of a step that has read a file: as it is read now, too, and without what the kernel has cached. */
static void tell_difference(const struct step *s)
{
	char path[4096 + 8];
	int fds[SIDES];

	if (s->action != READ && s->action != CONTENT && s->action != MAP_READ)
		return;
	for (int side = 0; side < SIDES; side++) {
		full_path(path, side, s->path);
		fds[side] = s->action == CONTENT ? open(path, O_RDONLY | O_NONBLOCK) :
						   dup(slots[side][s->slot]);
	}
	if (s->action == MAP_READ)
		tell_ranges("mapped", maps[0][s->slot] + s->offset, maps[1][s->slot] + s->offset,
			    within_map(s, 0));
	tell_files("read", fds);
	fsync(fds[1]);
	posix_fadvise(fds[1], 0, 0, POSIX_FADV_DONTNEED);
	tell_files("not cached", fds);
	for (int side = 0; side < SIDES; side++)
		close(fds[side]);
}

static void act_on_both(const struct step *s, uint64_t step)
{
	const struct answer a = act(s, 0);
	const struct answer b = act(s, 1);

	told[step % TOLD] = *s;
	answers[step % TOLD] = a;
	if (a.rc == b.rc && a.error == b.error && a.sum == b.sum)
		return;
	tell(step);
	tell_difference(s);
	fail_msg("the mount answered %ld %s%s", b.rc, b.error ? strerror(b.error) : "",
		 a.rc == b.rc && a.error == b.error ? "with other data" : "");
}

static void look_at_everything(uint64_t step)
{
	static const enum action looks[] = { STAT, READLINK, XATTR_LIST, LIST, CONTENT };

	for (unsigned path = 0; path < PATHS; path++) {
		for (size_t i = 0; i < sizeof(looks) / sizeof(*looks); i++)
			act_on_both(&(struct step){ .action = looks[i], .path = path }, step);
		for (unsigned name = 0; name < 3; name++)
			act_on_both(
				&(struct step){ .action = XATTR_GET, .path = path, .other = name },
				step);
	}
}

static void close_all(void)
{
	for (unsigned slot = 0; slot < SLOTS; slot++)
		for (int side = 0; side < SIDES; side++) {
			unmap_slot(side, slot);
			if (slots[side][slot] >= 0)
				close(slots[side][slot]);
			slots[side][slot] = -1;
		}
}

static void remount(void)
{
	close_all();
	mount_again();
}

/* What was only opened for writing, or emptied, is published by the sync, as is what is staged. */
static void sync_all(void)
{
	char path[4096 + 8];
	int fd;

	for (unsigned slot = 0; slot < SLOTS; slot++)
		if (slots[1][slot] >= 0 && fsync(slots[1][slot]) < 0)
			assert_int_equal(errno, EINVAL); /* of a fifo */
	for (unsigned i = 0; i < PATHS; i++) {
		full_path(path, 1, i);
		fd = open(path, O_RDONLY | O_NONBLOCK | O_NOFOLLOW);
		if (fd < 0)
			continue;
		if (fsync(fd) < 0)
			assert_int_equal(errno, EINVAL);
		assert_ok(close(fd));
	}
}

/* The daemon dies with files open and mapped. All of it was published, and so must be there. */
static void kill_and_mount(void)
{
	sync_all();
	mount_kill();
	close_all();
	mount_start(getenv("MOUNT_OPTIONS"));
}

/* As others on the same machine do, at any moment: pages changed through a mapping are then written
 * beside whatever step is being taken. */
static int sync_now_and_then(void *arg)
{
	(void)arg;
	assert_ok(chdir("/"));	/* the mount is not to be busy */
	while (usleep(SYNC_EVERY_US) == 0)
		sync();
	return 1;
}

static void begin(void)
{
	snprintf(roots[0], sizeof(roots[0]), "%s/plain", base_path());
	snprintf(roots[1], sizeof(roots[1]), "%s", point_path());
	assert_ok(mkdir(roots[0], 0755));
	umask(022);
	memset(slots, -1, sizeof(slots));
	memset(maps, 0, sizeof(maps));
	bytes = malloc(2 * biggest);
	assert_non_null(bytes);
}

static void take_steps(uint64_t steps, uint64_t often)
{
	uint64_t seed = number_from_env("SEED", (uint64_t)now_ms());
	pid_t other;

	print_message("SEED=%" PRIu64 " STEPS=%" PRIu64 "\n", seed, steps * often);
	begin();
	other = spawn(sync_now_and_then, NULL);
	for (uint64_t i = 0; i < steps; i++) {
		const struct step s = choose(&seed);
		const uint64_t n = (i + 1) * often;

		act_on_both(&s, i);
		if (n % LOOK_EVERY < often)
			look_at_everything(i);
		if (n % REMOUNT_EVERY < often) {
			remount();
			look_at_everything(i);
		}
		if (n % KILL_EVERY < often) {
			kill_and_mount();
			look_at_everything(i);
		}
	}
	remount();
	kill(other, SIGKILL);
	assert_int_equal(waitpid(other, NULL, 0), other);
	free(bytes);
}

static void the_mount_answers_as_the_disk_does(void **state)
{
	(void)state;
	biggest = SMALL;
	take_steps(number_from_env("STEPS", STEPS_DEFAULT), 1);
}

static void large_files_do_too(void **state)
{
	(void)state;
	biggest = LARGE;
	take_steps(number_from_env("STEPS", STEPS_DEFAULT) / LARGE_COST, LARGE_COST);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, mount_begin, mount_end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(the_mount_answers_as_the_disk_does),
		TEST(large_files_do_too),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

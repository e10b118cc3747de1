/* Several processes do random things to the same few names at once. Nobody can say what comes of
 * it, but no call may answer what it never could, and afterwards everything must fit together:
 * names and counts, sizes and contents, in the mount, after mounting again, and in the store
 * itself. SEED= repeats the choices (not their order), STEPS= makes it longer. */
#include "mount/mount.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
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

#include "err.h"
#include "os.h"
#include "store.h"

enum {
	CROWD = 6,
	STEPS_DEFAULT = 9000, /* of all together, in a round */
	ROUNDS = 3,
	BIGGEST = 150000,
	MEMBERS_MAX = 4096, /* that may be there in the end */
};

static uint64_t seed;

/* ---- one of the crowd ----------------------------------------------------------------------- */

/* "a", "a/b", "a/b/c": whatever depth, few names. */
static void choose_path(char path[8], uint64_t *random)
{
	const uint64_t r = random_next(random);
	const int depth = (int)(r % 8 < 3 ? 1 : r % 8 < 7 ? 2 : 3);

	for (int i = 0; i < depth; i++) {
		path[2 * i] = (char)('a' + (r >> (8 + 2 * i)) % 4);
		path[2 * i + 1] = i == depth - 1 ? '\0' : '/';
	}
}

static int use_file(const char *path, int flags, uint64_t *random)
{
	static uint8_t bytes[BIGGEST];
	const int fd = open(path, flags | O_NONBLOCK, 0644);
	const uint64_t r = random_next(random);
	const off_t at = (off_t)(r >> 20) % BIGGEST;
	int rc = 0;
	void *map;

	if (fd < 0)
		return -1;
	for (unsigned i = 0; rc >= 0 && i < r % 5; i++)
		switch (random_next(random) % 7) {
		case 0:
			rc = (int)pwrite(fd, bytes, (size_t)(r >> 8) % BIGGEST, at);
			break;
		case 1:
			rc = (int)write(fd, bytes, 100);
			break;
		case 2:
			rc = ftruncate(fd, at);
			break;
		case 3:
			rc = fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, 10000);
			break;
		case 4:
			rc = fsync(fd);
			break;
		case 5:
			map = mmap(NULL, BIGGEST, PROT_READ, MAP_SHARED, fd, 0);
			if (map != MAP_FAILED)
				munmap(map, BIGGEST);
			break;
		default:
			rc = (int)pread(fd, bytes, sizeof(bytes), at);
		}
	if (rc < 0 && (errno == EISDIR || errno == EBADF || errno == EINVAL))
		rc = 0;	/* a directory, or opened for the other thing */
	if (close(fd) < 0)
		return -1;
	return rc < 0 ? -1 : 0;
}

static int list(const char *path)
{
	DIR *d = opendir(path);

	if (!d)
		return -1;
	while (readdir(d))
		;
	return closedir(d);
}

static int act(uint64_t *random)
{
	static const int opens[] = { O_RDONLY,		    O_RDWR | O_CREAT,
				     O_WRONLY | O_CREAT | O_TRUNC, O_RDWR | O_TRUNC,
				     O_WRONLY | O_CREAT | O_APPEND, O_RDWR | O_CREAT | O_EXCL };
	const uint64_t r = random_next(random);
	char a[8], b[8];
	struct stat st;

	choose_path(a, random);
	choose_path(b, random);
	switch (r % 14) {
	case 0:
		return mkdir(a, 0755);
	case 1:
		return rmdir(a);
	case 2:
		return unlink(a);
	case 3:
		return rename(a, b);
	case 4:
		return (int)syscall(SYS_renameat2, AT_FDCWD, a, AT_FDCWD, b,
				    r >> 8 & 1 ? RENAME_EXCHANGE : RENAME_NOREPLACE);
	case 5:
		return link(a, b);
	case 6:
		return symlink(a, b);
	case 7:
		return list(a);
	case 8:
		return lsetxattr(a, "user.x", a, strlen(a), 0);
	case 9:
		return chmod(a, 0600 | (r >> 8 & 0177));
	case 10:
		return lstat(a, &st);
	default:
		return use_file(a, opens[(r >> 8) % 6], random);
	}
}

/* What a call may answer while others change things under its hands. ESTALE is not one of them:
 * the kernel tries again. */
static bool may_be(int error)
{
	static const int errors[] = { ENOENT, EEXIST, ENOTDIR, EISDIR, ENOTEMPTY,
				      EINVAL, EPERM,  ELOOP,   EBUSY,  EMLINK };

	for (size_t i = 0; i < sizeof(errors) / sizeof(*errors); i++)
		if (error == errors[i])
			return true;
	return false;
}

struct member {
	uint64_t seed;
	bool killed; /* the daemon is to be: the connection may be lost */
};

static int member(void *arg)
{
	const struct member *m = arg;
	const uint64_t steps = number_from_env("STEPS", STEPS_DEFAULT) / CROWD;
	uint64_t random = m->seed;

	for (uint64_t i = 0; m->killed || i < steps; i++)
		if (act(&random) < 0 && !may_be(errno)) {
			if (m->killed && (errno == ENOTCONN || errno == ECONNABORTED ||
					  errno == EIO || errno == ESTALE))
				return 0;
			fprintf(stderr, "step %" PRIu64 ": %s\n", i, strerror(errno));
			return 1;
		}
	return 0;
}

/* ---- does it fit together? ------------------------------------------------------------------ */

static struct seen {
	ino_t ino;
	nlink_t links, names;
} files[MEMBERS_MAX];
static size_t file_count;

static void count_file(const struct stat *st)
{
	size_t i = 0;

	while (i < file_count && files[i].ino != st->st_ino)
		i++;
	assert_true(i < MEMBERS_MAX);
	if (i == file_count)
		files[file_count++] = (struct seen){ st->st_ino, st->st_nlink, 0 };
	assert_int_equal(files[i].links, st->st_nlink);
	files[i].names++;
}

/* Reads as much as its size says, and not one byte more. */
static void read_whole(const char *path, off_t size)
{
	static uint8_t bytes[BIGGEST];
	const int fd = open(path, O_RDONLY);
	off_t whole = 0;
	ssize_t n;

	assert_ok(fd);
	while ((n = read(fd, bytes, sizeof(bytes))) > 0)
		whole += n;
	assert_ok(n);
	assert_int_equal(whole, size);
	assert_ok(close(fd));
}

static nlink_t directories_in(const char *path)
{
	DIR *d = opendir(path);
	struct dirent *e;
	nlink_t count = 0;

	assert_non_null(d);
	while ((e = readdir(d)))
		count += e->d_type == DT_DIR;
	assert_ok(closedir(d));
	return count;
}

static int look(const char *path, const struct stat *st, int type, struct FTW *where)
{
	(void)type, (void)where;
	if (S_ISDIR(st->st_mode))
		assert_int_equal(directories_in(path), st->st_nlink); /* . and .. too */
	else
		count_file(st);
	if (S_ISREG(st->st_mode))
		read_whole(path, st->st_size);
	return 0;
}

static void assert_fits_together(void)
{
	file_count = 0;
	assert_ok(nftw(".", look, 16, FTW_PHYS));
	for (size_t i = 0; i < file_count; i++)
		assert_int_equal(files[i].names, files[i].links);
}

static void assert_store_is_whole(void)
{
	const struct store_options options = { 0 };
	struct store *store;
	struct err err = { 0 };

	if (store_open(os_posix(), store_path(), &options, &store, &err) < 0 ||
	    store_verify(store, NULL, NULL, &err) < 0)
		fail_msg("%s", err.text);
	assert_ok(store_close(store));
}

static void begin(struct member *crowd, pid_t *pids, bool killed)
{
	for (int i = 0; i < CROWD; i++) {
		crowd[i] = (struct member){ random_next(&seed), killed };
		pids[i] = spawn(member, &crowd[i]);
	}
}

static void a_crowd_leaves_everything_in_order(void **state)
{
	struct member crowd[CROWD];
	pid_t pids[CROWD];

	(void)state;
	seed = number_from_env("SEED", (uint64_t)now_ms());
	print_message("SEED=%" PRIu64 "\n", seed);
	for (int round = 0; round < ROUNDS; round++) {
		begin(crowd, pids, false);
		for (int i = 0; i < CROWD; i++)
			assert_true(joined(pids[i]));
		assert_fits_together();
		mount_again();
		assert_fits_together();
	}
	if (daemon_pid() == 0)
		return; /* on a plain folder */
	mount_stop();
	assert_store_is_whole();
}

static void a_crowd_whose_daemon_dies_does_too(void **state)
{
	struct member crowd[CROWD];
	pid_t pids[CROWD];

	(void)state;
	only_cubby();
	seed = number_from_env("SEED", (uint64_t)now_ms());
	print_message("SEED=%" PRIu64 "\n", seed);
	for (int round = 0; round < ROUNDS; round++) {
		begin(crowd, pids, true);
		sleep_ms(200 + (int64_t)(random_next(&seed) % 500));
		mount_kill();
		for (int i = 0; i < CROWD; i++)
			assert_true(joined(pids[i]));
		assert_store_is_whole();
		mount_start(getenv("MOUNT_OPTIONS"));
		assert_fits_together();
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, mount_begin, mount_end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_crowd_leaves_everything_in_order),
		TEST(a_crowd_whose_daemon_dies_does_too),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "mount/conform.h"

#include <assert.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/vfs.h>

enum { EXT4_MAGIC = 0xEF53, TESTS_MAX = 64 };

/* The one list of what is meant to be different. */
static const char *const reasons[DIFFERENCES] = {
	[READING_LEAVES_ATIME] = "access times are kept as set: reading must not write",
	[DEVICES_ARE_SHUT] = "libfuse mounts nodev,nosuid unless -o dev,suid says otherwise",
	[NO_TMPFILE] = "O_TMPFILE: libfuse 3.14 does not know it, and programs fall back",
	[NO_WHITEOUT] = "RENAME_WHITEOUT: only overlayfs asks for it",
	[VERSION_IS_LISTED] = "user.cubby.version is listed, so that copies and backups keep it",
	[PATHS_KEEP_NOTHING] = "an O_PATH handle keeps no contents: the kernel tells us of none",
	[DIRECT_TAKES_ALL] = "O_DIRECT wants nothing aligned",
	/* What the kernel does with every FUSE file system. */
	[FILES_CAN_BE_POLLED] = "epoll takes a file, which is always ready",
	[FIFOS_MOVE_NO_TIMES] = "what goes through a fifo never reaches us",
	[NO_NOWAIT] = "RWF_NOWAIT and RWF_DONTCACHE are refused, and programs fall back",
};

static struct {
	bool on_disk;
	unsigned tests;    /* so far */
	int first_fd;      /* of those that the test opens */
	char home[4096]; /* of the test */
	bool read_only;
} c;

/* There in a program with the address sanitizer. */
void __asan_init(void) __attribute__((weak));

bool sanitized(void)
{
	return __asan_init != NULL;
}

bool differs(enum difference which)
{
	assert_non_null(reasons[which]);
	return !c.on_disk;
}

/* ---- users -------------------------------------------------------------------------------- */

/* The calls themselves and not the library's, which would change the watchdog's thread too. */
static void change_user(uid_t uid, gid_t gid)
{
	if (uid == 0)
		assert_ok(syscall(SYS_setresuid, 0, 0, 0));
	assert_ok(syscall(SYS_setgroups, 0, NULL));
	assert_ok(syscall(SYS_setresgid, gid, gid, 0));
	if (uid != 0)
		assert_ok(syscall(SYS_setresuid, uid, uid, 0));
}

void become_root(void)
{
	uid_t real, effective, saved;

	assert_ok(getresuid(&real, &effective, &saved));
	if (saved == 0)
		change_user(0, 0);
}

void become(uid_t uid, gid_t gid)
{
	become_root();
	only_root();
	change_user(uid, gid);
}

/* ---- mounting anew --------------------------------------------------------------------------- */

/* Of the mount: those of the environment's MOUNT_OPTIONS and what the tests need. */
static const char *options(void)
{
	static char text[512];
	const char *given = getenv("MOUNT_OPTIONS");

	snprintf(text, sizeof(text), "%s%s%s", given ? given : "sync=standard",
		 geteuid() == 0 ? ",allow_other,acl,security" : "", c.read_only ? ",ro" : "");
	return text;
}

/* The mount point bound to itself is a mount, which can be read-only. */
static void bind_read_only(void)
{
	const char *point = point_path();

	if (!c.read_only) {
		assert_ok(umount2(point, MNT_DETACH));
		return;
	}
	assert_ok(mount(point, point, NULL, MS_BIND, NULL));
	assert_ok(mount(NULL, point, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL));
}

void read_only(bool on)
{
	only_root();
	if (c.read_only == on)
		return;
	assert_ok(chdir("/"));
	c.read_only = on;
	if (c.on_disk) {
		bind_read_only();
	} else {
		mount_stop();
		mount_start(options());
	}
	assert_ok(chdir(c.home));
}

/* ---- vocabulary ----------------------------------------------------------------------------- */

void furnish(void)
{
	put("f", "hello");
	assert_ok(mkdir("d", 0755));
	assert_ok(mkdir("full", 0755));
	put("full/x", "x");
	assert_ok(symlink("f", "l"));
	assert_ok(symlink("d", "ld"));
	assert_ok(symlink("loop", "loop"));
	assert_ok(symlink("nothing", "dangling"));
	assert_ok(mkfifo("p", 0644));
}

const char *longest_name(void)
{
	static char name[256];

	memset(name, 'n', 255);
	return name;
}

const char *too_long_name(void)
{
	static char name[257];

	memset(name, 'n', 256);
	return name;
}

struct stat stat_of(const char *name)
{
	struct stat st;

	if (lstat(name, &st) < 0)
		fail_msg("lstat %s: %s", name, strerror(errno));
	return st;
}

int64_t ns_of(struct timespec t)
{
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* ---- running -------------------------------------------------------------------------------- */

/* One mount for all: the tests are many and short. And none waits for the disk. */
static int group_begin(void **state)
{
	if (mount_fresh(state) < 0 || chmod(base_path(), 0711) < 0)
		return -1;
	mount_start(options());
	return chmod(".", 0755);
}

static int test_begin(void **state)
{
	(void)state;
	snprintf(c.home, sizeof(c.home), "%s/%u", point_path(), c.tests++);
	umask(022);
	if (mkdir(c.home, 0777) < 0 || chmod(c.home, 0777) < 0 || chdir(c.home) < 0)
		return -1;
	c.first_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	return c.first_fd < 0 ? -1 : 0;
}

static int test_end(void **state)
{
	(void)state;
	become_root();
	umask(022);
	syscall(SYS_close_range, c.first_fd, ~0U, 0);
	if (c.read_only)
		read_only(false);
	if (chdir(point_path()) < 0)
		return -1;
	return sh("chmod -Rf u+rwx %s; rm -rf %s", c.home, c.home) == 0 ? 0 : -1;
}

/* Is the folder in which mount_fresh makes its own on an ext4? */
static bool disk_is_ext4(void)
{
	const char *scratch = getenv("TMPDIR");
	struct statfs st;

	if (!scratch || scratch[0] != '/')
		scratch = "/var/tmp";
	return statfs(scratch, &st) == 0 && st.f_type == EXT4_MAGIC;
}

static int run_all(const struct CMUnitTest *tests, size_t count, const char *where)
{
	static char names[TESTS_MAX][128];
	struct CMUnitTest here[TESTS_MAX];

	for (size_t i = 0; i < count; i++) {
		snprintf(names[i], sizeof(names[i]), "%s_on_%s", tests[i].name, where);
		here[i] = tests[i];
		here[i].name = names[i];
		here[i].setup_func = test_begin;
		here[i].teardown_func = test_end;
	}
	return _cmocka_run_group_tests(where, here, count, group_begin, mount_end);
}

int conform_run(const struct CMUnitTest *tests, size_t count)
{
	const bool only_disk = getenv("CUBBY_REFERENCE") != NULL;
	int failed = 0;

	assert(count <= TESTS_MAX);
	if (disk_is_ext4() && (only_disk || !sanitized())) {
		setenv("CUBBY_REFERENCE", "1", 1);
		c.on_disk = true;
		failed = run_all(tests, count, "disk");
	}
	if (!only_disk) {
		unsetenv("CUBBY_REFERENCE");
		c.on_disk = false;
		failed += run_all(tests, count, "cubby");
	}
	return failed;
}

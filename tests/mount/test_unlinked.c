/* A file that is open and has no name any more: everything but its name works on. */
#include "mount/mount.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

static struct stat stat_of(int fd)
{
	struct stat st;

	assert_ok(fstat(fd, &st));
	return st;
}

/* A file with contents and an attribute, open, and gone in the way that `how` says. */
static int unlinked(const char *how)
{
	int fd;

	put("k", "contents");
	assert_ok(setxattr("k", "user.colour", "green", 5, 0));
	assert_ok(chmod("k", 0640));
	fd = open("k", O_RDWR);
	assert_ok(fd);
	run("%s", how);
	return fd;
}

static const char *const ways[] = { "rm k", "echo other > l; mv l k", "ln k m; rm m k" };
enum { WAYS = sizeof(ways) / sizeof(*ways) };

static void its_mode_owner_and_times_can_be_changed(void **state)
{
	const struct timespec times[2] = { { 100, 1 }, { 200, 2 } };
	struct stat st;

	(void)state;
	for (int i = 0; i < WAYS; i++) {
		const int fd = unlinked(ways[i]);

		st = stat_of(fd);
		assert_int_equal(st.st_nlink, 0);
		assert_int_equal(st.st_mode & 07777, 0640);
		assert_ok(fchmod(fd, 0604));
		assert_ok(futimens(fd, times));
		if (geteuid() == 0)
			assert_ok(fchown(fd, 3, 4));
		assert_ok(ftruncate(fd, 3));
		assert_int_equal(pwrite(fd, "X", 1, 5), 1);
		st = stat_of(fd);
		assert_int_equal(st.st_mode & 07777, 0604);
		assert_int_equal(st.st_atim.tv_sec, 100);
		assert_int_equal(st.st_size, 6);
		if (geteuid() == 0)
			assert_int_equal(st.st_uid * 10 + st.st_gid, 34);
		assert_ok(fsync(fd));
		assert_ok(close(fd));
	}
}

static void its_attributes_stay_and_can_be_changed(void **state)
{
	char value[16];

	(void)state;
	for (int i = 0; i < WAYS; i++) {
		const int fd = unlinked(ways[i]);

		assert_int_equal(fgetxattr(fd, "user.colour", value, sizeof(value)), 5);
		assert_memory_equal(value, "green", 5);
		assert_ok(fsetxattr(fd, "user.size", "12", 2, XATTR_CREATE));
		assert_errno(fsetxattr(fd, "user.size", "12", 2, XATTR_CREATE), EEXIST);
		assert_errno(fsetxattr(fd, "user.none", "12", 2, XATTR_REPLACE), ENODATA);
		assert_ok(fsetxattr(fd, "user.colour", "red", 3, XATTR_REPLACE));
		assert_int_equal(fgetxattr(fd, "user.colour", value, sizeof(value)), 3);
		assert_ok(fremovexattr(fd, "user.size"));
		assert_errno(fremovexattr(fd, "user.size"), ENODATA);
		assert_errno(fgetxattr(fd, "user.size", value, sizeof(value)), ENODATA);
		assert_true(flistxattr(fd, NULL, 0) >= (ssize_t)sizeof("user.colour"));
		assert_ok(close(fd));
	}
}

static void its_version_is_told_and_nothing_is_published(void **state)
{
	char digits[8] = "";
	int fd;

	(void)state;
	only_cubby();
	fd = unlinked("rm k; echo new > k");
	assert_int_equal(fgetxattr(fd, "user.cubby.version", digits, sizeof(digits)), 1);
	assert_string_equal(digits, "1");
	assert_int_equal(write(fd, "more", 4), 4);
	assert_ok(fsetxattr(fd, "user.cubby.expires", "+1m", 3, 0));
	assert_ok(fsync(fd));
	assert_ok(close(fd));
	assert_string_equal(get("k"), "new\n");
	assert_int_equal(version("k"), 1);
	assert_errno(getxattr("k", "user.cubby.expires", NULL, 0), ENODATA);
}

static void it_gets_no_name_again(void **state)
{
	char path[64];
	int fd;

	(void)state;
	only_root();
	fd = unlinked("rm k");
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	assert_errno(linkat(fd, "", AT_FDCWD, "l", AT_EMPTY_PATH), ENOENT);
	assert_errno(linkat(AT_FDCWD, path, AT_FDCWD, "l", AT_SYMLINK_FOLLOW), ENOENT);
	assert_ok(close(fd));
	assert_false(exists("l"));
}

static void an_open_file_with_a_name_gets_another(void **state)
{
	int fd;

	(void)state;
	only_root();
	put("k", "text");
	fd = open("k", O_RDWR);
	assert_int_equal(pwrite(fd, "T", 1, 0), 1);
	assert_ok(linkat(fd, "", AT_FDCWD, "l", AT_EMPTY_PATH));
	assert_string_equal(get("l"), "Text");
	assert_int_equal(stat_of(fd).st_nlink, 2);
	assert_ok(close(fd));
}

/* A program falls back to a name that it removes itself. */
static void a_file_without_a_name_from_the_start_is_not_made(void **state)
{
	(void)state;
	only_cubby();
	assert_errno(open(".", O_TMPFILE | O_RDWR, 0600), EOPNOTSUPP);
	run("python3 -c 'import tempfile; f = tempfile.TemporaryFile(dir=\".\"); f.write(b\"x\"); "
	    "f.flush()'");
	assert_string_equal(run("ls -A"), "");
}

static void a_removed_directory_is_empty_and_takes_nothing(void **state)
{
	int fd;

	(void)state;
	run("mkdir d; setfattr -n user.a -v 1 d");
	fd = open("d", O_RDONLY | O_DIRECTORY);
	assert_ok(fd);
	assert_ok(rmdir("d"));
	assert_int_equal(stat_of(fd).st_nlink, 0);
	assert_errno(openat(fd, "k", O_CREAT | O_WRONLY, 0600), ENOENT);
	assert_errno(mkdirat(fd, "k", 0700), ENOENT);
	assert_errno(faccessat(fd, "k", F_OK, 0), ENOENT);
	assert_int_equal(fgetxattr(fd, "user.a", NULL, 0), 1);
	assert_ok(fchmod(fd, 0700));
	assert_ok(fsync(fd));
	assert_ok(close(fd));
}

/* Not read before, or the kernel would know it. */
static void a_symbolic_link_is_read_on(void **state)
{
	static const char *const gone[] = { "rm s", "ln -s other t; mv -T t s", "ln s t; rm s t" };
	char target[16];
	int fd;

	(void)state;
	for (size_t i = 0; i < sizeof(gone) / sizeof(*gone); i++) {
		assert_ok(symlink("somewhere", "s"));
		fd = open("s", O_PATH | O_NOFOLLOW);
		assert_ok(fd);
		run("%s", gone[i]);
		assert_int_equal(readlinkat(fd, "", target, sizeof(target)), 9);
		assert_memory_equal(target, "somewhere", 9);
		assert_ok(close(fd));
		run("rm -f s");
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, mount_begin, mount_end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(its_mode_owner_and_times_can_be_changed),
		TEST(its_attributes_stay_and_can_be_changed),
		TEST(its_version_is_told_and_nothing_is_published),
		TEST(it_gets_no_name_again),
		TEST(an_open_file_with_a_name_gets_another),
		TEST(a_file_without_a_name_from_the_start_is_not_made),
		TEST(a_removed_directory_is_empty_and_takes_nothing),
		TEST(a_symbolic_link_is_read_on),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

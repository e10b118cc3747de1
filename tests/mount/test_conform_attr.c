/* chmod, chown, utimensat, stat, statx, statfs and extended attributes. */
#include "mount/conform.h"

#include <limits.h>
#include <stdlib.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <sys/xattr.h>

enum { USER = 12345, GROUP = 23456, OTHER = 54321 };

static mode_t mode_of(const char *name)
{
	return stat_of(name).st_mode & 07777;
}

/* ---- modes and owners ----------------------------------------------------------------------- */

static void every_mode_is_kept(void **state)
{
	int fd;

	(void)state;
	furnish();
	fd = open("f", O_RDONLY);
	for (mode_t mode = 0; mode < 010000; mode += 0123) {
		assert_ok(chmod("f", mode));
		assert_int_equal(mode_of("f"), mode);
		assert_ok(fchmod(fd, 07777 - mode));
		assert_int_equal(mode_of("f"), 07777 - mode);
		assert_ok(chmod("d", mode));
		assert_int_equal(mode_of("d"), mode);
	}
	assert_ok(chmod("p", 01602));
	assert_int_equal(mode_of("p"), 01602);
	assert_ok(chmod("l", 0640)); /* follows */
	assert_int_equal(mode_of("f"), 0640);
	assert_int_equal(mode_of("l"), 0777);
	assert_errno(fchmodat(AT_FDCWD, "l", 0600, AT_SYMLINK_NOFOLLOW), EOPNOTSUPP);
	assert_ok(close(fd));
}

static void only_the_owner_changes_the_mode(void **state)
{
	int fd;

	(void)state;
	only_root();
	put("f", "x");
	put("mine", "x");
	put("theirs", "x");
	assert_ok(chmod("f", 0666));
	assert_ok(chown("mine", USER, GROUP));
	assert_ok(chown("theirs", USER, OTHER));
	become(USER, GROUP);
	fd = open("f", O_RDWR);
	assert_ok(fd);
	assert_errno(chmod("f", 0600), EPERM);
	assert_errno(fchmod(fd, 0600), EPERM);
	assert_ok(chmod("mine", 06755));
	assert_int_equal(mode_of("mine"), 06755);
	/* One cannot lend a group that one is not in. */
	assert_ok(chmod("theirs", 06755));
	assert_int_equal(mode_of("theirs"), 04755);
	assert_ok(chmod("mine", 01644)); /* sticky on a file: kept, on Linux */
	assert_int_equal(mode_of("mine"), 01644);
}

static void owners_are_changed_by_root_only(void **state)
{
	(void)state;
	only_root();
	furnish();
	assert_ok(chown("f", USER, OTHER));
	assert_ok(lchown("l", 7, 8));
	assert_int_equal(stat_of("f").st_uid, USER);
	assert_int_equal(stat_of("l").st_uid, 7);
	assert_int_equal(stat_of("l").st_gid, 8);
	assert_ok(chown("l", (uid_t)-1, 9)); /* follows */
	assert_int_equal(stat_of("f").st_gid, 9);
	assert_int_equal(stat_of("f").st_uid, USER);
	assert_ok(chown("f", 0xfffffffe, 0xfffffffe));
	assert_int_equal(stat_of("f").st_uid, 0xfffffffe);
	assert_ok(chown("f", USER, OTHER));
	become(USER, GROUP);
	assert_errno(chown("f", OTHER, (gid_t)-1), EPERM);
	assert_errno(chown("f", 0, (gid_t)-1), EPERM);
	assert_errno(chown("f", (uid_t)-1, 9), EPERM);
	assert_ok(chown("f", USER, (gid_t)-1));
	assert_ok(chown("f", (uid_t)-1, OTHER)); /* as it is */
	assert_ok(chown("f", (uid_t)-1, GROUP)); /* a group of one's own */
	assert_int_equal(stat_of("f").st_gid, GROUP);
	assert_errno(chown("d", USER, GROUP), EPERM);
}

static void a_new_owner_takes_setuid_away(void **state)
{
	(void)state;
	only_root();
	put("f", "x");
	assert_ok(chmod("f", 06755));
	assert_ok(chown("f", USER, GROUP));
	assert_int_equal(mode_of("f"), 0755); /* by root too */
	assert_ok(chmod("f", 06745));
	assert_ok(chown("f", USER, OTHER));
	assert_int_equal(mode_of("f"), 02745); /* no x for the group: not that bit */
	assert_ok(mkfifo("p", 0644));
	assert_ok(chmod("p", 06755));
	assert_ok(chown("p", USER, GROUP));
	assert_int_equal(mode_of("p"), 0755);
	assert_ok(mkdir("d", 0755));
	assert_ok(chmod("d", 06755));
	assert_ok(chown("d", USER, GROUP));
	assert_int_equal(mode_of("d"), 06755); /* means something else */
}

/* Not even by changing nothing. */
static void a_stranger_takes_no_setuid_away(void **state)
{
	(void)state;
	only_root();
	put("f", "x");
	put("plain", "x");
	assert_ok(chmod("f", 06755));
	become(USER, GROUP);
	assert_errno(chown("f", (uid_t)-1, (gid_t)-1), EPERM);
	assert_int_equal(mode_of("f"), 06755);
	assert_ok(chown("plain", (uid_t)-1, (gid_t)-1));
	become_root();
	assert_ok(chown("f", USER, GROUP));
	assert_ok(chmod("f", 06755));
	become(USER, GROUP);
	assert_ok(chown("f", (uid_t)-1, (gid_t)-1));
	assert_int_equal(mode_of("f"), 0755);
}

/* ---- times ---------------------------------------------------------------------------------- */

static void times_are_kept_to_the_nanosecond(void **state)
{
	static const struct timespec cases[] = {
		{ 0, 0 },	   { 1, 999999999 },	 { -1, 1 },
		{ -86400, 500 }, { 4102444800, 123456789 }, { 0x7fffffff, 1 },
		{ 0x80000000, 2 }, { -0x7fffffff, 3 },
	};

	(void)state;
	furnish();
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		const struct timespec t[2] = { cases[i], { cases[i].tv_sec + 1, 7 } };
		static const char *const names[] = { "f", "d", "l", "p" };

		for (size_t j = 0; j < 4; j++) {
			assert_ok(utimensat(AT_FDCWD, names[j], t, AT_SYMLINK_NOFOLLOW));
			assert_int_equal(stat_of(names[j]).st_atim.tv_sec, t[0].tv_sec);
			assert_int_equal(stat_of(names[j]).st_atim.tv_nsec, t[0].tv_nsec);
			assert_int_equal(stat_of(names[j]).st_mtim.tv_sec, t[1].tv_sec);
			assert_int_equal(stat_of(names[j]).st_mtim.tv_nsec, 7);
		}
	}
}

static void setting_times_wants_the_owner_or_a_writer(void **state)
{
	const struct timespec now[2] = { { 0, UTIME_NOW }, { 0, UTIME_NOW } };
	const struct timespec some[2] = { { 5, 0 }, { 6, 0 } };
	const struct timespec half[2] = { { 0, UTIME_NOW }, { 0, UTIME_OMIT } };
	const struct timespec bad[2] = { { 0, 1000000000 }, { 0, 0 } };
	const struct timespec none[2] = { { 77, UTIME_OMIT }, { 88, UTIME_OMIT } };

	(void)state;
	only_root();
	put("f", "x");
	put("g", "x");
	put("mine", "x");
	assert_ok(chown("mine", USER, GROUP));
	assert_ok(chmod("mine", 0));
	assert_ok(chmod("g", 0666));
	assert_errno(utimensat(AT_FDCWD, "f", bad, 0), EINVAL);
	become(USER, GROUP);
	assert_errno(utimensat(AT_FDCWD, "f", NULL, 0), EACCES);
	assert_errno(utimensat(AT_FDCWD, "f", now, 0), EACCES);
	assert_errno(utimensat(AT_FDCWD, "f", some, 0), EPERM);
	assert_errno(utimensat(AT_FDCWD, "f", half, 0), EPERM);
	assert_ok(utimensat(AT_FDCWD, "f", none, 0));
	assert_ok(utimensat(AT_FDCWD, "g", NULL, 0));
	assert_ok(utimensat(AT_FDCWD, "g", now, 0));
	assert_errno(utimensat(AT_FDCWD, "g", some, 0), EPERM);
	assert_ok(utimensat(AT_FDCWD, "mine", some, 0));
	assert_ok(utimensat(AT_FDCWD, "mine", half, 0));
	assert_int_equal(stat_of("mine").st_mtim.tv_sec, 6);
	assert_true(stat_of("mine").st_atim.tv_sec > 1000000);
}

static void now_is_now(void **state)
{
	const struct timespec t[2] = { { 0, UTIME_NOW }, { 5, 5 } };
	const int64_t before = now_ms();
	int64_t ms;

	(void)state;
	wait_for_tick();	/* from here on no clock is behind `before` */
	put("f", "x");
	assert_ok(utimensat(AT_FDCWD, "f", t, 0));
	ms = ns_of(stat_of("f").st_atim) / 1000000;
	assert_in_range(ms, before, now_ms());
	assert_int_equal(stat_of("f").st_mtim.tv_sec, 5);
	ms = ns_of(stat_of("f").st_ctim) / 1000000;
	assert_in_range(ms, before, now_ms());
}

/* ---- stat ----------------------------------------------------------------------------------- */

static void stat_tells_the_same_by_every_way(void **state)
{
	struct stat a, b, c;
	struct statx x;
	int fd;

	(void)state;
	furnish();
	fd = open("f", O_RDONLY);
	assert_ok(stat("l", &a));
	assert_ok(fstat(fd, &b));
	assert_ok(fstatat(fd, "", &c, AT_EMPTY_PATH));
	assert_ok(statx(AT_FDCWD, "f", AT_SYMLINK_NOFOLLOW, STATX_ALL, &x));
	assert_int_equal(a.st_ino, b.st_ino);
	assert_int_equal(a.st_ino, c.st_ino);
	assert_int_equal(a.st_ino, x.stx_ino);
	assert_int_equal(a.st_dev, makedev(x.stx_dev_major, x.stx_dev_minor));
	assert_int_equal(x.stx_mode, a.st_mode);
	assert_int_equal(x.stx_size, 5);
	assert_int_equal(x.stx_nlink, 1);
	assert_int_equal(x.stx_mtime.tv_nsec, a.st_mtim.tv_nsec);
	assert_int_equal((x.stx_mask & STATX_BASIC_STATS), STATX_BASIC_STATS);
	assert_int_equal(a.st_dev, stat_of("d").st_dev);
	assert_true(a.st_blksize >= 512);
	assert_true(a.st_blocks > 0);
	assert_int_equal(stat_of("l").st_size, 1);
	assert_ok(close(fd));
	assert_ok(statx(AT_FDCWD, "f", AT_STATX_DONT_SYNC, STATX_ALL, &x));
	assert_errno(statx(AT_FDCWD, "f", AT_STATX_SYNC_TYPE, STATX_ALL, &x), EINVAL);
	assert_errno(statx(AT_FDCWD, "f", 1 << 30, STATX_ALL, &x), EINVAL);
}

static void the_birth_time_is_told(void **state)
{
	struct statx x, y;

	(void)state;
	put("f", "x");
	assert_ok(statx(AT_FDCWD, "f", 0, STATX_BTIME, &x));
	assert_true(x.stx_mask & STATX_BTIME);
	wait_for_tick();
	put("f", "y");
	assert_ok(statx(AT_FDCWD, "f", 0, STATX_BTIME, &y));
	assert_int_equal(x.stx_btime.tv_nsec, y.stx_btime.tv_nsec);
}

static void statfs_tells_of_room(void **state)
{
	struct statvfs v;
	struct statfs s;
	int fd;

	(void)state;
	put("f", "x");
	assert_ok(statvfs("f", &v));
	assert_int_equal(v.f_namemax, 255);
	assert_true(v.f_bsize >= 512 && v.f_frsize >= 512);
	assert_true(v.f_blocks > 0 && v.f_bfree <= v.f_blocks && v.f_bavail <= v.f_bfree);
	assert_true(v.f_files > 0 && v.f_ffree <= v.f_files);
	fd = open("f", O_RDONLY);
	assert_ok(fstatfs(fd, &s));
	assert_int_equal(s.f_blocks, v.f_blocks);
	assert_ok(close(fd));
}

/* ---- extended attributes -------------------------------------------------------------------- */

static void attributes_are_kept_as_given(void **state)
{
	char value[16];
	int fd;

	(void)state;
	furnish();
	assert_ok(setxattr("f", "user.a", "one\0two", 7, 0));
	assert_ok(setxattr("f", "user.empty", "", 0, 0));
	assert_ok(setxattr("d", "user.d", "dir", 3, 0));
	assert_all(getxattr("f", "user.a", value, sizeof(value)), 7);
	assert_memory_equal(value, "one\0two", 7);
	assert_all(getxattr("f", "user.empty", value, sizeof(value)), 0);
	assert_all(getxattr("l", "user.a", value, sizeof(value)), 7); /* follows */
	assert_all(getxattr("f", "user.a", NULL, 0), 7);
	assert_errno(getxattr("f", "user.a", value, 6), ERANGE);
	assert_errno(getxattr("f", "user.none", value, sizeof(value)), ENODATA);
	assert_errno(removexattr("f", "user.none"), ENODATA);
	fd = open("f", O_RDONLY);
	assert_ok(fsetxattr(fd, "user.a", "x", 1, 0));
	assert_all(fgetxattr(fd, "user.a", value, sizeof(value)), 1);
	assert_ok(fremovexattr(fd, "user.a"));
	assert_errno(fgetxattr(fd, "user.a", value, sizeof(value)), ENODATA);
	assert_ok(close(fd));
	assert_ok(rename("f", "g"));
	assert_all(getxattr("g", "user.empty", value, sizeof(value)), 0);
}

static void flags_say_whether_an_attribute_must_be_there(void **state)
{
	(void)state;
	put("f", "x");
	assert_errno(setxattr("f", "user.a", "x", 1, XATTR_REPLACE), ENODATA);
	assert_ok(setxattr("f", "user.a", "x", 1, XATTR_CREATE));
	assert_errno(setxattr("f", "user.a", "y", 1, XATTR_CREATE), EEXIST);
	assert_ok(setxattr("f", "user.a", "y", 1, XATTR_REPLACE));
	assert_errno(setxattr("f", "user.a", "y", 1, 4), EINVAL);
	assert_errno(setxattr("f", "user.b", "y", 1, XATTR_CREATE | XATTR_REPLACE), ENODATA);
	assert_errno(setxattr("f", "user.a", "y", 1, XATTR_CREATE | XATTR_REPLACE), EEXIST);
}

static void sizes_and_names_have_limits(void **state)
{
	char name[300] = "user.", *large = calloc(1, 65537);

	(void)state;
	assert_non_null(large);
	put("f", "x");
	memset(name + 5, 'n', 251);
	assert_errno(setxattr("f", name, "x", 1, 0), ERANGE); /* 256 bytes */
	assert_errno(getxattr("f", name, large, 1), ERANGE);
	name[255] = '\0';
	assert_ok(setxattr("f", name, "x", 1, 0));
	assert_errno(setxattr("f", "user.a", large, 65537, 0), E2BIG);
	assert_errno(setxattr("f", "", "x", 1, 0), ERANGE);
	assert_errno(setxattr("f", "user.", "x", 1, 0), EINVAL);
	assert_errno(setxattr("f", "nonsense", "x", 1, 0), EOPNOTSUPP);
	assert_errno(setxattr("f", "nonsense.a", "x", 1, 0), EOPNOTSUPP);
	assert_errno(getxattr("f", "nonsense.a", large, 1), EOPNOTSUPP);
	assert_errno(removexattr("f", "nonsense.a"), EOPNOTSUPP);
	assert_errno(syscall(SYS_setxattr, "f", "user.a", 16, 1, 0), EFAULT);
	free(large);
}

/* The names that are listed, sorted, but for our own. */
static const char *names_of(const char *path)
{
	return run("getfattr --absolute-names -h -m - '%s' | grep -v -e '^#' -e '^$' -e '%s' | "
		   "sort | paste -sd ' '",
		   path, differs(VERSION_IS_LISTED) ? "user.cubby.version" : "^-");
}

static void all_names_are_listed(void **state)
{
	char list[4096], small[4];
	ssize_t size;

	(void)state;
	put("f", "x");
	assert_string_equal(names_of("f"), "");
	assert_ok(setxattr("f", "user.b", "x", 1, 0));
	assert_ok(setxattr("f", "user.a", "", 0, 0));
	assert_ok(setxattr("f", "user.c", "x", 1, 0));
	assert_string_equal(names_of("f"), "user.a user.b user.c");
	size = listxattr("f", NULL, 0);
	assert_all(listxattr("f", list, sizeof(list)), size);
	assert_int_equal(list[size - 1], '\0');
	assert_errno(listxattr("f", small, sizeof(small)), ERANGE);
	assert_ok(removexattr("f", "user.b"));
	assert_string_equal(names_of("f"), "user.a user.c");
}

static void only_files_and_directories_have_attributes_of_users(void **state)
{
	char value[4];

	(void)state;
	furnish();
	assert_errno(lsetxattr("l", "user.a", "x", 1, 0), EPERM);
	assert_errno(lgetxattr("l", "user.a", value, sizeof(value)), ENODATA);
	assert_errno(lremovexattr("l", "user.a"), EPERM);
	assert_errno(setxattr("p", "user.a", "x", 1, 0), EPERM);
	assert_errno(getxattr("p", "user.a", value, sizeof(value)), ENODATA);
	assert_string_equal(names_of("l"), "");
	assert_string_equal(names_of("p"), "");
}

static void attributes_want_the_rights_that_contents_want(void **state)
{
	char value[4];

	(void)state;
	only_root();
	put("f", "x");
	assert_ok(setxattr("f", "user.a", "x", 1, 0));
	assert_ok(chmod("f", 0));
	become(USER, GROUP);
	assert_errno(getxattr("f", "user.a", value, sizeof(value)), EACCES);
	assert_errno(setxattr("f", "user.a", "y", 1, 0), EACCES);
	assert_errno(removexattr("f", "user.a"), EACCES);
	become_root();
	assert_ok(chmod("f", 0444));
	assert_ok(mkdir("d", 01777));
	assert_ok(chmod("d", 01777));
	become(USER, GROUP);
	assert_all(getxattr("f", "user.a", value, sizeof(value)), 1);
	assert_errno(setxattr("f", "user.a", "y", 1, 0), EACCES);
	assert_errno(setxattr("d", "user.a", "y", 1, 0), EPERM); /* of /tmp, say */
	become_root();
	assert_ok(chmod("f", 0666));
	become(USER, GROUP);
	assert_ok(setxattr("f", "user.a", "y", 1, 0));
}

static void trusted_attributes_are_roots(void **state)
{
	char value[4];

	(void)state;
	only_root();
	put("f", "x");
	assert_ok(chmod("f", 0666));
	assert_ok(setxattr("f", "trusted.a", "x", 1, 0));
	assert_all(getxattr("f", "trusted.a", value, sizeof(value)), 1);
	assert_string_equal(names_of("f"), "trusted.a");
	become(USER, GROUP);
	assert_errno(getxattr("f", "trusted.a", value, sizeof(value)), ENODATA);
	assert_errno(setxattr("f", "trusted.a", "y", 1, 0), EPERM);
	assert_errno(removexattr("f", "trusted.a"), EPERM);
	assert_string_equal(names_of("f"), "");
}

static void access_lists_decide(void **state)
{
	(void)state;
	only_root();
	put("f", "x");
	assert_ok(chmod("f", 0640));
	run("setfacl -m u:%d:rw f", USER);
	assert_int_equal(mode_of("f"), 0660); /* the group's bits are the mask now */
	become(USER, GROUP);
	assert_ok(close(open("f", O_RDWR)));
	become_root();
	assert_ok(chmod("f", 0640));
	become(USER, GROUP);
	assert_errno(open("f", O_RDWR), EACCES);
	assert_ok(close(open("f", O_RDONLY)));
	become(OTHER, OTHER);
	assert_errno(open("f", O_RDONLY), EACCES);
	become_root();
	run("mkdir d; setfacl -d -m u:%d:rwx d", USER);
	umask(077);
	assert_ok(mkdir("d/d", 0777));
	put("d/f", "x");
	umask(022);
	/* 0666 from open, lists instead of umask */
	assert_int_equal(mode_of("d/f"), 0664 & ~022 & 0644);
	run("getfacl -c d/f | grep -q user:%d:rwx && getfacl -c d/d | grep -q default:user:%d:rwx",
	    USER, USER);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		CONFORM(every_mode_is_kept),
		CONFORM(only_the_owner_changes_the_mode),
		CONFORM(owners_are_changed_by_root_only),
		CONFORM(a_new_owner_takes_setuid_away),
		CONFORM(a_stranger_takes_no_setuid_away),
		CONFORM(times_are_kept_to_the_nanosecond),
		CONFORM(setting_times_wants_the_owner_or_a_writer),
		CONFORM(now_is_now),
		CONFORM(stat_tells_the_same_by_every_way),
		CONFORM(the_birth_time_is_told),
		CONFORM(statfs_tells_of_room),
		CONFORM(attributes_are_kept_as_given),
		CONFORM(flags_say_whether_an_attribute_must_be_there),
		CONFORM(sizes_and_names_have_limits),
		CONFORM(all_names_are_listed),
		CONFORM(only_files_and_directories_have_attributes_of_users),
		CONFORM(attributes_want_the_rights_that_contents_want),
		CONFORM(trusted_attributes_are_roots),
		CONFORM(access_lists_decide),
	};

	return conform_run(tests, sizeof(tests) / sizeof(*tests));
}

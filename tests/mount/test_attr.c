/* Mode, owner and times, as stat shows them and as a remount keeps them. */
#include "mount/mount.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

static struct stat stat_of(const char *name)
{
	struct stat st;

	assert_ok(lstat(name, &st));
	return st;
}

/* Nanoseconds since 1970. */
static int64_t ns(struct timespec t)
{
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void mode_and_type_are_kept(void **state)
{
	(void)state;
	put("k", "");
	for (mode_t mode = 0; mode <= 0777; mode += 037) {
		assert_ok(chmod("k", mode));
		assert_int_equal(stat_of("k").st_mode, S_IFREG | mode);
	}
	assert_ok(chmod("k", 04751));
	assert_ok(mkdir("d", 0700));
	assert_ok(chmod("d", 01770));
	mount_again();
	assert_int_equal(stat_of("k").st_mode, S_IFREG | 04751);
	assert_int_equal(stat_of("d").st_mode, S_IFDIR | 01770);
}

static void creation_obeys_the_umask(void **state)
{
	(void)state;
	run("umask 027; echo x > k; mkdir d");
	assert_int_equal(stat_of("k").st_mode, S_IFREG | 0640);
	assert_int_equal(stat_of("d").st_mode, S_IFDIR | 0750);
}

static void owner_and_group_are_kept(void **state)
{
	(void)state;
	only_root();
	run("echo x > k; ln -s k s; mkdir d");
	assert_ok(chown("k", 1234, 70000));
	assert_ok(lchown("s", 5, 6));
	assert_ok(chown("d", (uid_t)-1, 7));
	mount_again();
	assert_int_equal(stat_of("k").st_uid, 1234);
	assert_int_equal(stat_of("k").st_gid, 70000);
	assert_int_equal(stat_of("s").st_uid, 5);
	assert_int_equal(stat_of("s").st_gid, 6);
	assert_int_equal(stat_of("d").st_uid, 0);
	assert_int_equal(stat_of("d").st_gid, 7);
}

static void times_are_kept_to_the_nanosecond(void **state)
{
	const struct timespec times[] = { { 1000000001, 123456789 }, { 2000000002, 987654321 } };
	const struct timespec early[] = { { -5, 1 }, { -5, 999999999 } };

	(void)state;
	put("k", "x");
	put("l", "x");
	assert_ok(mkdir("d", 0755));
	assert_ok(utimensat(AT_FDCWD, "k", times, 0));
	assert_ok(utimensat(AT_FDCWD, "d", times, 0));
	assert_ok(utimensat(AT_FDCWD, "l", early, 0));
	mount_again();
	assert_int_equal(ns(stat_of("k").st_atim), ns(times[0]));
	assert_int_equal(ns(stat_of("k").st_mtim), ns(times[1]));
	assert_int_equal(ns(stat_of("d").st_mtim), ns(times[1]));
	assert_int_equal(ns(stat_of("l").st_mtim), ns(early[1]));
}

static void a_time_set_while_the_file_is_open_is_kept_by_the_close(void **state)
{
	const struct timespec times[] = { { 1000000001, 5 }, { 1000000002, 6 } };
	int fd;

	(void)state;
	fd = open("k", O_WRONLY | O_CREAT, 0600);
	assert_ok(fd);
	assert_int_equal(write(fd, "x", 1), 1);
	assert_ok(futimens(fd, times));
	assert_ok(fchmod(fd, 0640));
	assert_ok(close(fd));
	assert_int_equal(ns(stat_of("k").st_mtim), ns(times[1]));
	mount_again();
	assert_int_equal(ns(stat_of("k").st_mtim), ns(times[1]));
	assert_int_equal(stat_of("k").st_mode, S_IFREG | 0640);
	assert_int_equal(stat_of("k").st_size, 1);
}

static void writing_moves_mtime_and_reading_does_not(void **state)
{
	const struct timespec old[] = { { 1000, 0 }, { 1000, 0 } };

	(void)state;
	put("k", "x");
	assert_ok(utimensat(AT_FDCWD, "k", old, 0));
	get("k");
	assert_int_equal(stat_of("k").st_mtim.tv_sec, 1000);
	put("k", "y");
	assert_true(stat_of("k").st_mtim.tv_sec > 1000);
}

static void a_table_shows_the_time_of_its_last_change(void **state)
{
	const struct timespec old[] = { { 1000, 0 }, { 1000, 0 } };

	(void)state;
	run("mkdir d; echo x > d/a");
	assert_ok(utimensat(AT_FDCWD, "d", old, 0));
	put("d/a", "y");
	assert_int_equal(stat_of("d").st_mtim.tv_sec, 1000);
	put("d/b", "new");
	assert_true(stat_of("d").st_mtim.tv_sec > 1000);
	assert_ok(utimensat(AT_FDCWD, "d", old, 0));
	assert_ok(unlink("d/b"));
	assert_true(stat_of("d").st_mtim.tv_sec > 1000);
}

static void any_change_of_attributes_moves_ctime(void **state)
{
	struct stat before;

	(void)state;
	put("k", "x");
	before = stat_of("k");
	wait_for_tick();
	assert_ok(chmod("k", 0600));
	assert_true(ns(stat_of("k").st_ctim) > ns(before.st_ctim));
	assert_int_equal(ns(stat_of("k").st_mtim), ns(before.st_mtim));
}

static void an_inode_number_stays_with_its_file(void **state)
{
	ino_t k, d;

	(void)state;
	run("echo x > k; mkdir d e");
	k = stat_of("k").st_ino;
	d = stat_of("d").st_ino;
	assert_int_not_equal(k, d);
	run("mv k e/l; mv d e/d; echo y > e/l");
	assert_int_equal(stat_of("e/l").st_ino, k);
	assert_int_equal(stat_of("e/d").st_ino, d);
	mount_again();
	assert_int_equal(stat_of("e/l").st_ino, k);
	run("echo new > k");
	assert_int_not_equal(stat_of("k").st_ino, k);
}

static void directories_count_their_directories_as_links(void **state)
{
	(void)state;
	run("mkdir d d/a d/b; touch d/k");
	assert_int_equal(stat_of("d").st_nlink, 4);
	assert_int_equal(stat_of("d/k").st_nlink, 1);
	assert_ok(rmdir("d/a"));
	assert_int_equal(stat_of("d").st_nlink, 3);
}

/* On a mount that only root can enter, where the kernel leaves it to us. */
static void what_nobody_may_execute_root_may_not_either(void **state)
{
	(void)state;
	only_root();
	run("echo x > k; chmod 644 k; mkdir d; chmod 0 d");
	assert_ok(access("k", R_OK | W_OK));
	assert_errno(access("k", X_OK), EACCES);
	assert_errno(faccessat(AT_FDCWD, "k", X_OK, AT_EACCESS), EACCES);
	assert_int_not_equal(sh("test -x k"), 0);
	assert_ok(access("d", R_OK | W_OK | X_OK));
	assert_ok(chmod("k", 01));
	assert_ok(access("k", R_OK | W_OK | X_OK));
}

static void other_users_are_kept_out_by_the_mode(void **state)
{
	(void)state;
	only_root();
	only_cubby();
	mount_stop();
	assert_ok(chmod(base_path(), 0755));
	assert_ok(chmod(point_path(), 0755));
	mount_start("allow_other");
	run("echo secret > k; chmod 600 k; echo open > l; chmod 644 l; chmod 755 .");
	assert_string_equal(run("setpriv --reuid 65534 --regid 65534 --clear-groups cat l"),
			    "open");
	assert_int_not_equal(sh("setpriv --reuid 65534 --regid 65534 --clear-groups cat k"), 0);
	assert_int_not_equal(sh("setpriv --reuid 65534 --regid 65534 --clear-groups touch n"), 0);
}

static void statfs_tells_of_the_disk_below(void **state)
{
	(void)state;
	run("[ $(stat -f -c %%b .) -gt 0 ] && [ $(stat -f -c %%a .) -gt 0 ]");
	assert_string_equal(run("stat -f -c %%l ."), "255");
	run("df . && df -i .");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, mount_begin, mount_end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(mode_and_type_are_kept),
		TEST(creation_obeys_the_umask),
		TEST(owner_and_group_are_kept),
		TEST(times_are_kept_to_the_nanosecond),
		TEST(a_time_set_while_the_file_is_open_is_kept_by_the_close),
		TEST(writing_moves_mtime_and_reading_does_not),
		TEST(a_table_shows_the_time_of_its_last_change),
		TEST(any_change_of_attributes_moves_ctime),
		TEST(an_inode_number_stays_with_its_file),
		TEST(directories_count_their_directories_as_links),
		TEST(what_nobody_may_execute_root_may_not_either),
		TEST(other_users_are_kept_out_by_the_mode),
		TEST(statfs_tells_of_the_disk_below),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

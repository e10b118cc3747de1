/* Times: whose they are, how fine, how far they reach; and what statfs and statx say. */
#include "mount/mount.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <unistd.h>

static struct stat stat_of(const char *name)
{
	struct stat st;

	assert_ok(lstat(name, &st));
	return st;
}

static int64_t ns_of(struct timespec t)
{
	return t.tv_sec * 1000000000 + t.tv_nsec;
}

static void set(const char *name, struct timespec atime, struct timespec mtime)
{
	const struct timespec times[2] = { atime, mtime };

	assert_ok(utimensat(AT_FDCWD, name, times, AT_SYMLINK_NOFOLLOW));
}

static void nanoseconds_are_kept_before_1970_and_after_2038(void **state)
{
	static const struct timespec when[] = {
		{ 0, 0 }, { 0, 1 }, { -1, 999999999 }, { -1, 0 }, { -2000000000, 5 },
		{ 2147483647, 999999999 }, { 2147483648, 1 }, { 4294967296, 7 }, { 9223372035, 8 },
	};
	const size_t count = sizeof(when) / sizeof(*when);

	(void)state;
	run("touch k; mkdir d; ln -s k l");
	for (size_t i = 0; i < count; i++) {
		set("k", when[i], when[count - 1 - i]);
		set("d", when[i], when[count - 1 - i]);
		set("l", when[i], when[count - 1 - i]);
		if (i % 4 == 0)
			mount_again();
		for (const char *name = "kdl"; *name; name++) {
			const char text[2] = { *name };
			const struct stat st = stat_of(text);

			assert_int_equal(st.st_atim.tv_sec, when[i].tv_sec);
			assert_int_equal(st.st_atim.tv_nsec, when[i].tv_nsec);
			assert_int_equal(st.st_mtim.tv_sec, when[count - 1 - i].tv_sec);
			assert_int_equal(st.st_mtim.tv_nsec, when[count - 1 - i].tv_nsec);
		}
	}
}

/* As any filesystem does with what it cannot keep. */
static void times_out_of_reach_become_the_last_within(void **state)
{
	(void)state;
	only_cubby();
	run("touch k");
	set("k", (struct timespec){ 1ll << 40, 0 }, (struct timespec){ -(1ll << 40), 0 });
	for (int i = 0; i < 2; i++) {
		assert_int_equal(stat_of("k").st_atim.tv_sec, 9223372036);
		assert_int_equal(stat_of("k").st_mtim.tv_sec, -9223372037);
		mount_again();
	}
}

static void now_and_omit_are_told_apart(void **state)
{
	const struct timespec now = { 0, UTIME_NOW }, omit = { 0, UTIME_OMIT };
	struct stat st;
	int64_t begin;

	(void)state;
	run("touch k");
	set("k", (struct timespec){ 10, 1 }, (struct timespec){ 20, 2 });
	set("k", omit, (struct timespec){ 30, 3 });
	st = stat_of("k");
	assert_int_equal(ns_of(st.st_atim), 10000000001);
	assert_int_equal(ns_of(st.st_mtim), 30000000003);
	begin = ns_of(st.st_ctim);
	wait_for_tick();
	set("k", omit, omit);
	assert_int_equal(ns_of(stat_of("k").st_ctim), begin);
	set("k", now, omit);
	st = stat_of("k");
	assert_int_equal(ns_of(st.st_mtim), 30000000003);
	assert_true(ns_of(st.st_atim) > begin);
	assert_true(ns_of(st.st_ctim) > begin);
	set("k", (struct timespec){ 10, 1 }, now);
	st = stat_of("k");
	assert_int_equal(ns_of(st.st_atim), 10000000001);
	assert_true(ns_of(st.st_mtim) > begin);
}

static void who_may_set_times(void **state)
{
	const char *as = "setpriv --reuid=1000 --regid=1000 --clear-groups";

	(void)state;
	only_root();
	mount_stop();
	mount_start("allow_other");
	run("chmod 755 .. .; touch mine writable closed; chown 1000 mine; chmod 666 writable;"
	    "chmod 644 closed");
	run("%s touch -d @5 mine; %s touch mine; %s touch writable", as, as, as);
	assert_int_not_equal(sh("%s touch -d @5 writable", as), 0);
	assert_non_null(strstr(said(), "not permitted"));
	assert_int_not_equal(sh("%s touch closed", as), 0);
	assert_non_null(strstr(said(), "denied"));
}

/* Which time changes with what, as POSIX has it: a atime, m mtime, c ctime. */
static void each_operation_moves_its_times(void **state)
{
	static const struct {
		const char *command, *watched, *moves;
	} table[] = {
		{ "echo more >> f", "f", "mc" },
		{ "chmod 600 f", "f", "c" },
		{ "truncate -s 3 f", "f", "mc" },
		{ "setfattr -n user.a -v 1 f", "f", "c" },
		{ "setfattr -x user.a f", "f", "c" },
		{ "ln f g", "f", "c" },
		{ "mv f h", "h", "c" },
		{ "rm g", "h", "c" },
		{ "cat h", "h", "" },
		{ "touch d/x", "d", "mc" },
		{ "echo y > d/x", "d", "" },
		{ "mv d/x d/y", "d", "mc" },
		{ "chmod 700 d/y", "d", "" },
		{ "rm d/y", "d", "mc" },
		{ "mkdir d/z", "d", "mc" },
		{ "ln -s a d/s", "d", "mc" },
		{ "chmod 700 d", "d", "c" },
	};

	(void)state;
	run("echo text > f; mkdir d");
	for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++) {
		const char *before_name = i == 6 ? "f" : table[i].watched;
		const struct stat a = stat_of(before_name);
		struct stat b;

		wait_for_tick();
		run("%s", table[i].command);
		b = stat_of(table[i].watched);
		if ((ns_of(a.st_mtim) != ns_of(b.st_mtim)) != !!strchr(table[i].moves, 'm'))
			fail_msg("mtime after: %s", table[i].command);
		if ((ns_of(a.st_ctim) != ns_of(b.st_ctim)) != !!strchr(table[i].moves, 'c'))
			fail_msg("ctime after: %s", table[i].command);
		if (ns_of(b.st_mtim) > ns_of(b.st_ctim))
			fail_msg("mtime is ahead of ctime after: %s", table[i].command);
	}
}

/* Reading moves no time: who needs access times has to set them. */
static void reading_leaves_the_access_time_alone(void **state)
{
	struct stat before;

	(void)state;
	only_cubby();
	run("echo text > f; mkdir d; touch -a -d @5 f d");
	before = stat_of("f");
	run("cat f; ls d");
	mount_again();
	run("cat f; ls d");
	assert_int_equal(ns_of(stat_of("f").st_atim), ns_of(before.st_atim));
	assert_int_equal(stat_of("d").st_atim.tv_sec, 5);
}

static void statfs_counts_in_bytes_and_files(void **state)
{
	struct statvfs a, b;

	(void)state;
	only_cubby();
	assert_ok(statvfs(".", &a));
	run("head -c 20000000 /dev/urandom > k; for i in $(seq 200); do > f$i; done; sync k");
	assert_ok(statvfs(".", &b));
	assert_int_equal(a.f_namemax, 255);
	assert_true(a.f_bavail <= a.f_bfree && a.f_bfree <= a.f_blocks);
	assert_true(b.f_files - b.f_ffree >= a.f_files - a.f_ffree + 200);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, mount_begin, mount_end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(nanoseconds_are_kept_before_1970_and_after_2038),
		TEST(times_out_of_reach_become_the_last_within),
		TEST(now_and_omit_are_told_apart),
		TEST(who_may_set_times),
		TEST(each_operation_moves_its_times),
		TEST(reading_leaves_the_access_time_alone),
		TEST(statfs_counts_in_bytes_and_files),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* A key is gone at the instant it expires, whatever the kernel has cached; nothing is asserted
 * about how long anything takes, only about what the clock says around each look. */
#include "mount/mount.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

static int set_expiry(const char *name, int64_t at)
{
	char text[32];

	snprintf(text, sizeof(text), "%" PRId64 ".%03" PRId64, at / 1000, at % 1000);
	return setxattr(name, "user.cubby.expires", text, strlen(text), 0);
}

/* Makes `name` expire `ms` from now; returns the instant. */
static int64_t expire_in(const char *name, int64_t ms)
{
	const int64_t at = now_ms() + ms;

	assert_ok(set_expiry(name, at));
	return at;
}

static bool there_by_stat(const char *name)
{
	return exists(name);
}

static bool there_by_open(const char *name)
{
	char byte;
	const int fd = open(name, O_RDONLY);

	if (fd < 0) {
		assert_int_equal(errno, ENOENT);
		return false;
	}
	assert_int_equal(read(fd, &byte, 1), 1);
	assert_ok(close(fd));
	return true;
}

static bool there_by_listing(const char *name)
{
	DIR *d = opendir(".");
	struct dirent *e;
	bool found = false;

	assert_non_null(d);
	while ((e = readdir(d)))
		found |= strcmp(e->d_name, name) == 0;
	assert_ok(closedir(d));
	return found;
}

static bool there_by_ls(const char *name)
{
	return sh("ls -l %s", name) == 0;
}

static bool there_by_cat(const char *name)
{
	return sh("cat %s", name) == 0;
}

/* Looks again and again, so that every cache is warm: it must be there in each look that ended
 * before the instant, and in no look that began at or after it. */
static void watch_it_go(const char *name, int64_t at, bool (*there)(const char *name))
{
	unsigned early = 0, late = 0;

	while (late < 20) {
		const int64_t before = now_ms();
		const bool is = there(name);
		const int64_t after = now_ms();

		if (after < at) {
			early++;
			assert_true(is);
		}
		if (before >= at) {
			late++;
			if (is)
				fail_msg("%s still there %d ms after it expired", name,
					 (int)(before - at));
		}
		sleep_ms(after < at - 50 ? 20 : 1);
	}
	if (early == 0)
		print_message("(no look came before the instant)\n");
}

static void a_key_is_gone_from_every_view_at_its_instant(void **state)
{
	static bool (*const views[])(const char *) = {
		there_by_stat, there_by_open, there_by_listing, there_by_ls, there_by_cat,
	};

	(void)state;
	only_cubby();
	for (size_t i = 0; i < sizeof(views) / sizeof(*views); i++) {
		run("echo x > k; stat k; cat k; ls -l");
		watch_it_go("k", expire_in("k", 1200), views[i]);
	}
}

static void many_keys_go_each_at_its_own_instant(void **state)
{
	enum { KEYS = 40 };
	int64_t at[KEYS];
	char name[16];

	(void)state;
	only_cubby();
	for (int i = 0; i < KEYS; i++) {
		snprintf(name, sizeof(name), "k%d", i);
		put(name, "x");
		at[i] = expire_in(name, 1500 + 25 * (KEYS - i));
	}
	for (int i = KEYS - 1; i >= 0; i--) {
		snprintf(name, sizeof(name), "k%d", i);
		watch_it_go(name, at[i], there_by_stat);
	}
	assert_string_equal(run("ls"), "");
}

static void an_open_handle_reads_on_after_the_key_is_gone(void **state)
{
	char text[16] = "";
	int64_t at;
	int fd;

	(void)state;
	only_cubby();
	put("k", "still readable");
	at = expire_in("k", 800);
	fd = open("k", O_RDONLY);
	assert_ok(fd);
	watch_it_go("k", at, there_by_stat);
	assert_int_equal(pread(fd, text, 14, 0), 14);
	assert_string_equal(text, "still readable");
	assert_ok(close(fd));
}

static void the_name_is_free_for_a_new_key_of_version_one(void **state)
{
	(void)state;
	only_cubby();
	run("echo a > k; echo b > k");
	watch_it_go("k", expire_in("k", 500), there_by_stat);
	run("echo new > k");
	assert_int_equal(version("k"), 1);
	assert_errno(getxattr("k", "user.cubby.expires", NULL, 0), ENODATA);
	mount_again();
	assert_string_equal(get("k"), "new\n");
}

static void each_way_to_use_the_name_works_the_moment_it_is_free(void **state)
{
	int fd;

	(void)state;
	only_cubby();
	run("echo x | tee a b c d e f; echo source > source");
	for (const char *name = "abcde"; *name; name++)
		expire_in((char[]){ *name, 0 }, 500);
	watch_it_go("f", expire_in("f", 500), there_by_stat);
	fd = open("a", O_WRONLY | O_CREAT | O_EXCL, 0644);
	assert_ok(fd);
	assert_ok(close(fd));
	assert_ok(mkdir("b", 0755));
	assert_ok(symlink("x", "c"));
	assert_ok(rename("source", "d"));
	assert_errno(unlink("e"), ENOENT);
	assert_errno(rename("e", "g"), ENOENT);
	assert_string_equal(run("ls"), "a\nb\nc\nd");
}

static void a_table_of_expired_keys_counts_as_empty(void **state)
{
	(void)state;
	only_cubby();
	run("mkdir d; echo x > d/k; echo y > d/l");
	expire_in("d/l", 400);
	watch_it_go("d/k", expire_in("d/k", 500), there_by_stat);
	assert_string_equal(run("ls -A d"), "");
	assert_ok(rmdir("d"));
}

static void an_expiry_outlives_a_kill_and_a_remount(void **state)
{
	int64_t at;

	(void)state;
	only_cubby();
	run("echo x > k; echo y > stays");
	at = expire_in("k", 3000);
	mount_kill();
	mount_start(NULL);
	mount_again();
	watch_it_go("k", at, there_by_open);
	mount_kill();
	mount_start(NULL);
	assert_false(exists("k"));
	assert_string_equal(run("ls"), "stays");
}

static void what_expired_while_unmounted_is_gone_after_mounting(void **state)
{
	int64_t at;

	(void)state;
	only_cubby();
	run("echo x > k; echo y > stays");
	at = expire_in("k", 500);
	mount_stop();
	sleep_ms(at - now_ms() + 1);
	mount_start(NULL);
	assert_false(exists("k"));
	assert_string_equal(run("ls"), "stays");
}

/* As soon as the kernel has been told. */
static void an_instant_just_past_removes_the_key(void **state)
{
	(void)state;
	only_cubby();
	run("echo x > k; cat k");
	expire_in("k", -1);
	run("while test -e k; do :; done");
	run("echo x > k; cat k; setfattr -n user.cubby.expires -v +0s k; "
	    "while test -e k; do :; done");
	assert_string_equal(run("ls"), "");
}

/* As restored from a backup: see test_tools. */
static void an_instant_long_past_lets_the_key_live_for_some_seconds(void **state)
{
	const int64_t before = now_ms();
	char text[32] = "";
	int64_t at;

	(void)state;
	only_cubby();
	run("echo x > k; cat k");
	assert_ok(setxattr("k", "user.cubby.expires", "1000000000", 10, 0));
	assert_ok(getxattr("k", "user.cubby.expires", text, sizeof(text) - 1));
	at = (int64_t)(strtod(text, NULL) * 1000 + .5);
	assert_in_range(at, before + 10000, now_ms() + 10000);
	watch_it_go("k", at, there_by_stat);
}

/* Who writes that means an hour from now. */
static void a_date_before_there_were_any_keys_is_refused(void **state)
{
	(void)state;
	only_cubby();
	put("k", "x");
	assert_errno(setxattr("k", "user.cubby.expires", "3600", 4, 0), EINVAL);
	assert_errno(setxattr("k", "user.cubby.expires", "1970-01-01T01:00:00Z", 20, 0), EINVAL);
	assert_errno(getxattr("k", "user.cubby.expires", NULL, 0), ENODATA);
	assert_string_equal(get("k"), "x");
}

/* Somebody who is too late for the first instant tries again with a later one. */
static void an_expiry_put_off_keeps_the_key(void **state)
{
	int64_t first, second, ms = 200;
	bool in_time;

	(void)state;
	only_cubby();
	do {
		ms *= 2;
		put("k", "x");
		first = expire_in("k", ms);
		sh("cat k; stat k");
		second = now_ms() + 3 * ms;
		in_time = set_expiry("k", second) == 0;
		assert_true(in_time || now_ms() >= first);
	} while (!in_time);
	watch_it_go("k", second, there_by_open);
	assert_true(now_ms() > first);
}

/* ---- the kernel is told in time -------------------------------------------------------------- */

static pid_t teller; /* the daemon's thread that tells the kernel what to forget */

static pid_t find_teller(void)
{
	return (pid_t)atoi(run("cd /proc/%d/task; grep -l cubby-teller */comm", (int)daemon_pid()));
}

static void stop_teller(void)
{
	teller = find_teller();
	assert_ok(ptrace(PTRACE_SEIZE, teller, NULL, NULL));
	assert_ok(ptrace(PTRACE_INTERRUPT, teller, NULL, NULL));
	assert_int_equal(waitpid(teller, NULL, __WALL), teller);
}

static void let_teller_go(void)
{
	assert_ok(ptrace(PTRACE_DETACH, teller, NULL, NULL));
}

static int expires_soon(void *name)
{
	return set_expiry(name, now_ms() + 5000);
}

static int is_removed(void *name)
{
	return unlink(name);
}

static bool has_ended(pid_t child)
{
	siginfo_t info = { 0 };

	assert_ok(waitid(P_PID, (id_t)child, &info, WEXITED | WNOHANG | WNOWAIT));
	return info.si_pid == child;
}

/* Else it keeps what it has cached for a day, past the instant if that comes sooner than the
 * teller. The daemon does not wait for ever, so who was too slow to see it tries again. */
static void a_soon_expiry_is_answered_when_the_kernel_knows(void **state)
{
	bool early, in_time;

	(void)state;
	only_cubby();
	do {
		const time_t begin = time(NULL);
		pid_t child;

		run("echo x > k; cat k");
		stop_teller();
		child = spawn(expires_soon, (void *)(uintptr_t) "k");
		sleep_ms(200);
		early = has_ended(child);
		in_time = time(NULL) == begin;
		let_teller_go();
		assert_true(joined(child));
	} while (!in_time);
	assert_false(early);
}

/* Setting it holds the file's lock in the kernel; removing it the directory's, which the teller
 * needs, and waits for the file's. */
static void an_expiry_and_a_removal_do_not_wait_for_each_other(void **state)
{
	pid_t children[2];

	(void)state;
	only_cubby();
	run("echo x > k; cat k");
	stop_teller();
	children[0] = spawn(expires_soon, (void *)(uintptr_t) "k");
	sleep_ms(100);
	children[1] = spawn(is_removed, (void *)(uintptr_t) "k");
	sleep_ms(100);
	let_teller_go();
	for (size_t i = 0; i < 2; i++)
		assert_true(joined(children[i]));
	assert_false(exists("k"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, mount_begin, mount_end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_key_is_gone_from_every_view_at_its_instant),
		TEST(many_keys_go_each_at_its_own_instant),
		TEST(an_open_handle_reads_on_after_the_key_is_gone),
		TEST(the_name_is_free_for_a_new_key_of_version_one),
		TEST(each_way_to_use_the_name_works_the_moment_it_is_free),
		TEST(a_table_of_expired_keys_counts_as_empty),
		TEST(an_expiry_outlives_a_kill_and_a_remount),
		TEST(what_expired_while_unmounted_is_gone_after_mounting),
		TEST(an_instant_just_past_removes_the_key),
		TEST(an_instant_long_past_lets_the_key_live_for_some_seconds),
		TEST(a_date_before_there_were_any_keys_is_refused),
		TEST(an_expiry_put_off_keeps_the_key),
		TEST(a_soon_expiry_is_answered_when_the_kernel_knows),
		TEST(an_expiry_and_a_removal_do_not_wait_for_each_other),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

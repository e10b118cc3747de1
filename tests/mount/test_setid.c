/* Set-user-id, set-group-id and sticky: what takes them away, and what they mean on directories.
 * Everything runs as an ordinary user (1000) and as root, and as on the disk's own filesystem. */
#include "mount/mount.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static int begin(void **state)
{
	const int rc = mount_fresh(state);

	if (rc == 0) {
		mount_start("allow_other");
		run("chmod 755 ..; chmod 777 .");
	}
	return rc;
}

static unsigned mode_of(const char *name)
{
	struct stat st;

	assert_ok(stat(name, &st));
	return st.st_mode & 07777;
}

/* ---- as somebody ---------------------------------------------------------------------------- */

struct act {
	int (*does)(const char *name);
	const char *name;
	uid_t uid;
};

static int act_as(void *arg)
{
	const struct act *act = arg;

	if (act->uid && (setgroups(0, NULL) || setgid(act->uid) || setuid(act->uid)))
		return -1;
	return act->does(act->name);
}

/* Mode 06777, then `does` as this user; what the mode is then. */
static unsigned after(int (*does)(const char *name), uid_t uid, mode_t mode)
{
	struct act act = { does, "k", uid };

	run("rm -f k; head -c 200000 /dev/zero > k; chown 1000:1000 k; chmod %o k", mode);
	if (!joined(spawn(act_as, &act)))
		fail_msg("uid %d could not", uid);
	return mode_of("k");
}

/* ---- what takes them away ------------------------------------------------------------------- */

static int close_all(int fd, bool ok)
{
	return close(fd) == 0 && ok ? 0 : -1;
}

static int writes(const char *name)
{
	const int fd = open(name, O_WRONLY);

	return close_all(fd, write(fd, "x", 1) == 1);
}

static int writes_and_reads(const char *name)
{
	const int fd = open(name, O_RDWR);

	return close_all(fd, write(fd, "x", 1) == 1);
}

static int appends(const char *name)
{
	const int fd = open(name, O_WRONLY | O_APPEND);

	return close_all(fd, write(fd, "x", 1) == 1);
}

static int cuts(const char *name)
{
	const int fd = open(name, O_RDWR);

	return close_all(fd, ftruncate(fd, 100) == 0);
}

static int cuts_by_name(const char *name)
{
	return truncate(name, 100);
}

static int empties(const char *name)
{
	return close_all(open(name, O_WRONLY | O_TRUNC), true);
}

static int allocates(const char *name)
{
	const int fd = open(name, O_RDWR);

	return close_all(fd, fallocate(fd, 0, 0, 300000) == 0);
}

static int punches(const char *name)
{
	const int fd = open(name, O_RDWR);

	return close_all(fd,
			 fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 70000) == 0);
}

static int copies(const char *name)
{
	const int from = open(name, O_RDONLY), fd = open(name, O_WRONLY);
	loff_t to = 100000;

	close(STDIN_FILENO);
	return close_all(fd, copy_file_range(from, NULL, fd, &to, 100, 0) == 100);
}

/* On no disk does a changed page take them off: nobody asks then. */
static int changes_by_a_mapping(const char *name)
{
	const int fd = open(name, O_RDWR);
	char *map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (map == MAP_FAILED)
		return -1;
	map[0] = 'x';
	return close_all(fd, msync(map, 4096, MS_SYNC) == 0 && fsync(fd) == 0);
}

static int reads(const char *name)
{
	const int fd = open(name, O_RDONLY);
	char byte;

	return close_all(fd, read(fd, &byte, 1) == 1);
}

static int gives_away(const char *name)
{
	return chown(name, -1, 1000);
}

static int gives_nothing_away(const char *name)
{
	return chown(name, -1, -1);
}

static void an_ordinary_users_change_takes_them_off(void **state)
{
	static int (*const changes[])(const char *) = {
		writes, writes_and_reads, appends, cuts, cuts_by_name,
		empties, allocates, punches, copies, gives_away, gives_nothing_away,
	};

	(void)state;
	only_root();
	for (size_t i = 0; i < sizeof(changes) / sizeof(*changes); i++) {
		if (after(changes[i], 1000, 06777) != 0777)
			fail_msg("change %zu left mode %o", i, mode_of("k"));
		if (after(changes[i], 1000, 04644) != 0644)
			fail_msg("change %zu left mode %o of 4644", i, mode_of("k"));
	}
	assert_int_equal(after(changes_by_a_mapping, 1000, 06777), 06777);
	assert_int_equal(after(reads, 1000, 06777), 06777);
	mount_again();
	assert_int_equal(mode_of("k"), 06777);
}

/* Without group execution the bit once meant mandatory locking: for the group it stays. */
static void set_group_id_without_execution_stays_for_the_group(void **state)
{
	(void)state;
	only_root();
	assert_int_equal(after(writes, 1000, 02666), 02666);
	assert_int_equal(after(cuts, 1000, 02666), 02666);
	assert_int_equal(after(gives_nothing_away, 1000, 02666), 02666);
	run("echo x > k; chown 1000:5 k; chmod 2666 k; "
	    "setpriv --reuid=1000 --regid=1000 --groups=5 bash -c 'echo y >> k'");
	assert_int_equal(mode_of("k"), 02666);
	run("setpriv --reuid=1000 --regid=1000 --clear-groups bash -c 'echo y >> k'");
	assert_int_equal(mode_of("k"), 0666);
}

static void root_may_write_and_keeps_them_but_not_over_chown(void **state)
{
	(void)state;
	only_root();
	assert_int_equal(after(writes, 0, 06777), 06777);
	assert_int_equal(after(writes_and_reads, 0, 06777), 06777);
	assert_int_equal(after(cuts_by_name, 0, 06777), 06777);
	assert_int_equal(after(empties, 0, 06777), 06777);
	assert_int_equal(after(allocates, 0, 06777), 06777);
	assert_int_equal(after(gives_away, 0, 06777), 0777);
	assert_int_equal(after(gives_nothing_away, 0, 06777), 0777);
}

static void a_directory_keeps_them_over_chown(void **state)
{
	(void)state;
	only_root();
	run("mkdir d; chmod 7777 d; chown 5:6 d");
	assert_int_equal(mode_of("d"), 07777);
}

static void chmod_by_a_stranger_to_the_group_takes_set_group_id_off(void **state)
{
	(void)state;
	only_root();
	run("touch k; chown 1000:5 k; setpriv --reuid=1000 --regid=1000 --clear-groups "
	    "chmod 2777 k");
	assert_int_equal(mode_of("k"), 0777);
	run("setpriv --reuid=1000 --regid=1000 --groups=5 chmod 2777 k");
	assert_int_equal(mode_of("k"), 02777);
}

/* ---- directories ---------------------------------------------------------------------------- */

static void a_set_group_id_directory_hands_its_group_down(void **state)
{
	(void)state;
	only_root();
	run("mkdir d; chown 0:7 d; chmod 2777 d; cd d; setpriv --reuid=1000 --regid=1000 "
	    "--clear-groups bash -c 'umask 022; touch f; mkdir s; ln -s f l; mknod p p; "
	    "mkdir s/t'");
	assert_string_equal(run("cd d; stat -c '%%n %%a %%u %%g' f s l p s/t"),
			    "f 644 1000 7\ns 2755 1000 7\nl 777 1000 7\np 644 1000 7\n"
			    "s/t 2755 1000 7");
}

static int makes(const char *name)
{
	umask(0);
	return close_all(open(name, O_CREAT | O_WRONLY | O_EXCL, 02775), true);
}

/* An executable of a group that is not one's own must not be set-group-id from the start. */
static void a_stranger_makes_no_set_group_id_file_there(void **state)
{
	struct act act = { makes, "d/k", 1000 };

	(void)state;
	only_root();
	run("mkdir d; chown 0:7 d; chmod 2777 d");
	assert_true(joined(spawn(act_as, &act)));
	assert_int_equal(mode_of("d/k"), 0775);
}

static void in_a_sticky_directory_only_owners_remove(void **state)
{
	const char *as = "setpriv --reuid=1000 --regid=1000 --clear-groups";

	(void)state;
	only_root();
	run("mkdir d; chmod 1777 d; touch d/roots; %s touch d/mine d/other", as);
	assert_int_not_equal(sh("%s rm -f d/roots", as), 0);
	assert_int_not_equal(sh("%s mv d/roots d/x", as), 0);
	assert_int_not_equal(sh("%s mv d/mine d/roots", as), 0);
	run("%s rm d/mine; %s mv d/other d/mine", as, as);
	assert_string_equal(run("ls d"), "mine\nroots");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, mount_end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(an_ordinary_users_change_takes_them_off),
		TEST(set_group_id_without_execution_stays_for_the_group),
		TEST(root_may_write_and_keeps_them_but_not_over_chown),
		TEST(a_directory_keeps_them_over_chown),
		TEST(chmod_by_a_stranger_to_the_group_takes_set_group_id_off),
		TEST(a_set_group_id_directory_hands_its_group_down),
		TEST(a_stranger_makes_no_set_group_id_file_there),
		TEST(in_a_sticky_directory_only_owners_remove),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

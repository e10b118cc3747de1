/* Mounting and unmounting: what the command says, what it refuses, and that it leaves nothing
 * behind. */
#include "mount/mount.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Runs `cubby ARGUMENTS`, like sh. */
#define cubby_sh(format, ...)  sh("%s " format, cubby(), ##__VA_ARGS__)
#define cubby_run(format, ...) run("%s " format, cubby(), ##__VA_ARGS__)

static void assert_said(const char *words)
{
	if (!strstr(said(), words))
		fail_msg("it should have said '%s', but said: %s", words, said());
}

/* Folders "other" (a mount point) and what the tests mount by hand: unmounted by hand_end. */
static int hand_begin(void **state)
{
	return mount_fresh(state) < 0 || mkdir("other", 0700) < 0 ? -1 : 0;
}

static int hand_end(void **state)
{
	char command[8192];

	snprintf(command, sizeof(command),
		 "for p in '%s'/other '%s'; do mountpoint -q $p && %s umount $p; done", base_path(),
		 point_path(), cubby());
	if (system(command) == -1)
		return -1;
	return mount_end(state);
}

static void help_and_version_are_told_on_request(void **state)
{
	(void)state;
	only_cubby();
	assert_int_equal(cubby_sh("-h"), 0);
	assert_said("mount");
	assert_int_equal(cubby_sh("-V"), 0);
	assert_said("cubby " CUBBY_VERSION);
	assert_int_equal(cubby_sh("-h 2>&1 >/dev/null | grep ."), 1);
}

static void wrong_usage_is_status_2(void **state)
{
	(void)state;
	only_cubby();
	assert_int_equal(cubby_sh(""), 2);
	assert_int_equal(cubby_sh("mount"), 2);
	assert_int_equal(cubby_sh("mount %s", store_path()), 2);
	assert_int_equal(cubby_sh("mount %s %s surplus", store_path(), point_path()), 2);
	assert_int_equal(cubby_sh("mount %s %s -o sync=sometimes", store_path(), point_path()), 2);
	assert_int_equal(cubby_sh("mount %s %s -o commit=never", store_path(), point_path()), 2);
	assert_int_equal(cubby_sh("mount %s %s -o stage=-1", store_path(), point_path()), 2);
	assert_int_equal(cubby_sh("mount %s %s -o log=1", store_path(), point_path()), 2);
	assert_said("at least 4M");
	assert_int_equal(cubby_sh("mount %s %s -o cache=64", store_path(), point_path()), 2);
	assert_said("at least 1M");
	assert_int_equal(cubby_sh("umount"), 2);
	assert_false(exists(store_path()));
}

static void a_wrong_command_line_is_told_what_is_wrong_with_it(void **state)
{
	(void)state;
	only_cubby();
	assert_int_equal(cubby_sh("frobnicate"), 2);
	assert_said("cubby: frobnicate: no such command");
	assert_int_equal(cubby_sh("mount -x %s %s", store_path(), point_path()), 2);
	assert_said("cubby mount: invalid option -- 'x'");
	assert_int_equal(cubby_sh("umount -l %s", point_path()), 2);
	assert_said("cubby umount: invalid option -- 'l'");
	assert_int_equal(cubby_sh("mount %s %s -o frobnicate", store_path(), point_path()), 2);
	assert_said("frobnicate");
	assert_int_equal(cubby_sh("mount %s/no/store %s", base_path(), point_path()), 1);
	assert_said("the folder in which it should be does not exist");
	assert_false(exists(store_path()));
}

/* What was mounted first would be hidden, and a store left open that nobody sees. */
static void a_mount_point_has_one_store(void **state)
{
	(void)state;
	only_cubby();
	cubby_run("mount %s %s", store_path(), point_path());
	assert_int_equal(cubby_sh("mount %s/another %s", base_path(), point_path()), 1);
	assert_said("mounted there already");
	assert_said(store_path());
	assert_int_equal(cubby_sh("mount %s %s", store_path(), point_path()), 1);
	assert_said("mounted there already");
	run("! test -e another");
	cubby_run("umount %s", point_path());
	assert_false(is_mounted(point_path()));
}

static void a_folder_without_room_says_so(void **state)
{
	(void)state;
	only_cubby();
	only_with_namespaces();
	run("cat > script <<'END'\n"
	    "mkdir small && mount -t tmpfs -o size=1m none small || exit 9\n"
	    "%s mount small/store %s\n"
	    "END\n", cubby(), point_path());
	assert_int_equal(sh("unshare -m bash script"), 1);
	assert_said("the log cannot be made: No space left on device");
}

static void what_another_has_mounted_is_not_ours_to_unmount(void **state)
{
	(void)state;
	only_cubby();
	only_root();
	run("chmod 755 . && install -d -o 65534 user && cp %s user/cubby", cubby());
	mount_start(NULL);
	assert_int_equal(sh("setpriv --reuid 65534 --regid 65534 --clear-groups %s/user/cubby "
			    "umount %s", base_path(), point_path()), 1);
	assert_said("only root and who has mounted it");
	mount_stop();
}

static void what_is_no_store_is_refused_by_name_and_left_alone(void **state)
{
	(void)state;
	only_cubby();
	run("mkdir full; echo mine > full/file; echo mine > plain");
	assert_int_equal(cubby_sh("mount %s/full %s", base_path(), point_path()), 1);
	assert_said("full");
	assert_string_equal(run("ls full; cat full/file"), "file\nmine");
	assert_int_equal(cubby_sh("mount %s/plain %s", base_path(), point_path()), 1);
	assert_said("plain");
	assert_string_equal(run("cat plain"), "mine");
	assert_int_equal(cubby_sh("mount %s %s/nowhere", store_path(), base_path()), 1);
	assert_said("nowhere");
	assert_int_equal(cubby_sh("umount %s", point_path()), 1);
}

static void a_store_to_be_read_only_is_not_made(void **state)
{
	(void)state;
	only_cubby();
	assert_int_equal(cubby_sh("mount %s %s -o ro", store_path(), point_path()), 1);
	assert_said("no store");
	assert_false(exists(store_path()));
	run("mkdir empty");
	assert_int_equal(cubby_sh("mount empty %s -o ro", point_path()), 1);
	assert_said("no store");
	assert_string_equal(run("ls -A empty"), "");
	assert_false(is_mounted(point_path()));
}

static void a_store_is_made_where_nothing_is_and_only_for_its_owner(void **state)
{
	struct stat st;

	(void)state;
	only_cubby();
	run("umask 0; mkdir -m 755 empty");
	cubby_run("mount %s %s", store_path(), point_path());
	assert_ok(stat(store_path(), &st));
	assert_int_equal(st.st_mode, S_IFDIR | 0700);
	cubby_run("umount %s", point_path());
	cubby_run("mount %s/empty %s", base_path(), point_path());
	cubby_run("umount %s", point_path());
	assert_int_equal(sh("find %s empty -type f -perm /077 | grep .", store_path()), 1);
}

static void the_mount_is_there_when_the_command_returns_and_gone_when_umount_does(void **state)
{
	(void)state;
	only_cubby();
	for (int i = 0; i < 5; i++) {
		cubby_run("mount %s %s", store_path(), point_path());
		assert_true(is_mounted(point_path()));
		run("echo %d >> point/k; mkdir point/d%d", i, i);
		cubby_run("umount %s", point_path());
		assert_false(is_mounted(point_path()));
	}
	cubby_run("%s %s", store_path(), point_path());
	assert_string_equal(get("point/k"), "0\n1\n2\n3\n4\n");
}

static void a_store_in_use_is_refused_with_its_holders_pid(void **state)
{
	char pid[16];

	(void)state;
	only_cubby();
	run("mkdir other");
	mount_start(NULL);
	put("k", "x");
	assert_int_equal(cubby_sh("mount %s %s/other", store_path(), base_path()), 1);
	snprintf(pid, sizeof(pid), "%d", (int)daemon_pid());
	assert_said(pid);
	run("! mountpoint -q %s/other", base_path());
	assert_string_equal(get("k"), "x");
}

static void an_unmount_while_in_use_is_refused_and_harmless(void **state)
{
	int fd;

	(void)state;
	only_cubby();
	mount_start(NULL);
	fd = open("k", O_WRONLY | O_CREAT, 0644);
	assert_ok(fd);
	assert_int_not_equal(cubby_sh("umount %s", point_path()), 0);
	assert_int_equal(write(fd, "x", 1), 1);
	assert_ok(close(fd));
	assert_string_equal(get("k"), "x");
	mount_stop();
}

static void a_signal_unmounts_cleanly(void **state)
{
	static const int signals[] = { SIGTERM, SIGINT, SIGHUP };

	(void)state;
	only_cubby();
	for (size_t i = 0; i < sizeof(signals) / sizeof(*signals); i++) {
		mount_start("sync=standard");
		run("echo %zu > k", i);
		assert_ok(chdir(base_path()));
		assert_ok(kill(daemon_pid(), signals[i]));
		assert_int_equal(mount_ended(), 0);
		assert_false(is_mounted(point_path()));
		mount_start(NULL);
		assert_string_equal(run("cat k"), run("echo %zu", i));
		mount_stop();
	}
}

/* With a program still in it, so that only a lazy unmount works. */
static void mounting_over_a_dead_mount_clears_it_and_says_so(void **state)
{
	char guest[16];

	(void)state;
	only_cubby();
	cubby_run("mount %s other", store_path());
	run("echo kept > other/k");
	snprintf(guest, sizeof(guest), "%s",
		 run("cd other; sleep 600 > /dev/null 2>&1 & echo $!"));
	run("kill -9 $(cat %s/lock); until flock -n %s/lock true; do sleep 0.01; done",
	    store_path(), store_path());
	assert_int_not_equal(sh("ls other"), 0);
	assert_int_equal(cubby_sh("mount %s other", store_path()), 0);
	assert_said("is gone; taking its mount away");
	assert_string_equal(run("cat other/k"), "kept");
	assert_string_equal(run("grep -c ' %s/other ' /proc/self/mountinfo", base_path()), "1");
	run("kill %s", guest);
}

/* The kernel then tells of no closing: a sanitizer's leak report would be the exit status. */
static void a_signal_during_a_listing_leaves_nothing_behind(void **state)
{
	DIR *listing;

	(void)state;
	only_cubby();
	mount_start(NULL);
	put("k", "1");
	listing = opendir(".");
	assert_non_null(listing);
	assert_non_null(readdir(listing));
	assert_ok(chdir(base_path()));
	assert_ok(kill(daemon_pid(), SIGTERM));
	assert_int_equal(mount_ended(), 0);
	closedir(listing);
}

static void mount_8_and_fstab_find_what_they_expect(void **state)
{
	(void)state;
	only_cubby();
	run("ln -s %s mount.cubby", cubby());
	run("./mount.cubby %s %s -o "
	    "rw,dev,suid,noatime,nofail,_netdev,x-systemd.automount,user,noauto",
	    store_path(), point_path());
	run("echo x > point/k; findmnt -n -o FSTYPE %s | grep fuse", point_path());
	cubby_run("umount %s", point_path());
	run("./mount.cubby %s %s -o ro", store_path(), point_path());
	assert_string_equal(get("point/k"), "x\n");
	assert_errno(open("point/l", O_WRONLY | O_CREAT, 0644), EROFS);
	cubby_run("umount %s", point_path());
}

/* In a mount namespace of its own, whose /usr/sbin holds nothing but the helper. */
static void mount_8_itself_mounts_by_type_and_by_fstab(void **state)
{
	(void)state;
	only_cubby();
	only_with_namespaces();
	run("echo '%s %s cubby rw,nofail,sync=standard,x-test 0 0' > fstab", store_path(),
	    point_path());
	run("cat > script <<'END'\n"
	    "set -ex\n"
	    "mount -t tmpfs none /usr/sbin\n"
	    "ln -s %s /usr/sbin/mount.cubby\n"
	    "mount -t cubby %s %s -o commit=2\n"
	    "echo x > point/k\n"
	    "%s umount %s\n"
	    "mount -T fstab %s\n"
	    "cat point/k\n"
	    "echo y > point/k\n"
	    "%s umount %s\n"
	    "END\n",
	    cubby(), store_path(), point_path(), cubby(), point_path(), point_path(), cubby(),
	    point_path());
	run("unshare -m bash script");
	mount_start(NULL);
	assert_string_equal(get("k"), "y\n");
}

/* In a mount namespace of its own, where everybody may open /dev/fuse, as on most machines. */
static void an_ordinary_user_mounts_and_is_held_to_the_modes(void **state)
{
	(void)state;
	only_cubby();
	only_with_namespaces();
	run("chmod 755 . && install -d -o 65534 -g 65534 user user/point && cp %s user/cubby",
	    cubby());
	run("cat > as-user <<'END'\n"
	    "set -ex\n"
	    "cd user\n"
	    "./cubby mount store point\n"
	    "echo x > point/k\n"
	    "[ $(stat -c %%u:%%g point/k) = 65534:65534 ]\n"
	    "chmod 400 point/k\n"
	    "! echo y > point/k\n"
	    "mkdir -m 500 point/d\n"
	    "! touch point/d/k\n"
	    "./cubby umount point\n"
	    "./cubby mount store point\n"
	    "[ $(cat point/k) = x ]\n"
	    "./cubby umount point\n"
	    "END\n"
	    "cat > script <<'END'\n"
	    "set -ex\n"
	    "mkdir dev\n"
	    "mount -t tmpfs -o mode=755 none dev\n"
	    "mknod -m 666 dev/fuse c 10 229\n"
	    "mount --bind dev/fuse /dev/fuse\n"
	    "setpriv --reuid 65534 --regid 65534 --clear-groups bash as-user\n"
	    "END\n");
	run("unshare -m bash script");
}

static void syncing_a_file_a_table_and_all_of_it_works(void **state)
{
	(void)state;
	mount_start("sync=standard");
	run("mkdir d; echo x > d/k; sync d/k; sync -d d/k; sync d; sync -f d; sync .");
	mount_kill();
	mount_start(NULL);
	assert_string_equal(get("d/k"), "x\n");
}

static void every_sync_mode_keeps_what_was_written(void **state)
{
	static const char *const modes[] = { "sync=close", "sync=always",
					     "sync=standard,commit=2" };

	(void)state;
	for (size_t i = 0; i < sizeof(modes) / sizeof(*modes); i++) {
		mount_start(modes[i]);
		run("mkdir d%zu; echo %zu > d%zu/k; cp d%zu/k d%zu/l; mv d%zu/l d%zu/m; rm d%zu/k",
		    i, i, i, i, i, i, i, i);
		mount_again();
		assert_string_equal(run("ls d%zu; cat d%zu/m", i, i), run("echo m; echo %zu", i));
		mount_stop();
	}
}

static void one_thread_is_enough(void **state)
{
	(void)state;
	only_cubby();
	cubby_run("mount %s %s -s", store_path(), point_path());
	run("cd point; for i in $(seq 50); do echo $i > k$i; done; cat k* | wc -l; rm k*; mkdir d; "
	    "echo x > d/k");
	cubby_run("umount %s", point_path());
	cubby_run("mount %s %s", store_path(), point_path());
	assert_string_equal(get("point/d/k"), "x\n");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, mount_fresh, mount_end)
#define HAND(name) cmocka_unit_test_setup_teardown(name, hand_begin, hand_end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		HAND(help_and_version_are_told_on_request),
		HAND(wrong_usage_is_status_2),
		HAND(a_wrong_command_line_is_told_what_is_wrong_with_it),
		HAND(a_mount_point_has_one_store),
		HAND(a_folder_without_room_says_so),
		HAND(what_another_has_mounted_is_not_ours_to_unmount),
		HAND(what_is_no_store_is_refused_by_name_and_left_alone),
		HAND(a_store_to_be_read_only_is_not_made),
		HAND(a_store_is_made_where_nothing_is_and_only_for_its_owner),
		HAND(the_mount_is_there_when_the_command_returns_and_gone_when_umount_does),
		TEST(a_store_in_use_is_refused_with_its_holders_pid),
		TEST(an_unmount_while_in_use_is_refused_and_harmless),
		TEST(a_signal_unmounts_cleanly),
		HAND(mounting_over_a_dead_mount_clears_it_and_says_so),
		TEST(a_signal_during_a_listing_leaves_nothing_behind),
		HAND(mount_8_and_fstab_find_what_they_expect),
		HAND(mount_8_itself_mounts_by_type_and_by_fstab),
		HAND(an_ordinary_user_mounts_and_is_held_to_the_modes),
		TEST(syncing_a_file_a_table_and_all_of_it_works),
		TEST(every_sync_mode_keeps_what_was_written),
		HAND(one_thread_is_enough),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

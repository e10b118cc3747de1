/* Who gets into a mount, and that nobody but its owner gets into a store, or leads us out of it. */
#include "mount/mount.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define NOBODY "setpriv --reuid 65534 --regid 65534 --clear-groups"

static void without_allow_other_nobody_else_gets_in(void **state)
{
	(void)state;
	only_cubby();
	only_root();
	run("chmod 711 . && chmod 777 point");
	mount_start(NULL);
	run("chmod 777 .; echo x > k; chmod 666 k");
	assert_ok(chdir(base_path()));
	assert_int_not_equal(sh(NOBODY " ls point"), 0);
	assert_int_not_equal(sh(NOBODY " cat point/k"), 0);
	assert_non_null(strstr(said(), "Permission denied"));
	assert_int_not_equal(sh(NOBODY " touch point/new"), 0);
	mount_stop();
	mount_start("allow_other");
	assert_ok(chdir(base_path()));
	assert_string_equal(run(NOBODY " cat point/k"), "x");
	run(NOBODY " touch point/new");
	assert_string_equal(run("stat -c %%u point/new"), "65534");
}

/* In a mount namespace where everybody may open /dev/fuse, as on most machines. */
static void an_ordinary_users_mount_is_closed_to_root_too(void **state)
{
	(void)state;
	only_cubby();
	only_with_namespaces();
	run("chmod 755 . && install -d -m 777 -o 65534 -g 65534 user user/point &&"
	    "cp %s user/cubby", cubby());
	run("cat > script <<'END'\n"
	    "set -ex\n"
	    "mkdir dev\n"
	    "mount -t tmpfs -o mode=755 none dev\n"
	    "mknod -m 666 dev/fuse c 10 229\n"
	    "mount --bind dev/fuse /dev/fuse\n"
	    "cd user\n"
	    NOBODY " ./cubby mount store point\n"
	    NOBODY " bash -c 'echo x > point/k; ln -s /etc point/l; chmod 4755 point/k'\n"
	    "! ls point\n"
	    "! cat point/k\n"
	    /* Who may not open a lock file, or not as root, may not do it by us either. */
	    "[ $(stat -c %%a store) = 700 ]\n"
	    "grep ' .*user/point ' /proc/self/mountinfo | grep nosuid | grep -q nodev\n"
	    "! " NOBODY " ./cubby mount -o allow_other store2 point2\n"
	    NOBODY " ./cubby umount point\n"
	    "END\n");
	run("unshare -m bash script");
}

/* Everything below the store's folder, as "mode name" lines. */
static const char *store_modes(void)
{
	return run("cd %s && stat -c '%%a %%F' . * | sort -u", store_path());
}

static void a_store_is_for_its_owner_alone_whatever_the_umask(void **state)
{
	const mode_t before = umask(0);

	(void)state;
	only_cubby();
	mount_start("log=32M");
	run("dd if=/dev/zero of=large bs=1M count=80 status=none; sync large");
	run("for i in $(seq 200); do echo $i > $i; done");
	assert_string_equal(store_modes(), "600 regular file\n700 directory");
	mount_again();
	assert_string_equal(store_modes(), "600 regular file\n700 directory");
	umask(before);
}

/* Each file of the store, replaced by a link to where it was moved, by a link to another's file, by
 * a fifo, by a directory: mounting refuses, and touches nothing behind it. */
static void links_in_a_store_are_not_followed(void **state)
{
	struct dirent *e;
	DIR *d;

	(void)state;
	only_cubby();
	mount_start(NULL);
	put("k", "kept");
	mount_stop();
	run("mkdir aside; echo precious > precious; chmod 600 precious");
	d = opendir(store_path());
	assert_non_null(d);
	while ((e = readdir(d))) {
		char *const f = e->d_name;

		if (f[0] == '.' || sh("[ -e aside/%s ]", f) == 0)
			continue;
		run("mv store/%s aside/%s", f, f);
		run("sha256sum aside/* precious > sums");
		run("ln -s ../aside/%s store/%s", f, f);
		assert_int_equal(sh("timeout 300 %s mount store point", cubby()), 1);
		assert_non_null(strstr(said(), f));
		run("ln -sfn ../precious store/%s", f);
		assert_int_equal(sh("timeout 300 %s mount store point", cubby()), 1);
		run("rm store/%s; mkfifo store/%s", f, f);
		assert_int_equal(sh("timeout 300 %s mount store point", cubby()), 1);
		run("rm store/%s; mkdir store/%s", f, f);
		assert_int_equal(sh("timeout 300 %s mount store point", cubby()), 1);
		run("rmdir store/%s; sha256sum --quiet -c sums; mv aside/%s store/%s", f, f, f);
	}
	assert_ok(closedir(d));
	assert_string_equal(run("cat precious"), "precious");
	mount_start(NULL);
	assert_string_equal(get("k"), "kept");
}

/* The daemon does what its mounter may, and no more, on behalf of whoever asks. */
static void root_of_the_mount_keeps_what_chown_gave_away(void **state)
{
	(void)state;
	only_cubby();
	only_root();
	run("chmod 711 . && chmod 777 point");
	mount_start("allow_other");
	run("chmod 755 .; mkdir -m 700 theirs; echo secret > theirs/k; "
	    "chown -R 65534:65534 theirs");
	assert_string_equal(run("cat theirs/k"), "secret"); /* root sees all, as anywhere */
	assert_string_equal(run(NOBODY " cat theirs/k"), "secret");
	run(NOBODY " bash -c 'echo new > theirs/k && mv theirs/k theirs/l'");
	assert_int_not_equal(sh("setpriv --reuid 1234 --regid 1234 --clear-groups ls theirs"), 0);
	assert_int_not_equal(sh("setpriv --reuid 0 --regid 0 --clear-groups --inh-caps=-all "
				"--bounding-set=-all cat theirs/l"), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, mount_fresh, mount_end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(without_allow_other_nobody_else_gets_in),
		TEST(an_ordinary_users_mount_is_closed_to_root_too),
		TEST(a_store_is_for_its_owner_alone_whatever_the_umask),
		TEST(links_in_a_store_are_not_followed),
		TEST(root_of_the_mount_keeps_what_chown_gave_away),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

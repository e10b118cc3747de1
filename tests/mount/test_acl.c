/* Access control lists (the option acl), security.* (the option security) and trusted.*: as the
 * disk's own filesystem has them. */
#include "mount/mount.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

static int begin(void **state)
{
	const int rc = mount_fresh(state);

	if (rc == 0)
		mount_start("acl,security,allow_other");
	return rc;
}

/* What getfacl says, on one line; lent until the next. */
static const char *acl(const char *name)
{
	static char list[1024];

	snprintf(list, sizeof(list), "%s",
		 run("getfacl -nc %s | sed 's/\\t.*//' | xargs echo", name));
	return list;
}

static void same_acl(const char *a, const char *b)
{
	assert_string_equal(run("diff <(getfacl -nc %s) <(getfacl -nc %s)", a, b), "");
}

static const char *mode(const char *name)
{
	return run("stat -c %%a %s", name);
}

/* ---- lists and modes ----------------------------------------------------------------------- */

static void a_list_is_kept_and_shows_in_the_mode(void **state)
{
	(void)state;
	run("umask 022; touch k; setfacl -m u:1000:rwx,g:7:r k");
	for (int i = 0; i < 2; i++) {
		assert_string_equal(acl("k"), "user::rw- user:1000:rwx group::r-- group:7:r-- "
					      "mask::rwx other::r--");
		assert_string_equal(mode("k"), "674");
		mount_again();
	}
	run("setfacl -m u:1000:r,m::r k");
	assert_string_equal(mode("k"), "644");
	run("setfacl -x u:1000,g:7 k");
	assert_string_equal(acl("k"), "user::rw- group::r-- mask::r-- other::r--");
	run("setfacl -b k");
	assert_string_equal(acl("k"), "user::rw- group::r-- other::r--");
	assert_errno(getxattr("k", "system.posix_acl_access", NULL, 0), ENODATA);
	run("setfacl -b k");
}

static void a_list_that_is_only_a_mode_is_one(void **state)
{
	(void)state;
	run("touch k; setfacl --set u::rwx,g::rx,o::- k");
	assert_string_equal(mode("k"), "750");
	assert_errno(getxattr("k", "system.posix_acl_access", NULL, 0), ENODATA);
	assert_string_equal(run("getfattr -m - k | grep -c acl || true"), "0");
}

static void chmod_changes_the_mask(void **state)
{
	(void)state;
	run("touch k; setfacl -m u:1000:rwx k; chmod 4640 k");
	assert_string_equal(acl("k"), "user::rw- user:1000:rwx group::r-- mask::r-- other::---");
	assert_string_equal(mode("k"), "4640");
	run("chmod u+x,g+wx,o+x k");
	assert_string_equal(acl("k"), "user::rwx user:1000:rwx group::r-- mask::rwx other::--x");
	run("exec 3<>k; rm k; setfacl -m u:1001:r /proc/self/fd/3; chmod 600 /proc/self/fd/3");
}

static void a_default_list_is_inherited_whatever_the_umask(void **state)
{
	(void)state;
	run("mkdir d; setfacl -d -m u:1001:rwx,g::rx,o::- d; umask 077; cd d; touch f; mkdir s;"
	    "mknod p p; ln -s f l; (umask 0; > g); mkdir s/t; cp f s/t/f");
	mount_again();
	assert_string_equal(acl("d/f"), "user::rw- user:1001:rwx group::r-x mask::rw- other::---");
	assert_string_equal(mode("d/f"), "660");
	assert_string_equal(acl("d/g"), "user::rw- user:1001:rwx group::r-x mask::rw- other::---");
	assert_string_equal(acl("d/p"), "user::rw- user:1001:rwx group::r-x mask::rw- other::---");
	assert_string_equal(acl("d/s"),
			    "user::rwx user:1001:rwx group::r-x mask::rwx other::--- "
			    "default:user::rwx default:user:1001:rwx default:group::r-x "
			    "default:mask::rwx default:other::---");
	same_acl("d/s/t", "d/s");
	assert_string_equal(mode("d/l"), "777");
	run("setfacl -k d; umask 027; touch d/n; mkdir d/m");
	assert_string_equal(mode("d/n"), "640");
	assert_string_equal(acl("d/m"), "user::rwx group::r-x other::---");
}

static void a_default_list_of_a_mode_alone_is_inherited_too(void **state)
{
	(void)state;
	run("mkdir d; setfacl -d --set u::rw,g::-,o::r d; umask 0; touch d/f; mkdir d/s");
	assert_string_equal(mode("d/f"), "604");
	assert_errno(getxattr("d/f", "system.posix_acl_access", NULL, 0), ENODATA);
	assert_string_equal(acl("d/s"), "user::rw- group::--- other::r-- default:user::rw- "
					"default:group::--- default:other::r--");
}

static void the_umask_counts_without_a_list(void **state)
{
	(void)state;
	run("umask 027; touch f; mkdir d; mknod p p; python3 -c 'import socket; "
	    "socket.socket(socket.AF_UNIX).bind(\"s\")'");
	assert_string_equal(run("stat -c %%a f d p s"), "640\n750\n640\n750");
}

static void only_directories_have_default_lists(void **state)
{
	(void)state;
	run("touch k; mkdir d; setfacl -d -m u:1:r d; getfattr -n system.posix_acl_default "
	    "--only-values d > list");
	assert_int_not_equal(sh("setfattr -n system.posix_acl_default -v "
				"0x$(od -An -v -tx1 list | tr -d ' \\n') k"), 0);
	assert_non_null(strstr(said(), "Permission denied"));
	assert_errno(setxattr("k", "system.posix_acl_access", "nonsense", 8, 0), EOPNOTSUPP);
	assert_errno(setxattr("k", "system.sockprotoname", "x", 1, 0), EOPNOTSUPP);
}

/* ---- whom they let in ---------------------------------------------------------------------- */

static void the_list_decides_who_may(void **state)
{
	const char *as = "setpriv --reuid=1000 --regid=1000 --clear-groups";

	(void)state;
	only_root();
	run("chmod 755 .. .; echo x > k; chmod 600 k; setfacl -m u:1000:r k");
	assert_string_equal(run("%s cat k", as), "x");
	assert_int_not_equal(sh("%s bash -c 'echo y > k'", as), 0);
	run("setfacl -m u:1000:rw k; %s bash -c 'echo y > k'", as);
	run("chmod 600 k");	/* the mask shuts him out */
	assert_int_not_equal(sh("%s cat k", as), 0);
	run("setfacl -b k; setfacl -m g:1000:r k");
	assert_string_equal(run("%s cat k", as), "y");
	assert_int_not_equal(sh("%s setfacl -m u:1000:rwx k", as), 0);
	assert_non_null(strstr(said(), "not permitted"));
	mount_again();
	assert_string_equal(run("%s cat k", as), "y");
}

static void a_stranger_to_the_group_cannot_keep_setgid(void **state)
{
	(void)state;
	only_root();
	run("chmod 755 ..; chmod 777 .; touch k l; chown 1000:5 k l; chmod 2755 k l");
	run("setpriv --reuid=1000 --regid=1000 --clear-groups setfacl -m u:7:r k");
	assert_string_equal(mode("k"), "755");
	run("setpriv --reuid=1000 --regid=1000 --groups=5 setfacl -m u:7:r l");
	assert_string_equal(mode("l"), "2755");
}

/* ---- tools --------------------------------------------------------------------------------- */

static void copies_and_archives_keep_lists(void **state)
{
	(void)state;
	run("mkdir -p a/b; echo 1 > a/f; setfacl -m u:1000:rw,g:9:x a/f; setfacl -d -m u:3:rwx a/b;"
	    "setfacl -m u:4:r a/b; cd a; getfacl -nR . > ../want");
	run("cp -a a b; cd b; getfacl -nR . | diff ../want -");
	run("mkdir c; rsync -aAX a/ c/; cd c; getfacl -nR . | diff ../want -");
	run("tar --acls --xattrs -cf t.tar a; mkdir d; tar --acls --xattrs -xf t.tar -C d; cd d/a;"
	    "getfacl -nR . | diff ../../want -");
	run("mkdir e; cp -r a/. e; cd e; setfacl --restore=../want; getfacl -nR . | "
	    "diff ../want -");
}

/* ---- other name spaces --------------------------------------------------------------------- */

static void change_by_a_mapping(const char *name)
{
	const int fd = open(name, O_RDWR);
	char *map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	assert_true(map != MAP_FAILED);
	map[0] = 'x';
	assert_ok(msync(map, 4096, MS_SYNC));
	assert_ok(munmap(map, 4096));
	assert_ok(close(fd));
}

static void security_attributes_are_kept(void **state)
{
	(void)state;
	only_root();
	run("cp /bin/true k; setcap cap_net_raw+ep k; setfattr -n security.label -v a:b:c k");
	mount_again();
	assert_string_equal(run("getcap k"), "k cap_net_raw=ep");
	assert_string_equal(run("getfattr --only-values -n security.label k"), "a:b:c");
	run("cp -a k l; getcap l | grep net_raw");
	change_by_a_mapping("k");
	assert_string_equal(run("getcap k"), "k cap_net_raw=ep");
	run("echo >> k");
	assert_string_equal(run("getcap k"), "");
	run("chown 1:1 l");
	assert_string_equal(run("getcap l"), "");
}

static void trusted_attributes_are_roots_alone(void **state)
{
	const char *as = "setpriv --reuid=1000 --regid=1000 --clear-groups";

	(void)state;
	only_root();
	run("chmod 755 .. .; touch k; chown 1000 k; setfattr -n trusted.a -v 1 k");
	mount_again();
	assert_string_equal(run("getfattr --only-values -n trusted.a k"), "1");
	assert_string_equal(run("getfattr -m ^trusted k"), "# file: k\ntrusted.a\n");
	assert_string_equal(run("%s getfattr -m ^trusted k", as), "");
	assert_int_not_equal(sh("%s getfattr -n trusted.a k", as), 0);
	assert_int_not_equal(sh("%s setfattr -n trusted.b -v 1 k", as), 0);
	assert_non_null(strstr(said(), "not permitted"));
	run("setfattr -x trusted.a k");
	assert_string_equal(run("getfattr -m ^trusted k"), "");
}

/* ---- without the options ------------------------------------------------------------------- */

static void without_the_options_nobody_goes_on_asking(void **state)
{
	(void)state;
	only_cubby();
	run("touch k; setfacl -m u:1000:rwx k; setfattr -n security.a -v 1 k");
	mount_stop();
	mount_start(NULL);
	assert_errno(getxattr("k", "system.posix_acl_access", NULL, 0), EOPNOTSUPP);
	assert_errno(getxattr("k", "security.a", NULL, 0), EOPNOTSUPP);
	assert_errno(setxattr("k", "security.a", "1", 1, 0), EOPNOTSUPP);
	assert_string_equal(run("getfattr -m '^(security|system)' k"), "");
	assert_int_not_equal(sh("setfacl -m u:1:r k"), 0);
	assert_non_null(strstr(said(), "not supported"));
	run("umask 027; touch n");
	assert_string_equal(mode("n"), "640");
	mount_stop();
	mount_start("acl");
	assert_non_null(strstr(acl("k"), "user:1000:rwx"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, mount_end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_list_is_kept_and_shows_in_the_mode),
		TEST(a_list_that_is_only_a_mode_is_one),
		TEST(chmod_changes_the_mask),
		TEST(a_default_list_is_inherited_whatever_the_umask),
		TEST(a_default_list_of_a_mode_alone_is_inherited_too),
		TEST(the_umask_counts_without_a_list),
		TEST(only_directories_have_default_lists),
		TEST(the_list_decides_who_may),
		TEST(a_stranger_to_the_group_cannot_keep_setgid),
		TEST(copies_and_archives_keep_lists),
		TEST(security_attributes_are_kept),
		TEST(trusted_attributes_are_roots_alone),
		TEST(without_the_options_nobody_goes_on_asking),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

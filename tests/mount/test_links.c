/* Hard links: several names for one file, as on any disk; and one version and expiry with it. */
#include "mount/mount.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

/* ---- vocabulary ------------------------------------------------------------------------------ */

static struct stat stat_of(const char *name)
{
	struct stat st;

	assert_ok(lstat(name, &st));
	return st;
}

static unsigned links(const char *name)
{
	return (unsigned)stat_of(name).st_nlink;
}

static bool same(const char *a, const char *b)
{
	return stat_of(a).st_ino == stat_of(b).st_ino;
}

static void share(const char *a, const char *b)
{
	const unsigned before = links(a);

	assert_ok(link(a, b));
	assert_int_equal(links(a), before + 1);
	assert_int_equal(links(b), before + 1);
	assert_true(same(a, b));
}

static void expire_in(const char *name, int64_t ms)
{
	const int64_t at = now_ms() + ms;
	char text[32];

	snprintf(text, sizeof(text), "%" PRId64 ".%03" PRId64, at / 1000, at % 1000);
	assert_ok(setxattr(name, "user.cubby.expires", text, strlen(text), 0));
}

/* ---- names ----------------------------------------------------------------------------------- */

static void all_names_show_the_same_file(void **state)
{
	(void)state;
	put("a", "one");
	assert_ok(mkdir("d", 0755));
	share("a", "d/b");
	put("d/b", "two");
	assert_string_equal(get("a"), "two");
	run("echo more >> a");
	assert_string_equal(get("d/b"), "twomore\n");
	assert_ok(chmod("a", 0640));
	assert_int_equal(stat_of("d/b").st_mode & 07777, 0640);
	assert_ok(setxattr("d/b", "user.colour", "red", 3, 0));
	assert_int_equal(getxattr("a", "user.colour", NULL, 0), 3);
	mount_again();
	assert_true(same("a", "d/b"));
	assert_int_equal(links("a"), 2);
	assert_string_equal(get("a"), "twomore\n");
}

static void a_file_stays_until_its_last_name_goes(void **state)
{
	(void)state;
	put("a", "text");
	share("a", "b");
	share("b", "c");
	assert_ok(unlink("a"));
	assert_int_equal(links("b"), 2);
	assert_string_equal(get("c"), "text");
	assert_ok(unlink("b"));
	assert_int_equal(links("c"), 1);
	put("c", "changed");
	put("a", "another");
	assert_string_equal(get("c"), "changed");
	mount_again();
	assert_string_equal(get("c"), "changed");
	assert_ok(unlink("c"));
	assert_false(exists("c"));
	assert_string_equal(run("ls"), "a");
}

static void an_open_file_counts_its_names_down_to_none(void **state)
{
	char text[8] = "";
	struct stat st;
	int fd;

	(void)state;
	put("a", "text");
	share("a", "b");
	fd = open("b", O_RDWR);
	assert_ok(fd);
	assert_ok(unlink("b"));
	assert_ok(fstat(fd, &st));
	assert_int_equal(st.st_nlink, 1);
	assert_int_equal(pwrite(fd, "T", 1, 0), 1);
	assert_ok(fsync(fd));
	assert_string_equal(get("a"), "Text");
	assert_ok(unlink("a"));
	assert_ok(fstat(fd, &st));
	assert_int_equal(st.st_nlink, 0);
	assert_int_equal(pread(fd, text, 4, 0), 4);
	assert_string_equal(text, "Text");
	assert_int_equal(pwrite(fd, "n", 1, 0), 1);
	assert_ok(close(fd));
	assert_string_equal(run("ls"), "");
}

static void errors_are_those_of_link(void **state)
{
	char longest[257];
	int fd;

	(void)state;
	put("a", "text");
	put("b", "other");
	assert_ok(mkdir("d", 0755));
	assert_errno(link("a", "b"), EEXIST);
	assert_errno(link("a", "a"), EEXIST);
	assert_errno(link("a", "d"), EEXIST);
	assert_errno(link("d", "e"), EPERM);
	assert_errno(link("none", "e"), ENOENT);
	assert_errno(link("a", "none/e"), ENOENT);
	assert_errno(link("a", "b/e"), ENOTDIR);
	memset(longest, 'x', 256);
	longest[256] = '\0';
	assert_errno(link("a", longest), ENAMETOOLONG);
	longest[255] = '\0';
	assert_ok(link("a", longest));
	fd = open("b", O_RDONLY);
	assert_ok(fd);
	assert_ok(unlink("b"));
	assert_errno(linkat(fd, "", AT_FDCWD, "back", AT_EMPTY_PATH), ENOENT);
	assert_ok(close(fd));
}

static void a_link_itself_and_a_fifo_can_have_two_names(void **state)
{
	char target[8] = "";

	(void)state;
	assert_ok(symlink("target", "s"));
	assert_ok(mkfifo("p", 0600));
	assert_ok(linkat(AT_FDCWD, "s", AT_FDCWD, "s2", 0));
	share("p", "p2");
	assert_int_equal(readlink("s2", target, sizeof(target)), 6);
	assert_string_equal(target, "target");
	assert_int_equal(links("s"), 2);
	assert_true(S_ISFIFO(stat_of("p2").st_mode));
	assert_ok(unlink("s"));
	assert_int_equal(links("s2"), 1);
}

static void names_are_renamed_one_by_one(void **state)
{
	(void)state;
	put("a", "shared");
	share("a", "b");
	put("k", "key");
	assert_ok(rename("a", "b"));
	assert_int_equal(links("a"), 2);
	assert_ok(rename("b", "c"));
	assert_false(exists("b"));
	assert_string_equal(get("c"), "shared");
	assert_ok(rename("k", "c"));
	assert_string_equal(get("c"), "key");
	assert_string_equal(get("a"), "shared");
	assert_int_equal(links("a"), 1);
	share("a", "b");
	assert_ok(rename("b", "c"));
	assert_string_equal(get("c"), "shared");
	assert_int_equal(links("c"), 2);
	put("c", "changed");
	assert_string_equal(get("a"), "changed");
	mount_again();
	assert_int_equal(links("a"), 2);
	assert_string_equal(run("ls"), "a\nc");
}

static void names_are_exchanged(void **state)
{
	(void)state;
	put("a", "shared");
	put("k", "key");
	share("a", "b");
	assert_ok((int)syscall(SYS_renameat2, AT_FDCWD, "b", AT_FDCWD, "k", 2));
	assert_string_equal(get("b"), "key");
	assert_string_equal(get("k"), "shared");
	assert_true(same("a", "k"));
	assert_int_equal(links("b"), 1);
	put("k", "changed");
	assert_string_equal(get("a"), "changed");
	assert_ok(unlink("a"));
	assert_string_equal(get("k"), "changed");
}

/* Whoever has the replaced file open reads on, and whoever has the other name too. */
static void a_file_replaced_under_one_name_lives_under_the_other(void **state)
{
	char text[8] = "";
	int fd;

	(void)state;
	put("a", "old");
	share("a", "b");
	put("n", "new");
	fd = open("a", O_RDONLY);
	assert_ok(fd);
	assert_ok(rename("n", "a"));
	put("b", "upd");
	assert_int_equal(pread(fd, text, 3, 0), 3);
	assert_string_equal(text, "upd");
	assert_string_equal(get("a"), "new");
	assert_ok(close(fd));
	assert_int_equal(links("b"), 1);
}

static void what_is_being_written_is_published_by_a_link(void **state)
{
	int fd;

	(void)state;
	fd = open("tmp", O_WRONLY | O_CREAT | O_EXCL, 0644);
	assert_ok(fd);
	assert_int_equal(write(fd, "mail", 4), 4);
	assert_ok(link("tmp", "final"));
	assert_ok(unlink("tmp"));
	if (daemon_pid()) {
		mount_kill();
		mount_start(NULL);
	}
	assert_string_equal(get("final"), "mail");
	close(fd);
}

static void a_thousand_names_are_one_file(void **state)
{
	char name[16];

	(void)state;
	put("f", "x");
	assert_ok(mkdir("d", 0755));
	for (int i = 0; i < 1000; i++) {
		snprintf(name, sizeof(name), "d/%d", i);
		assert_ok(link("f", name));
	}
	assert_int_equal(links("f"), 1001);
	assert_string_equal(run("find d -samefile f | wc -l"), "1000");
	assert_string_equal(run("ls -i d | awk '{ print $1 }' | sort -u | wc -l"), "1");
	run("rm -r d");
	assert_int_equal(links("f"), 1);
}

/* ---- many at once ---------------------------------------------------------------------------- */

enum { CROWD = 4, TURNS = 400, CROWD_NAMES = 6 };

static bool is_race(int rc)
{
	return rc == 0 || errno == ENOENT || errno == EEXIST;
}

static int write_one(const char *name, bool fresh)
{
	const int fd = open(name, O_WRONLY | (fresh ? O_CREAT | O_TRUNC : 0), 0644);

	if (fd < 0)
		return -1;
	return write(fd, "text", 4) == 4 ? close(fd) : (close(fd), -1);
}

static int crowd(void *arg)
{
	uint64_t seed = (uint64_t)(uintptr_t)arg;
	char a[8], b[8];
	struct stat st;
	bool fine = true;

	for (int i = 0; i < TURNS && fine; i++) {
		snprintf(a, sizeof(a), "n%u", (unsigned)(random_next(&seed) % CROWD_NAMES));
		snprintf(b, sizeof(b), "n%u", (unsigned)(random_next(&seed) % CROWD_NAMES));
		switch (random_next(&seed) % 6) {
		case 0:
			fine = is_race(unlink(a));
			break;
		case 1:
			fine = is_race(rename(a, b));
			break;
		case 2:
			fine = is_race(write_one(a, true));
			break;
		case 3:
			fine = is_race(write_one(a, false)) && is_race(stat(b, &st));
			break;
		default:
			fine = is_race(link(a, b));
		}
	}
	if (!fine)
		perror(a);
	return !fine;
}

static void counts_are_right_after_a_crowd(void **state)
{
	pid_t child[CROWD];

	(void)state;
	for (uintptr_t i = 0; i < CROWD; i++)
		child[i] = spawn(crowd, (void *)(i * 977 + 5));
	for (int i = 0; i < CROWD; i++)
		assert_true(joined(child[i]));
	for (int again = 0; again < 2; again++) {
		run("for n in n*; do [ -e $n ] || continue; "
		    "[ $(stat -c %%h $n) = $(find . -samefile $n | wc -l) ] || exit 1; done");
		if (again == 0)
			mount_again();
	}
}

/* ---- versions, expiry ------------------------------------------------------------------------ */

static void the_version_is_shared_and_never_falls(void **state)
{
	(void)state;
	only_cubby();
	run("for i in 1 2 3 4; do echo $i > a; done; ln a b; echo 5 > b; echo k > k");
	assert_int_equal(version("a"), 5);
	run("mv b k");
	assert_int_equal(version("a"), 5);
	assert_int_equal(version("k"), 5);
	run("echo 6 > a");
	assert_int_equal(version("k"), 6);
}

static void all_names_expire_together_whatever_is_cached(void **state)
{
	const int64_t end = patience_ends();
	char text[8] = "";
	int fd;

	(void)state;
	only_cubby();
	run("mkdir d; echo x > a; ln a b; ln a d/c; echo y > stays; stat a b d/c; ls -lR; "
	    "cat a b d/c");
	fd = open("b", O_RDONLY);
	assert_ok(fd);
	expire_in("d/c", 700);
	sh("cat a b d/c");	/* if it is not too late */
	while (exists("a") && is_patient(end))
		;
	assert_false(exists("a"));
	assert_false(exists("b"));
	assert_false(exists("d/c"));
	assert_string_equal(run("ls"), "d\nstays");
	assert_int_equal(pread(fd, text, 1, 0), 1);
	assert_string_equal(text, "x");
	assert_ok(rmdir("d"));
	put("a", "new");
	assert_int_equal(version("a"), 1);
	assert_ok(close(fd));
	mount_again();
	assert_string_equal(run("ls"), "a\nstays");
}

static void names_are_free_again_when_they_expired_while_unmounted(void **state)
{
	(void)state;
	only_cubby();
	run("echo x > a; ln a b; ln a c");
	expire_in("a", 300);
	mount_stop();
	sleep_ms(400);
	mount_start(NULL);
	assert_errno(link("b", "z"), ENOENT);
	put("b", "new");
	assert_ok(link("b", "c"));
	assert_string_equal(run("ls"), "b\nc");
}

static void what_link_returned_outlives_a_kill(void **state)
{
	(void)state;
	only_cubby();
	run("mkdir d; echo x > a; ln a d/b; rm a; ln d/b c");
	mount_kill();
	mount_start(NULL);
	assert_false(exists("a"));
	assert_true(same("d/b", "c"));
	assert_int_equal(links("c"), 2);
}

/* ---- tools ----------------------------------------------------------------------------------- */

static void tools_keep_links(void **state)
{
	static const char *const copy[] = {
		"cp -a tree copy",
		"rsync -aH tree/ copy",
		"mkdir copy && tar -C tree -cf - . | tar -C copy -xf -",
	};

	(void)state;
	run("mkdir -p tree/sub; cd tree; for i in 1 2 3; do echo $i > $i; ln $i sub/$i; done; "
	    "ln 1 sub/one; ln -s 1 s; head -c 300000 /dev/urandom > big; ln big sub/big");
	for (size_t i = 0; i < sizeof(copy) / sizeof(*copy); i++) {
		run("%s", copy[i]);
		run("diff <(cd tree; find . -type f -printf '%%n %%P\\n' | sort) "
		    "<(cd copy; find . -type f -printf '%%n %%P\\n' | sort)");
		run("diff -r tree copy && [ copy/1 -ef copy/sub/one ] && "
		    "[ copy/big -ef copy/sub/big ] "
		    "&& ! [ copy/1 -ef tree/1 ]");
		run("rm -r copy");
	}
}

static void git_clones_with_links(void **state)
{
	(void)state;
	run("git init -q -b main r && cd r && git config user.name T && "
	    "git config user.email t@example.org && echo x > f && git add f && git commit -qm x");
	run("git clone -q --local r c && git -C c fsck --strict");
	assert_string_equal(run("find c/.git/objects -type f -links 1 | wc -l"), "0");
	run("rm -rf r && git -C c fsck --strict && [ $(cat c/f) = x ]");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, mount_begin, mount_end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(all_names_show_the_same_file),
		TEST(a_file_stays_until_its_last_name_goes),
		TEST(an_open_file_counts_its_names_down_to_none),
		TEST(errors_are_those_of_link),
		TEST(a_link_itself_and_a_fifo_can_have_two_names),
		TEST(names_are_renamed_one_by_one),
		TEST(names_are_exchanged),
		TEST(a_file_replaced_under_one_name_lives_under_the_other),
		TEST(what_is_being_written_is_published_by_a_link),
		TEST(a_thousand_names_are_one_file),
		TEST(counts_are_right_after_a_crowd),
		TEST(the_version_is_shared_and_never_falls),
		TEST(all_names_expire_together_whatever_is_cached),
		TEST(names_are_free_again_when_they_expired_while_unmounted),
		TEST(what_link_returned_outlives_a_kill),
		TEST(tools_keep_links),
		TEST(git_clones_with_links),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

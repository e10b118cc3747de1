/* Names and the operations on them: what POSIX says of create, rename, mkdir and rmdir. */
#include "mount/mount.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static int rename2(const char *from, const char *to, unsigned flags)
{
	return (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, flags);
}

/* Is `name` listed in the directory `path`, and exactly once? */
static bool listed(const char *path, const char *name)
{
	DIR *d = opendir(path);
	struct dirent *e;
	int count = 0;

	assert_non_null(d);
	while ((e = readdir(d)))
		count += strcmp(e->d_name, name) == 0;
	assert_ok(closedir(d));
	assert_in_range(count, 0, 1);
	return count == 1;
}

static void assert_name_works(const char *name)
{
	put(name, name);
	assert_true(listed(".", name));
	assert_string_equal(get(name), name);
	mount_again();
	assert_true(listed(".", name));
	assert_string_equal(get(name), name);
	assert_ok(unlink(name));
	assert_false(listed(".", name));
}

static void a_name_may_hold_spaces_newlines_and_any_letters(void **state)
{
	(void)state;
	assert_name_works("two words");
	assert_name_works(" \n\t'\"$*?\\ ");
	assert_name_works("Äpfel-梨-🍐");
	assert_name_works("-rf");
	assert_name_works("...");
}

static void a_name_may_hold_every_byte_but_slash_and_nul(void **state)
{
	char name[3] = "xx";

	(void)state;
	for (int byte = 1; byte < 256; byte++) {
		name[1] = (char)byte;
		if (byte != '/')
			put(name, name);
	}
	mount_again();
	for (int byte = 1; byte < 256; byte++) {
		name[1] = (char)byte;
		if (byte != '/')
			assert_string_equal(get(name), name);
	}
	assert_string_equal(run("ls -U --zero | tr -dc '\\0' | wc -c"), "254");
}

static void a_name_is_255_bytes_at_most(void **state)
{
	char name[257];

	(void)state;
	memset(name, 'n', 256);
	name[255] = '\0';
	assert_name_works(name);
	name[255] = 'n';
	name[256] = '\0';
	assert_errno(open(name, O_WRONLY | O_CREAT, 0644), ENAMETOOLONG);
	assert_errno(mkdir(name, 0755), ENAMETOOLONG);
	assert_errno(symlink("x", name), ENAMETOOLONG);
	put("k", "");
	assert_errno(rename("k", name), ENAMETOOLONG);
}

static void exclusive_creation_is_granted_once(void **state)
{
	int fd;

	(void)state;
	fd = open("k", O_WRONLY | O_CREAT | O_EXCL, 0644);
	assert_ok(fd);
	assert_errno(open("k", O_WRONLY | O_CREAT | O_EXCL, 0644), EEXIST);
	assert_ok(close(fd));
	assert_errno(open("k", O_WRONLY | O_CREAT | O_EXCL, 0644), EEXIST);
	assert_errno(mkdir("k", 0755), EEXIST);
	assert_errno(symlink("x", "k"), EEXIST);
}

static void rename_replaces_and_says_so_of_the_wrong_kinds(void **state)
{
	(void)state;
	run("mkdir d e full; echo x > full/x; echo a > a; echo b > b");
	assert_ok(rename("a", "b"));
	assert_string_equal(get("b"), "a\n");
	assert_false(exists("a"));
	assert_errno(rename("b", "d"), EISDIR);
	assert_errno(rename("d", "b"), ENOTDIR);
	assert_errno(rename("d", "full"), ENOTEMPTY);
	assert_errno(rename("gone", "b"), ENOENT);
	assert_errno(rename("b", "gone/b"), ENOENT);
	assert_errno(rename("b", "b/c"), ENOTDIR);
	assert_errno(rename("d", "d/below"), EINVAL);
	assert_ok(rename("full", "e"));
	assert_string_equal(get("e/x"), "x\n");
	assert_ok(rename("b", "b"));
	assert_string_equal(get("b"), "a\n");
}

static void rename_noreplace_replaces_nothing(void **state)
{
	(void)state;
	run("echo a > a; echo b > b");
	assert_errno(rename2("a", "b", RENAME_NOREPLACE), EEXIST);
	assert_string_equal(get("a"), "a\n");
	assert_string_equal(get("b"), "b\n");
	assert_ok(rename2("a", "c", RENAME_NOREPLACE));
	assert_string_equal(get("c"), "a\n");
	assert_false(exists("a"));
}

static void rename_exchange_swaps_what_two_names_hold(void **state)
{
	(void)state;
	run("mkdir d; echo in-d > d/x; echo a > a; echo b > b");
	assert_ok(rename2("a", "b", RENAME_EXCHANGE));
	assert_string_equal(get("a"), "b\n");
	assert_string_equal(get("b"), "a\n");
	assert_ok(rename2("a", "d", RENAME_EXCHANGE));
	assert_string_equal(get("d"), "b\n");
	assert_string_equal(get("a/x"), "in-d\n");
	assert_errno(rename2("a", "gone", RENAME_EXCHANGE), ENOENT);
	mount_again();
	assert_string_equal(get("a/x"), "in-d\n");
	assert_string_equal(get("d"), "b\n");
}

static void a_table_renamed_takes_everything_along(void **state)
{
	(void)state;
	run("mkdir -p a/b/c other; for i in $(seq 50); do echo $i > a/b/c/$i; done");
	assert_ok(rename("a/b", "other/moved"));
	assert_string_equal(get("other/moved/c/37"), "37\n");
	assert_errno(access("a/b", F_OK), ENOENT);
	assert_string_equal(run("ls other/moved/c | wc -l"), "50");
	mount_again();
	assert_string_equal(run("cat other/moved/c/* | wc -l"), "50");
}

static void directories_know_their_parents(void **state)
{
	(void)state;
	run("mkdir -p a/b c");
	assert_string_equal(run("cd a/b && mv ../../a/b ../../c/b && pwd -P | grep -o 'c/b$'"),
			    "c/b");
	assert_string_equal(run("cd c/b/.. && ls"), "b");
	assert_string_equal(run("stat -c %%i c"), run("stat -c %%i c/b/.."));
}

static void only_empty_tables_are_removed(void **state)
{
	(void)state;
	run("mkdir -p d/e; echo x > d/k");
	assert_errno(rmdir("d"), ENOTEMPTY);
	assert_errno(unlink("d"), EISDIR);
	assert_errno(rmdir("d/k"), ENOTDIR);
	assert_ok(unlink("d/k"));
	assert_errno(rmdir("d"), ENOTEMPTY);
	assert_ok(rmdir("d/e"));
	assert_ok(rmdir("d"));
	assert_errno(rmdir("d"), ENOENT);
	run("mkdir -p t/u/v; touch t/a t/u/b t/u/v/c; rm -r t");
	assert_false(exists("t"));
}

static void what_is_not_there_is_enoent_until_it_is(void **state)
{
	struct stat st;

	(void)state;
	for (int i = 0; i < 3; i++)
		assert_errno(stat("k", &st), ENOENT);
	run("echo x > k");
	assert_ok(stat("k", &st));
	assert_errno(open("k/below", O_RDONLY), ENOTDIR);
	assert_errno(open("no/such", O_WRONLY | O_CREAT, 0644), ENOENT);
	assert_ok(unlink("k"));
	assert_errno(stat("k", &st), ENOENT);
	assert_errno(unlink("k"), ENOENT);
}

static void a_removed_directory_that_is_open_takes_no_new_names(void **state)
{
	int d;

	(void)state;
	run("mkdir d");
	d = open("d", O_RDONLY | O_DIRECTORY);
	assert_ok(d);
	assert_ok(rmdir("d"));
	assert_errno(openat(d, "k", O_WRONLY | O_CREAT, 0644), ENOENT);
	assert_errno(mkdirat(d, "e", 0755), ENOENT);
	assert_ok(close(d));
}

static void symbolic_links_keep_any_target(void **state)
{
	char target[4096], found[4096];

	(void)state;
	memset(target, 't', sizeof(target));
	target[4095] = '\0';
	assert_ok(symlink(target, "long"));
	assert_ok(symlink("no where", "dangling"));
	run("mkdir d; echo x > d/k; ln -s d e; ln -s e/k k");
	assert_string_equal(get("k"), "x\n");
	mount_again();
	assert_int_equal(readlink("long", found, sizeof(found)), 4095);
	assert_memory_equal(found, target, 4095);
	assert_string_equal(run("readlink dangling"), "no where");
	assert_string_equal(run("stat -c '%%F %%s' dangling"), "symbolic link 8");
	assert_errno(open("dangling/x", O_RDONLY), ENOENT);
	assert_string_equal(get("k"), "x\n");
	assert_errno(readlink("d", found, sizeof(found)), EINVAL);
}

static void a_directory_of_many_is_listed_whole_and_in_any_buffer_size(void **state)
{
	(void)state;
	run("mkdir d; cd d; seq -f 'key-%%05g' 3000 | xargs touch");
	assert_string_equal(run("ls d | md5sum"), run("seq -f 'key-%%05g' 3000 | md5sum"));
	assert_string_equal(run("ls -lU d | grep -c key-"), "3000");
	assert_string_equal(run("find d -type f | wc -l"), "3000");
	run("rm -r d");
	assert_false(exists("d"));
}

static void a_listing_can_be_rewound_and_continued_from_a_place(void **state)
{
	struct dirent *e;
	char third[256];
	long place;
	DIR *d;
	int count = 0;

	(void)state;
	run("touch $(seq -f 'k%%03g' 200)");
	d = opendir(".");
	assert_non_null(d);
	for (int i = 0; i < 50; i++)
		assert_non_null(readdir(d));
	place = telldir(d);
	e = readdir(d);
	assert_non_null(e);
	strcpy(third, e->d_name);
	while (readdir(d))
		;
	seekdir(d, place);
	e = readdir(d);
	assert_non_null(e);
	assert_string_equal(e->d_name, third);
	put("new", "");
	rewinddir(d);
	while ((e = readdir(d)))
		count++;
	assert_int_equal(count, 203); /* with ".", ".." and the new one */
	assert_ok(closedir(d));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, mount_begin, mount_end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_name_may_hold_spaces_newlines_and_any_letters),
		TEST(a_name_may_hold_every_byte_but_slash_and_nul),
		TEST(a_name_is_255_bytes_at_most),
		TEST(exclusive_creation_is_granted_once),
		TEST(rename_replaces_and_says_so_of_the_wrong_kinds),
		TEST(rename_noreplace_replaces_nothing),
		TEST(rename_exchange_swaps_what_two_names_hold),
		TEST(a_table_renamed_takes_everything_along),
		TEST(directories_know_their_parents),
		TEST(only_empty_tables_are_removed),
		TEST(what_is_not_there_is_enoent_until_it_is),
		TEST(a_removed_directory_that_is_open_takes_no_new_names),
		TEST(symbolic_links_keep_any_target),
		TEST(a_directory_of_many_is_listed_whole_and_in_any_buffer_size),
		TEST(a_listing_can_be_rewound_and_continued_from_a_place),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

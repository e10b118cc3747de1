/* A shell is a client: which version each of its ways to write a key leaves behind. */
#include "mount/mount.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void an_echo_makes_version_one_and_the_next_echo_version_two(void **state)
{
	(void)state;
	only_cubby();
	run("echo hi > k");
	assert_int_equal(version("k"), 1);
	run("echo ho > k");
	assert_int_equal(version("k"), 2);
	assert_string_equal(get("k"), "ho\n");
}

static void an_empty_redirection_makes_an_empty_value_of_version_one(void **state)
{
	(void)state;
	only_cubby();
	run(": > k");
	assert_int_equal(version("k"), 1);
	assert_string_equal(get("k"), "");
	run(": > k");
	assert_int_equal(version("k"), 2);
}

static void touching_makes_a_key_but_no_version_of_an_old_one(void **state)
{
	(void)state;
	only_cubby();
	run("touch k");
	assert_int_equal(version("k"), 1);
	run("touch k");
	assert_int_equal(version("k"), 1);
}

static void appending_is_one_version_more(void **state)
{
	(void)state;
	only_cubby();
	run("echo a > k; echo b >> k");
	assert_int_equal(version("k"), 2);
	assert_string_equal(get("k"), "a\nb\n");
}

static void a_list_of_commands_writes_each_flush_as_a_version_and_ends_whole(void **state)
{
	(void)state;
	run("(echo a; /bin/echo b; echo c) > k");
	assert_string_equal(get("k"), "a\nb\nc\n");
}

static void reading_and_listing_and_stat_make_no_version(void **state)
{
	(void)state;
	only_cubby();
	run("echo a > k; cat k; ls -l; stat k; head -c1 < k; : >> k");
	assert_int_equal(version("k"), 1);
}

static void opening_for_writing_and_writing_nothing_makes_no_version(void **state)
{
	int fd;

	(void)state;
	only_cubby();
	put("k", "a");
	fd = open("k", O_RDWR);
	assert_ok(fd);
	assert_ok(fsync(fd));
	assert_ok(close(fd));
	assert_int_equal(version("k"), 1);
}

static void fsync_publishes_and_the_close_after_it_does_not_again(void **state)
{
	int fd;

	(void)state;
	only_cubby();
	put("k", "old");
	fd = open("k", O_WRONLY);
	assert_ok(fd);
	assert_int_equal(write(fd, "new", 3), 3);
	assert_int_equal(version("k"), 1);
	assert_ok(fsync(fd));
	assert_int_equal(version("k"), 2);
	assert_ok(close(fd));
	assert_int_equal(version("k"), 2);
}

static void moving_over_a_key_raises_the_version_it_had(void **state)
{
	(void)state;
	only_cubby();
	run("echo 1 > k; echo 2 > k; echo 3 > k; echo new > t; mv t k");
	assert_int_equal(version("k"), 4);
	assert_string_equal(get("k"), "new\n");
	assert_false(exists("t"));
}

static void moving_to_a_free_name_keeps_the_version(void **state)
{
	(void)state;
	only_cubby();
	run("echo 1 > k; echo 2 > k; mv k l");
	assert_int_equal(version("l"), 2);
}

static void a_key_made_again_begins_at_version_one(void **state)
{
	(void)state;
	only_cubby();
	run("echo 1 > k; echo 2 > k; rm k; echo 3 > k");
	assert_int_equal(version("k"), 1);
}

static void staged_bytes_are_seen_by_others_at_once(void **state)
{
	int fd;

	(void)state;
	put("k", "old value");
	fd = open("k", O_WRONLY | O_TRUNC);
	assert_ok(fd);
	assert_int_equal(write(fd, "new", 3), 3);
	assert_string_equal(run("cat k"), "new");
	assert_string_equal(run("stat -c %%s k"), "3");
	assert_int_equal(write(fd, "er", 2), 2);
	assert_string_equal(run("cat k"), "newer");
	assert_ok(close(fd));
	assert_string_equal(get("k"), "newer");
}

static void two_writers_of_one_key_see_each_others_bytes(void **state)
{
	int a, b;

	(void)state;
	put("k", "........");
	a = open("k", O_RDWR);
	b = open("k", O_RDWR);
	assert_ok(a);
	assert_ok(b);
	assert_int_equal(pwrite(a, "AAA", 3, 0), 3);
	assert_int_equal(pwrite(b, "BBB", 3, 5), 3);
	assert_string_equal(get("k"), "AAA..BBB");
	assert_ok(close(a));
	assert_ok(close(b));
	assert_string_equal(get("k"), "AAA..BBB");
}

static void in_place_editors_work(void **state)
{
	(void)state;
	run("printf 'one\\ntwo\\n' > k; sed -i s/two/three/ k");
	assert_string_equal(get("k"), "one\nthree\n");
	run("sort -r -o k k");
	assert_string_equal(get("k"), "three\none\n");
	run("dd if=/dev/zero of=k bs=1 count=3 seek=1 conv=notrunc status=none; tr '\\0' - < k > "
	    "l");
	assert_string_equal(get("l"), "t---e\none\n");
}

static void a_remount_keeps_values_versions_and_tables(void **state)
{
	(void)state;
	run("mkdir -p a/b; echo deep > a/b/k; echo 1 > k; echo 2 > k; ln -s k s");
	mount_again();
	assert_string_equal(get("a/b/k"), "deep\n");
	assert_string_equal(get("s"), "2\n");
	assert_string_equal(run("ls"), "a\nk\ns");
	only_cubby();
	assert_int_equal(version("k"), 2);
	run("echo 3 > k");
	assert_int_equal(version("k"), 3);
}

static void an_open_file_that_was_removed_is_read_and_written_on(void **state)
{
	char text[16] = "";
	int fd;

	(void)state;
	put("k", "still here");
	fd = open("k", O_RDWR);
	assert_ok(fd);
	assert_ok(unlink("k"));
	assert_false(exists("k"));
	assert_int_equal(pread(fd, text, 10, 0), 10);
	assert_string_equal(text, "still here");
	assert_int_equal(pwrite(fd, "STILL", 5, 0), 5);
	assert_int_equal(pread(fd, text, 10, 0), 10);
	assert_string_equal(text, "STILL here");
	put("k", "another");
	assert_int_equal(pread(fd, text, 5, 0), 5);
	assert_memory_equal(text, "STILL", 5);
	assert_ok(close(fd));
	assert_string_equal(get("k"), "another");
}

static void an_open_file_that_was_replaced_is_read_on(void **state)
{
	char text[16] = "";
	int fd;

	(void)state;
	put("k", "old");
	put("t", "new");
	fd = open("k", O_RDONLY);
	assert_ok(fd);
	assert_ok(rename("t", "k"));
	assert_int_equal(pread(fd, text, 15, 0), 3);
	assert_string_equal(text, "old");
	assert_ok(close(fd));
	assert_string_equal(get("k"), "new");
}

static void a_file_renamed_while_written_is_published_under_its_new_name(void **state)
{
	int fd;

	(void)state;
	fd = open("t", O_WRONLY | O_CREAT | O_EXCL, 0644);
	assert_ok(fd);
	assert_int_equal(write(fd, "value", 5), 5);
	run("mkdir d");
	assert_ok(rename("t", "d/k"));
	assert_int_equal(write(fd, " more", 5), 5);
	assert_ok(close(fd));
	assert_string_equal(get("d/k"), "value more");
	assert_false(exists("t"));
	mount_again();
	assert_string_equal(get("d/k"), "value more");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, mount_begin, mount_end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(an_echo_makes_version_one_and_the_next_echo_version_two),
		TEST(an_empty_redirection_makes_an_empty_value_of_version_one),
		TEST(touching_makes_a_key_but_no_version_of_an_old_one),
		TEST(appending_is_one_version_more),
		TEST(a_list_of_commands_writes_each_flush_as_a_version_and_ends_whole),
		TEST(reading_and_listing_and_stat_make_no_version),
		TEST(opening_for_writing_and_writing_nothing_makes_no_version),
		TEST(fsync_publishes_and_the_close_after_it_does_not_again),
		TEST(moving_over_a_key_raises_the_version_it_had),
		TEST(moving_to_a_free_name_keeps_the_version),
		TEST(a_key_made_again_begins_at_version_one),
		TEST(staged_bytes_are_seen_by_others_at_once),
		TEST(two_writers_of_one_key_see_each_others_bytes),
		TEST(in_place_editors_work),
		TEST(a_remount_keeps_values_versions_and_tables),
		TEST(an_open_file_that_was_removed_is_read_and_written_on),
		TEST(an_open_file_that_was_replaced_is_read_on),
		TEST(a_file_renamed_while_written_is_published_under_its_new_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

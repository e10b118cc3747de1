/* A writer that stays open is published as it stands when its oldest staged byte has waited for
 * stage=SECONDS. */
#include "mount/mount.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int open_and_write(const char *name, int flags, const char *text)
{
	const int fd = open(name, O_WRONLY | O_CREAT | flags, 0644);

	assert_ok(fd);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	return fd;
}

/* Waits for the background; how long it takes is not what is tested. */
static void wait_for_version(const char *name, uint64_t wanted)
{
	const int64_t end = patience_ends();

	while (version(name) < wanted)
		if (!is_patient(end))
			fail_msg("%s never reached version %d", name, (int)wanted);
	assert_int_equal(version(name), wanted);
}

static void a_writer_that_stays_open_is_published_and_outlives_a_kill(void **state)
{
	bool in_time;
	int64_t begin;
	int fd;

	(void)state;
	only_cubby();
	mount_start("stage=1");
	put("k", "old");
	fd = open_and_write("k", O_TRUNC, "log line 1\n");
	wait_for_version("k", 2);
	assert_int_equal(write(fd, "log line 2\n", 11), 11);
	assert_string_equal(get("k"), "log line 1\nlog line 2\n");
	wait_for_version("k", 3);
	begin = now_ms();
	assert_int_equal(write(fd, "lost\n", 5), 5);
	mount_kill();
	in_time = now_ms() - begin < 1000;	/* else it may have been published, too */
	close(fd);
	mount_start(NULL);
	if (in_time || version("k") == 3) {
		assert_string_equal(get("k"), "log line 1\nlog line 2\n");
		assert_int_equal(version("k"), 3);
	} else {
		assert_string_equal(get("k"), "log line 1\nlog line 2\nlost\n");
		assert_int_equal(version("k"), 4);
	}
}

static void the_close_after_it_publishes_only_what_is_new(void **state)
{
	int fd;

	(void)state;
	only_cubby();
	mount_start("stage=1");
	fd = open_and_write("k", O_EXCL, "all of it");
	wait_for_version("k", 1);
	assert_ok(close(fd));
	assert_int_equal(version("k"), 1);
	assert_string_equal(get("k"), "all of it");
}

static void with_stage_0_nothing_is_published_before_the_close(void **state)
{
	int fd;

	(void)state;
	only_cubby();
	mount_start("stage=0");
	put("k", "old");
	fd = open_and_write("k", O_TRUNC, "new");
	sleep_ms(2500);
	assert_int_equal(version("k"), 1);
	mount_kill();
	close(fd);
	mount_start(NULL);
	assert_string_equal(get("k"), "old");
}

static void a_removed_file_that_stays_open_is_not_published(void **state)
{
	int fd;

	(void)state;
	only_cubby();
	mount_start("stage=1");
	fd = open_and_write("gone", O_EXCL, "x");
	assert_ok(unlink("gone"));
	sleep_ms(2500);
	assert_int_equal(write(fd, "y", 1), 1);
	assert_false(exists("gone"));
	mount_kill();
	close(fd);
	mount_start(NULL);
	assert_string_equal(run("ls -A"), "");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, mount_fresh, mount_end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_writer_that_stays_open_is_published_and_outlives_a_kill),
		TEST(the_close_after_it_publishes_only_what_is_new),
		TEST(with_stage_0_nothing_is_published_before_the_close),
		TEST(a_removed_file_that_stays_open_is_not_published),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* What -o says is ours, mount(8)'s, or libfuse's. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "mem.h"
#include "options.h"

#define S UINT64_C(1000000000)

static struct options o;

static int fresh(void **state)
{
	(void)state;
	options_init(&o);
	return 0;
}

static int done(void **state)
{
	(void)state;
	options_done(&o);
	return 0;
}

static void take(const char *list)
{
	struct err err = { "" };

	if (options_read(&o, list, &err) < 0)
		fail_msg("'%s' was refused: %s", list, err.text);
}

/* Refused, with a sentence that begins with the option. */
static void refuse(const char *option)
{
	struct err err = { "" };

	if (options_read(&o, option, &err) != -EINVAL)
		fail_msg("'%s' was taken", option);
	assert_memory_equal(err.text, option, strlen(option));
}

/* What libfuse is to get, with '|' behind each. */
static const char *for_fuse(void)
{
	static char text[1024];

	assert_in_range(o.fuse.size, 0, sizeof(text) - 1);
	for (size_t i = 0; i < o.fuse.size; i++)
		text[i] = o.fuse.data[i] ? (char)o.fuse.data[i] : '|';
	text[o.fuse.size] = '\0';
	return text;
}

static void without_options_closing_waits_for_the_disk(void **state)
{
	(void)state;
	take("");
	assert_int_equal(o.sync, SYNC_CLOSE);
	assert_int_equal(o.commit_ns, S);
	assert_int_equal(o.stage_ns, 30 * S);
	assert_int_equal(o.log_cap, 0);
	assert_string_equal(for_fuse(), "");
}

static void our_options_are_taken_and_the_last_one_counts(void **state)
{
	(void)state;
	take("sync=always,commit=0.25,stage=0,log=64M");
	assert_int_equal(o.sync, SYNC_ALWAYS);
	assert_int_equal(o.commit_ns, S / 4);
	assert_int_equal(o.stage_ns, 0);
	assert_int_equal(o.log_cap, 64 << 20);
	take("sync=standard,sync=close");
	assert_int_equal(o.sync, SYNC_CLOSE);
	take("stage=3600,log=1g,cache=32M");
	assert_int_equal(o.cache, 32 << 20);
	assert_int_equal(o.stage_ns, 3600 * S);
	assert_int_equal(o.log_cap, 1 << 30);
	take("log=4096K,cache=1048576");
	assert_int_equal(o.log_cap, 4 << 20);
	assert_int_equal(o.cache, 1 << 20);
	take("ro");
	assert_true(o.read_only);
	take("ro,rw");
	assert_false(o.read_only);
}

static void a_value_that_makes_no_sense_is_refused_by_name(void **state)
{
	static const char *const bad[] = {
		"sync=", "sync=sometimes", "sync=closed", "commit=", "commit=0", "commit=0.0",
		"commit=never", "commit=-1", "commit=1s", "commit=99999999999999999999", "stage=",
		"stage=-1", "stage=1.x", "log=", "log=0", "log=M", "log=1X", "log=1MM", "log=-1",
		"log=99999999999999999999", "log=99999999T", "cache=", "cache=0", "cache=big",
		"log=1", "log=256", "log=4095K", "cache=64", "cache=1023K",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		refuse(bad[i]);
	assert_int_equal(o.sync, SYNC_CLOSE);
	assert_int_equal(o.commit_ns, S);
	assert_int_equal(o.stage_ns, 30 * S);
	assert_int_equal(o.log_cap, 0);
}

static void what_mount_8_adds_goes_nowhere(void **state)
{
	(void)state;
	take("defaults,rw,_netdev,nofail,auto,noauto,user,user=root,users,owner,group,comment=x,"
	     "x-systemd.automount,X-mount.mkdir,relatime");
	assert_string_equal(for_fuse(), "");
}

static void what_is_unknown_is_for_libfuse_to_judge(void **state)
{
	(void)state;
	take("suid,dev,noatime,max_read=4096,synch=close,sync,users2");
	assert_string_equal(for_fuse(), "suid|dev|noatime|max_read=4096|synch=close|sync|users2|");
}

static void a_backslash_takes_a_comma_into_the_value(void **state)
{
	(void)state;
	take("a=1\\,2,b=\\\\,c\\");
	assert_string_equal(for_fuse(), "a=1,2|b=\\|c\\|");
}

static void empty_options_are_passed_over(void **state)
{
	(void)state;
	take(",,suid,,dev,");
	assert_string_equal(for_fuse(), "suid|dev|");
}

static void only_a_mount_of_root_alone_does_without_permission_checks(void **state)
{
	(void)state;
	options_settle(&o, true);
	assert_false(o.default_permissions);
	options_settle(&o, false);
	assert_true(o.default_permissions);
	options_init(&o);
	take("allow_other");
	options_settle(&o, true);
	assert_true(o.default_permissions);
	options_init(&o);
	take("default_permissions");
	options_settle(&o, true);
	assert_true(o.default_permissions);
	options_init(&o);
	take("acl");
	options_settle(&o, true);
	assert_true(o.default_permissions);
}

static void lists_and_security_attributes_are_kept_if_asked_for(void **state)
{
	(void)state;
	assert_false(o.acl || o.security);
	take("acl,security");
	assert_true(o.acl && o.security);
	take("noacl");
	assert_true(!o.acl && o.security);
	take("nosecurity,acl");
	assert_true(o.acl && !o.security);
	assert_string_equal(for_fuse(), "");
}

/* Each allocation fails once; every attempt ends with -ENOMEM or with all of it. */
static void without_memory_nothing_is_taken_by_half(void **state)
{
	struct err err;
	int rc = -ENOMEM;

	(void)state;
	for (int n = 0; rc == -ENOMEM; n++) {
		options_done(&o);
		options_init(&o);
		mem_fail_after(n, false);
		rc = options_read(&o, "suid,sync=always", &err);
		mem_fail_after(-1, false);
		assert_true(n > 0 || rc == -ENOMEM);
	}
	assert_int_equal(rc, 0);
	assert_int_equal(o.sync, SYNC_ALWAYS);
	assert_string_equal(for_fuse(), "suid|");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fresh, done)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(without_options_closing_waits_for_the_disk),
		TEST(lists_and_security_attributes_are_kept_if_asked_for),
		TEST(our_options_are_taken_and_the_last_one_counts),
		TEST(a_value_that_makes_no_sense_is_refused_by_name),
		TEST(what_mount_8_adds_goes_nowhere),
		TEST(what_is_unknown_is_for_libfuse_to_judge),
		TEST(a_backslash_takes_a_comma_into_the_value),
		TEST(empty_options_are_passed_over),
		TEST(only_a_mount_of_root_alone_does_without_permission_checks),
		TEST(without_memory_nothing_is_taken_by_half),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Attributes: those of the user are kept as given, those of cubby say and set what a key is. */
#include "mount/mount.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#define VERSION "user.cubby.version"
#define EXPIRES "user.cubby.expires"
#define TTL     "user.cubby.ttl"

static int set(const char *file, const char *name, const char *value)
{
	return setxattr(file, name, value, strlen(value), 0);
}

/* The attribute's text, lent until the next call; NULL if there is none. */
static const char *attr(const char *file, const char *name)
{
	static char value[4096];
	const ssize_t n = getxattr(file, name, value, sizeof(value) - 1);

	if (n < 0) {
		assert_int_equal(errno, ENODATA);
		return NULL;
	}
	value[n] = '\0';
	return value;
}

static bool listed(const char *file, const char *name)
{
	char names[8192];
	const ssize_t size = listxattr(file, names, sizeof(names));

	assert_ok(size);
	for (const char *p = names; p < names + size; p += strlen(p) + 1)
		if (strcmp(p, name) == 0)
			return true;
	return false;
}

/* What expires says, in milliseconds. */
static int64_t expires_ms(const char *file)
{
	const char *text = attr(file, EXPIRES);

	assert_non_null(text);
	return (int64_t)(strtod(text, NULL) * 1000 + 0.5);
}

/* ---- what the user gives ---------------------------------------------------------------- */

static void user_attributes_are_kept_as_given(void **state)
{
	static const char binary[] = { 0, 1, 2, '\n', (char)255 };
	char found[8];

	(void)state;
	run("echo x > k; mkdir d");
	assert_ok(set("k", "user.colour", "green"));
	assert_ok(set("k", "user.empty", ""));
	assert_ok(setxattr("k", "user.binary", binary, sizeof(binary), 0));
	assert_ok(set("d", "user.of a table", "yes"));
	mount_again();
	assert_string_equal(attr("k", "user.colour"), "green");
	assert_string_equal(attr("k", "user.empty"), "");
	assert_int_equal(getxattr("k", "user.binary", found, sizeof(found)), sizeof(binary));
	assert_memory_equal(found, binary, sizeof(binary));
	assert_string_equal(attr("d", "user.of a table"), "yes");
	assert_ok(removexattr("k", "user.colour"));
	assert_null(attr("k", "user.colour"));
	assert_false(listed("k", "user.colour"));
	assert_true(listed("k", "user.empty"));
	assert_errno(removexattr("k", "user.colour"), ENODATA);
}

static void create_and_replace_flags_are_obeyed(void **state)
{
	(void)state;
	put("k", "x");
	assert_errno(setxattr("k", "user.a", "1", 1, XATTR_REPLACE), ENODATA);
	assert_ok(setxattr("k", "user.a", "1", 1, XATTR_CREATE));
	assert_errno(setxattr("k", "user.a", "2", 1, XATTR_CREATE), EEXIST);
	assert_string_equal(attr("k", "user.a"), "1");
	assert_ok(setxattr("k", "user.a", "2", 1, XATTR_REPLACE));
	assert_string_equal(attr("k", "user.a"), "2");
}

static void sizes_beyond_the_limits_are_refused_and_change_nothing(void **state)
{
	static char big[70000];
	char name[300] = "user.";
	char small[2];

	(void)state;
	only_cubby();
	put("k", "x");
	memset(big, 'b', sizeof(big));
	memset(name + 5, 'n', 260);
	assert_errno(setxattr("k", "user.a", big, 65537, 0), E2BIG);
	assert_errno(setxattr("k", name, "x", 1, 0), ERANGE);
	name[255] = '\0';
	assert_ok(set("k", name, "longest"));
	assert_string_equal(attr("k", name), "longest");
	assert_ok(setxattr("k", "user.b", big, 40000, 0));
	assert_errno(setxattr("k", "user.c", big, 40000, 0), ENOSPC);
	assert_null(attr("k", "user.c"));
	assert_errno(getxattr("k", "user.b", small, sizeof(small)), ERANGE);
	assert_int_equal(getxattr("k", "user.b", NULL, 0), 40000);
	assert_errno(listxattr("k", small, sizeof(small)), ERANGE);
	mount_again();
	assert_int_equal(getxattr("k", "user.b", big, sizeof(big)), 40000);
	assert_string_equal(attr("k", name), "longest");
}

static void changing_attributes_makes_no_version(void **state)
{
	(void)state;
	only_cubby();
	put("k", "x");
	assert_ok(set("k", "user.a", "1"));
	run("chmod 600 k; touch k; chown 0:0 k");
	assert_int_equal(version("k"), 1);
}

static void an_attribute_of_a_file_being_written_is_kept(void **state)
{
	int fd;

	(void)state;
	fd = open("k", O_WRONLY | O_CREAT, 0644);
	assert_ok(fd);
	assert_int_equal(write(fd, "x", 1), 1);
	assert_ok(fsetxattr(fd, "user.a", "1", 1, 0));
	assert_int_equal(write(fd, "y", 1), 1);
	assert_ok(close(fd));
	mount_again();
	assert_string_equal(attr("k", "user.a"), "1");
	assert_string_equal(get("k"), "xy");
}

/* ---- version ------------------------------------------------------------------------------ */

static void the_version_is_listed_and_can_only_be_raised(void **state)
{
	(void)state;
	only_cubby();
	put("k", "x");
	assert_true(listed("k", VERSION));
	assert_string_equal(attr("k", VERSION), "1");
	assert_ok(set("k", VERSION, "7"));
	assert_ok(set("k", VERSION, "7"));
	assert_errno(set("k", VERSION, "6"), EINVAL);
	assert_string_equal(attr("k", VERSION), "7");
	put("k", "y");
	assert_string_equal(attr("k", VERSION), "8");
	mount_again();
	assert_string_equal(attr("k", VERSION), "8");
}

static void removing_the_version_changes_nothing(void **state)
{
	(void)state;
	only_cubby();
	run("echo a > k; echo b > k");
	assert_ok(removexattr("k", VERSION));
	assert_string_equal(attr("k", VERSION), "2");
}

static void bad_versions_are_refused_and_change_nothing(void **state)
{
	static const char *const bad[] = { "",    "0",  "-1", "+3",   "1.5",
					   "two", "3 ", " 3", "0x10", "99999999999999999999999",
					   "3\n4" };

	(void)state;
	only_cubby();
	run("echo a > k; echo b > k; mkdir d");
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		if (set("k", VERSION, bad[i]) == 0)
			fail_msg("version '%s' was taken", bad[i]);
		else
			assert_int_equal(errno, EINVAL);
	assert_string_equal(attr("k", VERSION), "2");
	assert_errno(set("d", VERSION, "3"), EINVAL);
}

static void a_version_set_before_nothing_was_written_is_that_of_the_empty_value(void **state)
{
	int fd;

	(void)state;
	only_cubby();
	fd = open("k", O_WRONLY | O_CREAT, 0644);
	assert_ok(fd);
	assert_ok(set("k", VERSION, "7"));
	assert_ok(close(fd));
	mount_again();
	assert_int_equal(version("k"), 7);
	assert_string_equal(get("k"), "");
}

static void a_version_set_before_the_content_is_the_contents(void **state)
{
	int fd;

	(void)state;
	only_cubby();
	/* in the order of tar --xattrs: mknod, setxattr, open, write */
	assert_ok(mknod("k", S_IFREG | 0644, 0));
	assert_ok(set("k", VERSION, "41"));
	put("k", "content");
	assert_string_equal(attr("k", VERSION), "41");
	/* and of rsync: create, write, setxattr while open */
	fd = open("l", O_WRONLY | O_CREAT | O_EXCL, 0600);
	assert_ok(fd);
	assert_int_equal(write(fd, "content", 7), 7);
	assert_ok(fsetxattr(fd, VERSION, "41", 2, 0));
	assert_ok(close(fd));
	assert_string_equal(attr("l", VERSION), "41");
	mount_again();
	assert_string_equal(attr("k", VERSION), "41");
	assert_string_equal(attr("l", VERSION), "41");
	put("k", "next");
	assert_string_equal(attr("k", VERSION), "42");
}

static void the_revision_grows_with_every_change_and_is_not_listed(void **state)
{
	uint64_t last = 0;

	(void)state;
	only_cubby();
	for (int i = 0; i < 5; i++) {
		uint64_t revision;

		put("k", "x");
		assert_non_null(attr("k", "user.cubby.revision"));
		revision = strtoull(attr("k", "user.cubby.revision"), NULL, 10);
		assert_true(revision > last);
		last = revision;
	}
	assert_false(listed("k", "user.cubby.revision"));
	assert_int_equal(set("k", "user.cubby.revision", "1"), -1);
	mount_kill();
	mount_start(NULL);
	put("k", "y");
	assert_true(strtoull(attr("k", "user.cubby.revision"), NULL, 10) > last);
}

/* ---- expiry -------------------------------------------------------------------------------- */

static void an_expiry_can_be_told_in_seconds_or_as_a_date(void **state)
{
	static const struct {
		const char *in, *out;
	} cases[] = {
		{ "4102444800", "4102444800" },
		{ "4102444800.5", "4102444800.5" },
		{ "4102444800.125", "4102444800.125" },
		{ "2100-01-01T00:00:00Z", "4102444800" },
		{ "2100-01-01T02:00:00+02:00", "4102444800" },
		{ "2099-12-31T19:30:00-04:30", "4102444800" },
		{ "2100-01-01T00:00:00.250Z", "4102444800.25" },
		{ "2096-02-29T12:00:00Z", "3981355200" },
	};

	(void)state;
	only_cubby();
	put("k", "x");
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		if (set("k", EXPIRES, cases[i].in) < 0)
			fail_msg("expires '%s': %s", cases[i].in, strerror(errno));
		assert_string_equal(run("printf %%.3f %s", attr("k", EXPIRES)),
				    run("printf %%.3f %s", cases[i].out));
	}
	assert_true(listed("k", EXPIRES));
}

static void an_expiry_can_be_told_from_now_on(void **state)
{
	static const struct {
		const char *in;
		int64_t seconds;
	} cases[] = {
		{ "+90s", 90 },
		{ "+30m", 1800 },
		{ "+2h", 7200 },
		{ "+7d", 604800 },
	};

	(void)state;
	only_cubby();
	put("k", "x");
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		const int64_t before = now_ms();

		if (set("k", EXPIRES, cases[i].in) < 0)
			fail_msg("expires '%s': %s", cases[i].in, strerror(errno));
		assert_in_range(expires_ms("k"), before + cases[i].seconds * 1000,
				now_ms() + cases[i].seconds * 1000);
	}
}

static void bad_expiries_are_refused_and_change_nothing(void **state)
{
	static const char *const bad[] = {
		"soon",
		"+",
		"+5x",
		"+s",
		"++5s",
		"-",
		"1e9",
		"4102444800x",
		"4102444800.",
		"0x7fffffff",
		"2100-13-01T00:00:00Z",
		"2100-02-29T00:00:00Z",
		"2100-01-01",
		"2100-01-01T24:01:00Z",
		"2100-01-01T00:00:00",
		"99999999999999999999",
		"+99999999999999999999d",
	};

	(void)state;
	only_cubby();
	run("echo x > k; mkdir d");
	assert_ok(set("k", EXPIRES, "4102444800"));
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		if (set("k", EXPIRES, bad[i]) == 0)
			fail_msg("expires '%s' was taken", bad[i]);
		else
			assert_int_equal(errno, EINVAL);
	assert_int_equal(expires_ms("k"), 4102444800000);
	assert_errno(set("d", EXPIRES, "4102444800"), EINVAL);
}

static void a_ttl_sets_the_expiry_and_is_not_listed(void **state)
{
	const int64_t before = now_ms();
	double ttl;

	(void)state;
	only_cubby();
	put("k", "x");
	assert_null(attr("k", TTL));
	assert_ok(set("k", TTL, "1000"));
	assert_in_range(expires_ms("k"), before + 1000000, now_ms() + 1000000);
	assert_false(listed("k", TTL));
	assert_true(listed("k", EXPIRES));
	ttl = strtod(attr("k", TTL), NULL);
	assert_true(ttl > 0 && ttl <= 1000);
	assert_errno(set("k", TTL, "soon"), EINVAL);
	assert_errno(set("k", TTL, "+30"), EINVAL);
	assert_in_range(expires_ms("k"), before + 1000000, now_ms() + 1000000);
	assert_ok(set("k", TTL, "+30m"));
	assert_in_range(expires_ms("k"), before + 1800000, now_ms() + 1800000);
}

/* Who is too slow to save it tries again with more time. */
static void removing_the_expiry_lets_a_key_live(void **state)
{
	int64_t soonest, latest;
	bool saved = false;
	char seconds[16];

	(void)state;
	only_cubby();
	for (int s = 1; !saved; s *= 2) {
		put("k", "x");
		assert_null(attr("k", EXPIRES));
		assert_false(listed("k", EXPIRES));
		snprintf(seconds, sizeof(seconds), "+%ds", s);
		soonest = now_ms() + 1000 * s;
		assert_ok(set("k", EXPIRES, seconds));
		latest = now_ms() + 1000 * s;
		saved = removexattr("k", EXPIRES) == 0;
		assert_true(saved || now_ms() >= soonest);
	}
	assert_null(attr("k", EXPIRES));
	while (now_ms() <= latest)
		sleep_ms(10);
	assert_true(exists("k"));
	mount_again();
	assert_string_equal(get("k"), "x");
}

static void rewriting_keeps_the_expiry_and_renaming_brings_the_sources(void **state)
{
	(void)state;
	only_cubby();
	run("echo x > k; echo y > l; echo z > m");
	assert_ok(set("k", EXPIRES, "4102444800"));
	assert_ok(set("m", EXPIRES, "4102444900"));
	put("k", "again");
	assert_int_equal(expires_ms("k"), 4102444800000);
	run("mv m k");
	assert_int_equal(expires_ms("k"), 4102444900000);
	run("mv l k");
	assert_null(attr("k", EXPIRES));
}

/* ---- what we do not keep ------------------------------------------------------------------- */

static void attributes_of_the_system_are_not_supported(void **state)
{
	(void)state;
	only_cubby();
	only_root();
	put("k", "x");
	assert_errno(set("k", "security.other", "x"), EOPNOTSUPP);
	assert_errno(getxattr("k", "security.other", NULL, 0), EOPNOTSUPP);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, mount_begin, mount_end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(user_attributes_are_kept_as_given),
		TEST(create_and_replace_flags_are_obeyed),
		TEST(sizes_beyond_the_limits_are_refused_and_change_nothing),
		TEST(changing_attributes_makes_no_version),
		TEST(an_attribute_of_a_file_being_written_is_kept),
		TEST(the_version_is_listed_and_can_only_be_raised),
		TEST(removing_the_version_changes_nothing),
		TEST(bad_versions_are_refused_and_change_nothing),
		TEST(a_version_set_before_nothing_was_written_is_that_of_the_empty_value),
		TEST(a_version_set_before_the_content_is_the_contents),
		TEST(the_revision_grows_with_every_change_and_is_not_listed),
		TEST(an_expiry_can_be_told_in_seconds_or_as_a_date),
		TEST(an_expiry_can_be_told_from_now_on),
		TEST(bad_expiries_are_refused_and_change_nothing),
		TEST(a_ttl_sets_the_expiry_and_is_not_listed),
		TEST(removing_the_expiry_lets_a_key_live),
		TEST(rewriting_keeps_the_expiry_and_renaming_brings_the_sources),
		TEST(attributes_of_the_system_are_not_supported),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

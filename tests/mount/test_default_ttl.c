/* user.cubby.default-ttl: what is new in a table lives for so long. */
#include "mount/mount.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#define DEFAULT "user.cubby.default-ttl"
#define EXPIRES "user.cubby.expires"
#define TTL     "user.cubby.ttl"

static int set(const char *file, const char *name, const char *value)
{
	return setxattr(file, name, value, strlen(value), 0);
}

/* The attribute's text, lent until the next; NULL if there is none. */
static const char *attr(const char *file, const char *name)
{
	static char value[64];
	const ssize_t n = getxattr(file, name, value, sizeof(value) - 1);

	if (n < 0)
		assert_int_equal(errno, ENODATA);
	value[n < 0 ? 0 : n] = '\0';
	return n < 0 ? NULL : value;
}

static double ttl(const char *file)
{
	const char *text = attr(file, TTL);

	return text ? strtod(text, NULL) : -1;
}

/* However long the test has taken so far. */
#define assert_lives(file, seconds)                                                                \
	assert_true(ttl(file) > (seconds) - 900 && ttl(file) <= (seconds))
#define assert_lives_on(file) assert_null(attr(file, EXPIRES))

static void a_table_is_given_one_in_many_forms(void **state)
{
	static const char *const forms[][2] = {
		{ "90", "90" },   { "1.5", "1.5" },  { "+90s", "90" },
		{ "+2m", "120" }, { "+1h", "3600" }, { "+7d", "604800" },
	};
	static const char *const bad[] = { "0", "-1", "x", "+0s", "2030-01-01T00:00:00Z", "9e9" };

	(void)state;
	only_cubby();
	run("mkdir d; touch k");
	assert_null(attr("d", DEFAULT));
	for (size_t i = 0; i < sizeof(forms) / sizeof(*forms); i++) {
		assert_ok(set("d", DEFAULT, forms[i][0]));
		assert_string_equal(attr("d", DEFAULT), forms[i][1]);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		assert_errno(set("d", DEFAULT, bad[i]), EINVAL);
	mount_again();
	assert_string_equal(attr("d", DEFAULT), "604800");
	assert_string_equal(run("getfattr --only-values -m default d"), "604800");
	assert_errno(setxattr("d", DEFAULT, "1", 1, XATTR_CREATE), EEXIST);
	assert_ok(set("d", DEFAULT, ""));
	assert_null(attr("d", DEFAULT));
	assert_ok(set("d", DEFAULT, "5"));
	assert_ok(removexattr("d", DEFAULT));
	assert_errno(removexattr("d", DEFAULT), ENODATA);
	assert_errno(set("k", DEFAULT, "5"), EINVAL);
}

static void what_is_made_there_gets_it(void **state)
{
	(void)state;
	only_cubby();
	run("mkdir d e; echo old > d/old");
	assert_ok(set("d", DEFAULT, "1000"));
	run("cd d; echo new > new; touch empty; mknod node b 7 0; mkdir sub; ln -s new link; "
	    "> sub/k;"
	    "echo more >> old; echo x > ../e/k");
	for (int i = 0; i < 2; i++) {
		assert_lives("d/new", 1000);
		assert_lives("d/empty", 1000);
		assert_lives_on("d/old");
		assert_lives_on("d/sub/k");
		assert_lives_on("e/k");
		mount_again();
	}
	assert_ok(set("d/new", TTL, "5000"));
	run("echo again > d/new");
	assert_lives("d/new", 5000);
	assert_ok(removexattr("d/new", EXPIRES));
	run("echo again > d/new");
	assert_lives_on("d/new");
	assert_ok(removexattr("d", DEFAULT));
	run("echo x > d/later");
	assert_lives_on("d/later");
}

static void what_comes_there_keeps_its_own_or_gets_it(void **state)
{
	(void)state;
	only_cubby();
	run("mkdir d t; for f in a b c n; do echo $f > t/$f; done; ln t/c t/c2; echo old > d/b");
	assert_ok(set("t/a", TTL, "9000"));
	assert_ok(set("d", DEFAULT, "1000"));
	run("mv t/a d; mv t/b d; mv t/c d; mkdir t/sub; mv t/sub d");
	assert_lives("d/a", 9000);
	assert_lives("d/b", 1000);
	assert_lives_on("d/c");
	assert_int_equal(version("d/b"), 2);
	run("mv d/b t/b; echo x > t/x; mv t/x d/b; sed -i s/x/y/ d/b");
	assert_lives("t/b", 1000);
	assert_lives("d/b", 1000);
	mount_again();
	assert_lives("d/b", 1000);
}

/* Nobody need look for it to go, and the kernel believes in it no longer than it should. */
static void it_is_gone_in_time(void **state)
{
	const int64_t end = patience_ends();

	(void)state;
	only_cubby();
	run("mkdir d; echo x > moved");
	assert_ok(set("d", DEFAULT, "0.3"));
	/* What is asked for may be gone by then. */
	run("echo x > d/k; stat d/k; mv moved d/m; ls -l d; true");
	while ((exists("d/k") || exists("d/m")) && is_patient(end))
		;
	assert_false(exists("d/k"));
	assert_false(exists("d/m"));
	while (strcmp(run("getfattr --only-values -n user.cubby.entries d"), "0") != 0 &&
	       is_patient(end))
		;
	assert_string_equal(run("getfattr --only-values -n user.cubby.entries d"), "0");
	run("rmdir d");
}

static void copies_bring_it_along(void **state)
{
	(void)state;
	only_cubby();
	run("mkdir d; echo x > d/k");
	assert_ok(set("d", DEFAULT, "1000"));
	run("echo y > d/l; cp -a d e; rsync -aX d/ f/; tar --xattrs -cf t.tar d; mkdir g;"
	    "tar --xattrs -xf t.tar -C g");
	assert_string_equal(attr("e", DEFAULT), "1000");
	assert_string_equal(attr("f", DEFAULT), "1000");
	assert_string_equal(attr("g/d", DEFAULT), "1000");
	assert_lives("e/l", 1000);
	assert_lives("f/l", 1000);
	assert_lives("g/d/l", 1000);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, mount_begin, mount_end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_table_is_given_one_in_many_forms),
		TEST(what_is_made_there_gets_it),
		TEST(what_comes_there_keeps_its_own_or_gets_it),
		TEST(it_is_gone_in_time),
		TEST(copies_bring_it_along),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

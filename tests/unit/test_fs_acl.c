/* Access control lists and modes, by tables. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "acl.h"
#include "mem.h"

enum { MAX = 16 };

/* A list from text: "u:7 U5:6 g:5 G9:4 m:6 o:4", with U and G for named ones;
 * others as they are. */
static struct slice list_of(const char *text, uint8_t *to)
{
	static const char kinds[] = "uUgGmo";
	size_t size = 4;

	put32(to, 2);
	while (*text) {
		char *end;
		const char *kind = strchr(kinds, *text);
		const unsigned long id = strtoul(text + 1, &end, 10);

		assert_non_null(kind);
		put16(to + size, (uint16_t)(1 << (kind - kinds)));
		put16(to + size + 2, (uint16_t)strtoul(end + 1, &end, 10));
		put32(to + size + 4, id ? (uint32_t)id : UINT32_MAX);
		size += 8;
		text = *end ? end + 1 : end;
	}
	return slice_of(to, size);
}

static bool is(const struct buffer *got, const char *text)
{
	uint8_t bytes[4 + 8 * MAX];

	return slice_equal(buffer_slice(got), list_of(text, bytes));
}

static void only_lists_that_mean_something_are_valid(void **state)
{
	static const struct {
		const char *text;
		bool valid;
	} table[] = {
		{ "u:7 g:5 o:4", true },
		{ "u:7 U1:7 g:5 m:7 o:4", true },
		{ "u:7 U1:7 U2:0 g:5 G4:1 G3:1 m:7 o:4", true },
		{ "u:7 g:5 m:1 o:4", true },
		{ "u:7 U1:7 g:5 o:4", false },		/* no mask */
		{ "u:7 g:5", false },
		{ "g:5 o:4", false },
		{ "u:7 o:4", false },
		{ "u:7 g:5 o:4 m:7", false },		/* order */
		{ "u:7 u:7 g:5 o:4", false },
		{ "u:7 g:5 o:8", false },
		{ "", false },
	};
	uint8_t bytes[4 + 8 * MAX];
	struct slice good;
	(void)state;

	for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++)
		if (acl_is_valid(list_of(table[i].text, bytes)) != table[i].valid)
			fail_msg("'%s'", table[i].text);
	good = list_of("u:7 g:5 o:4", bytes);
	for (size_t size = 0; size < good.size; size++)
		assert_false(acl_is_valid(slice_of(bytes, size)));
	bytes[0] = 3;
	assert_false(acl_is_valid(good));
	bytes[0] = 2;
	bytes[4] = 64;
	assert_false(acl_is_valid(good));
}

static void a_list_tells_its_mode(void **state)
{
	uint8_t bytes[4 + 8 * MAX];
	(void)state;

	assert_int_equal(acl_mode(list_of("u:7 g:5 o:4", bytes)), 0754);
	assert_true(acl_is_mode(list_of("u:7 g:5 o:4", bytes)));
	assert_int_equal(acl_mode(list_of("u:6 U1:7 g:5 m:2 o:0", bytes)), 0620);
	assert_false(acl_is_mode(list_of("u:6 U1:7 g:5 m:2 o:0", bytes)));
	assert_int_equal(acl_mode(list_of("u:6 g:5 m:0 o:1", bytes)), 0601);
	assert_false(acl_is_mode(list_of("u:6 g:5 m:0 o:1", bytes)));
}

static void a_list_follows_chmod(void **state)
{
	uint8_t bytes[4 + 8 * MAX];
	struct buffer out = { 0 };
	(void)state;

	assert_int_equal(acl_chmod(list_of("u:7 U1:7 g:5 m:7 o:4", bytes), 04631, &out), 0);
	assert_true(is(&out, "u:6 U1:7 g:5 m:3 o:1"));
	assert_int_equal(acl_chmod(list_of("u:7 g:5 o:4", bytes), 0631, &out), 0);
	assert_true(is(&out, "u:6 g:3 o:1"));
	buffer_done(&out);
}

static void what_is_made_has_what_both_allow(void **state)
{
	uint8_t bytes[4 + 8 * MAX];
	struct buffer out = { 0 };
	uint32_t mode = 0100666;
	(void)state;

	assert_int_equal(acl_inherit(list_of("u:7 U1:7 g:5 m:7 o:5", bytes), &mode, &out), 0);
	assert_true(is(&out, "u:6 U1:7 g:5 m:6 o:4"));
	assert_int_equal(mode, 0100664);
	mode = 042777;
	assert_int_equal(acl_inherit(list_of("u:6 g:3 o:0", bytes), &mode, &out), 0);
	assert_true(is(&out, "u:6 g:3 o:0"));
	assert_int_equal(mode, 042630);
	buffer_done(&out);
}

static void without_memory_nothing_leaks(void **state)
{
	uint8_t bytes[4 + 8 * MAX];
	struct buffer out = { 0 };
	uint32_t mode = 0666;
	(void)state;

	mem_fail_after(0, 1);
	assert_true(acl_inherit(list_of("u:7 g:5 o:5", bytes), &mode, &out) < 0);
	assert_true(acl_chmod(list_of("u:7 g:5 o:5", bytes), mode, &out) < 0);
	mem_fail_after(-1, 0);
	assert_int_equal(mode, 0666);
	buffer_done(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(only_lists_that_mean_something_are_valid),
		cmocka_unit_test(a_list_tells_its_mode),
		cmocka_unit_test(a_list_follows_chmod),
		cmocka_unit_test(what_is_made_has_what_both_allow),
		cmocka_unit_test(without_memory_nothing_leaks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

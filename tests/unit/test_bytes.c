/* Slices, buffers and integers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>

#include "bytes.h"
#include "mem.h"

static void slices_sort_as_memcmp_and_prefixes_come_first(void **state)
{
	const struct slice sorted[] = {
		slice_str(""), slice_str("a"), slice_str("aa"), slice_str("ab"),
		slice_str("b"), slice_of("b\0", 2), slice_str("\xff"),
	};
	const int count = sizeof(sorted) / sizeof(sorted[0]);
	(void)state;

	for (int i = 0; i < count; i++) {
		for (int j = 0; j < count; j++) {
			const int order = slice_compare(sorted[i], sorted[j]);

			assert_int_equal((order > 0) - (order < 0), (i > j) - (i < j));
			assert_int_equal(slice_equal(sorted[i], sorted[j]), i == j);
		}
	}
}

static void every_slice_starts_with_nothing_and_with_itself(void **state)
{
	const struct slice s = slice_str("key");
	(void)state;

	assert_true(slice_starts(s, slice_of(NULL, 0)));
	assert_true(slice_starts(s, slice_str("ke")));
	assert_true(slice_starts(s, s));
	assert_false(slice_starts(s, slice_str("keys")));
	assert_false(slice_starts(s, slice_str("ky")));
}

static void an_integer_comes_back_from_any_alignment(void **state)
{
	uint8_t bytes[16];
	(void)state;

	for (size_t at = 0; at < 8; at++) {
		put64(bytes + at, 0x0123456789abcdef);
		assert_int_equal(get64(bytes + at), 0x0123456789abcdef);
		assert_int_equal(bytes[at], 0xef);
		put64be(bytes + at, 0x0123456789abcdef);
		assert_int_equal(get64be(bytes + at), 0x0123456789abcdef);
		assert_int_equal(bytes[at], 0x01);
		put32(bytes + at, 0x80000001);
		assert_int_equal(get32(bytes + at), 0x80000001);
		put32be(bytes + at, 0x80000001);
		assert_int_equal(get32be(bytes + at), 0x80000001);
		put16(bytes + at, 0xfe01);
		assert_int_equal(get16(bytes + at), 0xfe01);
	}
}

static void big_endian_integers_sort_as_numbers(void **state)
{
	const uint64_t numbers[] = { 0, 1, 255, 256, 65535, 1u << 31, UINT64_MAX - 1, UINT64_MAX };
	uint8_t a[8], b[8];
	(void)state;

	for (int i = 0; i + 1 < 8; i++) {
		put64be(a, numbers[i]);
		put64be(b, numbers[i + 1]);
		assert_true(memcmp(a, b, 8) < 0);
	}
}

static void keeps_what_is_appended(struct buffer b)
{
	uint8_t byte;

	assert_int_equal(buffer_append(&b, NULL, 0), 0);
	assert_int_equal(b.size, 0);
	for (unsigned i = 0; i < 1000; i++) {
		byte = (uint8_t)i;
		assert_int_equal(buffer_append(&b, &byte, 1), 0);
	}
	assert_int_equal(b.size, 1000);
	for (unsigned i = 0; i < 1000; i++)
		assert_int_equal(b.data[i], (uint8_t)i);
	buffer_done(&b);
	assert_null(b.data);
}

static void a_buffer_keeps_what_was_appended(void **state)
{
	uint8_t room[100];
	(void)state;

	keeps_what_is_appended((struct buffer){ 0 });
	keeps_what_is_appended(buffer_on(room, sizeof(room)));
}

static void without_memory_is_as_it_was(struct buffer b)
{
	assert_int_equal(buffer_append(&b, "abc", 3), 0);
	mem_fail_after(0, 1);
	assert_int_equal(buffer_reserve(&b, 10000), -ENOMEM);
	assert_int_equal(buffer_append(&b, "d", 1), 0);		/* there is room */
	mem_fail_after(-1, 0);
	assert_int_equal(buffer_reserve(&b, SIZE_MAX - 2), -ENOMEM);
	assert_int_equal(b.size, 4);
	assert_memory_equal(b.data, "abcd", 4);
	buffer_done(&b);
}

static void a_buffer_without_memory_is_as_it_was(void **state)
{
	uint8_t room[100];
	(void)state;

	without_memory_is_as_it_was((struct buffer){ 0 });
	without_memory_is_as_it_was(buffer_on(room, sizeof(room)));
}

static void what_fits_on_the_stack_needs_no_memory(void **state)
{
	uint8_t room[100] = { 0 };
	struct buffer b = buffer_on(room, sizeof(room));
	(void)state;

	mem_fail_after(0, 1);
	for (size_t i = 0; i < sizeof(room); i++)
		assert_int_equal(buffer_append(&b, "x", 1), 0);
	assert_int_equal(buffer_append(&b, "x", 1), -ENOMEM);
	mem_fail_after(-1, 0);
	assert_int_equal(room[sizeof(room) - 1], 'x');
	buffer_done(&b);
}

static void a_short_copy_is_exact(void **state)
{
	enum { LONGEST = 40, EDGE = 16 };
	uint8_t from[LONGEST], to[EDGE + LONGEST + EDGE];
	(void)state;

	for (int i = 0; i < LONGEST; i++)
		from[i] = (uint8_t)(i + 1);
	for (size_t size = 0; size <= LONGEST; size++) {
		memset(to, 0xee, sizeof(to));
		copy_short(to + EDGE, from, size);
		for (size_t i = 0; i < sizeof(to); i++)
			assert_int_equal(to[i],
					 i >= EDGE && i < EDGE + size ? from[i - EDGE] : 0xee);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(slices_sort_as_memcmp_and_prefixes_come_first),
		cmocka_unit_test(every_slice_starts_with_nothing_and_with_itself),
		cmocka_unit_test(an_integer_comes_back_from_any_alignment),
		cmocka_unit_test(big_endian_integers_sort_as_numbers),
		cmocka_unit_test(a_buffer_keeps_what_was_appended),
		cmocka_unit_test(a_buffer_without_memory_is_as_it_was),
		cmocka_unit_test(what_fits_on_the_stack_needs_no_memory),
		cmocka_unit_test(a_short_copy_is_exact),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

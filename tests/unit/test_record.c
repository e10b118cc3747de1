/* Keys of records, names, varints, small records, and the map from ids. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "idmap.h"
#include "mem.h"
#include "record.h"
#include "varint.h"
#include "xattr_set.h"

static int order(struct record_key a, struct record_key b)
{
	return slice_compare(record_slice(&a), record_slice(&b));
}

static void keys_sort_as_their_numbers_and_names_do(void **state)
{
	(void)state;
	assert_true(order(record_name(1, slice_str("a")), record_name(1, slice_str("b"))) < 0);
	assert_true(order(record_name(1, slice_str("a")), record_name(1, slice_str("aa"))) < 0);
	assert_true(order(record_name(1, slice_str("zz")), record_name(2, slice_str("a"))) < 0);
	assert_true(order(record_name(255, slice_str("a")), record_name(256, slice_str("a"))) < 0);
	assert_true(order(record_chunk(7, 255), record_chunk(7, 256)) < 0);
	assert_true(order(record_chunk(7, UINT32_MAX), record_chunk(8, 0)) < 0);
	assert_true(order(record_expiry(9, 1, slice_str("z")),
			  record_expiry(10, 1, slice_str("a"))) < 0);
}

static void a_listing_goes_on_right_behind_a_name(void **state)
{
	const struct record_key next = record_name_after(1, slice_str("a"));
	(void)state;

	assert_true(order(record_name(1, slice_str("a")), next) < 0);
	assert_true(order(next, record_name(1, slice_str("a\x01"))) < 0);
	assert_true(order(record_names_of(1), record_name_after(1, slice_str(""))) < 0);
}

static void keys_are_parsed_as_they_were_made(void **state)
{
	struct record_key key = record_name(7, slice_str("name"));
	uint64_t a = 0, b = 0;
	uint32_t chunk = 0;
	struct slice name;
	(void)state;

	assert_int_equal(record_name_parse(record_slice(&key), &a, &name), 0);
	assert_int_equal(a, 7);
	assert_true(slice_equal(name, slice_str("name")));
	key = record_expiry(123456789, 7, slice_str("name"));
	assert_int_equal(record_expiry_parse(record_slice(&key), &b, &a, &name), 0);
	assert_int_equal(b, 123456789);
	assert_int_equal(a, 7);
	assert_true(slice_equal(name, slice_str("name")));
	key = record_chunk(1ull << 40, 77);
	assert_int_equal(record_chunk_parse(record_slice(&key), &a, &chunk), 0);
	assert_true(a == 1ull << 40);
	assert_int_equal(chunk, 77);
	key = record_doomed(3);
	assert_int_equal(record_id_parse(record_slice(&key), &a), 0);
	assert_int_equal(a, 3);
}

static void the_root_and_nobody_else_has_no_name(void **state)
{
	struct record_key key = record_name(0, slice_str(""));
	struct slice name;
	uint64_t table;
	(void)state;

	assert_int_equal(record_name_parse(record_slice(&key), &table, &name), 0);
	key = record_name(1, slice_str(""));
	assert_int_equal(record_name_parse(record_slice(&key), &table, &name), -EUCLEAN);
	key = record_name(0, slice_str("x"));
	assert_int_equal(record_name_parse(record_slice(&key), &table, &name), -EUCLEAN);
}

static void a_shared_entry_has_a_place_of_its_own(void **state)
{
	uint8_t bytes[STORE_SHARED_NAME];
	const struct place place = place_shared(300, bytes);
	struct record_key key = record_at(place), plain = record_at((struct place){ 1, slice_str("x") });
	uint64_t id, table = 0, expires;
	struct slice name;
	(void)state;

	assert_true(place_is_shared(place));
	assert_false(place_is_shared(PLACE_ROOT));
	assert_false(place_is_shared((struct place){ 1, place.name }));
	assert_int_equal(order(plain, record_name(1, slice_str("x"))), 0);
	assert_int_equal(order(key, record_shared(300)), 0);
	assert_int_equal(record_shared_parse(record_slice(&key), &id, &table, &name), 0);
	assert_int_equal(id, 300);
	key = record_shared_name(300, 7, slice_str("x"));
	assert_int_equal(record_shared_parse(record_slice(&key), &id, &table, &name), 1);
	assert_int_equal(table, 7);
	assert_true(slice_equal(name, slice_str("x")));
	for (size_t size = 1; size < 18; size++)
		if (size != 9)
			assert_int_equal(record_shared_parse(slice_of(key.bytes, size), &id, &table,
							     &name), -EUCLEAN);
	key = record_shared_name(300, 0, slice_str("x"));
	assert_int_equal(record_shared_parse(record_slice(&key), &id, &table, &name), -EUCLEAN);

	key = record_expiry(5, 0, place.name);
	assert_int_equal(record_expiry_parse(record_slice(&key), &expires, &table, &name), 0);
	assert_true(place_is_shared((struct place){ table, name }));
	key = record_expiry(5, 0, slice_str("x"));
	assert_int_equal(record_expiry_parse(record_slice(&key), &expires, &table, &name), -EUCLEAN);
}

static void a_key_of_another_length_is_refused(void **state)
{
	const struct record_key chunk = record_chunk(5, 5), doomed = record_doomed(5);
	const struct record_key expiry = record_expiry(5, 5, slice_str("x"));
	struct slice name;
	uint64_t a, b;
	uint32_t n;
	(void)state;

	for (size_t size = 1; size < 13; size++)
		assert_int_equal(record_chunk_parse(slice_of(chunk.bytes, size), &a, &n), -EUCLEAN);
	for (size_t size = 1; size < 9; size++)
		assert_int_equal(record_id_parse(slice_of(doomed.bytes, size), &a), -EUCLEAN);
	for (size_t size = 1; size < 18; size++)
		assert_int_equal(record_expiry_parse(slice_of(expiry.bytes, size), &a, &b, &name),
				 -EUCLEAN);
	for (size_t size = 1; size < 10; size++)
		assert_int_equal(record_name_parse(slice_of(expiry.bytes, size), &a, &name),
				 -EUCLEAN);
}

static void names_are_any_bytes_but_a_few(void **state)
{
	uint8_t all[256], n = 0;
	char longest[STORE_NAME_MAX + 1];
	(void)state;

	for (int c = 1; c < 256; c++)
		if (c != '/')
			all[n++] = (uint8_t)c;
	memset(longest, 'x', sizeof(longest));
	assert_int_equal(record_name_check(slice_of(all, n)), 0);
	assert_int_equal(record_name_check(slice_of(longest, STORE_NAME_MAX)), 0);
	assert_int_equal(record_name_check(slice_of(longest, STORE_NAME_MAX + 1)), -ENAMETOOLONG);
	assert_int_equal(record_name_check(slice_str("...")), 0);
	assert_int_equal(record_name_check(slice_str("")), -EINVAL);
	assert_int_equal(record_name_check(slice_str(".")), -EINVAL);
	assert_int_equal(record_name_check(slice_str("..")), -EINVAL);
	assert_int_equal(record_name_check(slice_str("a/b")), -EINVAL);
	assert_int_equal(record_name_check(slice_of("a\0b", 3)), -EINVAL);
}

static void chunks_say_how_they_are_kept_and_nonsense_is_refused(void **state)
{
	static const uint8_t inlined[] = { CHUNK_INLINE, 'x', 'y' }, run[] = { CHUNK_RUN, 'x' };
	static const uint8_t other[] = { 3, 'x' };
	static uint8_t huge[2 + STORE_CHUNK] = { CHUNK_INLINE };
	struct slice bytes;
	uint8_t kind;
	(void)state;

	assert_int_equal(chunk_parse(slice_of(inlined, 3), 0, &kind, &bytes), 0);
	assert_int_equal(kind, CHUNK_INLINE);
	assert_true(slice_equal(bytes, slice_str("xy")));
	assert_int_equal(chunk_parse(slice_of(run, 1), STORE_CHUNK, &kind, &bytes), 0);
	assert_int_equal(kind, CHUNK_RUN);
	assert_int_equal(bytes.size, 0);
	assert_int_equal(chunk_parse(slice_of(huge, 1 + STORE_CHUNK), 0, &kind, &bytes), 0);

	assert_int_equal(chunk_parse(slice_of(huge, 2 + STORE_CHUNK), 0, &kind, &bytes), -EUCLEAN);
	assert_int_equal(chunk_parse(slice_of(inlined, 1), 0, &kind, &bytes), -EUCLEAN);
	assert_int_equal(chunk_parse(slice_of(inlined, 3), 5, &kind, &bytes), -EUCLEAN);
	assert_int_equal(chunk_parse(slice_of(run, 1), 0, &kind, &bytes), -EUCLEAN);
	assert_int_equal(chunk_parse(slice_of(run, 2), 5, &kind, &bytes), -EUCLEAN);
	assert_int_equal(chunk_parse(slice_of(run, 1), STORE_CHUNK + 1, &kind, &bytes), -EUCLEAN);
	assert_int_equal(chunk_parse(slice_of(other, 2), 0, &kind, &bytes), -EUCLEAN);
	assert_int_equal(chunk_parse(slice_of(NULL, 0), 0, &kind, &bytes), -EUCLEAN);
}

/* ---- varints ----------------------------------------------------------------------------- */

static void every_number_comes_back_in_the_bytes_foretold(void **state)
{
	uint8_t bytes[VARINT_MAX];
	(void)state;

	for (unsigned shift = 0; shift <= 64; shift++) {
		for (int64_t d = -1; d <= 1; d++) {
			const uint64_t v = (shift < 64 ? 1ull << shift : 0) + (uint64_t)d;
			const size_t size = varint_put(bytes, v);
			struct slice from = slice_of(bytes, size);
			uint64_t back = ~v;

			assert_int_equal(size, varint_size(v));
			assert_int_equal(varint_take(&from, &back), 0);
			assert_true(back == v);
			assert_int_equal(from.size, 0);
			assert_true(unzigzag(zigzag((int64_t)v)) == (int64_t)v);
			from = slice_of(bytes, size - 1);
			assert_int_equal(varint_take(&from, &back), -EUCLEAN);
		}
	}
}

static void a_number_has_one_encoding_only(void **state)
{
	static const uint8_t padded[] = { 0x81, 0x00 };
	static const uint8_t over[] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02 };
	struct slice from = slice_of(padded, sizeof(padded));
	uint64_t v;
	(void)state;

	assert_int_equal(varint_take(&from, &v), -EUCLEAN);
	from = slice_of(over, sizeof(over));
	assert_int_equal(varint_take(&from, &v), -EUCLEAN);
}

static void bytes_that_promise_more_than_there_is_are_refused(void **state)
{
	static const uint8_t lie[] = { 4, 'a', 'b', 'c' };
	struct slice from = slice_of(lie, sizeof(lie)), bytes;
	(void)state;

	assert_int_equal(varint_take_bytes(&from, &bytes), -EUCLEAN);
	assert_int_equal(from.size, sizeof(lie));
}

/* ---- extended attributes ------------------------------------------------------------------- */

static void set(struct buffer *set, const char *name, const char *value)
{
	const struct slice v = slice_str(value ? value : "");
	struct buffer out = { 0 };

	assert_int_equal(xattr_set_with(buffer_slice(set), slice_str(name), value ? &v : NULL, &out),
			 0);
	buffer_done(set);
	*set = out;
	assert_int_equal(xattr_set_check(buffer_slice(set)), 0);
}

static void attributes_are_added_replaced_and_removed(void **state)
{
	struct buffer s = { 0 };
	struct slice v;
	(void)state;

	set(&s, "user.m", "1");
	set(&s, "user.a", "2");
	set(&s, "user.z", "");
	set(&s, "user.m", "three");
	assert_int_equal(xattr_set_find(buffer_slice(&s), slice_str("user.m"), &v), 0);
	assert_true(slice_equal(v, slice_str("three")));
	assert_int_equal(xattr_set_find(buffer_slice(&s), slice_str("user.z"), &v), 0);
	assert_int_equal(v.size, 0);
	set(&s, "user.m", NULL);
	assert_int_equal(xattr_set_find(buffer_slice(&s), slice_str("user.m"), &v), -ENODATA);
	assert_int_equal(xattr_set_find(buffer_slice(&s), slice_str("user.a"), &v), 0);
	set(&s, "user.a", NULL);
	set(&s, "user.z", NULL);
	assert_int_equal(s.size, 0);
	buffer_done(&s);
}

static void a_set_out_of_order_or_cut_short_is_refused(void **state)
{
	static const uint8_t twice[] = { 1, 'a', 1, 'x', 1, 'a', 1, 'y' };
	static const uint8_t nameless[] = { 0, 1, 'x' };
	static const uint8_t nul[] = { 1, 0, 1, 'x' };
	struct buffer s = { 0 };
	size_t whole = 0;
	(void)state;

	assert_int_equal(xattr_set_check(slice_of(twice, sizeof(twice))), -EUCLEAN);
	assert_int_equal(xattr_set_check(slice_of(nameless, sizeof(nameless))), -EUCLEAN);
	assert_int_equal(xattr_set_check(slice_of(nul, sizeof(nul))), -EUCLEAN);
	set(&s, "aa", "bbb");
	set(&s, "cc", "ddd");
	for (size_t size = 0; size <= s.size; size++)
		whole += xattr_set_check(slice_of(s.data, size)) == 0;
	assert_int_equal(whole, 3);	/* none, one and both */
	buffer_done(&s);
}

static void too_many_attributes_are_no_space(void **state)
{
	struct buffer s = { 0 }, out = { 0 };
	const struct slice value = slice_str("v");
	char name[32];
	int rc = 0, n;
	(void)state;

	for (n = 0; rc == 0; n++) {
		struct buffer swap = s;

		sprintf(name, "user.%08d", n);
		rc = xattr_set_with(buffer_slice(&s), slice_str(name), &value, &out);
		if (rc == 0) {
			s = out;
			out = swap;
		}
	}
	assert_int_equal(rc, -ENOSPC);
	assert_in_range(n, 3000, 5000);
	assert_in_range(s.size, 1, STORE_XATTRS_MAX);
	assert_int_equal(xattr_set_with(buffer_slice(&s), slice_str("user.00000007"), NULL, &out), 0);
	buffer_done(&s);
	buffer_done(&out);
}

/* ---- the map from ids ---------------------------------------------------------------------- */

enum { IDS = 500 };

static void the_map_holds_what_was_added_and_not_removed(void **state)
{
	struct idmap map = { 0 };
	bool there[IDS + 1] = { false };
	uint32_t seed = 12345;
	(void)state;

	for (int step = 0; step < 20000; step++) {
		uint64_t id;
		struct idmap_slot *slot;

		seed = seed * 1664525 + 1013904223;
		id = 1 + (seed >> 8) % IDS;
		slot = idmap_find(&map, id << 20);
		assert_int_equal(slot != NULL, there[id]);
		if (slot)
			assert_int_equal(slot->a, id);
		if (slot && seed & 0x80) {
			idmap_remove(&map, slot);
			there[id] = false;
		} else {
			idmap_add(&map, id << 20)->a = id;
			there[id] = true;
		}
	}
	for (uint64_t id = 1; id <= IDS; id++)
		assert_int_equal(idmap_find(&map, id << 20) != NULL, there[id]);
	idmap_done(&map);
	assert_null(idmap_find(&map, 1));
}

static void without_memory_the_map_stays_as_it_was(void **state)
{
	struct idmap map = { 0 };
	(void)state;

	mem_fail_after(0, 1);
	assert_null(idmap_add(&map, 1));
	mem_fail_after(-1, 0);
	for (uint64_t id = 1; id <= 8; id++)
		assert_non_null(idmap_add(&map, id));
	mem_fail_after(0, 1);
	assert_null(idmap_add(&map, 9));
	assert_non_null(idmap_add(&map, 8));
	mem_fail_after(-1, 0);
	assert_int_equal(map.count, 8);
	idmap_done(&map);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(keys_sort_as_their_numbers_and_names_do),
		cmocka_unit_test(a_listing_goes_on_right_behind_a_name),
		cmocka_unit_test(keys_are_parsed_as_they_were_made),
		cmocka_unit_test(the_root_and_nobody_else_has_no_name),
		cmocka_unit_test(a_shared_entry_has_a_place_of_its_own),
		cmocka_unit_test(a_key_of_another_length_is_refused),
		cmocka_unit_test(names_are_any_bytes_but_a_few),
		cmocka_unit_test(chunks_say_how_they_are_kept_and_nonsense_is_refused),
		cmocka_unit_test(every_number_comes_back_in_the_bytes_foretold),
		cmocka_unit_test(a_number_has_one_encoding_only),
		cmocka_unit_test(bytes_that_promise_more_than_there_is_are_refused),
		cmocka_unit_test(attributes_are_added_replaced_and_removed),
		cmocka_unit_test(a_set_out_of_order_or_cut_short_is_refused),
		cmocka_unit_test(too_many_attributes_are_no_space),
		cmocka_unit_test(the_map_holds_what_was_added_and_not_removed),
		cmocka_unit_test(without_memory_the_map_stays_as_it_was),
	};

	return cmocka_run_group_tests_name("record", tests, NULL, NULL);
}

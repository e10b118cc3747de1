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
#include "patches.h"
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
	struct record_key key = record_at(place),
			  plain = record_at((struct place){ 1, slice_str("x") });
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
	assert_int_equal(record_expiry_parse(record_slice(&key), &expires, &table, &name),
			 -EUCLEAN);
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

static void one_wrong_byte_makes_a_name_wrong_wherever_it_is(void **state)
{
	static const uint8_t good[] = { 0x01, 0x2e, 0x30, 0x7f, 0x80, 0x81, 0xaf, 0xff };
	uint8_t name[STORE_NAME_MAX];
	(void)state;

	for (size_t size = 3; size <= sizeof(name); size += 1 + size / 30)
		for (size_t at = 0; at < size; at++) {
			for (size_t i = 0; i < size; i++)
				name[i] = good[(at + i) % sizeof(good)];
			assert_int_equal(record_name_check(slice_of(name, size)), 0);
			name[at] = at % 2 ? 0 : '/';
			assert_int_equal(record_name_check(slice_of(name, size)), -EINVAL);
			name[at] = at % 2 ? '/' : 0;
			assert_int_equal(record_name_check(slice_of(name, size)), -EINVAL);
		}
	assert_int_equal(record_name_check(slice_str("/")), -EINVAL);
	assert_int_equal(record_name_check(slice_str("a/")), -EINVAL);
	assert_int_equal(record_name_check(slice_str("/a")), -EINVAL);
	assert_int_equal(record_name_check(slice_str("a")), 0);
	assert_int_equal(record_name_check(slice_str("ab")), 0);
}

static void chunks_say_how_they_are_kept_and_nonsense_is_refused(void **state)
{
	static const uint8_t inlined[] = { CHUNK_INLINE, 'x', 'y' }, run[] = { CHUNK_RUN, 'x' };
	static const uint8_t other[] = { 4, 'x' }, sparse[] = { CHUNK_SPARSE };
	static uint8_t huge[2 + STORE_CHUNK] = { CHUNK_INLINE };
	struct chunk c;
	(void)state;

	assert_int_equal(chunk_parse(slice_of(inlined, 3), 0, &c), 0);
	assert_int_equal(c.shape.kind, CHUNK_INLINE);
	assert_int_equal(c.shape.used, 2);
	assert_true(slice_equal(c.bytes, slice_str("xy")));
	assert_int_equal(chunk_parse(slice_of(run, 1), STORE_CHUNK, &c), 0);
	assert_int_equal(c.shape.kind, CHUNK_RUN);
	assert_int_equal(c.shape.used, STORE_CHUNK);
	assert_int_equal(c.bytes.size, 0);
	assert_int_equal(chunk_parse(slice_of(huge, 1 + STORE_CHUNK), 0, &c), 0);

	assert_int_equal(chunk_parse(slice_of(huge, 2 + STORE_CHUNK), 0, &c), -EUCLEAN);
	assert_int_equal(chunk_parse(slice_of(inlined, 1), 0, &c), -EUCLEAN);
	assert_int_equal(chunk_parse(slice_of(inlined, 3), 5, &c), -EUCLEAN);
	assert_int_equal(chunk_parse(slice_of(run, 1), 0, &c), -EUCLEAN);
	assert_int_equal(chunk_parse(slice_of(run, 2), 5, &c), -EUCLEAN);
	assert_int_equal(chunk_parse(slice_of(run, 1), STORE_CHUNK + 1, &c), -EUCLEAN);
	assert_int_equal(chunk_parse(slice_of(sparse, 1), 0, &c), -EUCLEAN);
	assert_int_equal(chunk_parse(slice_of(other, 2), 0, &c), -EUCLEAN);
	assert_int_equal(chunk_parse(slice_of(NULL, 0), 0, &c), -EUCLEAN);
}

static void a_patched_chunk_says_what_it_has(void **state)
{
	/* "ab" at 3, then cut off at 4, then "c" at 9: with nothing below, and over a run. */
	static const uint8_t record[] = {
		CHUNK_SPARSE, 3, 0, 2, 0, 'a', 'b', 4, 0, 0, 0, 9, 0, 1, 0, 'c',
	};
	uint8_t over_run[sizeof(record)];
	struct chunk c;
	(void)state;

	assert_int_equal(chunk_parse(slice_of(record, sizeof(record)), 0, &c), 0);
	assert_int_equal(c.shape.count, 3);
	assert_int_equal(c.shape.used, 10);
	assert_int_equal(c.shape.list, sizeof(record) - 1);
	assert_int_equal(chunk_stored(&c.shape), 3);
	memcpy(over_run, record, sizeof(record));
	over_run[0] = CHUNK_RUN;
	assert_int_equal(chunk_parse(slice_of(over_run, sizeof(record)), 5000, &c), 0);
	assert_int_equal(c.shape.used, 10);
	assert_int_equal(chunk_stored(&c.shape), 10);
	assert_int_equal(chunk_parse(slice_of(over_run, 7), 5000, &c), 0);
	assert_int_equal(c.shape.used, 5000);
}

/* What is accepted is read with a sanitizer watching: nothing beyond the list, nor the chunk. */
static void whatever_byte_of_a_patch_list_is_wrong_nothing_else_is_touched(void **state)
{
	static const uint8_t record[] = {
		CHUNK_SPARSE, 0xf0, 0xff, 5, 0, 'a', 'b', 'c', 'd', 'e',
		4, 0, 0, 0, 9, 0, 1, 0, 'c',
	};
	uint8_t *chunk = malloc(STORE_CHUNK);
	(void)state;

	for (size_t size = 1; size <= sizeof(record); size++)
		for (size_t at = 0; at < size; at++)
			for (unsigned mask = 0; mask < 256; mask++) {
				uint8_t *copy = malloc(size);
				struct chunk c;
				uint32_t place;
				int rc;

				memcpy(copy, record, size);
				copy[at] ^= (uint8_t)mask;
				rc = chunk_parse(slice_of(copy, size), 0, &c);
				assert_true(rc == 0 || rc == -EUCLEAN);
				if (rc == 0 && c.shape.kind == CHUNK_SPARSE) {
					memset(chunk, 0, STORE_CHUNK);
					patches_lay(c.patches, chunk, 0, STORE_CHUNK);
					assert_in_range(c.shape.used, 1, STORE_CHUNK);
					for (uint32_t i = c.shape.used; i < STORE_CHUNK; i++)
						assert_int_equal(chunk[i], 0);
					if (patches_find(c.patches, 9, 1, &place))
						assert_true(place < c.patches.size);
				}
				free(copy);
			}
	free(chunk);
}

static void a_patch_list_may_not_be_endless(void **state)
{
	enum { EACH = PATCH_HEADER + 1 };
	static uint8_t many[1 + (PATCHES_COUNT + 1) * EACH], huge[1 + PATCHES_MAX + 1];
	struct chunk c;
	(void)state;

	many[0] = huge[0] = CHUNK_SPARSE;
	for (size_t i = 1; i < sizeof(many); i += EACH)
		put16(many + i + 2, 1);
	assert_int_equal(chunk_parse(slice_of(many, 1 + PATCHES_COUNT * EACH), 0, &c), 0);
	assert_int_equal(chunk_parse(slice_of(many, sizeof(many)), 0, &c), -EUCLEAN);
	put16(huge + 3, PATCHES_MAX - PATCH_HEADER);
	assert_int_equal(chunk_parse(slice_of(huge, 1 + PATCHES_MAX), 0, &c), 0);
	put16(huge + 3, PATCHES_MAX - PATCH_HEADER + 1);
	assert_int_equal(chunk_parse(slice_of(huge, sizeof(huge)), 0, &c), -EUCLEAN);
}

/* ---- patches --------------------------------------------------------------------------------- */

/* Random changes to a list, and to a chunk: laid over what was there, they agree. */
static void patches_are_what_was_written(void **state)
{
	enum { AREA = 4000, ROUNDS = 300 };
	static uint8_t below[STORE_CHUNK], wanted[STORE_CHUNK], got[STORE_CHUNK];
	uint64_t dice = 88172645463325252u;
	(void)state;

	for (int round = 0; round < ROUNDS; round++) {
		struct buffer list = { 0 };
		struct patches_sum sum;
		uint32_t used = (uint32_t)(round * 37 % AREA), count = 0;
		const uint32_t had = used;

		memset(below, 0, sizeof(below));
		memset(below, 0xaa, used);
		memcpy(wanted, below, sizeof(wanted));
		for (int n = 0; n < 40; n++) {
			uint8_t bytes[700];
			uint32_t offset, size;

			dice ^= dice << 13, dice ^= dice >> 7, dice ^= dice << 17;
			offset = dice % 3 == 0 ? used : (uint32_t)(dice >> 20) % AREA;
			size = 1 + (uint32_t)(dice >> 40) % (sizeof(bytes) - 1);
			assert_int_equal(buffer_reserve(&list, patches_need(size)), 0);
			if (dice % 11 == 0) {
				patches_cut(&list, offset);
				count++;
				memset(wanted + offset, 0, sizeof(wanted) - offset);
				used = offset < used ? offset : used;
				continue;
			}
			memset(bytes, n + 1, size);
			count += patches_add(&list, offset, slice_of(bytes, size));
			memcpy(wanted + offset, bytes, size);
			used = offset + size > used ? offset + size : used;
		}
		assert_int_equal(patches_sum(buffer_slice(&list), had, &sum), 0);
		assert_int_equal(sum.used, used);
		assert_int_equal(sum.count, count);
		memcpy(got, below, sizeof(got));
		patches_lay(buffer_slice(&list), got, 0, STORE_CHUNK);
		assert_memory_equal(got, wanted, STORE_CHUNK);
		for (uint32_t start = 0; start < AREA; start += 333) {	/* and in part */
			memcpy(got, below + start, 500);
			patches_lay(buffer_slice(&list), got, start, 500);
			assert_memory_equal(got, wanted + start, 500);
		}
		buffer_done(&list);
	}
}

static void what_is_written_again_takes_no_more_room(void **state)
{
	struct buffer list = { 0 };
	size_t size;
	uint32_t at;
	(void)state;

	assert_int_equal(buffer_reserve(&list, 1000), 0);
	assert_int_equal(patches_add(&list, 100, slice_str("0123456789")), 1);
	assert_int_equal(patches_add(&list, 110, slice_str("more")), 0);	/* goes on */
	size = list.size;
	assert_int_equal(size, PATCH_HEADER + 14);
	assert_int_equal(patches_add(&list, 108, slice_str("inner")), 0);
	assert_int_equal(list.size, size);
	assert_int_equal(patches_add(&list, 112, slice_str("over")), 1);
	assert_false(patches_find(buffer_slice(&list), 108, 5, &at));	/* partly below another */
	assert_true(patches_find(buffer_slice(&list), 108, 4, &at));
	assert_true(patches_touch(buffer_slice(&list), 115, 9));
	assert_false(patches_touch(buffer_slice(&list), 116, 9));
	patches_cut(&list, 50);
	assert_false(patches_find(buffer_slice(&list), 108, 4, &at));
	assert_true(patches_touch(buffer_slice(&list), 60000, 1));
	assert_int_equal(patches_add(&list, 112, slice_str("again")), 1);
	buffer_done(&list);
}

/* ---- varints ----------------------------------------------------------------------------- */

enum { BEHIND = 8 };	/* bytes of something else */

static void every_number_comes_back(void **state)
{
	uint8_t bytes[VARINT_MAX + BEHIND];
	(void)state;

	for (unsigned shift = 0; shift <= 64; shift++) {
		for (int64_t d = -1; d <= 1; d++) {
			const uint64_t v = (shift < 64 ? 1ull << shift : 0) + (uint64_t)d;
			const size_t size = varint_put(bytes, v);
			struct slice from = slice_of(bytes, size);
			uint64_t back = ~v;

			assert_int_equal(varint_take(&from, &back), 0);
			assert_true(back == v);
			assert_int_equal(from.size, 0);
			assert_true(unzigzag(zigzag((int64_t)v)) == (int64_t)v);
			memset(bytes + size, 0xff, BEHIND);
			from = slice_of(bytes, size + BEHIND);
			assert_int_equal(varint_take(&from, &back), 0);
			assert_true(back == v);
			assert_int_equal(from.size, BEHIND);
			from = slice_of(bytes, size - 1);
			assert_int_equal(varint_take(&from, &back), -EUCLEAN);
		}
	}
}

static void a_number_has_one_encoding_only(void **state)
{
	static const uint8_t over[] = {
		0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02
	};
	uint8_t padded[VARINT_MAX + BEHIND];
	struct slice from = slice_of(over, sizeof(over));
	uint64_t v;
	(void)state;

	assert_int_equal(varint_take(&from, &v), -EUCLEAN);
	for (size_t size = 2; size <= VARINT_MAX; size++)
		for (size_t more = 0; more <= BEHIND; more += BEHIND) {
			memset(padded, 0x81, size - 1);
			memset(padded + size - 1, 0, 1 + BEHIND);
			from = slice_of(padded, size + more);
			assert_int_equal(varint_take(&from, &v), -EUCLEAN);
			assert_int_equal(from.size, size + more);
		}
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

	assert_int_equal(
		xattr_set_with(buffer_slice(set), slice_str(name), value ? &v : NULL, &out), 0);
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
	assert_int_equal(xattr_set_with(buffer_slice(&s), slice_str("user.00000007"), NULL, &out),
			 0);
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
		cmocka_unit_test(one_wrong_byte_makes_a_name_wrong_wherever_it_is),
		cmocka_unit_test(chunks_say_how_they_are_kept_and_nonsense_is_refused),
		cmocka_unit_test(a_patched_chunk_says_what_it_has),
		cmocka_unit_test(whatever_byte_of_a_patch_list_is_wrong_nothing_else_is_touched),
		cmocka_unit_test(a_patch_list_may_not_be_endless),
		cmocka_unit_test(patches_are_what_was_written),
		cmocka_unit_test(what_is_written_again_takes_no_more_room),
		cmocka_unit_test(every_number_comes_back),
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

/* Entries and table records to bytes and back. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "entry.h"
#include "mem.h"
#include "store.h"
#include "varint.h"

/* ---- vocabulary --------------------------------------------------------------------------- */

enum { NOW = 1700000000 };

static const uint8_t one_xattr[] = { 6, 'u', 's', 'e', 'r', '.', 'c', 3, 'r', 'e', 'd' };
static uint8_t small_value[STORE_INLINE_MAX + 1];

static struct entry file(void)
{
	return (struct entry){
		.id = 300, .mode = S_IFREG | 0644, .version = 1, .atime_ns = NOW, .mtime_ns = NOW,
		.ctime_ns = NOW, .btime_ns = NOW,
	};
}

static struct entry of_type(uint32_t type)
{
	struct entry e = file();

	e.mode = type | 0755;
	e.version = type != S_IFDIR;
	if (type == S_IFLNK) {
		e.contents = slice_str("../elsewhere");
		e.size = e.contents.size;
	}
	return e;
}

static struct entry with_contents(size_t size)
{
	struct entry e = file();

	e.contents = slice_of(small_value, size);
	e.size = size;
	return e;
}

static struct entry with_everything(void)
{
	struct entry e = file();

	e.mode = S_IFREG | 07777;
	e.uid = 1000;
	e.gid = UINT32_MAX;
	e.flags = ENTRY_VERSION_SET | ENTRY_VERSION_NEXT | ENTRY_FRESH;
	e.version = INT64_MAX;
	e.expires_ms = 1700000000123;
	e.atime_ns = INT64_MIN;
	e.mtime_ns = INT64_MAX;
	e.ctime_ns = -1;
	e.btime_ns = 0;
	e.value_id = 1ull << 60;
	e.size = STORE_SIZE_MAX;
	e.links = UINT32_MAX;
	e.xattrs = slice_of(one_xattr, sizeof(one_xattr));
	return e;
}

static void assert_same(const struct entry *a, const struct entry *b)
{
	assert_true(a->id == b->id && a->mode == b->mode && a->uid == b->uid && a->gid == b->gid);
	assert_true(a->flags == b->flags && a->rdev == b->rdev && a->version == b->version);
	assert_true(a->expires_ms == b->expires_ms && a->value_id == b->value_id);
	assert_true(a->size == b->size && a->atime_ns == b->atime_ns);
	assert_true(a->mtime_ns == b->mtime_ns && a->ctime_ns == b->ctime_ns);
	assert_true(a->btime_ns == b->btime_ns && a->links == b->links);
	assert_true(slice_equal(a->contents, b->contents) && slice_equal(a->xattrs, b->xattrs));
}

static void encode(const struct entry *e, struct buffer *out)
{
	buffer_clear(out);
	assert_int_equal(buffer_reserve(out, entry_size_max(e)), 0);
	out->size = entry_encode(e, out->data);
	assert_in_range(out->size, 1, entry_size_max(e));
}

static size_t survives(struct entry e)
{
	struct buffer record = { 0 };
	struct entry back;
	size_t size;

	encode(&e, &record);
	assert_int_equal(entry_decode(buffer_slice(&record), &back), 0);
	assert_same(&e, &back);
	size = record.size;
	buffer_done(&record);
	return size;
}

/* ---- stories ------------------------------------------------------------------------------ */

static void every_kind_of_entry_survives(void **state)
{
	struct entry device = of_type(S_IFCHR), unpublished = file();
	(void)state;

	device.rdev = 0x501;
	unpublished.flags = ENTRY_UNPUBLISHED;
	unpublished.version = 0;
	survives(file());
	survives(of_type(S_IFDIR));
	survives(of_type(S_IFLNK));
	survives(of_type(S_IFIFO));
	survives(of_type(S_IFSOCK));
	survives(of_type(S_IFCHR));
	survives(of_type(S_IFBLK));
	survives(device);
	survives(unpublished);
	survives(with_contents(1));
	survives(with_contents(STORE_INLINE_MAX));
	survives(with_everything());
}

static void a_value_of_200_bytes_costs_little_more(void **state)
{
	(void)state;
	assert_in_range(survives(with_contents(200)), 200, 220);
}

static void the_largest_entry_fits_into_a_record_of_the_engine(void **state)
{
	struct entry e = of_type(S_IFLNK);
	char target[STORE_TARGET_MAX];
	uint8_t *set = mem_zalloc(STORE_XATTRS_MAX);
	size_t n = 0;
	(void)state;

	memset(target, 't', sizeof(target));
	n += varint_put(set + n, 1);
	set[n++] = 'a';
	n += varint_put(set + n, STORE_XATTRS_MAX - n - 3);
	e.xattrs = slice_of(set, STORE_XATTRS_MAX);
	e.contents = slice_of(target, sizeof(target));
	e.size = sizeof(target);
	assert_in_range(survives(e), STORE_XATTRS_MAX, ENGINE_VALUE_MAX);
	mem_free(set);
}

/* What cut-off, changed or lengthened bytes decode to must be refused, or be an entry that
 * encodes to just these bytes. Nothing may be read beyond their end (the sanitizer looks). */
static size_t refused_or_canonical(const uint8_t *bytes, size_t size)
{
	uint8_t *exact = mem_copy(bytes, size);
	struct buffer again = { 0 };
	struct entry e;
	const int rc = entry_decode(slice_of(exact, size), &e);

	if (rc == 0) {
		encode(&e, &again);
		assert_true(slice_equal(buffer_slice(&again), slice_of(exact, size)));
	} else {
		assert_int_equal(rc, -EUCLEAN);
	}
	buffer_done(&again);
	mem_free(exact);
	return rc != 0;
}

static void mangled_bytes_are_refused_or_canonical(void **state)
{
	const struct entry samples[] = {
		file(), with_contents(20), with_everything(), of_type(S_IFDIR), of_type(S_IFLNK),
		of_type(S_IFBLK),
	};
	size_t refused = 0;
	(void)state;

	for (size_t s = 0; s < sizeof(samples) / sizeof(samples[0]); s++) {
		struct buffer record = { 0 };

		encode(&samples[s], &record);
		for (size_t size = 0; size < record.size; size++)
			refused += refused_or_canonical(record.data, size);
		for (size_t i = 0; i < record.size; i++) {
			const uint8_t was = record.data[i];

			for (int byte = 0; byte < 256; byte++) {
				record.data[i] = (uint8_t)byte;
				refused += refused_or_canonical(record.data, record.size);
			}
			record.data[i] = was;
		}
		buffer_done(&record);
	}
	assert_in_range(refused, 1000, SIZE_MAX);
}

static void an_unknown_format_kind_or_flag_is_refused(void **state)
{
	struct buffer record = { 0 };
	struct entry e = file(), back;
	(void)state;

	e.flags = ENTRY_FRESH;
	encode(&e, &record);
	record.data[0] = 2;
	assert_int_equal(entry_decode(buffer_slice(&record), &back), -EUCLEAN);
	record.data[0] = 1;
	record.data[1] = 8;
	assert_int_equal(entry_decode(buffer_slice(&record), &back), -EUCLEAN);
	record.data[1] = 1;
	assert_int_equal(record.data[record.size - 1], ENTRY_FRESH);
	record.data[record.size - 1] = 16;
	assert_int_equal(entry_decode(buffer_slice(&record), &back), -EUCLEAN);
	record.data[record.size - 1] = ENTRY_FRESH;
	assert_int_equal(entry_decode(buffer_slice(&record), &back), 0);
	buffer_done(&record);
}

static void a_shared_entry_and_references_are_each_in_their_place(void **state)
{
	struct buffer record = { 0 };
	struct entry e = with_contents(20), back;
	uint8_t reference[REFERENCE_MAX + 1];
	uint64_t id = 0;
	(void)state;

	encode(&e, &record);
	assert_int_equal(named_decode(buffer_slice(&record), &back, &id), 0);
	assert_same(&e, &back);
	assert_int_equal(shared_decode(buffer_slice(&record), e.id, &back), -EUCLEAN);
	e.links = 2;
	encode(&e, &record);
	assert_int_equal(named_decode(buffer_slice(&record), &back, &id), -EUCLEAN);
	assert_int_equal(shared_decode(buffer_slice(&record), e.id + 1, &back), -EUCLEAN);
	assert_int_equal(shared_decode(buffer_slice(&record), e.id, &back), 0);
	assert_same(&e, &back);
	buffer_done(&record);

	for (uint64_t wanted = 1; wanted; wanted <<= 7) {
		const size_t size = reference_encode(wanted, reference);
		const struct slice whole = slice_of(reference, size);

		assert_int_equal(named_decode(whole, &back, &id), 1);
		assert_int_equal(id, wanted);
		assert_int_equal(entry_decode(whole, &back), -EUCLEAN);
		for (size_t n = 0; n < size; n++)
			assert_int_equal(named_decode(slice_of(reference, n), &back, &id),
					 -EUCLEAN);
		reference[size] = 0;
		assert_int_equal(named_decode(slice_of(reference, size + 1), &back, &id), -EUCLEAN);
	}
	reference[2] = 0;
	assert_int_equal(named_decode(slice_of(reference, 3), &back, &id), -EUCLEAN);
}

static void a_small_value_over_the_limit_is_refused(void **state)
{
	struct entry e = with_contents(STORE_INLINE_MAX), back;
	struct buffer record = { 0 };
	(void)state;

	encode(&e, &record);
	assert_int_equal(buffer_append(&record, "x", 1), 0);
	assert_int_equal(entry_decode(buffer_slice(&record), &back), -EUCLEAN);
	buffer_done(&record);
}

static void table_records_survive_and_nonsense_is_refused(void **state)
{
	const struct table t = { INT64_MAX, INT64_MIN, UINT64_MAX, UINT64_MAX - 1 };
	const struct table usual = { 5, 5, 3, 0 };
	uint8_t bytes[TABLE_RECORD_MAX + 1] = { 0 };
	struct table back;
	size_t size = table_encode(&t, bytes);
	(void)state;

	assert_int_equal(table_decode(slice_of(bytes, size), &back), 0);
	assert_memory_equal(&t, &back, sizeof(t));
	for (size_t n = 0; n < size; n++)
		assert_int_equal(table_decode(slice_of(bytes, n), &back), -EUCLEAN);
	assert_int_equal(table_decode(slice_of(bytes, size + 1), &back), -EUCLEAN);

	size = table_encode(&usual, bytes);
	assert_in_range(size, 1, 12);
	bytes[size - 1] = 4;	/* more tables than entries */
	assert_int_equal(table_decode(slice_of(bytes, size), &back), -EUCLEAN);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_kind_of_entry_survives),
		cmocka_unit_test(a_value_of_200_bytes_costs_little_more),
		cmocka_unit_test(the_largest_entry_fits_into_a_record_of_the_engine),
		cmocka_unit_test(mangled_bytes_are_refused_or_canonical),
		cmocka_unit_test(an_unknown_format_kind_or_flag_is_refused),
		cmocka_unit_test(a_shared_entry_and_references_are_each_in_their_place),
		cmocka_unit_test(a_small_value_over_the_limit_is_refused),
		cmocka_unit_test(table_records_survive_and_nonsense_is_refused),
	};

	return cmocka_run_group_tests_name("entry", tests, NULL, NULL);
}

/* A batch as bytes: what was put in comes out, and bytes that are no batch are told apart. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "batch.h"

/* ---- vocabulary ------------------------------------------------------------------------- */

static const struct ref run = { .offset = 5 * UNIT, .generation = 7, .sum = 11, .length = 13 };

static void make(struct batch *batch)
{
	batch_put(batch, slice_str("a"), slice_str("one"));
	batch_put(batch, slice_str("b"), slice_str(""));
	batch_put_run(batch, slice_str("c"), &run, slice_str("two"));
	batch_delete(batch, slice_str("d"));
	batch_patch(batch, slice_str("e"), 70000, slice_str("three"));
	assert_int_equal(batch->failed, 0);
}

/* How many operations are read before the end (0) or the fault (*rc). Every byte they lend
 * is looked at. */
static int read_all(struct slice bytes, int *rc)
{
	size_t offset = BATCH_HEADER;
	unsigned sum = 0;
	struct batch_op op;
	int count = 0;

	while ((*rc = batch_next(bytes, &offset, &op)) > 0) {
		assert_in_range(op.kind, BATCH_PUT, BATCH_PATCH);
		assert_true(op.key.size > 0);
		for (size_t i = 0; i < op.key.size; i++)
			sum += ((const uint8_t *)op.key.data)[i];
		for (size_t i = 0; i < op.value.size; i++)
			sum += ((const uint8_t *)op.value.data)[i];
		count++;
	}
	assert_true(sum < UINT32_MAX);
	return count;
}

/* A copy in memory that ends where the bytes do, so that a sanitizer sees who reads on. */
static uint8_t *copy_of(struct slice bytes)
{
	uint8_t *copy = malloc(bytes.size + !bytes.size);

	memcpy(copy, bytes.data, bytes.size);
	return copy;
}

/* ---- stories ---------------------------------------------------------------------------- */

static void a_value_made_in_its_place_is_as_long_as_it_turns_out(void **state)
{
	struct batch batch = { 0 }, same = { 0 };
	uint8_t *room;
	(void)state;

	batch_delete(&batch, slice_str("d"));
	room = batch_put_room(&batch, slice_str("a"), 3000);
	assert_non_null(room);
	memcpy(room, "one", 3);
	batch_put_done(&batch, room, 3);
	room = batch_put_room(&batch, slice_str("b"), 5);
	assert_non_null(room);
	batch_put_done(&batch, room, 0);
	batch_put_run(&batch, slice_str("c"), &run, slice_str("two"));

	batch_delete(&same, slice_str("d"));
	batch_put(&same, slice_str("a"), slice_str("one"));
	batch_put(&same, slice_str("b"), slice_str(""));
	batch_put_run(&same, slice_str("c"), &run, slice_str("two"));
	assert_true(slice_equal(buffer_slice(&batch.bytes), buffer_slice(&same.bytes)));
	assert_int_equal(batch.count, same.count);
	assert_int_equal(batch.runs, 1);
	assert_null(batch_put_room(&batch, slice_str(""), 5));
	assert_int_equal(batch.failed, -EINVAL);
	batch_done(&batch);
	batch_done(&same);
}

static void a_first_operation_of_any_size_has_room(void **state)
{
	static const uint8_t bytes[2000];
	(void)state;

	for (size_t size = 0; size < sizeof(bytes); size++) {
		struct batch batch = { 0 };

		batch_put(&batch, slice_str("a"), slice_of(bytes, size));
		assert_int_equal(batch.failed, 0);
		assert_in_range(batch.bytes.size, size, batch.bytes.capacity);
		batch_done(&batch);
	}
}

static void what_was_put_in_comes_out(void **state)
{
	struct batch batch = { 0 };
	size_t offset = BATCH_HEADER;
	struct batch_op op;
	struct slice bytes;
	(void)state;

	make(&batch);
	bytes = buffer_slice(&batch.bytes);
	assert_int_equal(batch_check(bytes), 0);
	assert_int_equal(batch_next(bytes, &offset, &op), 1);
	assert_int_equal(op.kind, BATCH_PUT);
	assert_true(slice_equal(op.key, slice_str("a")) && slice_equal(op.value, slice_str("one")));
	assert_int_equal(batch_next(bytes, &offset, &op), 1);
	assert_true(slice_equal(op.key, slice_str("b")) && op.value.size == 0);
	assert_int_equal(batch_next(bytes, &offset, &op), 1);
	assert_int_equal(op.kind, BATCH_PUT_RUN);
	assert_true(ref_equal(&op.run, &run) && slice_equal(op.value, slice_str("two")));
	assert_int_equal(batch_next(bytes, &offset, &op), 1);
	assert_int_equal(op.kind, BATCH_DELETE);
	assert_true(slice_equal(op.key, slice_str("d")));
	assert_int_equal(batch_next(bytes, &offset, &op), 1);
	assert_int_equal(op.kind, BATCH_PATCH);
	assert_int_equal(op.offset, 70000);
	assert_true(slice_equal(op.key, slice_str("e")) &&
		    slice_equal(op.value, slice_str("three")));
	assert_int_equal(batch_next(bytes, &offset, &op), 0);
	batch_done(&batch);
}

static void a_batch_that_was_cut_is_no_batch(void **state)
{
	struct batch batch = { 0 };
	(void)state;

	make(&batch);
	for (size_t size = 0; size < batch.bytes.size; size++) {
		uint8_t *copy = copy_of(slice_of(batch.bytes.data, size));

		assert_int_equal(batch_check(slice_of(copy, size)), -EUCLEAN);
		if (size >= BATCH_HEADER) {	/* even one whose size was made to agree */
			int rc;

			put32(copy, (uint32_t)(size - BATCH_HEADER));
			assert_in_range(read_all(slice_of(copy, size), &rc), 0, 4);
			assert_true(rc == 0 || rc == -EUCLEAN);
		}
		free(copy);
	}
	batch_done(&batch);
}

static void whatever_byte_is_wrong_nothing_beyond_the_end_is_lent(void **state)
{
	struct batch batch = { 0 };
	(void)state;

	make(&batch);
	for (size_t at = 0; at < batch.bytes.size; at++)
		for (unsigned mask = 1; mask < 256; mask++) {
			uint8_t *copy = copy_of(buffer_slice(&batch.bytes));
			int rc;

			copy[at] ^= (uint8_t)mask;
			assert_true(read_all(slice_of(copy, batch.bytes.size), &rc) <= 16);
			assert_true(rc == 0 || rc == -EUCLEAN);
			assert_true(at >= BATCH_HEADER || rc == -EUCLEAN);
			free(copy);
		}
	batch_done(&batch);
}

/* Its size would not fit its field, and what follows be taken for other operations. */
static void a_key_of_impossible_size_spoils_the_batch(void **state)
{
	static const uint8_t long_key[UINT16_MAX + 2];
	const size_t sizes[] = { 0, UINT16_MAX + 1, UINT16_MAX + 2 };
	(void)state;

	for (size_t i = 0; i < 3; i++) {
		struct batch batch = { 0 };

		batch_put(&batch, slice_str("good"), slice_str("one"));
		batch_delete(&batch, slice_of(long_key, sizes[i]));
		batch_put(&batch, slice_str("good"), slice_str("two"));
		assert_int_equal(batch.failed, -EINVAL);
		batch_clear(&batch);
		batch_put(&batch, slice_str("good"), slice_str("one"));
		assert_int_equal(batch.failed, 0);
		batch_done(&batch);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_value_made_in_its_place_is_as_long_as_it_turns_out),
		cmocka_unit_test(a_first_operation_of_any_size_has_room),
		cmocka_unit_test(what_was_put_in_comes_out),
		cmocka_unit_test(a_batch_that_was_cut_is_no_batch),
		cmocka_unit_test(whatever_byte_is_wrong_nothing_beyond_the_end_is_lent),
		cmocka_unit_test(a_key_of_impossible_size_spoils_the_batch),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* store_verify finds each promise that records may break with each other; here each
 * is broken once. */
#include "store_impl.h"
#include "store_kit.h"
#include "value.h"

/* ---- vocabulary ------------------------------------------------------------------------------ */

struct broken {
	struct kit kit;
	struct batch batch;
	struct loaded file, table;	/* "large" and "t", as they are */
};

static struct place file_place(void)
{
	return at(STORE_ROOT, "large");
}

static void write_large(struct kit *k)
{
	static uint8_t bytes[100000];
	struct draft *d;

	create(k, file_place());
	d = draft_of(k, file_place());
	write_at(d, 0, bytes, sizeof(bytes));
	publish(k, d, file_place());
	draft_close(d);
	assert_int_equal(set_expires(k, file_place(), 1900000000000), 0);
}

static void begin(struct broken *b)
{
	*b = (struct broken){ 0 };
	kit_begin(&b->kit);
	write_large(&b->kit);
	put(&b->kit, at(table(&b->kit, at(1, "t")), "small"), "small");
	create(&b->kit, at(1, "unpublished"));
	kit_is_clean(&b->kit);
	assert_int_equal(loaded_read(b->kit.store, file_place(), &b->file), 0);
	assert_int_equal(loaded_read(b->kit.store, at(1, "t"), &b->table), 0);
}

/* What was put into the batch is a fault, and is named. */
static void is_found(struct broken *b, const char *word)
{
	struct err err = { "" };
	uint64_t revision;

	assert_int_equal(store_commit(b->kit.store, &b->batch, false, &revision), 0);
	assert_int_equal(store_verify(b->kit.store, NULL, NULL, &err), -EUCLEAN);
	if (!strstr(err.text, word))
		fail_msg("\"%s\" does not say \"%s\"", err.text, word);
	batch_done(&b->batch);
	loaded_done(&b->file);
	loaded_done(&b->table);
	assert_int_equal(store_close(b->kit.store), 0);
	sim_free(b->kit.disk);
}

static void put_key(struct broken *b, struct record_key key, const char *value)
{
	batch_put(&b->batch, record_slice(&key), slice_str(value));
}

static void delete_key(struct broken *b, struct record_key key)
{
	batch_delete(&b->batch, record_slice(&key));
}

/* ---- faults ---------------------------------------------------------------------------------- */

static void wrong_counts_of_a_table_are_found(void **state)
{
	struct broken b;
	(void)state;

	for (int which = 0; which < 2; which++) {
		begin(&b);
		b.table.table.entries += which == 0;
		b.table.table.tables += which == 1;
		batch_table(&b.batch, b.table.entry.id, &b.table.table);
		is_found(&b, "counts");
	}
}

static void a_table_without_its_record_or_its_name_is_found(void **state)
{
	struct broken b;
	(void)state;

	begin(&b);
	delete_key(&b, record_table(b.table.entry.id));
	is_found(&b, "record");
	begin(&b);
	delete_key(&b, record_name(1, slice_str("t")));
	is_found(&b, "table");
	begin(&b);
	batch_table(&b.batch, 7777, &b.table.table);
	is_found(&b, "no name");
}

static void a_name_in_no_table_is_found(void **state)
{
	struct broken b;
	(void)state;

	begin(&b);
	b.file.entry.value_id = 0;
	b.file.entry.size = 0;
	b.file.entry.expires_ms = 0;
	batch_entry(&b.batch, at(7777, "lost"), NULL, &b.file.entry);
	is_found(&b, "table");
}

static void a_table_or_a_value_with_two_names_is_found(void **state)
{
	struct broken b;
	(void)state;

	begin(&b);
	batch_entry(&b.batch, at(1, "t2"), NULL, &b.table.entry);
	is_found(&b, "two names");
	begin(&b);
	batch_entry(&b.batch, at(1, "large2"), NULL, &b.file.entry);
	is_found(&b, "two names");
}

static void a_chunk_of_no_value_or_beyond_its_end_is_found(void **state)
{
	struct broken b;
	(void)state;

	begin(&b);
	put_key(&b, record_chunk(9999, 0), "\x01x");
	is_found(&b, "belongs to nothing");
	begin(&b);
	put_key(&b, record_chunk(b.file.entry.value_id, 2), "\x01x");
	is_found(&b, "belongs to nothing");
	begin(&b);
	put_key(&b, record_chunk(b.file.entry.value_id, 1), "\x05x");
	is_found(&b, "chunk");
}

static void a_doomed_value_that_has_a_name_is_found(void **state)
{
	struct broken b;
	(void)state;

	begin(&b);
	batch_doom_from(&b.batch, b.file.entry.value_id, 0);
	is_found(&b, "doomed");
	begin(&b);
	batch_doom_from(&b.batch, b.file.entry.value_id, 1);
	is_found(&b, "doomed");
}

static void an_expiry_index_that_differs_is_found(void **state)
{
	struct broken b;
	(void)state;

	begin(&b);
	delete_key(&b, record_expiry(b.file.entry.expires_ms, 1, slice_str("large")));
	is_found(&b, "expiry");
	begin(&b);
	put_key(&b, record_expiry(1, 1, slice_str("large")), "");
	is_found(&b, "expiry");
	begin(&b);
	delete_key(&b, record_expiry(b.file.entry.expires_ms, 1, slice_str("large")));
	put_key(&b, record_expiry(b.file.entry.expires_ms + 1, 1, slice_str("large")), "");
	is_found(&b, "expiry");
}

static void an_unpublished_entry_that_is_not_listed_as_one_is_found(void **state)
{
	struct broken b;
	(void)state;

	begin(&b);
	delete_key(&b, record_unpublished(1, slice_str("unpublished")));
	is_found(&b, "unpublished");
	begin(&b);
	put_key(&b, record_unpublished(1, slice_str("large")), "");
	is_found(&b, "unpublished");
}

static void an_id_that_was_never_handed_out_is_found(void **state)
{
	struct broken b;
	struct entry changed;
	(void)state;

	begin(&b);
	changed = b.file.entry;
	changed.id = 1ull << 50;
	batch_entry(&b.batch, file_place(), &b.file.entry, &changed);
	is_found(&b, "id");
}

/* ---- shared entries -------------------------------------------------------------------------- */

struct shared {
	struct broken b;
	uint64_t id;
	struct loaded l;
};

static void begin_shared(struct shared *s)
{
	begin(&s->b);
	assert_int_equal(store_link(s->b.kit.store, file_place(), at(1, "large2"), NULL,
				    &s->b.kit.revision), 0);
	kit_is_clean(&s->b.kit);
	s->l = (struct loaded){ 0 };
	assert_int_equal(loaded_read(s->b.kit.store, file_place(), &s->l), 0);
	s->id = s->l.entry.id;
}

static void is_found_shared(struct shared *s, const char *word)
{
	is_found(&s->b, word);
	loaded_done(&s->l);
}

static void a_shared_entry_that_counts_its_names_wrong_is_found(void **state)
{
	struct shared s;
	struct entry wrong;
	(void)state;

	begin_shared(&s);
	wrong = s.l.entry;
	wrong.links++;
	batch_shared(&s.b.batch, &s.l.entry, &wrong);
	is_found_shared(&s, "counts 3 names, and has 2");
}

static void names_that_differ_from_the_list_of_the_shared_entry_are_found(void **state)
{
	struct shared s;
	(void)state;

	begin_shared(&s);
	delete_key(&s.b, record_shared_name(s.id, 1, slice_str("large2")));
	is_found_shared(&s, "names");
	begin_shared(&s);
	delete_key(&s.b, record_shared_name(s.id, 1, slice_str("large2")));
	put_key(&s.b, record_shared_name(s.id, 1, slice_str("large3")), "");
	is_found_shared(&s, "do not match");
	begin_shared(&s);
	put_key(&s.b, record_shared_name(s.id, 1, slice_str("large2")), "x");
	is_found_shared(&s, "damaged");
}

static void a_name_of_a_shared_entry_that_is_not_there_is_found(void **state)
{
	struct shared s;
	(void)state;

	begin_shared(&s);
	delete_key(&s.b, record_shared(s.id));
	is_found_shared(&s, "not there");
}

static void a_shared_entry_under_a_name_or_under_another_id_is_found(void **state)
{
	struct buffer record = { 0 };
	struct record_key key;
	struct shared s;
	(void)state;

	begin_shared(&s);
	assert_int_equal(buffer_reserve(&record, entry_size_max(&s.l.entry)), 0);
	record.size = entry_encode(&s.l.entry, record.data);
	key = record_name(1, slice_str("large"));
	batch_put(&s.b.batch, record_slice(&key), buffer_slice(&record));
	is_found_shared(&s, "damaged");
	begin_shared(&s);
	key = record_shared(s.id + 1);
	batch_put(&s.b.batch, record_slice(&key), buffer_slice(&record));
	is_found_shared(&s, "damaged");
	buffer_done(&record);
}

static void a_shared_entry_missing_from_the_expiry_index_is_found(void **state)
{
	uint8_t name[STORE_SHARED_NAME];
	struct shared s;
	(void)state;

	begin_shared(&s);
	delete_key(&s.b, record_expiry(s.l.entry.expires_ms, 0, place_shared(s.id, name).name));
	is_found_shared(&s, "expiry");
	begin_shared(&s);
	put_key(&s.b, record_expiry(s.l.entry.expires_ms, 1, slice_str("large")), "");
	is_found_shared(&s, "expiry");
}

/* ---- any record ------------------------------------------------------------------------------ */

static void records_of_no_known_kind_or_content_are_found(void **state)
{
	struct broken b;
	(void)state;

	begin(&b);
	put_key(&b, record_space('Q'), "x");
	is_found(&b, "unknown kind");
	begin(&b);
	put_key(&b, record_catalogue("surprise"), "x");
	is_found(&b, "catalogue");
	begin(&b);
	put_key(&b, record_name(1, slice_str("small")), "rubbish");
	is_found(&b, "damaged");
	begin(&b);
	put_key(&b, record_table(1), "rubbish");
	is_found(&b, "damaged");
	begin(&b);
	put_key(&b, record_doomed(5), "no");
	is_found(&b, "damaged");
}

static int stop(void *arg, uint64_t blocks)
{
	(void)blocks;
	return ++*(int *)arg == 2;
}

static void a_check_can_be_stopped(void **state)
{
	int asked = 0;
	struct kit k;
	struct err err;
	(void)state;

	kit_begin(&k);
	for (int i = 0; i < 3000; i++) {
		char name[16];

		sprintf(name, "%d", i);
		assert_int_equal(make(&k, at(1, name), S_IFREG, false, NULL), 0);
	}
	assert_int_equal(store_checkpoint(k.store), 0);
	assert_int_equal(store_verify(k.store, stop, &asked, &err), -EINTR);
	assert_int_equal(asked, 2);
	kit_end(&k);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(wrong_counts_of_a_table_are_found),
		cmocka_unit_test(a_table_without_its_record_or_its_name_is_found),
		cmocka_unit_test(a_name_in_no_table_is_found),
		cmocka_unit_test(a_table_or_a_value_with_two_names_is_found),
		cmocka_unit_test(a_chunk_of_no_value_or_beyond_its_end_is_found),
		cmocka_unit_test(a_doomed_value_that_has_a_name_is_found),
		cmocka_unit_test(an_expiry_index_that_differs_is_found),
		cmocka_unit_test(an_unpublished_entry_that_is_not_listed_as_one_is_found),
		cmocka_unit_test(an_id_that_was_never_handed_out_is_found),
		cmocka_unit_test(a_shared_entry_that_counts_its_names_wrong_is_found),
		cmocka_unit_test(names_that_differ_from_the_list_of_the_shared_entry_are_found),
		cmocka_unit_test(a_name_of_a_shared_entry_that_is_not_there_is_found),
		cmocka_unit_test(a_shared_entry_under_a_name_or_under_another_id_is_found),
		cmocka_unit_test(a_shared_entry_missing_from_the_expiry_index_is_found),
		cmocka_unit_test(records_of_no_known_kind_or_content_are_found),
		cmocka_unit_test(a_check_can_be_stopped),
	};

	return cmocka_run_group_tests_name("store_verify", tests, NULL, NULL);
}

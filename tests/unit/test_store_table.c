/* What a table was when its last change was waited for is what it is after a power cut: its names,
 * what is under them, and what it says of itself. And nobody waits for the changes of others. */
#include "store_kit.h"

/* Two tables, and what happens to the first: each step is one change of it. */
struct pair {
	struct kit k;
	uint64_t a, b;
	const char *name;	/* of the first, in the root */
};

static void set_mode(struct pair *p, struct place place, uint32_t mode)
{
	const struct attr values = { .mode = mode };

	assert_int_equal(store_set(p->k.store, place, SET_MODE, &values, NULL, &p->k.revision), 0);
}

static void is_made(struct pair *p)
{
	p->a = table(&p->k, at(STORE_ROOT, p->name));
}

static void gets_a_key(struct pair *p)
{
	put(&p->k, at(p->a, "x"), "one");
}

static void gets_another_from_elsewhere(struct pair *p)
{
	assert_int_equal(renamed(&p->k, at(p->b, "y"), at(p->a, "y"), 0), 0);
}

static void loses_one_to_elsewhere(struct pair *p)
{
	assert_int_equal(renamed(&p->k, at(p->a, "x"), at(p->b, "x"), 0), 0);
}

static void exchanges(struct pair *p)
{
	assert_int_equal(renamed(&p->k, at(p->b, "x"), at(p->a, "y"), STORE_EXCHANGE), 0);
}

static void has_a_key_rewritten(struct pair *p)
{
	put(&p->k, at(p->a, "y"), "two");
}

static void has_a_key_changed(struct pair *p)
{
	set_mode(p, at(p->a, "y"), 0600);
}

static void gets_a_table(struct pair *p)
{
	table(&p->k, at(p->a, "table"));
}

static void gets_a_link(struct pair *p)
{
	assert_int_equal(store_link(p->k.store, at(p->b, "kept"), at(p->a, "link"), NULL,
				    &p->k.revision), 0);
}

static void loses_a_link(struct pair *p)
{
	assert_int_equal(removed(&p->k, at(p->a, "link"), 0), 0);
}

static void loses_a_table(struct pair *p)
{
	assert_int_equal(removed(&p->k, at(p->a, "table"), STORE_TABLE), 0);
}

static void has_a_key_replaced(struct pair *p)
{
	put(&p->k, at(p->b, "new"), "three");
	assert_int_equal(renamed(&p->k, at(p->b, "new"), at(p->a, "y"), 0), 0);
}

static void loses_a_key_that_replaces(struct pair *p)
{
	assert_int_equal(renamed(&p->k, at(p->a, "y"), at(p->b, "kept"), 0), 0);
}

static void is_changed(struct pair *p)
{
	set_mode(p, at(STORE_ROOT, p->name), 0700);
}

static void gets_an_attribute(struct pair *p)
{
	assert_int_equal(store_xattr_set(p->k.store, at(STORE_ROOT, p->name), slice_str("user.a"),
					 slice_str("1"), 0, &p->k.revision), 0);
}

static void is_renamed(struct pair *p)
{
	assert_int_equal(renamed(&p->k, at(STORE_ROOT, p->name), at(p->b, "a"), 0), 0);
}

static void (*const steps[])(struct pair *p) = {
	is_made, gets_a_key, gets_another_from_elsewhere, loses_one_to_elsewhere, exchanges,
	has_a_key_rewritten, has_a_key_changed, gets_a_table, gets_a_link, loses_a_link,
	loses_a_table, has_a_key_replaced, loses_a_key_that_replaces, is_changed,
	gets_an_attribute, is_renamed,
};
enum { STEPS = sizeof(steps) / sizeof(*steps) };

static void begin(struct pair *p, int count)
{
	*p = (struct pair){ .name = "a" };
	kit_begin(&p->k);
	p->b = table(&p->k, at(STORE_ROOT, "b"));
	put(&p->k, at(p->b, "y"), "why");
	put(&p->k, at(p->b, "kept"), "kept");
	kit_sync(&p->k);
	for (int i = 0; i < count; i++)
		steps[i](p);
}

/* A table, put into words. */
static int describe(void *arg, struct slice name, const struct attr *attr)
{
	char text[STORE_NAME_MAX + 128];
	const int size =
		snprintf(text, sizeof(text), "%.*s id %ju mode %o version %ju size %ju ctime %jd\n",
			 (int)name.size, (const char *)name.data, (uintmax_t)attr->id, attr->mode,
			 (uintmax_t)attr->version, (uintmax_t)attr->size, (intmax_t)attr->ctime_ns);

	return buffer_append(arg, text, (size_t)size);
}

static struct buffer words_of(struct pair *p, int count)
{
	const struct place own = count == STEPS ? at(p->b, "a") : at(STORE_ROOT, p->name);
	const struct attr attr = look(&p->k, own);
	struct buffer words = { 0 };

	assert_int_equal(describe(&words, own.name, &attr), 0);
	assert_int_equal(store_list(p->k.store, p->a, slice_str(""), describe, &words), 0);
	return words;
}

static void what_a_table_was_when_it_was_waited_for_is_there_after_a_power_cut(void **state)
{
	(void)state;
	for (int count = 1; count <= STEPS; count++) {
		struct buffer before, after;
		struct pair p;

		begin(&p, count);
		assert_int_equal(store_wait_blocking(p.k.store,
						     store_table_revision(p.k.store, p.a),
						     LOG_SYNCED),
				 0);
		before = words_of(&p, count);
		put(&p.k, at(p.b, "later"), "lost");
		kit_crash(&p.k, SIM_LOSE);
		after = words_of(&p, count);
		assert_true(slice_equal(buffer_slice(&before), buffer_slice(&after)));
		assert_false(there(&p.k, at(p.b, "later")));
		buffer_done(&before);
		buffer_done(&after);
		kit_end(&p.k);
	}
}

static void every_change_of_a_table_is_noted_and_no_other(void **state)
{
	(void)state;
	for (int count = 0; count < STEPS; count++) {
		struct pair p;
		uint64_t noted;

		begin(&p, count);
		steps[count](&p);
		noted = store_table_revision(p.k.store, p.a);
		assert_int_equal(noted, store_revision(p.k.store));
		put(&p.k, at(p.b, "later"), "text");
		assert_int_equal(removed(&p.k, at(p.b, "later"), 0), 0);
		assert_int_equal(store_table_revision(p.k.store, p.a), noted);
		assert_int_equal(store_table_revision(p.k.store, p.b), store_revision(p.k.store));
		kit_end(&p.k);
	}
}

static void a_table_that_nobody_changed_needs_no_waiting(void **state)
{
	struct pair p;
	(void)state;

	begin(&p, STEPS);
	kit_reopen(&p.k);
	assert_int_equal(store_table_revision(p.k.store, p.a), 0);
	kit_end(&p.k);
}

/* ---- names only ---------------------------------------------------------------------------- */

static int describe_little(void *arg, struct slice name, const struct attr *attr)
{
	const struct attr little = { .id = attr->id, .mode = attr->mode & S_IFMT };

	return describe(arg, name, &little);
}

static int describe_terminated(void *arg, struct slice name, const struct attr *attr)
{
	assert_int_equal(((const char *)name.data)[name.size], '\0');
	return describe_little(arg, name, attr);
}

static void a_list_of_names_has_the_same_names_numbers_and_types(void **state)
{
	struct buffer full = { 0 }, little = { 0 };
	struct pair p;
	(void)state;

	begin(&p, STEPS);
	for (int i = 0; i < 200; i++) {
		char name[16];

		snprintf(name, sizeof(name), "%03d", i);
		sim_set_now(p.k.disk, 1700000000ull * 1000000000);
		put(&p.k, at(p.b, name), "text");
		sim_set_now(p.k.disk, 1700000001ull * 1000000000);
		if (i % 5 == 0)
			set_mode(&p, at(p.b, name), 0600);
		if (i % 7 == 0)
			assert_int_equal(set_version(&p.k, at(p.b, name), 1000000, 0), 0);
		if (i % 3 == 0)
			assert_int_equal(set_expires(&p.k, at(p.b, name), 1700000001000 + i % 2),
					 0);
	}
	assert_int_equal(store_link(p.k.store, at(p.b, "001"), at(p.b, "link"), NULL,
				    &p.k.revision), 0);
	assert_int_equal(store_list(p.k.store, p.b, slice_str(""), describe_terminated, &full),
			 0);
	assert_int_equal(store_list_names(p.k.store, p.b, slice_str(""), describe_little, &little),
			 0);
	assert_true(slice_equal(buffer_slice(&full), buffer_slice(&little)));
	buffer_done(&full);
	buffer_done(&little);
	kit_end(&p.k);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			what_a_table_was_when_it_was_waited_for_is_there_after_a_power_cut),
		cmocka_unit_test(every_change_of_a_table_is_noted_and_no_other),
		cmocka_unit_test(a_table_that_nobody_changed_needs_no_waiting),
		cmocka_unit_test(a_list_of_names_has_the_same_names_numbers_and_types),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

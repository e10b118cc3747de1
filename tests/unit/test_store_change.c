/* Changes of an entry that are one step: fields and an attribute, a name and an expiry, and what an
 * entry begins with. */
#include "store_kit.h"
#include "xattr_set.h"

#define KEY ((struct place){ STORE_ROOT, { "key", 3 } })

/* The attribute's value; NULL: there is none. Lent until the next. */
static const char *xattr(struct kit *k, struct place place, const char *name)
{
	static char text[64];
	struct buffer value = { 0 };
	const int rc = store_xattr_get(k->store, place, slice_str(name), &value);

	assert_true(rc == 0 || rc == -ENODATA);
	assert_true(value.size < sizeof(text));
	if (value.size)
		memcpy(text, value.data, value.size);
	text[value.size] = '\0';
	buffer_done(&value);
	return rc ? NULL : text;
}

static int set_with(struct kit *k, struct place place, uint32_t mode, const char *name,
		    const char *value)
{
	const struct attr values = { .mode = mode };
	const struct slice text = slice_str(value ? value : "");

	return store_set_with(k->store, place, SET_MODE, &values, slice_str(name),
			      value ? &text : NULL, NULL, &k->revision);
}

static void a_mode_and_an_attribute_change_in_one_step(void **state)
{
	char longest[STORE_XATTR_NAME_MAX + 2];
	struct kit k;
	(void)state;

	kit_begin(&k);
	put(&k, KEY, "text");
	assert_int_equal(set_with(&k, KEY, 0640, "a", "1"), 0);
	kit_sync(&k);
	kit_crash(&k, SIM_LOSE);
	assert_int_equal(look(&k, KEY).mode & 07777, 0640);
	assert_string_equal(xattr(&k, KEY, "a"), "1");
	assert_int_equal(set_with(&k, KEY, 0600, "a", NULL), 0);
	assert_int_equal(set_with(&k, KEY, 0604, "a", NULL), 0);
	assert_null(xattr(&k, KEY, "a"));
	assert_int_equal(look(&k, KEY).mode & 07777, 0604);
	memset(longest, 'n', sizeof(longest));
	longest[sizeof(longest) - 1] = '\0';
	assert_int_equal(set_with(&k, KEY, 0777, longest, "1"), -ERANGE);
	assert_int_equal(set_with(&k, KEY, 0777, "", "1"), -ERANGE);
	assert_int_equal(look(&k, KEY).mode & 07777, 0604);
	assert_int_equal(set_with(&k, at(1, "none"), 0777, "a", "1"), -ENOENT);
	kit_end(&k);
}

static void an_entry_begins_with_what_it_is_given(void **state)
{
	const struct slice one = slice_str("1"), two = slice_str("2");
	struct buffer first = { 0 }, set = { 0 }, all = { 0 };
	struct store_new what = {
		.mode = S_IFREG | 0644, .staged = true, .expires_ms = UINT64_MAX
	};
	struct attr attr;
	struct kit k;
	(void)state;

	kit_begin(&k);
	assert_int_equal(xattr_set_with(slice_of("", 0), slice_str("b"), &two, &first), 0);
	assert_int_equal(xattr_set_with(buffer_slice(&first), slice_str("a"), &one, &set), 0);
	what.xattrs = buffer_slice(&set);
	what.expires_ms = store_now_ms(k.store) + 1000;
	assert_int_equal(store_make(k.store, KEY, &what, &attr, &k.revision), 0);
	assert_int_equal(attr.expires_ms, what.expires_ms);
	put(&k, KEY, "text");
	kit_sync(&k);
	kit_crash(&k, SIM_LOSE);
	assert_int_equal(look(&k, KEY).expires_ms, what.expires_ms);
	assert_int_equal(store_xattr_all(k.store, KEY, &all), 0);
	assert_true(slice_equal(buffer_slice(&all), what.xattrs));
	what.mode = S_IFDIR | 0755;
	what.staged = false;
	assert_int_equal(store_make(k.store, at(1, "d"), &what, NULL, &k.revision), -EINVAL);
	what.expires_ms = 0;
	assert_int_equal(store_make(k.store, at(1, "d"), &what, NULL, &k.revision), 0);
	assert_string_equal(xattr(&k, at(1, "d"), "a"), "1");
	/* what was made and never published goes with what it was given */
	assert_int_equal(store_make(k.store, at(1, "gone"), &(struct store_new){
		.mode = S_IFREG, .staged = true, .xattrs = what.xattrs,
		.expires_ms = 99999999999999,
	}, NULL, &k.revision), 0);
	kit_reopen(&k);
	assert_false(there(&k, at(1, "gone")));
	buffer_done(&first);
	buffer_done(&set);
	buffer_done(&all);
	kit_end(&k);
}

static int rename_due(struct kit *k, const char *from, const char *to, unsigned flags, uint64_t ms)
{
	return store_rename_due(k->store, at(1, from), at(1, to), flags, ms, &k->revision);
}

static void a_rename_gives_an_expiry_to_what_has_none(void **state)
{
	const uint64_t due = 4000000000000, own = 5000000000000;
	struct kit k;
	(void)state;

	kit_begin(&k);
	put(&k, at(1, "plain"), "1");
	put(&k, at(1, "due"), "2");
	put(&k, at(1, "shared"), "3");
	put(&k, at(1, "old"), "4");
	table(&k, at(1, "table"));
	assert_int_equal(set_expires(&k, at(1, "due"), own), 0);
	assert_int_equal(store_link(k.store, at(1, "shared"), at(1, "other"), NULL, &k.revision),
			 0);
	assert_int_equal(rename_due(&k, "plain", "old", 0, due), 0);
	assert_int_equal(rename_due(&k, "due", "due2", 0, due), 0);
	assert_int_equal(rename_due(&k, "shared", "shared2", 0, due), 0);
	assert_int_equal(rename_due(&k, "table", "table2", 0, due), 0);
	assert_int_equal(look(&k, at(1, "old")).expires_ms, due);
	assert_int_equal(look(&k, at(1, "old")).version, 2);
	assert_int_equal(look(&k, at(1, "due2")).expires_ms, own);
	assert_int_equal(look(&k, at(1, "shared2")).expires_ms, 0);
	assert_int_equal(look(&k, at(1, "table2")).expires_ms, 0);
	put(&k, at(1, "plain"), "1");
	assert_int_equal(rename_due(&k, "plain", "due2", STORE_EXCHANGE, due), 0);
	assert_int_equal(look(&k, at(1, "due2")).expires_ms, 0);
	/* one that was shared, and has one name left */
	assert_int_equal(removed(&k, at(1, "other"), 0), 0);
	assert_int_equal(rename_due(&k, "shared2", "alone", 0, due), 0);
	assert_int_equal(look(&k, at(1, "alone")).expires_ms, due);
	kit_sync(&k);
	kit_crash(&k, SIM_LOSE);
	assert_int_equal(look(&k, at(1, "old")).expires_ms, due);
	kit_end(&k);
}

/* Each change fails at its n-th allocation, for all n, and then has changed nothing. */
static void without_memory_nothing_changes(void **state)
{
	struct kit k;
	int rc = -1;
	(void)state;

	kit_begin(&k);
	put(&k, KEY, "text");
	for (int n = 0; rc; n++) {
		mem_fail_after(n, 0);
		rc = set_with(&k, KEY, 0600, "a", "1");
		mem_fail_after(-1, 0);
		assert_true(rc == 0 || rc == -ENOMEM);
		assert_int_equal((look(&k, KEY).mode & 07777) == 0600, rc == 0);
		assert_int_equal(xattr(&k, KEY, "a") != NULL, rc == 0);
	}
	kit_end(&k);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_mode_and_an_attribute_change_in_one_step),
		cmocka_unit_test(an_entry_begins_with_what_it_is_given),
		cmocka_unit_test(a_rename_gives_an_expiry_to_what_has_none),
		cmocka_unit_test(without_memory_nothing_changes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

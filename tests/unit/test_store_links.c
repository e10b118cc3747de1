/* An entry with several names: one value, version and expiry, however names come, go and move. */
#include "store_impl.h"
#include "sim/sweep.h"
#include "store_kit.h"

/* ---- vocabulary ------------------------------------------------------------------------------ */

enum { LARGE = 200000 };

static int linked(struct kit *k, struct place from, struct place to)
{
	return store_link(k->store, from, to, NULL, &k->revision);
}

/* Makes `b` a second name of what is at `a`. */
static void share(struct kit *k, struct place a, struct place b)
{
	struct attr attr;
	uint32_t links = look(k, a).links;

	assert_int_equal(store_link(k->store, a, b, &attr, &k->revision), 0);
	assert_true(attr.shared);
	assert_int_equal(attr.links, links + 1);
	assert_int_equal(look(k, a).links, links + 1);
	assert_int_equal(look(k, b).id, look(k, a).id);
}

static void put_large(struct kit *k, struct place place)
{
	static uint8_t bytes[LARGE];
	struct draft *d;

	memset(bytes, 'x', sizeof(bytes));
	create(k, place);
	d = draft_of(k, place);
	write_at(d, 0, bytes, sizeof(bytes));
	publish(k, d, place);
	draft_close(d);
}

static uint64_t entries_of_engine(struct kit *k)
{
	struct engine_stats stats;

	while (store_reclaim(k->store, 1000) > 0)
		continue;
	assert_int_equal(store_stats(k->store, &stats), 0);
	return stats.entries;
}

static uint64_t soon(struct kit *k)
{
	return store_now_ms(k->store) + 5000;
}

static void let_pass(struct kit *k, uint64_t ms)
{
	sim_set_now(k->disk, sim_os(k->disk)->now_ns(sim_os(k->disk)) + ms * 1000000);
}

/* ---- sharing --------------------------------------------------------------------------------- */

static void all_names_have_one_value_version_expiry_and_attributes(void **state)
{
	struct buffer colour = { 0 };
	uint8_t name[STORE_SHARED_NAME];
	struct place all[3];
	uint64_t t, revision;
	struct kit k;
	(void)state;

	kit_begin(&k);
	t = table(&k, at(1, "t"));
	put(&k, at(1, "a"), "one");
	share(&k, at(1, "a"), at(t, "b"));
	all[0] = at(1, "a");
	all[1] = at(t, "b");
	all[2] = place_shared(look(&k, at(1, "a")).id, name);
	for (int changed = 0; changed < 3; changed++) {
		const struct attr mode = { .mode = 0600 + (uint32_t)changed };
		struct draft *d = draft_of(&k, all[changed]);

		assert_int_equal(draft_truncate(d, 0), 0);
		write_at(d, 0, &"two"[changed], 1);
		publish(&k, d, all[changed]);
		draft_close(d);
		assert_int_equal(store_set(k.store, all[changed], SET_MODE, &mode, NULL, &revision),
				 0);
		assert_int_equal(set_expires(&k, all[changed], soon(&k) + (uint64_t)changed), 0);
		assert_int_equal(store_xattr_set(k.store, all[changed], slice_str("user.colour"),
						 slice_of(&"red"[changed], 1), 0, &revision), 0);
		for (int seen = 0; seen < 3; seen++) {
			const struct attr attr = look(&k, all[seen]);

			assert_true(holds(&k, all[seen], (char[]){ "two"[changed], 0 }));
			assert_int_equal(attr.version, 2 + changed);
			assert_int_equal(attr.mode & 07777, 0600 + changed);
			assert_int_equal(attr.expires_ms, soon(&k) + (uint64_t)changed);
			assert_int_equal(store_xattr_get(k.store, all[seen],
							 slice_str("user.colour"), &colour),
					 0);
			assert_memory_equal(colour.data, &"red"[changed], 1);
		}
		kit_reopen(&k);
	}
	buffer_done(&colour);
	kit_end(&k);
}

static void the_value_goes_with_the_last_name_and_not_before(void **state)
{
	uint64_t before;
	struct kit k;
	(void)state;

	kit_begin(&k);
	before = entries_of_engine(&k);
	put_large(&k, at(1, "a"));
	share(&k, at(1, "a"), at(1, "b"));
	share(&k, at(1, "b"), at(1, "c"));
	assert_int_equal(look(&k, PLACE_ROOT).entries, 3);
	assert_int_equal(removed(&k, at(1, "a"), 0), 0);
	assert_int_equal(removed(&k, at(1, "a"), 0), -ENOENT);
	assert_int_equal(look(&k, at(1, "c")).links, 2);
	assert_int_equal(removed(&k, at(1, "c"), 0), 0);
	assert_int_equal(look(&k, at(1, "b")).links, 1);
	assert_true(look(&k, at(1, "b")).shared);
	kit_reopen(&k);
	assert_int_equal(look(&k, at(1, "b")).size, LARGE);
	assert_true(entries_of_engine(&k) > before + 4);
	assert_int_equal(removed(&k, at(1, "b"), 0), 0);
	assert_int_equal(entries_of_engine(&k), before);
	kit_end(&k);
}

static void what_cannot_be_linked_is_refused_and_changes_nothing(void **state)
{
	struct loaded l = { 0 };
	struct batch batch = { 0 };
	struct entry crowded;
	uint64_t revision;
	struct kit k;
	(void)state;

	kit_begin(&k);
	put(&k, at(1, "a"), "a");
	put(&k, at(1, "b"), "b");
	put(&k, at(1, "old"), "old");
	table(&k, at(1, "t"));
	revision = store_revision(k.store);
	assert_int_equal(linked(&k, at(1, "t"), at(1, "c")), -EPERM);
	assert_int_equal(linked(&k, at(1, "a"), at(1, "b")), -EEXIST);
	assert_int_equal(linked(&k, at(1, "a"), at(1, "a")), -EEXIST);
	assert_int_equal(linked(&k, at(1, "a"), PLACE_ROOT), -EEXIST);
	assert_int_equal(linked(&k, PLACE_ROOT, at(1, "c")), -EPERM);
	assert_int_equal(linked(&k, at(1, "none"), at(1, "c")), -ENOENT);
	assert_int_equal(linked(&k, at(1, "a"), at(7777, "c")), -ENOENT);
	assert_int_equal(linked(&k, at(1, "a"), at(1, "c/d")), -EINVAL);
	assert_int_equal(linked(&k, at(1, "a"), at(1, ".")), -EINVAL);
	assert_int_equal(store_revision(k.store), revision);
	assert_int_equal(look(&k, at(1, "a")).links, 1);
	assert_false(look(&k, at(1, "a")).shared);

	share(&k, at(1, "a"), at(1, "c"));
	assert_int_equal(loaded_read(k.store, at(1, "c"), &l), 0);
	crowded = l.entry;
	crowded.links = STORE_LINKS_MAX;
	batch_shared(&batch, &l.entry, &crowded);
	assert_int_equal(store_commit(k.store, &batch, false, &revision), 0);
	assert_int_equal(linked(&k, at(1, "a"), at(1, "d")), -EMLINK);
	batch_clear(&batch);
	batch_shared(&batch, &crowded, &l.entry);
	assert_int_equal(store_commit(k.store, &batch, false, &revision), 0);
	batch_done(&batch);
	loaded_done(&l);

	assert_int_equal(set_expires(&k, at(1, "old"), soon(&k)), 0);
	let_pass(&k, 6000);
	assert_int_equal(linked(&k, at(1, "old"), at(1, "e")), -ENOENT);
	assert_int_equal(linked(&k, at(1, "a"), at(1, "old")), -EKEYEXPIRED);
	kit_end(&k);
}

static void everything_but_a_table_can_be_linked(void **state)
{
	const struct store_new what = { .mode = S_IFLNK | 0777, .target = slice_str("target") };
	struct buffer target = { 0 };
	struct kit k;
	(void)state;

	kit_begin(&k);
	assert_int_equal(store_make(k.store, at(1, "s"), &what, NULL, &k.revision), 0);
	assert_int_equal(make(&k, at(1, "p"), S_IFIFO | 0600, false, NULL), 0);
	share(&k, at(1, "s"), at(1, "s2"));
	share(&k, at(1, "p"), at(1, "p2"));
	kit_reopen(&k);
	assert_int_equal(store_readlink(k.store, at(1, "s2"), &target), 0);
	assert_true(slice_equal(buffer_slice(&target), slice_str("target")));
	assert_true(S_ISFIFO(look(&k, at(1, "p2")).mode));
	buffer_done(&target);
	kit_end(&k);
}

static void linking_publishes_what_was_never_published(void **state)
{
	struct kit k;
	(void)state;

	kit_begin(&k);
	create(&k, at(1, "a"));
	share(&k, at(1, "a"), at(1, "b"));
	assert_int_equal(version(&k, at(1, "a")), 1);
	kit_sync(&k);
	kit_crash(&k, SIM_LOSE);
	assert_int_equal(look(&k, at(1, "a")).links, 2);
	assert_int_equal(removed(&k, at(1, "a"), 0), 0);
	assert_true(there(&k, at(1, "b")));
	kit_end(&k);
}

static void a_draft_reads_on_when_all_names_are_gone(void **state)
{
	char bytes[4];
	struct draft *d;
	struct kit k;
	(void)state;

	kit_begin(&k);
	put_large(&k, at(1, "a"));
	share(&k, at(1, "a"), at(1, "b"));
	d = draft_of(&k, at(1, "b"));
	assert_int_equal(removed(&k, at(1, "b"), 0), 0);
	write_at(d, LARGE, "more", 4);
	publish(&k, d, at(1, "a"));
	assert_int_equal(look(&k, at(1, "a")).size, LARGE + 4);
	assert_int_equal(removed(&k, at(1, "a"), 0), 0);
	while (store_reclaim(k.store, 1000) > 0)
		continue;
	assert_int_equal(draft_read(d, LARGE, bytes, 4), 4);
	assert_memory_equal(bytes, "more", 4);
	write_at(d, 0, "x", 1);
	assert_int_equal(draft_publish(d, at(1, "a"), NULL, &k.revision), -ENOENT);
	draft_close(d);
	kit_end(&k);
}

/* ---- moving ---------------------------------------------------------------------------------- */

static void a_name_moves_and_the_others_stay(void **state)
{
	uint64_t t;
	struct kit k;
	(void)state;

	kit_begin(&k);
	t = table(&k, at(1, "t"));
	put(&k, at(1, "a"), "text");
	share(&k, at(1, "a"), at(1, "b"));
	assert_int_equal(set_expires(&k, at(1, "a"), soon(&k)), 0);
	assert_int_equal(renamed(&k, at(1, "b"), at(t, "c"), 0), 0);
	assert_false(there(&k, at(1, "b")));
	assert_true(holds(&k, at(1, "a"), "text"));
	assert_true(holds(&k, at(t, "c"), "text"));
	assert_int_equal(look(&k, at(t, "c")).links, 2);
	assert_int_equal(version(&k, at(1, "a")), 1);
	assert_int_equal(look(&k, at(1, "t")).entries, 1);
	kit_end(&k);
}

static void renaming_onto_another_name_of_the_same_does_nothing(void **state)
{
	struct kit k;
	(void)state;

	kit_begin(&k);
	put(&k, at(1, "a"), "text");
	share(&k, at(1, "a"), at(1, "b"));
	assert_int_equal(renamed(&k, at(1, "a"), at(1, "b"), 0), 0);
	assert_int_equal(k.revision, 0);
	assert_int_equal(renamed(&k, at(1, "a"), at(1, "b"), STORE_EXCHANGE), 0);
	assert_int_equal(renamed(&k, at(1, "a"), at(1, "b"), STORE_NOREPLACE), -EEXIST);
	assert_int_equal(look(&k, at(1, "a")).links, 2);
	assert_int_equal(look(&k, PLACE_ROOT).entries, 2);
	kit_end(&k);
}

static void a_key_renamed_over_one_name_leaves_the_others_their_value(void **state)
{
	struct kit k;
	(void)state;

	kit_begin(&k);
	put(&k, at(1, "a"), "old");
	put(&k, at(1, "a"), "shared");
	share(&k, at(1, "a"), at(1, "b"));
	assert_int_equal(set_expires(&k, at(1, "a"), soon(&k)), 0);
	put(&k, at(1, "new"), "new");
	assert_int_equal(renamed(&k, at(1, "new"), at(1, "a"), 0), 0);
	assert_true(holds(&k, at(1, "a"), "new"));
	assert_int_equal(version(&k, at(1, "a")), 3);
	assert_int_equal(look(&k, at(1, "a")).expires_ms, 0);
	assert_true(holds(&k, at(1, "b"), "shared"));
	assert_int_equal(version(&k, at(1, "b")), 2);
	assert_int_equal(look(&k, at(1, "b")).links, 1);
	put(&k, at(1, "new"), "newer");
	assert_int_equal(renamed(&k, at(1, "new"), at(1, "b"), 0), 0);
	assert_true(holds(&k, at(1, "b"), "newer"));
	assert_int_equal(version(&k, at(1, "b")), 3);
	kit_end(&k);
}

/* The name that was there all along must not see its version fall. */
static void a_shared_value_renamed_over_a_key_takes_the_greater_version(void **state)
{
	struct kit k;
	(void)state;

	kit_begin(&k);
	for (int i = 0; i < 5; i++)
		put(&k, at(1, "a"), "often");
	share(&k, at(1, "a"), at(1, "b"));
	put(&k, at(1, "young"), "young");
	assert_int_equal(renamed(&k, at(1, "b"), at(1, "young"), 0), 0);
	assert_int_equal(version(&k, at(1, "young")), 5);
	assert_int_equal(version(&k, at(1, "a")), 5);
	for (int i = 0; i < 9; i++)
		put(&k, at(1, "old"), "old");
	assert_int_equal(renamed(&k, at(1, "young"), at(1, "old"), 0), 0);
	assert_int_equal(version(&k, at(1, "old")), 10);
	assert_int_equal(version(&k, at(1, "a")), 10);
	kit_end(&k);
}

static void names_of_two_shared_entries_and_of_none_are_exchanged(void **state)
{
	uint64_t t;
	struct kit k;
	(void)state;

	kit_begin(&k);
	t = table(&k, at(1, "t"));
	put(&k, at(1, "a"), "A");
	put(&k, at(t, "b"), "B");
	put(&k, at(1, "c"), "C");
	share(&k, at(1, "a"), at(1, "a2"));
	share(&k, at(t, "b"), at(1, "b2"));
	assert_int_equal(set_expires(&k, at(1, "c"), soon(&k)), 0);
	assert_int_equal(renamed(&k, at(1, "a"), at(t, "b"), STORE_EXCHANGE), 0);
	assert_true(holds(&k, at(1, "a"), "B"));
	assert_true(holds(&k, at(t, "b"), "A"));
	assert_int_equal(renamed(&k, at(1, "c"), at(1, "a"), STORE_EXCHANGE), 0);
	assert_true(holds(&k, at(1, "a"), "C"));
	assert_true(holds(&k, at(1, "c"), "B"));
	assert_int_equal(look(&k, at(1, "a")).expires_ms, soon(&k));
	assert_int_equal(look(&k, at(1, "c")).links, 2);
	assert_int_equal(renamed(&k, at(1, "c"), at(1, "t"), STORE_EXCHANGE), 0);
	assert_true(S_ISDIR(look(&k, at(1, "c")).mode));
	assert_true(holds(&k, at(1, "t"), "B"));
	kit_reopen(&k);
	kit_end(&k);
}

/* ---- listing --------------------------------------------------------------------------------- */

struct seen {
	struct kit *k;
	uint64_t table;
	int count;
};

static int see(void *arg, struct slice name, const struct attr *attr)
{
	struct seen *seen = arg;
	const struct attr direct = look(seen->k, (struct place){ seen->table, name });

	seen->count++;
	assert_memory_equal(attr, &direct, sizeof(direct));
	return 0;
}

static void a_listing_says_of_shared_entries_what_looking_says(void **state)
{
	struct seen seen;
	struct kit k;
	(void)state;

	kit_begin(&k);
	seen = (struct seen){ &k, table(&k, at(1, "t")), 0 };
	for (int i = 0; i < 200; i++) {
		char name[16], other[16];

		sprintf(name, "a%d", i);
		sprintf(other, "b%d", i);
		put(&k, at(seen.table, name), name);
		if (i % 3 == 0)
			share(&k, at(seen.table, name), at(seen.table, other));
	}
	assert_int_equal(store_list(k.store, seen.table, slice_of("", 0), see, &seen), 0);
	assert_int_equal(seen.count, 200 + 67);
	kit_end(&k);
}

/* ---- expiry ---------------------------------------------------------------------------------- */

static int count_any(void *arg, struct slice name, const struct attr *attr)
{
	(void)name, (void)attr;
	++*(int *)arg;
	return 0;
}

static void all_names_are_gone_at_the_same_instant(void **state)
{
	int listed = 0;
	uint64_t t;
	struct kit k;
	(void)state;

	kit_begin(&k);
	t = table(&k, at(1, "t"));
	put(&k, at(t, "a"), "text");
	share(&k, at(t, "a"), at(t, "b"));
	assert_int_equal(set_expires(&k, at(t, "b"), soon(&k)), 0);
	assert_int_equal(removed(&k, at(1, "t"), STORE_TABLE), -ENOTEMPTY);
	let_pass(&k, 5000);
	assert_false(there(&k, at(t, "a")));
	assert_false(there(&k, at(t, "b")));
	assert_int_equal(store_list(k.store, t, slice_of("", 0), count_any, &listed), 0);
	assert_int_equal(listed, 0);
	assert_int_equal(removed(&k, at(1, "t"), STORE_TABLE), -EKEYEXPIRED);
	put(&k, at(t, "c"), "text");
	share(&k, at(t, "c"), at(t, "d"));
	assert_int_equal(removed(&k, at(1, "t"), STORE_TABLE), -ENOTEMPTY);
	kit_end(&k);
}

static void what_is_due_is_listed_with_each_name_until_none_is_left(void **state)
{
	enum { NAMES = 30 };
	struct due list[8];
	int count, total = 0;
	uint64_t before;
	struct kit k;
	(void)state;

	kit_begin(&k);
	before = entries_of_engine(&k);
	put(&k, at(1, "first"), "x");
	put_large(&k, at(1, "n0"));
	put(&k, at(1, "last"), "x");
	for (int i = 1; i < NAMES; i++) {
		char name[16];

		sprintf(name, "n%d", i);
		share(&k, at(1, "n0"), at(1, name));
	}
	assert_int_equal(set_expires(&k, at(1, "n7"), soon(&k)), 0);
	assert_int_equal(set_expires(&k, at(1, "first"), soon(&k) - 1), 0);
	assert_int_equal(set_expires(&k, at(1, "last"), soon(&k) + 1), 0);
	assert_int_equal(removed(&k, at(1, "n7"), STORE_EXPIRED), -EAGAIN);
	let_pass(&k, 6000);
	while ((count = store_due(k.store, list, 8)) > 0) {
		for (int i = 0; i < count; i++) {
			const struct place place = { list[i].table,
						     { list[i].name, list[i].name_size } };

			assert_int_equal(removed(&k, place, STORE_EXPIRED), 0);
			kit_is_clean(&k);
		}
		total += count;
	}
	assert_int_equal(count, 0);
	assert_int_equal(total, NAMES + 2);
	assert_int_equal(entries_of_engine(&k), before);
	kit_end(&k);
}

static void names_are_told_in_pages(void **state)
{
	struct due list[4];
	struct due *after = NULL;
	int count, total = 0;
	uint64_t id;
	struct kit k;
	(void)state;

	kit_begin(&k);
	put(&k, at(1, "n0"), "x");
	assert_int_equal(store_id(k.store, at(1, "n0"), &id), 0);
	assert_int_equal(id, look(&k, at(1, "n0")).id);
	assert_int_equal(store_id(k.store, at(1, "n1"), &id), -ENOENT);
	for (int i = 1; i < 10; i++) {
		char name[16];

		sprintf(name, "n%d", i);
		share(&k, at(1, "n0"), at(1, name));
	}
	while ((count = store_names(k.store, id, after, list, 4)) > 0) {
		for (int i = 0; i < count; i++)
			assert_int_equal(list[i].name[1], '0' + total++);
		after = &list[count - 1];
	}
	assert_int_equal(count, 0);
	assert_int_equal(total, 10);
	assert_int_equal(store_id(k.store, at(1, "n3"), &id), 0);
	assert_int_equal(id, look(&k, at(1, "n0")).id);
	kit_end(&k);
}

static void names_may_be_as_long_as_ever(void **state)
{
	char a[256], b[256];
	struct kit k;
	(void)state;

	kit_begin(&k);
	memset(a, 'a', 255);
	memset(b, 'b', 255);
	a[255] = b[255] = '\0';
	put(&k, at(1, a), "x");
	assert_int_equal(set_expires(&k, at(1, a), soon(&k)), 0);
	kit_is_clean(&k);
	share(&k, at(1, a), at(1, b));
	kit_reopen(&k);
	assert_int_equal(removed(&k, at(1, a), 0), 0);
	assert_int_equal(look(&k, at(1, b)).expires_ms, soon(&k));
	kit_end(&k);
}

/* ---- faults ---------------------------------------------------------------------------------- */

/* One of each change that a shared entry can meet. */
static int changes(struct kit *k)
{
	const struct attr expires = { .expires_ms = 1800000000000 };
	struct draft *d = NULL;
	int rc = make(k, at(1, "a"), S_IFREG | 0644, false, NULL);

	if (rc == 0)
		rc = make(k, at(1, "other"), S_IFREG | 0644, false, NULL);
	if (rc == 0)
		rc = linked(k, at(1, "a"), at(1, "b"));
	if (rc == 0)
		rc = linked(k, at(1, "b"), at(1, "c"));
	if (rc == 0)
		rc = store_set(k->store, at(1, "b"), SET_EXPIRES, &expires, NULL, &k->revision);
	if (rc == 0)
		rc = draft_open(k->store, at(1, "c"), &d);
	if (rc == 0)
		rc = draft_write(d, LARGE, slice_str("text"));
	if (rc == 0)
		rc = draft_publish(d, at(1, "c"), NULL, &k->revision);
	draft_close(d);
	if (rc == 0)
		rc = renamed(k, at(1, "c"), at(1, "d"), 0);
	if (rc == 0)
		rc = renamed(k, at(1, "d"), at(1, "other"), STORE_EXCHANGE);
	if (rc == 0)
		rc = renamed(k, at(1, "d"), at(1, "b"), 0);
	if (rc == 0)
		rc = removed(k, at(1, "a"), 0);
	if (rc == 0)
		rc = removed(k, at(1, "other"), 0);
	return rc;
}

/* Each allocation, read, write and sync fails once. Without memory nothing else is lost. */
static void whatever_fails_a_change_happens_whole_or_not_at_all(void **state)
{
	struct kit k;
	int rc;
	(void)state;

	for (struct sweep s = sweep_begin(faults_of_disk_and_memory); sweep_next(&s);) {
		kit_begin(&k);
		sweep_arm(&s, k.disk);
		rc = changes(&k);
		store_checkpoint(k.store);
		sweep_disarm(&s);
		assert_true(s.met || rc == 0);
		assert_true(rc == 0 || rc == s.fault->rc || rc == -EROFS);
		if (s.fault->rc == -ENOMEM) {
			assert_true(rc != -EROFS);
			kit_is_clean(&k);
			kit_reopen(&k);
		} else {
			store_close(k.store);
			kit_mount(&k);
		}
		kit_end(&k);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_names_have_one_value_version_expiry_and_attributes),
		cmocka_unit_test(the_value_goes_with_the_last_name_and_not_before),
		cmocka_unit_test(what_cannot_be_linked_is_refused_and_changes_nothing),
		cmocka_unit_test(everything_but_a_table_can_be_linked),
		cmocka_unit_test(linking_publishes_what_was_never_published),
		cmocka_unit_test(a_draft_reads_on_when_all_names_are_gone),
		cmocka_unit_test(a_name_moves_and_the_others_stay),
		cmocka_unit_test(renaming_onto_another_name_of_the_same_does_nothing),
		cmocka_unit_test(a_key_renamed_over_one_name_leaves_the_others_their_value),
		cmocka_unit_test(a_shared_value_renamed_over_a_key_takes_the_greater_version),
		cmocka_unit_test(names_of_two_shared_entries_and_of_none_are_exchanged),
		cmocka_unit_test(a_listing_says_of_shared_entries_what_looking_says),
		cmocka_unit_test(all_names_are_gone_at_the_same_instant),
		cmocka_unit_test(what_is_due_is_listed_with_each_name_until_none_is_left),
		cmocka_unit_test(names_are_told_in_pages),
		cmocka_unit_test(names_may_be_as_long_as_ever),
		cmocka_unit_test(whatever_fails_a_change_happens_whole_or_not_at_all),
	};

	return cmocka_run_group_tests_name("store_links", tests, NULL, NULL);
}

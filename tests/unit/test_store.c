/* Tables, names, attributes, versions and expiry. What values do is in test_draft.c. */
#include "sim/sweep.h"
#include "store_kit.h"

/* ---- opening -------------------------------------------------------------------------------- */

static void a_new_store_has_an_empty_root(void **state)
{
	struct attr root;
	struct kit k;
	(void)state;

	kit_begin(&k);
	root = look(&k, PLACE_ROOT);
	assert_int_equal(root.id, STORE_ROOT);
	assert_int_equal(root.mode, S_IFDIR | 0755);
	assert_int_equal(root.uid, 7);
	assert_int_equal(root.gid, 8);
	assert_int_equal(root.links, 2);
	assert_int_equal(root.entries, 0);
	assert_int_equal(root.version, 0);
	kit_reopen(&k);
	assert_int_equal(look(&k, PLACE_ROOT).btime_ns, root.btime_ns);
	kit_end(&k);
}

static void ids_are_never_used_twice(void **state)
{
	uint64_t last = STORE_ROOT;
	struct attr attr;
	struct kit k;
	(void)state;

	kit_begin(&k);
	for (int round = 0; round < 4; round++) {
		for (int i = 0; i < 3; i++) {
			assert_int_equal(make(&k, at(STORE_ROOT, "x"), S_IFREG, false, &attr), 0);
			assert_true(attr.id > last);
			last = attr.id;
			assert_int_equal(removed(&k, at(STORE_ROOT, "x"), 0), 0);
		}
		kit_sync(&k);
		if (round % 2)
			kit_crash(&k, SIM_LOSE);
		else
			kit_reopen(&k);
	}
	kit_end(&k);
}

/* ---- names ---------------------------------------------------------------------------------- */

static void a_made_entry_is_found_as_it_was_made(void **state)
{
	const struct store_new device = {
		.mode = S_IFBLK | 0600, .uid = 3, .gid = 4, .rdev = 0x801
	};
	const struct store_new link = { .mode = S_IFLNK | 0777, .target = slice_str("to/there") };
	struct buffer target = { 0 };
	struct attr attr;
	struct kit k;
	(void)state;

	kit_begin(&k);
	assert_int_equal(store_make(k.store, at(1, "d"), &device, &attr, &k.revision), 0);
	assert_int_equal(store_make(k.store, at(1, "l"), &link, NULL, &k.revision), 0);
	assert_int_equal(make(&k, at(1, "p"), S_IFIFO | 0600, false, NULL), 0);
	kit_sync(&k);
	kit_crash(&k, SIM_LOSE);
	attr = look(&k, at(1, "d"));
	assert_true(attr.mode == device.mode && attr.uid == 3 && attr.gid == 4);
	assert_true(attr.rdev == device.rdev && attr.version == 1 && attr.links == 1);
	assert_int_equal(look(&k, at(1, "l")).size, 8);
	assert_int_equal(store_readlink(k.store, at(1, "l"), &target), 0);
	assert_true(slice_equal(buffer_slice(&target), link.target));
	assert_int_equal(store_readlink(k.store, at(1, "p"), &target), -EINVAL);
	buffer_done(&target);
	kit_end(&k);
}

static void what_cannot_be_made_is_refused_and_changes_nothing(void **state)
{
	static char long_target[STORE_TARGET_MAX + 2];
	struct store_new what = { .mode = S_IFLNK };
	struct kit k;
	uint64_t before;
	(void)state;

	kit_begin(&k);
	put(&k, at(1, "file"), "x");
	before = store_revision(k.store);
	assert_int_equal(make(&k, at(1, "file"), S_IFREG, false, NULL), -EEXIST);
	assert_int_equal(make(&k, PLACE_ROOT, S_IFDIR, false, NULL), -EEXIST);
	assert_int_equal(make(&k, at(1, ""), S_IFREG, false, NULL), -EINVAL);
	assert_int_equal(make(&k, at(1, "a/b"), S_IFREG, false, NULL), -EINVAL);
	assert_int_equal(make(&k, at(99, "x"), S_IFREG, false, NULL), -ENOENT);
	assert_int_equal(make(&k, at(look(&k, at(1, "file")).id, "x"), S_IFREG, false, NULL),
			 -ENOENT);
	assert_int_equal(make(&k, at(1, "x"), 0644, false, NULL), -EINVAL);
	assert_int_equal(make(&k, at(1, "x"), S_IFDIR, true, NULL), -EINVAL);
	assert_int_equal(store_make(k.store, at(1, "x"), &what, NULL, &k.revision), -EINVAL);
	memset(long_target, 'x', STORE_TARGET_MAX + 1);
	what.target = slice_str(long_target);
	assert_int_equal(store_make(k.store, at(1, "x"), &what, NULL, &k.revision),
			 -ENAMETOOLONG);
	assert_int_equal(store_revision(k.store), before);
	kit_end(&k);
}

static void a_name_may_be_255_bytes_of_anything(void **state)
{
	char longest[STORE_NAME_MAX + 2];
	uint8_t binary[254], n = 0;
	struct place place = { 1, { binary, 0 } };
	struct kit k;
	(void)state;

	kit_begin(&k);
	for (int c = 255; c > 0; c--)
		if (c != '/')
			binary[n++] = (uint8_t)c;
	place.name.size = n;
	memset(longest, 'n', sizeof(longest));
	longest[STORE_NAME_MAX] = 0;
	put(&k, place, "binary");
	put(&k, at(1, longest), "long");
	assert_int_equal(renamed(&k, place, at(1, "plain"), 0), 0);
	assert_int_equal(renamed(&k, at(1, "plain"), place, 0), 0);
	kit_sync(&k);
	kit_crash(&k, SIM_LOSE);
	assert_true(holds(&k, place, "binary"));
	assert_true(holds(&k, at(1, longest), "long"));
	longest[STORE_NAME_MAX] = 'n';
	longest[STORE_NAME_MAX + 1] = 0;
	assert_int_equal(make(&k, at(1, longest), S_IFREG, false, NULL), -ENAMETOOLONG);
	kit_end(&k);
}

static void a_table_counts_what_it_has(void **state)
{
	struct attr before, after;
	struct kit k;
	uint64_t t;
	(void)state;

	kit_begin(&k);
	t = table(&k, at(1, "t"));
	before = look(&k, at(1, "t"));
	sim_advance(k.disk, 5000000000);
	table(&k, at(t, "inner"));
	put(&k, at(t, "file"), "x");
	after = look(&k, at(1, "t"));
	assert_int_equal(after.entries, 2);
	assert_int_equal(after.links, 3);
	assert_int_equal(after.mtime_ns - before.mtime_ns, 5000000000);
	assert_int_equal(after.ctime_ns, after.mtime_ns);
	assert_int_equal(after.btime_ns, before.btime_ns);
	assert_int_equal(look(&k, PLACE_ROOT).links, 3);
	assert_int_equal(renamed(&k, at(t, "inner"), at(1, "outer"), 0), 0);
	assert_int_equal(look(&k, at(1, "t")).links, 2);
	assert_int_equal(look(&k, PLACE_ROOT).links, 4);
	assert_int_equal(removed(&k, at(t, "file"), 0), 0);
	assert_int_equal(look(&k, at(1, "t")).entries, 0);
	kit_end(&k);
}

static void only_an_empty_table_can_be_removed_and_only_as_one(void **state)
{
	struct kit k;
	uint64_t t;
	(void)state;

	kit_begin(&k);
	t = table(&k, at(1, "t"));
	put(&k, at(t, "x"), "x");
	assert_int_equal(removed(&k, at(1, "t"), STORE_TABLE), -ENOTEMPTY);
	assert_int_equal(removed(&k, at(1, "t"), 0), -EISDIR);
	assert_int_equal(removed(&k, at(t, "x"), STORE_TABLE), -ENOTDIR);
	assert_int_equal(removed(&k, PLACE_ROOT, STORE_TABLE), -EBUSY);
	assert_int_equal(removed(&k, at(t, "x"), 0), 0);
	assert_int_equal(removed(&k, at(t, "x"), 0), -ENOENT);
	assert_int_equal(removed(&k, at(1, "t"), STORE_TABLE), 0);
	assert_int_equal(make(&k, at(t, "y"), S_IFREG, false, NULL), -ENOENT);
	assert_int_equal(look(&k, PLACE_ROOT).entries, 0);
	kit_end(&k);
}

/* ---- listing -------------------------------------------------------------------------------- */

struct names {
	char (*names)[STORE_NAME_MAX + 1];
	int count, max;
	void (*meanwhile)(struct names *n, struct slice name);
	struct kit *kit;
	uint64_t table;
};

static int note_name(void *arg, struct slice name, const struct attr *attr)
{
	struct names *n = arg;

	assert_true(attr->id != 0);
	memcpy(n->names[n->count], name.data, name.size);
	n->names[n->count][name.size] = 0;
	if (n->count)
		assert_true(strcmp(n->names[n->count - 1], n->names[n->count]) < 0);
	n->count++;
	if (n->meanwhile)
		n->meanwhile(n, name);
	return n->count == n->max;
}

enum { MANY = 10000 };

static void ten_thousand_names_are_listed_in_order_from_any_of_them(void **state)
{
	struct names n = { .max = MANY + 1 };
	struct attr attr;
	char name[32];
	struct kit k;
	uint64_t t;
	(void)state;

	kit_begin(&k);
	n.names = calloc(MANY + 1, sizeof(*n.names));
	t = table(&k, at(1, "t"));
	for (int i = 0; i < MANY; i++) {
		sprintf(name, "%05d", i * 7919 % MANY);
		assert_int_equal(make(&k, at(t, name), S_IFREG | 0644, false, NULL), 0);
	}
	attr = look(&k, at(1, "t"));
	assert_int_equal(attr.entries, MANY);
	assert_int_equal(store_list(k.store, t, slice_str(""), note_name, &n), 0);
	assert_int_equal(n.count, MANY);
	assert_string_equal(n.names[MANY - 1], "09999");

	n.count = 0;
	assert_int_equal(store_list(k.store, t, slice_str("09989"), note_name, &n), 0);
	assert_int_equal(n.count, 10);
	assert_string_equal(n.names[0], "09990");
	n.count = 0;
	n.max = 3;
	assert_int_equal(store_list(k.store, t, slice_str("04"), note_name, &n), 1);
	assert_string_equal(n.names[2], "04002");
	assert_int_equal(store_list(k.store, 4711, slice_str(""), note_name, &n), -ENOENT);
	free(n.names);
	kit_end(&k);
}

/* While a listing is under way, every name met is removed or renamed ahead of the listing, and
 * others come up before and behind it. */
static void disturb(struct names *n, struct slice met)
{
	const char *name = n->names[n->count - 1];
	char other[STORE_NAME_MAX + 1];

	if (name[0] != 'g')
		return;
	if (met.size % 2)
		assert_int_equal(removed(n->kit, at(n->table, name), 0), 0);
	sprintf(other, "a%d", n->count);
	put(n->kit, at(n->table, other), "before");
	sprintf(other, "h%d", n->count);
	put(n->kit, at(n->table, other), "behind");
}

static void a_listing_neither_skips_nor_repeats_what_stays(void **state)
{
	struct names n = { .max = -1, .meanwhile = disturb };
	char name[32];
	struct kit k;
	int stay = 0;
	(void)state;

	kit_begin(&k);
	n.kit = &k;
	n.names = calloc(2000, sizeof(*n.names));
	n.table = table(&k, at(1, "t"));
	for (int i = 0; i < 300; i++) {
		sprintf(name, "g%0*d", i % 2 ? 3 : 4, i);
		put(&k, at(n.table, name), "comes and goes");
		sprintf(name, "stays%03d", i);
		put(&k, at(n.table, name), "stays");
	}
	assert_int_equal(store_list(k.store, n.table, slice_str(""), note_name, &n), 0);
	for (int i = 0; i < n.count; i++)
		stay += n.names[i][0] == 's';
	assert_int_equal(stay, 300);
	free(n.names);
	kit_end(&k);
}

static int count_tables(void *arg, struct slice name, const struct attr *attr)
{
	(void)name;
	assert_int_equal(attr->links, 3);
	assert_int_equal(attr->entries, 1);
	++*(int *)arg;
	return 0;
}

static void a_listing_tells_what_tables_hold(void **state)
{
	int count = 0;
	struct kit k;
	(void)state;

	kit_begin(&k);
	table(&k, at(table(&k, at(1, "a")), "inner"));
	table(&k, at(table(&k, at(1, "b")), "inner"));
	assert_int_equal(store_list(k.store, 1, slice_str(""), count_tables, &count), 0);
	assert_int_equal(count, 2);
	kit_end(&k);
}

/* ---- renaming ------------------------------------------------------------------------------- */

static void a_rename_moves_everything_below_a_table(void **state)
{
	struct kit k;
	uint64_t a, b, deep;
	(void)state;

	kit_begin(&k);
	a = table(&k, at(1, "a"));
	b = table(&k, at(1, "b"));
	deep = table(&k, at(a, "deep"));
	put(&k, at(deep, "key"), "value");
	assert_int_equal(renamed(&k, at(a, "deep"), at(b, "deeper"), 0), 0);
	kit_sync(&k);
	kit_crash(&k, SIM_LOSE);
	assert_int_equal(look(&k, at(b, "deeper")).id, deep);
	assert_true(holds(&k, at(deep, "key"), "value"));
	assert_int_equal(look(&k, at(1, "a")).entries, 0);
	kit_end(&k);
}

static void a_rename_replaces_only_its_like_and_only_empty_tables(void **state)
{
	struct kit k;
	uint64_t a, b;
	(void)state;

	kit_begin(&k);
	a = table(&k, at(1, "a"));
	b = table(&k, at(1, "b"));
	put(&k, at(1, "f"), "f");
	put(&k, at(b, "x"), "x");
	assert_int_equal(renamed(&k, at(1, "a"), at(1, "b"), 0), -ENOTEMPTY);
	assert_int_equal(renamed(&k, at(1, "a"), at(1, "f"), 0), -ENOTDIR);
	assert_int_equal(renamed(&k, at(1, "f"), at(1, "a"), 0), -EISDIR);
	assert_int_equal(renamed(&k, at(1, "a"), at(a, "x"), 0), -EINVAL);
	assert_int_equal(renamed(&k, at(1, "no"), at(1, "x"), 0), -ENOENT);
	assert_int_equal(renamed(&k, at(1, "f"), at(77, "x"), 0), -ENOENT);
	assert_int_equal(renamed(&k, at(1, "f"), at(1, "a"), STORE_NOREPLACE), -EEXIST);
	assert_int_equal(renamed(&k, at(1, "f"), at(1, "no"), STORE_EXCHANGE), -ENOENT);
	assert_int_equal(renamed(&k, PLACE_ROOT, at(1, "r"), 0), -EBUSY);
	assert_int_equal(renamed(&k, at(1, "f"), at(1, "f"), 0), 0);
	assert_int_equal(k.revision, 0);
	assert_int_equal(renamed(&k, at(1, "b"), at(1, "a"), 0), 0);
	assert_int_equal(look(&k, at(1, "a")).id, b);
	assert_int_equal(look(&k, PLACE_ROOT).entries, 2);
	assert_int_equal(make(&k, at(a, "x"), S_IFREG, false, NULL), -ENOENT);
	kit_end(&k);
}

static void an_exchange_swaps_two_entries_whole(void **state)
{
	struct kit k;
	uint64_t t;
	(void)state;

	kit_begin(&k);
	t = table(&k, at(1, "t"));
	put(&k, at(t, "inside"), "in");
	put(&k, at(1, "f"), "one");
	put(&k, at(1, "f"), "two");
	put(&k, at(1, "g"), "other");
	assert_int_equal(renamed(&k, at(1, "f"), at(1, "g"), STORE_EXCHANGE), 0);
	assert_true(holds(&k, at(1, "g"), "two"));
	assert_true(holds(&k, at(1, "f"), "other"));
	assert_int_equal(version(&k, at(1, "g")), 2);
	assert_int_equal(version(&k, at(1, "f")), 1);
	assert_int_equal(renamed(&k, at(1, "t"), at(1, "g"), STORE_EXCHANGE), 0);
	assert_int_equal(look(&k, at(1, "g")).id, t);
	assert_int_equal(renamed(&k, at(t, "inside"), at(1, "t"), STORE_EXCHANGE), 0);
	assert_true(holds(&k, at(t, "inside"), "two"));
	assert_int_equal(renamed(&k, at(t, "inside"), at(1, "g"), STORE_EXCHANGE), -EINVAL);
	kit_end(&k);
}

/* ---- versions ------------------------------------------------------------------------------- */

static void publications_are_version_1_then_2(void **state)
{
	struct kit k;
	(void)state;

	kit_begin(&k);
	create(&k, at(1, "k"));
	assert_int_equal(version(&k, at(1, "k")), 0);
	assert_true(look(&k, at(1, "k")).unpublished);
	put(&k, at(1, "k"), "one");
	assert_int_equal(version(&k, at(1, "k")), 1);
	assert_false(look(&k, at(1, "k")).unpublished);
	put(&k, at(1, "k"), "two");
	assert_int_equal(version(&k, at(1, "k")), 2);
	kit_reopen(&k);
	assert_int_equal(version(&k, at(1, "k")), 2);
	assert_true(holds(&k, at(1, "k"), "two"));
	kit_end(&k);
}

static void a_rename_over_a_key_is_its_next_version(void **state)
{
	struct kit k;
	(void)state;

	kit_begin(&k);
	for (int i = 0; i < 5; i++)
		put(&k, at(1, "key"), "old");
	put(&k, at(1, "temporary"), "new");
	assert_int_equal(renamed(&k, at(1, "temporary"), at(1, "key"), 0), 0);
	assert_int_equal(version(&k, at(1, "key")), 6);
	assert_true(holds(&k, at(1, "key"), "new"));
	assert_false(there(&k, at(1, "temporary")));
	assert_int_equal(renamed(&k, at(1, "key"), at(1, "free"), 0), 0);
	assert_int_equal(version(&k, at(1, "free")), 6);
	put(&k, at(1, "free"), "newer");
	assert_int_equal(version(&k, at(1, "free")), 7);
	kit_end(&k);
}

static void versions_only_rise(void **state)
{
	struct kit k;
	(void)state;

	kit_begin(&k);
	table(&k, at(1, "t"));
	put(&k, at(1, "k"), "x");
	assert_int_equal(set_version(&k, at(1, "k"), 9, 0), 0);
	assert_int_equal(set_version(&k, at(1, "k"), 8, 0), -EINVAL);
	assert_int_equal(set_version(&k, at(1, "k"), 9, 0), 0);
	assert_int_equal(set_version(&k, at(1, "k"), UINT64_MAX, 0), -EINVAL);
	assert_int_equal(set_version(&k, at(1, "t"), 1, 0), -EINVAL);
	assert_int_equal(version(&k, at(1, "k")), 9);
	put(&k, at(1, "k"), "y");
	assert_int_equal(version(&k, at(1, "k")), 10);
	kit_end(&k);
}

/* mknod, setxattr, open and write: MEASURED 4. */
static void tar_restores_a_version_exactly(void **state)
{
	struct kit k;
	(void)state;

	kit_begin(&k);
	assert_int_equal(make(&k, at(1, "k"), S_IFREG | 0644, false, NULL), 0);
	assert_int_equal(version(&k, at(1, "k")), 1);
	assert_int_equal(set_version(&k, at(1, "k"), 7, 0), 0);
	put(&k, at(1, "k"), "restored");
	assert_int_equal(version(&k, at(1, "k")), 7);
	put(&k, at(1, "k"), "changed");
	assert_int_equal(version(&k, at(1, "k")), 8);
	kit_end(&k);
}

/* A temporary file, written, closed, its version set, renamed over the key. */
static void rsync_restores_a_version_exactly(void **state)
{
	struct kit k;
	(void)state;

	kit_begin(&k);
	for (int i = 0; i < 3; i++)
		put(&k, at(1, "key"), "old");
	put(&k, at(1, ".key.tmp"), "restored");
	assert_int_equal(set_version(&k, at(1, ".key.tmp"), 7, 0), 0);
	assert_int_equal(renamed(&k, at(1, ".key.tmp"), at(1, "key"), 0), 0);
	assert_int_equal(version(&k, at(1, "key")), 7);
	put(&k, at(1, ".key.tmp"), "older");
	assert_int_equal(set_version(&k, at(1, ".key.tmp"), 2, 0), 0);
	assert_int_equal(renamed(&k, at(1, ".key.tmp"), at(1, "key"), 0), 0);
	assert_int_equal(version(&k, at(1, "key")), 8);
	put(&k, at(1, "key"), "changed");
	assert_int_equal(version(&k, at(1, "key")), 9);
	kit_end(&k);
}

/* open, write, fsetxattr, close. */
static void cp_restores_a_version_exactly(void **state)
{
	struct place key = { 1, { "k", 1 } };
	struct draft *d;
	struct kit k;
	(void)state;

	kit_begin(&k);
	create(&k, key);
	d = draft_of(&k, key);
	write_at(d, 0, "x", 1);
	assert_int_equal(set_version(&k, key, 5, 0), 0);
	assert_true(look(&k, key).unpublished);
	publish(&k, d, key);
	assert_int_equal(version(&k, key), 5);
	write_at(d, 0, "y", 1);
	assert_int_equal(set_version(&k, key, 9, SET_STAGED), 0);
	publish(&k, d, key);
	assert_int_equal(version(&k, key), 9);
	put(&k, at(1, "other"), "z");
	assert_int_equal(renamed(&k, key, at(1, "other"), 0), 0);
	assert_int_equal(version(&k, at(1, "other")), 9);
	draft_close(d);
	kit_end(&k);
}

/* ---- what was never published ---------------------------------------------------------------- */

static void a_crash_before_publication_leaves_no_key(void **state)
{
	struct draft *d;
	struct kit k;
	(void)state;

	for (int fate = 0; fate < SIM_FATES; fate++) {
		kit_begin(&k);
		create(&k, at(1, "never"));
		assert_int_equal(set_expires(&k, at(1, "never"), store_now_ms(k.store) + 1000), 0);
		assert_int_equal(set_version(&k, at(1, "never"), 5, 0), 0);
		d = draft_of(&k, at(1, "never"));
		write_at(d, 0, "bytes", 5);
		put(&k, at(1, "other"), "published");
		kit_sync(&k);
		draft_close(d);
		kit_crash(&k, (enum sim_fate)fate);
		assert_false(there(&k, at(1, "never")));
		assert_true(holds(&k, at(1, "other"), "published"));
		assert_int_equal(look(&k, PLACE_ROOT).entries, 1);
		kit_end(&k);
	}
}

static void removing_what_was_never_published_needs_no_waiting(void **state)
{
	struct kit k;
	(void)state;

	kit_begin(&k);
	create(&k, at(1, "k"));
	k.revision = 99;
	assert_int_equal(removed(&k, at(1, "k"), 0), 0);
	assert_int_equal(k.revision, 0);
	assert_int_equal(store_wait_blocking(k.store, 0, LOG_SYNCED), 0);
	kit_end(&k);
}

static void renaming_publishes_what_was_never_published(void **state)
{
	struct kit k;
	(void)state;

	kit_begin(&k);
	create(&k, at(1, "a"));
	create(&k, at(1, "b"));
	create(&k, at(1, "c"));
	put(&k, at(1, "d"), "d");
	assert_int_equal(renamed(&k, at(1, "a"), at(1, "a2"), 0), 0);
	assert_int_equal(renamed(&k, at(1, "b"), at(1, "d"), 0), 0);
	assert_int_equal(renamed(&k, at(1, "a2"), at(1, "c"), STORE_EXCHANGE), 0);
	kit_sync(&k);
	kit_crash(&k, SIM_LOSE);
	assert_int_equal(version(&k, at(1, "a2")), 1);
	assert_int_equal(version(&k, at(1, "c")), 1);
	assert_int_equal(version(&k, at(1, "d")), 2);
	assert_true(holds(&k, at(1, "d"), ""));
	kit_end(&k);
}

static void a_key_renamed_over_what_was_never_published_counts(void **state)
{
	struct kit k;
	(void)state;

	kit_begin(&k);
	create(&k, at(1, "never"));
	put(&k, at(1, "k"), "value");
	assert_int_equal(renamed(&k, at(1, "k"), at(1, "never"), 0), 0);
	kit_sync(&k);
	kit_crash(&k, SIM_LOSE);
	assert_true(holds(&k, at(1, "never"), "value"));
	assert_int_equal(version(&k, at(1, "never")), 1);
	kit_end(&k);
}

/* ---- attributes ------------------------------------------------------------------------------ */

static void attributes_are_set_one_by_one_and_kept(void **state)
{
	const struct attr values = {
		.mode = S_IFDIR | 0751, .uid = 11, .gid = 12, .atime_ns = -5, .mtime_ns = 6,
		.ctime_ns = 7, .expires_ms = 1,
	};
	const uint64_t tables[] = { 0, 1 };
	struct attr before, out;
	struct kit k;
	(void)state;

	kit_begin(&k);
	put(&k, at(1, "file"), "x");
	table(&k, at(1, "table"));
	for (size_t i = 0; i < 2; i++) {
		const struct place place = at(1, tables[i] ? "table" : "file");

		before = look(&k, place);
		sim_advance(k.disk, 1000000000);
		assert_int_equal(store_set(k.store, place, SET_MODE | SET_UID | SET_ATIME, &values,
					   &out, &k.revision), 0);
		assert_int_equal(out.mode, (before.mode & S_IFMT) | 0751);
		assert_int_equal(out.uid, 11);
		assert_int_equal(out.gid, before.gid);
		assert_int_equal(out.atime_ns, -5);
		assert_int_equal(out.mtime_ns, before.mtime_ns);
		assert_int_equal(out.ctime_ns, store_now_ms(k.store) * 1000000);
		assert_int_equal(store_set(k.store, place, SET_GID | SET_MTIME | SET_CTIME, &values,
					   &out, &k.revision), 0);
		assert_true(out.gid == 12 && out.mtime_ns == 6 && out.ctime_ns == 7);
		kit_reopen(&k);
		before = look(&k, place);
		assert_true(before.gid == 12 && before.mtime_ns == 6 && before.ctime_ns == 7);
		assert_true(before.mode == out.mode && before.atime_ns == -5 && before.uid == 11);
	}
	assert_int_equal(
		store_set(k.store, at(1, "table"), SET_EXPIRES, &values, NULL, &k.revision),
		-EINVAL);
	assert_int_equal(store_set(k.store, at(1, "none"), SET_UID, &values, NULL, &k.revision),
			 -ENOENT);
	kit_end(&k);
}

static void xattrs_are_kept_listed_and_removed(void **state)
{
	static uint8_t big[STORE_XATTR_MAX + 1];
	const struct place k1 = { 1, { "k", 1 } };
	struct buffer out = { 0 };
	struct kit k;
	(void)state;

	kit_begin(&k);
	put(&k, k1, "x");
#define SET(place, name, value, flags) \
	store_xattr_set(k.store, place, slice_str(name), value, flags, &k.revision)
	assert_int_equal(SET(k1, "user.b", slice_str("blue"), 0), 0);
	assert_int_equal(SET(k1, "user.a", slice_str(""), XATTR_MUST_CREATE), 0);
	assert_int_equal(SET(PLACE_ROOT, "user.root", slice_str("r"), 0), 0);
	assert_int_equal(SET(k1, "user.a", slice_str("x"), XATTR_MUST_CREATE), -EEXIST);
	assert_int_equal(SET(k1, "user.c", slice_str("x"), XATTR_MUST_EXIST), -ENODATA);
	assert_int_equal(SET(k1, "", slice_str("x"), 0), -ERANGE);
	assert_int_equal(SET(k1, "user.c", slice_of(big, sizeof(big)), 0), -E2BIG);
	assert_int_equal(SET(k1, "user.c", slice_of(big, STORE_XATTR_MAX), 0), -ENOSPC);
	assert_int_equal(SET(k1, "user.c", slice_of(big, STORE_XATTR_MAX - 100), 0), 0);
#undef SET
	kit_sync(&k);
	kit_crash(&k, SIM_LOSE);
	assert_int_equal(store_xattr_get(k.store, k1, slice_str("user.b"), &out), 0);
	assert_true(slice_equal(buffer_slice(&out), slice_str("blue")));
	assert_int_equal(store_xattr_get(k.store, k1, slice_str("user.no"), &out), -ENODATA);
	assert_int_equal(store_xattr_remove(k.store, k1, slice_str("user.c"), &k.revision), 0);
	assert_int_equal(store_xattr_remove(k.store, k1, slice_str("user.c"), &k.revision),
			 -ENODATA);
	assert_int_equal(store_xattr_all(k.store, k1, &out), 0);
	assert_true(slice_equal(buffer_slice(&out), slice_of("\6user.a\0\6user.b\4blue", 20)));
	put(&k, k1, "rewritten");
	assert_int_equal(store_xattr_get(k.store, k1, slice_str("user.b"), &out), 0);
	assert_int_equal(store_xattr_get(k.store, PLACE_ROOT, slice_str("user.root"), &out), 0);
	buffer_done(&out);
	kit_end(&k);
}

/* ---- expiry ---------------------------------------------------------------------------------- */

static int count_names(void *arg, struct slice name, const struct attr *attr)
{
	(void)name;
	(void)attr;
	++*(int *)arg;
	return 0;
}

static int listed(struct kit *k, uint64_t t)
{
	int count = 0;

	assert_int_equal(store_list(k->store, t, slice_str(""), count_names, &count), 0);
	return count;
}

static void an_expired_key_is_gone_at_its_instant(void **state)
{
	const struct place key = { 1, { "k", 1 } };
	struct buffer out = { 0 };
	char byte;
	struct kit k;
	(void)state;

	kit_begin(&k);
	put(&k, key, "x");
	assert_int_equal(set_expires(&k, key, store_now_ms(k.store) + 2000), 0);
	sim_advance(k.disk, 1999999999);
	assert_true(there(&k, key));
	assert_int_equal(listed(&k, 1), 1);
	sim_advance(k.disk, 1);
	assert_false(there(&k, key));
	assert_int_equal(listed(&k, 1), 0);
	assert_int_equal(store_read(k.store, key, 0, &byte, 1), -ENOENT);
	assert_int_equal(set_expires(&k, key, 0), -ENOENT);
	assert_int_equal(store_xattr_get(k.store, key, slice_str("user.a"), &out), -ENOENT);
	assert_int_equal(removed(&k, key, 0), -ENOENT);
	assert_int_equal(renamed(&k, key, at(1, "x"), 0), -ENOENT);
	kit_end(&k);
}

static void an_expired_key_is_in_the_way_until_it_is_removed(void **state)
{
	struct due due[2];
	struct kit k;
	uint64_t t;
	(void)state;

	kit_begin(&k);
	t = table(&k, at(1, "t"));
	put(&k, at(t, "k"), "x");
	put(&k, at(1, "other"), "y");
	assert_int_equal(set_expires(&k, at(t, "k"), store_now_ms(k.store) + 2000), 0);
	assert_int_equal(removed(&k, at(t, "k"), STORE_EXPIRED), -EAGAIN);
	assert_int_equal(removed(&k, at(1, "t"), STORE_TABLE), -ENOTEMPTY);
	sim_advance(k.disk, 2000000000);
	assert_int_equal(make(&k, at(t, "k"), S_IFREG, false, NULL), -EKEYEXPIRED);
	assert_int_equal(renamed(&k, at(1, "other"), at(t, "k"), 0), -EKEYEXPIRED);
	assert_int_equal(renamed(&k, at(1, "other"), at(t, "k"), STORE_EXCHANGE), -ENOENT);
	assert_int_equal(removed(&k, at(1, "t"), STORE_TABLE), -EKEYEXPIRED);
	assert_int_equal(store_due(k.store, due, 2), 1);
	assert_int_equal(due[0].table, t);
	assert_int_equal(due[0].name_size, 1);
	assert_int_equal(removed(&k, at(t, "k"), STORE_EXPIRED), 0);
	assert_int_equal(store_due(k.store, due, 2), 0);
	assert_int_equal(removed(&k, at(1, "t"), STORE_TABLE), 0);
	kit_end(&k);
}

static void what_is_due_first_comes_first(void **state)
{
	struct due due[3];
	uint64_t now;
	struct kit k;
	(void)state;

	kit_begin(&k);
	now = store_now_ms(k.store);
	put(&k, at(1, "later"), "x");
	put(&k, at(1, "soon"), "x");
	put(&k, at(1, "never"), "x");
	put(&k, at(1, "long"), "x");
	assert_int_equal(set_expires(&k, at(1, "later"), now + 3000), 0);
	assert_int_equal(set_expires(&k, at(1, "soon"), now + 1000), 0);
	assert_int_equal(set_expires(&k, at(1, "long"), now + 9000), 0);
	assert_int_equal(set_expires(&k, at(1, "never"), now + 1), 0);
	assert_int_equal(set_expires(&k, at(1, "never"), 0), 0);
	assert_int_equal(store_due(k.store, due, 2), 2);
	assert_memory_equal(due[0].name, "soon", 4);
	assert_int_equal(due[0].expires_ms, now + 1000);
	assert_memory_equal(due[1].name, "later", 5);
	assert_int_equal(store_due(k.store, due, 3), 3);
	kit_end(&k);
}

static void an_expiry_stays_in_place_and_moves_with_its_value(void **state)
{
	struct due due[4];
	uint64_t then;
	struct kit k;
	(void)state;

	kit_begin(&k);
	then = store_now_ms(k.store) + 5000;
	put(&k, at(1, "a"), "x");
	put(&k, at(1, "b"), "y");
	assert_int_equal(set_expires(&k, at(1, "a"), then), 0);
	put(&k, at(1, "a"), "rewritten");
	assert_int_equal(look(&k, at(1, "a")).expires_ms, then);
	assert_int_equal(renamed(&k, at(1, "a"), at(1, "b"), STORE_EXCHANGE), 0);
	assert_int_equal(look(&k, at(1, "b")).expires_ms, then);
	assert_int_equal(look(&k, at(1, "a")).expires_ms, 0);
	assert_int_equal(renamed(&k, at(1, "b"), at(1, "c"), 0), 0);
	assert_int_equal(store_due(k.store, due, 4), 1);
	assert_memory_equal(due[0].name, "c", 1);
	assert_int_equal(renamed(&k, at(1, "a"), at(1, "c"), 0), 0);
	assert_int_equal(store_due(k.store, due, 4), 0);
	assert_int_equal(look(&k, at(1, "c")).expires_ms, 0);
	kit_end(&k);
}

/* ---- trouble --------------------------------------------------------------------------------- */

/* One life of a few entries. Stops at the first failure. */
static int few_changes(struct kit *k)
{
	const struct attr values = { .expires_ms = 1800000000000 };
	static uint8_t bytes[100000];
	struct draft *d = NULL;
	struct attr t;
	int rc = make(k, at(1, "t"), S_IFDIR, false, &t);

	if (rc == 0)
		rc = make(k, at(t.id, "a"), S_IFREG, true, NULL);
	if (rc == 0)
		rc = draft_open(k->store, at(t.id, "a"), &d);
	for (int i = 0; rc == 0 && i < 3; i++) {
		rc = draft_write(d, (uint64_t)i * 50000, slice_of(bytes, i == 2 ? 100000 : 50000));
		if (rc == 0)
			rc = draft_publish(d, at(t.id, "a"), NULL, &k->revision);
	}
	if (rc == 0)
		rc = store_xattr_set(k->store, at(t.id, "a"), slice_str("user.a"), slice_str("x"),
				     0, &k->revision);
	if (rc == 0)
		rc = store_set(k->store, at(t.id, "a"), SET_EXPIRES, &values, NULL, &k->revision);
	if (rc == 0)
		rc = make(k, at(1, "b"), S_IFREG, false, NULL);
	if (rc == 0)
		rc = renamed(k, at(t.id, "a"), at(1, "b"), 0);
	if (rc == 0)
		rc = draft_truncate(d, 70000);
	if (rc == 0)
		rc = draft_publish(d, at(1, "b"), NULL, &k->revision);
	if (rc == 0)
		rc = removed(k, at(1, "b"), 0);
	draft_close(d);
	if (rc == 0)
		rc = store_reclaim(k->store, 100);
	if (rc >= 0)
		rc = store_sync(k->store);
	return rc;
}

static void wherever_the_power_goes_the_records_agree(void **state)
{
	bool finished = false;
	struct kit k;
	(void)state;

	for (int64_t cut = 0; !finished; cut++) {
		kit_begin(&k);
		sim_cut_after(k.disk, cut);
		finished = few_changes(&k) == 0 && store_checkpoint(k.store) == 0;
		kit_crash(&k, (enum sim_fate)(cut % SIM_FATES));
		if (finished)
			assert_int_equal(look(&k, PLACE_ROOT).entries, 1);
		kit_end(&k);
	}
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
		rc = few_changes(&k);
		store_checkpoint(k.store);
		sweep_disarm(&s);
		assert_true(s.met || rc == 0);
		assert_true(rc == 0 || rc == s.fault->rc || rc == -EROFS);
		if (s.fault->rc == -ENOMEM) {
			assert_true(rc != -EROFS);
			kit_is_clean(&k);
			while (store_reclaim(k.store, 100) > 0)
				continue;
			kit_reopen(&k);
		} else {
			store_close(k.store);
			kit_mount(&k);
		}
		kit_end(&k);
	}
}

static void without_memory_a_store_is_not_opened_and_nothing_leaks(void **state)
{
	struct store *store = NULL;
	struct err err;
	int rc = -ENOMEM;
	struct kit k;
	(void)state;

	kit_begin(&k);
	put(&k, at(1, "kept"), "x");
	create(&k, at(1, "never"));
	assert_int_equal(store_close(k.store), 0);
	for (int64_t n = 0; rc; n++) {
		mem_fail_after(n, 0);
		rc = store_open(sim_os(k.disk), "store", &k.options, &store, &err);
		mem_fail_after(-1, 0);
		assert_true(rc == 0 || rc == -ENOMEM);
	}
	k.store = store;
	assert_true(there(&k, at(1, "kept")));
	assert_false(there(&k, at(1, "never")));
	kit_end(&k);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_new_store_has_an_empty_root),
		cmocka_unit_test(ids_are_never_used_twice),
		cmocka_unit_test(a_made_entry_is_found_as_it_was_made),
		cmocka_unit_test(what_cannot_be_made_is_refused_and_changes_nothing),
		cmocka_unit_test(a_name_may_be_255_bytes_of_anything),
		cmocka_unit_test(a_table_counts_what_it_has),
		cmocka_unit_test(only_an_empty_table_can_be_removed_and_only_as_one),
		cmocka_unit_test(ten_thousand_names_are_listed_in_order_from_any_of_them),
		cmocka_unit_test(a_listing_neither_skips_nor_repeats_what_stays),
		cmocka_unit_test(a_listing_tells_what_tables_hold),
		cmocka_unit_test(a_rename_moves_everything_below_a_table),
		cmocka_unit_test(a_rename_replaces_only_its_like_and_only_empty_tables),
		cmocka_unit_test(an_exchange_swaps_two_entries_whole),
		cmocka_unit_test(publications_are_version_1_then_2),
		cmocka_unit_test(a_rename_over_a_key_is_its_next_version),
		cmocka_unit_test(versions_only_rise),
		cmocka_unit_test(tar_restores_a_version_exactly),
		cmocka_unit_test(rsync_restores_a_version_exactly),
		cmocka_unit_test(cp_restores_a_version_exactly),
		cmocka_unit_test(a_crash_before_publication_leaves_no_key),
		cmocka_unit_test(removing_what_was_never_published_needs_no_waiting),
		cmocka_unit_test(renaming_publishes_what_was_never_published),
		cmocka_unit_test(a_key_renamed_over_what_was_never_published_counts),
		cmocka_unit_test(attributes_are_set_one_by_one_and_kept),
		cmocka_unit_test(xattrs_are_kept_listed_and_removed),
		cmocka_unit_test(an_expired_key_is_gone_at_its_instant),
		cmocka_unit_test(an_expired_key_is_in_the_way_until_it_is_removed),
		cmocka_unit_test(what_is_due_first_comes_first),
		cmocka_unit_test(an_expiry_stays_in_place_and_moves_with_its_value),
		cmocka_unit_test(wherever_the_power_goes_the_records_agree),
		cmocka_unit_test(whatever_fails_a_change_happens_whole_or_not_at_all),
		cmocka_unit_test(without_memory_a_store_is_not_opened_and_nothing_leaks),
	};

	return cmocka_run_group_tests_name("store", tests, NULL, NULL);
}

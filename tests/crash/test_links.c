/* The power goes at every single operation of a workload that gives entries more names, moves
 * those, replaces and removes them. What comes back must be the store as it was after some step, no
 * earlier than the last one that was acknowledged, with every count right.
 *
 * CUTS=n checks n cut points spread over the workload instead of all; SEED=n changes everything. */
#include "unit/store_kit.h"

enum {
	NAMES = 8,		/* half of them in a table below the root */
	STEPS = 160,
	LARGE = 70000,
};

static uint64_t base_seed = 1;

/* ---- what should be there -------------------------------------------------------------------- */

/* Each name has the file of this number, 0 if none; each file a stamp and an expiry. */
struct model {
	int file[NAMES];
	int stamp[STEPS + 1];
	uint64_t expires_ms[STEPS + 1];
};

static struct model history[STEPS + 1];

static uint64_t pick(uint64_t *seed, uint64_t below)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return (*seed >> 20) % below;
}

static uint64_t table_id;	/* of the table below the root, in any run */

static struct place place_of(int name)
{
	static const char *const names[] = { "a", "b", "c", "d" };

	return at(name < NAMES / 2 ? STORE_ROOT : table_id, names[name % (NAMES / 2)]);
}

static int size_of(int stamp)
{
	return stamp % 3 == 0 ? LARGE : 12;
}

static void text_of(int file, int stamp, char *text)
{
	snprintf(text, 32, "%5d %5d.", file, stamp);
}

/* ---- the workload ---------------------------------------------------------------------------- */

static int write_value(struct kit *k, int name, int file, int stamp)
{
	static char bytes[LARGE];
	struct draft *d;
	int rc = draft_open(k->store, place_of(name), &d);

	if (rc < 0)
		return rc;
	text_of(file, stamp, bytes);
	rc = draft_truncate(d, 0);
	if (rc == 0)
		rc = draft_write(d, 0, slice_of(bytes, (size_t)size_of(stamp)));
	if (rc == 0)
		rc = draft_publish(d, place_of(name), NULL, &k->revision);
	draft_close(d);
	return rc;
}

static int step_write(struct kit *k, struct model *m, int step, int name)
{
	int rc = 0;

	if (m->file[name] == 0) {
		m->file[name] = step;
		rc = make(k, place_of(name), S_IFREG | 0644, true, NULL);
	}
	m->stamp[m->file[name]] = step;
	return rc < 0 ? rc : write_value(k, name, m->file[name], step);
}

static int step_link(struct kit *k, struct model *m, int from, int to)
{
	if (m->file[from] == 0 || m->file[to])
		return 0;
	m->file[to] = m->file[from];
	return store_link(k->store, place_of(from), place_of(to), NULL, &k->revision);
}

static int step_rename(struct kit *k, struct model *m, int from, int to, bool exchange)
{
	const int moved = m->file[from], other = m->file[to];

	if (moved == 0 || (exchange && other == 0))
		return 0;
	if (moved != other) {
		m->file[to] = moved;
		m->file[from] = exchange ? other : 0;
	}
	return renamed(k, place_of(from), place_of(to), exchange ? STORE_EXCHANGE : 0);
}

static int step_remove(struct kit *k, struct model *m, int name)
{
	if (m->file[name] == 0)
		return 0;
	m->file[name] = 0;
	return removed(k, place_of(name), 0);
}

static int step_expire(struct kit *k, struct model *m, int step, int name)
{
	const struct attr values = { .expires_ms = 1800000000000 + (uint64_t)step };

	if (m->file[name] == 0)
		return 0;
	m->expires_ms[m->file[name]] = values.expires_ms;
	return store_set(k->store, place_of(name), SET_EXPIRES, &values, NULL, &k->revision);
}

static int step_any(struct kit *k, struct model *m, int step, uint64_t *seed)
{
	const int a = (int)pick(seed, NAMES), b = (int)pick(seed, NAMES);

	switch (pick(seed, 8)) {
	case 0:
	case 1:
		return step_write(k, m, step, a);
	case 2:
	case 3:
		return step_link(k, m, a, b);
	case 4:
		return step_rename(k, m, a, b, false);
	case 5:
		return step_rename(k, m, a, b, true);
	case 6:
		return step_remove(k, m, a);
	default:
		return step_expire(k, m, step, a);
	}
}

struct progress {
	int tried, acknowledged;
};

static void begin(struct kit *k)
{
	*k = (struct kit){ .disk = sim_new(base_seed), .options = { .create = true } };
	sim_set_now(k->disk, 1700000000ull * 1000000000);
	kit_mount(k);
	table_id = table(k, at(1, "t"));
	kit_sync(k);
}

/* Runs until the end or the cut. */
static void work(struct kit *k, struct progress *p)
{
	uint64_t seed = base_seed * 2654435761u + 1;
	int rc = 0;

	for (int step = 1; step <= STEPS && rc == 0; step++) {
		p->tried = step;
		history[step] = history[step - 1];
		k->revision = 0;
		rc = step_any(k, &history[step], step, &seed);
		if (rc == 0 && pick(&seed, 3) == 0) {
			rc = store_wait_blocking(k->store, k->revision, LOG_SYNCED);
			if (rc == 0 && k->revision)
				p->acknowledged = step;
		}
		if (rc == 0 && pick(&seed, 40) == 0)
			rc = store_checkpoint(k->store);
		if (rc == 0 && pick(&seed, 20) == 0)
			rc = store_reclaim(k->store, 1000) < 0 ? -EIO : 0;
	}
}

/* ---- what is there --------------------------------------------------------------------------- */

static uint32_t links_of(const struct model *m, int file)
{
	uint32_t links = 0;

	for (int i = 0; i < NAMES; i++)
		links += m->file[i] == file;
	return links;
}

static bool name_matches(struct kit *k, const struct model *m, int name)
{
	const int file = m->file[name];
	const struct place place = place_of(name);
	char text[32], bytes[12];
	struct attr attr;

	if (!there(k, place))
		return file == 0;
	if (file == 0)
		return false;
	attr = look(k, place);
	text_of(file, m->stamp[file], text);
	return attr.links == links_of(m, file) && attr.expires_ms == m->expires_ms[file] &&
	       attr.size == (uint64_t)size_of(m->stamp[file]) &&
	       store_read(k->store, place, 0, bytes, sizeof(bytes)) == sizeof(bytes) &&
	       memcmp(bytes, text, sizeof(bytes)) == 0;
}

static bool matches(struct kit *k, const struct model *m)
{
	for (int i = 0; i < NAMES; i++)
		if (!name_matches(k, m, i))
			return false;
	return true;
}

static void holds_a_moment(struct kit *k, const struct progress *p)
{
	for (int step = p->acknowledged; step <= p->tried; step++)
		if (matches(k, &history[step]))
			return;
	fail_msg("not as after any step from %d to %d", p->acknowledged, p->tried);
}

/* ---- stories --------------------------------------------------------------------------------- */

static int64_t count_operations(void)
{
	struct progress p = { 0 };
	int64_t before, count;
	struct kit k;

	begin(&k);
	before = (int64_t)sim_changes(k.disk);
	work(&k, &p);
	assert_int_equal(p.tried, STEPS);
	p.acknowledged = STEPS;
	holds_a_moment(&k, &p);
	count = (int64_t)sim_changes(k.disk) - before;
	kit_end(&k);
	return count;
}

static void after_a_power_cut_names_and_counts_agree(void **state)
{
	const char *given = getenv("CUTS");
	const int64_t operations = count_operations();
	const int64_t wanted = given ? atoll(given) : operations;
	const int64_t cuts = wanted < 1 || wanted > operations ? operations : wanted;
	(void)state;

	for (int64_t n = 0; n < cuts; n++) {
		struct progress p = { 0 };
		struct sim *disk;
		struct kit k;

		begin(&k);
		sim_cut_after(k.disk, n * operations / cuts);
		work(&k, &p);
		disk = k.disk;
		store_close(k.store);
		for (int fate = 0; fate < SIM_FATES; fate++) {
			k.disk = sim_clone(disk);
			sim_reboot(k.disk, fate, (uint64_t)n);
			kit_mount(&k);
			kit_is_clean(&k);
			holds_a_moment(&k, &p);
			kit_end(&k);
		}
		sim_free(disk);
	}
	print_message("%lld operations, %lld cut points\n", (long long)operations, (long long)cuts);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(after_a_power_cut_names_and_counts_agree),
	};
	const char *seed = getenv("SEED");

	if (seed)
		base_seed = strtoull(seed, NULL, 10);
	print_message("SEED=%llu\n", (unsigned long long)base_seed);
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* The power goes at every operation of a workload that changes one large value in small ways: what
 * comes back is the value as some publication left it, no earlier than the last one that was
 * waited for, and the store agrees with itself, down to the bytes that the value keeps.
 *
 * CUTS=n checks n cut points spread over the workload instead of all; SEED=n changes everything. */
#include "unit/store_kit.h"

#define KEY ((struct place){ STORE_ROOT, { "key", 3 } })

enum { CHUNK = STORE_CHUNK, VALUE_MAX = 5 * CHUNK, STEPS = 250 };

static uint64_t base_seed = 1;

/* ---- what should be there ------------------------------------------------------------------- */

static uint8_t content[VALUE_MAX];
static size_t size;

struct change {
	size_t offset, size;		/* what is written; size 0: cut or grown to `offset` */
	uint8_t stamp;
};

/* What step i does to a value of `size` bytes. */
static struct change change_of(uint64_t i)
{
	uint64_t dice = (base_seed * 1000 + i) * 0x9e3779b97f4a7c15u;
	struct change c;

	dice ^= dice >> 29;
	c = (struct change){ size, 1 + (dice >> 8) % 300, (uint8_t)(1 + i % 250) };
	switch (i == 1 ? 0 : dice % 16) {
	case 0:					/* whole chunks, and more */
		c.offset = (dice >> 20) % 2 ? 0 : size;
		c.size = CHUNK + (dice >> 24) % CHUNK;
		break;
	case 1:					/* cut a little, or much */
		c.offset = (dice >> 20) % 4 ? size - size / 50 : size / 2;
		c.size = 0;
		break;
	case 2:					/* grow by a hole */
		c.offset = size + (dice >> 20) % CHUNK;
		c.size = 0;
		break;
	case 3:					/* into the hole */
		c.offset = size + (dice >> 20) % 3000;
		break;
	case 4:
	case 5:
	case 6:					/* the same pages again and again */
		c.offset = (dice >> 20) % 12 * 4096;
		c.size = 4096;
		break;
	case 7:
	case 8:
	case 9:
		c.offset = size ? (dice >> 20) % size : 0;
		break;
	default:				/* a line */
		break;
	}
	if (c.offset > VALUE_MAX)
		c.offset = VALUE_MAX;
	if (c.size > VALUE_MAX - c.offset)
		c.size = VALUE_MAX - c.offset;
	return c;
}

static void model_change(struct change c)
{
	const size_t end = c.offset + c.size;

	if (c.size == 0 && end < size)
		memset(content + end, 0, size - end);
	memset(content + c.offset, c.stamp, c.size);
	size = c.size == 0 || end > size ? end : size;
}

/* The value as step `last` left it. */
static void model_at(uint64_t last)
{
	memset(content, 0, sizeof(content));
	size = 0;
	for (uint64_t i = 1; i <= last; i++)
		model_change(change_of(i));
}

/* ---- the workload ---------------------------------------------------------------------------- */

struct progress {
	uint64_t tried, acknowledged;
};

static int change(struct kit *k, struct draft *d, uint64_t i)
{
	static uint8_t bytes[VALUE_MAX];
	const struct change c = change_of(i);
	int rc;

	memset(bytes, c.stamp, c.size);
	rc = c.size ? draft_write(d, c.offset, slice_of(bytes, c.size)) :
		      draft_truncate(d, c.offset);
	if (rc == 0) {
		model_change(c);
		rc = draft_publish(d, KEY, NULL, &k->revision);
	}
	return rc;
}

/* What else happens from time to time. */
static int meanwhile(struct kit *k, struct draft **d, uint64_t i, struct progress *p)
{
	int rc = 0;

	if (i % 3 == 0 || i == STEPS) {
		rc = store_wait_blocking(k->store, k->revision, LOG_SYNCED);
		if (rc == 0)
			p->acknowledged = i;
	}
	if (rc == 0 && i % 17 == 0)
		rc = store_checkpoint(k->store);
	if (rc == 0 && i % 7 == 0) {
		rc = store_reclaim(k->store, 100);
		rc = rc > 0 ? 0 : rc;
	}
	if (rc == 0 && i % 11 == 0) {
		draft_close(*d);
		*d = NULL;
		rc = draft_open(k->store, KEY, d);
	}
	return rc;
}

static void work(struct kit *k, struct progress *p)
{
	struct draft *d = NULL;
	int rc = make(k, KEY, S_IFREG | 0644, true, NULL);

	model_at(0);
	if (rc == 0)
		rc = draft_open(k->store, KEY, &d);
	for (uint64_t i = 1; i <= STEPS && rc == 0; i++) {
		p->tried = i;
		rc = change(k, d, i);
		if (rc == 0)
			rc = meanwhile(k, &d, i, p);
	}
	draft_close(d);
}

/* ---- what is there --------------------------------------------------------------------------- */

static uint64_t holds_a_version(struct kit *k, const struct progress *p)
{
	static uint8_t got[VALUE_MAX + 1];
	const uint64_t i = there(k, KEY) ? version(k, KEY) : 0;

	assert_in_range(i, p->acknowledged, p->tried);
	model_at(i);
	if (i == 0)
		return 0;
	assert_int_equal(store_read(k->store, KEY, 0, got, sizeof(got)), size);
	assert_memory_equal(got, content, size);
	return i;
}

/* It is what it should be, and can be changed further. */
static void comes_back(struct kit *k, const struct progress *p)
{
	const uint64_t i = holds_a_version(k, p);
	struct progress then = { i + 1, i + 1 };
	struct draft *d;

	if (i == 0 || i == STEPS)
		return;
	d = draft_of(k, KEY);
	assert_int_equal(change(k, d, i + 1), 0);
	draft_close(d);
	kit_sync(k);
	kit_crash(k, SIM_LOSE);
	holds_a_version(k, &then);
}

static void begin(struct kit *k)
{
	*k = (struct kit){
		.disk = sim_new(base_seed),
		.options = {
			.create = true, .segment_size = 512 * 1024, .draft_memory = 256 * 1024,
		},
	};
	sim_set_now(k->disk, 1700000000ull * 1000000000);
	kit_mount(k);
}

/* ---- stories --------------------------------------------------------------------------------- */

static int64_t count_operations(void)
{
	struct progress p = { 0 };
	struct kit k;
	int64_t before, count;

	begin(&k);
	before = (int64_t)sim_changes(k.disk);
	work(&k, &p);
	assert_int_equal(p.acknowledged, STEPS);
	count = (int64_t)sim_changes(k.disk) - before;
	holds_a_version(&k, &p);
	kit_end(&k);
	return count;
}

static void small_changes_are_there_entirely_or_not_at_all(void **state)
{
	const char *given = getenv("CUTS");
	const int64_t operations = count_operations();
	const int64_t asked = given ? atoll(given) : operations;
	const int64_t cuts = asked < 1 || asked > operations ? operations : asked;
	unsigned long long states = 0;
	(void)state;

	for (int64_t n = 0; n < cuts; n++) {
		const int64_t cut = n * operations / cuts;
		struct progress p = { 0 };
		struct kit k;

		begin(&k);
		sim_cut_after(k.disk, cut);
		work(&k, &p);
		sim_cut_after(k.disk, 0);
		store_close(k.store);
		for (int fate = 0; fate < SIM_FATES; fate++) {
			struct kit copy = k;

			copy.disk = sim_clone(k.disk);
			sim_reboot(copy.disk, fate, (uint64_t)cut * SIM_FATES + (uint64_t)fate);
			kit_mount(&copy);
			kit_is_clean(&copy);
			comes_back(&copy, &p);
			kit_end(&copy);
			states++;
		}
		sim_free(k.disk);
	}
	print_message("%lld operations, %lld cut points, %llu states opened and compared\n",
		      (long long)operations, (long long)cuts, states);
}

/* The nth allocation of memory fails, for all n: that change fails, and nothing else is lost. */
static void without_memory_a_change_fails_and_the_value_stays(void **state)
{
	bool reached = true;
	unsigned count = 0;
	(void)state;

	for (int64_t n = 0; reached; n += 1 + n / 200, count++) {
		struct progress p = { 0 };
		struct kit k;

		begin(&k);
		mem_fail_after(n, 0);
		work(&k, &p);
		reached = p.acknowledged < STEPS;
		mem_fail_after(-1, 0);
		kit_is_clean(&k);
		comes_back(&k, &p);
		kit_end(&k);
	}
	print_message("%u allocations failed\n", count - 1);
}

/* The nth operation of a kind fails once: what was acknowledged is there, before and after the
 * store is opened again. */
static void sweep(enum sim_kind kind, int with)
{
	int64_t n = 0, count = 1;

	for (; n < count; n += 1 + n / 100) {
		struct progress p = { 0 };
		int64_t before;
		struct kit k;

		begin(&k);
		before = (int64_t)sim_count(k.disk, kind);
		sim_fail(k.disk, kind, n, with);
		work(&k, &p);
		if (p.acknowledged == STEPS)
			count = (int64_t)sim_count(k.disk, kind) - before;
		else if (n + 1 >= count)
			count = n + 2;
		sim_fail(k.disk, kind, -1, 0);
		holds_a_version(&k, &p);
		kit_crash(&k, SIM_LOSE);
		holds_a_version(&k, &p);
		kit_end(&k);
	}
	print_message("%lld operations of kind %d\n", (long long)count, (int)kind);
}

static void a_failed_operation_loses_nothing_acknowledged(void **state)
{
	(void)state;

	sweep(SIM_READ, -EIO);
	sweep(SIM_WRITE, -EIO);
	sweep(SIM_SYNC, -EIO);
	sweep(SIM_ALLOCATE, -ENOSPC);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(small_changes_are_there_entirely_or_not_at_all),
		cmocka_unit_test(without_memory_a_change_fails_and_the_value_stays),
		cmocka_unit_test(a_failed_operation_loses_nothing_acknowledged),
	};
	const char *seed = getenv("SEED");

	if (seed)
		base_seed = strtoull(seed, NULL, 10);
	print_message("SEED=%llu\n", (unsigned long long)base_seed);
	return cmocka_run_group_tests_name("patches", tests, NULL, NULL);
}

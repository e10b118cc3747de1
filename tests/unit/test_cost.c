/* What things cost, counted where the store meets the machine: bytes and operations, never time.
 * What is promised to cost the same however much there is must do so to the byte, or nearly. */
#include "draft_kit.h"
#include "node.h"

/* ---- vocabulary ------------------------------------------------------------------------- */

enum { WAY = 6 * NODE_ALLOCATION };	/* to some entries, if nothing is in memory */

struct cost {
	uint64_t bytes_read, bytes_written;
	uint64_t reads, writes, syncs, others;
};

static struct {
	struct os real;
	struct cost cost;		/* since the disk was made */
} counter;

static ssize_t counted_read(struct os_file *file, void *bytes, size_t size, uint64_t offset)
{
	counter.cost.reads++;
	counter.cost.bytes_read += size;
	return counter.real.read(file, bytes, size, offset);
}

static int counted_write(struct os_file *file, const void *bytes, size_t size, uint64_t offset)
{
	counter.cost.writes++;
	counter.cost.bytes_written += size;
	return counter.real.write(file, bytes, size, offset);
}

static int counted_sync(struct os_file *file)
{
	counter.cost.syncs++;
	return counter.real.sync(file);
}

static int counted_allocate(struct os_file *file, uint64_t offset, uint64_t size)
{
	counter.cost.others++;
	return counter.real.allocate(file, offset, size);
}

static int counted_truncate(struct os_file *file, uint64_t size)
{
	counter.cost.others++;
	return counter.real.truncate(file, size);
}

static void count_on(struct sim *disk)
{
	struct os *os = sim_os(disk);

	counter.real = *os;
	counter.cost = (struct cost){ 0 };
	os->read = counted_read;
	os->write = counted_write;
	os->sync = counted_sync;
	os->allocate = counted_allocate;
	os->truncate = counted_truncate;
}

static struct cost cost_since(const struct cost *before)
{
	const struct cost *now = &counter.cost;

	return (struct cost){
		now->bytes_read - before->bytes_read, now->bytes_written - before->bytes_written,
		now->reads - before->reads, now->writes - before->writes,
		now->syncs - before->syncs, now->others - before->others,
	};
}

static void tell(const char *what, uint64_t of, const struct cost *c)
{
	print_message("%s %llu: %llu reads (%llu bytes), %llu writes (%llu bytes), %llu syncs, "
		      "%llu others\n",
		      what, (unsigned long long)of, (unsigned long long)c->reads,
		      (unsigned long long)c->bytes_read, (unsigned long long)c->writes,
		      (unsigned long long)c->bytes_written, (unsigned long long)c->syncs,
		      (unsigned long long)c->others);
}

static void begin(struct kit *k)
{
	kit_begin(k);
	count_on(k->disk);
	assert_int_equal(store_close(k->store), 0);
	kit_mount(k);
}

/* Nothing of it is in memory. */
static void open_cold(struct kit *k)
{
	assert_int_equal(store_close(k->store), 0);
	kit_mount(k);
}

/* ---- opening ---------------------------------------------------------------------------- */

static void put_many(struct engine *e, uint32_t keys)
{
	static const uint8_t value[80];
	struct batch batch = { 0 };
	uint64_t revision;

	for (uint32_t k = 0; k < keys; k++) {
		uint8_t key[4];

		for (int i = 0; i < 4; i++)
			key[i] = (uint8_t)(k >> (24 - 8 * i));
		batch_put(&batch, slice_of(key, 4), slice_of(value, sizeof(value)));
		if (batch.count < 500 && k + 1 < keys)
			continue;
		assert_int_equal(engine_commit(e, &batch, false, &revision), 0);
		batch_clear(&batch);
	}
	batch_done(&batch);
}

enum { LOG = 2 << 20 };

/* With so many keys, and a log's tail behind the checkpoint if it was killed. */
static struct cost opening(uint32_t keys, bool killed)
{
	const struct engine_options options = {
		.create = true, .segment_size = LOG / 8, .log_cap = LOG,
	};
	struct sim *disk = sim_new(1);
	struct engine *e = NULL;
	struct cost before, cost;

	count_on(disk);
	assert_int_equal(engine_open(sim_os(disk), "/store", &options, &e, NULL), 0);
	put_many(e, keys);
	assert_int_equal(engine_checkpoint(e), 0);
	if (killed) {
		put_many(e, 10);
		assert_int_equal(engine_wait_blocking(e, engine_revision(e), LOG_SYNCED), 0);
		sim_cut_after(disk, 0);
		engine_close(e);
		sim_reboot(disk, SIM_LOSE, 1);
	} else {
		assert_int_equal(engine_close(e), 0);
	}
	before = counter.cost;
	assert_int_equal(engine_open(sim_os(disk), "/store", &options, &e, NULL), 0);
	cost = cost_since(&before);
	tell(killed ? "opening after a kill, keys:" : "opening, keys:", keys, &cost);
	assert_int_equal(engine_close(e), 0);
	sim_free(disk);
	return cost;
}

/* The log is looked at, as much of it as there is; and the way to what its tail changes. */
static void opening_costs_the_same_with_1000_and_300000_keys(void **state)
{
	const uint64_t segments = 12, way = 3;
	(void)state;

	for (int killed = 0; killed < 2; killed++) {
		const struct cost few = opening(1000, killed), many = opening(300000, killed);

		assert_in_range(many.reads, 0, few.reads + 2 * segments + way);
		assert_in_range(many.bytes_read, 0, few.bytes_read + segments * UNIT +
				way * NODE_ALLOCATION + (killed ? LOG : 0));
		assert_in_range(many.bytes_written, 0, few.bytes_written + UNIT);
	}
}

/* ---- small changes of large values ------------------------------------------------------- */

static struct cost small_change(uint64_t size)
{
	struct kit k;
	struct draft *d;
	struct cost before, cost = { 0 };

	begin(&k);
	put_pattern(&k, size, 1, CHUNK);
	assert_int_equal(store_sync(k.store), 0);
	open_cold(&k);
	d = draft_of(&k, KEY);
	for (int i = 0; i < 4; i++) {
		before = counter.cost;
		write_at(d, size / 2 + (uint64_t)i * 1000, "a small change", 14);
		publish(&k, d, KEY);
		kit_sync(&k);
		cost = cost_since(&before);
		assert_in_range(cost.bytes_read, 0, WAY);
		if (i == 0)	/* with the header of its segment, and the log's witness */
			continue;
		assert_int_equal(cost.bytes_written, UNIT);
		assert_int_equal(cost.writes, 1);
		assert_int_equal(cost.syncs, 1);
	}
	tell("a small change, bytes:", size, &cost);
	draft_close(d);
	kit_end(&k);
	return cost;
}

static void a_small_change_with_fsync_costs_one_unit_of_the_log(void **state)
{
	(void)state;
	small_change(100000);
	small_change(3 << 20);
	small_change(48 << 20);
}

/* A log file that is kept for long. */
static void appending_costs_the_same_at_the_end_as_at_the_start(void **state)
{
	enum { LINES = 100000, PART = 10000 };
	static const char line[] = "2026-11-29T20:47:55Z host program[123]: something happened\n";
	struct cost before, first = { 0 }, last = { 0 };
	struct draft *d;
	struct kit k;
	(void)state;

	kit_begin(&k);
	assert_int_equal(store_close(k.store), 0);
	k.options.log_cap = 16 << 20;
	count_on(k.disk);
	kit_mount(&k);
	create(&k, KEY);
	d = draft_of(&k, KEY);
	before = counter.cost;
	for (uint64_t i = 0; i < LINES; i++) {
		write_at(d, i * (sizeof(line) - 1), line, sizeof(line) - 1);
		publish(&k, d, KEY);
		kit_sync(&k);
		if (i % PART == PART - 1) {
			last = cost_since(&before);
			before = counter.cost;
			if (i < PART)
				first = last;
		}
	}
	tell("first lines:", PART, &first);
	tell("last lines:", PART, &last);
	assert_in_range(last.bytes_written, 0, first.bytes_written + first.bytes_written / 10);
	assert_in_range(last.bytes_read, 0, first.bytes_read + PART * 64);
	assert_in_range(last.syncs, 0, first.syncs + first.syncs / 10);
	/* A unit of the log each, and what checkpoints and whole chunks add. */
	assert_in_range(last.bytes_written, 0, (uint64_t)PART * UNIT / 4 * 5);
	assert_int_equal(look(&k, KEY).size, LINES * (sizeof(line) - 1));
	draft_close(d);
	kit_end(&k);
}

/* ---- cutting and removing ---------------------------------------------------------------- */

enum how { CUT, EMPTY, REMOVE, REPLACE, HOWS };

/* `size` bytes in each of so many chunks. */
static void put_chunks(struct kit *k, uint64_t chunks, size_t size)
{
	uint8_t *bytes = pattern(CHUNK, 1);
	struct draft *d;

	create(k, KEY);
	d = draft_of(k, KEY);
	for (uint64_t i = 0; i < chunks; i++)
		write_at(d, i * CHUNK, bytes, size);
	publish(k, d, KEY);
	draft_close(d);
	assert_int_equal(store_sync(k->store), 0);
	free(bytes);
}

static struct cost going(enum how how, uint64_t chunks, size_t size)
{
	struct cost before, cost;
	struct draft *d;
	struct kit k;

	begin(&k);
	put(&k, at(STORE_ROOT, "other"), "other");
	put_chunks(&k, chunks, size);
	open_cold(&k);
	before = counter.cost;
	if (how == REMOVE) {
		assert_int_equal(removed(&k, KEY, 0), 0);
	} else if (how == REPLACE) {
		assert_int_equal(renamed(&k, at(STORE_ROOT, "other"), KEY, 0), 0);
	} else {
		d = draft_of(&k, KEY);
		assert_int_equal(draft_truncate(d, how == CUT ? CHUNK : 0), 0);
		publish(&k, d, KEY);
		draft_close(d);
	}
	kit_sync(&k);
	cost = cost_since(&before);
	tell("chunks that go at once:", chunks, &cost);
	reclaim_all(&k);
	assert_in_range(entries(&k), 0, 20);
	kit_end(&k);
	return cost;
}

static void goes_at_once(enum how how, uint64_t chunks, size_t size)
{
	const struct cost small = going(how, 100, size), large = going(how, chunks, size);

	assert_int_equal(large.bytes_written, small.bytes_written);
	assert_int_equal(large.syncs, small.syncs);
	assert_in_range(large.bytes_read, 0, small.bytes_read + WAY);
}

/* 2.5 GiB, with a little in each chunk. */
static void a_value_is_emptied_or_removed_in_one_step_however_large(void **state)
{
	(void)state;
	for (int how = EMPTY; how < HOWS; how++)
		goes_at_once((enum how)how, 40000, 9);
}

/* Where there are holes, what they are is counted. */
static void a_value_without_holes_is_cut_in_one_step_however_large(void **state)
{
	(void)state;
	goes_at_once(CUT, 1200, CHUNK);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(opening_costs_the_same_with_1000_and_300000_keys),
		cmocka_unit_test(a_small_change_with_fsync_costs_one_unit_of_the_log),
		cmocka_unit_test(appending_costs_the_same_at_the_end_as_at_the_start),
		cmocka_unit_test(a_value_is_emptied_or_removed_in_one_step_however_large),
		cmocka_unit_test(a_value_without_holes_is_cut_in_one_step_however_large),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

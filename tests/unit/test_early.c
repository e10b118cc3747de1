/* Leaves that are written early, since there is no memory for them: whoever writes them does not stand
 * and wait until the disk is done with somebody's sync. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine.h"
#include "os.h"

enum {
	MIB = 1 << 20,
	CACHE = 2 * MIB,
	KEYS = 8000,			/* of a KiB: four times the cache */
	UNFLUSHED_MOST = 100 * MIB,	/* what is put off at most, as tree_write.c has it */
};

static struct {
	uint64_t written, flushed;	/* bytes; stretches */
	bool syncing;
	int (*write)(struct os_file *file, const void *bytes, size_t size, uint64_t offset);
} seen;

static int count_write(struct os_file *file, const void *bytes, size_t size, uint64_t offset)
{
	seen.written += size;
	return seen.write(file, bytes, size, offset);
}

static int count_flush(struct os_file *file, uint64_t offset, uint64_t size, bool wait)
{
	(void)file;
	(void)offset;
	(void)size;
	(void)wait;
	seen.flushed++;
	return 0;
}

static bool say_syncing(struct os *os)
{
	(void)os;
	return seen.syncing;
}

static char folder[32];
static struct os os;
static struct engine *e;

static void put(uint32_t k)
{
	static struct batch batch;
	static uint8_t value[1000];
	char key[16];
	uint64_t revision;

	snprintf(key, sizeof(key), "%08u", (unsigned)k);
	batch_clear(&batch);
	batch_put(&batch, slice_str(key), slice_of(value, sizeof(value)));
	assert_int_equal(engine_commit(e, &batch, false, &revision), 0);
	batch_done(&batch);
	batch = (struct batch){ 0 };
}

static int begin(void **state)
{
	const struct engine_options options = {
		.create = true, .cache = CACHE, .log_cap = 1024ULL * MIB,
	};
	(void)state;

	os = *os_posix();
	memset(&seen, 0, sizeof(seen));
	seen.write = os.write;
	os.write = count_write;
	os.flush = count_flush;
	os.syncing = say_syncing;
	strcpy(folder, "/var/tmp/cubby-early.XXXXXX");
	if (!mkdtemp(folder) || engine_open(&os, folder, &options, &e, NULL) < 0)
		return -1;
	for (uint32_t k = 0; k < KEYS; k++)
		put(k);
	return engine_checkpoint(e);
}

static int end(void **state)
{
	char command[64];
	const int rc = engine_close(e);
	(void)state;

	snprintf(command, sizeof(command), "rm -r %s", folder);
	return system(command) == 0 ? rc : -1;
}

/* Updates keys in no order until so many more bytes were written. */
static void update(uint64_t bytes)
{
	static uint32_t next;

	for (const uint64_t until = seen.written + bytes; seen.written < until;)
		put(next = (next + 3557) % KEYS);
}

static void what_is_written_early_is_given_to_the_disk(void **state)
{
	(void)state;
	seen.flushed = 0;
	update(16 * MIB);
	assert_in_range(seen.flushed, 8, 16);	/* the log takes its share of what was written */
}

static void nobody_gives_it_while_somebody_syncs(void **state)
{
	(void)state;
	seen.syncing = true;
	update(4 * MIB);
	seen.flushed = 0;
	update(48 * MIB);
	assert_int_equal(seen.flushed, 0);
	seen.syncing = false;
	update(16 * MIB);
	assert_true(seen.flushed > 40);		/* with what was left */
}

static void but_no_more_is_put_off_than_so_much(void **state)
{
	(void)state;
	seen.syncing = true;
	update(UNFLUSHED_MOST + 8 * MIB);
	seen.flushed = 0;
	update(16 * MIB);
	assert_true(seen.flushed >= 8);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)
	const struct CMUnitTest tests[] = {
		TEST(what_is_written_early_is_given_to_the_disk),
		TEST(nobody_gives_it_while_somebody_syncs),
		TEST(but_no_more_is_put_off_than_so_much),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

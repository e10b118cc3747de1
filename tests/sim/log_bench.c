#include "sim/log_bench.h"

#include <errno.h>
#include <string.h>

static const uint8_t STORE[STORE_ID_SIZE] = "a store";

struct log_options options_of(const struct bench *b)
{
	struct log_options o = { .segment_size = SEGMENT, .cap = b->cap };

	memcpy(o.store, STORE, sizeof(STORE));
	return o;
}

static uint8_t pattern(uint64_t n, size_t i)
{
	return (uint8_t)(n * 31 + i * 7);
}

static struct slice batch_of(uint64_t n, size_t size)
{
	static _Thread_local uint8_t bytes[BATCH_MAX];

	assert_true(size >= BATCH_HEADER + 8 && size <= sizeof(bytes));
	put32(bytes, (uint32_t)(size - BATCH_HEADER));
	put64(bytes + BATCH_HEADER, n);
	for (size_t i = BATCH_HEADER + 8; i < size; i++)
		bytes[i] = pattern(n, i);
	return slice_of(bytes, size);
}

static int note(void *arg, uint64_t revision, struct slice batch)
{
	const struct bench *b = arg;

	assert_true(revision > b->mark.revision);
	assert_true(batch.size >= BATCH_HEADER + 8);
	return 0;
}

static int check(void *arg, struct slice batch)
{
	struct bench *b = arg;

	b->checked++;
	assert_true(batch.size >= BATCH_HEADER + 8);
	return b->missing_from &&
	       get64((const uint8_t *)batch.data + BATCH_HEADER) >= b->missing_from ? -ENODATA : 0;
}

/* Every batch must be the one after the last, and as it was appended. */
static int apply(void *arg, const struct log_mark *mark, struct slice batch)
{
	struct bench *b = arg;
	const uint8_t *bytes = batch.data;
	const uint64_t n = get64(bytes + BATCH_HEADER);

	assert_int_equal(n, b->found + 1);
	assert_true(mark->revision > b->revision);
	for (size_t i = BATCH_HEADER + 8; i < batch.size; i++)
		assert_int_equal(bytes[i], pattern(n, i));
	b->found = n;
	b->revision = mark->revision;
	return 0;
}

struct log_reader reader_of(struct bench *b)
{
	return (struct log_reader){ note, check, apply, b };
}

int reopen(struct bench *b)
{
	const struct log_options options = options_of(b);
	const struct log_reader reader = reader_of(b);

	b->found = b->at_mark;
	b->revision = b->mark.revision;
	b->checked = 0;
	b->err.text[0] = '\0';
	b->rc = b->os->open_dir(b->os, "/store", 0, &b->dir);
	if (b->rc == 0)
		b->rc = log_open(b->os, b->dir, &options, &b->mark, LEAP, &reader, &b->log,
				 &b->torn, &b->err);
	return b->rc;
}

int shut(struct bench *b)
{
	const int rc = log_close(b->log);

	b->log = NULL;
	if (b->dir)
		b->os->close_dir(b->dir);
	b->dir = NULL;
	return rc;
}

int create(struct bench *b)
{
	const struct log_options options = options_of(b);
	int rc;

	b->os = sim_os(b->disk);
	if (!b->maps)
		sim_forbid_maps(b->disk);
	rc = b->os->open_dir(b->os, "/store", OS_CREATE, &b->dir);
	return rc ? rc : log_create(b->os, b->dir, &options, &b->mark, &b->log, &b->err);
}

struct bench twin(const struct bench *b)
{
	struct bench t = *b;

	t.disk = sim_clone(b->disk);
	t.os = sim_os(t.disk);
	t.log = NULL;
	t.dir = NULL;
	return t;
}

void drop(struct bench *b)
{
	shut(b);
	sim_free(b->disk);
}

int append(struct bench *b, size_t size)
{
	const struct slice batch = batch_of(b->appended + 1, size);
	int rc = log_append(b->log, batch, &b->revision);

	if (rc == -EAGAIN) {
		rc = log_prepare(b->log, 1);
		if (rc == 0)
			rc = log_append(b->log, batch, &b->revision);
	}
	if (rc == 0)
		b->appended++;
	return rc;
}

int sync_all(struct bench *b)
{
	const uint64_t n = b->appended;
	const int rc = log_wait_blocking(b->log, b->revision, LOG_SYNCED);

	if (rc == 0)
		b->acked = n;
	return rc;
}

int append_synced(struct bench *b, size_t size)
{
	const int rc = append(b, size);

	return rc ? rc : sync_all(b);
}

int append_written(struct bench *b, size_t size)
{
	const int rc = append(b, size);

	return rc ? rc : log_wait_blocking(b->log, b->revision, LOG_WRITTEN);
}

int checkpoint(struct bench *b)
{
	struct log_mark mark;
	int rc = log_rotate(b->log, &mark);

	if (rc == 0)
		rc = log_wait_blocking(b->log, mark.revision, LOG_SYNCED);
	if (rc < 0)
		return rc;
	b->acked = b->at_mark = b->appended;
	b->mark = mark;
	log_recycle(b->log, &mark);
	return 0;
}

int insist(struct bench *b, size_t size)
{
	int rc = append(b, size);

	if (rc != -EAGAIN)
		return rc;
	rc = checkpoint(b);
	return rc ? rc : append(b, size);
}

void reboot(struct bench *b, enum sim_fate fate, uint64_t seed)
{
	shut(b);
	sim_reboot(b->disk, fate, seed);
}

void assert_history(const struct bench *b)
{
	assert_in_range(b->found, b->acked, b->appended);
}

void assert_opens(struct bench *b)
{
	if (reopen(b) != 0)
		fail_msg("log_open: %d: %s", b->rc, b->err.text);
	assert_history(b);
	b->appended = b->acked = b->found;
	b->revision = log_revision(b->log);
}

int bench_setup(void **state)
{
	struct bench *b = test_calloc(1, sizeof(*b));

	b->disk = sim_new(1);
	b->cap = 4 * SEGMENT;
	assert_int_equal(create(b), 0);
	*state = b;
	return 0;
}

int bench_teardown(void **state)
{
	struct bench *b = *state;

	drop(b);
	test_free(b);
	return 0;
}

/* The log: up to three segment files, opened as recovery does. The first byte says how many there
 * are and which of them are left as they are; in the others sums, salts, chains and numbers are
 * made to fit, group by group, but for each whose `synced` is odd in its top byte. Its top bit says
 * that there is a witness, too, and its fourth that there is a tail, in which the header is made to
 * fit the log, and each record the one before, unless the first byte is odd, or that of the record.
 *
 * Whatever is found, opening ends, and a log that was opened can be written and opened again with
 * as much in it. */
#include "fuzz.h"

#include <errno.h>

#include "log.h"
#include "log_frame.h"
#include "sim/disk.h"
#include "sum.h"

enum { SEGMENTS_MAX = 3, SIZE = 8 * UNIT };

static const struct log_options options = { .segment_size = SIZE, .cap = 4 * SIZE };
static const struct log_mark mark = { .segment = 1, .number = 1 };

struct history {
	uint64_t number, chain, revision, count;
};

/* Makes a header fit behind the segments before it, and then each group. */
static void mend_header(uint8_t *bytes, uint64_t index, const struct history *h)
{
	struct segment_header header = {
		.sequence = index + 1,
		.number = h->number,
		.revision = h->revision,
		.chain = h->chain,
		.salt = get32(bytes + SEGMENT_SALT),
	};

	segment_encode(&header, bytes);
}

static void mend_groups(uint8_t *bytes, struct history *h)
{
	size_t at = SEGMENT_HEADER;

	while (at + GROUP_HEADER < SIZE) {
		struct group g = group_peek(bytes + at);
		int64_t count;

		if (g.size == 0 || g.size > SIZE - at - GROUP_HEADER) {
			at = unit_up(at + 1);
			continue;
		}
		count = group_count(slice_of(bytes + at + GROUP_HEADER, g.size));
		if (!(g.synced >> 56 & 1)) {
			g.salt = get32(bytes + SEGMENT_SALT);
			g.number = h->number++;
			g.chain = h->chain;
			g.synced = g.synced % g.number;
			g.revision = h->revision + 1;
			h->revision += count > 0 ? (uint64_t)count : 1;
			h->chain = group_encode(&g, bytes + at);
		}
		at = group_up(at + GROUP_HEADER + g.size);
	}
}

static void write_segment(struct sim *disk, struct os_dir *dir, unsigned index,
			  const uint8_t *bytes)
{
	struct os *os = sim_os(disk);
	char name[] = FILE_LOG_PREFIX "00000000";
	struct os_file *file;

	name[sizeof(name) - 2] = (char)('0' + index);
	CHECK(os->open(dir, name, OS_CREATE, &file) == 0);
	CHECK(os->write(file, bytes, SIZE, 0) == 0);
	CHECK(os->sync(file) == 0);
	os->close(file);
}

/* What there is of a witness, before it is known what would fit. */
struct told {
	uint8_t number, file;	/* the top bit: the bytes as they are, else one is made of these */
	uint8_t bytes[WITNESS_SIZE];
};

static void write_witness(struct sim *disk, struct os_dir *dir, const struct history *h,
			  struct told *told)
{
	const struct witness witness = {
		.number = 1u + told->number,
		.chain = 2u + told->number == h->number ? h->chain : told->number,
		.file = told->file,
	};
	uint8_t unit[UNIT] = { 0 };
	struct os *os = sim_os(disk);
	struct os_file *file;

	if (!(told->file & 0x80))
		witness_encode(&witness, options.store, told->bytes);
	memcpy(unit, told->bytes, WITNESS_SIZE);
	CHECK(os->open(dir, FILE_WITNESS, OS_CREATE, &file) == 0);
	CHECK(os->write(file, unit, sizeof(unit), 0) == 0);
	CHECK(os->sync(file) == 0);
	os->close(file);
}

static void mend_tail(uint8_t *bytes, size_t size, const struct history *h)
{
	const struct group group = {
		.number = h->number, .chain = h->chain, .revision = h->revision + 1,
	};
	uint64_t revision = group.revision;
	size_t at = TAIL_HEADER;

	if (size < TAIL_HEADER || bytes[0] & 1)
		return;
	tail_encode(&group, options.store, bytes);
	while (size - at > TAIL_RECORD_HEADER) {
		const size_t left = size - at - TAIL_RECORD_HEADER;
		const size_t part = 1 + bytes[at + TAIL_RECORD_SIZE] % left;
		const struct slice batches = slice_of(bytes + at + TAIL_RECORD_HEADER, part);
		const int64_t count = group_count(batches);

		if (!(bytes[at] & 1))
			tail_record_encode(batches, revision, bytes + at);
		revision += count > 0 ? (uint64_t)count : 1;
		at += TAIL_RECORD_HEADER + (size_t)group_up(part);
		if (at > size)
			return;
	}
}

static void write_tail(struct sim *disk, struct os_dir *dir, const uint8_t *bytes, size_t size)
{
	struct os *os = sim_os(disk);
	struct os_file *file;

	CHECK(os->open(dir, FILE_TAIL, OS_CREATE, &file) == 0);
	CHECK(os->write(file, bytes, size, 0) == 0);
	CHECK(os->sync(file) == 0);
	os->close(file);
}

static int note(void *arg, uint64_t revision, struct slice batch)
{
	(void)arg;
	CHECK(revision > 0 && batch.size >= BATCH_HEADER);
	return 0;
}

static int check(void *arg, struct slice batch)
{
	(void)arg;
	return batch.size % 7 == 6 ? -ENODATA : 0;
}

static int count_batch(void *arg, const struct log_mark *at, struct slice batch)
{
	struct history *h = arg;

	CHECK(at->revision > h->revision);
	CHECK(batch.size >= BATCH_HEADER && sum64(batch.data, batch.size) | 1);
	h->revision = at->revision;
	h->count++;
	return 0;
}

/* How many batches there are, or an error. */
static int64_t open_and_count(struct sim *disk, struct os_dir *dir, bool write)
{
	struct history h = { 0 };
	const struct log_reader reader = { note, check, count_batch, &h };
	uint8_t batch[BATCH_HEADER + 4] = { 4 };
	uint64_t revision;
	struct log *log;
	struct err err;
	int rc = log_open(sim_os(disk), dir, &options, &mark, 10, &reader, &log, NULL, &err);

	if (rc < 0)
		return rc;
	if (write) {
		rc = log_append(log, slice_of(batch, sizeof(batch)), &revision);
		CHECK(rc == 0 || rc == -EAGAIN || rc == -E2BIG);
		h.count += rc == 0;
	}
	CHECK(log_close(log) == 0);
	return (int64_t)h.count;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t what = take_byte(&data, &size);
	const unsigned count = 1 + what % SEGMENTS_MAX;
	struct history h = { .number = 1 };
	struct told told = { .file = 0 };
	uint8_t tail[8 * UINT8_MAX];
	size_t tail_size = 0;
	struct sim *disk = sim_new(1);
	struct os_dir *dir;
	int64_t found;

	CHECK(sim_os(disk)->open_dir(sim_os(disk), "/store", OS_CREATE, &dir) == 0);
	if (what & 0x80) {
		told.number = take_byte(&data, &size);
		told.file = take_byte(&data, &size);
		take(&data, &size, told.bytes, told.file & 0x80 ? WITNESS_SIZE : 0);
	}
	if (what & 0x08) {
		tail_size = (size_t)8 * take_byte(&data, &size);
		take(&data, &size, tail, tail_size);
	}
	for (unsigned i = 0; i < count; i++) {
		const size_t part = size / (count - i) < SIZE ? size / (count - i) : SIZE;
		static uint8_t bytes[SIZE];
		size_t rest = part;
		const uint8_t *from = data;

		take(&from, &rest, bytes, SIZE);
		if (!(what >> (4 + i) & 1)) {
			mend_header(bytes, i, &h);
			mend_groups(bytes, &h);
		}
		write_segment(disk, dir, i, bytes);
		data += part;
		size -= part;
	}
	if (what & 0x80)
		write_witness(disk, dir, &h, &told);
	if (what & 0x08) {
		mend_tail(tail, tail_size, &h);
		write_tail(disk, dir, tail, tail_size);
	}
	found = open_and_count(disk, dir, true);
	if (found >= 0)
		CHECK(open_and_count(disk, dir, false) == found);
	sim_os(disk)->close_dir(dir);
	sim_free(disk);
	return 0;
}

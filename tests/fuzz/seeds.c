/* seeds FOLDER: makes a store on the lying disk with something of everything in it, takes it
 * apart, and writes the parts to FOLDER/fuzz_*, as inputs for the fuzz targets to begin with. */
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine.h"
#include "entry.h"
#include "log_frame.h"
#include "node.h"
#include "record.h"
#include "sim/medium.h"
#include "unit/store_kit.h"

enum { EACH = 8 };		/* of one kind, at most */

static const char *folder;

/* Writes `prefix` (unless negative) and the bytes as one seed. */
static void seed(const char *target, const char *kind, int prefix, struct slice bytes)
{
	static struct {
		char kind[32];
		unsigned count;
	} kinds[64];
	char path[512];
	uint8_t first = (uint8_t)prefix;
	int i = 0, fd;

	while (kinds[i].kind[0] && strcmp(kinds[i].kind, kind) != 0)
		i++;
	strcpy(kinds[i].kind, kind);
	if (kinds[i].count++ >= EACH)
		return;
	snprintf(path, sizeof(path), "%s/%s", folder, target);
	mkdir(path, 0777);
	snprintf(path, sizeof(path), "%s/%s/%s-%u", folder, target, kind, kinds[i].count);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
	assert_true(fd >= 0);
	if (prefix >= 0)
		assert_int_equal(write(fd, &first, 1), 1);
	assert_int_equal(write(fd, bytes.data, bytes.size), (ssize_t)bytes.size);
	close(fd);
}

/* ---- a store --------------------------------------------------------------------------- */

static void fill(struct kit *k)
{
	const struct slice value = slice_str("an attribute's value");
	const uint64_t t = table(k, at(1, "table"));
	static char large[200000];
	struct draft *d;
	char name[40];

	for (int i = 0; i < 120; i++) {
		snprintf(name, sizeof(name), "key number %d of the table", i);
		put(k, at(t, name), name);
		if (i % 5 == 0)
			assert_int_equal(store_xattr_set(k->store, at(t, name), slice_str("user.a"),
							 value, 0, &k->revision),
					 0);
		if (i % 5 == 0)
			assert_int_equal(store_xattr_set(k->store, at(t, name), slice_str("user.b"),
							 slice_str(""), 0, &k->revision), 0);
		if (i % 20 == 0)
			assert_int_equal(store_sync(k->store), 0);
		if (i % 7 == 0)
			assert_int_equal(set_expires(k, at(t, name), 1800000000000 + (uint64_t)i),
					 0);
	}
	for (size_t size = 1; size <= sizeof(large); size *= 9) {
		snprintf(name, sizeof(name), "value of %zu", size);
		create(k, at(1, name));
		d = draft_of(k, at(1, name));
		write_at(d, size / 3, large, size);
		publish(k, d, at(1, name));
		draft_close(d);
	}
	assert_int_equal(store_link(k->store, at(1, "value of 81"), at(1, "another name"),
				    NULL, &k->revision), 0);
	create(k, at(t, "not published yet"));
	assert_int_equal(store_sync(k->store), 0);
}

/* ---- its parts -------------------------------------------------------------------------- */

static struct slice whole_file(struct sim *disk, const char *name)
{
	struct os *os = sim_os(disk);
	struct os_dir *dir;
	struct os_file *file;
	uint64_t size;
	uint8_t *bytes;

	assert_int_equal(os->open_dir(os, "store", 0, &dir), 0);
	assert_int_equal(os->open(dir, name, 0, &file), 0);
	assert_int_equal(os->size(file, &size), 0);
	bytes = sim_alloc(size);
	assert_int_equal(os->read(file, bytes, size, 0), (ssize_t)size);
	os->close(file);
	os->close_dir(dir);
	return slice_of(bytes, size);
}

static void take_apart_map(const uint8_t *pages, const uint8_t *block)
{
	uint8_t bytes[3 + SPACE_REGION_SIZE + UNIT] = { (uint8_t)get32(block + SPACE_COUNT), 0xff,
							3 };
	const struct ref bits = ref_decode(block + SPACE_HEADER + SPACE_REGION_REF);

	memcpy(bytes + 3, block + SPACE_HEADER, SPACE_REGION_SIZE);
	memcpy(bytes + 3 + SPACE_REGION_SIZE, pages + bits.offset, UNIT);
	seed("fuzz_space", "map", -1, slice_of(bytes, sizeof(bytes)));
}

static void take_apart_pages(struct slice pages)
{
	const uint8_t *bytes = pages.data;

	for (size_t at = 0; at < pages.size; at += UNIT) {
		const uint8_t *block = bytes + at;

		if (memcmp(block, SUPER_MAGIC_TEXT, 8) == 0)
			seed("fuzz_super", "super", -1, slice_of(block, UNIT));
		else if (get32(block) == NODE_MAGIC_VALUE)
			seed("fuzz_node", block[NODE_LEVEL] ? "inner" : "leaf", block[NODE_LEVEL],
			     slice_of(block, NODE_HEADER + get32(block + NODE_BODY_SIZE)));
		else if (get32(block) == SPACE_MAGIC_VALUE)
			take_apart_map(bytes, block);
	}
}

/* The segment with a witness of its last group. */
static void add_witness(const uint8_t *segment, size_t size, uint8_t groups)
{
	uint8_t bytes[2 + 8 * UNIT] = { (uint8_t)(groups - 1), 0 };

	memcpy(bytes + 2, segment, size);
	seed("fuzz_log", "witness", 0x80, slice_of(bytes, 2 + size));
}

/* The segment, and a tail whose only record holds a small batch. */
static void add_tail(const uint8_t *segment, size_t size, struct slice batch)
{
	enum { MOST = 8 * UINT8_MAX };
	uint8_t bytes[1 + MOST + 8 * UNIT] = { 0 };
	uint8_t *record = bytes + 1 + TAIL_HEADER;
	size_t tail;

	bytes[0] = (uint8_t)((TAIL_HEADER + TAIL_RECORD_HEADER + batch.size + 7) / 8);
	tail = (size_t)8 * bytes[0];
	record[TAIL_RECORD_SIZE] = (uint8_t)(batch.size - 1);
	memcpy(record + TAIL_RECORD_HEADER, batch.data, batch.size);
	memcpy(bytes + 1 + tail, segment, size);
	seed("fuzz_log", "tail", 0x09, slice_of(bytes, 1 + tail + size));
}

static void take_apart_log(struct slice log)
{
	const uint8_t *bytes = log.data;
	struct slice small = { 0 };
	size_t end = SEGMENT_HEADER;
	uint8_t groups = 0;

	for (size_t at = SEGMENT_HEADER; at + GROUP_HEADER < log.size;) {
		const struct group g = group_peek(bytes + at);
		struct slice batches, batch;
		size_t offset = 0;

		if (g.size == 0 || g.size > log.size - at - GROUP_HEADER ||
		    !group_is_whole(&g, bytes + at)) {
			at = unit_up(at + 1);
			continue;
		}
		batches = slice_of(bytes + at + GROUP_HEADER, g.size);
		while (group_next(batches, &offset, &batch)) {
			seed("fuzz_batch", batch.size < 300 ? "small" : "batch", -1, batch);
			small = batch.size <= UINT8_MAX ? batch : small;
		}
		at = group_up(at + GROUP_HEADER + g.size);
		if (at < 8 * UNIT) {
			end = at;
			groups++;
		}
	}
	if (end > SEGMENT_HEADER) {
		seed("fuzz_log", "segment", 0, slice_of(bytes, end));
		add_witness(bytes, end, groups);
		if (small.size)
			add_tail(bytes, end, small);
	}
}

static int take_apart_entry(void *arg, const struct engine_entry *e)
{
	const char kind = *(const char *)e->key.data;
	char name[] = "key-?";
	struct entry entry;
	(void)arg;

	name[4] = kind;
	seed("fuzz_record", name, 0, e->key);
	if (kind == RECORD_NAME) {
		seed("fuzz_entry", "name", 1, e->value);
		if (entry_decode(e->value, &entry) == 0) {
			seed("fuzz_entry", "entry", 0, e->value);
			if (entry.xattrs.size)
				seed("fuzz_record", "xattrs", 1, entry.xattrs);
		}
	} else if (kind == RECORD_SHARED) {
		seed("fuzz_entry", "shared", 2, e->value);
	} else if (kind == RECORD_TABLE) {
		seed("fuzz_entry", "table", 3, e->value);
	} else if (kind == RECORD_CHUNK) {
		seed("fuzz_record", "chunk", e->run->length ? 3 : 2,
		     slice_of(e->value.data, e->value.size < 500 ? e->value.size : 500));
	} else if (kind == RECORD_CATALOGUE) {
		seed("fuzz_record", "ids", 5, e->value);
	}
	return 0;
}

int main(int argc, char **argv)
{
	struct kit k;
	struct engine *engine;
	const struct engine_options options = { .segment_size = 0 };
	struct slice file;

	if (argc != 2) {
		fprintf(stderr, "usage: seeds FOLDER\n");
		return 2;
	}
	folder = argv[1];
	kit_begin(&k);
	fill(&k);
	for (int i = 0; i < 2; i++) {
		file = whole_file(k.disk,
				  i ? FILE_LOG_PREFIX "00000001" : FILE_LOG_PREFIX "00000000");
		take_apart_log(file);
		free((void *)file.data);
	}
	assert_int_equal(store_checkpoint(k.store), 0);
	file = whole_file(k.disk, FILE_PAGES);
	take_apart_pages(file);
	free((void *)file.data);
	assert_int_equal(store_close(k.store), 0);
	assert_int_equal(engine_open(sim_os(k.disk), "store", &options, &engine, NULL), 0);
	engine_scan(engine, slice_of("", 0), take_apart_entry, NULL);
	engine_close(engine);
	sim_free(k.disk);
	return 0;
}

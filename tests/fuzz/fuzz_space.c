/* The free map: the input is a directory's regions, and behind them the bits of each. Whatever
 * it says, nothing is handed out twice. */
#include "fuzz.h"

#include "sim/disk.h"
#include "space.h"
#include "sum.h"

enum { REGIONS_MAX = 3, UNITS_MAX = 2 * REGION_UNITS + 64 };

struct bench {
	struct sim *disk;
	struct os_dir *dir;
	struct pages *pages;
	struct super super;
};

static void begin(struct bench *b, uint64_t units)
{
	struct os *os;

	b->disk = sim_new(1);
	b->super = (struct super){ .generation = 1, .units = units };
	os = sim_os(b->disk);
	CHECK(os->open_dir(os, "/store", OS_CREATE, &b->dir) == 0);
	CHECK(pages_create(os, b->dir, &b->pages, NULL) == 0);
	CHECK(pages_grow(b->pages, units) == 0);
}

/* The directory is put to unit 4, the bits behind it, and the references are made to fit. */
static void write_map(struct bench *b, const uint8_t *data, size_t size, uint32_t count)
{
	uint8_t block[SPACE_HEADER + REGIONS_MAX * SPACE_REGION_SIZE] = { 0 };

	put32(block + SPACE_MAGIC, SPACE_MAGIC_VALUE);
	put32(block + SPACE_COUNT, count);
	take(&data, &size, block + SPACE_HEADER, count * SPACE_REGION_SIZE);
	for (uint32_t i = 0; i < count && i < REGIONS_MAX; i++) {
		uint8_t *region = block + SPACE_HEADER + i * SPACE_REGION_SIZE, bits[UNIT];
		struct ref ref;

		if (region[0] & 1) {
			memset(region, 0, REF_SIZE);
			continue;
		}
		take(&data, &size, bits, UNIT);
		CHECK(pages_write(b->pages, (5 + i) * UNIT, 1, slice_of(bits, UNIT), &ref) == 0);
		ref_encode(&ref, region + SPACE_REGION_REF);
	}
	CHECK(pages_write(b->pages, 4 * UNIT, 1,
			  slice_of(block, SPACE_HEADER + count * SPACE_REGION_SIZE),
			  &b->super.space) == 0);
}

static void use(struct space *space, uint64_t units)
{
	static uint8_t given[UNITS_MAX + 4096];
	struct space_stats stats;
	uint64_t offset;

	memset(given, 0, sizeof(given));
	for (int i = 0; i < 40; i++) {
		const uint64_t wanted = 1 + (uint64_t)i * 7 % 30;

		if (space_alloc(space, wanted, &offset) != 0)
			continue;
		for (uint64_t u = offset / UNIT; u < offset / UNIT + wanted && u < units; u++)
			CHECK(given[u]++ == 0);
	}
	space_stats(space, &stats);
	CHECK(stats.free_units <= stats.units);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint32_t count = take_byte(&data, &size) % (REGIONS_MAX + 1);
	uint8_t tail[2];
	struct bench b;
	struct space *space;
	struct err err;
	uint64_t units;

	take(&data, &size, tail, sizeof(tail));
	units = 16 + get16(tail) % UNITS_MAX / 4 * 4;
	if (count > 1)
		units += REGION_UNITS;
	if (units > UNITS_MAX)
		units = UNITS_MAX;
	begin(&b, units);
	write_map(&b, data, size, count);
	if (space_open(b.pages, &b.super, &space, &err) == 0) {
		use(space, units);
		space_close(space);
	}
	pages_close(b.pages);
	sim_os(b.disk)->close_dir(b.dir);
	sim_free(b.disk);
	return 0;
}

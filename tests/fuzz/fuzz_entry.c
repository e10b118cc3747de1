/* Entries, references to them, tables' records. The first byte says what the rest is read as. */
#include "fuzz.h"

#include "entry.h"

/* One encoding only: what was decoded is encoded to the same bytes. */
static void again(const struct entry *entry, struct slice record)
{
	uint8_t *out = malloc(entry_size_max(entry));

	CHECK(slice_equal(slice_of(out, entry_encode(entry, out)), record));
	free(out);
}

/* What lies under a name: the short look sees what the long one does. */
static void named(struct slice record)
{
	uint8_t small[REFERENCE_MAX];
	struct entry entry;
	struct glimpse glimpse;
	uint64_t id, again;
	const int rc = named_decode(record, &entry, &id);
	const int glimpsed = named_glimpse(record, &glimpse, &again);

	CHECK(rc < 0 || glimpsed == rc);
	if (rc == 1)
		CHECK(id == again &&
		      slice_equal(slice_of(small, reference_encode(id, small)), record));
	if (rc == 0)
		CHECK(glimpse.id == entry.id && glimpse.type == (entry.mode & S_IFMT) &&
		      glimpse.expires_ms == entry.expires_ms);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t what = take_byte(&data, &size);
	uint8_t *bytes = malloc(size ? size : 1);
	const struct slice record = slice_of(bytes, size);
	uint8_t small[TABLE_RECORD_MAX];
	struct entry entry;
	struct table table;

	if (size)
		memcpy(bytes, data, size);
	if (what == 0 && entry_decode(record, &entry) == 0)
		again(&entry, record);
	else if (what == 1)
		named(record);
	else if (what == 2 && shared_decode(record, 77, &entry) == 0)
		CHECK(entry.id == 77 && entry.links > 0);
	else if (what == 3 && table_decode(record, &table) == 0)
		CHECK(slice_equal(slice_of(small, table_encode(&table, small)), record));
	free(bytes);
	return 0;
}

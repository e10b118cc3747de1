/* Entries, references to them, tables' records. The first byte says what the rest is read as. */
#include "fuzz.h"

#include "entry.h"

/* One encoding only: what was decoded is encoded to the same bytes. */
static void again(const struct entry *entry, struct slice record)
{
	struct buffer out = { 0 };

	CHECK(entry_encode(entry, &out) == 0);
	CHECK(slice_equal(buffer_slice(&out), record));
	buffer_done(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t what = take_byte(&data, &size);
	uint8_t *bytes = malloc(size ? size : 1);
	const struct slice record = slice_of(bytes, size);
	uint8_t small[TABLE_RECORD_MAX];
	struct entry entry;
	struct table table;
	uint64_t id;

	if (size)
		memcpy(bytes, data, size);
	if (what == 0 && entry_decode(record, &entry) == 0)
		again(&entry, record);
	else if (what == 1 && named_decode(record, &entry, &id) == 1)
		CHECK(slice_equal(slice_of(small, reference_encode(id, small)), record));
	else if (what == 2 && shared_decode(record, 77, &entry) == 0)
		CHECK(entry.id == 77 && entry.links > 0);
	else if (what == 3 && table_decode(record, &table) == 0)
		CHECK(slice_equal(slice_of(small, table_encode(&table, small)), record));
	free(bytes);
	return 0;
}

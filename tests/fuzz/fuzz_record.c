/* Keys of records, the small records, sets of attributes. The first byte says what the rest is
 * read as. */
#include "fuzz.h"

#include "record.h"
#include "xattr_set.h"

static void read_key(struct slice key)
{
	struct record_key same = { .size = 0 };
	struct slice name = slice_of("", 0);
	uint64_t a = 0, b = 0;
	uint32_t n;
	int rc = -1;

	switch (key.size ? *(const char *)key.data : 0) {
	case RECORD_NAME:
		rc = record_name_parse(key, &a, &name);
		same = rc == 0 ? record_name(a, name) : same;
		break;
	case RECORD_UNPUBLISHED:
		rc = record_name_parse(key, &a, &name);
		same = rc == 0 ? record_unpublished(a, name) : same;
		break;
	case RECORD_SHARED:
		rc = record_shared_parse(key, &a, &b, &name);
		same = rc == 1 ? record_shared_name(a, b, name) :
		       rc == 0 ? record_shared(a) : same;
		break;
	case RECORD_TABLE:
		rc = record_id_parse(key, &a);
		same = rc == 0 ? record_table(a) : same;
		break;
	case RECORD_DOOMED:
		rc = record_id_parse(key, &a);
		same = rc == 0 ? record_doomed(a) : same;
		break;
	case RECORD_CHUNK:
		rc = record_chunk_parse(key, &a, &n);
		same = rc == 0 ? record_chunk(a, n) : same;
		break;
	case RECORD_EXPIRY:
		rc = record_expiry_parse(key, &a, &b, &name);
		same = rc == 0 ? record_expiry(a, b, name) : same;
		break;
	}
	if (rc >= 0)
		CHECK(slice_equal(record_slice(&same), key));
}

/* Each pair is found by its name, and taking one away and putting it back changes nothing. */
static void read_set(struct slice set)
{
	struct slice rest = set, name, value, found;
	struct buffer without = { 0 }, with = { 0 };

	if (xattr_set_check(set) != 0) {
		while (xattr_set_next(&rest, &name, &value) > 0)
			continue;
		return;
	}
	while (xattr_set_next(&rest, &name, &value) > 0) {
		CHECK(xattr_set_find(set, name, &found) == 0 && slice_equal(found, value));
		CHECK(xattr_set_with(set, name, NULL, &without) == 0);
		CHECK(xattr_set_with(buffer_slice(&without), name, &value, &with) == 0);
		CHECK(slice_equal(buffer_slice(&with), set));
	}
	buffer_done(&without);
	buffer_done(&with);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t what = take_byte(&data, &size);
	uint8_t *bytes = malloc(size ? size : 1);
	const struct slice record = slice_of(bytes, size);
	struct chunk chunk;
	uint32_t first;
	uint64_t next;

	if (size)
		memcpy(bytes, data, size);
	if (what == 0)
		read_key(record);
	else if (what == 1)
		read_set(record);
	else if (what == 2)
		(void)chunk_parse(record, 0, &chunk);
	else if (what == 3)
		(void)chunk_parse(record, 65536, &chunk);
	else if (what == 4)
		(void)doomed_parse(record, &first);
	else if (what == 5)
		(void)ids_parse(record, &next);
	free(bytes);
	return 0;
}

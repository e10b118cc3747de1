#include "record.h"

#include <assert.h>
#include <errno.h>

#include "patches.h"

static void add_byte(struct record_key *key, uint8_t byte)
{
	key->bytes[key->size++] = byte;
}

static void add_id(struct record_key *key, uint64_t id)
{
	put64be(key->bytes + key->size, id);
	key->size = (uint16_t)(key->size + 8);
}

static void add_name(struct record_key *key, struct slice name)
{
	assert(name.size <= sizeof(key->bytes) - key->size);
	if (name.size)
		memcpy(key->bytes + key->size, name.data, name.size);
	key->size = (uint16_t)(key->size + name.size);
}

static void begin(struct record_key *key, uint8_t kind)
{
	key->size = 0;
	add_byte(key, kind);
}

struct record_key record_space(uint8_t kind)
{
	struct record_key key;

	begin(&key, kind);
	return key;
}

static struct record_key of_id(uint8_t kind, uint64_t id)
{
	struct record_key key;

	begin(&key, kind);
	add_id(&key, id);
	return key;
}

static struct record_key of_name(uint8_t kind, uint64_t table, struct slice name)
{
	struct record_key key;

	begin(&key, kind);
	add_id(&key, table);
	add_name(&key, name);
	return key;
}

struct record_key record_name(uint64_t table, struct slice name)
{
	return of_name(RECORD_NAME, table, name);
}

struct record_key record_names_of(uint64_t table)
{
	return of_id(RECORD_NAME, table);
}

/* Nothing lies between a key and the same key with a NUL behind it. */
struct record_key record_key_after(const struct record_key *key)
{
	struct record_key after = *key;

	add_byte(&after, 0);
	return after;
}

struct record_key record_name_after(uint64_t table, struct slice after)
{
	const struct record_key key = record_name(table, after);

	return record_key_after(&key);
}

struct record_key record_shared(uint64_t id)
{
	return of_id(RECORD_SHARED, id);
}

struct record_key record_shared_name(uint64_t id, uint64_t table, struct slice name)
{
	struct record_key key = record_shared(id);

	add_id(&key, table);
	add_name(&key, name);
	return key;
}

struct record_key record_at(struct place place)
{
	return place_is_shared(place) ? record_shared(get64be(place.name.data)) :
					record_name(place.table, place.name);
}

struct record_key record_table(uint64_t table)
{
	return of_id(RECORD_TABLE, table);
}

struct record_key record_chunks_of(uint64_t value)
{
	return of_id(RECORD_CHUNK, value);
}

struct record_key record_chunk(uint64_t value, uint32_t chunk)
{
	struct record_key key = record_chunks_of(value);

	put32be(key.bytes + key.size, chunk);
	key.size = (uint16_t)(key.size + 4);
	return key;
}

struct record_key record_doomed(uint64_t value)
{
	return of_id(RECORD_DOOMED, value);
}

struct record_key record_unpublished(uint64_t table, struct slice name)
{
	return of_name(RECORD_UNPUBLISHED, table, name);
}

struct record_key record_expiry(uint64_t expires_ms, uint64_t table, struct slice name)
{
	struct record_key key = of_id(RECORD_EXPIRY, expires_ms);

	add_id(&key, table);
	add_name(&key, name);
	return key;
}

struct record_key record_catalogue(const char *name)
{
	struct record_key key = record_space(RECORD_CATALOGUE);

	add_name(&key, slice_str(name));
	return key;
}

static bool has_zero(uint64_t word)
{
	return (word - 0x0101010101010101) & ~word & 0x8080808080808080;
}

static bool is_forbidden(uint64_t word)
{
	return has_zero(word) || has_zero(word ^ 0x0101010101010101 * '/');
}

/* The last eight bytes; of a shorter name all that it has, some of them twice. */
static uint64_t last_word(const uint8_t *p, size_t size)
{
	if (size >= 8)
		return get64(p + size - 8);
	if (size >= 4)
		return get32(p) | (uint64_t)get32(p + size - 4) << 32;
	return (uint64_t)p[0] * 0x0101010101000001 | (unsigned)p[size / 2] << 8 |
	       (unsigned)p[size - 1] << 16;
}

/* Is there a slash or a NUL? Eight bytes at a time: every name that is read is looked at. */
static bool has_forbidden(struct slice name)
{
	const uint8_t *p = name.data;

	for (size_t i = 0; i + 8 < name.size; i += 8)
		if (is_forbidden(get64(p + i)))
			return true;
	return is_forbidden(last_word(p, name.size));
}

int record_name_check(struct slice name)
{
	const uint8_t *p = name.data;

	if (name.size > STORE_NAME_MAX)
		return -ENAMETOOLONG;
	if (name.size == 0 || has_forbidden(name))
		return -EINVAL;
	if (name.size <= 2 && p[0] == '.' && p[name.size - 1] == '.')
		return -EINVAL;
	return 0;
}

static struct slice behind(struct slice key, size_t offset)
{
	return slice_of((const uint8_t *)key.data + offset, key.size - offset);
}

/* The root's own entry, and nothing else, has table 0 and an empty name. */
static bool place_possible(uint64_t table, struct slice name)
{
	return table == 0 ? name.size == 0 : record_name_check(name) == 0;
}

int record_name_parse(struct slice key, uint64_t *table, struct slice *name)
{
	if (key.size < 9 || !place_possible(get64be((const uint8_t *)key.data + 1), behind(key, 9)))
		return -EUCLEAN;
	*table = get64be((const uint8_t *)key.data + 1);
	*name = behind(key, 9);
	return 0;
}

int record_name_in(struct slice key, uint64_t table, struct slice *name)
{
	const uint8_t *p = key.data;

	if (key.size < 9 || p[0] != RECORD_NAME || get64be(p + 1) != table)
		return 1;
	*name = behind(key, 9);
	return record_name_check(*name) < 0 ? -EUCLEAN : 0;
}

bool record_of_table(struct slice key, uint64_t *table)
{
	const uint8_t *p = key.data;

	if (key.size < 1 + 8 || (p[0] != RECORD_NAME && p[0] != RECORD_TABLE))
		return false;
	*table = get64be(p + 1);
	return true;
}

int record_shared_parse(struct slice key, uint64_t *id, uint64_t *table, struct slice *name)
{
	const uint8_t *p = key.data;

	if (key.size == 9)
		return record_id_parse(key, id);
	if (key.size < 17 || get64be(p + 1) == 0 || get64be(p + 9) == 0 ||
	    record_name_check(behind(key, 17)) < 0)
		return -EUCLEAN;
	*id = get64be(p + 1);
	*table = get64be(p + 9);
	*name = behind(key, 17);
	return 1;
}

static bool expiring_possible(struct place place)
{
	return place.table == 0 ? place_is_shared(place) : record_name_check(place.name) == 0;
}

int record_expiry_parse(struct slice key, uint64_t *expires_ms, uint64_t *table,
			struct slice *name)
{
	const uint8_t *p = key.data;

	if (key.size < 17 || get64be(p + 1) == 0 ||
	    !expiring_possible((struct place){ get64be(p + 9), behind(key, 17) }))
		return -EUCLEAN;
	*expires_ms = get64be(p + 1);
	*table = get64be(p + 9);
	*name = behind(key, 17);
	return 0;
}

int record_chunk_parse(struct slice key, uint64_t *value, uint32_t *chunk)
{
	const uint8_t *p = key.data;

	if (key.size != 13 || get64be(p + 1) == 0)
		return -EUCLEAN;
	*value = get64be(p + 1);
	*chunk = get32be(p + 9);
	return 0;
}

int record_id_parse(struct slice key, uint64_t *id)
{
	const uint8_t *p = key.data;

	if (key.size != 9 || get64be(p + 1) == 0)
		return -EUCLEAN;
	*id = get64be(p + 1);
	return 0;
}

static int chunk_parse_inline(struct slice bytes, struct chunk *out)
{
	if (bytes.size == 0 || bytes.size > STORE_CHUNK)
		return -EUCLEAN;
	*out = (struct chunk){
		.shape = { .kind = CHUNK_INLINE, .used = (uint32_t)bytes.size },
		.bytes = bytes,
	};
	return 0;
}

static int chunk_parse_patched(uint8_t kind, struct slice list, uint32_t run_size,
			       struct chunk *out)
{
	struct patches_sum sum;

	if (run_size > STORE_CHUNK || patches_sum(list, run_size, &sum) < 0 || sum.used == 0)
		return -EUCLEAN;
	*out = (struct chunk){
		.shape = {
			.kind = kind,
			.count = (uint16_t)sum.count,
			.list = (uint32_t)list.size,
			.patched = sum.bytes,
			.used = sum.used,
		},
		.patches = list,
	};
	return 0;
}

int chunk_parse(struct slice value, uint32_t run_size, struct chunk *out)
{
	const uint8_t kind = value.size ? *(const uint8_t *)value.data : 0;

	if ((kind == CHUNK_RUN) != (run_size != 0))
		return -EUCLEAN;
	if (kind == CHUNK_INLINE)
		return chunk_parse_inline(behind(value, 1), out);
	if (kind != CHUNK_RUN && kind != CHUNK_SPARSE)
		return -EUCLEAN;
	return chunk_parse_patched(kind, behind(value, 1), run_size, out);
}

int doomed_parse(struct slice value, uint32_t *first)
{
	if (value.size != DOOMED_SIZE)
		return -EUCLEAN;
	*first = get32(value.data);
	return 0;
}

int ids_parse(struct slice value, uint64_t *next)
{
	if (value.size != IDS_SIZE || get64(value.data) <= STORE_ROOT)
		return -EUCLEAN;
	*next = get64(value.data);
	return 0;
}

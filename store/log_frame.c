#include "log_frame.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "sum.h"

void segment_encode(const struct segment_header *header, uint8_t *to)
{
	assert(header->sequence != 0 && header->number != 0);
	memset(to, 0, SEGMENT_HEADER);
	memcpy(to + SEGMENT_MAGIC, SEGMENT_MAGIC_TEXT, 8);
	put32(to + SEGMENT_VERSION, FORMAT_VERSION);
	put32(to + SEGMENT_SALT, header->salt);
	memcpy(to + SEGMENT_STORE, header->store, STORE_ID_SIZE);
	put64(to + SEGMENT_SEQUENCE, header->sequence);
	put64(to + SEGMENT_NUMBER, header->number);
	put64(to + SEGMENT_REVISION, header->revision);
	put64(to + SEGMENT_CHAIN, header->chain);
	put64(to + SEGMENT_SUM, sum64(to, SEGMENT_SUM));
}

int segment_decode(struct segment_header *header, const uint8_t *from, uint32_t *version)
{
	if (memcmp(from + SEGMENT_MAGIC, SEGMENT_MAGIC_TEXT, 8) != 0 ||
	    get64(from + SEGMENT_SUM) != sum64(from, SEGMENT_SUM))
		return -ENODATA;
	if (get32(from + SEGMENT_VERSION) != FORMAT_VERSION) {
		*version = get32(from + SEGMENT_VERSION);
		return -EPROTONOSUPPORT;
	}
	if (get64(from + SEGMENT_SEQUENCE) == 0 || get64(from + SEGMENT_NUMBER) == 0)
		return -ENODATA;
	*header = (struct segment_header){
		.sequence = get64(from + SEGMENT_SEQUENCE),
		.number = get64(from + SEGMENT_NUMBER),
		.revision = get64(from + SEGMENT_REVISION),
		.chain = get64(from + SEGMENT_CHAIN),
		.salt = get32(from + SEGMENT_SALT),
	};
	memcpy(header->store, from + SEGMENT_STORE, STORE_ID_SIZE);
	return 0;
}

static uint64_t group_sum(const uint8_t *at, uint32_t size)
{
	return sum64(at + GROUP_NUMBER, (size_t)GROUP_HEADER - GROUP_NUMBER + size);
}

uint64_t group_encode(const struct group *group, uint8_t *at)
{
	uint64_t sum;

	assert(group->size != 0 && group->synced < group->number);
	put64(at + GROUP_NUMBER, group->number);
	put64(at + GROUP_SYNCED, group->synced);
	put64(at + GROUP_CHAIN, group->chain);
	put64(at + GROUP_REVISION, group->revision);
	put32(at + GROUP_SALT, group->salt);
	put32(at + GROUP_SIZE, group->size);
	sum = group_sum(at, group->size);
	put64(at + GROUP_SUM, sum);
	return sum;
}

struct group group_peek(const uint8_t *at)
{
	return (struct group){
		.sum = get64(at + GROUP_SUM),
		.number = get64(at + GROUP_NUMBER),
		.synced = get64(at + GROUP_SYNCED),
		.chain = get64(at + GROUP_CHAIN),
		.revision = get64(at + GROUP_REVISION),
		.salt = get32(at + GROUP_SALT),
		.size = get32(at + GROUP_SIZE),
	};
}

bool group_is_whole(const struct group *group, const uint8_t *at)
{
	return group->size != 0 && group->sum == group_sum(at, group->size);
}

int64_t group_count(struct slice batches)
{
	const uint8_t *bytes = batches.data;
	int64_t count = 0;
	size_t offset = 0;

	while (offset < batches.size) {
		const size_t left = batches.size - offset;

		if (left < BATCH_HEADER || get32(bytes + offset) > left - BATCH_HEADER)
			return -EUCLEAN;
		offset += BATCH_HEADER + (size_t)get32(bytes + offset);
		count++;
	}
	return count;
}

bool group_next(struct slice batches, size_t *offset, struct slice *batch)
{
	const uint8_t *bytes = batches.data;

	if (*offset >= batches.size)
		return false;
	*batch = slice_of(bytes + *offset, BATCH_HEADER + (size_t)get32(bytes + *offset));
	*offset += batch->size;
	return true;
}

void witness_encode(const struct witness *witness, const uint8_t *store, uint8_t *to)
{
	assert(witness->number != 0);
	memcpy(to + WITNESS_MAGIC, WITNESS_MAGIC_TEXT, 8);
	memcpy(to + WITNESS_STORE, store, STORE_ID_SIZE);
	put64(to + WITNESS_NUMBER, witness->number);
	put64(to + WITNESS_CHAIN, witness->chain);
	put64(to + WITNESS_FILE, witness->file);
	put64(to + WITNESS_SUM, sum64(to, WITNESS_SUM));
}

int witness_decode(struct witness *witness, const uint8_t *store, const uint8_t *from)
{
	if (memcmp(from + WITNESS_MAGIC, WITNESS_MAGIC_TEXT, 8) != 0 ||
	    get64(from + WITNESS_SUM) != sum64(from, WITNESS_SUM) ||
	    get64(from + WITNESS_NUMBER) == 0 || get64(from + WITNESS_FILE) > SEGMENT_INDEX_MAX)
		return -ENODATA;
	if (memcmp(from + WITNESS_STORE, store, STORE_ID_SIZE) != 0)
		return -EUCLEAN;
	*witness = (struct witness){
		.number = get64(from + WITNESS_NUMBER),
		.chain = get64(from + WITNESS_CHAIN),
		.file = (unsigned)get64(from + WITNESS_FILE),
	};
	return 0;
}

void tail_encode(const struct group *group, const uint8_t *store, uint8_t *to)
{
	memcpy(to + TAIL_MAGIC, TAIL_MAGIC_TEXT, 8);
	memcpy(to + TAIL_STORE, store, STORE_ID_SIZE);
	put64(to + TAIL_NUMBER, group->number);
	put64(to + TAIL_SYNCED, group->synced);
	put64(to + TAIL_CHAIN, group->chain);
	put64(to + TAIL_REVISION, group->revision);
	put64(to + TAIL_SUM, sum64(to, TAIL_SUM));
}

int tail_decode(struct group *group, const uint8_t *store, const uint8_t *from)
{
	if (memcmp(from + TAIL_MAGIC, TAIL_MAGIC_TEXT, 8) != 0 ||
	    memcmp(from + TAIL_STORE, store, STORE_ID_SIZE) != 0 ||
	    get64(from + TAIL_SUM) != sum64(from, TAIL_SUM) ||
	    get64(from + TAIL_SYNCED) >= get64(from + TAIL_NUMBER))
		return -ENODATA;
	*group = (struct group){
		.number = get64(from + TAIL_NUMBER),
		.synced = get64(from + TAIL_SYNCED),
		.chain = get64(from + TAIL_CHAIN),
		.revision = get64(from + TAIL_REVISION),
	};
	return 0;
}

/* Of the record's header; the batches have a sum of their own there. */
static uint64_t record_sum(const uint8_t *at)
{
	return sum64(at + TAIL_RECORD_REVISION, TAIL_RECORD_HEADER - TAIL_RECORD_REVISION);
}

void tail_record_encode(struct slice batches, uint64_t revision, uint8_t *to)
{
	put64(to + TAIL_RECORD_REVISION, revision);
	put64(to + TAIL_RECORD_SIZE, batches.size);
	put64(to + TAIL_RECORD_BATCHES, sum64(batches.data, batches.size));
	put64(to + TAIL_RECORD_SUM, record_sum(to));
}

bool tail_record_next(struct slice tail, size_t *offset, uint64_t *revision, struct slice *batches)
{
	const uint8_t *at = (const uint8_t *)tail.data + *offset;
	const size_t left = tail.size - *offset;
	struct slice found;
	int64_t count;

	if (left < TAIL_RECORD_HEADER || get64(at + TAIL_RECORD_REVISION) != *revision ||
	    get64(at + TAIL_RECORD_SIZE) > left - TAIL_RECORD_HEADER ||
	    get64(at + TAIL_RECORD_SUM) != record_sum(at))
		return false;
	found = slice_of(at + TAIL_RECORD_HEADER, (size_t)get64(at + TAIL_RECORD_SIZE));
	if (get64(at + TAIL_RECORD_BATCHES) != sum64(found.data, found.size))
		return false;
	count = group_count(found);
	if (count <= 0)
		return false;
	*revision += (uint64_t)count;
	*offset += TAIL_RECORD_HEADER + (size_t)group_up(found.size);
	if (*offset > tail.size)
		*offset = tail.size;
	*batches = found;
	return true;
}

#include "batch.h"

#include <errno.h>

#include "mem.h"

enum {
	BATCH_MAX = 1 << 30,		/* bytes; sizes must fit their fields */
	BATCH_USUAL = 512,		/* of most; without growing one by one */
};

/* Room for one operation of `size` bytes, if it can be one; NULL once anything has failed. */
static uint8_t *extend(struct batch *batch, size_t key_size, size_t size)
{
	const size_t first = batch->bytes.size ? 0 : BATCH_HEADER;
	uint8_t *at;

	if (!batch->failed && (key_size == 0 || key_size > UINT16_MAX || size > BATCH_MAX ||
			       batch->bytes.size > BATCH_MAX - size))
		batch->failed = -EINVAL;
	if (!batch->failed)
		batch->failed = buffer_reserve(&batch->bytes, first && first + size < BATCH_USUAL ?
					       BATCH_USUAL : first + size);
	if (batch->failed)
		return NULL;
	at = batch->bytes.data + batch->bytes.size + first;
	batch->bytes.size += first + size;
	put32(batch->bytes.data, (uint32_t)(batch->bytes.size - BATCH_HEADER));
	batch->count++;
	return at;
}

static uint8_t *put_key(uint8_t *at, uint8_t kind, struct slice key)
{
	*at = kind;
	put16(at + 1, (uint16_t)key.size);
	return put_slice(at + 3, key);
}

uint8_t *batch_put_room(struct batch *batch, struct slice key, size_t most)
{
	uint8_t *at = extend(batch, key.size, 3 + key.size + 4 + most);

	if (!at)
		return NULL;
	at = put_key(at, BATCH_PUT, key);
	put32(at, (uint32_t)most);
	return at + 4;
}

void batch_put_done(struct batch *batch, uint8_t *room, size_t size)
{
	put32(room - 4, (uint32_t)size);
	batch->bytes.size = (size_t)(room - batch->bytes.data) + size;
	put32(batch->bytes.data, (uint32_t)(batch->bytes.size - BATCH_HEADER));
}

void batch_put(struct batch *batch, struct slice key, struct slice value)
{
	uint8_t *at = batch_put_room(batch, key, value.size);

	if (at)
		put_slice(at, value);
}

void batch_put_run(struct batch *batch, struct slice key, const struct ref *run,
		   struct slice value)
{
	const uint32_t size = ref_size(run);
	uint8_t *at = extend(batch, key.size, 3 + key.size + 4 + size + value.size);

	if (!at)
		return;
	at = put_key(at, BATCH_PUT_RUN, key);
	put32(at, (uint32_t)(size + value.size));
	ref_encode(run, at + 4);
	put_slice(at + 4 + size, value);
	batch->runs++;
}

void batch_delete(struct batch *batch, struct slice key)
{
	uint8_t *at = extend(batch, key.size, 3 + key.size);

	if (at)
		put_key(at, BATCH_DELETE, key);
}

void batch_patch(struct batch *batch, struct slice key, uint32_t offset, struct slice bytes)
{
	uint8_t *at = extend(batch, key.size, 3 + key.size + 4 + BATCH_PATCH_OFFSET + bytes.size);

	if (!at)
		return;
	at = put_key(at, BATCH_PATCH, key);
	put32(at, (uint32_t)(BATCH_PATCH_OFFSET + bytes.size));
	put32(at + 4, offset);
	put_slice(at + 4 + BATCH_PATCH_OFFSET, bytes);
}

void batch_clear(struct batch *batch)
{
	buffer_clear(&batch->bytes);
	batch->count = batch->runs = 0;
	batch->failed = 0;
}

void batch_done(struct batch *batch)
{
	buffer_done(&batch->bytes);
	*batch = (struct batch){ 0 };
}

/* Behind `op->key`: the size of a value, and the value. Returns how many bytes, or 0 if there are not
 * as many. */
static size_t take_value(const uint8_t *at, size_t left, struct batch_op *op)
{
	uint32_t size, head = 0;

	if (left < 4)
		return 0;
	size = get32(at);
	if (size > left - 4)
		return 0;
	if (op->kind == BATCH_PUT_RUN) {
		if (!ref_decode_run(at + 4, size, &op->run))
			return 0;
		head = ref_size(&op->run);
	} else if (op->kind == BATCH_PATCH) {
		if (size < BATCH_PATCH_OFFSET)
			return 0;
		op->offset = get32(at + 4);
		head = BATCH_PATCH_OFFSET;
	}
	op->value = slice_of(at + 4 + head, size - head);
	return 4 + (size_t)size;
}

int batch_next(struct slice bytes, size_t *offset, struct batch_op *op)
{
	const uint8_t *at;
	size_t left, key_size, taken;

	if (bytes.size < BATCH_HEADER || get32(bytes.data) != bytes.size - BATCH_HEADER ||
	    *offset < BATCH_HEADER || *offset > bytes.size)
		return -EUCLEAN;
	at = (const uint8_t *)bytes.data + *offset;
	left = bytes.size - *offset;
	if (left == 0)
		return 0;
	if (left < 3 || at[0] < BATCH_PUT || at[0] > BATCH_PATCH)
		return -EUCLEAN;
	key_size = get16(at + 1);
	if (key_size == 0 || key_size > left - 3)
		return -EUCLEAN;
	*op = (struct batch_op){ .kind = at[0], .key = slice_of(at + 3, key_size) };
	at += 3 + key_size;
	left -= 3 + key_size;
	taken = op->kind == BATCH_DELETE ? 0 : take_value(at, left, op);
	if (taken == 0 && op->kind != BATCH_DELETE)
		return -EUCLEAN;
	*offset = bytes.size - left + taken;
	return 1;
}

int batch_check(struct slice bytes)
{
	struct batch_op op;
	size_t offset = BATCH_HEADER;
	int rc;

	do
		rc = batch_next(bytes, &offset, &op);
	while (rc > 0);
	return rc < 0 || offset == BATCH_HEADER ? -EUCLEAN : 0;
}

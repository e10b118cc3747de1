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

static uint8_t *put_bytes(uint8_t *at, struct slice s)
{
	if (s.size)
		memcpy(at, s.data, s.size);
	return at + s.size;
}

static uint8_t *put_key(uint8_t *at, uint8_t kind, struct slice key)
{
	*at = kind;
	put16(at + 1, (uint16_t)key.size);
	return put_bytes(at + 3, key);
}

void batch_put(struct batch *batch, struct slice key, struct slice value)
{
	uint8_t *at = extend(batch, key.size, 3 + key.size + 4 + value.size);

	if (!at)
		return;
	at = put_key(at, BATCH_PUT, key);
	put32(at, (uint32_t)value.size);
	put_bytes(at + 4, value);
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
	put_bytes(at + 4 + size, value);
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
	put_bytes(at + 4 + BATCH_PATCH_OFFSET, bytes);
}

void batch_clear(struct batch *batch)
{
	buffer_clear(&batch->bytes);
	batch->count = 0;
	batch->failed = 0;
}

void batch_done(struct batch *batch)
{
	buffer_done(&batch->bytes);
	*batch = (struct batch){ 0 };
}

/* Lends `size` bytes at *offset and moves on, if there are as many. */
static bool take(struct slice bytes, size_t *offset, size_t size, struct slice *out)
{
	if (size > bytes.size - *offset)
		return false;
	*out = slice_of((const uint8_t *)bytes.data + *offset, size);
	*offset += size;
	return true;
}

static bool take_value(struct slice bytes, size_t *offset, struct batch_op *op)
{
	struct slice size, value;
	size_t head = 0;

	if (!take(bytes, offset, 4, &size) || !take(bytes, offset, get32(size.data), &value))
		return false;
	if (op->kind == BATCH_PUT_RUN) {
		if (!ref_decode_run(value.data, value.size, &op->run))
			return false;
		head = ref_size(&op->run);
	} else if (op->kind == BATCH_PATCH) {
		if (value.size < BATCH_PATCH_OFFSET)
			return false;
		op->offset = get32(value.data);
		head = BATCH_PATCH_OFFSET;
	}
	op->value = slice_of((const uint8_t *)value.data + head, value.size - head);
	return true;
}

int batch_next(struct slice bytes, size_t *offset, struct batch_op *op)
{
	struct slice head;
	size_t at = *offset;

	if (bytes.size < BATCH_HEADER || get32(bytes.data) != bytes.size - BATCH_HEADER ||
	    at < BATCH_HEADER || at > bytes.size)
		return -EUCLEAN;
	if (at == bytes.size)
		return 0;
	*op = (struct batch_op){ 0 };
	if (!take(bytes, &at, 3, &head))
		return -EUCLEAN;
	op->kind = *(const uint8_t *)head.data;
	if (op->kind < BATCH_PUT || op->kind > BATCH_PATCH)
		return -EUCLEAN;
	if (!take(bytes, &at, get16((const uint8_t *)head.data + 1), &op->key) || op->key.size == 0)
		return -EUCLEAN;
	if (op->kind != BATCH_DELETE && !take_value(bytes, &at, op))
		return -EUCLEAN;
	*offset = at;
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

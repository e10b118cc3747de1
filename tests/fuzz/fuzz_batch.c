/* Batches, as replay reads them from the log. */
#include "fuzz.h"

#include "batch.h"

static void add(struct batch *batch, const struct batch_op *op)
{
	if (op->kind == BATCH_PUT)
		batch_put(batch, op->key, op->value);
	else if (op->kind == BATCH_PUT_RUN)
		batch_put_run(batch, op->key, &op->run, op->value);
	else if (op->kind == BATCH_PATCH)
		batch_patch(batch, op->key, op->offset, op->value);
	else
		batch_delete(batch, op->key);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *bytes = malloc(size ? size : 1);
	const struct slice given = slice_of(bytes, size);
	struct batch batch = { 0 };
	struct batch_op op;
	size_t offset = BATCH_HEADER;
	int rc;

	if (size)
		memcpy(bytes, data, size);
	if (size >= BATCH_HEADER)
		put32(bytes, (uint32_t)size - BATCH_HEADER);
	while ((rc = batch_next(given, &offset, &op)) > 0)
		add(&batch, &op);
	CHECK((rc == 0 && size > BATCH_HEADER) == (batch_check(given) == 0));
	if (rc == 0 && batch.count && !batch.failed)
		CHECK(slice_equal(buffer_slice(&batch.bytes), given));
	batch_done(&batch);
	free(bytes);
	return 0;
}

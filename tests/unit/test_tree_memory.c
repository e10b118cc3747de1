/* A tree of three levels in no memory at all: what a search reads on its way is kept until it has
 * come to its end. */
#include "tree_kit.h"

enum { DEEP_KEY = 200, DEEP_VALUE = 3000, DEEP_READS = 40 };

/* Reads that are still answered; then none is. */
static int64_t reads_left;
static ssize_t (*real_read)(struct os_file *file, void *bytes, size_t size, uint64_t offset);

static ssize_t counted_read(struct os_file *file, void *bytes, size_t size, uint64_t offset)
{
	return reads_left-- > 0 ? real_read(file, bytes, size, offset) : -EIO;
}

static struct slice deep_key(uint32_t number)
{
	static char key[DEEP_KEY + 1];

	memset(key, 'd', DEEP_KEY - 8);
	sprintf(key + DEEP_KEY - 8, "%08u", number);
	return slice_of(key, DEEP_KEY);
}

static void put_deep(struct bench *b, uint32_t from, uint32_t to)
{
	static const uint8_t value[DEEP_VALUE];
	struct batch batch = { 0 };

	for (uint32_t i = from; i < to; i++) {
		batch_put(&batch, deep_key(i), slice_of(value, sizeof(value)));
		if (i % 16 == 15 || i + 1 == to)
			commit(b, &batch);
	}
	batch_done(&batch);
}

static int is_there(void *arg, const struct leaf_entry *entry)
{
	(void)arg;
	return entry->value.size == DEEP_VALUE ? 0 : -EINVAL;
}

/* Each key is found with a few reads: what was read on the way is not forgotten before the search
 * has come by again. */
static void finds_deep(struct bench *b, struct tree_view *view, uint32_t count)
{
	struct os *os = os_posix();

	real_read = os->read;
	os->read = counted_read;
	for (uint32_t i = 0; i < count; i += 37) {
		int rc;

		reads_left = DEEP_READS;
		rc = view ? tree_view_get(b->tree, view, deep_key(i), is_there, NULL, NULL) :
			    tree_get(b->tree, deep_key(i), is_there, NULL, NULL);
		os->read = rc == 0 ? os->read : real_read;
		assert_int_equal(rc, 0);
	}
	os->read = real_read;
}

static void in_no_memory_a_search_comes_to_its_end(void **state)
{
	struct bench *b = *state;

	b->cache = 1;
	reopen(b);
	put_deep(b, 0, 2000);
	checkpoint(b);
	finds_deep(b, NULL, 2000);
	reopen(b);
	finds_deep(b, NULL, 2000);
}

static int read_from(void *arg, uint64_t generation)
{
	struct bench *b = arg;

	return space_reader_open(b->space, generation, &b->reader);
}

/* The hand goes round a small view more often than round the tree. */
static void nor_is_a_view_read_without_end(void **state)
{
	struct bench *b = *state;
	struct tree_view *view;

	b->cache = 1;
	reopen(b);
	put_deep(b, 0, 1000);
	checkpoint(b);
	assert_int_equal(tree_view_open(b->tree, read_from, b, &view), 0);
	put_deep(b, 1000, 6000);
	checkpoint(b);
	finds_deep(b, view, 1000);
	tree_view_close(b->tree, view);
	space_reader_close(b->space, b->reader);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		STORY(in_no_memory_a_search_comes_to_its_end),
		STORY(nor_is_a_view_read_without_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

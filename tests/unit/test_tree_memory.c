/* A tree of three levels in no memory at all: what a search reads on its way is kept until it has
 * come to its end. */
#include "tree_kit.h"

enum { DEEP_KEY = 200, DEEP_VALUE = 3000, DEEP_READS = 40 };

/* Reads that are still answered; then none is. */
static int64_t reads_left;

static ssize_t counted_read(struct os_file *file, void *bytes, size_t size, uint64_t offset)
{
	return reads_left-- > 0 ? os_posix()->read(file, bytes, size, offset) : -EIO;
}

/* Until the next reopen. */
static void count_reads(void)
{
	machine()->read = counted_read;
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
	count_reads();
	for (uint32_t i = 0; i < count; i += 37) {
		int rc;

		reads_left = DEEP_READS;
		rc = view ? tree_view_get(b->tree, view, deep_key(i), is_there, NULL, NULL) :
			    tree_get(b->tree, deep_key(i), is_there, NULL, NULL);
		assert_int_equal(rc, 0);
	}
	reads_left = INT64_MAX;
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

/* ---- scans ---------------------------------------------------------------------------------- */

enum { ALL = 4000, PER_LEAF = 5, LEAVES = ALL / PER_LEAF, ROOM = 300, HOT = 100 };

static int count_key(void *arg, const struct leaf_entry *entry)
{
	uint32_t *count = arg;

	(*count)++;
	return entry->value.size == DEEP_VALUE ? 0 : -EINVAL;
}

/* Reads from the page file that one scan of everything needs. */
static int64_t scan_reads(struct bench *b)
{
	uint32_t count = 0;

	reads_left = INT32_MAX;
	assert_int_equal(tree_scan(b->tree, slice_of("", 0), count_key, &count, NULL), 0);
	assert_int_equal(count, ALL);
	return INT32_MAX - reads_left;
}

static int64_t hot_reads(struct bench *b)
{
	reads_left = INT32_MAX;
	for (uint32_t i = 0; i < HOT; i++)
		assert_int_equal(tree_get(b->tree, deep_key(i * 20), is_there, NULL, NULL), 0);
	return INT32_MAX - reads_left;
}

/* What is larger than the cache is scanned again and again: all but what finds no room is there
 * each time, and so is what others use. */
static void a_long_scan_drives_out_no_more_than_it_must(void **state)
{
	struct bench *b = *state;
	int64_t first, again;

	b->cache = ROOM * NODE_BYTES;
	reopen(b);
	put_deep(b, 0, ALL);
	checkpoint(b);
	reopen(b);
	count_reads();
	first = scan_reads(b);
	hot_reads(b);
	hot_reads(b);
	scan_reads(b);
	again = scan_reads(b);
	assert_in_range(first, LEAVES, 2 * LEAVES);
	assert_in_range(again, LEAVES - ROOM, first - ROOM / 2);
	assert_int_equal(hot_reads(b), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		STORY(in_no_memory_a_search_comes_to_its_end),
		STORY(nor_is_a_view_read_without_end),
		STORY(a_long_scan_drives_out_no_more_than_it_must),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

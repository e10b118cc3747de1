/* What the kernel knows: listed entries, nodes, and how the ones become the others. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "mem.h"
#include "../../fs/node.h"

static struct nodes nodes;

static int begin(void **state)
{
	const struct attr root = { .id = 1, .mode = S_IFDIR | 0755 };
	(void)state;

	return nodes_init(&nodes, &root);
}

/* Whoever tests gives back everything. */
static int end(void **state)
{
	uint64_t made, freed = nodes_freed(&nodes, &made);
	(void)state;

	nodes_done(&nodes);
	return made == freed + 1 ? 0 : -1;
}

static struct attr attr_of(uint64_t id)
{
	return (struct attr){
		.id = id, .mode = S_IFREG | 0640, .uid = 7, .gid = 8, .links = 1, .size = 100,
		.version = 5, .expires_ms = 1234, .mtime_ns = 99,
	};
}

static struct place place_of(const char *name)
{
	return (struct place){ 1, slice_str(name) };
}

static struct node *meet(uint64_t id, const char *name)
{
	const struct attr attr = attr_of(id);
	struct node *node;

	assert_int_equal(nodes_meet(&nodes, place_of(name), &attr, &node), 0);
	return node;
}

static struct node *list(uint64_t id, const char *name)
{
	const struct attr attr = attr_of(id);
	struct node *node;

	assert_int_equal(nodes_list(&nodes, place_of(name), &attr, &node), 0);
	return node;
}

static struct node *found(uint64_t id)
{
	struct node *node;

	assert_int_equal(nodes_find(&nodes, id, &node), 0);
	return node;
}

static void assert_at(const struct node *node, uint64_t id, const char *name)
{
	assert_int_equal(node->id, id);
	assert_int_equal(node_place(node).table, 1);
	assert_true(slice_equal(node_place(node).name, slice_str(name)));
}

static void what_is_met_has_a_node(void **state)
{
	struct node *node = meet(2, "two");
	(void)state;

	assert_at(node, 2, "two");
	assert_ptr_equal(found(2), node);
	assert_ptr_equal(list(2, "two"), node);
	assert_null(found(3));
	nodes_forget(&nodes, node, 1);
	assert_ptr_equal(found(2), node);
	nodes_forget_id(&nodes, 2, 1);
	assert_null(found(2));
}

static void what_is_listed_has_none_until_somebody_asks(void **state)
{
	struct node *node;
	(void)state;

	assert_null(list(2, "two"));
	assert_null(list(2, "two"));
	node = found(2);
	assert_at(node, 2, "two");
	assert_int_equal(node->attr.mode, S_IFREG | 0640);
	assert_int_equal(node->attr.uid, 7);
	assert_int_equal(node->attr.gid, 8);
	assert_int_equal(node->attr.expires_ms, 1234);
	assert_true(node->attr.version != 0);
	assert_false(node->attr.unpublished);
	assert_ptr_equal(found(2), node);
	nodes_forget_id(&nodes, 2, 1);
	assert_ptr_equal(found(2), node);	/* it was listed twice */
	nodes_forget_id(&nodes, 2, 1);
	assert_null(found(2));
}

static void what_was_listed_last_counts(void **state)
{
	struct attr attr = attr_of(2);
	struct node *node;
	(void)state;

	list(2, "two");
	attr.mode = S_IFREG | 0600;
	attr.version = 0;
	attr.unpublished = true;
	assert_int_equal(nodes_list(&nodes, place_of("two"), &attr, &node), 0);
	node = found(2);
	assert_int_equal(node->attr.mode, S_IFREG | 0600);
	assert_int_equal(node->attr.version, 0);
	assert_true(node->attr.unpublished);
	nodes_forget(&nodes, node, 2);
}

static void what_is_listed_is_forgotten_without_a_node(void **state)
{
	uint64_t made;
	(void)state;

	list(2, "two");
	list(2, "two");
	nodes_forget_id(&nodes, 2, 2);
	assert_int_equal(nodes_freed(&nodes, &made), 1);
	assert_int_equal(made, 2);		/* with the root */
	assert_null(found(2));
	nodes_forget_id(&nodes, 2, 1);		/* the kernel errs: nothing happens */
}

static void meeting_what_was_listed_makes_a_node_of_it(void **state)
{
	struct node *node;
	(void)state;

	list(2, "two");
	node = meet(2, "two");
	assert_at(node, 2, "two");
	assert_int_equal(node->attr.size, 100);
	nodes_forget(&nodes, node, 1);
	assert_ptr_equal(found(2), node);
	nodes_forget(&nodes, node, 1);
	assert_null(found(2));
}

static void a_pin_outlives_the_kernels_interest(void **state)
{
	struct node *node;
	(void)state;

	list(2, "two");
	assert_int_equal(nodes_with(&nodes, 2, &node), 0);
	nodes_forget_id(&nodes, 2, 1);
	assert_at(node, 2, "two");
	nodes_unpin(&nodes, node);
	assert_null(found(2));
	assert_int_equal(nodes_with(&nodes, 2, &node), 0);
	assert_null(node);
}

/* It may lose the name that it was listed under: its node is at none. */
static void a_shared_entry_always_has_a_node(void **state)
{
	struct attr attr = attr_of(2);
	struct node *node;
	(void)state;

	attr.shared = true;
	assert_int_equal(nodes_list(&nodes, place_of("two"), &attr, &node), 0);
	assert_non_null(node);
	assert_true(node_shared(node));
	nodes_forget(&nodes, node, 1);
}

static void without_memory_nothing_is_lost(void **state)
{
	const struct attr attr = attr_of(3);
	struct node *node;
	(void)state;

	list(2, "two");
	mem_fail_after(0, 1);
	assert_int_equal(nodes_find(&nodes, 2, &node), -ENOMEM);
	assert_null(node);
	assert_int_equal(nodes_with(&nodes, 2, &node), -ENOMEM);
	assert_int_equal(nodes_meet(&nodes, place_of("three"), &attr, &node), -ENOMEM);
	assert_int_equal(nodes_list(&nodes, place_of("three"), &attr, &node), -ENOMEM);
	mem_fail_after(-1, 0);
	assert_at(found(2), 2, "two");
	assert_null(found(3));
	nodes_forget_id(&nodes, 2, 1);
}

/* Names of every length, and more entries than one round of the table. */
static void many_are_found_again(void **state)
{
	enum { MANY = 5000 };
	char name[STORE_NAME_MAX + 1];
	(void)state;

	memset(name, 'n', sizeof(name));
	for (uint64_t id = 2; id < MANY; id++) {
		const struct attr attr = attr_of(id);
		const struct place place = { 1, slice_of(name, id % STORE_NAME_MAX + 1) };
		struct node *node;

		assert_int_equal(nodes_list(&nodes, place, &attr, &node), 0);
	}
	for (uint64_t id = 2; id < MANY; id += 2) {
		assert_int_equal(found(id)->id, id);
		assert_int_equal(node_place(found(id)).name.size, id % STORE_NAME_MAX + 1);
	}
	for (uint64_t id = 2; id < MANY; id++)
		nodes_forget_id(&nodes, id, 1);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)
	const struct CMUnitTest tests[] = {
		TEST(what_is_met_has_a_node),
		TEST(what_is_listed_has_none_until_somebody_asks),
		TEST(what_was_listed_last_counts),
		TEST(what_is_listed_is_forgotten_without_a_node),
		TEST(meeting_what_was_listed_makes_a_node_of_it),
		TEST(a_pin_outlives_the_kernels_interest),
		TEST(a_shared_entry_always_has_a_node),
		TEST(without_memory_nothing_is_lost),
		TEST(many_are_found_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "node.h"

#include <assert.h>
#include <errno.h>

#include "mem.h"

#define NODE_OF(link) ((struct node *)((char *)(link) - offsetof(struct node, by_id)))

struct place node_place(const struct node *node)
{
	return (struct place){ node->table, { node->name, node->name_size } };
}

/* Ids are handed out one after the other, and are their own hashes, so that neighbours stay
 * neighbours: a listing finds their buckets, and what hangs there, in the processor's cache. */
static struct node *find(struct nodes *nodes, uint64_t id) NEEDS(nodes->lock)
{
	struct hash_link *link = hash_first(&nodes->by_id, id);

	return link ? NODE_OF(link) : NULL;
}

static struct node *node_new(struct place place, const struct attr *attr)
{
	struct node *node = mem_zalloc(sizeof(*node) + place.name.size);

	if (!node)
		return NULL;
	if (place.name.size)
		memcpy(node->first_name, place.name.data, place.name.size);
	node->id = attr->id;
	node->table = place.table;
	node->name = node->first_name;
	node->name_size = (uint8_t)place.name.size;
	node->attr = *attr;
	node->default_ttl_ms = TTL_UNKNOWN;
	mutex_init(&node->lock);
	return node;
}

static void free_name(struct node *node)
{
	if (node->name != node->first_name)
		mem_free(node->name);
}

static void node_free(struct node *node)
{
	if (!node)
		return;
	draft_close(node->draft);
	mutex_done(&node->lock);
	buffer_done(&node->xattrs);
	free_name(node);
	mem_free(node);
}

/* Takes the node off the list of drafted ones. */
static void unlist(struct nodes *nodes, struct node *node) NEEDS(nodes->lock)
{
	if (node->prev)
		node->prev->next = node->next;
	else
		nodes->drafted = node->next;
	if (node->next)
		node->next->prev = node->prev;
}

/* Takes a node that nobody holds any more out of the table, for the caller to free once the lock
 * is given back; NULL if somebody does. */
static struct node *take_unheld(struct nodes *nodes, struct node *node) NEEDS(nodes->lock)
{
	if (node->lookups || node->pins)
		return NULL;
	hash_remove(&nodes->by_id, &node->by_id);
	if (atomic_load(&node->draft))
		unlist(nodes, node);
	nodes->freed++;
	return node;
}

int nodes_init(struct nodes *nodes, const struct attr *root)
{
	struct node *node = node_new(PLACE_ROOT, root);
	int rc;

	*nodes = (struct nodes){ 0 };
	mutex_init(&nodes->lock);
	rc = hash_init(&nodes->by_id);
	if (rc == 0 && !node)
		rc = -ENOMEM;
	if (rc < 0) {
		node_free(node);
		nodes_done(nodes);
		return rc;
	}
	node->pins = 1;
	mutex_lock(&nodes->lock);
	hash_insert(&nodes->by_id, &node->by_id, node->id);
	mutex_unlock(&nodes->lock);
	return 0;
}

static void free_all(struct hash *by_id)
{
	for (size_t i = 0; by_id->buckets && i < by_id->round + by_id->split; i++)
		while (by_id->buckets[i]) {
			struct node *node = NODE_OF(by_id->buckets[i]);

			by_id->buckets[i] = node->by_id.next;
			node_free(node);
		}
}

void nodes_done(struct nodes *nodes)
{
	free_all(&nodes->by_id);
	hash_done(&nodes->by_id);
	mutex_done(&nodes->lock);
}

struct node *nodes_find(struct nodes *nodes, uint64_t id)
{
	struct node *node;

	mutex_lock(&nodes->lock);
	node = find(nodes, id);
	mutex_unlock(&nodes->lock);
	return node;
}

/* Makes the node of what was found at `place`; NULL if there is no memory. */
static struct node *insert_new(struct nodes *nodes, struct place place, const struct attr *attr)
	NEEDS(nodes->lock)
{
	uint8_t name[STORE_SHARED_NAME];
	struct node *node =
		node_new(attr->shared ? place_shared(attr->id, name) : place, attr);

	if (!node)
		return NULL;
	hash_insert(&nodes->by_id, &node->by_id, node->id);
	nodes->made++;
	return node;
}

int nodes_meet(struct nodes *nodes, struct place place, const struct attr *attr,
	       struct node **out)
{
	struct node *node;
	bool known;

	mutex_lock(&nodes->lock);
	node = find(nodes, attr->id);
	known = node != NULL;
	if (!known)
		node = insert_new(nodes, place, attr);
	if (node)
		node->lookups++;
	mutex_unlock(&nodes->lock);
	if (!node)
		return -ENOMEM;
	if (known) {
		mutex_lock(&node->lock);
		node->attr = *attr;
		mutex_unlock(&node->lock);
	}
	*out = node;
	return 0;
}

struct node *nodes_with(struct nodes *nodes, uint64_t id)
{
	struct node *node;

	mutex_lock(&nodes->lock);
	node = find(nodes, id);
	if (node)
		node->pins++;
	mutex_unlock(&nodes->lock);
	return node;
}

/* Takes references back from the kernel; returns the node if it is to be freed. */
static struct node *take_back(struct nodes *nodes, struct node *node, uint64_t count)
	NEEDS(nodes->lock)
{
	node->lookups -= count < node->lookups ? count : node->lookups;
	return take_unheld(nodes, node);
}

void nodes_forget(struct nodes *nodes, struct node *node, uint64_t count)
{
	mutex_lock(&nodes->lock);
	node = take_back(nodes, node, count);
	mutex_unlock(&nodes->lock);
	node_free(node);
}

void nodes_forget_id(struct nodes *nodes, uint64_t id, uint64_t count)
{
	struct node *node;

	mutex_lock(&nodes->lock);
	node = find(nodes, id);
	if (node)
		node = take_back(nodes, node, count);
	mutex_unlock(&nodes->lock);
	node_free(node);
}

uint64_t nodes_freed(struct nodes *nodes, uint64_t *made)
{
	uint64_t freed;

	mutex_lock(&nodes->lock);
	freed = nodes->freed;
	if (made)
		*made = nodes->made;
	mutex_unlock(&nodes->lock);
	return freed;
}

void nodes_pin(struct nodes *nodes, struct node *node)
{
	mutex_lock(&nodes->lock);
	node->pins++;
	mutex_unlock(&nodes->lock);
}

void nodes_unpin(struct nodes *nodes, struct node *node)
{
	if (!node)
		return;
	mutex_lock(&nodes->lock);
	assert(node->pins);
	node->pins--;
	node = take_unheld(nodes, node);
	mutex_unlock(&nodes->lock);
	node_free(node);
}

void node_move(struct node *node, uint64_t table, uint8_t *name, uint8_t name_size)
{
	free_name(node);
	node->table = table;
	node->name = name;
	node->name_size = name_size;
}

void node_gone(struct node *node)
{
	node->gone = true;
}

void node_set_draft(struct nodes *nodes, struct node *node, struct draft *draft)
{
	mutex_lock(&nodes->lock);
	node->prev = NULL;
	node->next = nodes->drafted;
	if (node->next)
		node->next->prev = node;
	nodes->drafted = node;
	atomic_store(&node->draft, draft);
	mutex_unlock(&nodes->lock);
}

struct draft *node_take_draft(struct nodes *nodes, struct node *node)
{
	struct draft *draft = atomic_load(&node->draft);

	if (!draft)
		return NULL;
	mutex_lock(&nodes->lock);
	unlist(nodes, node);
	atomic_store(&node->draft, NULL);
	atomic_store(&node->written_ns, 0);
	mutex_unlock(&nodes->lock);
	return draft;
}

struct node *nodes_written_before(struct nodes *nodes, uint64_t limit_ns, uint64_t *oldest_ns)
{
	struct node *node;
	uint64_t oldest = 0;

	mutex_lock(&nodes->lock);
	for (node = nodes->drafted; node; node = node->next) {
		const uint64_t ns = atomic_load(&node->written_ns);

		if (ns && ns <= limit_ns) {
			node->pins++;
			break;
		}
		if (ns && (!oldest || ns < oldest))
			oldest = ns;
	}
	mutex_unlock(&nodes->lock);
	if (!node && oldest_ns)
		*oldest_ns = oldest;
	return node;
}

struct node *nodes_drafted(struct nodes *nodes)
{
	struct node *node;

	mutex_lock(&nodes->lock);
	node = nodes->drafted;
	if (node)
		node->pins++;
	mutex_unlock(&nodes->lock);
	return node;
}

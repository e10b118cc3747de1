#include "node.h"

#include <assert.h>
#include <errno.h>

#include "mem.h"

/* What was shown of an entry: enough for a node. */
struct listed {
	struct known known;
	uint64_t table;
	uint64_t expires_ms;
	uint32_t mode, uid, gid;
	uint8_t has_version : 1, unpublished : 1;
	uint8_t name_size;
	uint8_t name[];
};

static uint64_t id_of(const struct known *known)
{
	return known->by_id.hash;
}

static struct listed *listed_of(struct known *known)
{
	return (struct listed *)known;
}

static struct node *node_of(struct known *known)
{
	return (struct node *)known;
}

struct place node_place(const struct node *node)
{
	return (struct place){ node->table, { node->name, node->name_size } };
}

/* Ids are handed out one after the other, and are their own hashes, so that neighbours stay
 * neighbours: a listing finds their buckets, and what hangs there, in the processor's cache. */
static struct known *find(struct nodes *nodes, uint64_t id) NEEDS(nodes->lock)
{
	return (struct known *)hash_first(&nodes->by_id, id);
}

static void insert(struct nodes *nodes, struct known *known, uint64_t id) NEEDS(nodes->lock)
{
	hash_insert(&nodes->by_id, &known->by_id, id);
	nodes->made++;
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

static void known_free(struct known *known)
{
	if (known && known->listed)
		mem_free(known);
	else
		node_free(node_of(known));
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

/* Takes what nobody holds any more out of the table, for the caller to free once the lock is given
 * back; NULL if somebody does. */
static struct known *take_unheld(struct nodes *nodes, struct known *known) NEEDS(nodes->lock)
{
	if (known->lookups || (!known->listed && node_of(known)->pins))
		return NULL;
	hash_remove(&nodes->by_id, &known->by_id);
	if (!known->listed && atomic_load(&node_of(known)->draft))
		unlist(nodes, node_of(known));
	nodes->freed++;
	return known;
}

/* Makes a node of what was listed, which it takes the place of. NULL if there is no memory. */
static struct node *become_node(struct nodes *nodes, struct listed *listed) NEEDS(nodes->lock)
{
	const struct attr attr = {
		.id = id_of(&listed->known),
		.mode = listed->mode,
		.uid = listed->uid,
		.gid = listed->gid,
		.version = listed->has_version,
		.unpublished = listed->unpublished,
		.expires_ms = listed->expires_ms,
	};
	const struct place place = { listed->table, { listed->name, listed->name_size } };
	struct node *node = node_new(place, &attr);

	if (!node)
		return NULL;
	node->known.lookups = listed->known.lookups;
	hash_remove(&nodes->by_id, &listed->known.by_id);
	hash_insert(&nodes->by_id, &node->known.by_id, node->id);
	mem_free(listed);
	return node;
}

static struct node *node_at(struct nodes *nodes, struct known *known) NEEDS(nodes->lock)
{
	return known->listed ? become_node(nodes, listed_of(known)) : node_of(known);
}

/* Finds the node of an entry that is known, and pins it so often. */
static int get(struct nodes *nodes, uint64_t id, unsigned pins, struct node **out)
{
	struct known *known;
	struct node *node = NULL;

	mutex_lock(&nodes->lock);
	known = find(nodes, id);
	if (known)
		node = node_at(nodes, known);
	if (node)
		node->pins += pins;
	mutex_unlock(&nodes->lock);
	*out = node;
	return known && !node ? -ENOMEM : 0;
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
	insert(nodes, &node->known, node->id);
	mutex_unlock(&nodes->lock);
	return 0;
}

static void free_all(struct hash *by_id)
{
	for (size_t i = 0; by_id->buckets && i < by_id->round + by_id->split; i++)
		while (by_id->buckets[i]) {
			struct known *known = (struct known *)by_id->buckets[i];

			by_id->buckets[i] = known->by_id.next;
			known_free(known);
		}
}

void nodes_done(struct nodes *nodes)
{
	free_all(&nodes->by_id);
	hash_done(&nodes->by_id);
	mutex_done(&nodes->lock);
}

int nodes_find(struct nodes *nodes, uint64_t id, struct node **out)
{
	return get(nodes, id, 0, out);
}

int nodes_with(struct nodes *nodes, uint64_t id, struct node **out)
{
	return get(nodes, id, 1, out);
}

/* Makes the node of what was found at `place`; NULL if there is no memory. */
static struct node *insert_node(struct nodes *nodes, struct place place, const struct attr *attr)
	NEEDS(nodes->lock)
{
	uint8_t name[STORE_SHARED_NAME];
	struct node *node =
		node_new(attr->shared ? place_shared(attr->id, name) : place, attr);

	if (node)
		insert(nodes, &node->known, node->id);
	return node;
}

static void listed_show(struct listed *listed, const struct attr *attr)
{
	listed->mode = attr->mode;
	listed->uid = attr->uid;
	listed->gid = attr->gid;
	listed->expires_ms = attr->expires_ms;
	listed->has_version = attr->version != 0;
	listed->unpublished = attr->unpublished;
}

static struct listed *insert_listed(struct nodes *nodes, struct place place,
				    const struct attr *attr) NEEDS(nodes->lock)
{
	struct listed *listed = mem_alloc(sizeof(*listed) + place.name.size);

	if (!listed)
		return NULL;
	listed->known.listed = 1;
	listed->known.lookups = 0;
	listed->table = place.table;
	listed->name_size = (uint8_t)place.name.size;
	if (place.name.size)
		memcpy(listed->name, place.name.data, place.name.size);
	listed_show(listed, attr);
	insert(nodes, &listed->known, attr->id);
	return listed;
}

int nodes_meet(struct nodes *nodes, struct place place, const struct attr *attr,
	       struct node **out)
{
	struct known *known;
	struct node *node;
	bool is_new;

	mutex_lock(&nodes->lock);
	known = find(nodes, attr->id);
	is_new = !known;
	if (is_new)
		node = insert_node(nodes, place, attr);
	else
		node = node_at(nodes, known);
	if (node)
		node->known.lookups++;
	mutex_unlock(&nodes->lock);
	if (!node)
		return -ENOMEM;
	if (!is_new)
		node_see(node, attr);
	*out = node;
	return 0;
}

int nodes_list(struct nodes *nodes, struct place place, const struct attr *attr,
	       struct node **out)
{
	struct known *known;

	if (attr->shared)	/* it may lose the name that it is listed under */
		return nodes_meet(nodes, place, attr, out);
	*out = NULL;
	mutex_lock(&nodes->lock);
	known = find(nodes, attr->id);
	if (!known)
		known = (struct known *)insert_listed(nodes, place, attr);
	else if (known->listed)
		listed_show(listed_of(known), attr);
	else
		*out = node_of(known);
	if (known)
		known->lookups++;
	mutex_unlock(&nodes->lock);
	if (*out)
		node_see(*out, attr);
	return known ? 0 : -ENOMEM;
}

/* Takes references back from the kernel; returns what is to be freed. */
static struct known *take_back(struct nodes *nodes, struct known *known, uint64_t count)
	NEEDS(nodes->lock)
{
	const uint64_t lookups = known->lookups;

	known->lookups = lookups > count ? (lookups - count) & UINT64_MAX >> 1 : 0;
	return take_unheld(nodes, known);
}

void nodes_forget(struct nodes *nodes, struct node *node, uint64_t count)
{
	struct known *unheld;

	mutex_lock(&nodes->lock);
	unheld = take_back(nodes, &node->known, count);
	mutex_unlock(&nodes->lock);
	known_free(unheld);
}

void nodes_forget_id(struct nodes *nodes, uint64_t id, uint64_t count)
{
	struct known *known;

	mutex_lock(&nodes->lock);
	known = find(nodes, id);
	if (known)
		known = take_back(nodes, known, count);
	mutex_unlock(&nodes->lock);
	known_free(known);
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

uint64_t nodes_drafts(struct nodes *nodes, bool *any)
{
	uint64_t drafts;

	mutex_lock(&nodes->lock);
	drafts = nodes->drafts;
	if (any)
		*any = nodes->drafted != NULL;
	mutex_unlock(&nodes->lock);
	return drafts;
}

void nodes_pin(struct nodes *nodes, struct node *node)
{
	mutex_lock(&nodes->lock);
	node->pins++;
	mutex_unlock(&nodes->lock);
}

void nodes_unpin(struct nodes *nodes, struct node *node)
{
	struct known *unheld;

	if (!node)
		return;
	mutex_lock(&nodes->lock);
	assert(node->pins);
	node->pins--;
	unheld = take_unheld(nodes, &node->known);
	mutex_unlock(&nodes->lock);
	known_free(unheld);
}

void node_see(struct node *node, const struct attr *attr)
{
	mutex_lock(&node->lock);
	node->attr = *attr;
	mutex_unlock(&node->lock);
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
	nodes->drafts++;
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

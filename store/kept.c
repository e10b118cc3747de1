#include "kept.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "format.h"
#include "locks.h"
#include "mem.h"

enum {
	DEAD_PER_BLOCK = (KEPT_BLOCK - KEPT_HEADER) / DEAD_SIZE,
	WORK_OFF = 128,			/* blocks of a dropped one's list to a checkpoint */
	BLOCK_UNITS = KEPT_BLOCK / UNIT,
};

/* All of them, the oldest first. */
struct snapshots {
	struct kept_snapshot *items;
	size_t count;
	struct ref list;		/* the first block on disk */
};

struct kept {
	struct pages *pages;
	struct space *space;
	struct mutex lock;		/* guards `now` */
	struct snapshots now;		/* as the last superblock has them */
	struct snapshots next;		/* the checkpoint's, as that under way will have them */
	_Atomic uint64_t list_units;	/* that the list of `now` takes; 0: there are none */
	atomic_bool pending;
};

/* ---- blocks ----------------------------------------------------------------------------- */

static void encode_header(uint8_t *block, uint32_t magic, uint32_t count, const struct ref *next)
{
	put32(block + KEPT_MAGIC, magic);
	put32(block + KEPT_COUNT, count);
	ref_encode(next, block + KEPT_NEXT);
}

/* Reads a block of a list to `block`, of KEPT_BLOCK bytes. */
static int read_block(struct pages *pages, const struct ref *ref, uint32_t magic, uint8_t *block,
		      uint32_t *count, struct ref *next, struct err *err)
{
	int rc = ref->length < KEPT_HEADER || ref->length > KEPT_BLOCK ? -EUCLEAN :
			pages_read(pages, ref, block, err);

	if (rc == 0) {
		*count = get32(block + KEPT_COUNT);
		*next = ref_decode(block + KEPT_NEXT);
	}
	if (rc == 0 && (get32(block + KEPT_MAGIC) != magic || *count == 0))
		rc = -EUCLEAN;
	if (rc == -EUCLEAN)
		err_set(err, rc, FILE_PAGES ": the list of snapshots at offset %" PRIu64
			" makes no sense", ref->offset);
	return rc;
}

static int write_block(struct kept *kept, uint64_t generation, struct slice block,
		       struct ref *out)
{
	struct ref ref = { .length = (uint32_t)block.size };
	int rc = space_alloc(kept->space, ref_units(&ref), &ref.offset);

	if (rc < 0)
		return rc;
	rc = pages_write(kept->pages, ref.offset, generation, block, &ref);
	if (rc == 0)
		rc = space_take(kept->space, &ref);
	if (rc < 0)
		space_give_back(kept->space, &ref);
	else
		*out = ref;
	return rc;
}

/* No snapshot's tree names a list's block. */
static int drop_block(struct kept *kept, const struct ref *ref)
{
	struct extent e = extent_of(ref);

	e.birth = EXTENT_UNBORN;
	return space_drop(kept->space, e);
}

/* ---- the list --------------------------------------------------------------------------- */

static uint32_t record_size(const struct kept_snapshot *s)
{
	return KEPT_RECORD_NAME + s->name_size;
}

/* `dead` is the first block of its list, unless the superblock has that. */
static void encode_record(const struct kept_snapshot *s, const struct ref *dead, uint8_t *to)
{
	put64(to + KEPT_RECORD_GENERATION, s->generation);
	put64(to + KEPT_RECORD_REVISION, s->revision);
	put64(to + KEPT_RECORD_CREATED, s->created_ns);
	put64(to + KEPT_RECORD_ENTRIES, s->entries);
	ref_encode(&s->root, to + KEPT_RECORD_ROOT);
	ref_encode(dead, to + KEPT_RECORD_DEAD);
	to[KEPT_RECORD_DROPPED] = s->dropped;
	to[KEPT_RECORD_NAME_SIZE] = s->name_size;
	memcpy(to + KEPT_RECORD_NAME, s->name, s->name_size);
}

/* Returns its size, or -EUCLEAN. */
static int decode_record(struct slice bytes, uint64_t units, struct kept_snapshot *s)
{
	const uint8_t *from = bytes.data;

	if (bytes.size < KEPT_RECORD_NAME)
		return -EUCLEAN;
	*s = (struct kept_snapshot){
		.generation = get64(from + KEPT_RECORD_GENERATION),
		.revision = get64(from + KEPT_RECORD_REVISION),
		.created_ns = get64(from + KEPT_RECORD_CREATED),
		.entries = get64(from + KEPT_RECORD_ENTRIES),
		.root = ref_decode(from + KEPT_RECORD_ROOT),
		.dead = ref_decode(from + KEPT_RECORD_DEAD),
		.dropped = from[KEPT_RECORD_DROPPED],
		.name_size = from[KEPT_RECORD_NAME_SIZE],
	};
	if (s->name_size == 0 || from[KEPT_RECORD_DROPPED] > 1 ||
	    s->name_size > bytes.size - KEPT_RECORD_NAME ||
	    (s->root.length && !ref_plausible(&s->root, units)) ||
	    (s->dead.length && !ref_plausible(&s->dead, units)) ||
	    s->root.generation > s->generation)
		return -EUCLEAN;
	memcpy(s->name, from + KEPT_RECORD_NAME, s->name_size);
	return (int)record_size(s);
}

/* The newest that is kept, older than `before`; NULL: there is none. */
static struct kept_snapshot *newest(const struct snapshots *all, uint64_t before)
{
	for (size_t i = all->count; i-- > 0;)
		if (!all->items[i].dropped && all->items[i].generation < before)
			return &all->items[i];
	return NULL;
}

/* Its blocks, the last one first: each refers to the one behind it. */
static int write_list(struct kept *kept, uint64_t generation, uint8_t *block)
{
	struct snapshots *all = &kept->next;
	const struct kept_snapshot *youngest = newest(all, UINT64_MAX);
	const struct ref nowhere = { 0 };
	struct ref next = nowhere;
	size_t left = all->count;
	int rc = 0;

	while (rc == 0 && left > 0) {
		uint32_t size = KEPT_HEADER, count = 0;

		while (left > 0 && size + record_size(&all->items[left - 1]) <= KEPT_BLOCK) {
			const struct kept_snapshot *s = &all->items[--left];

			encode_record(s, s == youngest ? &nowhere : &s->dead, block + size);
			size += record_size(s);
			count++;
		}
		encode_header(block, KEPT_MAGIC_LIST, count, &next);
		rc = write_block(kept, generation, slice_of(block, size), &next);
	}
	if (rc == 0)
		all->list = next;
	return rc;
}

/* The old list's blocks are not needed any more. */
static int drop_list(struct kept *kept, uint8_t *block)
{
	struct ref at = kept->now.list;
	int rc = 0;

	while (rc == 0 && at.length) {
		struct ref next;
		uint32_t count;

		rc = read_block(kept->pages, &at, KEPT_MAGIC_LIST, block, &count, &next, NULL);
		if (rc == 0)
			rc = drop_block(kept, &at);
		at = next;
	}
	return rc;
}

/* ---- reading the list ------------------------------------------------------------------- */

/* Records of one block: the youngest first. */
static int decode_list(struct kept *kept, struct slice block, uint32_t count,
		       const struct super *super)
{
	struct snapshots *all = &kept->now;
	size_t at = KEPT_HEADER;

	for (uint32_t i = 0; i < count; i++) {
		struct kept_snapshot *s = &all->items[all->count];
		int size;

		if (all->count == SNAPSHOTS_MAX)
			return -EUCLEAN;
		size = decode_record(slice_of((const uint8_t *)block.data + at, block.size - at),
				     super->units, s);
		if (size < 0 || s->generation > super->generation)
			return -EUCLEAN;
		at += (size_t)size;
		all->count++;
	}
	return at == block.size ? 0 : -EUCLEAN;
}

/* In a block the youngest comes first; the first block has the oldest. */
static int compare(const void *a, const void *b)
{
	const struct kept_snapshot *left = a, *right = b;

	return (left->generation > right->generation) - (left->generation < right->generation);
}

static int sort(struct snapshots *all)
{
	qsort(all->items, all->count, sizeof(*all->items), compare);
	for (size_t i = 1; i < all->count; i++)
		if (all->items[i].generation == all->items[i - 1].generation)
			return -EUCLEAN;
	return 0;
}

static int read_list(struct kept *kept, const struct super *super, struct err *err)
{
	uint8_t *block = mem_alloc(KEPT_BLOCK);
	struct ref at = super->snapshots;
	int rc = block ? 0 : -ENOMEM;

	while (rc == 0 && at.length) {
		struct ref next;
		uint32_t count;

		rc = read_block(kept->pages, &at, KEPT_MAGIC_LIST, block, &count, &next, err);
		if (rc == 0)
			rc = decode_list(kept, slice_of(block, at.length), count, super);
		if (rc == -EUCLEAN)
			err_set(err, rc, FILE_PAGES ": the list of snapshots at offset %" PRIu64
				" makes no sense", at.offset);
		at = next;
	}
	mem_free(block);
	if (rc == 0 && sort(&kept->now) < 0)
		rc = err_set(err, -EUCLEAN, FILE_PAGES ": the list of snapshots at offset %" PRIu64
			     " has two of one generation", super->snapshots.offset);
	return rc;
}

/* What everybody may ask without the lock. */
static void publish(struct kept *kept)
{
	uint64_t bytes = 0;
	bool pending = false;

	for (size_t i = 0; i < kept->now.count; i++) {
		bytes += record_size(&kept->now.items[i]);
		pending |= kept->now.items[i].dropped;
	}
	/* Each block has less than one record's room left. */
	bytes /= KEPT_BLOCK - KEPT_HEADER - KEPT_RECORD_NAME - SNAPSHOT_NAME_MAX;
	atomic_store(&kept->list_units, kept->now.count ? (bytes + 1) * BLOCK_UNITS : 0);
	atomic_store(&kept->pending, pending);
}

int kept_open(struct pages *pages, struct space *space, const struct super *super,
	      struct kept **out, struct err *err)
{
	struct kept *kept = mem_zalloc(sizeof(*kept));
	struct kept_snapshot *youngest;
	int rc;

	if (!kept)
		return -ENOMEM;
	mutex_init(&kept->lock);
	kept->pages = pages;
	kept->space = space;
	kept->now.list = super->snapshots;
	if (super->snapshots.length) {
		kept->now.items = mem_alloc(SNAPSHOTS_MAX * sizeof(*kept->now.items));
		rc = kept->now.items ? read_list(kept, super, err) : -ENOMEM;
	} else {
		rc = 0;
	}
	youngest = newest(&kept->now, UINT64_MAX);
	if (youngest)
		youngest->dead = super->dead;
	publish(kept);
	if (rc < 0)
		kept_close(kept);
	else
		*out = kept;
	return rc;
}

void kept_close(struct kept *kept)
{
	if (!kept)
		return;
	mem_free(kept->now.items);
	mem_free(kept->next.items);
	mutex_done(&kept->lock);
	mem_free(kept);
}

/* ---- lists of the dead ------------------------------------------------------------------ */

/* The end of one list that grows: a block that is not full yet, in memory. */
struct tail {
	struct kept *kept;
	uint64_t generation;		/* of the checkpoint */
	struct kept_snapshot *of;	/* NULL: nothing was added yet */
	uint32_t count;
	uint8_t *block;			/* KEPT_BLOCK bytes */
};

/* Writes the block, as the first of its list. */
static int flush(struct tail *tail)
{
	int rc;

	if (!tail->of || !tail->count)
		return 0;
	encode_header(tail->block, KEPT_MAGIC_DEAD, tail->count, &tail->of->dead);
	rc = write_block(tail->kept, tail->generation,
			 slice_of(tail->block, KEPT_HEADER + tail->count * DEAD_SIZE),
			 &tail->of->dead);
	tail->count = 0;
	return rc;
}

static uint32_t dead_count(const struct ref *ref)
{
	return (ref->length - KEPT_HEADER) / DEAD_SIZE;
}

static int read_dead(struct kept *kept, const struct ref *ref, uint8_t *block, uint32_t *count,
		     struct ref *next, struct err *err)
{
	int rc = read_block(kept->pages, ref, KEPT_MAGIC_DEAD, block, count, next, err);

	if (rc == 0 && ref->length != KEPT_HEADER + (uint64_t)*count * DEAD_SIZE)
		rc = err_set(err, -EUCLEAN, FILE_PAGES ": the list of the dead at offset %" PRIu64
			     " makes no sense", ref->offset);
	return rc;
}

/* Goes on with the list of `of`: with its first block, if that has room. */
static int turn_to(struct tail *tail, struct kept_snapshot *of)
{
	const struct ref first = of->dead;
	int rc = flush(tail);

	tail->of = of;
	tail->count = 0;
	if (rc < 0 || first.length <= KEPT_HEADER || dead_count(&first) >= DEAD_PER_BLOCK)
		return rc;
	rc = read_dead(tail->kept, &first, tail->block, &tail->count, &of->dead, NULL);
	return rc == 0 ? drop_block(tail->kept, &first) : rc;
}

static int add_dead(struct tail *tail, struct kept_snapshot *of, struct extent e)
{
	uint8_t *to;
	int rc = 0;

	if (tail->of != of)
		rc = turn_to(tail, of);
	if (rc == 0 && tail->count == DEAD_PER_BLOCK)
		rc = flush(tail);
	if (rc < 0)
		return rc;
	to = tail->block + KEPT_HEADER + tail->count++ * DEAD_SIZE;
	put64(to + DEAD_FIRST, e.first);
	put64(to + DEAD_BIRTH, e.birth);
	put32(to + DEAD_COUNT, e.count);
	return 0;
}

static struct extent dead_at(const uint8_t *block, uint32_t index)
{
	const uint8_t *from = block + KEPT_HEADER + index * DEAD_SIZE;

	return (struct extent){
		get64(from + DEAD_FIRST), get64(from + DEAD_BIRTH), get32(from + DEAD_COUNT),
	};
}

/* Works off the first block of a dropped snapshot's list. `older` is the next older one that is
 * kept, or NULL. `block` is another than the tail's. */
static int work_off_block(struct tail *tail, struct kept_snapshot *dropped,
			  struct kept_snapshot *older, uint8_t *block)
{
	const struct ref first = dropped->dead;
	struct ref next;
	uint32_t count;
	int rc = read_dead(tail->kept, &first, block, &count, &next, NULL);

	for (uint32_t i = 0; rc == 0 && i < count; i++) {
		const struct extent e = dead_at(block, i);

		if (older && e.birth <= older->generation)
			rc = add_dead(tail, older, e);
		else
			rc = space_drop(tail->kept->space, e);
	}
	if (rc == 0)
		rc = drop_block(tail->kept, &first);
	dropped->dead = next;
	return rc;
}

static struct kept_snapshot *first_dropped(const struct snapshots *all)
{
	for (size_t i = 0; i < all->count; i++)
		if (all->items[i].dropped)
			return &all->items[i];
	return NULL;
}

/* One of them in a checkpoint, so that no list grows twice; and no more of it than there is room
 * for what joins the older one's. */
static int work_off(struct tail *tail, struct kept_snapshot *dropped)
{
	struct snapshots *all = &tail->kept->next;
	struct kept_snapshot *older = newest(all, dropped->generation);
	struct space_stats space;
	uint8_t *block = mem_alloc(KEPT_BLOCK);
	uint64_t blocks;
	int rc = block ? 0 : -ENOMEM;

	space_stats(tail->kept->space, &space);
	blocks = 1 + space.quad_units / (4 * BLOCK_UNITS);
	if (blocks > WORK_OFF)
		blocks = WORK_OFF;
	while (rc == 0 && dropped->dead.length && blocks-- > 0)
		rc = work_off_block(tail, dropped, older, block);
	mem_free(block);
	return rc;
}

static void remove_item(struct snapshots *all, struct kept_snapshot *item)
{
	const size_t behind = (size_t)(all->items + all->count-- - (item + 1));

	memmove(item, item + 1, behind * sizeof(*item));
}

/* ---- checkpoints ------------------------------------------------------------------------ */

static int copy_now(struct kept *kept)
{
	const size_t count = kept->now.count;

	assert(!kept->next.items);
	kept->next = kept->now;
	kept->next.items = mem_alloc((count + 1) * sizeof(*kept->next.items));
	if (!kept->next.items)
		return -ENOMEM;
	if (count)
		memcpy(kept->next.items, kept->now.items, count * sizeof(*kept->next.items));
	return 0;
}

static bool is_named(const struct kept_snapshot *s, struct slice name)
{
	return !s->dropped && slice_equal(slice_of(s->name, s->name_size), name);
}

static void drop(struct snapshots *all, struct slice name)
{
	for (size_t i = 0; i < all->count; i++)
		if (is_named(&all->items[i], name)) {
			all->items[i].dropped = true;
			all->items[i].root = (struct ref){ 0 };
		}
}

struct keeping {
	struct tail *tail;
	struct kept_snapshot *of;
};

static int keep(void *arg, struct extent e)
{
	struct keeping *k = arg;

	return add_dead(k->tail, k->of, e);
}

/* Divides the dead among the lists and those that go. */
static int store_dead(struct tail *tail)
{
	struct snapshots *all = &tail->kept->next;
	struct kept_snapshot *dropped = first_dropped(all);
	struct keeping k = { tail, newest(all, UINT64_MAX) };
	int rc = dropped ? work_off(tail, dropped) : 0;

	if (rc == 0 && k.of)
		rc = space_keep(tail->kept->space, k.of->generation, keep, &k);
	if (rc == 0)
		rc = flush(tail);
	if (rc == 0 && dropped && !dropped->dead.length)
		remove_item(all, dropped);
	return rc;
}

static void create(struct snapshots *all, const struct kept_snapshot *snapshot,
		   uint64_t generation, const struct super *super)
{
	struct kept_snapshot *s = &all->items[all->count++];

	*s = *snapshot;
	s->generation = generation;
	s->revision = super->mark.revision;
	s->root = super->root;
	s->entries = super->entries;
	s->dead = (struct ref){ 0 };
	s->dropped = false;
}

/* Whatever the list says but for the newest one's dead, which the superblock says, too. */
static int store_list(struct kept *kept, uint64_t generation, const struct kept_change *change,
		      uint8_t *block, struct super *super)
{
	struct snapshots *all = &kept->next;
	const bool changed = change->create || change->drop.size || atomic_load(&kept->pending);
	int rc = changed ? drop_list(kept, block) : 0;

	if (change->create)
		create(all, change->create, generation, super);
	all->list = changed ? (struct ref){ 0 } : all->list;
	if (rc == 0 && changed)
		rc = write_list(kept, generation, block);
	super->snapshots = all->list;
	super->dead = (struct ref){ 0 };
	if (newest(all, UINT64_MAX))
		super->dead = newest(all, UINT64_MAX)->dead;
	return rc;
}

int kept_store(struct kept *kept, uint64_t generation, const struct kept_change *change,
	       struct super *super)
{
	const struct kept_change none = { 0 };
	struct tail tail = { .kept = kept, .generation = generation };
	int rc;

	super->snapshots = super->dead = (struct ref){ 0 };
	change = change ? change : &none;
	rc = copy_now(kept);
	if (rc < 0 || (!kept->now.count && !change->create))
		return rc;
	if (change->drop.size)
		drop(&kept->next, change->drop);
	tail.block = mem_alloc(KEPT_BLOCK);
	rc = tail.block ? store_dead(&tail) : -ENOMEM;
	if (rc == 0)
		rc = store_list(kept, generation, change, tail.block, super);
	mem_free(tail.block);
	return rc;
}

void kept_undo(struct kept *kept)
{
	mem_free(kept->next.items);
	kept->next = (struct snapshots){ 0 };
}

void kept_durable(struct kept *kept)
{
	struct kept_snapshot *old;

	mutex_lock(&kept->lock);
	old = kept->now.items;
	kept->now = kept->next;
	kept->next = (struct snapshots){ 0 };
	publish(kept);
	mutex_unlock(&kept->lock);
	mem_free(old);
}

/* ---- looking ---------------------------------------------------------------------------- */

int kept_each(struct kept *kept, int (*visit)(void *arg, const struct kept_snapshot *snapshot),
	      void *arg)
{
	int rc = 0;

	mutex_lock(&kept->lock);
	for (size_t i = 0; rc == 0 && i < kept->now.count; i++)
		rc = visit(arg, &kept->now.items[i]);
	mutex_unlock(&kept->lock);
	return rc;
}

int kept_find(struct kept *kept, struct slice name,
	      int (*visit)(void *arg, const struct kept_snapshot *snapshot), void *arg)
{
	int rc = -ENOENT;

	mutex_lock(&kept->lock);
	for (size_t i = 0; i < kept->now.count; i++)
		if (is_named(&kept->now.items[i], name)) {
			rc = visit(arg, &kept->now.items[i]);
			break;
		}
	mutex_unlock(&kept->lock);
	return rc;
}

bool kept_pending(struct kept *kept)
{
	return atomic_load(&kept->pending);
}

uint64_t kept_newest(struct kept *kept)
{
	const struct kept_snapshot *s;
	uint64_t generation;

	mutex_lock(&kept->lock);
	s = newest(&kept->now, UINT64_MAX);
	generation = s ? s->generation : 0;
	mutex_unlock(&kept->lock);
	return generation;
}

uint64_t kept_units(struct kept *kept, uint64_t deaths)
{
	const uint64_t list = atomic_load(&kept->list_units);

	/* The list; the first blocks of two lists of the dead again, and what is added to each. */
	return list ? list + (4 + deaths / DEAD_PER_BLOCK) * BLOCK_UNITS : 0;
}

static int walk_dead(struct kept *kept, const struct kept_snapshot *s, uint8_t *block,
		     int (*own)(void *arg, const struct ref *ref),
		     int (*dead)(void *arg, const struct kept_snapshot *snapshot,
				 struct extent extent),
		     void *arg, struct err *err)
{
	struct ref at = s->dead;
	int rc = 0;

	while (rc == 0 && at.length) {
		struct ref next = { 0 };
		uint32_t count;

		rc = own(arg, &at);
		if (rc == 0)
			rc = read_dead(kept, &at, block, &count, &next, err);
		for (uint32_t i = 0; rc == 0 && i < count; i++)
			rc = dead(arg, s, dead_at(block, i));
		at = next;
	}
	return rc;
}

int kept_walk(struct kept *kept, int (*own)(void *arg, const struct ref *ref),
	      int (*dead)(void *arg, const struct kept_snapshot *snapshot, struct extent extent),
	      void *arg, struct err *err)
{
	uint8_t *block = mem_alloc(KEPT_BLOCK);
	struct ref at = kept->now.list;
	int rc = block ? 0 : -ENOMEM;

	while (rc == 0 && at.length) {
		struct ref next = { 0 };
		uint32_t count;

		rc = own(arg, &at);
		if (rc == 0)
			rc = read_block(kept->pages, &at, KEPT_MAGIC_LIST, block, &count, &next,
					err);
		at = next;
	}
	for (size_t i = 0; rc == 0 && i < kept->now.count; i++)
		rc = walk_dead(kept, &kept->now.items[i], block, own, dead, arg, err);
	mem_free(block);
	return rc;
}

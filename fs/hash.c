#include "hash.h"

#include <assert.h>
#include <errno.h>

#include "mem.h"

enum {
	FIRST_ROUND = 64,
	EMPTY = 4,	/* buckets to a link: then it shrinks, by as many for each link that goes */
};

int hash_init(struct hash *table)
{
	*table = (struct hash){ .capacity = FIRST_ROUND, .round = FIRST_ROUND };
	table->buckets = mem_zalloc(FIRST_ROUND * sizeof(*table->buckets));
	return table->buckets ? 0 : -ENOMEM;
}

void hash_done(struct hash *table)
{
	mem_free(table->buckets);
	*table = (struct hash){ 0 };
}

static struct hash_link **bucket_of(const struct hash *table, uint64_t hash)
{
	size_t i = hash & (table->round * 2 - 1);

	if (i >= table->round + table->split)
		i = hash & (table->round - 1);
	return &table->buckets[i];
}

/* Without memory the chains grow longer instead. */
static int make_room(struct hash *table)
{
	struct hash_link **more;

	if (table->round + table->split < table->capacity)
		return 0;
	more = mem_realloc(table->buckets, 2 * table->capacity * sizeof(*more));
	if (!more)
		return -ENOMEM;
	table->buckets = more;
	table->capacity *= 2;
	return 0;
}

static void split_one(struct hash *table)
{
	struct hash_link **low, **high, *link, *next;

	if (make_room(table) < 0)
		return;
	low = &table->buckets[table->split];
	high = &table->buckets[table->round + table->split];
	*high = NULL;
	link = *low;
	*low = NULL;
	for (; link; link = next) {
		struct hash_link **to = link->hash & table->round ? high : low;

		next = link->next;
		link->next = *to;
		*to = link;
	}
	if (++table->split == table->round) {
		table->round *= 2;
		table->split = 0;
	}
}

/* The array may stay as it is. */
static void give_room_back(struct hash *table)
{
	struct hash_link **fewer;

	if (table->capacity == FIRST_ROUND || table->round + table->split > table->capacity / 4)
		return;
	fewer = mem_realloc(table->buckets, table->capacity / 2 * sizeof(*fewer));
	if (!fewer)
		return;
	table->buckets = fewer;
	table->capacity /= 2;
}

/* Undoes the last split. */
static void merge_one(struct hash *table)
{
	struct hash_link **end;

	if (table->split == 0) {
		if (table->round == FIRST_ROUND)
			return;
		table->round /= 2;
		table->split = table->round;
	}
	table->split--;
	end = &table->buckets[table->split];
	while (*end)
		end = &(*end)->next;
	*end = table->buckets[table->round + table->split];
	give_room_back(table);
}

void hash_insert(struct hash *table, struct hash_link *link, uint64_t hash)
{
	struct hash_link **bucket;

	if (++table->count > table->round + table->split)
		split_one(table);
	bucket = bucket_of(table, hash);
	link->hash = hash;
	link->next = *bucket;
	*bucket = link;
}

void hash_remove(struct hash *table, struct hash_link *link)
{
	struct hash_link **at = bucket_of(table, link->hash);

	while (*at != link) {
		assert(*at);
		at = &(*at)->next;
	}
	*at = link->next;
	table->count--;
	for (int i = 0; i < EMPTY && table->count * EMPTY < table->round + table->split; i++)
		merge_one(table);
}

static struct hash_link *skip_to(struct hash_link *link, uint64_t hash)
{
	while (link && link->hash != hash)
		link = link->next;
	return link;
}

struct hash_link *hash_first(const struct hash *table, uint64_t hash)
{
	return skip_to(*bucket_of(table, hash), hash);
}

struct hash_link *hash_next(const struct hash_link *link)
{
	return skip_to(link->next, link->hash);
}

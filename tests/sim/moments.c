#include "sim/moments.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "sim/medium.h"

struct event {
	uint32_t commit;
	struct what what;
};

/* What a key held since when, oldest first. */
struct past {
	struct event *at;
	uint32_t count, room;
};

/* ---- bytes ----------------------------------------------------------------------------- */

struct slice moments_key(uint32_t key)
{
	static _Thread_local char text[MOMENTS_KEY_MAX + 1];
	size_t size = (size_t)snprintf(text, sizeof(text), "k%u", key * 7919 % 100003);

	if (key % 13 == 0) {
		const size_t more = key * 31 % (MOMENTS_KEY_MAX - 16);

		memset(text + size, '.', more);
		size += more;
	}
	return slice_of(text, size);
}

struct slice moments_name(uint32_t name)
{
	static const char *const names[MOMENTS_NAMES] = { "one", "two", "three", "four" };

	return slice_str(names[name]);
}

enum { STARTS = 4096 };

static uint8_t pool[MOMENTS_VALUE_MAX + STARTS];
static pthread_once_t pool_once = PTHREAD_ONCE_INIT;

/* Random bytes and words, in turn. */
static void fill_pool(void)
{
	static const char words[] =
		"{\"name\": \"some value\", \"size\": 17, \"kind\": \"plain\"} ";
	uint64_t random = 1;

	for (size_t i = 0; i < sizeof(pool); i++)
		pool[i] = i / 3000 % 2 ? (uint8_t)chance(&random) :
			  (uint8_t)words[i % (sizeof(words) - 1)];
}

static const uint8_t *rest_of(uint32_t stamp)
{
	pthread_once(&pool_once, fill_pool);
	return pool + stamp * 97 % STARTS;
}

void moments_fill(uint8_t *to, uint32_t stamp, uint32_t size)
{
	uint8_t head[4];

	put32(head, stamp);
	if (size)
		memcpy(to, rest_of(stamp), size);
	memcpy(to, head, size < sizeof(head) ? size : sizeof(head));
}

static bool match(struct slice bytes, uint32_t stamp, uint32_t size)
{
	const size_t head_size = size < 4 ? size : 4;
	const uint8_t *from = bytes.data;
	uint8_t head[4];

	put32(head, stamp);
	return bytes.size == size &&
	       (size == 0 ||
		(memcmp(from, head, head_size) == 0 &&
		 memcmp(from + head_size, rest_of(stamp) + head_size, size - head_size) == 0));
}

bool moments_match_value(struct slice value, struct what what)
{
	return what.bytes ? slice_equal(value, slice_of(what.bytes, what.size)) :
	       match(value, what.stamp, what.size);
}

bool moments_match_run(struct slice run, struct what what)
{
	return match(run, what.stamp, what.run_size);
}

/* ---- moments --------------------------------------------------------------------------- */

static int compare_keys(const void *a, const void *b)
{
	char text[MOMENTS_KEY_MAX];
	const struct slice x = moments_key(*(const uint32_t *)a);

	memcpy(text, x.data, x.size);
	return slice_compare(slice_of(text, x.size), moments_key(*(const uint32_t *)b));
}

void moments_init(struct moments *m, uint32_t keys)
{
	*m = (struct moments){ .keys = keys };
	m->order = sim_alloc(keys * sizeof(uint32_t));
	m->pasts = sim_alloc(keys * sizeof(struct past));
	memset(m->pasts, 0, keys * sizeof(struct past));
	for (uint32_t k = 0; k < keys; k++)
		m->order[k] = k;
	qsort(m->order, keys, sizeof(uint32_t), compare_keys);
}

/* Leaves out the first `count` events of a key. */
static void drop_first(struct past *p, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		free(p->at[i].what.bytes);
	p->count -= count;
	if (count && p->count)
		memmove(p->at, p->at + count, p->count * sizeof(struct event));
}

static void drop_last(struct past *p)
{
	free(p->at[--p->count].what.bytes);
}

void moments_done(struct moments *m)
{
	for (uint32_t k = 0; m->pasts && k < m->keys; k++) {
		drop_first(&m->pasts[k], m->pasts[k].count);
		free(m->pasts[k].at);
	}
	free(m->pasts);
	free(m->order);
	*m = (struct moments){ 0 };
}

void moments_set(struct moments *m, uint32_t commit, uint32_t key, struct what what)
{
	struct past *p = &m->pasts[key];

	if (p->count && p->at[p->count - 1].commit == commit)
		drop_last(p);
	if (p->count == p->room) {
		p->room = p->room ? p->room * 2 : 4;
		p->at = sim_realloc(p->at, p->room * sizeof(struct event));
	}
	p->at[p->count++] = (struct event){ commit, what };
}

void moments_patch(struct moments *m, uint32_t commit, uint32_t key, uint32_t offset,
		   struct slice bytes)
{
	const struct what old = moments_get(m, commit, key);
	const uint32_t end = offset + (uint32_t)bytes.size;
	struct what what = old;

	what.size = end > old.size ? end : old.size;
	what.bytes = sim_alloc(what.size);
	if (old.bytes)
		memcpy(what.bytes, old.bytes, old.size);
	else
		moments_fill(what.bytes, old.stamp, old.size);
	memcpy(what.bytes + offset, bytes.data, bytes.size);
	moments_set(m, commit, key, what);
}

struct what moments_get(const struct moments *m, uint32_t commit, uint32_t key)
{
	const struct past *p = &m->pasts[key];
	uint32_t i = p->count;

	while (i > 0 && p->at[i - 1].commit > commit)
		i--;
	return i > 0 ? p->at[i - 1].what : (struct what){ 0 };
}

void moments_forget(struct moments *m, uint32_t commit)
{
	for (uint32_t n = 0; n < MOMENTS_NAMES; n++) {
		const struct keeping *k = &m->kept[n];

		commit = k->since && k->since - 1 < commit ? k->since - 1 : commit;
		commit = k->tried && k->tried - 1 < commit ? k->tried - 1 : commit;
	}
	for (uint32_t k = 0; k < m->keys; k++) {
		const struct past *p = &m->pasts[k];
		uint32_t old = 0;

		while (old + 1 < p->count && p->at[old + 1].commit <= commit)
			old++;
		drop_first(&m->pasts[k], old);
	}
}

void moments_cut(struct moments *m, uint32_t commit)
{
	for (uint32_t k = 0; k < m->keys; k++)
		while (m->pasts[k].count &&
		       m->pasts[k].at[m->pasts[k].count - 1].commit > commit)
			drop_last(&m->pasts[k]);
}

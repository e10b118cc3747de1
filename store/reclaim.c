/* Deletes the chunks of doomed values, a bounded number to a batch, so that removing a huge value
 * costs as little as removing a small one.
 *
 * A value doomed as a whole that nobody holds can never be named or held again, so its chunks go
 * without our lock. One of which only the end is to go still has a name and may grow again, so
 * that is done under the lock (value_finish_cut). */
#include <errno.h>

#include "mem.h"
#include "value.h"

enum {
	DOOMED_PAGE = 64,	/* records looked at together */
	CUT_STEP = 256,		/* ... and that go under one lock, where it needs ours */
};

struct doomed_page {
	uint64_t values[DOOMED_PAGE];
	int count;
};

static int visit_doomed(void *arg, const struct engine_entry *entry)
{
	struct doomed_page *page = arg;
	int rc;

	if (page->count == DOOMED_PAGE)
		return 1;
	rc = record_id_parse(entry->key, &page->values[page->count]);
	if (rc == 0)
		page->count++;
	return rc;
}

/* Says whether all chunks of the value may go. That it was doomed a moment ago means nothing: it
 * may have been under way, and be published by now. Goes on with a cut on the way, and returns how
 * many chunks that took away. */
static int check_locked(struct store *store, uint64_t value, int max, bool *whole)
	NEEDS(store->lock)
{
	uint32_t first;
	int rc = doomed_read(store, value, &first);

	*whole = rc == 0 && first == 0 && !value_held(store, value);
	if (rc == 0 && first)
		rc = value_cut_step(store, value, max < CUT_STEP ? max : CUT_STEP);
	return rc == -ENOENT ? 0 : rc;
}

static int check_unlocked(struct store *store, uint64_t value, int max, bool *whole)
	WITHOUT(store->lock)
{
	int rc;

	mutex_lock(&store->lock);
	rc = check_locked(store, value, max, whole);
	mutex_unlock(&store->lock);
	return rc;
}

/* One of the two above. */
typedef int doomed_check(struct store *store, uint64_t value, int max, bool *whole);

/* So many chunks are no longer waited for. They may hold less than they could, and two may count
 * the same ones: then the sum is too small until the next value is doomed, and never too large. */
static void count_gone(struct store *store, int chunks)
{
	const uint64_t gone = (uint64_t)chunks * STORE_CHUNK;
	unsigned long long before = atomic_load(&store->doomed);

	while (!atomic_compare_exchange_weak(&store->doomed, &before,
					     before > gone ? before - gone : 0))
		;
}

/* Returns how many chunks are gone, up to `max`. */
static int reclaim_one(struct store *store, doomed_check *check, uint64_t value, int max)
{
	bool whole;
	int total = 0, want, rc = check(store, value, max, &whole);

	if (rc < 0 || !whole)
		return rc;
	do {
		want = max - total < RECLAIM_STEP ? max - total : RECLAIM_STEP;
		rc = chunks_delete(store, value, 0, want, true);
		if (rc < 0)
			return rc;
		count_gone(store, rc);
		total += rc;
	} while (rc == want && total < max);
	return total;
}

static int reclaim_page(struct store *store, doomed_check *check,
			const struct doomed_page *page, int max)
{
	int total = 0;

	for (int i = 0; i < page->count && total < max; i++) {
		const int rc = reclaim_one(store, check, page->values[i], max - total);

		if (rc < 0)
			return rc;
		total += rc;
	}
	return total;
}

static int reclaim(struct store *store, doomed_check *check, int max)
{
	const struct record_key space = record_space(RECORD_DOOMED);
	struct record_key from = space;
	struct doomed_page page;
	int rc, total = 0;

	do {
		page.count = 0;
		rc = records_scan(store->engine, record_slice(&from), record_slice(&space),
				  visit_doomed, &page);
		if (rc >= 0)
			rc = reclaim_page(store, check, &page, max - total);
		if (rc < 0)
			return rc;
		total += rc;
		if (page.count)
			from = record_doomed(page.values[page.count - 1] + 1);
	} while (page.count == DOOMED_PAGE && total < max);
	return total;
}

int store_reclaim(struct store *store, int max)
{
	return reclaim(store, check_unlocked, max);
}

int reclaim_locked(struct store *store)
{
	return reclaim(store, check_locked, RECLAIM_STEP);
}

/* ---- the thread ------------------------------------------------------------------------------ */

void reclaim_wake(struct store *store)
{
	store->reclaim_pending = true;
	pthread_cond_signal(&store->reclaim_wanted);
}

/* Waits for something to do; false: it is time to end. */
static bool reclaim_wait(struct store *store)
{
	bool stop;

	mutex_lock(&store->lock);
	while (!store->reclaim_pending && !store->reclaim_stop)
		mutex_sleep(&store->lock, &store->reclaim_wanted);
	store->reclaim_pending = false;
	stop = store->reclaim_stop;
	mutex_unlock(&store->lock);
	return !stop;
}

static bool reclaim_stopping(struct store *store)
{
	bool stop;

	mutex_lock(&store->lock);
	stop = store->reclaim_stop;
	mutex_unlock(&store->lock);
	return stop;
}

/* An error is not ours to report: whatever is wrong, the next change will meet it too, and the
 * records stay until the next removal or opening. */
static void *reclaim_run(void *arg)
{
	struct store *store = arg;

	while (reclaim_wait(store))
		while (!reclaim_stopping(store) && store_reclaim(store, RECLAIM_STEP) > 0)
			continue;
	return NULL;
}

int reclaim_start(struct store *store)
{
	const int rc = pthread_create(&store->reclaimer, NULL, reclaim_run, store);

	if (rc)
		return -rc;
	store->reclaim_runs = true;
	mutex_lock(&store->lock);
	reclaim_wake(store);	/* what the last process left behind */
	mutex_unlock(&store->lock);
	return 0;
}

void reclaim_join(struct store *store)
{
	if (!store->reclaim_runs)
		return;
	mutex_lock(&store->lock);
	store->reclaim_stop = true;
	pthread_cond_signal(&store->reclaim_wanted);
	mutex_unlock(&store->lock);
	pthread_join(store->reclaimer, NULL);
	store->reclaim_runs = false;
}

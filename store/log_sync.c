/* log_sync.c - who leads a sync, who waits for it, who is told.
 *
 * One sync is under way at a time. Its life:
 *
 *     idle --find_part--> open --sync_close--> closed --sync_end--> idle, or
 *                          ^                               |
 *                          '--- handed to the next leader -'
 *
 * While it is open, whoever comes joins it. Once it is closed, whoever needs a later one forms
 * the next: the first of them stands still until the lead is handed on, all others leave a
 * waiter behind, or sleep on the word of the next sync. That word is announced once, to all, and
 * no sleeper takes a lock when it wakes.
 */
#include <assert.h>
#include <errno.h>
#include <linux/futex.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "log_state.h"

/* ---- small things ---------------------------------------------------------------------- */

static void queue_push(struct queue *q, struct log_waiter *w)
{
	w->next = NULL;
	if (!q->first)
		q->end = &q->first;
	*q->end = w;
	q->end = &w->next;
}

static struct log_waiter *queue_take(struct queue *q)
{
	struct log_waiter *first = q->first;

	q->first = NULL;
	return first;
}

/* Calls them back, in order. The waiter is its owner's again as soon as it is called. */
static void tell_all(struct log_waiter *w, int rc)
{
	while (w) {
		struct log_waiter *next = w->next;

		w->done(w, rc);
		w = next;
	}
}

/* Is counter `a` at or beyond `b`? They wrap around. */
static bool reached(uint32_t a, uint32_t b)
{
	return (int32_t)(a - b) >= 0;
}

/* Sleeps until the word reaches `n`. */
static void await(atomic_uint *word, uint32_t n)
{
	for (;;) {
		const uint32_t seen = atomic_load(word);

		if (reached(seen, n))
			return;
		syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
	}
}

static void wake(atomic_uint *word, int sleepers)
{
	syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, sleepers, NULL, NULL, 0);
}

/* ---- syncing --------------------------------------------------------------------------- */

static bool is_synced(const struct log *log, uint64_t revision) NEEDS(log->lock)
{
	return revision <= log->synced && revision < log->barrier &&
	       revision < log->barrier_syncing;
}

static bool will_be_synced(const struct log *log, uint64_t revision) NEEDS(log->lock)
{
	return log->syncing && (log->open || (revision <= log->covered && revision < log->barrier));
}

/* Opens a sync, for whoever leads it. Those who waited for it have now joined it. */
static void sync_open(struct log *log) NEEDS(log->lock)
{
	log->syncing = true;
	log->open = true;
	log->sync++;
	log->joined = log->waiting;
	log->waiting = (struct queue){ 0 };
}

static void sync_close(struct log *log) NEEDS(log->lock)
{
	log->open = false;
	log->covered = log->revision;
	log->barrier_syncing = log->barrier;
	log->barrier = NO_BARRIER;
}

/* Takes the segments that were written, for syncing; later writes gather in the other list. */
static struct segment *take_dirty(struct log *log, struct witness *last)
	NEEDS(log->baton) NEEDS(log->lock)
{
	struct segment *list = log->dirty[log->collects];

	for (struct segment *s = list; s; s = s->next_dirty[log->collects])
		s->dirty = false;
	log->dirty[log->collects] = NULL;
	log->collects ^= 1;
	log->align = true;
	*last = (struct witness){ log->number - 1, log->chain, log->current->index };
	return list;
}

/* In the order in which they were written, so that what is there is a prefix of history. */
static int sync_segments(struct log *log, struct segment *list, unsigned parity)
{
	int rc = log->options.before_sync ? log->options.before_sync(log->options.arg) : 0;

	if (rc < 0)
		return log_die(log, rc, "syncing what the log relies on", "");
	for (struct segment *s = list; s; s = s->next_dirty[parity]) {
		rc = log->os->sync(s->file);
		if (rc < 0)
			return log_die(log, rc, "syncing", s->name);
	}
	return 0;
}

/* Notes the outcome, hands the lead on, and then tells everybody: the next sync should not wait
 * for our callbacks. `last`: the last group that it was for. */
static void sync_end(struct log *log, const struct witness *last, int rc) WITHOUT(log->lock)
{
	struct log_waiter *told;
	uint32_t sync;
	bool hands_on;

	mutex_lock(&log->lock);
	sync = log->sync;
	if (rc == 0) {
		log->synced = log->covered;
		log->synced_group = *last;
		log->barrier_syncing = NO_BARRIER;
		log->align = true;
		log->stats.syncs++;
	} else if (atomic_load(&log->failed_rc) == 0) {
		atomic_store(&log->failed_sync, sync);
		atomic_store(&log->failed_rc, rc);
	}
	told = queue_take(&log->joined);
	hands_on = log->has_next;
	log->has_next = false;
	log->syncing = false;
	atomic_store(&log->done[sync & 1], sync);	/* under the lock, or it might step back */
	if (hands_on) {
		sync_open(log);
		atomic_store(&log->handed, log->sync);
	}
	mutex_unlock(&log->lock);
	if (hands_on)
		wake(&log->handed, 1);
	wake(&log->done[sync & 1], INT32_MAX);
	tell_all(told, rc);
}

/* Leads the sync that is open. The witness is told when everybody else has been: nobody waits
 * for it. */
static int lead(struct log *log) WITHOUT(log->baton, log->lock)
{
	struct segment *list = NULL;
	struct witness last = { 0 };
	unsigned parity = 0;
	int rc;

	mutex_lock(&log->baton);
	mutex_lock(&log->lock);
	sync_close(log);
	mutex_unlock(&log->lock);
	rc = log_flush(log);
	if (rc == 0) {
		mutex_lock(&log->lock);
		parity = log->collects;
		list = take_dirty(log, &last);
		mutex_unlock(&log->lock);
	}
	mutex_unlock(&log->baton);
	if (rc == 0)
		rc = sync_segments(log, list, parity);
	sync_end(log, &last, rc);
	if (rc == 0 && witness_is_due(log))
		rc = witness_tell(log);
	return rc;
}

/* What became of sync `n`, which has ended. */
static int outcome(const struct log *log, uint32_t n)
{
	const int rc = atomic_load(&log->failed_rc);
	const uint32_t failed = atomic_load(&log->failed_sync);

	if (rc == 0 || !reached(n, failed))
		return 0;
	return n == failed ? rc : -EROFS;
}

/* ---- waiting --------------------------------------------------------------------------- */

/* What somebody who waits for a sync has to do. */
enum part {
	NOTHING,		/* it is synced, or never will be: see *rc */
	FOLLOWS,		/* is told, or wakes, when sync *n has ended */
	LEADS,			/* leads sync *n, at once */
	LEADS_NEXT,		/* leads sync *n, when it is handed on */
};

static enum part find_part(struct log *log, uint64_t revision, uint32_t *n, int *rc)
	NEEDS(log->lock)
{
	assert(revision <= log->revision);
	*rc = 0;
	*n = log->sync;
	if (is_synced(log, revision))
		return NOTHING;
	if (will_be_synced(log, revision))
		return FOLLOWS;
	if (log->dead) {
		*rc = -EROFS;
		return NOTHING;
	}
	*n = log->sync + 1;
	if (!log->syncing) {
		sync_open(log);
		return LEADS;
	}
	if (log->has_next)
		return FOLLOWS;
	log->has_next = true;
	return LEADS_NEXT;
}

static void wait_synced(struct log *log, struct log_waiter *waiter) WITHOUT(log->lock)
{
	enum part part;
	uint32_t n;
	int rc;

	mutex_lock(&log->lock);
	part = find_part(log, waiter->revision, &n, &rc);
	if (part != NOTHING)
		queue_push(n == log->sync ? &log->joined : &log->waiting, waiter);
	mutex_unlock(&log->lock);
	if (part == NOTHING)
		waiter->done(waiter, rc);
	if (part == LEADS_NEXT)
		await(&log->handed, n);
	if (part == LEADS || part == LEADS_NEXT)
		lead(log);
}

void log_wait(struct log *log, struct log_waiter *waiter)
{
	if (waiter->level == LOG_SYNCED)
		wait_synced(log, waiter);
	else
		waiter->done(waiter, log_write(log, waiter->revision));
}

int log_wait_blocking(struct log *log, uint64_t revision, enum log_level level)
{
	enum part part;
	uint32_t n;
	int rc;

	if (level == LOG_WRITTEN)
		return log_write(log, revision);
	mutex_lock(&log->lock);
	part = find_part(log, revision, &n, &rc);
	mutex_unlock(&log->lock);
	switch (part) {
	case NOTHING:
		return rc;
	case FOLLOWS:
		await(&log->done[n & 1], n);
		return outcome(log, n);
	case LEADS_NEXT:
		await(&log->handed, n);
		return lead(log);
	case LEADS:
		return lead(log);
	}
	return 0;
}


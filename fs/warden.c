#include "warden.h"

#include <errno.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>

#include <fuse_lowlevel.h>

#include "fs.h"
#include "handle.h"
#include "mem.h"
#include "names.h"
#include "reply.h"
#include "say.h"

#define NS_PER_S UINT64_C(1000000000)
#define NS_PER_MS UINT64_C(1000000)
#define NEVER UINT64_MAX

enum {
	TIDY_NODES = 1 << 14,	/* some megabytes */
	PATIENCE_NS = 1000000000,
};

/* ---- notes for the kernel -------------------------------------------------------------------- */

struct note {
	struct note *next;
	enum { RECHECK, DELETED, CONTENTS, ATTRIBUTES, ANSWER } what;
	uint64_t table;		/* RECHECK, DELETED: the parent's number */
	uint64_t id;		/* DELETED, CONTENTS, ATTRIBUTES */
	fuse_req_t req;		/* ANSWER: */
	struct wait wait;
	uint64_t late_ns;	/* when it waits for the others no longer */
	size_t name_size;
	char name[STORE_NAME_MAX];
};

static struct note *note_new(int what, struct place place, uint64_t id)
{
	struct note *note = mem_alloc(sizeof(*note));

	if (!note)
		return NULL;
	note->what = what;
	note->table = place.table;
	note->id = id;
	note->name_size = place.name.size;
	if (place.name.size)
		memcpy(note->name, place.name.data, place.name.size);
	return note;
}

struct note *note_recheck(struct place place)
{
	return note_new(RECHECK, place, 0);
}

struct note *note_deleted(struct place place, uint64_t id)
{
	return note_new(DELETED, place, id);
}

struct note *note_contents(uint64_t id)
{
	return note_new(CONTENTS, (struct place){ 0 }, id);
}

struct note *note_attributes(uint64_t id)
{
	return note_new(ATTRIBUTES, (struct place){ 0 }, id);
}

void note_free(struct note *note)
{
	mem_free(note);
}

static void append(struct warden *warden, struct note *note) NEEDS(warden->lock)
{
	note->next = NULL;
	*warden->last = note;
	warden->last = &note->next;
	pthread_cond_signal(&warden->posted);
}

void warden_post(struct warden *warden, struct note *note)
{
	if (!note)
		return;
	mutex_lock(&warden->lock);
	append(warden, note);
	mutex_unlock(&warden->lock);
}

static void poke(struct warden *warden) NEEDS(warden->lock)
{
	warden->poked = true;
	pthread_cond_signal(&warden->woken);
}

/* Without memory for it, and at the end, when nobody passes notes on, it does not wait. */
void warden_answer(struct fs *fs, fuse_req_t req, struct wait wait)
{
	struct warden *warden = &fs->warden;
	struct note *note = note_new(ANSWER, (struct place){ 0 }, 0);
	bool posted = false;

	mutex_lock(&warden->lock);
	if (note && !warden->stop) {
		note->req = req;
		note->wait = wait;
		note->late_ns = fs->os->monotonic_ns(fs->os) + PATIENCE_NS;
		append(warden, note);
		warden->answers++;
		poke(warden);	/* to look when that is */
		posted = true;
	}
	mutex_unlock(&warden->lock);
	if (posted)
		return;
	note_free(note);
	reply_done(fs, req, wait);
}

static void invalidate_attributes(struct fuse_session *session, uint64_t id)
{
	fuse_lowlevel_notify_inval_inode(session, id, -1, 0);
}

/* What the kernel answers does not matter: -ENOENT only says that it had nothing cached. */
static void note_send(struct fs *fs, const struct note *note)
{
	struct fuse_session *session = fs->session;

	switch (note->what) {
	case RECHECK:
		if (fuse_lowlevel_notify_expire_entry(session, note->table, note->name,
						      note->name_size,
						      FUSE_LL_EXPIRE_ONLY) == -ENOSYS)
			fuse_lowlevel_notify_inval_entry(session, note->table, note->name,
							 note->name_size);
		break;
	case DELETED:
		fuse_lowlevel_notify_delete(session, note->table, note->id, note->name,
					    note->name_size);
		invalidate_attributes(session, note->table);
		break;
	case CONTENTS:
		fuse_lowlevel_notify_inval_inode(session, note->id, 0, 0);
		break;
	case ATTRIBUTES:
		invalidate_attributes(session, note->id);
		break;
	case ANSWER:
		reply_done(fs, note->req, note->wait);
		break;
	}
}

/* Takes the note that *at points to off the list. */
static struct note *take(struct warden *warden, struct note **at) NEEDS(warden->lock)
{
	struct note *note = *at;

	*at = note->next;
	if (warden->last == &note->next)
		warden->last = at;
	warden->answers -= note->what == ANSWER;
	return note;
}

/* Waits for the next note; NULL: the end. */
static struct note *next_note(struct warden *warden)
{
	struct note *note;

	mutex_lock(&warden->lock);
	while (!warden->first && !warden->stop)
		mutex_sleep(&warden->lock, &warden->posted);
	note = warden->stop ? NULL : take(warden, &warden->first);
	mutex_unlock(&warden->lock);
	return note;
}

static void *tell(void *arg)
{
	struct fs *fs = arg;
	struct note *note;

	prctl(PR_SET_NAME, "cubby-teller");
	while ((note = next_note(&fs->warden))) {
		note_send(fs, note);
		note_free(note);
	}
	return NULL;
}

/* The first answer that is late at `at_ns`, or NULL, and then *left_ns is for how long none is. */
static struct note *take_late(struct warden *warden, uint64_t at_ns, uint64_t *left_ns)
	NEEDS(warden->lock)
{
	struct note **at = &warden->first;

	*left_ns = NEVER;
	if (warden->answers == 0)
		return NULL;
	while ((*at)->what != ANSWER)
		at = &(*at)->next;
	if ((*at)->late_ns <= at_ns)
		return take(warden, at);
	*left_ns = (*at)->late_ns - at_ns;
	return NULL;
}

/* Gives the answers that are late at `at_ns`; returns for how long none will be. */
static uint64_t answer_late(struct fs *fs, uint64_t at_ns)
{
	struct warden *warden = &fs->warden;
	struct note *note;
	uint64_t left;

	do {
		mutex_lock(&warden->lock);
		note = take_late(warden, at_ns, &left);
		mutex_unlock(&warden->lock);
		if (note)
			note_send(fs, note);
		note_free(note);
	} while (note);
	return left;
}

/* ---- what is due ----------------------------------------------------------------------------- */

static uint64_t now_ns(struct fs *fs)
{
	return fs->os->monotonic_ns(fs->os);
}

/* Removes what has expired; returns for how long nothing will. If removing fails, for a while
 * nothing is tried. */
static uint64_t expire(struct fs *fs)
{
	uint64_t next_ms, now_ms;

	atomic_store(&fs->warden.next_ms, 0);	/* who comes meanwhile says so: see warden_due */
	if (names_expire_due(fs, &next_ms) < 0)
		return 10 * NS_PER_S;
	atomic_store(&fs->warden.next_ms, next_ms);
	if (next_ms == 0)
		return NEVER;
	now_ms = store_now_ms(fs->store);
	return next_ms <= now_ms ? 0 : (next_ms - now_ms) * NS_PER_MS;
}

/* Publishes what was written too long ago; returns for how long nothing will be, or 0 if nothing is
 * left to watch. */
static uint64_t publish_old(struct fs *fs)
{
	const uint64_t now = now_ns(fs), stage = fs->options.stage_ns;
	const uint64_t limit = now > stage ? now - stage : 0;
	uint64_t oldest, revision;
	struct node *node;

	while ((node = nodes_written_before(&fs->nodes, limit, &oldest))) {
		int rc = handle_publish(fs, node, &revision);

		if (rc == 0)
			rc = store_wait_blocking(fs->store, revision, LOG_WRITTEN);
		if (rc < 0)
			say("a file that is kept open cannot be published: %s", strerror(-rc));
		nodes_unpin(&fs->nodes, node);
	}
	return oldest ? oldest - limit : 0;
}

/* The same, and keeps `watching`: while it is true writers need not wake this thread. After the
 * last file it stays true for a second, so that a stream of small files wakes nobody. */
static uint64_t watch(struct fs *fs, bool *idle)
{
	struct warden *warden = &fs->warden;
	uint64_t left;

	if (fs->options.stage_ns == 0 || !atomic_load(&warden->watching))
		return NEVER;
	if (*idle)
		atomic_store(&warden->watching, false);
	left = publish_old(fs);
	if (left == 0 && *idle)
		return NEVER;
	*idle = left == 0;
	atomic_store(&warden->watching, true);
	return left ? left : NS_PER_S;
}

void warden_watch(struct fs *fs)
{
	if (fs->options.stage_ns && !atomic_exchange(&fs->warden.watching, true))
		warden_poke(&fs->warden);
}

/* ---- memory ---------------------------------------------------------------------------------- */

/* Until then it is kept, in case the kernel asks for them again at once. */
void warden_tidy(struct fs *fs, size_t count)
{
	struct warden *warden = &fs->warden;
	const uint64_t freed = nodes_freed(&fs->nodes, NULL) - atomic_load(&warden->trimmed);

	if (freed + count < TIDY_NODES || atomic_exchange(&warden->tidying, true))
		return;
	mem_hold();
	warden_poke(warden);
}

/* Once nothing more is freed, nor made in its place: pages that are given back too early have to be
 * got again, which costs more than all else that a listing does. *last remembers how much was. */
static uint64_t tidy(struct fs *fs, uint64_t *last)
{
	uint64_t made, freed;

	if (!atomic_load(&fs->warden.tidying))
		return NEVER;
	freed = nodes_freed(&fs->nodes, &made);
	if (made + freed != *last) {
		*last = made + freed;
		return NS_PER_S;
	}
	mem_trim();
	atomic_store(&fs->warden.trimmed, freed);
	atomic_store(&fs->warden.tidying, false);
	return NEVER;
}

/* ---- the thread ------------------------------------------------------------------------------ */

/* Expiry goes by the wall clock, which may be set: looking again every second bounds the harm. */
static void sleep_for(struct warden *warden, uint64_t ns) NEEDS(warden->lock)
{
	struct timespec end;
	const uint64_t most = ns < NS_PER_S ? ns : NS_PER_S;

	if (ns == NEVER) {
		mutex_sleep(&warden->lock, &warden->woken);
		return;
	}
	clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_sec += (time_t)((end.tv_nsec + most) / NS_PER_S);
	end.tv_nsec = (long)((end.tv_nsec + most) % NS_PER_S);
	pthread_cond_timedwait(&warden->woken, &warden->lock.m, &end);
}

/* Sleeps until there may be something to do; false: the end. */
static bool rest(struct warden *warden, uint64_t ns)
{
	bool go_on;

	mutex_lock(&warden->lock);
	if (!warden->stop && !warden->poked && ns)
		sleep_for(warden, ns);
	warden->poked = false;
	go_on = !warden->stop;
	mutex_unlock(&warden->lock);
	return go_on;
}

static void *keep(void *arg)
{
	struct fs *fs = arg;
	bool idle = false;
	uint64_t moved = 0, next, soon;

	do {
		next = answer_late(fs, now_ns(fs));
		soon = expire(fs);
		next = soon < next ? soon : next;
		soon = watch(fs, &idle);
		next = soon < next ? soon : next;
		soon = tidy(fs, &moved);
		next = soon < next ? soon : next;
	} while (rest(&fs->warden, next));
	return NULL;
}

void warden_poke(struct warden *warden)
{
	mutex_lock(&warden->lock);
	poke(warden);
	mutex_unlock(&warden->lock);
}

void warden_due(struct warden *warden, uint64_t expires_ms)
{
	const uint64_t next_ms = atomic_load(&warden->next_ms);

	if (expires_ms && (next_ms == 0 || expires_ms < next_ms))
		warden_poke(warden);
}

void warden_init(struct warden *warden)
{
	pthread_condattr_t monotonic;

	*warden = (struct warden){ .last = NULL };
	warden->last = &warden->first;
	mutex_init(&warden->lock);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&warden->woken, &monotonic);
	pthread_condattr_destroy(&monotonic);
	pthread_cond_init(&warden->posted, NULL);
}

void warden_done(struct warden *warden)
{
	struct note *next;

	for (struct note *note = warden->first; note; note = next) {
		next = note->next;
		note_free(note);
	}
	pthread_cond_destroy(&warden->posted);
	pthread_cond_destroy(&warden->woken);
	mutex_done(&warden->lock);
}

static void end(struct warden *warden)
{
	mutex_lock(&warden->lock);
	warden->stop = true;
	pthread_cond_signal(&warden->woken);
	pthread_cond_signal(&warden->posted);
	mutex_unlock(&warden->lock);
}

int warden_start(struct fs *fs)
{
	struct warden *warden = &fs->warden;
	int rc = pthread_create(&warden->thread, NULL, keep, fs);

	if (rc)
		return -rc;
	rc = pthread_create(&warden->teller, NULL, tell, fs);
	warden->running = rc == 0;
	if (rc) {
		end(warden);
		pthread_join(warden->thread, NULL);
	}
	return -rc;
}

/* Once `stop` is set no answer comes to those that wait here: see warden_answer. */
void warden_stop(struct fs *fs)
{
	struct warden *warden = &fs->warden;

	if (!warden->running)
		return;
	end(warden);
	answer_late(fs, NEVER);
	pthread_join(warden->thread, NULL);
	pthread_join(warden->teller, NULL);
	warden->running = false;
}

#include "keeper.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#include <fuse_lowlevel.h>

#include "fs.h"
#include "handle.h"
#include "mem.h"
#include "names.h"
#include "say.h"

#define NS_PER_S UINT64_C(1000000000)
#define NS_PER_MS UINT64_C(1000000)
#define NEVER UINT64_MAX

/* ---- notes for the kernel ----------------------------------------------------------------- */

struct note {
	struct note *next;
	enum { RECHECK, DELETED, CONTENTS } what;
	uint64_t table;		/* RECHECK, DELETED: the parent's number */
	uint64_t id;		/* DELETED, CONTENTS */
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

void note_free(struct note *note)
{
	mem_free(note);
}

void keeper_post(struct keeper *keeper, struct note *note)
{
	if (!note)
		return;
	mutex_lock(&keeper->lock);
	note->next = NULL;
	*keeper->last = note;
	keeper->last = &note->next;
	keeper->poked = true;
	pthread_cond_signal(&keeper->woken);
	mutex_unlock(&keeper->lock);
}

/* What the kernel answers does not matter: -ENOENT only says that it had nothing cached. */
static void note_send(struct fuse_session *session, const struct note *note)
{
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
		fuse_lowlevel_notify_inval_inode(session, note->table, -1, 0);
		break;
	case CONTENTS:
		fuse_lowlevel_notify_inval_inode(session, note->id, 0, 0);
		break;
	}
}

static struct note *take_notes(struct keeper *keeper)
{
	struct note *notes;

	mutex_lock(&keeper->lock);
	notes = keeper->first;
	keeper->first = NULL;
	keeper->last = &keeper->first;
	keeper->poked = false;
	mutex_unlock(&keeper->lock);
	return notes;
}

static void free_notes(struct note *notes)
{
	struct note *next;

	for (; notes; notes = next) {
		next = notes->next;
		note_free(notes);
	}
}

static void send_notes(struct fs *fs, struct note *notes)
{
	for (const struct note *note = notes; note; note = note->next)
		note_send(fs->session, note);
	free_notes(notes);
}

/* ---- what is due ---------------------------------------------------------------------------- */

static uint64_t now_ns(struct fs *fs)
{
	return fs->os->monotonic_ns(fs->os);
}

/* Removes what has expired; returns for how long nothing will. If removing fails, for a while
 * nothing is tried. */
static uint64_t expire(struct fs *fs)
{
	uint64_t next_ms, now_ms;

	if (names_expire_due(fs, &next_ms) < 0)
		return 10 * NS_PER_S;
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
		const int rc = handle_publish(fs, node, &revision);

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
	struct keeper *keeper = &fs->keeper;
	uint64_t left;

	if (fs->options.stage_ns == 0 || !atomic_load(&keeper->watching))
		return NEVER;
	if (*idle)
		atomic_store(&keeper->watching, false);
	left = publish_old(fs);
	if (left == 0 && *idle)
		return NEVER;
	*idle = left == 0;
	atomic_store(&keeper->watching, true);
	return left ? left : NS_PER_S;
}

void keeper_watch(struct fs *fs)
{
	if (fs->options.stage_ns && !atomic_exchange(&fs->keeper.watching, true))
		keeper_poke(&fs->keeper);
}

/* ---- the thread ------------------------------------------------------------------------------- */

/* Expiry goes by the wall clock, which may be set: looking again every second bounds the harm. */
static void sleep_for(struct keeper *keeper, uint64_t ns) NEEDS(keeper->lock)
{
	struct timespec end;
	const uint64_t most = ns < NS_PER_S ? ns : NS_PER_S;

	if (ns == NEVER) {
		mutex_sleep(&keeper->lock, &keeper->woken);
		return;
	}
	clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_sec += (time_t)((end.tv_nsec + most) / NS_PER_S);
	end.tv_nsec = (long)((end.tv_nsec + most) % NS_PER_S);
	pthread_cond_timedwait(&keeper->woken, &keeper->lock.m, &end);
}

/* Sleeps until there may be something to do; false: the end. */
static bool rest(struct keeper *keeper, uint64_t ns)
{
	bool go_on;

	mutex_lock(&keeper->lock);
	if (!keeper->stop && !keeper->poked && ns)
		sleep_for(keeper, ns);
	go_on = !keeper->stop;
	mutex_unlock(&keeper->lock);
	return go_on;
}

static void *keep(void *arg)
{
	struct fs *fs = arg;
	bool idle = false;
	uint64_t expiry, staged;

	do {
		send_notes(fs, take_notes(&fs->keeper));
		expiry = expire(fs);
		staged = watch(fs, &idle);
	} while (rest(&fs->keeper, expiry < staged ? expiry : staged));
	return NULL;
}

void keeper_poke(struct keeper *keeper)
{
	mutex_lock(&keeper->lock);
	keeper->poked = true;
	pthread_cond_signal(&keeper->woken);
	mutex_unlock(&keeper->lock);
}

void keeper_init(struct keeper *keeper)
{
	pthread_condattr_t monotonic;

	*keeper = (struct keeper){ .last = NULL };
	keeper->last = &keeper->first;
	mutex_init(&keeper->lock);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&keeper->woken, &monotonic);
	pthread_condattr_destroy(&monotonic);
}

void keeper_done(struct keeper *keeper)
{
	free_notes(keeper->first);
	pthread_cond_destroy(&keeper->woken);
	mutex_done(&keeper->lock);
}

int keeper_start(struct fs *fs)
{
	const int rc = pthread_create(&fs->keeper.thread, NULL, keep, fs);

	fs->keeper.running = rc == 0;
	return -rc;
}

void keeper_stop(struct fs *fs)
{
	struct keeper *keeper = &fs->keeper;

	if (!keeper->running)
		return;
	mutex_lock(&keeper->lock);
	keeper->stop = true;
	pthread_cond_signal(&keeper->woken);
	mutex_unlock(&keeper->lock);
	pthread_join(keeper->thread, NULL);
	keeper->running = false;
}

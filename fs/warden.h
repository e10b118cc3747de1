/* warden.h - one thread for what nobody asks for: expiry, publication of what is staged too long,
 * and giving memory back once the kernel has forgotten much; and one, the teller, for telling
 * the kernel what it should forget.
 *
 * The kernel must never be told anything from inside a request, nor under a lock: it may need
 * a lock that some process holds while it waits for us. So such notes are posted here, and the
 * teller passes them on, oldest first, while it holds nothing.
 */
#ifndef CUBBY_FS_WARDEN_H
#define CUBBY_FS_WARDEN_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "locks.h"
#include "store.h"

struct fs;
struct fuse_req;
struct wait;

struct warden {
	struct mutex lock;
	pthread_cond_t woken, posted;
	pthread_t thread, teller;
	bool running;			/* only the thread that starts and stops them looks */
	atomic_bool watching;		/* something may be written and not published */
	atomic_ullong next_ms;		/* when it knows that something is due; 0: of nothing */
	atomic_bool tidying;		/* memory is to be given back */
	atomic_ullong trimmed;		/* nodes_freed when it was, last */
	bool stop;			/* guarded by lock */
	bool poked;			/* guarded by lock */
	struct note *first, **last;	/* guarded by lock: to be passed on, oldest first */
	unsigned answers;		/* guarded by lock: how many of them are answers */
};

void warden_init(struct warden *warden);
void warden_done(struct warden *warden);

/* Signals that the process handles must be blocked, or the thread might catch them. */
int warden_start(struct fs *fs);
void warden_stop(struct fs *fs);

/* Something was written: it is to be published when its time comes. */
void warden_watch(struct fs *fs);

/* So many nodes are going to be freed, at most: if there were many, their memory is given back
 * soon. */
void warden_tidy(struct fs *fs, size_t count);

/* Something may be due earlier than the warden knows: look again. */
void warden_poke(struct warden *warden);

/* Something expires then (0: never): as warden_poke, if that is earlier. */
void warden_due(struct warden *warden, uint64_t expires_ms);

/* A note for the kernel. Made before the change that it tells of, so that the change need not
 * be made if there is no memory; then posted, or dropped with note_free. */
struct note;

/* The name's cached entry is to be asked for again at its next use. */
struct note *note_recheck(struct place place);

/* The name is gone, and with it `id`, which whoever watches it is told. */
struct note *note_deleted(struct place place, uint64_t id);

/* What the kernel has cached of the file's contents, or of its attributes, is wrong. */
struct note *note_contents(uint64_t id);
struct note *note_attributes(uint64_t id);

void note_free(struct note *note);

/* Accepts NULL: there was no memory, and what the note would have said was only a courtesy. */
void warden_post(struct warden *warden, struct note *note);

/* As reply_done, but not before the notes posted so far were passed on: for a change that the
 * caller is to see at once, whatever the kernel has cached. Only for a moment, though: the caller
 * may hold the kernel's lock of a file, and whoever has that of its directory, which a note needs,
 * may wait for it. */
void warden_answer(struct fs *fs, struct fuse_req *req, struct wait wait);

#endif

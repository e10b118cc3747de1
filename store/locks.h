/* locks.h - mutexes and reader/writer locks that clang's thread-safety analysis can follow.
 *
 * `make tsa` checks NEEDS and WITHOUT on functions. On fields clang checks nothing in C: there
 * the comment "guarded by" is the contract. The order of all locks stands in store/DESIGN.md.
 */
#ifndef CUBBY_LOCKS_H
#define CUBBY_LOCKS_H

#include <pthread.h>
#include <stdbool.h>

#if defined(__clang__)
#define TSA(x) __attribute__((x))
#else
#define TSA(x)
#endif

#define LOCKABLE TSA(capability("mutex"))
#define NEEDS(...) TSA(requires_capability(__VA_ARGS__))
#define NEEDS_SHARED(...) TSA(requires_shared_capability(__VA_ARGS__))
#define WITHOUT(...) TSA(locks_excluded(__VA_ARGS__))
#define ACQUIRES(...) TSA(acquire_capability(__VA_ARGS__))
#define ACQUIRES_SHARED(...) TSA(acquire_shared_capability(__VA_ARGS__))
#define RELEASES(...) TSA(release_capability(__VA_ARGS__))
#define RELEASES_SHARED(...) TSA(release_shared_capability(__VA_ARGS__))
#define NO_TSA TSA(no_thread_safety_analysis)

struct LOCKABLE mutex {
	pthread_mutex_t m;
};

/* Writers queue at a mutex, so that no more than one at a time is at the lock itself: there they
 * would spin against each other, and wake each other in vain. */
struct LOCKABLE rwlock {
	pthread_mutex_t writers;
	pthread_rwlock_t l;
};

static inline void mutex_init(struct mutex *m)
{
	*m = (struct mutex){ PTHREAD_MUTEX_INITIALIZER };	/* no call: nodes are many */
}

static inline void mutex_done(struct mutex *m)
{
	pthread_mutex_destroy(&m->m);
}

static inline void mutex_lock(struct mutex *m) ACQUIRES(*m) NO_TSA
{
	pthread_mutex_lock(&m->m);
}

static inline bool mutex_try(struct mutex *m) TSA(try_acquire_capability(true, *m)) NO_TSA
{
	return pthread_mutex_trylock(&m->m) == 0;
}

static inline void mutex_unlock(struct mutex *m) RELEASES(*m) NO_TSA
{
	pthread_mutex_unlock(&m->m);
}

/* Sleeps on `c` with `m` given up meanwhile; may wake for no reason. */
static inline void mutex_sleep(struct mutex *m, pthread_cond_t *c) NEEDS(*m)
{
	pthread_cond_wait(c, &m->m);
}

/* Writers first: a stream of readers must not starve the commits. */
static inline void rwlock_init(struct rwlock *l)
{
	pthread_rwlockattr_t a;
	pthread_mutexattr_t m;

	pthread_rwlockattr_init(&a);
	pthread_rwlockattr_setkind_np(&a, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(&l->l, &a);
	pthread_rwlockattr_destroy(&a);
	pthread_mutexattr_init(&m);
	pthread_mutexattr_settype(&m, PTHREAD_MUTEX_ADAPTIVE_NP);
	pthread_mutex_init(&l->writers, &m);
	pthread_mutexattr_destroy(&m);
}

static inline void rwlock_done(struct rwlock *l)
{
	pthread_rwlock_destroy(&l->l);
	pthread_mutex_destroy(&l->writers);
}

static inline void rwlock_read(struct rwlock *l) ACQUIRES_SHARED(*l) NO_TSA
{
	pthread_rwlock_rdlock(&l->l);
}

static inline void rwlock_read_done(struct rwlock *l) RELEASES_SHARED(*l) NO_TSA
{
	pthread_rwlock_unlock(&l->l);
}

static inline void rwlock_write(struct rwlock *l) ACQUIRES(*l) NO_TSA
{
	pthread_mutex_lock(&l->writers);
	pthread_rwlock_wrlock(&l->l);
}

static inline void rwlock_write_done(struct rwlock *l) RELEASES(*l) NO_TSA
{
	pthread_rwlock_unlock(&l->l);
	pthread_mutex_unlock(&l->writers);
}

#endif

/* The filler is the thread that makes spare segments for the log, a file of zeros each, so that no
 * commit has to. It is not the keeper, for a checkpoint may take longer than a segment lasts. */
#include <errno.h>
#include <time.h>

#include "engine_impl.h"

enum { REST_NS = 100000000 };

static bool filler_sleep(struct engine *engine)
{
	bool stop;

	mutex_lock(&engine->filler_lock);
	atomic_store(&engine->filler_busy, false);
	while (!engine->filler_stop && !engine->filler_wanted)
		mutex_sleep(&engine->filler_lock, &engine->filler_wake);
	engine->filler_wanted = false;
	atomic_store(&engine->filler_busy, true);
	stop = engine->filler_stop;
	mutex_unlock(&engine->filler_lock);
	return !stop;
}

/* A segment that cannot be made is asked for again by the commits to come, but not by each. */
static void rest(struct engine *engine)
{
	struct timespec until;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += REST_NS;
	until.tv_sec += until.tv_nsec / 1000000000;
	until.tv_nsec %= 1000000000;
	mutex_lock(&engine->filler_lock);
	if (!engine->filler_stop)
		pthread_cond_timedwait(&engine->filler_wake, &engine->filler_lock.m, &until);
	mutex_unlock(&engine->filler_lock);
}

static void *fill(void *arg)
{
	struct engine *engine = arg;

	while (filler_sleep(engine))
		if (log_prepare(engine->log, LOG_SPARES) < 0)
			rest(engine);
	return NULL;
}

void filler_wake(struct engine *engine)
{
	if (!engine->filler_runs || atomic_load(&engine->filler_busy))
		return;
	mutex_lock(&engine->filler_lock);
	engine->filler_wanted = true;
	pthread_cond_signal(&engine->filler_wake);
	mutex_unlock(&engine->filler_lock);
}

void filler_init(struct engine *engine, const pthread_condattr_t *monotonic)
{
	mutex_init(&engine->filler_lock);
	pthread_cond_init(&engine->filler_wake, monotonic);
}

void filler_done(struct engine *engine)
{
	pthread_cond_destroy(&engine->filler_wake);
	mutex_done(&engine->filler_lock);
}

int filler_start(struct engine *engine)
{
	engine->filler_runs = engine->options.background;
	if (!engine->filler_runs)
		return 0;
	if (pthread_create(&engine->filler, NULL, fill, engine) == 0)
		return 0;
	engine->filler_runs = false;
	return -EAGAIN;
}

void filler_stop(struct engine *engine)
{
	if (!engine->filler_runs)
		return;
	mutex_lock(&engine->filler_lock);
	engine->filler_stop = true;
	pthread_cond_signal(&engine->filler_wake);
	mutex_unlock(&engine->filler_lock);
	pthread_join(engine->filler, NULL);
	engine->filler_runs = false;
}

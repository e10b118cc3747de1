/* Writers are slowed before the log is full, so that none ever has to stand still until a checkpoint
 * is through.
 *
 * From where a checkpoint begins, at half the log, each byte costs time: little at first, and
 * without bound as the other half fills up. With `x` of it full a byte costs x / (1 - x) of what
 * would let the last checkpoint's duration fill it; so if the next one takes as long, the log is
 * about 5/6 full when it ends, whatever the writers' appetite. What is owed is one sum for all:
 * who comes next waits until it is paid, so that ten writers are slowed as much as one. */
#include <errno.h>
#include <time.h>

#include "engine_impl.h"

enum {
	NAP_MIN_NS = 100 * 1000,	/* below that sleeping costs more than it saves */
	NAP_MAX_NS = 15 * 1000 * 1000,
	TOOK_MIN_NS = 250 * 1000 * 1000,
	RESERVE = 16,			/* a part of the log which is full before it is */
};

/* How long the checkpoint under way, or the next one, may take. */
static uint64_t duration(struct engine *engine, uint64_t now)
{
	const uint64_t began = atomic_load(&engine->checkpoint_began);
	uint64_t took = atomic_load(&engine->checkpoint_took);

	if (began && now > began && now - began > took)
		took = now - began;
	return took > TOOK_MIN_NS ? took : TOOK_MIN_NS;
}

/* In floating point: a long checkpoint, a large batch and what a byte costs towards the end are more than
 * 64 bits when they are multiplied. */
uint64_t pace_cost(uint64_t took_ns, uint64_t fill, uint64_t limit, uint64_t bytes)
{
	const double half = (double)limit / 2 - (double)limit / RESERVE, most = half - half / 1024;
	double over = (double)fill - (double)limit / 2, cost;

	if (over <= 0)
		return 0;
	if (over > most)
		over = most;
	cost = (double)took_ns * (double)bytes / half * over / (half - over);
	return cost < NAP_MAX_NS ? (uint64_t)cost : NAP_MAX_NS;
}

void pace_charge(struct engine *engine)
{
	unsigned long long paid = atomic_load(&engine->paid_until), until;
	uint64_t fill, limit, seen, now, cost;

	log_fill(engine->log, &fill, &limit);
	seen = atomic_exchange(&engine->fill_seen, fill);
	if (!engine->keeper_runs || fill <= limit / 2 || fill <= seen)
		return;
	now = engine->os->monotonic_ns(engine->os);
	cost = pace_cost(duration(engine, now), fill, limit, fill - seen);
	do {
		until = (paid > now ? paid : now) + cost;
		if (until > now + NAP_MAX_NS)
			until = now + NAP_MAX_NS;
	} while (!atomic_compare_exchange_weak(&engine->paid_until, &paid, until));
}

void engine_pace(struct engine *engine)
{
	const uint64_t until = atomic_load_explicit(&engine->paid_until, memory_order_relaxed);
	struct timespec nap = { 0 };
	uint64_t now;

	if (!until)
		return;
	now = engine->os->monotonic_ns(engine->os);
	if (until < now + NAP_MIN_NS)
		return;
	nap.tv_nsec = (long)(until - now);
	while (nanosleep(&nap, &nap) < 0 && errno == EINTR)
		;
}

void pace_begin(struct engine *engine)
{
	atomic_store(&engine->checkpoint_began, engine->os->monotonic_ns(engine->os));
}

void pace_end(struct engine *engine)
{
	const uint64_t took = engine->os->monotonic_ns(engine->os) -
			      atomic_load(&engine->checkpoint_began);
	const uint64_t before = atomic_load(&engine->checkpoint_took);

	atomic_store(&engine->checkpoint_took, took > before ? took : (took + before) / 2);
	atomic_store(&engine->checkpoint_began, 0);
}

/* When a checkpoint begins for the log's sake, and how writers are slowed meanwhile, so that none
 * ever has to stand still until it is through.
 *
 * The later it begins, the fewer bytes are written for each byte that was put: a leaf that changes
 * ten times in between is written once. So it begins when what writers would add to the log, as
 * fast as they were lately, while it lasts as long as the last one did, and half as much
 * again, would fill the log; but never before half of it is full, nor later than at three
 * quarters.
 *
 * From there each byte costs time: little at first, and without bound as the rest fills up. With
 * `x` of the rest full a byte costs x / (1 - x) of what would let the checkpoint's expected
 * duration fill it; so if that holds, two thirds of the rest are full at the end, whatever the
 * writers' appetite. What is owed is one sum for all: who comes next waits until it is paid, so
 * that ten writers are slowed as much as one; but for a nap at the most, and if more is owed, so
 * does who comes then. Time that went by since the last debt was paid, be it that nobody came or
 * that a sleep took longer than it should, is credit, for a while: so writers are as fast as they
 * may be, even one alone who sleeps a little between any two. */
#include <errno.h>
#include <time.h>

#include "engine_impl.h"

enum {
	NAP_MIN_NS = 100 * 1000,	/* below that sleeping costs more than it saves */
	NAP_MAX_NS = 5 * 1000 * 1000,	/* with a busy machine's lateness still far from 20 ms */
	DEBT_MAX_NS = 10 * 1000 * 1000,
	CREDIT_NS = 2 * 1000 * 1000,
	TOOK_MIN_NS = 250 * 1000 * 1000,
	NS_PER_MS = 1000 * 1000,
	RESERVE = 16,			/* a part of the log which is full before it is */
	TELLING = 8,			/* a checkpoint of such a part of it tells what they take */
	SAMPLE = 32,			/* writers' speed is taken each such part of the log */
};

static const uint64_t TOOK_MAX_NS = 1000 * 1000000000ULL;
static const double X_MAX = 0.999;

/* How long a checkpoint may take that begins with so much in the log; 0: nobody knows. */
static uint64_t expected(struct engine *engine, uint64_t fill)
{
	const uint64_t price = atomic_load(&engine->checkpoint_price);
	const uint64_t kib = fill / 1024;
	const uint64_t took = price < TOOK_MAX_NS / (kib + 1) ? price * kib : TOOK_MAX_NS;

	return price && took < TOOK_MIN_NS ? TOOK_MIN_NS : took;
}

/* The same of the one under way, or of one that should be. */
static uint64_t duration(struct engine *engine, uint64_t now)
{
	const uint64_t began = atomic_load(&engine->checkpoint_began);
	uint64_t took = expected(engine, atomic_load(&engine->fill_began));

	if (began && now > began && now - began > took)
		took = now - began;
	return took > TOOK_MIN_NS ? took : TOOK_MIN_NS;
}

bool pace_due(struct engine *engine)
{
	uint64_t fill, limit, took;

	log_fill(engine->log, &fill, &limit);
	if (fill <= limit / 2)
		return false;
	if (fill > limit / 4 * 3)
		return true;
	took = expected(engine, fill) / NS_PER_MS;
	return took == 0 || atomic_load(&engine->growth) >=
				    (limit - limit / RESERVE - fill) / (took + took / 2);
}

/* Takes the writers' speed, now and then. Two of them at once make it a little wrong, once. */
static void sample(struct engine *engine, uint64_t bytes, uint64_t limit)
{
	uint64_t grown = atomic_fetch_add(&engine->grown, bytes) + bytes, now, since;

	if (grown < limit / SAMPLE)
		return;
	grown = atomic_exchange(&engine->grown, 0);
	now = engine->os->monotonic_ns(engine->os);
	since = atomic_exchange(&engine->grown_since, now);
	atomic_store(&engine->growth,
		     now > since + NS_PER_MS ? grown / ((now - since) / NS_PER_MS) : grown);
}

/* In floating point: a long checkpoint, a large batch and what a byte costs towards the end are
 * more than 64 bits when they are multiplied. */
uint64_t pace_cost(uint64_t took_ns, uint64_t began, uint64_t fill, uint64_t limit, uint64_t bytes)
{
	const uint64_t full = limit - limit / RESERVE;
	const double rest =
		(double)(full > began + limit / RESERVE ? full - began : limit / RESERVE);
	double x = fill > began ? (double)(fill - began) / rest : 0, cost;

	if (x > X_MAX)
		x = X_MAX;
	cost = (double)took_ns * (double)bytes / rest * x / (1 - x);
	return cost < DEBT_MAX_NS ? (uint64_t)cost : DEBT_MAX_NS;
}

void pace_charge(struct engine *engine)
{
	unsigned long long paid = atomic_load(&engine->paid_until), until;
	uint64_t fill, limit, began, seen, now, cost;

	log_fill(engine->log, &fill, &limit);
	seen = atomic_exchange(&engine->fill_seen, fill);
	if (!engine->keeper_runs || fill <= seen)
		return;
	sample(engine, fill - seen, limit);
	began = atomic_load(&engine->checkpoint_began) ? atomic_load(&engine->fill_began) :
							 limit / 4 * 3;
	if (began < limit / 2)
		began = limit / 2;
	if (fill <= began)
		return;
	now = engine->os->monotonic_ns(engine->os);
	cost = pace_cost(duration(engine, now), began, fill, limit, fill - seen);
	do {
		until = (paid + CREDIT_NS > now ? paid : now - CREDIT_NS) + cost;
		if (until > now + DEBT_MAX_NS)
			until = now + DEBT_MAX_NS;
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
	nap.tv_nsec = (long)(until - now < NAP_MAX_NS ? until - now : NAP_MAX_NS);
	while (nanosleep(&nap, &nap) < 0 && errno == EINTR)
		;
}

bool pace_owed(struct engine *engine, uint64_t now)
{
	return atomic_load(&engine->paid_until) > now;
}

void pace_begin(struct engine *engine)
{
	uint64_t fill, limit;

	log_fill(engine->log, &fill, &limit);
	atomic_store(&engine->fill_began, fill);
	atomic_store(&engine->checkpoint_began, engine->os->monotonic_ns(engine->os));
}

void pace_end(struct engine *engine, uint64_t rested_ns)
{
	const uint64_t took = engine->os->monotonic_ns(engine->os) -
			      atomic_load(&engine->checkpoint_began) - rested_ns;
	const uint64_t covered = atomic_load(&engine->fill_began);
	uint64_t fill, limit;

	log_fill(engine->log, &fill, &limit);
	if (covered > limit / TELLING)
		atomic_store(&engine->checkpoint_price, took / (covered / 1024) + 1);
	atomic_store(&engine->checkpoint_began, 0);
}

/* Every operation of the disk and every allocation fails once, in stories that commit, checkpoint,
 * recover and write large values. Whatever the engine says then is true: what was refused has not
 * happened, the store is unharmed or read-only and says why, and it opens again with everything
 * that was acknowledged, after a power cut or without one.
 *
 * EVERY=n lets only every nth one fail (1: each); SEED=n tells other stories; MIX=name those of one
 * mix, FAULT=name with faults of one kind. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "mem.h"
#include "sim/sanitized.h"
#include "sim/sweep.h"
#include "sim/tell.h"

enum {
	STEPS = 400,		/* of a story, while one thing fails */
	MORE = 60,		/* of what comes after */
	EVERY = 5 * SANITIZED_LESS,
};

static const struct fault faults[] = {
	{ "open", SIM_OPEN, -EMFILE },
	{ "create", SIM_CREATE, -EIO },
	{ "create on a full disk", SIM_CREATE, -ENOSPC },
	{ "remove", SIM_REMOVE, -EIO },
	{ "read", SIM_READ, -EIO },
	{ "write", SIM_WRITE, -EIO },
	{ "write on a full disk", SIM_WRITE, -ENOSPC },
	{ "sync", SIM_SYNC, -EIO },
	{ "flush", SIM_FLUSH, -EIO },
	{ "sync of a folder", SIM_SYNC_DIR, -EIO },
	{ "allocate", SIM_ALLOCATE, -EIO },
	{ "allocate on a full disk", SIM_ALLOCATE, -ENOSPC },
	{ "truncate", SIM_TRUNCATE, -EIO },
	{ "random", SIM_RANDOM, -EIO },
	{ "memory", SWEEP_MEMORY, -ENOMEM },
	{ .name = NULL },
};

/* What is told in a story with faults: the kinds of steps that need no crash, and reopening. */
static struct mix tame(const struct mix *wild)
{
	struct mix mix = *wild;

	mix.weights[STEP_KILL] = mix.weights[STEP_POWER] = 0;
	mix.weights[STEP_REOPEN] = 4;
	return mix;
}

struct count {
	uint64_t faults, felt;
};

/* Only a disk that fails to write or sync may end it. */
static bool may_be_read_only(const struct fault *fault)
{
	return fault->kind != SWEEP_MEMORY && fault->kind != SIM_READ && fault->kind != SIM_OPEN;
}

static bool cut_and_compare(struct play *p)
{
	const struct play_progress told = p->progress;

	sim_cut_after(p->disk, 0);
	play_abandon(p);
	sim_reboot(p->disk, SIM_LOSE, 0);
	return play_comes_back(p->disk, p->mix, &p->moments, told.acknowledged, told.tried,
			       p->wrong);
}

/* The same machine goes on: the store is opened again, takes commits, and then the power goes. */
static bool go_on_and_cut(struct play *p, uint64_t seed)
{
	struct story more = story_draw(p->mix, seed + 1000, MORE);
	bool right;

	play_abandon(p);
	right = play(p, &more) && cut_and_compare(p);
	story_done(&more);
	return right;
}

static bool survives(const struct tale *tale, const struct story *story, struct sweep *s,
		     char *wrong)
{
	const struct mix mix = tame(tale->mix);
	struct count *count = tale->arg;
	struct play p;
	bool right;

	play_begin(&p, &mix, tale->seed);
	p.allowed = s->fault->rc;
	sweep_arm(s, p.disk);
	right = play(&p, story);
	sweep_disarm(s);
	p.allowed = 0;
	if (right && p.read_only && !may_be_read_only(s->fault))
		right = play_is_wrong(&p, "read-only, although nothing was lost");
	if (right && !p.engine)
		right = play_is_wrong(&p, "it cannot be opened any more");
	if (right && !p.read_only)
		right = play_look(&p);
	if (right)
		right = s->n & 1 ? go_on_and_cut(&p, tale->seed) : cut_and_compare(&p);
	count->faults++;
	count->felt += p.felt > 0;
	if (!right)
		snprintf(wrong, PLAY_WRONG_SIZE, "%s number %lld: %.500s", s->fault->name,
			 (long long)s->n, p.wrong);
	play_end(&p);
	return right;
}

static bool survives_every_fault(const struct tale *tale, const struct story *story, char *wrong)
{
	const char *only = getenv("FAULT");
	bool right = true;
	struct sweep s = sweep_begin(faults);

	s.every = (int64_t)tell_given("EVERY", EVERY);
	while (right && sweep_next(&s)) {
		tell_alive();
		if (only && strcmp(only, s.fault->name) != 0)
			s.met = false;
		else
			right = survives(tale, story, &s, wrong);
	}
	return right;
}

static void whatever_fails_nothing_acknowledged_is_lost(void **state)
{
	const uint64_t seed = tell_given("SEED", 1);
	const char *only = getenv("MIX");
	struct count *count = tell_shared(sizeof(*count));
	(void)state;

	print_message("SEED=%llu\n", (unsigned long long)seed);
	for (const struct mix *mix = mixes; mix->name; mix++) {
		const struct mix tamed = tame(mix);
		const struct tale tale = { &tamed, seed, survives_every_fault, count };

		if ((!only || strcmp(only, mix->name) == 0) && !tell(&tale, STEPS))
			fail_msg("a fault did more than it may");
	}
	print_message("%llu faults, %llu of them felt\n", (unsigned long long)count->faults,
		      (unsigned long long)count->felt);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(whatever_fails_nothing_acknowledged_is_lost),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

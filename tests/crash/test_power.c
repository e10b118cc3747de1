/* The power goes at every single operation of a long story of every mix, and whatever was not
 * synced is kept, lost, torn or scattered. What comes back must be the store as it was after some
 * commit, no earlier than the last one that was acknowledged, whole, and fit for use. So must it be
 * if the recovery is cut, and the recovery from that; and if it is only the process that dies.
 *
 * CUTS=n looks at n cut points of each story (0: at all of them), STORY=n tells longer stories,
 * SEED=n others, MIX=name those of one mix. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "sim/medium.h"
#include "sim/sanitized.h"
#include "sim/tell.h"

enum {
	STEPS = 9000 / SANITIZED_LESS,	/* of a story */
	CUTS = 80 / SANITIZED_LESS,	/* points of a story that are looked at */
	CHAIN = 4,		/* most recoveries that are cut one after the other */
};

struct count {
	uint64_t operations, cuts, states;
};

/* What is seen of a story, operation by operation. */
struct watch {
	struct play *play;
	struct count *count;
	uint64_t every;		/* how many operations lie between two cut points */
	uint64_t seed;
	uint64_t random;	/* begins anew at each cut point */
};

static bool comes_back(struct watch *w, struct sim *disk, uint32_t from, uint32_t to, char *wrong)
{
	w->count->states += 2;
	return play_comes_back(disk, w->play->mix, &w->play->moments, from, to, wrong);
}

/* ---- what may follow a cut --------------------------------------------------------------- */

static bool the_power_was_cut(struct watch *w, struct sim *disk, enum sim_fate fate, char *wrong)
{
	const struct play_progress *p = &w->play->progress;

	sim_reboot(disk, fate, chance(&w->random));
	return comes_back(w, disk, p->acknowledged, p->tried, wrong);
}

/* Whoever asks whether it is synced is told so at once: it must be. */
static bool the_process_was_killed(struct watch *w, struct sim *disk, char *wrong)
{
	const struct play_progress *p = &w->play->progress;
	struct engine *engine;
	struct seen seen;
	bool right;

	sim_revive(disk, chance(&w->random));
	if (!play_open(disk, w->play->mix, &engine, wrong))
		return false;
	w->count->states++;
	right = look_compare(engine, &w->play->moments, p->written, p->tried, &seen, wrong);
	sim_cut_after(disk, 0);
	engine_close(engine);
	sim_reboot(disk, SIM_LOSE, 0);
	return right && comes_back(w, disk, seen.commit, seen.commit, wrong);
}

/* Opens it until the power goes, or closes it again. What could be read must not go any more. */
static bool open_for_a_while(struct watch *w, struct sim *disk, struct play_progress *p,
			     char *wrong)
{
	struct engine *engine;
	struct seen seen;
	char cut[PLAY_WRONG_SIZE] = "";
	bool right = true;

	sim_cut_after(disk, (int64_t)(chance(&w->random) % 24));
	if (play_open(disk, w->play->mix, &engine, cut)) {
		w->count->states++;
		right = look_compare(engine, &w->play->moments, p->acknowledged, p->tried, &seen,
				     cut);
		if (right)
			p->acknowledged = p->tried = seen.commit;
		else if (sim_is_cut(disk))	/* by reading, which may write nodes */
			right = true;
		else
			strcpy(wrong, cut);
		engine_close(engine);
	} else if (!sim_is_cut(disk)) {
		strcpy(wrong, cut);
		right = false;
	}
	return right;
}

static bool its_recovery_is_cut_and_so_on(struct watch *w, struct sim *disk, char *wrong)
{
	struct play_progress p = w->play->progress;
	bool right = true;

	sim_reboot(disk, (enum sim_fate)(chance(&w->random) % SIM_FATES), chance(&w->random));
	for (uint64_t i = chance(&w->random) % CHAIN; right && i < CHAIN; i++) {
		right = open_for_a_while(w, disk, &p, wrong);
		sim_reboot(disk, (enum sim_fate)(chance(&w->random) % SIM_FATES),
			   chance(&w->random));
	}
	return right && comes_back(w, disk, p.acknowledged, p.tried, wrong);
}

/* ---- stories ---------------------------------------------------------------------------- */

static void add_context(const struct watch *w, const char *ending, char *wrong)
{
	char text[PLAY_WRONG_SIZE];

	snprintf(text, sizeof(text), "operation %llu, %s: %.500s",
		 (unsigned long long)w->count->operations, ending, wrong);
	strcpy(wrong, text);
}

static bool look(struct watch *w, struct sim *disk, char *wrong)
{
	static const char *const fates[SIM_FATES] = {
		"all kept",     "all lost",    "torn",     "scattered",
		"file by file", "the odd one", "shredded",
	};
	bool right = true;

	w->random = w->seed * 1000003 + w->count->operations;
	for (int i = 0; i < SIM_FATES + 3 && right; i++) {
		struct sim *copy = sim_clone(disk);

		if (i < SIM_FATES)
			right = the_power_was_cut(w, copy, (enum sim_fate)i, wrong);
		else if (i == SIM_FATES)
			right = the_process_was_killed(w, copy, wrong);
		else
			right = its_recovery_is_cut_and_so_on(w, copy, wrong);
		if (!right)
			add_context(w, i < SIM_FATES ? fates[i] : i == SIM_FATES ? "killed" :
				    "recovery cut", wrong);
		sim_free(copy);
	}
	return right;
}

static void see(void *arg, struct sim *clone)
{
	struct watch *w = arg;

	if (w->count->operations++ % w->every == 0 && !w->play->wrong[0]) {
		w->count->cuts++;
		tell_alive();
		if (w->play->engine)
			look(w, clone, w->play->wrong);
	}
	sim_free(clone);
}

struct arg {
	struct count *count;
	uint64_t cuts;
};

static uint64_t count_operations(const struct tale *tale, const struct story *story)
{
	struct play p;
	uint64_t operations;

	play_begin(&p, tale->mix, tale->seed);
	play(&p, story);
	operations = sim_changes(p.disk);
	play_end(&p);
	return operations;
}

static bool survives_every_cut(const struct tale *tale, const struct story *story, char *wrong)
{
	struct arg *arg = tale->arg;
	const uint64_t operations = count_operations(tale, story);
	struct play p;
	struct watch w = {
		.play = &p, .count = arg->count, .seed = tale->seed,
		.every = arg->cuts && operations > arg->cuts ? operations / arg->cuts : 1,
	};
	bool right;

	*arg->count = (struct count){ 0 };
	play_begin(&p, tale->mix, tale->seed);
	sim_watch(p.disk, see, &w);
	right = play(&p, story) && play_close(&p);
	strcpy(wrong, p.wrong);
	sim_watch(p.disk, NULL, NULL);
	play_end(&p);
	return right;
}

static void after_a_power_cut_the_store_is_as_after_some_commit(void **state)
{
	const uint64_t seed = tell_given("SEED", 1);
	const char *only = getenv("MIX");
	struct count sum = { 0 };
	struct arg arg = { tell_shared(sizeof(*arg.count)), tell_given("CUTS", CUTS) };
	(void)state;

	print_message("SEED=%llu\n", (unsigned long long)seed);
	for (const struct mix *mix = mixes; mix->name; mix++) {
		const struct tale tale = { mix, seed, survives_every_cut, &arg };

		if (only && strcmp(only, mix->name) != 0)
			continue;
		if (!tell(&tale, tell_given("STORY", STEPS)))
			fail_msg("what came back was not what had been there");
		print_message("%s: %llu operations, %llu cut points, %llu states opened\n",
			      mix->name, (unsigned long long)arg.count->operations,
			      (unsigned long long)arg.count->cuts,
			      (unsigned long long)arg.count->states);
		sum.operations += arg.count->operations;
		sum.cuts += arg.count->cuts;
		sum.states += arg.count->states;
	}
	print_message("%llu operations, %llu cut points, %llu states opened and compared\n",
		      (unsigned long long)sum.operations, (unsigned long long)sum.cuts,
		      (unsigned long long)sum.states);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(after_a_power_cut_the_store_is_as_after_some_commit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* The engine and a plain map are told the same story, long and drawn by lot, with checkpoints under
 * way, kills, power cuts, a cache far too small, a full disk; whatever the engine says must be what
 * the map says. A story that fails is made as short as it can be, and printed.
 *
 * SEED=n begins with another story, ENGINE_STEPS=n plays so many steps (millions are fine),
 * MIX=name only stories of that mix. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "sim/sanitized.h"
#include "sim/tell.h"

enum {
	STORY = 4000,		/* steps of one */
	STEPS = 500000 / SANITIZED_LESS,	/* of all, unless ENGINE_STEPS= says otherwise */
};

static bool engine_and_map_agree(const struct tale *tale, const struct story *story, char *wrong)
{
	struct play p;
	bool right;

	play_begin(&p, tale->mix, tale->seed);
	right = play(&p, story) && play_close(&p);
	strcpy(wrong, p.wrong);
	play_end(&p);
	return right;
}

static void the_engine_is_a_map(void **state)
{
	const uint64_t steps = tell_given("ENGINE_STEPS", STEPS);
	const char *only = getenv("MIX");
	uint64_t told = 0, seed = tell_given("SEED", 1);
	(void)state;

	print_message("SEED=%llu\n", (unsigned long long)seed);
	for (; told < steps; seed++)
		for (const struct mix *mix = mixes; mix->name; mix++) {
			const struct tale tale = { mix, seed, engine_and_map_agree, NULL };

			if (only && strcmp(only, mix->name) != 0)
				continue;
			if (!tell(&tale, STORY))
				fail_msg("the engine and the map disagree");
			told += STORY;
		}
	print_message("%llu steps\n", (unsigned long long)told);
}

/* The shrinker itself: of many steps those two remain that matter. */
static bool has_both(void *arg, const struct story *story)
{
	bool put = false, cut = false;
	(void)arg;

	for (size_t i = 0; i < story->count; i++) {
		put |= story->at[i].kind == STEP_PUT && story->at[i].key == 7;
		cut |= put && story->at[i].kind == STEP_CHECKPOINT;
	}
	return cut;
}

static void a_story_is_shortened_to_what_matters(void **state)
{
	struct story story = story_draw(&mixes[0], 5, 3000);
	(void)state;

	assert_true(has_both(NULL, &story));
	story_shrink(&story, has_both, NULL);
	assert_int_equal(story.count, 2);
	assert_int_equal(story.at[0].kind, STEP_PUT);
	assert_int_equal(story.at[1].kind, STEP_CHECKPOINT);
	story_done(&story);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_story_is_shortened_to_what_matters),
		cmocka_unit_test(the_engine_is_a_map),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

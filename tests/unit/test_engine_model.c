/* The engine and a plain map are told the same story, long and drawn by lot, with checkpoints under
 * way, kills, power cuts, a cache far too small, a full disk; whatever the engine says must be what
 * the map says. A story that fails is made as short as it can be, and printed.
 *
 * SEED=n begins with another story, STEPS=n plays so many steps (millions are fine), MIX=name only
 * stories of that mix. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "sim/play.h"

enum {
	STORY = 4000,		/* steps of one */
	STEPS = 1000000,		/* of all, unless STEPS= says otherwise */
	PATIENCE = 60,		/* seconds; a story that hangs fails */
	LESS_PATIENCE = 5,	/* with one that is being shortened */
};

struct telling {
	const struct mix *mix;
	uint64_t seed;
	unsigned patience;
	char wrong[PLAY_WRONG_SIZE];
};

/* Plays it whole and closes the store, in a process of its own: so a story that kills its player can
 * be shortened as well. */
static int tell(const struct telling *t, const struct story *story, int to)
{
	struct play p;
	bool right;

	alarm(t->patience);
	play_begin(&p, t->mix, t->seed);
	right = play(&p, story) && play_close(&p);
	if (!right)
		(void)!write(to, p.wrong, strlen(p.wrong));
	play_end(&p);
	return right ? 0 : 1;
}

static bool fails(void *arg, const struct story *story)
{
	struct telling *t = arg;
	size_t got = 0;
	int pipes[2], status;
	ssize_t n;
	pid_t child;

	assert_int_equal(pipe(pipes), 0);
	fflush(NULL);
	child = fork();
	assert_true(child >= 0);
	if (child == 0)
		_exit(tell(t, story, pipes[1]));
	close(pipes[1]);
	while ((n = read(pipes[0], t->wrong + got, sizeof(t->wrong) - 1 - got)) > 0)
		got += (size_t)n;
	close(pipes[0]);
	assert_int_equal(waitpid(child, &status, 0), child);
	if (got == 0 && WIFSIGNALED(status))
		got = (size_t)snprintf(t->wrong, sizeof(t->wrong), "killed by signal %d",
				       WTERMSIG(status));
	t->wrong[got] = '\0';
	return status != 0;
}

static void tell_and_shrink(struct telling *t)
{
	struct story story = story_draw(t->mix, t->seed, STORY);

	if (fails(t, &story)) {
		print_message("%s, SEED=%llu: %s\n", t->mix->name, (unsigned long long)t->seed,
			      t->wrong);
		t->patience = LESS_PATIENCE;
		story_shrink(&story, fails, t);
		assert_true(fails(t, &story));
		print_message("the same in %zu steps: %s\n", story.count, t->wrong);
		story_print(&story, stdout);
		story_done(&story);
		fail_msg("the engine and the map disagree");
	}
	story_done(&story);
}

static uint64_t given(const char *name, uint64_t otherwise)
{
	const char *text = getenv(name);

	return text ? strtoull(text, NULL, 10) : otherwise;
}

static void the_engine_is_a_map(void **state)
{
	const uint64_t steps = given("STEPS", STEPS);
	const char *only = getenv("MIX");
	uint64_t told = 0, seed = given("SEED", 1);
	(void)state;

	print_message("SEED=%llu\n", (unsigned long long)seed);
	for (; told < steps; seed++)
		for (const struct mix *mix = mixes; mix->name; mix++) {
			struct telling t = { .mix = mix, .seed = seed, .patience = PATIENCE };

			if (only && strcmp(only, mix->name) != 0)
				continue;
			tell_and_shrink(&t);
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

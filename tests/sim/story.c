#include "sim/story.h"

#include <stdlib.h>
#include <string.h>

#include "sim/medium.h"
#include "sim/moments.h"

#define SMALL_LOG .create = true, .segment_size = 48 * 1024, .log_cap = 192 * 1024

/* Where steps happen while a checkpoint is under way: it cannot make room for them. */
#define WIDE_LOG .create = true, .segment_size = 48 * 1024, .log_cap = 64 << 20

const struct mix mixes[] = {
	{
		.name = "batches", .keys = 60, .value_max = 6000, .run_max = 20000,
		.weights = {
			[STEP_PUT] = 200, [STEP_RUN] = 10, [STEP_DELETE] = 90, [STEP_PATCH] = 60,
			[STEP_COMMIT] = 140,
			[STEP_WRITTEN] = 70, [STEP_SYNCED] = 50, [STEP_CHECKPOINT] = 2,
			[STEP_GET] = 10,
		},
		.options = { SMALL_LOG },
	}, {
		.name = "large values", .keys = 30, .value_max = 40000, .run_max = 150000,
		.weights = {
			[STEP_PUT] = 30, [STEP_RUN] = 80, [STEP_DROP] = 10, [STEP_DELETE] = 40,
			[STEP_PATCH] = 40,
			[STEP_COMMIT] = 100, [STEP_WRITTEN] = 30, [STEP_SYNCED] = 40,
			[STEP_CHECKPOINT] = 4, [STEP_GET] = 10,
		},
		.options = { SMALL_LOG, .cache = 40000 },
	}, {
		.name = "checkpoints under way", .keys = 150, .value_max = 3000, .run_max = 40000,
		.weights = {
			[STEP_PUT] = 200, [STEP_RUN] = 20, [STEP_DELETE] = 70, [STEP_PATCH] = 60,
			[STEP_COMMIT] = 150,
			[STEP_WRITTEN] = 60, [STEP_SYNCED] = 30, [STEP_CHECKPOINT] = 12,
			[STEP_GET] = 20,
		},
		.meanwhile = 60,
		.options = { WIDE_LOG, .cache = 65536 },
	}, {
		.name = "one crash after another", .keys = 80, .value_max = 4000, .run_max = 30000,
		.weights = {
			[STEP_PUT] = 200, [STEP_RUN] = 15, [STEP_DELETE] = 80, [STEP_PATCH] = 60,
			[STEP_COMMIT] = 150,
			[STEP_WRITTEN] = 50, [STEP_SYNCED] = 40, [STEP_CHECKPOINT] = 3,
			[STEP_REOPEN] = 2, [STEP_KILL] = 5, [STEP_POWER] = 8, [STEP_GET] = 10,
		},
		.options = { SMALL_LOG, .cache = 30000 },
	}, {
		.name = "a deep tree in a small memory", .keys = 4000, .value_max = 1500,
		.run_max = 9000,
		.weights = {
			[STEP_PUT] = 500, [STEP_RUN] = 5, [STEP_DELETE] = 300, [STEP_PATCH] = 200,
			[STEP_COMMIT] = 70,
			[STEP_WRITTEN] = 20, [STEP_SYNCED] = 5, [STEP_CHECKPOINT] = 3,
			[STEP_REOPEN] = 1, [STEP_POWER] = 1, [STEP_GET] = 100,
		},
		.meanwhile = 60,
		.options = { WIDE_LOG, .cache = 1 },
	}, {
		.name = "a full disk", .keys = 300, .value_max = 9000, .run_max = 200000,
		.weights = {
			[STEP_PUT] = 200, [STEP_RUN] = 60, [STEP_DROP] = 5, [STEP_DELETE] = 50,
			[STEP_PATCH] = 30,
			[STEP_COMMIT] = 150, [STEP_WRITTEN] = 30, [STEP_SYNCED] = 30,
			[STEP_CHECKPOINT] = 3, [STEP_REOPEN] = 1, [STEP_KILL] = 1,
			[STEP_POWER] = 1, [STEP_GET] = 10,
		},
		.limit = 6 << 20,
		.options = { SMALL_LOG },
	}, {
		.name = "a full disk and a small memory", .keys = 1500, .value_max = 40000,
		.run_max = 100000,
		.weights = {
			[STEP_PUT] = 300, [STEP_RUN] = 10, [STEP_DROP] = 5, [STEP_DELETE] = 60,
			[STEP_PATCH] = 150, [STEP_COMMIT] = 150, [STEP_WRITTEN] = 30,
			[STEP_SYNCED] = 30,
			[STEP_CHECKPOINT] = 6, [STEP_REOPEN] = 1, [STEP_KILL] = 1,
			[STEP_POWER] = 1, [STEP_GET] = 40,
		},
		.limit = 6 << 20,
		.options = { SMALL_LOG, .cache = 1 },
	}, {
		.name = "snapshots", .keys = 120, .value_max = 4000, .run_max = 30000,
		.weights = {
			[STEP_PUT] = 200, [STEP_RUN] = 15, [STEP_DELETE] = 80, [STEP_PATCH] = 60,
			[STEP_COMMIT] = 150,
			[STEP_WRITTEN] = 40, [STEP_SYNCED] = 20, [STEP_CHECKPOINT] = 8,
			[STEP_GET] = 10, [STEP_KEEP] = 12, [STEP_FORGET] = 7, [STEP_MOMENT] = 14,
			[STEP_LOOK_BACK] = 14,
			[STEP_REOPEN] = 1, [STEP_KILL] = 1, [STEP_POWER] = 2,
		},
		.meanwhile = 60,
		.options = { WIDE_LOG, .cache = 65536 },
	}, {
		.name = "a store that empties", .keys = 60, .value_max = 20000,
		.run_max = ENGINE_RUN_MAX,
		.weights = {
			[STEP_PUT] = 60, [STEP_RUN] = 120, [STEP_DELETE] = 10, [STEP_PATCH] = 60,
			[STEP_COMMIT] = 100, [STEP_WRITTEN] = 20, [STEP_SYNCED] = 20,
			[STEP_CHECKPOINT] = 2, [STEP_REOPEN] = 1, [STEP_KILL] = 1,
			[STEP_POWER] = 1, [STEP_GET] = 10, [STEP_KEEP] = 1, [STEP_FORGET] = 4,
			[STEP_MOMENT] = 3, [STEP_LOOK_BACK] = 8, [STEP_CLEAR] = 3,
			[STEP_COMPACT] = 6,
		},
		.options = { SMALL_LOG, .cache = 40000 },
	}, {
		.name = "a full disk that empties", .keys = 100, .value_max = 30000,
		.run_max = 600000,
		.weights = {
			[STEP_PUT] = 60, [STEP_RUN] = 100, [STEP_DELETE] = 5, [STEP_PATCH] = 30,
			[STEP_COMMIT] = 100, [STEP_WRITTEN] = 10, [STEP_SYNCED] = 10,
			[STEP_KILL] = 1, [STEP_POWER] = 1, [STEP_CLEAR] = 3, [STEP_COMPACT] = 20,
		},
		.limit = 12 << 20,
		.options = { SMALL_LOG },
	}, {
		.name = "a store that empties under way", .keys = 80, .value_max = 14000,
		.run_max = 600000,
		.weights = {
			[STEP_PUT] = 60, [STEP_RUN] = 120, [STEP_DELETE] = 10, [STEP_PATCH] = 60,
			[STEP_COMMIT] = 120, [STEP_WRITTEN] = 20, [STEP_SYNCED] = 20,
			[STEP_CHECKPOINT] = 2, [STEP_REOPEN] = 1, [STEP_KILL] = 1,
			[STEP_POWER] = 1, [STEP_GET] = 10, [STEP_KEEP] = 1, [STEP_FORGET] = 5,
			[STEP_MOMENT] = 3, [STEP_LOOK_BACK] = 10, [STEP_CLEAR] = 3,
			[STEP_COMPACT] = 8,
		},
		.meanwhile = 60,
		.options = { WIDE_LOG, .cache = 65536 },
	}, {
		.name = "snapshots on a full disk", .keys = 500, .value_max = 14000,
		.run_max = 65536,
		.weights = {
			[STEP_PUT] = 50, [STEP_RUN] = 250, [STEP_DROP] = 5, [STEP_DELETE] = 30,
			[STEP_PATCH] = 30, [STEP_COMMIT] = 150, [STEP_WRITTEN] = 10,
			[STEP_SYNCED] = 20, [STEP_CHECKPOINT] = 4, [STEP_REOPEN] = 1,
			[STEP_KILL] = 1, [STEP_POWER] = 1, [STEP_GET] = 10, [STEP_KEEP] = 2,
			[STEP_FORGET] = 12, [STEP_MOMENT] = 4, [STEP_LOOK_BACK] = 8,
			[STEP_CLEAR] = 1, [STEP_COMPACT] = 2,
		},
		.limit = 6 << 20,
		.options = { SMALL_LOG, .cache = 65536 },
	},
	{ .name = NULL },
};

/* ---- drawing --------------------------------------------------------------------------- */

static uint32_t pick(uint64_t *random, uint32_t below)
{
	return (uint32_t)(chance(random) >> 32) % below;
}

static uint8_t pick_kind(const struct mix *mix, uint64_t *random)
{
	uint32_t sum = 0, lot;
	uint8_t kind = 0;

	for (int k = 0; k < STEP_KINDS; k++)
		sum += mix->weights[k];
	lot = pick(random, sum);
	while (lot >= mix->weights[kind])
		lot -= mix->weights[kind++];
	return kind;
}

/* Mostly small. */
static uint32_t pick_size(uint64_t *random, uint32_t max)
{
	switch (pick(random, 16)) {
	case 0:
		return pick(random, max + 1);
	case 1:
		return pick(random, 8);
	case 2:
		return max / 4;
	default:
		return pick(random, max < 300 ? max + 1 : 300);
	}
}

static uint32_t pick_run(uint64_t *random, uint32_t max)
{
	return 1 + pick(random, pick(random, 3) ? max / 4 : max);
}

static struct step draw(const struct mix *mix, uint64_t *random, uint32_t number)
{
	struct step s = {
		.kind = pick_kind(mix, random), .key = pick(random, mix->keys), .stamp = number + 1,
	};

	switch (s.kind) {
	case STEP_PUT:
	case STEP_PATCH:
		s.size = pick_size(random, mix->value_max);
		break;
	case STEP_RUN:
	case STEP_DROP:
		s.size = pick_run(random, mix->run_max);
		break;
	case STEP_CHECKPOINT:
	case STEP_KEEP:
	case STEP_FORGET:
	case STEP_COMPACT:
		s.size = mix->meanwhile && pick(random, 2) ? pick(random, mix->meanwhile) : 0;
		break;
	case STEP_MOMENT:
		s.size = pick(random, 2) ? 1 + pick(random, MOMENTS_NAMES) : 0;
		break;
	case STEP_KILL:
	case STEP_POWER:
		s.key = pick(random, SIM_FATES);
		s.size = pick(random, 3) ? pick(random, 8) : pick(random, 60);
		break;
	default:
		break;
	}
	return s;
}

struct story story_draw(const struct mix *mix, uint64_t seed, size_t count)
{
	struct story story = { sim_alloc(count * sizeof(struct step)), count };
	uint64_t random = seed * 1000003 + 17;

	for (size_t i = 0; i < count; i++)
		story.at[i] = draw(mix, &random, (uint32_t)i);
	return story;
}

void story_done(struct story *story)
{
	free(story->at);
	*story = (struct story){ 0 };
}

/* ---- shrinking ------------------------------------------------------------------------- */

static struct story without(const struct story *story, size_t begin, size_t count)
{
	struct story s = { sim_alloc(story->count * sizeof(struct step)), story->count - count };

	memcpy(s.at, story->at, begin * sizeof(struct step));
	memcpy(s.at + begin, story->at + begin + count, (s.count - begin) * sizeof(struct step));
	return s;
}

/* Leaves out `count` steps wherever that can be done; true if anywhere. */
static bool leave_out(struct story *story, size_t count,
		      bool (*fails)(void *arg, const struct story *story), void *arg)
{
	bool shorter = false;

	for (size_t end = story->count; end > 0;) {
		const size_t begin = end > count ? end - count : 0;
		struct story less = without(story, begin, end - begin);

		if (less.count > 0 && fails(arg, &less)) {
			story_done(story);
			*story = less;
			shorter = true;
		} else {
			story_done(&less);
		}
		end = begin;
	}
	return shorter;
}

void story_shrink(struct story *story, bool (*fails)(void *arg, const struct story *story),
		  void *arg)
{
	size_t count = story->count / 2;

	while (count > 0)
		if (!leave_out(story, count, fails, arg) || count > 1)
			count /= 2;
}

/* ---- in words -------------------------------------------------------------------------- */

static const char *const words[STEP_KINDS] = {
	[STEP_PUT] = "put", [STEP_RUN] = "put run", [STEP_DROP] = "drop run",
	[STEP_PATCH] = "patch", [STEP_DELETE] = "delete", [STEP_COMMIT] = "commit",
	[STEP_WRITTEN] = "written",
	[STEP_SYNCED] = "synced", [STEP_CHECKPOINT] = "checkpoint", [STEP_LOOK] = "look",
	[STEP_GET] = "get", [STEP_KEEP] = "keep", [STEP_FORGET] = "forget",
	[STEP_MOMENT] = "moment", [STEP_LOOK_BACK] = "look back", [STEP_REOPEN] = "reopen",
	[STEP_KILL] = "kill",
	[STEP_POWER] = "power cut", [STEP_CLEAR] = "clear", [STEP_COMPACT] = "compact",
};

void story_print(const struct story *story, FILE *to)
{
	for (size_t i = 0; i < story->count; i++) {
		const struct step *s = &story->at[i];

		fprintf(to, "  { %d, %u, %u, %u },\t/* %s", s->kind, s->key, s->size, s->stamp,
			words[s->kind]);
		switch (s->kind) {
		case STEP_PUT:
		case STEP_RUN:
		case STEP_PATCH:
			fprintf(to, " key %u: %u bytes", s->key, s->size);
			break;
		case STEP_DROP:
			fprintf(to, " of %u bytes", s->size);
			break;
		case STEP_DELETE:
		case STEP_GET:
			fprintf(to, " key %u", s->key);
			break;
		case STEP_KEEP:
		case STEP_FORGET:
			fprintf(to, " snapshot %u, while %u steps happen", s->key % MOMENTS_NAMES,
				s->size);
			break;
		case STEP_MOMENT:
		case STEP_LOOK_BACK:
			fprintf(to, " %u, %u", s->key, s->size);
			break;
		case STEP_CHECKPOINT:
			fprintf(to, ", while %u steps happen", s->size);
			break;
		case STEP_KILL:
		case STEP_POWER:
			fprintf(to, " after %u operations", s->size);
			break;
		default:
			break;
		}
		fprintf(to, " */\n");
	}
}

/* bench - the same work on cubby, on file systems that do nothing, and on the disk below, in one
 * run.
 *
 *     bench PLAIN NULLFS PASSTHROUGH STANDARD CLOSE
 *
 * are folders: on the disk, in a mount of nullfs, of libfuse's passthrough_ll over that disk ("-":
 * there is none), and in two mounts of stores on that disk. Rounds are short and interleaved, so
 * that what disturbs the machine disturbs all alike; each figure is the median of its rounds
 * (BENCH_ROUNDS, 5). BENCH_ONLY=small, durable or big: only that part. BENCH_QUICK=1: a minute.
 * The table is Markdown. */
#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "work.h"

enum { WORKS_MAX = 32, ROUNDS_MAX = 99 };

static double rates[WORKS_MAX][PLACES][ROUNDS_MAX];

static int by_size(const void *a, const void *b)
{
	const double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(double *of, int count)
{
	qsort(of, (size_t)count, sizeof(*of), by_size);
	return count % 2 ? of[count / 2] : (of[count / 2 - 1] + of[count / 2]) / 2;
}

static bool wanted(const struct work *work, bool quick)
{
	const char *only = getenv("BENCH_ONLY");

	return work_wanted(work, quick) && (!only || strcmp(only, work_part(work)) == 0);
}

static bool done_at(const struct work *work, const struct place *place, int where)
{
	return place->path && work->places & 1u << where;
}

/* Where the scheduler has put the threads of one file system, and whether both processors are awake,
 * is what the next one begins with: so who comes after whom changes from round to round. */
static int place_in(int round, int turn)
{
	const int at = (turn + round / 2) % PLACES;

	return round % 2 ? PLACES - 1 - at : at;
}

static void measure_at(struct place *places, int p, int w, int round)
{
	double count;

	if (!done_at(&works[w], &places[p], p))
		return;
	places[p].round = round;
	count = works[w].run(&places[p]);
	rates[w][p][round] = count / work_seconds();
}

static void measure(struct place *places, int rounds, bool quick)
{
	for (int round = 0; round < rounds; round++)
		for (int w = 0; works[w].name; w++)
			for (int turn = 0; turn < PLACES && wanted(&works[w], quick); turn++)
				measure_at(places, place_in(round, turn), w, round);
}

static void print_ratio(int width, double a, double b)
{
	if (a > 0 && b > 0)
		printf(" %*.2f |", width, a / b);
	else
		printf(" %*s |", width, "");
}

static void print_table(const struct place *places, int rounds, bool quick)
{
	printf("| %-29s | standard / nullfs | / passthrough | / plain | close / plain |", "");
	for (int p = 0; p < PLACES; p++)
		printf(" %11s |", places[p].name);
	printf("\n|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n");
	for (int w = 0; works[w].name; w++) {
		double m[PLACES];

		if (!wanted(&works[w], quick))
			continue;
		for (int p = 0; p < PLACES; p++)
			m[p] = median(rates[w][p], rounds);
		printf("| %-29s |", works[w].name);
		print_ratio(17, m[STANDARD], m[NULLFS]);
		print_ratio(13, m[STANDARD], m[PASSTHROUGH]);
		print_ratio(7, m[STANDARD], m[PLAIN]);
		print_ratio(13, m[CLOSE], m[PLAIN]);
		for (int p = 0; p < PLACES; p++)
			if (m[p] > 0)
				printf(" %8.0f %2s |", m[p], works[w].unit[0] == 'M' ? "MB" : "");
			else
				printf("             |");
		printf("\n");
	}
}

int main(int argc, char **argv)
{
	const char *text = getenv("BENCH_ROUNDS");
	const bool quick = getenv("BENCH_QUICK") != NULL;
	const int rounds = text ? atoi(text) : quick ? 1 : 5;
	struct place places[PLACES] = {
		[PLAIN] = { .name = "plain" },
		[NULLFS] = { .name = "nullfs" },
		[PASSTHROUGH] = { .name = "passthrough" },
		[STANDARD] = { .name = "standard", .put_is_atomic = true },
		[CLOSE] = { .name = "close", .put_is_atomic = true, .close_is_durable = true },
	};

	if (argc != 1 + PLACES || rounds < 1 || rounds > ROUNDS_MAX)
		errx(2, "usage: bench PLAIN NULLFS PASSTHROUGH STANDARD CLOSE "
			"(BENCH_ROUNDS=1..%d)", ROUNDS_MAX);
	for (int p = 0; p < PLACES; p++)
		if (strcmp(argv[1 + p], "-") != 0) {
			places[p].path = argv[1 + p];
			work_prepare(&places[p], 1u << p, quick);
		}
	measure(places, rounds, quick);
	print_table(places, rounds, quick);
	return 0;
}

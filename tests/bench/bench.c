/* bench - the same work on cubby and on the file system below it, in the same run.
 *
 *     bench PLAIN STANDARD CLOSE      folders: on the disk, and two mounts of stores on that disk
 *
 * Rounds are short and interleaved, so that what disturbs the machine disturbs all alike; each
 * figure is the median of its rounds (BENCH_ROUNDS, 5). */
#include <err.h>
#include <stdio.h>
#include <stdlib.h>

#include "work.h"

enum { PLACES = 3, WORKS_MAX = 32, ROUNDS_MAX = 99 };

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

static void measure(struct place *places, int rounds)
{
	for (int round = 0; round < rounds; round++)
		for (int w = 0; works[w].name; w++)
			for (int p = 0; p < PLACES; p++) {
				const double count = works[w].run(&places[p]);

				rates[w][p][round] = count / work_seconds();
			}
}

static void print_table(const struct place *places, int rounds)
{
	printf("%-29s | %9s %9s | %10s %10s %10s\n", "", "standard", "close", places[0].name,
	       places[1].name, places[2].name);
	printf("%-29s | %9s %9s | %32s\n", "", "/ plain", "/ plain", "a second");
	for (int w = 0; works[w].name; w++) {
		double m[PLACES];

		for (int p = 0; p < PLACES; p++)
			m[p] = median(rates[w][p], rounds);
		printf("%-29s | %9.2f %9.2f | %10.0f %10.0f %10.0f%s\n", works[w].name, m[1] / m[0],
		       m[2] / m[0], m[0], m[1], m[2], works[w].unit[0] == 'M' ? "  MB" : "");
	}
	puts("* the shortest way to a durable, atomic change: on cubby open(O_TRUNC), write, "
	     "close\n"
	     "  (and fsync with sync=standard); on the plain folder the durable replace");
}

int main(int argc, char **argv)
{
	const char *text = getenv("BENCH_ROUNDS");
	const int rounds = text ? atoi(text) : 5;

	if (argc != 1 + PLACES || rounds < 1 || rounds > ROUNDS_MAX)
		errx(2, "usage: bench PLAIN STANDARD CLOSE (BENCH_ROUNDS=1..%d)", ROUNDS_MAX);

	struct place places[PLACES] = {
		{ .name = "plain", .path = argv[1] },
		{ .name = "standard", .path = argv[2], .put_is_atomic = true },
		{ .name = "close",
		  .path = argv[3],
		  .put_is_atomic = true,
		  .close_is_durable = true },
	};

	for (int p = 0; p < PLACES; p++)
		work_prepare(&places[p]);
	measure(places, rounds);
	print_table(places, rounds);
	return 0;
}

/* bench - cubby's engine beside others, each phase of each engine in a process of its own.
 *
 *     bench                                prints the table
 *     bench --phase PHASE ENGINE FOLDER    one phase of one engine, for the above
 *
 * TMPDIR      the disk (/var/tmp)            BENCH_QUICK=1   a look in less than a minute
 * BENCH_KEYS  of the large table (1 M)       BENCH_CACHE     MiB each engine may cache (512)
 * BENCH_ROUNDS  of durable puts; their median counts (3)      BENCH_ENGINES   names, of all
 * BENCH_PHASES  names, of all ("durable,big"; see measure.c): their rows only; of load, change
 *               and read each needs the one before, and revive needs kill
 */
#include <err.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "figures.h"
#include "measure.h"

enum { ENGINES = 8, ROUNDS_MAX = 31 };

static const struct driver *const engines[ENGINES] = {
	&driver_floor, &driver_cubby, &driver_cubby_small, &driver_lmdb,
	&driver_rocksdb, &driver_leveldb, &driver_sqlite, &driver_bdb,
};
enum { FLOOR, CUBBY, SMALL, FIRST_OTHER };

const struct figure figures[FIGURES] = {
	[PUT_200_1] = { "durable put, 200 B, 1 thread", "/s", false, "0.85 of raw log" },
	[PUT_200_4] = { "... 4 threads", "/s", false, "0.85 of raw log" },
	[PUT_200_16] = { "... 16 threads", "/s", false, "0.85 of raw log" },
	[PUT_200_64] = { "... 64 threads", "/s", false, "0.85 of raw log" },
	[PUT_200_CALLBACKS] = { "... 64 callbacks", "/s", false, "0.85 of raw log" },
	[PUT_4K_1] = { "durable put, 4 KiB, 1 thread", "/s", false, "0.85 of raw log" },
	[PUT_4K_4] = { "... 4 threads", "/s", false, "0.85 of raw log" },
	[PUT_4K_16] = { "... 16 threads", "/s", false, "0.85 of raw log" },
	[PUT_4K_64] = { "... 64 threads", "/s", false, "0.85 of raw log" },
	[PUT_4K_CALLBACKS] = { "... 64 callbacks", "/s", false, "0.85 of raw log" },
	[PUT_1M] = { "durable put, 1 MiB", "/s", false, "0.85 of raw log" },
	[PUT_1M_BYTES] = { "... bytes written per byte", "", true, "1.1" },
	[PUT_FAST] = { "put, not durable", "/s", false, "" },
	[UPDATE] = { "random update", "/s", false, "LevelDB" },
	[UPDATE_STALL] = { "... longest stall", "ms", true, "" },
	[UPDATE_STALL_OWN] = { "... but for want of a CPU", "ms", true, "20 ms" },
	[UPDATE_BYTES] = { "... bytes written per byte", "", true, "3" },
	[HIT] = { "random get, hit", "/s", false, "LMDB" },
	[MISS] = { "random get, miss", "/s", false, "LMDB" },
	[SCAN] = { "scan, entries", "/s", false, "RocksDB" },
	[DELETE] = { "delete", "/s", false, "" },
	[LIST_BEFORE] = { "first entry of a listing", "us", true, "" },
	[LIST_AFTER] = { "... after 100 000 deletes", "us", true, "as before" },
	[OPEN_CLEAN] = { "open, closed cleanly", "ms", true, "5 ms" },
	[OPEN_KILLED] = { "open, killed with a long log", "ms", true, "1 us a record" },
	[MEMORY_READING] = { "memory after reading", "MiB", true, "cache + 32 MiB" },
	[MEMORY_WRITING] = { "memory after updates", "MiB", true, "cache + 32 MiB" },
	[SIZE] = { "disk, bytes per byte stored", "", true, "" },
};

static double values[FIGURES][ENGINES][ROUNDS_MAX];
static int counts[FIGURES][ENGINES];

/* ---- options -------------------------------------------------------------------------------- */

static double option(const char *name, double otherwise)
{
	const char *text = getenv(name);

	return text && *text ? atof(text) : otherwise;
}

static bool quick(void)
{
	return option("BENCH_QUICK", 0) != 0;
}

static struct scale choose_scale(void)
{
	return (struct scale){
		.keys = (uint64_t)option("BENCH_KEYS", quick() ? 100000 : 1000000),
		.updates = (uint64_t)option("BENCH_UPDATES", quick() ? 50000 : 1000000),
		.listed = quick() ? 10000 : 100000,
		.killed = (uint64_t)option("BENCH_KILLED", quick() ? 100000 : 1000000),
		.seconds = option("BENCH_SECONDS", quick() ? 0.1 : 1),
		.update_seconds = quick() ? 1 : 20,
		.cache = (uint64_t)option("BENCH_CACHE", 512) << 20,
	};
}

static bool named(const char *variable, const char *name)
{
	const char *names = getenv(variable);

	return !names || strstr(names, name);
}

static bool chosen(const struct driver *driver)
{
	return driver && named("BENCH_ENGINES", driver->name);
}

static bool suits(const struct phase *phase, const struct driver *driver)
{
	return chosen(driver) && named("BENCH_PHASES", phase->name) && phase->suits(driver);
}

/* ---- running -------------------------------------------------------------------------------- */

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static void remove_tree(const char *path)
{
	nftw(path, remove_one, 16, FTW_PHYS | FTW_DEPTH | FTW_MOUNT);
}

static void note(int engine, FILE *from)
{
	double value;
	int id;

	while (fscanf(from, "%d %lf", &id, &value) == 2)
		if (id >= 0 && id < FIGURES && counts[id][engine] < ROUNDS_MAX)
			values[id][engine][counts[id][engine]++] = value;
}

static pid_t start(const char *phase, const char *engine, const char *folder, int out)
{
	const pid_t child = fork();

	if (child < 0)
		err(1, "fork");
	if (child > 0)
		return child;
	dup2(out, STDOUT_FILENO);
	execl("/proc/self/exe", "bench", "--phase", phase, engine, folder, (char *)NULL);
	err(1, "exec");
}

static void run_phase(const struct phase *phase, int engine, const char *base)
{
	const char *name = engines[engine]->name;
	char folder[PATH_MAX + 16];
	int pipe_ends[2], status;
	FILE *results;
	pid_t child;

	snprintf(folder, sizeof(folder), "%s/%d", base, engine);
	if (phase->fresh) {
		remove_tree(folder);
		if (mkdir(folder, 0700) != 0)
			err(1, "%s", folder);
		sync();		/* what others left behind is not this one's to write */
	}
	if (pipe2(pipe_ends, O_CLOEXEC) != 0)
		err(1, "pipe");
	child = start(phase->name, name, folder, pipe_ends[1]);
	close(pipe_ends[1]);
	results = fdopen(pipe_ends[0], "r");
	note(engine, results);
	fclose(results);
	waitpid(child, &status, 0);
	if (WIFEXITED(status) && WEXITSTATUS(status) != 0)
		warnx("%s: %s failed", name, phase->name);
}

static void run_all(const char *base, int rounds)
{
	for (int round = 0; round < rounds; round++)
		for (const struct phase *p = phases; p->name; p++)
			for (int e = 0; p->often && e < ENGINES; e++)
				if (suits(p, engines[e]) && e != SMALL)
					run_phase(p, e, base);
	for (int e = 0; e < ENGINES; e++) {
		char folder[PATH_MAX + 16];

		for (const struct phase *p = phases; p->name; p++)
			if (!p->often && suits(p, engines[e]))
				run_phase(p, e, base);
		snprintf(folder, sizeof(folder), "%s/%d", base, e);
		remove_tree(folder);
	}
}

/* ---- the table ------------------------------------------------------------------------------ */

static int by_size(const void *a, const void *b)
{
	const double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* 0: not measured. */
static double median(int id, int engine)
{
	const int count = counts[id][engine];

	qsort(values[id][engine], (size_t)count, sizeof(double), by_size);
	return count ? values[id][engine][count / 2] : 0;
}

/* Above 1: cubby is ahead. */
static void print_ratio(int id, double cubby, double other)
{
	if (cubby <= 0 || other <= 0)
		printf(" |");
	else
		printf(" %.2f |", figures[id].less_is_better ? other / cubby : cubby / other);
}

static int best_other(int id)
{
	int best = FIRST_OTHER;
	double value = 0;

	for (int e = FIRST_OTHER; e < ENGINES; e++) {
		const double v = median(id, e);

		if (v > 0 && (value <= 0 || (figures[id].less_is_better ? v < value : v > value))) {
			best = e;
			value = v;
		}
	}
	return best;
}

static void print_value(double value)
{
	if (value <= 0)
		printf(" |");
	else
		printf(value < 10 ? " %.2f |" : value < 100 ? " %.1f |" : " %.0f |", value);
}

static void print_row(int id)
{
	const int best = best_other(id);

	printf("| %s |", figures[id].name);
	print_ratio(id, median(id, CUBBY), median(id, FLOOR));
	print_ratio(id, median(id, CUBBY), median(id, best));
	printf(" %s | %s | %s |", median(id, best) > 0 ? engines[best]->name : "",
	       figures[id].goal, figures[id].unit);
	for (int e = 0; e < ENGINES; e++)
		if (chosen(engines[e]))
			print_value(median(id, e));
	putchar('\n');
}

static bool measured(int id)
{
	int count = 0;

	for (int e = 0; e < ENGINES; e++)
		count += counts[id][e];
	return count > 0;
}

static void print_table(void)
{
	printf("| | / raw log | / best | best other | goal | unit |");
	for (int e = 0; e < ENGINES; e++)
		if (chosen(engines[e]))
			printf(" %s |", engines[e]->name);
	printf("\n|---|--:|--:|---|---|---|");
	for (int e = 0; e < ENGINES; e++)
		if (chosen(engines[e]))
			printf("--:|");
	putchar('\n');
	for (int id = 0; id < FIGURES; id++)
		if (measured(id))
			print_row(id);
}

static int one_phase(const char *phase, const char *engine, const char *folder)
{
	const struct scale scale = choose_scale();

	measure_prepare();
	for (int e = 0; e < ENGINES; e++)
		for (const struct phase *p = phases; p->name; p++)
			if (engines[e] && strcmp(engines[e]->name, engine) == 0 &&
			    strcmp(p->name, phase) == 0) {
				p->run(engines[e], folder, &scale, stdout);
				return 0;
			}
	errx(2, "no phase %s of %s", phase, engine);
}

int main(int argc, char **argv)
{
	const int rounds = (int)option("BENCH_ROUNDS", quick() ? 1 : 3);
	const char *tmp = getenv("TMPDIR");
	char base[PATH_MAX];

	if (argc == 5 && strcmp(argv[1], "--phase") == 0)
		return one_phase(argv[2], argv[3], argv[4]);
	if (argc != 1 || rounds < 1 || rounds > ROUNDS_MAX)
		errx(2, "see the first lines of bench.c");
	snprintf(base, sizeof(base), "%s/cubby-bench.XXXXXX", tmp ? tmp : "/var/tmp");
	if (!mkdtemp(base))
		err(1, "%s", base);
	run_all(base, rounds);
	remove_tree(base);
	print_table();
	return 0;
}

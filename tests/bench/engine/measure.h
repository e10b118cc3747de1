/* measure.h - the work itself, one phase of it in one process. */
#ifndef CUBBY_BENCH_MEASURE_H
#define CUBBY_BENCH_MEASURE_H

#include <stdint.h>
#include <stdio.h>

#include "driver.h"

/* How much of it; the same for all engines of a run. */
struct scale {
	uint64_t keys;		/* in the large table */
	uint64_t updates;	/* of it; a limit of seconds ends them too */
	uint64_t listed;	/* keys deleted before a listing */
	uint64_t killed;	/* records in the log when it is killed */
	double seconds;		/* of one durable measurement */
	double update_seconds;	/* at most */
	uint64_t cache;
};

/* Makes what values are made of. Before any phase. */
void measure_prepare(void);

/* A phase works in the folder `path` and prints a line "figure value" for each thing measured.
 * Those that want no empty folder go on with what the one before left; "kill" ends its own
 * process with SIGKILL. */
struct phase {
	const char *name;
	bool (*suits)(const struct driver *driver);
	void (*run)(const struct driver *driver, const char *path, const struct scale *scale,
		    FILE *out);
	bool fresh;		/* wants an empty folder */
	bool often;		/* short: once in every round */
};

extern const struct phase phases[];	/* ends with a name of NULL */

#endif

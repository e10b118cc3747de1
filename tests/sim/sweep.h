/* sweep.h - the nth operation of a kind fails, for all n: faults are swept, not sampled.
 *
 *	for (struct sweep s = sweep_begin(faults); sweep_next(&s);) {
 *		...
 *		sweep_arm(&s, disk);
 *		... what is to be tried; s.fault->rc is what the one that fails answers ...
 *		sweep_disarm(&s);
 *		... s.met: it came to that; else this is the last round of this fault ...
 *	}
 *
 * One sweep at a time in a process, since the store's memory is one.
 */
#ifndef CUBBY_SIM_SWEEP_H
#define CUBBY_SIM_SWEEP_H

#include <stdbool.h>
#include <stdint.h>

#include "sim/disk.h"

enum { SWEEP_MEMORY = SIM_KINDS };	/* beside enum sim_kind: the nth allocation */

struct fault {
	const char *name;	/* NULL ends a list */
	int kind;
	int rc;
};

struct sweep {
	const struct fault *fault;
	int64_t n;		/* this many go well before */
	int64_t every;		/* each so many of n only; 1 unless it is set */
	bool met;
	struct sim *disk;
	uint64_t before;
};

/* What a disk and a memory may do to whoever only reads, writes and syncs. */
extern const struct fault faults_of_disk_and_memory[];

struct sweep sweep_begin(const struct fault *faults);
bool sweep_next(struct sweep *s);

void sweep_arm(struct sweep *s, struct sim *disk);
void sweep_disarm(struct sweep *s);

#endif

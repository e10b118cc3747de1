#include "sim/sweep.h"

#include <errno.h>
#include <stddef.h>

#include "mem.h"

const struct fault faults_of_disk_and_memory[] = {
	{ "memory", SWEEP_MEMORY, -ENOMEM },
	{ "read", SIM_READ, -EIO },
	{ "write", SIM_WRITE, -EIO },
	{ "sync", SIM_SYNC, -EIO },
	{ "allocate", SIM_ALLOCATE, -EIO },
	{ .name = NULL },
};

struct sweep sweep_begin(const struct fault *faults)
{
	return (struct sweep){ .fault = faults, .n = -1, .every = 1, .met = true };
}

bool sweep_next(struct sweep *s)
{
	if (!s->met) {
		s->fault++;
		s->n = 0;
	} else {
		s->n += s->n < 0 ? 1 : s->every;
	}
	s->met = true;
	return s->fault->name != NULL;
}

void sweep_arm(struct sweep *s, struct sim *disk)
{
	s->disk = disk;
	if (s->fault->kind == SWEEP_MEMORY) {
		mem_fail_after(s->n, 0);
	} else {
		s->before = sim_count(disk, (enum sim_kind)s->fault->kind);
		sim_fail(disk, (enum sim_kind)s->fault->kind, s->n, s->fault->rc);
	}
}

void sweep_disarm(struct sweep *s)
{
	uint64_t count;

	if (s->fault->kind == SWEEP_MEMORY) {
		count = (uint64_t)mem_count();
		mem_fail_after(-1, 0);
	} else {
		count = sim_count(s->disk, (enum sim_kind)s->fault->kind) - s->before;
		sim_fail(s->disk, (enum sim_kind)s->fault->kind, -1, 0);
	}
	s->met = count > (uint64_t)s->n;
}

/* tell.h - stories are told in a process of their own, so that one that crashes or hangs its teller
 * is found out like any other; and one that fails is made short and printed.
 */
#ifndef CUBBY_SIM_TELL_H
#define CUBBY_SIM_TELL_H

#include "sim/play.h"

struct tale {
	const struct mix *mix;
	uint64_t seed;

	/* Plays the story from the beginning; false with the reason in `wrong`. */
	bool (*tell)(const struct tale *tale, const struct story *story, char *wrong);
	void *arg;		/* for `tell`; memory from tell_shared can bring something back */
};

/* Draws a story of `steps` and tells it. False: it failed, and was shortened and printed. */
bool tell(const struct tale *tale, size_t steps);

/* Whoever tells for long calls this now and then: five minutes without it are a hang. */
void tell_alive(void);

/* Lends zeroed memory that tellers share with us, for as long as the process lives. */
void *tell_shared(size_t size);

/* The number in the environment under `name`, or `otherwise`. */
uint64_t tell_given(const char *name, uint64_t otherwise);

#endif

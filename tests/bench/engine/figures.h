/* figures.h - what is measured, in the order of the table. */
#ifndef CUBBY_BENCH_FIGURES_H
#define CUBBY_BENCH_FIGURES_H

#include <stdbool.h>

enum figure_id {
	PUT_200_1, PUT_200_4, PUT_200_16, PUT_200_64, PUT_200_CALLBACKS,
	PUT_4K_1, PUT_4K_4, PUT_4K_16, PUT_4K_64, PUT_4K_CALLBACKS,
	PUT_1M, PUT_1M_BYTES,
	PUT_FAST, UPDATE, UPDATE_STALL, UPDATE_STALL_OWN, UPDATE_BYTES,
	HIT, MISS, SCAN, DELETE, LIST_BEFORE, LIST_AFTER,
	OPEN_CLEAN, OPEN_KILLED, MEMORY_READING, MEMORY_WRITING, SIZE,
	FIGURES,
};

struct figure {
	const char *name;
	const char *unit;
	bool less_is_better;
	const char *goal;
};

extern const struct figure figures[FIGURES];

#endif

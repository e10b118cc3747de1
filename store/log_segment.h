/* log_segment.h - the log's segment files: made, found, erased. Private to the log.
 *
 * A segment is a file of zeros until it is used; its name says nothing about its place in
 * history, its header does.
 */
#ifndef CUBBY_LOG_SEGMENT_H
#define CUBBY_LOG_SEGMENT_H

#include "err.h"
#include "log_frame.h"
#include "os.h"

enum { SEGMENT_UNITS_MIN = 8 };

struct segment {
	struct segment *next;			/* in the one list that it is in */
	struct segment *next_dirty[2];		/* see log.c */
	struct os_file *file;
	unsigned index;				/* the number in its name */
	char name[16];
	uint64_t size;				/* of the file, bytes */
	uint64_t end;				/* bytes of it in use, while it is live */
	bool has_header;
	bool dirty;				/* written since the last sync of it began */
	struct segment_header header;
};

/* Makes a file of `size` zeros, durably, named by `index`. On failure it is removed again; if that
 * fails too, *left is true, and else false. Gives *out, for segment_close. */
int segment_make(struct os *os, struct os_dir *dir, unsigned index, uint64_t size,
		 struct segment **out, bool *left);

int segment_remove(struct os *os, struct os_dir *dir, unsigned index);

/* Opens every segment file of the folder and reads its header. Gives the list *out.
 *   -EUCLEAN          one belongs to another store, or one is missing between others, or of the
 *                     first `files`
 *   -EPROTONOSUPPORT  one is of another format */
int segments_load(struct os *os, struct os_dir *dir, const uint8_t *store, unsigned files,
		  struct segment **out, struct err *err);

/* Removes every segment file of the folder. */
int segments_remove(struct os *os, struct os_dir *dir);

/* Takes the header away, durably, so that the segment is no longer part of any history. */
int segment_erase(struct os *os, struct segment *segment);

/* Whether a log of ours can have made a file of this size. */
static inline bool segment_size_is_good(uint64_t size)
{
	return size % UNIT == 0 && size >= (uint64_t)SEGMENT_UNITS_MIN * UNIT;
}

/* Accepts NULL. */
void segment_close(struct os *os, struct segment *segment);
void segments_close(struct os *os, struct segment *list);

#endif

/* log_open.c - how a log begins, begins again, and ends. */
#include <errno.h>
#include <string.h>

#include "log_scan.h"
#include "log_state.h"
#include "mem.h"

/* ---- the struct ------------------------------------------------------------------------ */

static struct log *log_new(struct os *os, struct os_dir *dir, const struct log_options *options)
{
	const uint64_t least = SEGMENTS_MIN * options->segment_size;
	struct log *log = mem_zalloc(sizeof(*log));

	if (!log)
		return NULL;
	log->os = os;
	log->dir = dir;
	log->options = *options;
	if (log->options.cap < least)
		log->options.cap = least;
	log->batch_max = UINT32_MAX / 2;
	log->barrier = NO_BARRIER;
	log->barrier_syncing = NO_BARRIER;
	mutex_init(&log->making);
	mutex_init(&log->baton);
	mutex_init(&log->telling);
	mutex_init(&log->lock);
	return log;
}

static void log_free(struct log *log)
{
	if (!log)
		return;
	segments_close(log->os, log->live);
	segments_close(log->os, log->spare);
	if (log->witness)
		log->os->close(log->witness);
	if (log->tail)
		log->os->close(log->tail);
	buffer_done(&log->gather);
	buffer_done(&log->out);
	mutex_done(&log->making);
	mutex_done(&log->baton);
	mutex_done(&log->telling);
	mutex_done(&log->lock);
	mem_free(log);
}

/* Any batch must fit the smallest segment. */
static void limit_batches(struct log *log, uint64_t segment_size)
{
	const uint64_t most = segment_size - SEGMENT_HEADER - GROUP_HEADER;

	if (log->batch_max > most)
		log->batch_max = most;
}

/* Counts a segment in that has just become the log's. */
static void count_segment(struct log *log, const struct segment *s)
{
	log->files++;
	log->total_size += s->size;
	if (s->index >= log->next_index)
		log->next_index = s->index + 1;
	limit_batches(log, s->size);
}

static void set_current(struct log *log, struct segment *s, uint64_t position)
{
	log->current = s;
	log->position = position;
	log->align = true;
}

/* `last` is the last batch's revision; later ones up to `revision` were skipped. */
static void set_history(struct log *log, uint64_t last, uint64_t revision, uint64_t number,
			uint64_t chain)
{
	log->last = last;
	log->revision = log->written = log->synced = revision;
	log->number = number;
	log->synced_group = (struct witness){ number - 1, chain, log->current->index };
	log->chain = chain;
}

/* ---- a new log ------------------------------------------------------------------------- */

static int write_first_header(struct log *log, struct segment *s)
{
	uint8_t bytes[SEGMENT_HEADER];
	int rc;

	s->header = (struct segment_header){ .sequence = 1, .number = 1 };
	memcpy(s->header.store, log->options.store, STORE_ID_SIZE);
	rc = log->os->random(log->os, &s->header.salt, sizeof(s->header.salt));
	if (rc < 0)
		return rc;
	segment_encode(&s->header, bytes);
	rc = log->os->write(s->file, bytes, sizeof(bytes), 0);
	if (rc == 0)
		rc = log->os->sync(s->file);
	s->has_header = true;
	s->end = SEGMENT_HEADER;
	return rc;
}

/* Two segments: the first, and its spare. Nobody else knows the log yet, so no lock is needed. */
static NO_TSA int make_first(struct log *log)
{
	struct segment *s;
	bool left;		/* matters to nobody: the next creation begins by removing it */
	int rc;

	for (unsigned index = 0; index < 2; index++) {
		rc = segment_make(log->os, log->dir, index, log->options.segment_size, &s, &left);
		if (rc < 0)
			return rc;
		count_segment(log, s);
		if (index == 0)
			log->live = s;
		else
			log_add_spare(log, s);
	}
	return write_first_header(log, log->live);
}

int log_create(struct os *os, struct os_dir *dir, const struct log_options *options,
	       struct log_mark *mark, struct log **out, struct err *err)
{
	struct log *log = log_new(os, dir, options);
	int rc;

	if (!log)
		return -ENOMEM;
	rc = segments_remove(os, dir);	/* what a creation left behind that was cut off */
	if (rc == 0)
		rc = witness_make(log);
	if (rc == 0)
		rc = make_first(log);
	if (rc == 0)
		tail_make(log);
	if (rc < 0) {
		err_set(err, rc, "the log cannot be made: %s", strerror(-rc));
		goto out;
	}
	log->sequence = 1;
	set_current(log, log->live, SEGMENT_HEADER);
	set_history(log, 0, 0, 1, 0);

	*mark = (struct log_mark){ .segment = 1, .number = 1, .files = log->files };
	*out = log;
	log = NULL;
out:
	log_free(log);
	return rc;
}

/* ---- an existing log ------------------------------------------------------------------- */

static void insert_live(struct log_found *found, struct segment *s)
{
	struct segment **p = &found->live;

	while (*p && (*p)->header.sequence < s->header.sequence)
		p = &(*p)->next;
	s->next = *p;
	*p = s;
}

static void sort_out(struct log_found *found, struct segment *list, const struct log_mark *mark)
{
	while (list) {
		struct segment *s = list;

		list = s->next;
		if (s->has_header && s->header.sequence >= mark->segment) {
			insert_live(found, s);
		} else {
			s->next = found->others;
			found->others = s;
		}
	}
}

static int check_live(const struct log_found *found, const struct log_mark *mark, struct err *err)
{
	const struct segment *first = found->live;

	if (!first || first->header.sequence != mark->segment)
		return err_set(err, -EUCLEAN,
			       "damaged: segment %llu of the log, with which it begins, is in none "
			       "of the files %s*",
			       (unsigned long long)mark->segment, FILE_LOG_PREFIX);
	if (first->header.number != mark->number || first->header.chain != mark->chain)
		return err_set(err, -EUCLEAN,
			       "%s: damaged at byte 0: it is not the segment with which the log "
			       "begins, although it has its number; a file of another copy?",
			       first->name);
	for (const struct segment *s = first; s; s = s->next) {
		if (!segment_size_is_good(s->size))
			return err_set(err, -EUCLEAN, "%s: damaged: cut off at byte %llu", s->name,
				       (unsigned long long)s->size);
		if (s->next && s->next->header.sequence == s->header.sequence)
			return err_set(err, -EUCLEAN,
				       "%s and %s: damaged: one is a copy of the other",
				       s->name, s->next->name);
	}
	return 0;
}

/* A file of impossible size, if it is the last, is one that was being made when the power went;
 * unless the mark or the witness knows of it. */
static int check_others(const struct log_found *found, unsigned last_index, unsigned files,
			struct err *err)
{
	for (const struct segment *s = found->others; s; s = s->next)
		if (!segment_size_is_good(s->size) &&
		    (s->index != last_index || s->index < files))
			return err_set(err, -EUCLEAN, "%s: damaged: cut off at byte %llu", s->name,
				       (unsigned long long)s->size);
	return 0;
}

/* Writes what the segment has from `offset` on once more. */
static int write_again(const struct log *log, const struct segment *s, uint64_t offset)
{
	enum { PIECE = 64 * 1024 };
	uint8_t *bytes = mem_alloc(PIECE);
	int rc = bytes ? 0 : -ENOMEM;

	while (rc == 0 && offset < s->end) {
		const size_t size = s->end - offset < PIECE ? (size_t)(s->end - offset) : PIECE;
		const ssize_t got = log->os->read(s->file, bytes, size, offset);

		if (got != (ssize_t)size)
			rc = got < 0 ? (int)got : -EIO;
		else
			rc = log->os->write(s->file, bytes, size, offset);
		offset += size;
	}
	mem_free(bytes);
	return rc;
}

/* What was replayed may be in the page cache only, since the process that wrote it was killed, or
 * was told that a sync failed: then no sync will ever write it, unless it is written again; and
 * with it the headers behind it, of which log_rotate may name the last. Nothing vouches for it
 * more than before, so what it relies on may come later: see log_open. */
static int sync_tail(const struct log *log, const struct log_found *found,
		     const struct log_end *end)
{
	bool doubtful = false;
	int rc = 0;

	for (const struct segment *s = found->live; s && rc == 0; s = s->next) {
		const bool last = s == end->last;

		doubtful |= s == end->doubt;
		if (doubtful)
			rc = write_again(log, s, s == end->doubt ? end->doubt_offset : 0);
		if (rc == 0 && (doubtful || last))
			rc = log->os->sync(s->file);
		if (last)
			break;
	}
	return rc;
}

/* A spare whose maker was killed may be nameless yet, and its size not durable; from now on it
 * counts. Those before it were durable before it was made. */
static int sync_last_spare(const struct log *log, const struct log_found *found,
			   unsigned last_index)
{
	int rc = log->os->sync_dir(log->dir);

	for (const struct segment *s = found->others; s && rc == 0; s = s->next)
		if (s->index == last_index && segment_size_is_good(s->size))
			rc = log->os->sync(s->file);
	return rc;
}

/* Writes the tail's group where log_find_end has found that it belongs. */
static int write_tail(const struct log *log, const struct log_found *found,
		      const struct log_end *end)
{
	const struct buffer *bytes = &found->tail.bytes;
	const uint64_t size = unit_up(end->tail_offset + bytes->size) - end->tail_offset;

	if (!end->tail)
		return 0;
	return log->os->write(end->tail->file, bytes->data, (size_t)size, end->tail_offset);
}

static int make_durable(const struct log *log, const struct log_found *found,
			const struct log_end *end, unsigned last_index, struct err *err)
{
	int rc = sync_last_spare(log, found, last_index);

	if (rc == 0)
		rc = write_tail(log, found, end);
	if (rc == 0)
		rc = sync_tail(log, found, end);
	return rc < 0 ? err_set(err, rc, "the end of the log cannot be made durable: %s",
				strerror(-rc)) : 0;
}

/* Segments behind the end are no longer part of history, and must not be taken for it when the
 * log has grown past the place again. */
static int cut_off(const struct log *log, struct log_found *found, const struct log_end *end)
{
	struct segment *stale = end->last->next;
	int rc = 0;

	end->last->next = NULL;
	while (stale) {
		struct segment *s = stale;

		stale = s->next;
		if (rc == 0)
			rc = segment_erase(log->os, s);
		s->next = found->others;
		found->others = s;
	}
	return rc;
}

/* The half-made one is removed. */
static NO_TSA void adopt_others(struct log *log, struct log_found *found)
{
	while (found->others) {
		struct segment *s = found->others;

		found->others = s->next;
		if (segment_size_is_good(s->size)) {
			count_segment(log, s);
			log_add_spare(log, s);
		} else {
			log->os->remove(log->dir, s->name);
			segment_close(log->os, s);
		}
	}
}

/* The log goes on in a new segment: in the last one, stale groups may lie behind the end. */
static NO_TSA void adopt(struct log *log, struct log_found *found, const struct log_end *end,
		  uint64_t revision)
{
	for (const struct segment *s = found->live; s; s = s->next)
		count_segment(log, s);
	log->live = found->live;
	found->live = NULL;
	adopt_others(log, found);
	limit_batches(log, log->options.segment_size);
	log->has_remains = end->torn;
	for (const struct segment *s = log->live; s != end->last; s = s->next)
		log->behind += s->size;
	set_current(log, end->last, end->last->size);
	log_count_spares(log);
	log_count_fill(log);
	set_history(log, end->last_batch, revision, end->number, end->chain);
}

static unsigned highest_index(const struct segment *list)
{
	unsigned highest = 0;

	for (; list; list = list->next)
		if (list->index > highest)
			highest = list->index;
	return highest;
}

static uint64_t highest_sequence(const struct segment *list)
{
	uint64_t highest = 0;

	for (; list; list = list->next)
		if (list->has_header && list->header.sequence > highest)
			highest = list->header.sequence;
	return highest;
}

/* How many files there must be. */
static unsigned files_known(const struct log_mark *mark, const struct witness *witness)
{
	return witness->number && witness->file >= mark->files ? witness->file + 1 : mark->files;
}

int log_open(struct os *os, struct os_dir *dir, const struct log_options *options,
	     const struct log_mark *mark, uint64_t leap, const struct log_reader *reader,
	     struct log **out, bool *torn, struct err *err)
{
	struct log *log = log_new(os, dir, options);
	struct segment *list = NULL;
	struct log_found found = { 0 };
	struct log_end end;
	unsigned last_index, files;
	int rc;

	if (!log)
		return -ENOMEM;
	rc = witness_open(log, &found.witness, err);
	if (rc == 0)
		rc = tail_open(os, dir, options->store, mark->closed, &log->tail, &found.tail, err);
	if (rc < 0)
		goto out;
	files = files_known(mark, &found.witness);
	rc = segments_load(os, dir, options->store, files, &list, err);
	if (rc < 0)
		goto out;
	log->sequence = highest_sequence(list);
	last_index = highest_index(list);
	sort_out(&found, list, mark);
	rc = check_live(&found, mark, err);
	if (rc == 0)
		rc = check_others(&found, last_index, files, err);
	if (rc == 0)
		rc = log_find_end(os, &found, mark, reader, &end, err);
	if (rc < 0)
		goto out;
	rc = make_durable(log, &found, &end, last_index, err);
	if (rc == 0)
		rc = log_replay(os, &found, mark, reader, &end, err);
	if (rc < 0)
		goto out;
	rc = cut_off(log, &found, &end);
	if (rc == 0 && log->tail && !mark->closed)
		rc = tail_clear(os, log->tail);
	if (rc < 0) {
		err_set(err, rc, "the end of the log cannot be cut off: %s", strerror(-rc));
		goto out;
	}
	rc = log->witness ? 0 : witness_make(log);
	if (rc < 0) {
		err_set(err, rc, FILE_WITNESS ": cannot be made: %s", strerror(-rc));
		goto out;
	}
	tail_make(log);
	adopt(log, &found, &end, (end.revision > mark->seen ? end.revision : mark->seen) + leap);

	if (torn)
		*torn = end.torn;
	*out = log;
	log = NULL;
out:
	segments_close(os, found.live);
	segments_close(os, found.others);
	tail_done(&found.tail);
	log_free(log);
	return rc;
}

int log_close(struct log *log)
{
	int rc;

	if (!log)
		return 0;
	rc = log_wait_blocking(log, log_revision(log), LOG_SYNCED);
	log_free(log);
	return rc;
}

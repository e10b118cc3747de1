/* log.c - appending and writing, and turning from segment to segment. How it all hangs together
 * is told in log_state.h.
 */
#include "log.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "log_frame.h"
#include "log_state.h"

int log_die(struct log *log, int rc, const char *what, const char *name)
{
	mutex_lock(&log->lock);
	if (!log->dead)
		err_set(&log->failure, rc, "%s%s%s: %s", what, *name ? " " : "", name,
			strerrordesc_np(-rc));
	log->dead = true;
	mutex_unlock(&log->lock);
	return rc;
}

static uint64_t gathered(const struct log *log)
{
	return log->gather.size ? log->gather.size - GATHER_HEAD : 0;
}

/* ---- segments -------------------------------------------------------------------------- */

void log_add_spare(struct log *log, struct segment *s)
{
	struct segment **p = &log->spare;

	while (*p)
		p = &(*p)->next;
	*p = s;
	s->next = NULL;
	log->spare_count++;
	log_count_spares(log);
}

void log_count_fill(struct log *log)
{
	atomic_store_explicit(&log->fill, log->behind + log->position + gathered(log),
			      memory_order_relaxed);
}

void log_count_spares(struct log *log)
{
	const uint64_t cap = log->cramped ? 0 : log->options.cap;

	atomic_store_explicit(&log->limit, log->total_size > cap ? log->total_size : cap,
			      memory_order_relaxed);
	atomic_store(&log->wants_spares, log->spare_count < LOG_SPARES && !log_is_capped(log));
}

bool log_is_capped(const struct log *log)
{
	return log->total_size + log->options.segment_size > log->options.cap;
}

bool log_wants_spares(const struct log *log)
{
	return atomic_load_explicit(&log->wants_spares, memory_order_relaxed);
}

/* A file that could be neither finished nor removed must be gone before another has its name: if
 * its sync failed it is not to be trusted, and without it there would be a gap. */
static int make_segment(struct log *log, struct segment **out) NEEDS(log->making)
{
	int rc = 0;

	if (log->half_made)
		rc = segment_remove(log->os, log->dir, log->next_index);
	if (rc < 0 && rc != -ENOENT)
		return rc;
	rc = segment_make(log->os, log->dir, log->next_index, log->options.segment_size, out,
			  &log->half_made);
	if (rc == 0)
		log->next_index++;
	return rc;
}

/* Is there so little left on the disk that the log, growing to its cap, could fill it? What remains
 * is for values then: what was removed must be room for as much again. The log does with the
 * files that it has, at the price of more checkpoints. */
static bool disk_is_short(struct log *log, uint64_t growth)
{
	uint64_t free_bytes, total_bytes;

	return log->os->space(log->dir, &free_bytes, &total_bytes) == 0 && free_bytes < growth;
}

/* Makes a spare unless there are `wanted`. Unless beyond_cap: -EAGAIN, the cap is reached; -ENOSPC,
 * the disk is short. */
static int make_spare(struct log *log, unsigned wanted, bool beyond_cap)
	WITHOUT(log->making, log->lock)
{
	struct segment *s = NULL;
	bool enough, capped, dead;
	uint64_t growth;
	int rc = 0;

	mutex_lock(&log->making);
	mutex_lock(&log->lock);
	dead = log->dead;
	enough = log->spare_count >= wanted;
	capped = !beyond_cap && log_is_capped(log);
	growth = beyond_cap || log->files < SEGMENTS_MIN ? 0 : log->options.cap - log->total_size;
	mutex_unlock(&log->lock);
	if (dead)
		rc = -EROFS;
	else if (!enough && capped)
		rc = -EAGAIN;
	else if (!enough && disk_is_short(log, growth))
		rc = -ENOSPC;
	else if (!enough)
		rc = make_segment(log, &s);
	mutex_lock(&log->lock);
	log->cramped = rc == -ENOSPC;
	if (s) {
		log->files++;
		log->total_size += s->size;
		log_add_spare(log, s);
	} else {
		log_count_spares(log);
	}
	mutex_unlock(&log->lock);
	mutex_unlock(&log->making);
	return rc;
}

/* Has a salt ready, whatever the write that follows may need. */
static int choose_salt(struct log *log) NEEDS(log->baton) WITHOUT(log->lock)
{
	int rc = 0;

	if (log->salt == 0)
		rc = log->os->random(log->os, &log->salt, sizeof(log->salt));
	return rc < 0 ? log_die(log, rc, "choosing a salt", "") : 0;
}

/* Turns to the first spare. Its header, which the caller must write, is filled in. */
static void turn_to_spare(struct log *log) NEEDS(log->baton) NEEDS(log->lock)
{
	struct segment *s = log->spare;

	assert(s);
	log->spare = s->next;
	log->spare_count--;
	log_count_spares(log);
	s->next = NULL;
	s->header = (struct segment_header){
		.sequence = ++log->sequence,
		.number = log->number,
		.revision = log->written,
		.chain = log->chain,
		.salt = log->salt,
	};
	memcpy(s->header.store, log->options.store, STORE_ID_SIZE);
	s->has_header = true;
	s->end = SEGMENT_HEADER;
	log->behind += log->current->size;
	log->current->next = s;
	log->current = s;
	log->position = SEGMENT_HEADER;
	log->zeros_end = 0;
	log->has_remains = false;
	log->salt = 0;
}

/* The segment was written to: the next sync must sync it. */
static void mark_dirty(struct log *log, struct segment *s) NEEDS(log->lock)
{
	struct segment **p = &log->dirty[log->collects];

	if (s->dirty)
		return;
	while (*p)
		p = &(*p)->next_dirty[log->collects];
	*p = s;
	s->next_dirty[log->collects] = NULL;
	s->dirty = true;
}

/* ---- writing --------------------------------------------------------------------------- */

/* One write: where, what, and what it is of. */
struct plan {
	struct segment *segment;
	struct group group;
	uint64_t offset;	/* of the group */
	uint64_t last;		/* its last revision */
	bool turns;		/* a new segment, whose header goes along */
};

/* Takes the gathered batches away and decides where they go. False: there are none. */
static bool take_gathered(struct log *log, struct plan *p)
	NEEDS(log->baton) NEEDS(log->lock)
{
	const struct buffer empty = log->out;
	const uint64_t size = gathered(log);
	uint64_t offset = log->align ? unit_up(log->position) : log->position;

	if (size == 0)
		return false;
	p->turns = offset + GROUP_HEADER + size > log->current->size;
	if (p->turns) {
		turn_to_spare(log);
		offset = SEGMENT_HEADER;
	}
	p->segment = log->current;
	p->offset = offset;
	p->last = log->revision;
	p->group = (struct group){
		.number = log->number++,
		.synced = log->synced_group.number,
		.chain = log->chain,
		.revision = log->gather_revision,
		.salt = log->current->header.salt,
		.size = (uint32_t)size,
	};
	assert(!p->turns || !log->tail_used);
	log->flushing = true;
	log->tail_used = 0;
	log->position = group_up(offset + GROUP_HEADER + size);
	log->align = false;
	log->out = log->gather;
	log->gather = empty;
	return true;
}

/* Writes the group in `out`, and zeros to the end of its last unit, unless the group before has
 * left them there: whole pages need not be read first, and nothing old follows directly. */
static int write_group(struct log *log, const struct plan *p, uint64_t *written)
	NEEDS(log->baton)
{
	const uint64_t end = p->offset + GROUP_HEADER + p->group.size;
	const uint64_t padding = unit_up(end) > log->zeros_end ? unit_up(end) - end : 0;
	const size_t skip = p->turns ? 0 : UNIT;
	struct buffer *out = &log->out;

	memset(out->data + out->size, 0, (size_t)padding);	/* log_append left room */
	log->zeros_end = unit_up(end);
	log->chain = group_encode(&p->group, out->data + UNIT);
	if (p->turns)
		segment_encode(&p->segment->header, out->data);
	*written = out->size + padding - skip;
	return log->os->write(p->segment->file, out->data + skip, (size_t)*written,
			      p->offset - UNIT + skip);
}

/* An empty buffer for the next group; a large one is given back. */
static void reset_out(struct log *log) NEEDS(log->baton)
{
	buffer_clear(&log->out);
	if (log->out.capacity > 2 * GATHER_MAX)
		buffer_done(&log->out);
}

int log_flush(struct log *log)
{
	struct plan p;
	uint64_t written;
	bool dead, any;
	int rc = choose_salt(log);

	if (rc < 0)
		return rc;
	mutex_lock(&log->lock);
	dead = log->dead;
	any = !dead && take_gathered(log, &p);
	mutex_unlock(&log->lock);
	if (!any)
		return dead ? -EROFS : 0;
	rc = write_group(log, &p, &written);
	reset_out(log);
	if (rc < 0)
		return log_die(log, rc, "writing", p.segment->name);
	mutex_lock(&log->lock);
	log->flushing = false;
	log->written = p.last;
	p.segment->end = group_up(p.offset + GROUP_HEADER + p.group.size);
	mark_dirty(log, p.segment);
	log_count_fill(log);
	log->stats.groups++;
	log->stats.bytes_written += written;
	mutex_unlock(&log->lock);
	return 0;
}

int log_write(struct log *log, uint64_t revision)
{
	bool written;
	int rc = 0;

	mutex_lock(&log->lock);
	assert(revision <= log->revision);
	written = log->written >= revision || tail_keep(log, revision);
	mutex_unlock(&log->lock);
	if (written)
		return 0;
	mutex_lock(&log->baton);
	mutex_lock(&log->lock);
	written = log->written >= revision;
	mutex_unlock(&log->lock);
	if (!written)
		rc = log_flush(log);
	mutex_unlock(&log->baton);
	return rc;
}

/* ---- appending ------------------------------------------------------------------------- */

enum admission {
	ADMITTED,
	WRITE_FIRST,		/* the gathered group is large enough */
	NEEDS_SPARE,
	REFUSED,		/* the log is dead */
};

/* Can the gathered group take `size` more bytes and be sure of its place? What is in the tail does
 * not go to another segment. */
static enum admission admit(const struct log *log, uint64_t size) NEEDS(log->lock)
{
	const uint64_t group = gathered(log) + size;

	if (log->dead)
		return REFUSED;
	if (gathered(log) && (group > GATHER_MAX || group > log->batch_max))
		return WRITE_FIRST;
	if (unit_up(log->position) + GROUP_HEADER + group <= log->current->size)
		return ADMITTED;
	if (log->tail_used)
		return WRITE_FIRST;
	return log->spare_count > 0 ? ADMITTED : NEEDS_SPARE;
}

/* Copies the batch behind the others, and leaves room for padding. */
static int gather(struct log *log, struct slice batch) NEEDS(log->lock)
{
	struct buffer *b = &log->gather;
	const int rc = buffer_reserve(b, GATHER_HEAD + batch.size + UNIT);

	if (rc < 0)
		return rc;
	if (b->size == 0) {
		b->size = GATHER_HEAD;
		log->gather_revision = log->revision + 1;
	}
	return buffer_append(b, batch.data, batch.size);
}

static int write_now(struct log *log) WITHOUT(log->baton, log->lock)
{
	int rc;

	mutex_lock(&log->baton);
	rc = log_flush(log);
	mutex_unlock(&log->baton);
	return rc;
}

int log_append(struct log *log, struct slice batch, uint64_t *revision)
{
	enum admission admission;
	int rc = 0;

	assert(batch.size >= BATCH_HEADER && get32(batch.data) == batch.size - BATCH_HEADER);
	if (batch.size > log->batch_max)
		return -E2BIG;
	mutex_lock(&log->lock);
	while ((admission = admit(log, batch.size)) != ADMITTED) {
		mutex_unlock(&log->lock);
		if (admission != WRITE_FIRST)
			return admission == REFUSED ? -EROFS : -EAGAIN;
		rc = write_now(log);
		if (rc < 0)
			return rc;
		mutex_lock(&log->lock);
	}
	rc = gather(log, batch);
	if (rc == 0) {
		*revision = log->last = ++log->revision;
		log->stats.batches++;
		log->stats.bytes_appended += batch.size;
		log_count_fill(log);
	}
	mutex_unlock(&log->lock);
	return rc;
}

/* ---- checkpoints ----------------------------------------------------------------------- */

int log_prepare(struct log *log, unsigned spares)
{
	int rc;
	bool done;

	do {
		rc = make_spare(log, spares, false);
		mutex_lock(&log->lock);
		done = log->spare_count >= spares;
		mutex_unlock(&log->lock);
	} while (rc == 0 && !done);
	return rc;
}

/* Writes the header of the segment just turned to. */
static int write_header(struct log *log, struct segment *s) NEEDS(log->baton) WITHOUT(log->lock)
{
	uint8_t bytes[SEGMENT_HEADER];
	int rc;

	segment_encode(&s->header, bytes);
	rc = log->os->write(s->file, bytes, sizeof(bytes), 0);
	if (rc < 0)
		return log_die(log, rc, "writing", s->name);
	mutex_lock(&log->lock);
	mark_dirty(log, s);
	log_count_fill(log);
	if (log->barrier > log->last)
		log->barrier = log->last;
	log->stats.bytes_written += sizeof(bytes);
	mutex_unlock(&log->lock);
	return 0;
}

/* Turns to a new segment, unless nothing was written to the current one yet, or it is better to
 * stay. -EAGAIN: there is no spare, and no staying where recovery cut something off: it must not be
 * found again. */
static int turn(struct log *log) NEEDS(log->baton) WITHOUT(log->lock)
{
	struct segment *turned;
	bool fresh, stays, turns;
	int rc = choose_salt(log);

	if (rc < 0)
		return rc;
	mutex_lock(&log->lock);
	fresh = log->current->header.number == log->number && !log->has_remains;
	stays = fresh || (!log->has_remains && (log->rotated || !log->spare));
	turns = !stays && log->spare;
	if (turns) {
		turn_to_spare(log);
		log->rotated = true;
	}
	turned = log->current;
	mutex_unlock(&log->lock);
	if (turns)
		return write_header(log, turned);
	return stays ? 0 : -EAGAIN;
}

static int rotate(struct log *log, struct log_mark *mark) WITHOUT(log->baton, log->lock)
{
	int rc;

	mutex_lock(&log->baton);
	rc = log_flush(log);
	if (rc == 0)
		rc = turn(log);
	if (rc == 0) {
		mutex_lock(&log->lock);
		*mark = (struct log_mark){
			.revision = log->last,
			.segment = log->current->header.sequence,
			.number = log->current->header.number,
			.chain = log->current->header.chain,
			.seen = log->revision,
			.files = log->files,
		};
		mutex_unlock(&log->lock);
	}
	mutex_unlock(&log->baton);
	return rc;
}

/* Beyond the cap, if need be. */
int log_rotate(struct log *log, struct log_mark *mark)
{
	int rc = rotate(log, mark);

	while (rc == -EAGAIN) {
		rc = make_spare(log, 1, true);
		if (rc == 0)
			rc = rotate(log, mark);
	}
	return rc;
}

void log_recycle(struct log *log, const struct log_mark *mark)
{
	mutex_lock(&log->lock);
	while (log->live != log->current && log->live->header.sequence < mark->segment) {
		struct segment *s = log->live;

		log->live = s->next;
		log->behind -= s->size;
		log_add_spare(log, s);
	}
	log->rotated = false;
	log_count_fill(log);
	mutex_unlock(&log->lock);
}

/* ---- looking --------------------------------------------------------------------------- */

uint64_t log_batch_max(const struct log *log)
{
	return log->batch_max;
}

uint64_t log_revision(struct log *log)
{
	uint64_t revision;

	mutex_lock(&log->lock);
	revision = log->revision;
	mutex_unlock(&log->lock);
	return revision;
}

uint64_t log_last(struct log *log)
{
	uint64_t last;

	mutex_lock(&log->lock);
	last = log->last;
	mutex_unlock(&log->lock);
	return last;
}

unsigned log_files(struct log *log)
{
	unsigned files;

	mutex_lock(&log->lock);
	files = log->files;
	mutex_unlock(&log->lock);
	return files;
}

void log_fill(const struct log *log, uint64_t *bytes, uint64_t *limit)
{
	*bytes = atomic_load_explicit(&log->fill, memory_order_relaxed);
	*limit = atomic_load_explicit(&log->limit, memory_order_relaxed);
}

void log_stats(struct log *log, struct log_stats *out)
{
	mutex_lock(&log->lock);
	*out = log->stats;
	out->cap = log->options.cap;
	out->bytes = log->total_size;
	out->bytes_live = 0;
	for (const struct segment *s = log->live; s; s = s->next)
		out->bytes_live += s->end;
	mutex_unlock(&log->lock);
}

/* Written once, so it may be read on without the lock. */
const char *log_failure(struct log *log)
{
	const char *text;

	mutex_lock(&log->lock);
	text = log->dead ? log->failure.text : "";
	mutex_unlock(&log->lock);
	return text;
}

/* log_scan.c - recovery reads the log twice.
 *
 * The first pass follows the groups by number and by the sum that each carries of the one before
 * it, from the mark to the first place where the next group should be and is not. That is the end
 * of the log, unless some group that lies later says that the missing one had been synced: then
 * it is damage. Since the first group written after a sync begins a unit, looking at every unit
 * finds such a group if there is one. Groups of earlier rounds do not mislead: in a segment with
 * a header the salt tells them apart, and all of them have smaller numbers but for the remains of
 * an earlier torn tail, which can only vouch for what lay before that tail.
 *
 * The second pass hands out the batches. What no group vouches for is checked first, for it may
 * rely on pages that never reached the disk.
 */
#include "log_scan.h"

#include <errno.h>
#include <string.h>

#include "mem.h"

/* Bytes read ahead: little at first, for of a log that was closed only the end is looked at. */
enum {
	AHEAD_FIRST = 4 * UNIT,
	AHEAD_MOST = 64 * UNIT,
};

/* A part of a file in memory. */
struct window {
	struct os *os;
	struct os_file *file;
	uint8_t *bytes;
	size_t capacity, size, ahead;
	uint64_t offset;
};

/* Where a pass stands. */
struct cursor {
	struct segment *segment;
	uint64_t offset;	/* behind the last group */
	uint64_t number;	/* of the next group */
	uint64_t chain;
	uint64_t revision;	/* of the last batch */
};

struct scan {
	struct os *os;
	struct window window;
	struct cursor at;
	struct segment *tail_segment;	/* where the tail's group belongs, or NULL */
	uint64_t tail_offset;
	uint64_t vouched;	/* the revision up to which the mark says that all was on disk */
	uint64_t synced;	/* the highest that any group told */
	uint64_t last;		/* revision of the last batch, or of the mark */
	bool remains;		/* something that once followed the end is still to be seen */
	struct err *err;
};

/* ---- reading --------------------------------------------------------------------------- */

/* Lends `size` bytes at `offset` until the next call. They must lie within the segment. */
static int window_read(struct window *w, const struct segment *s, uint64_t offset, size_t size,
		       const uint8_t **out)
{
	const uint64_t left = s->size - offset;
	size_t ahead = size > w->ahead ? size : w->ahead;
	ssize_t n;

	if (w->file == s->file && offset >= w->offset && size <= w->size &&
	    offset - w->offset <= w->size - size) {
		*out = w->bytes + (offset - w->offset);
		return 0;
	}
	if (ahead > left)
		ahead = (size_t)left;
	w->file = NULL;
	if (ahead > w->capacity) {
		mem_free(w->bytes);
		w->capacity = 0;
		w->bytes = mem_alloc(ahead);
		if (!w->bytes)
			return -ENOMEM;
		w->capacity = ahead;
	}
	n = w->os->read(s->file, w->bytes, ahead, offset);
	if (n < 0)
		return (int)n;
	if ((size_t)n < size)
		return -EIO;
	if (w->ahead < AHEAD_MOST)
		w->ahead *= 2;
	w->file = s->file;
	w->offset = offset;
	w->size = (size_t)n;
	*out = w->bytes;
	return 0;
}

static int cannot_read(struct scan *scan, const struct segment *s, int rc)
{
	if (rc == -ENOMEM)
		return rc;
	return err_set(scan->err, rc, "%s: cannot be read", s->name);
}

/* Is the group that must come next at `offset`? 1: it is, and its batches are lent in *batches. */
static int group_at(struct scan *scan, uint64_t offset, struct group *g, struct slice *batches)
{
	const struct cursor *c = &scan->at;
	const struct segment *s = c->segment;
	const uint8_t *bytes;
	int rc;

	if (offset > s->size || s->size - offset <= GROUP_HEADER)
		return 0;
	rc = window_read(&scan->window, s, offset, GROUP_HEADER, &bytes);
	if (rc < 0)
		return cannot_read(scan, s, rc);
	*g = group_peek(bytes);
	if (g->number != c->number || g->chain != c->chain || g->salt != s->header.salt ||
	    g->size > s->size - offset - GROUP_HEADER)
		return 0;
	rc = window_read(&scan->window, s, offset, GROUP_HEADER + (size_t)g->size, &bytes);
	if (rc < 0)
		return cannot_read(scan, s, rc);
	if (!group_is_whole(g, bytes))
		return 0;
	*batches = slice_of(bytes + GROUP_HEADER, g->size);
	return 1;
}

static int impossible(struct scan *scan, uint64_t offset)
{
	return err_set(scan->err, -EUCLEAN,
		       "%s: the group at byte %llu has the right checksum and impossible content",
		       scan->at.segment->name, (unsigned long long)offset);
}

/* `count`: of its batches. */
static void pass_over(struct cursor *c, const struct group *g, uint64_t offset, int64_t count)
{
	c->offset = group_up(offset + GROUP_HEADER + g->size);
	c->number++;
	c->chain = g->sum;
	c->revision = g->revision + (uint64_t)count - 1;
}

/* Moves on over the next group: right behind the last one, or at the next unit. 1: there was
 * one, and its batches are lent; 0: there is none. */
static int next_group(struct scan *scan, struct group *g, struct slice *batches)
{
	struct cursor *c = &scan->at;
	uint64_t offset = c->offset;
	int64_t count;
	int rc = group_at(scan, offset, g, batches);

	if (rc == 0 && unit_up(offset) != offset) {
		offset = unit_up(offset);
		rc = group_at(scan, offset, g, batches);
	}
	if (rc <= 0)
		return rc;
	count = group_count(*batches);
	if (g->synced >= g->number || g->revision <= c->revision || count < 0)
		return impossible(scan, offset);
	pass_over(c, g, offset, count);
	return 1;
}

/* ---- torn or damaged ------------------------------------------------------------------- */

/* Where a later group says that the missing one was synced. */
struct proof {
	const struct segment *segment;
	uint64_t offset;
};

/* Reads the group at `offset`, if a whole one that is later than the missing one is there. Without
 * a header any salt is good. 1: it is, and described in *g. Seen through the window, for these
 * are thousands of looks. */
static int later_group_at(struct scan *scan, const struct segment *s, uint64_t offset,
			  const uint32_t *salt, struct group *g)
{
	const uint8_t *bytes;
	int rc;

	if (s->size < UNIT || offset > s->size - UNIT)
		return 0;
	rc = window_read(&scan->window, s, offset, GROUP_HEADER, &bytes);
	if (rc < 0)
		return cannot_read(scan, s, rc);
	*g = group_peek(bytes);
	scan->remains |= salt && g->salt == *salt && g->number >= scan->at.number;
	if (g->number <= scan->at.number || g->synced >= g->number ||
	    (salt && g->salt != *salt) || g->size > s->size - offset - GROUP_HEADER)
		return 0;
	rc = window_read(&scan->window, s, offset, GROUP_HEADER + (size_t)g->size, &bytes);
	if (rc < 0)
		return cannot_read(scan, s, rc);
	return group_is_whole(g, bytes);
}

/* Looks at every unit from `offset` on. Where a group was found, what it holds is stepped over:
 * a value may look like a group. */
static int search(struct scan *scan, const struct segment *s, uint64_t offset,
		  const uint32_t *salt, struct proof *proof)
{
	struct group g;
	int rc;

	for (offset = unit_up(offset); offset < s->size; offset = unit_up(offset)) {
		rc = later_group_at(scan, s, offset, salt, &g);
		if (rc < 0)
			return rc;
		if (rc > 0 && g.synced >= scan->at.number && !proof->segment)
			*proof = (struct proof){ s, offset };
		if (rc > 0 && g.synced > scan->synced)
			scan->synced = g.synced;
		scan->remains |= rc > 0;
		offset += rc ? GROUP_HEADER + (uint64_t)g.size : UNIT;
	}
	return 0;
}

/* A segment whose header is old, or gone, although it was used since: its first group tells. */
static int search_other(struct scan *scan, const struct segment *s, struct proof *proof)
{
	struct group first;
	const int rc = later_group_at(scan, s, SEGMENT_HEADER, NULL, &first);

	if (rc < 0)
		return rc;
	if (rc > 0)
		return search(scan, s, SEGMENT_HEADER, &first.salt, proof);
	return s->has_header ? 0 : search(scan, s, SEGMENT_HEADER, NULL, proof);
}

/* The byte to show to whoever looks for the missing group: right behind the one before, unless
 * there is nothing at all. */
static uint64_t missing_offset(const struct scan *scan)
{
	const struct cursor *c = &scan->at;
	static const uint8_t zeros[GROUP_HEADER];
	uint8_t bytes[GROUP_HEADER] = { 0 };
	const ssize_t n = scan->os->read(c->segment->file, bytes, sizeof(bytes), c->offset);

	return n >= 0 && memcmp(bytes, zeros, sizeof(zeros)) == 0 ? unit_up(c->offset) : c->offset;
}

/* The next group is not where it must be. 0: nothing says that it ever was on disk. */
static int torn_or_damaged(struct scan *scan, const struct segment *others)
{
	const struct cursor *c = &scan->at;
	struct proof proof = { 0 };
	struct group g;
	int rc = later_group_at(scan, c->segment, c->offset, &c->segment->header.salt, &g);

	scan->remains |= c->segment->next != NULL;
	if (rc >= 0)
		rc = search(scan, c->segment, c->offset, &c->segment->header.salt, &proof);

	for (const struct segment *s = c->segment->next; s && rc == 0; s = s->next)
		rc = search(scan, s, SEGMENT_HEADER, &s->header.salt, &proof);
	for (const struct segment *s = others; s && rc == 0; s = s->next)
		rc = search_other(scan, s, &proof);
	if (rc < 0 || !proof.segment)
		return rc;
	return err_set(scan->err, -EUCLEAN,
		       "%s: damaged at byte %llu: group %llu of the log is broken or missing "
		       "there, but byte %llu of %s says that it was on disk",
		       c->segment->name, (unsigned long long)missing_offset(scan),
		       (unsigned long long)c->number, (unsigned long long)proof.offset,
		       proof.segment->name);
}

static const struct segment *file_of(const struct log_found *found, unsigned index)
{
	const struct segment *s = found->live;

	while (s && s->index != index)
		s = s->next;
	if (!s)
		s = found->others;
	while (s->index != index)	/* it is there: log_open has made sure of that */
		s = s->next;
	return s;
}

/* The log ends before the group that the witness names. */
static int ends_too_early(struct scan *scan, const struct log_found *found)
{
	const struct witness *w = &found->witness;
	const struct segment *s = file_of(found, w->file);
	const struct cursor *c = &scan->at;

	if (s == c->segment)
		return err_set(scan->err, -EUCLEAN,
			       "%s: damaged at byte %llu: group %llu of the log is broken or "
			       "missing there, but the file %s says that it was on disk",
			       s->name, (unsigned long long)missing_offset(scan),
			       (unsigned long long)c->number, FILE_WITNESS);
	return err_set(scan->err, -EUCLEAN,
		       "%s: damaged, or an older copy: the log went on in it up to group %llu, as "
		       "the file %s says, but ends with group %llu in %s",
		       s->name, (unsigned long long)w->number, FILE_WITNESS,
		       (unsigned long long)c->number - 1, c->segment->name);
}

static int other_history(struct scan *scan, const struct group *g)
{
	return err_set(scan->err, -EUCLEAN,
		       "%s: damaged: its group %llu is not the one that the file %s knows; a file "
		       "of another copy?",
		       scan->at.segment->name, (unsigned long long)g->number, FILE_WITNESS);
}

/* ---- the two passes -------------------------------------------------------------------- */

static void start(struct scan *scan, struct segment *first, const struct log_mark *mark)
{
	scan->at = (struct cursor){
		.segment = first,
		.offset = SEGMENT_HEADER,
		.number = mark->number,
		.chain = mark->chain,
		.revision = first->header.revision,
	};
}

/* The next segment's header says where this one ends: what lies behind was cut off by an earlier
 * recovery. True if that place is reached; then the cursor is in the next segment. */
static bool enter_next(struct scan *scan)
{
	struct cursor *c = &scan->at;
	struct segment *next = c->segment->next;

	if (!next || c->number != next->header.number || c->chain != next->header.chain)
		return false;
	c->segment->end = c->offset;
	c->segment = next;
	c->offset = SEGMENT_HEADER;
	return true;
}

static int contradiction(struct scan *scan)
{
	const struct segment *s = scan->at.segment;

	return err_set(scan->err, -EUCLEAN,
		       "%s: damaged: it does not continue the log where %s ends (group %llu)",
		       s->next->name, s->name, (unsigned long long)scan->at.number);
}

/* The mark says that more was on disk than is here. */
static int cut_short(struct scan *scan)
{
	const struct cursor *c = &scan->at;

	return err_set(scan->err, -EUCLEAN,
		       "%s: damaged at byte %llu: group %llu of the log is broken or missing "
		       "there, but the superblock says that commits up to %llu were on disk",
		       c->segment->name, (unsigned long long)missing_offset(scan),
		       (unsigned long long)c->number, (unsigned long long)scan->vouched);
}

static int note_all(const struct scan *scan, const struct log_reader *reader, uint64_t revision,
		    struct slice batches)
{
	struct slice batch;
	size_t offset = 0;
	int rc = 0;

	for (; rc == 0 && group_next(batches, &offset, &batch); revision++)
		if (revision > scan->vouched)
			rc = reader->note(reader->arg, revision, batch);
	return rc;
}

/* Nothing says that the group which must come next ever was on disk. The tail may have it: then it
 * is the last one. */
static int take_tail(struct scan *scan, const struct tail *tail, const struct log_reader *reader)
{
	struct cursor *c = &scan->at;
	const uint64_t offset = unit_up(c->offset);
	struct group g = tail->group;
	struct slice batches;

	if (g.size == 0 || g.number != c->number || g.chain != c->chain ||
	    g.revision <= c->revision || c->segment->next || offset > c->segment->size ||
	    c->segment->size - offset < GROUP_HEADER + (uint64_t)g.size)
		return 0;
	g.salt = c->segment->header.salt;
	g.sum = group_encode(&g, tail->bytes.data);
	batches = slice_of(tail->bytes.data + GROUP_HEADER, g.size);
	scan->tail_segment = c->segment;
	scan->tail_offset = offset;
	pass_over(c, &g, offset, group_count(batches));
	return note_all(scan, reader, g.revision, batches);
}

static int find_end(struct scan *scan, const struct log_found *found, bool closed,
		    const struct log_reader *reader)
{
	const struct witness *witness = &found->witness;
	struct cursor *c = &scan->at;
	struct slice batches;
	struct group g;
	int rc = 1;

	while (rc > 0) {
		if (enter_next(scan))
			continue;
		if (c->segment->next && c->number >= c->segment->next->header.number)
			return contradiction(scan);
		rc = next_group(scan, &g, &batches);
		if (rc > 0 && g.number == witness->number && g.sum != witness->chain)
			return other_history(scan, &g);
		if (rc > 0 && g.synced > scan->synced)
			scan->synced = g.synced;
		if (rc > 0) {
			const int noted = note_all(scan, reader, g.revision, batches);

			rc = noted < 0 ? noted : 1;
		}
	}
	if (rc == 0 && c->revision < scan->vouched)
		return cut_short(scan);
	if (rc == 0 && (!closed || c->segment->next))
		rc = torn_or_damaged(scan, found->others);
	if (rc == 0 && c->number <= witness->number)
		return ends_too_early(scan, found);
	return rc == 0 ? take_tail(scan, &found->tail, reader) : rc;
}

/* What the mark covers is in the page file, and must not be applied again. */
static int check_all(const struct scan *scan, const struct log_reader *reader, uint64_t revision,
		     struct slice batches)
{
	struct slice batch;
	size_t offset = 0;
	int rc = 0;

	for (; rc == 0 && group_next(batches, &offset, &batch); revision++)
		if (revision > scan->vouched)
			rc = reader->check(reader->arg, batch);
	return rc;
}

static int apply_all(struct scan *scan, const struct log_reader *reader, uint64_t revision,
		     struct slice batches)
{
	const struct segment_header *header = &scan->at.segment->header;
	struct log_mark mark = {
		.segment = header->sequence, .number = header->number, .chain = header->chain,
	};
	struct slice batch;
	size_t offset = 0;
	int rc = 0;

	for (; rc == 0 && group_next(batches, &offset, &batch); revision++)
		if (revision > scan->vouched) {
			scan->last = mark.revision = mark.seen = revision;
			rc = reader->apply(reader->arg, &mark, batch);
		}
	return rc;
}

/* Hands out everything before group `end`. *cut: what a group relies on is missing, and the log
 * ends before it. */
static int hand_out(struct scan *scan, const struct log_reader *reader, uint64_t end, bool *cut)
{
	struct cursor before = scan->at;
	struct slice batches;
	struct group g;
	int rc;

	while (scan->at.number < end) {
		if (enter_next(scan))
			continue;
		before = scan->at;
		rc = next_group(scan, &g, &batches);
		if (rc == 0)	/* it was there a moment ago */
			return cannot_read(scan, scan->at.segment, -EIO);
		if (rc > 0 && g.number > scan->synced)
			rc = check_all(scan, reader, g.revision, batches);
		if (rc == -ENODATA) {
			scan->at = before;
			*cut = true;
			return 0;
		}
		if (rc >= 0)
			rc = apply_all(scan, reader, g.revision, batches);
		if (rc < 0)
			return rc;
	}
	while (enter_next(scan))
		;
	return 0;
}

static struct scan scan_begin(struct os *os, const struct log_mark *mark, struct err *err)
{
	return (struct scan){
		.os = os,
		.window.os = os,
		.window.ahead = AHEAD_FIRST,
		.vouched = mark->revision,
		.last = mark->revision,
		.synced = mark->number - 1,
		.err = err,
	};
}

static struct log_end scan_end(const struct scan *scan)
{
	return (struct log_end){
		.last = scan->at.segment,
		.number = scan->at.number,
		.chain = scan->at.chain,
		.revision = scan->at.revision,
		.last_batch = scan->last,
		.synced = scan->synced,
		.tail = scan->tail_segment,
		.tail_offset = scan->tail_offset,
		.torn = scan->remains,
	};
}

/* Only when the end was found is it known up to where the last group tells that all is on disk; so
 * the segment in which that is is looked at once more. */
static int find_doubt(struct scan *scan, struct segment *live, struct log_end *end)
{
	const uint64_t number = end->synced + 1;
	struct segment *s = live;
	struct slice batches;
	struct group g;
	int rc = 1;

	end->last->end = scan->at.offset;
	if (number >= end->number)
		return 0;
	while (s != end->last && s->next->header.number <= number)
		s = s->next;
	start(scan, s, &(struct log_mark){ .number = s->header.number, .chain = s->header.chain });
	while (rc > 0 && scan->at.number < number)
		rc = next_group(scan, &g, &batches);
	if (rc <= 0)			/* it was there a moment ago */
		return cannot_read(scan, s, rc < 0 ? rc : -EIO);
	end->doubt = s;
	end->doubt_offset = scan->at.offset == SEGMENT_HEADER ? 0 : scan->at.offset;
	return 0;
}

int log_find_end(struct os *os, const struct log_found *found, const struct log_mark *mark,
		 const struct log_reader *reader, struct log_end *end, struct err *err)
{
	struct scan scan = scan_begin(os, mark, err);
	int rc;

	start(&scan, found->live, mark);
	rc = find_end(&scan, found, mark->closed, reader);
	if (rc == 0)
		*end = scan_end(&scan);
	if (rc == 0)
		rc = find_doubt(&scan, found->live, end);
	mem_free(scan.window.bytes);
	return rc;
}

int log_replay(struct os *os, const struct log_found *found, const struct log_mark *mark,
	       const struct log_reader *reader, struct log_end *end, struct err *err)
{
	struct scan scan = scan_begin(os, mark, err);
	bool cut = false;
	int rc;

	scan.synced = end->synced;
	if (scan.synced < found->witness.number)
		scan.synced = found->witness.number;
	scan.remains = end->torn;
	start(&scan, found->live, mark);
	rc = hand_out(&scan, reader, end->number, &cut);
	if (rc == 0) {
		scan.at.segment->end = scan.at.offset;
		scan.remains |= cut;
		*end = scan_end(&scan);
	}
	mem_free(scan.window.bytes);
	return rc;
}

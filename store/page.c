#include "page.h"

#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>

#include "locks.h"
#include "mem.h"
#include "sum.h"

struct pages {
	struct os *os;
	struct os_file *file;
	_Atomic uint64_t units;
	_Atomic uint64_t writes;	/* begun since opening */
	struct mutex lock;		/* held across a sync: who comes second shares the result */
	uint64_t synced;		/* guarded by lock; how many of the writes are durable */
	atomic_int failed;		/* sticky; set under lock */
	struct err failure;		/* why; written before `failed` is, and never again */
};

/* ---- superblocks ------------------------------------------------------------------------ */

void super_encode(const struct super *super, uint8_t unit[UNIT])
{
	memset(unit, 0, UNIT);
	memcpy(unit + SUPER_MAGIC, SUPER_MAGIC_TEXT, 8);
	put32(unit + SUPER_VERSION, FORMAT_VERSION);
	put32(unit + SUPER_UNIT, UNIT);
	memcpy(unit + SUPER_STORE, super->store, STORE_ID_SIZE);
	put64(unit + SUPER_GENERATION, super->generation);
	put64(unit + SUPER_REVISION, super->mark.revision);
	put64(unit + SUPER_LOG_SEGMENT, super->mark.segment);
	put64(unit + SUPER_LOG_NUMBER, super->mark.number);
	put64(unit + SUPER_LOG_CHAIN, super->mark.chain);
	ref_encode(&super->root, unit + SUPER_ROOT);
	ref_encode(&super->space, unit + SUPER_SPACE);
	put64(unit + SUPER_UNITS_TOTAL, super->units);
	put64(unit + SUPER_ENTRIES, super->entries);
	ref_encode(&super->snapshots, unit + SUPER_SNAPSHOTS);
	ref_encode(&super->dead, unit + SUPER_DEAD);
	put64(unit + SUPER_LOG_FILES, super->mark.files);
	put64(unit + SUPER_SEEN, super->mark.seen);
	put64(unit + SUPER_CLOSED, super->mark.closed);
	put64(unit + SUPER_SUM, sum64(unit, SUPER_SUM));
}

/* No block, or one that can be. */
static bool may_be(const struct ref *ref, uint64_t units)
{
	return !ref->length || ref_plausible(ref, units);
}

int super_decode(const uint8_t unit[UNIT], struct super *super, uint32_t *version)
{
	struct super s;

	if (memcmp(unit + SUPER_MAGIC, SUPER_MAGIC_TEXT, 8) != 0 ||
	    get64(unit + SUPER_SUM) != sum64(unit, SUPER_SUM))
		return -ENODATA;
	*version = get32(unit + SUPER_VERSION);
	if (*version != FORMAT_VERSION || get32(unit + SUPER_UNIT) != UNIT)
		return -EPROTONOSUPPORT;
	s = (struct super){
		.generation = get64(unit + SUPER_GENERATION),
		.mark = {
			.revision = get64(unit + SUPER_REVISION),
			.segment = get64(unit + SUPER_LOG_SEGMENT),
			.number = get64(unit + SUPER_LOG_NUMBER),
			.chain = get64(unit + SUPER_LOG_CHAIN),
			.seen = get64(unit + SUPER_SEEN),
			.files = (unsigned)get64(unit + SUPER_LOG_FILES),
			.closed = get64(unit + SUPER_CLOSED) == 1,
		},
		.root = ref_decode(unit + SUPER_ROOT),
		.space = ref_decode(unit + SUPER_SPACE),
		.units = get64(unit + SUPER_UNITS_TOTAL),
		.entries = get64(unit + SUPER_ENTRIES),
		.snapshots = ref_decode(unit + SUPER_SNAPSHOTS),
		.dead = ref_decode(unit + SUPER_DEAD),
	};
	memcpy(s.store, unit + SUPER_STORE, STORE_ID_SIZE);
	if (!may_be(&s.root, s.units) || !may_be(&s.space, s.units) ||
	    !may_be(&s.snapshots, s.units) || !may_be(&s.dead, s.units) || s.units < SUPER_UNITS ||
	    (s.dead.length && !s.snapshots.length))
		return -ENODATA;
	*super = s;
	return 0;
}

/* Reads slot `slot`: 0 if either copy is good, else what the last copy said. */
static int read_slot(struct pages *pages, unsigned slot, struct super *super, uint32_t *version)
{
	uint8_t unit[UNIT];
	int rc = -ENODATA;

	for (unsigned copy = 0; copy < SUPER_COPIES && rc != 0 && rc != -EPROTONOSUPPORT; copy++) {
		const uint64_t at = (copy * SUPER_SLOTS + slot) * (uint64_t)UNIT;
		const ssize_t got = pages->os->read(pages->file, unit, UNIT, at);

		if (got < 0)
			rc = (int)got;
		else
			rc = got == UNIT ? super_decode(unit, super, version) : -ENODATA;
	}
	return rc;
}

/* The newest good superblock of both slots. */
static int find_super(struct pages *pages, struct super *super, bool *damaged, struct err *err)
{
	struct super found[SUPER_SLOTS];
	int rc[SUPER_SLOTS];
	uint32_t version = 0;
	unsigned best;

	for (unsigned slot = 0; slot < SUPER_SLOTS; slot++) {
		rc[slot] = read_slot(pages, slot, &found[slot], &version);
		if (rc[slot] == -EPROTONOSUPPORT)
			return err_set(err, rc[slot], "the store has format %" PRIu32
				       ", this program reads format %u", version, FORMAT_VERSION);
	}
	if (rc[0] < 0 && rc[1] < 0) {
		if (rc[0] != -ENODATA || rc[1] != -ENODATA)
			return err_set(err, rc[0] != -ENODATA ? rc[0] : rc[1],
				       FILE_PAGES ": cannot read the superblocks");
		return err_set(err, -EUCLEAN, FILE_PAGES
			       ": no good superblock (offsets 0 to %d): damaged, or no cubby store",
			       SUPER_UNITS * UNIT);
	}
	if (rc[0] < 0 || rc[1] < 0)
		best = rc[0] < 0;
	else
		best = found[1].generation > found[0].generation;
	*damaged = rc[!best] < 0;
	*super = found[best];
	return 0;
}

/* A write or sync that matters failed: nothing is trusted any more. */
static void fail(struct pages *pages, int rc, const char *what) NEEDS(pages->lock)
{
	if (!atomic_load(&pages->failed))
		err_set(&pages->failure, 0, FILE_PAGES ": %s failed: %s; nothing more is written "
			"until the store is opened again", what, strerror(-rc));
	atomic_store(&pages->failed, -EROFS);
}

bool pages_failure(struct pages *pages, struct err *err)
{
	const bool failed = atomic_load(&pages->failed) != 0;

	if (failed)
		*err = pages->failure;
	return failed;
}

int pages_write_super(struct pages *pages, const struct super *super)
{
	uint8_t unit[UNIT];
	int rc = 0;

	super_encode(super, unit);
	for (unsigned copy = 0; copy < SUPER_COPIES && rc == 0; copy++)
		rc = pages->os->write(pages->file, unit, UNIT,
				      (copy * SUPER_SLOTS + super->generation % SUPER_SLOTS) *
					      (uint64_t)UNIT);
	atomic_fetch_add(&pages->writes, 1);
	if (rc == 0)
		return pages_sync(pages);
	mutex_lock(&pages->lock);
	fail(pages, rc, "writing a superblock");
	mutex_unlock(&pages->lock);
	return rc;
}

/* ---- the file --------------------------------------------------------------------------- */

static int open_file(struct os *os, struct os_dir *dir, unsigned flags, struct pages **out,
		     struct err *err)
{
	struct pages *pages = mem_zalloc(sizeof(*pages));
	uint64_t size;
	int rc;

	if (!pages)
		return -ENOMEM;
	mutex_init(&pages->lock);
	pages->os = os;
	rc = os->open(dir, FILE_PAGES, flags, &pages->file);
	if (rc == 0)
		rc = os->size(pages->file, &size);
	if (rc < 0) {
		err_set(err, rc, FILE_PAGES ": cannot open: %s", strerror(-rc));
		pages_close(pages);
		return rc;
	}
	atomic_store(&pages->units, size / UNIT / PAGES_QUAD * PAGES_QUAD);
	*out = pages;
	return 0;
}

int pages_create(struct os *os, struct os_dir *dir, struct pages **out, struct err *err)
{
	struct pages *pages;
	int rc = open_file(os, dir, OS_CREATE | OS_EXCLUSIVE, &pages, err);

	if (rc < 0)
		return rc;
	rc = pages_grow(pages, SUPER_UNITS);
	if (rc < 0) {
		err_set(err, rc, FILE_PAGES ": cannot make it: %s", strerror(-rc));
		pages_close(pages);
		return rc;
	}
	*out = pages;
	return 0;
}

int pages_finished(struct os *os, struct os_dir *dir, struct err *err)
{
	struct err found = { "" };
	struct pages *pages;
	struct super super;
	bool damaged;
	int rc = open_file(os, dir, 0, &pages, err);

	if (rc < 0)
		return rc;
	rc = find_super(pages, &super, &damaged, &found);
	if (rc == 0)		/* its first sync also is that of the file's size */
		rc = super.units > SUPER_UNITS || pages_units(pages) >= SUPER_UNITS;
	else if (rc == -EUCLEAN && pages_units(pages) <= SUPER_UNITS)
		rc = 0;
	else
		err_set(err, rc, "%s", found.text);
	pages_close(pages);
	return rc;
}

int pages_open(struct os *os, struct os_dir *dir, struct super *super, bool *damaged,
	       struct pages **out, struct err *err)
{
	struct pages *pages;
	bool ignored;
	int rc = open_file(os, dir, 0, &pages, err);

	if (rc < 0)
		return rc;
	rc = find_super(pages, super, damaged ? damaged : &ignored, err);
	if (rc == 0 && super->units > pages_units(pages))
		rc = err_set(err, -EUCLEAN, FILE_PAGES ": cut short: %" PRIu64 " bytes of %" PRIu64,
			     pages_units(pages) * UNIT, super->units * UNIT);
	if (rc < 0)
		pages_close(pages);
	else
		*out = pages;
	return rc;
}

void pages_close(struct pages *pages)
{
	if (!pages)
		return;
	if (pages->file)
		pages->os->close(pages->file);
	mutex_done(&pages->lock);
	mem_free(pages);
}

uint64_t pages_units(const struct pages *pages)
{
	return atomic_load(&pages->units);
}

int pages_grow(struct pages *pages, uint64_t units)
{
	const uint64_t now = pages_units(pages);
	int rc;

	if (units <= now)
		return 0;
	rc = pages->os->allocate(pages->file, now * UNIT, (units - now) * UNIT);
	/* No superblock may count units that a crash takes back. */
	atomic_fetch_add(&pages->writes, 1);
	if (rc == 0)
		atomic_store(&pages->units, units);
	return rc;
}

int pages_shrink(struct pages *pages, uint64_t units)
{
	const int rc = pages->os->truncate(pages->file, units * UNIT);

	if (rc == 0)
		atomic_store(&pages->units, units);
	return rc;
}

/* ---- blocks ----------------------------------------------------------------------------- */

int pages_blame(const struct ref *ref, struct err *err)
{
	return err_set(err, -EBADMSG,
		       FILE_PAGES ": the block at offset %" PRIu64 ", length %" PRIu32
				  ", is damaged: wrong checksum",
		       ref->offset, ref->length);
}

int pages_read(struct pages *pages, const struct ref *ref, void *bytes, struct err *err)
{
	ssize_t got = 0;

	if (!ref_plausible(ref, pages_units(pages)))
		return err_set(err, -EBADMSG,
			       FILE_PAGES ": a reference points to offset %" PRIu64
					  ", length %" PRIu32 ", where no block can be",
			       ref->offset, ref->length);
	for (uint32_t i = 0; i < ref_pieces(ref); i++) {
		const struct ref piece = ref_piece(ref, i);

		got = pages->os->read(pages->file, (uint8_t *)bytes + ref_piece_start(i),
				      piece.length, piece.offset);
		if (got < 0)
			return err_set(err, (int)got, FILE_PAGES ": cannot read at offset %" PRIu64,
				       piece.offset);
		if ((size_t)got != piece.length)
			return pages_blame(ref, err);
	}
	return sum64(bytes, ref->length) == ref->sum ? 0 : pages_blame(ref, err);
}

struct ref page_ref(uint64_t offset, uint64_t generation, struct slice bytes)
{
	return (struct ref){
		.offset = offset,
		.generation = generation,
		.sum = sum64(bytes.data, bytes.size),
		.length = (uint32_t)bytes.size,
	};
}

int pages_put(struct pages *pages, uint64_t offset, struct slice blocks)
{
	const int rc = pages->os->write(pages->file, blocks.data, blocks.size, offset);

	atomic_fetch_add(&pages->writes, 1);
	return rc;
}

int pages_write(struct pages *pages, uint64_t offset, uint64_t generation, struct slice bytes,
		struct ref *ref)
{
	const int rc = pages_put(pages, offset, bytes);

	if (rc == 0)
		*ref = page_ref(offset, generation, bytes);
	return rc;
}

int pages_put_run(struct pages *pages, const struct ref *place, const void *bytes)
{
	int rc = 0;

	for (uint32_t i = 0; rc == 0 && i < ref_pieces(place); i++) {
		const struct ref piece = ref_piece(place, i);

		rc = pages_put(pages, piece.offset,
			       slice_of((const uint8_t *)bytes + ref_piece_start(i), piece.length));
	}
	return rc;
}

int pages_write_run(struct pages *pages, uint64_t generation, const void *bytes, struct ref *run)
{
	const int rc = pages_put_run(pages, run, bytes);

	if (rc == 0) {
		run->generation = generation;
		run->sum = sum64(bytes, run->length);
	}
	return rc;
}

bool pages_syncing(const struct pages *pages)
{
	return pages->os->syncing(pages->os);
}

int pages_flush(struct pages *pages, uint64_t offset, uint64_t size, bool wait)
{
	const int rc = pages->os->flush(pages->file, offset, size, wait);

	if (rc < 0) {
		mutex_lock(&pages->lock);
		fail(pages, rc, "a write");
		mutex_unlock(&pages->lock);
	}
	return rc;
}

int pages_sync(struct pages *pages)
{
	uint64_t writes;
	int rc;

	mutex_lock(&pages->lock);
	writes = atomic_load(&pages->writes);
	rc = atomic_load(&pages->failed);
	if (rc == 0 && writes != pages->synced) {
		rc = pages->os->sync(pages->file);
		if (rc == 0)
			pages->synced = writes;
		else
			fail(pages, rc, "a sync");
	}
	mutex_unlock(&pages->lock);
	return rc;
}

#include "log_tail.h"

#include <errno.h>
#include <string.h>

#include "log_state.h"
#include "mem.h"

enum {
	RECORDS = TAIL_HEADER,		/* where they begin */
};

/* ---- recovery --------------------------------------------------------------------------- */

/* Gathers the batches of all whole records, as a group has them. */
static int take_records(struct slice file, struct tail *found)
{
	const struct group group = found->group;
	uint64_t revision = group.revision;
	size_t offset = RECORDS;
	struct slice batches;
	int rc = buffer_reserve(&found->bytes, file.size + GROUP_HEADER + UNIT);

	if (rc < 0)
		return rc;
	memset(found->bytes.data, 0, found->bytes.capacity);
	found->bytes.size = GROUP_HEADER;
	while (rc == 0 && tail_record_next(file, &offset, &revision, &batches))
		rc = buffer_append(&found->bytes, batches.data, batches.size);
	found->group.size = (uint32_t)(found->bytes.size - GROUP_HEADER);
	return rc;
}

static int read_tail(struct os_file *file, struct os *os, const uint8_t *store, struct tail *found,
		     struct err *err)
{
	uint8_t *bytes = mem_alloc(TAIL_SIZE);
	ssize_t got = bytes ? os->read(file, bytes, TAIL_SIZE, 0) : -ENOMEM;
	int rc = got < 0 ? (int)got : 0;

	if (rc == 0 && got >= RECORDS && tail_decode(&found->group, store, bytes) == 0)
		rc = take_records(slice_of(bytes, (size_t)got), found);
	mem_free(bytes);
	if (rc == -ENOMEM)
		return rc;
	return rc < 0 ? err_set(err, rc, FILE_TAIL ": cannot be read") : 0;
}

int tail_open(struct os *os, struct os_dir *dir, const uint8_t *store, bool closed,
	      struct os_file **file, struct tail *found, struct err *err)
{
	const int rc = os->open(dir, FILE_TAIL, 0, file);

	*found = (struct tail){ 0 };
	if (rc == -ENOENT)
		return 0;
	if (rc < 0)
		return err_set(err, rc, FILE_TAIL ": cannot be opened");
	return closed ? 0 : read_tail(*file, os, store, found, err);
}

void tail_done(struct tail *found)
{
	buffer_done(&found->bytes);
}

int tail_clear(struct os *os, struct os_file *file)
{
	static const uint8_t nothing[TAIL_HEADER];
	const int rc = os->write(file, nothing, sizeof(nothing), 0);

	return rc < 0 ? rc : os->sync(file);
}

/* ---- keeping ---------------------------------------------------------------------------- */

/* Of zeros on disk, not of holes, which a full disk could not fill later. */
static int fill(struct os *os, struct os_file *file)
{
	uint8_t *zeros = mem_zalloc(TAIL_SIZE);
	int rc = zeros ? os->write(file, zeros, TAIL_SIZE, 0) : -ENOMEM;

	if (rc == 0)
		rc = os->sync(file);
	mem_free(zeros);
	return rc;
}

void tail_make(struct log *log)
{
	uint64_t size = 0;
	int rc = 0;

	if (!log->tail)
		rc = log->os->open(log->dir, FILE_TAIL, OS_CREATE, &log->tail);
	if (rc == 0)
		rc = log->os->size(log->tail, &size);
	if (rc == 0 && size < TAIL_SIZE)
		rc = fill(log->os, log->tail);
	if (rc == 0)
		rc = log->os->map(log->tail, TAIL_SIZE);
	if (rc < 0 && log->tail) {
		log->os->close(log->tail);
		log->tail = NULL;
	}
}

/* The place of the group is decided only when it is written; that it fits where we are is certain
 * from here on, for log_append sees to it. */
static bool has_room(const struct log *log, size_t more) NEEDS(log->lock)
{
	const size_t at = log->tail_used ? log->tail_at : RECORDS;
	const uint64_t group = log->gather.size - GATHER_HEAD;

	return more + RECORDS + TAIL_RECORD_HEADER <= TAIL_SIZE &&
	       at <= TAIL_SIZE - TAIL_RECORD_HEADER - more &&
	       unit_up(log->position) + GROUP_HEADER + group <= log->current->size;
}

static int put_header(struct log *log) NEEDS(log->lock)
{
	const struct group group = {
		.number = log->number,
		.synced = log->synced_group.number,
		.chain = log->chain,
		.revision = log->gather_revision,
	};
	uint8_t bytes[TAIL_HEADER];

	tail_encode(&group, log->options.store, bytes);
	return log->os->put(log->tail, bytes, sizeof(bytes), 0);
}

/* First the batches, and then what says that they are there: the process may end in between. */
static int put_record(struct log *log, struct slice batches, uint64_t revision) NEEDS(log->lock)
{
	uint8_t header[TAIL_RECORD_HEADER];
	int rc;

	tail_record_encode(batches, revision, header);
	rc = log->os->put(log->tail, batches.data, batches.size,
			  log->tail_at + TAIL_RECORD_HEADER);
	return rc < 0 ? rc : log->os->put(log->tail, header, sizeof(header), log->tail_at);
}

bool tail_keep(struct log *log, uint64_t revision)
{
	const size_t begin = log->tail_used ? log->tail_used : GATHER_HEAD;
	struct slice batches;
	int rc = 0;

	if (log->kept >= revision)
		return true;
	if (!log->tail || log->tail_failed || log->dead || log->flushing ||
	    log->gather.size <= begin || !has_room(log, log->gather.size - begin))
		return false;
	batches = slice_of(log->gather.data + begin, log->gather.size - begin);
	if (!log->tail_used) {
		log->tail_at = RECORDS;
		log->kept = log->gather_revision - 1;
		rc = put_header(log);
	}
	if (rc == 0)
		rc = put_record(log, batches, log->kept + 1);
	if (rc < 0) {		/* whatever it is: what is written instead will tell */
		log->tail_failed = true;
		return false;
	}
	log->tail_at = group_up(log->tail_at + TAIL_RECORD_HEADER + batches.size);
	log->tail_used = log->gather.size;
	log->kept = log->revision;
	return true;
}

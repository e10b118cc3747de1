#include "log_segment.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "log.h"
#include "mem.h"

enum {
	NAME_DIGITS = 8,
	FILL_SIZE = 256 * 1024,
	SYNC_SIZE = 1 << 20,
};

static void segment_name(struct segment *s, unsigned index)
{
	s->index = index;
	snprintf(s->name, sizeof(s->name), "%s%0*u", FILE_LOG_PREFIX, NAME_DIGITS, index);
}

/* Whether `name` is one of ours, and its number. Anything else in the folder is left alone. */
static bool name_parse(const char *name, unsigned *index)
{
	const size_t prefix = strlen(FILE_LOG_PREFIX);
	unsigned n = 0;

	if (strncmp(name, FILE_LOG_PREFIX, prefix) != 0 || strlen(name) != prefix + NAME_DIGITS)
		return false;
	for (const char *c = name + prefix; *c; c++) {
		if (*c < '0' || *c > '9')
			return false;
		n = n * 10 + (unsigned)(*c - '0');
	}
	*index = n;
	return true;
}

bool log_is_segment(const char *name)
{
	unsigned index;

	return name_parse(name, &index);
}

/* Written, not only allocated: the first write to an allocated block changes the file's
 * map of blocks, and the sync that follows pays for it. Synced piece by piece, so that somebody
 * else's sync never waits for all of it. */
static int fill(struct os *os, struct os_file *file, uint64_t size)
{
	const size_t part_max = size < FILL_SIZE ? (size_t)size : FILL_SIZE;
	uint8_t *zeros = mem_zalloc(part_max);
	int rc;

	if (!zeros)
		return -ENOMEM;
	rc = os->allocate(file, 0, size);
	for (uint64_t offset = 0; offset < size && rc == 0; offset += part_max) {
		const uint64_t left = size - offset;

		rc = os->write(file, zeros, left < part_max ? (size_t)left : part_max, offset);
		if (rc == 0 && (left <= part_max || (offset + part_max) % SYNC_SIZE == 0))
			rc = os->sync(file);
	}
	mem_free(zeros);
	return rc;
}

int segment_remove(struct os *os, struct os_dir *dir, unsigned index)
{
	struct segment s;

	segment_name(&s, index);
	return os->remove(dir, s.name);
}

int segment_make(struct os *os, struct os_dir *dir, unsigned index, uint64_t size,
		 struct segment **out, bool *left)
{
	struct segment *s;
	bool made = false;
	int rc;

	*left = false;
	if (index > SEGMENT_INDEX_MAX)
		return -ENOSPC;
	s = mem_zalloc(sizeof(*s));
	if (!s)
		return -ENOMEM;
	segment_name(s, index);
	s->size = size;
	rc = os->open(dir, s->name, OS_CREATE | OS_EXCLUSIVE, &s->file);
	made = rc == 0;
	if (rc == 0)
		rc = fill(os, s->file, size);
	if (rc == 0)
		rc = os->sync_dir(dir);
	if (rc < 0)
		goto out;

	*out = s;
	s = NULL;
out:
	if (s && made)
		*left = os->remove(dir, s->name) < 0;
	segment_close(os, s);
	return rc;
}

static int read_header(struct os *os, struct segment *s, const uint8_t *store, struct err *err)
{
	uint8_t bytes[SEGMENT_HEADER] = { 0 };
	uint32_t version = 0;
	const ssize_t n = os->read(s->file, bytes, sizeof(bytes), 0);
	int rc;

	if (n < 0)
		return err_set(err, (int)n, "%s: cannot be read", s->name);
	rc = segment_decode(&s->header, bytes, &version);
	if (rc == -ENODATA)
		return 0;
	if (rc == -EPROTONOSUPPORT)
		return err_set(err, rc, "%s: is of format %u; this program knows format %u",
			       s->name, version, FORMAT_VERSION);
	if (memcmp(s->header.store, store, STORE_ID_SIZE) != 0)
		return err_set(err, -EUCLEAN, "%s: belongs to another store", s->name);
	s->has_header = true;
	return 0;
}

struct loading {
	struct os *os;
	struct os_dir *dir;
	const uint8_t *store;
	struct segment *list;
	struct err *err;
};

static int load_one(void *arg, const char *name)
{
	struct loading *l = arg;
	struct segment *s;
	unsigned index;
	int rc;

	if (!name_parse(name, &index))
		return 0;
	s = mem_zalloc(sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->next = l->list;
	l->list = s;
	segment_name(s, index);
	rc = l->os->open(l->dir, s->name, 0, &s->file);
	if (rc < 0)
		return err_set(l->err, rc, "%s: cannot be opened", s->name);
	rc = l->os->size(s->file, &s->size);
	if (rc < 0)
		return err_set(l->err, rc, "%s: cannot be read", s->name);
	return read_header(l->os, s, l->store, l->err);
}

static const struct segment *find_index(const struct segment *list, unsigned index)
{
	while (list && list->index != index)
		list = list->next;
	return list;
}

/* Files are made in the order of their numbers, each durably before the next, and never removed:
 * a gap means that somebody lost one. */
static int check_gaps(const struct segment *list, unsigned files, struct err *err)
{
	unsigned count = 0;

	for (const struct segment *s = list; s; s = s->next)
		count++;
	for (unsigned i = 0; i < count || i < files; i++)
		if (!find_index(list, i))
			return err_set(err, -EUCLEAN, FILE_LOG_PREFIX "%08u: the file is missing",
				       i);
	return 0;
}

int segments_load(struct os *os, struct os_dir *dir, const uint8_t *store, unsigned files,
		  struct segment **out, struct err *err)
{
	struct loading l = { os, dir, store, NULL, err };
	int rc = os->list(dir, load_one, &l);

	if (rc == 0)
		rc = check_gaps(l.list, files, err);
	if (rc < 0)
		segments_close(os, l.list);
	else
		*out = l.list;
	return rc;
}

static int remove_one(void *arg, const char *name)
{
	struct loading *l = arg;
	unsigned index;

	return name_parse(name, &index) ? l->os->remove(l->dir, name) : 0;
}

int segments_remove(struct os *os, struct os_dir *dir)
{
	struct loading l = { .os = os, .dir = dir };

	return os->list(dir, remove_one, &l);
}

int segment_erase(struct os *os, struct segment *s)
{
	static const uint8_t zeros[SEGMENT_HEADER];
	int rc = os->write(s->file, zeros, sizeof(zeros), 0);

	if (rc == 0)
		rc = os->sync(s->file);
	if (rc == 0)
		s->has_header = false;
	return rc;
}

void segment_close(struct os *os, struct segment *segment)
{
	if (!segment)
		return;
	if (segment->file)
		os->close(segment->file);
	mem_free(segment);
}

void segments_close(struct os *os, struct segment *list)
{
	while (list) {
		struct segment *next = list->next;

		segment_close(os, list);
		list = next;
	}
}

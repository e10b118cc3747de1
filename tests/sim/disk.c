/* disk.c - the lying disk.
 *
 * Of each file there are two views: what reads show (`now`) and what is durable (`disk`), and
 * between them the list of changes not yet synced, each with whole images of the sectors it
 * touched as they then were. A sync applies the changes to `disk`; a reboot applies whatever
 * subset fate decides, and `disk` becomes `now`. Names work the same way, by folder.
 */
#include "sim/disk.h"

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "locks.h"
#include "sim/bytemap.h"

enum { SECTOR = 512, PAGE = 4096, NAME_SIZE = 256, NO_FILE = -1 };

struct image {
	atomic_uint shared;
	uint8_t bytes[];
};

struct change {
	uint64_t order;		/* of all changes of the disk */
	uint64_t offset, size;	/* whole sectors; size 0: only the file's size changes */
	struct image *image;	/* NULL: zeros */
	uint64_t file_size;	/* after it */
	bool cuts;		/* a truncation; else the file only grows */
	bool caught;		/* the power went meanwhile: `now` does not have it */
};

struct file {
	struct bytemap now, disk;
	uint64_t now_size, disk_size;
	struct change *changes;
	size_t change_count, change_room;
	unsigned opens;
	struct os_file *holder;	/* of the lock */
};

struct name {
	char text[NAME_SIZE];
	int file;		/* index, or NO_FILE */
};

struct names {
	struct name *at;
	size_t count;
};

struct naming {
	uint64_t order;
	struct name name;	/* NO_FILE: removed */
	bool caught;
};

struct folder {
	struct folder *next;
	char *path;
	struct names now, disk;
	struct naming *namings;
	size_t naming_count;
	struct file **files;	/* NULL where one was */
	int file_count;
};

/* Everything is guarded by `lock`. */
struct sim {
	struct os os;		/* first: the table leads back to us */
	struct mutex lock;
	struct folder *folders;
	uint64_t random;
	uint64_t order;
	uint64_t now_ns, monotonic_ns;
	uint64_t limit;		/* bytes; 0: none */
	uint64_t boot;		/* handles of earlier ones are dead */
	unsigned handles;
	bool cut;
	int64_t cut_after;
	uint64_t changes;
	uint64_t counts[SIM_KINDS];
	int64_t fail_after[SIM_KINDS];
	int fail_rc[SIM_KINDS];
};

struct os_dir {
	struct sim *sim;
	struct folder *folder;
	uint64_t boot;
};

struct os_file {
	struct sim *sim;
	struct file *file;
	uint64_t boot;
};

/* splitmix64 */
static uint64_t chance(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

/* ---- files ---------------------------------------------------------------------------- */

static void image_drop(struct image *image)
{
	if (image && atomic_fetch_sub(&image->shared, 1) == 1)
		free(image);
}

static bool all_zeros(const uint8_t *bytes, size_t size)
{
	return size == 0 || (bytes[0] == 0 && memcmp(bytes, bytes + 1, size - 1) == 0);
}

static void changes_clear(struct file *f)
{
	for (size_t i = 0; i < f->change_count; i++)
		image_drop(f->changes[i].image);
	f->change_count = 0;
}

static void file_free(struct file *f)
{
	if (!f)
		return;
	changes_clear(f);
	free(f->changes);
	bytemap_done(&f->now);
	bytemap_done(&f->disk);
	free(f);
}

static struct file *file_copy(const struct file *from)
{
	struct file *f = sim_alloc(sizeof(*f));

	*f = (struct file){ .now_size = from->now_size, .disk_size = from->disk_size };
	bytemap_copy(&f->now, &from->now);
	bytemap_copy(&f->disk, &from->disk);
	f->change_count = f->change_room = from->change_count;
	f->changes = sim_alloc(f->change_room * sizeof(struct change));
	for (size_t i = 0; i < f->change_count; i++) {
		f->changes[i] = from->changes[i];
		if (f->changes[i].image)
			atomic_fetch_add(&f->changes[i].image->shared, 1);
	}
	return f;
}

static struct change *change_add(struct sim *sim, struct file *f)
{
	if (f->change_count == f->change_room) {
		f->change_room = f->change_room ? f->change_room * 2 : 8;
		f->changes = sim_realloc(f->changes, f->change_room * sizeof(struct change));
	}
	f->changes[f->change_count] = (struct change){ .order = sim->order++ };
	return &f->changes[f->change_count++];
}

/* The sectors that a write touches, as they will be after it. */
static struct image *image_of(const struct file *f, const struct change *c, const void *bytes,
			      size_t size, uint64_t offset)
{
	struct image *image;

	if (c->offset == offset && c->size == size && all_zeros(bytes, size))
		return NULL;
	image = sim_alloc(sizeof(*image) + c->size);
	atomic_init(&image->shared, 1);
	bytemap_read(&f->now, c->offset, image->bytes, c->size);
	memcpy(image->bytes + (offset - c->offset), bytes, size);
	return image;
}

static struct change *note_write(struct sim *sim, struct file *f, const void *bytes, size_t size,
				 uint64_t offset)
{
	const uint64_t end = offset + size;
	struct change *c = change_add(sim, f);

	c->offset = offset / SECTOR * SECTOR;
	c->size = (end + SECTOR - 1) / SECTOR * SECTOR - c->offset;
	c->file_size = end > f->now_size ? end : f->now_size;
	c->image = image_of(f, c, bytes, size, offset);
	return c;
}

static struct change *note_resize(struct sim *sim, struct file *f, uint64_t size, bool cuts)
{
	struct change *c = change_add(sim, f);

	c->file_size = size;
	c->cuts = cuts;
	return c;
}

/* Applies sectors [first, first + count) of a change to a view. */
static void apply(const struct change *c, uint64_t first, uint64_t count, struct bytemap *pages,
		  uint64_t *size)
{
	const uint64_t begin = first * SECTOR;
	const uint64_t end = c->offset + begin + count * SECTOR;
	const uint64_t reach = c->size == 0 || end > c->file_size ? c->file_size : end;

	if (c->cuts) {
		bytemap_cut(pages, c->file_size);
		*size = c->file_size;
		return;
	}
	if (count)
		bytemap_write(pages, c->offset + begin, c->image ? c->image->bytes + begin : NULL,
			    count * SECTOR);
	if ((count || c->size == 0) && *size < reach)
		*size = reach;
}

static void apply_whole(const struct change *c, struct bytemap *pages, uint64_t *size)
{
	apply(c, 0, c->size / SECTOR, pages, size);
}

static void apply_prefix(const struct change *c, uint64_t *random, struct bytemap *pages,
			 uint64_t *size)
{
	const uint64_t sectors = c->size / SECTOR;

	if (sectors)
		apply(c, 0, chance(random) % (sectors + 1), pages, size);
	else if (chance(random) & 1)
		apply_whole(c, pages, size);
}

/* All, none, or any sectors; and perhaps the size without them. */
static void apply_some(const struct change *c, uint64_t *random, struct bytemap *pages,
		       uint64_t *size)
{
	const uint64_t way = chance(random) % 8;
	uint64_t coins = 0;

	if (way < 2 || (c->size == 0 && way < 4)) {
		apply_whole(c, pages, size);
		return;
	}
	if (way < 4 || c->size == 0)
		return;
	for (uint64_t i = 0; i < c->size / SECTOR; i++) {
		coins = i % 64 ? coins >> 1 : chance(random);
		if (coins & 1)
			apply(c, i, 1, pages, size);
	}
	if (way == 7 && *size < c->file_size)
		*size = c->file_size;
}

/* ---- names ---------------------------------------------------------------------------- */

static struct name *name_find(const struct names *names, const char *text)
{
	for (size_t i = 0; i < names->count; i++)
		if (strcmp(names->at[i].text, text) == 0)
			return &names->at[i];
	return NULL;
}

static void name_set(struct names *names, const struct name *name)
{
	struct name *old = name_find(names, name->text);

	if (old && name->file == NO_FILE) {
		*old = names->at[--names->count];
	} else if (old) {
		old->file = name->file;
	} else if (name->file != NO_FILE) {
		names->at = sim_realloc(names->at, (names->count + 1) * sizeof(struct name));
		names->at[names->count++] = *name;
	}
}

static void names_copy(struct names *to, const struct names *from)
{
	to->at = sim_realloc(to->at, from->count * sizeof(struct name));
	if (from->count)
		memcpy(to->at, from->at, from->count * sizeof(struct name));
	to->count = from->count;
}

static struct naming *note_name(struct sim *sim, struct folder *folder, const char *text, int file)
{
	struct naming *n;

	folder->namings = sim_realloc(folder->namings,
				      (folder->naming_count + 1) * sizeof(struct naming));
	n = &folder->namings[folder->naming_count++];
	*n = (struct naming){ .order = sim->order++, .name.file = file };
	strcpy(n->name.text, text);
	return n;
}

static int file_new(struct folder *folder)
{
	struct file *f = sim_alloc(sizeof(*f));

	*f = (struct file){ 0 };
	folder->files = sim_realloc(folder->files,
				    (size_t)(folder->file_count + 1) * sizeof(struct file *));
	folder->files[folder->file_count] = f;
	return folder->file_count++;
}

static struct file *file_named(const struct folder *folder, const char *text)
{
	const struct name *name = name_find(&folder->now, text);

	return name ? folder->files[name->file] : NULL;
}

static struct folder *folder_find(const struct sim *sim, const char *path)
{
	struct folder *folder = sim->folders;

	while (folder && strcmp(folder->path, path) != 0)
		folder = folder->next;
	return folder;
}

static struct folder *folder_add(struct sim *sim, const char *path)
{
	struct folder *folder = sim_alloc(sizeof(*folder));

	*folder = (struct folder){ .next = sim->folders };
	folder->path = sim_alloc(strlen(path) + 1);
	strcpy(folder->path, path);
	sim->folders = folder;
	return folder;
}

static void folder_copy(struct sim *sim, const struct folder *from)
{
	struct folder *folder = folder_add(sim, from->path);
	const size_t namings = from->naming_count * sizeof(struct naming);

	names_copy(&folder->now, &from->now);
	names_copy(&folder->disk, &from->disk);
	folder->namings = sim_alloc(namings);
	if (namings)
		memcpy(folder->namings, from->namings, namings);
	folder->naming_count = from->naming_count;
	folder->files = sim_alloc((size_t)from->file_count * sizeof(struct file *));
	folder->file_count = from->file_count;
	for (int i = 0; i < from->file_count; i++)
		folder->files[i] = from->files[i] ? file_copy(from->files[i]) : NULL;
}

static void folder_free(struct folder *folder)
{
	for (int i = 0; i < folder->file_count; i++)
		file_free(folder->files[i]);
	free(folder->files);
	free(folder->namings);
	free(folder->now.at);
	free(folder->disk.at);
	free(folder->path);
	free(folder);
}

/* ---- every operation ------------------------------------------------------------------ */

enum outcome {
	GO,
	OFF,			/* there is no power */
	CAUGHT,			/* the power goes in the middle of it */
	FAILS,			/* as a test planned */
};

static bool changes_disk(enum sim_kind kind)
{
	return kind != SIM_OPEN && kind != SIM_READ && kind != SIM_RANDOM;
}

/* Each operation asks first; `rc` is what to answer unless it may GO. */
static enum outcome begin(struct sim *sim, enum sim_kind kind, uint64_t boot, int *rc)
{
	*rc = -EIO;
	sim->counts[kind]++;
	if (changes_disk(kind))
		sim->changes++;
	if (sim->cut || boot != sim->boot)
		return OFF;
	if (changes_disk(kind) && sim->cut_after >= 0 && sim->cut_after-- == 0) {
		sim->cut = true;
		return CAUGHT;
	}
	if (sim->fail_after[kind] >= 0 && sim->fail_after[kind]-- == 0) {
		*rc = sim->fail_rc[kind];
		return FAILS;
	}
	*rc = 0;
	return GO;
}

static uint64_t whole_pages(uint64_t size)
{
	return (size + PAGE - 1) / PAGE * PAGE;
}

static uint64_t used(const struct sim *sim)
{
	uint64_t sum = 0;

	for (const struct folder *folder = sim->folders; folder; folder = folder->next) {
		for (int i = 0; i < folder->file_count; i++) {
			bool there = folder->files[i] && folder->files[i]->opens;

			for (size_t n = 0; n < folder->now.count && !there; n++)
				there = folder->now.at[n].file == i;
			if (there)
				sum += whole_pages(folder->files[i]->now_size);
		}
	}
	return sum;
}

static bool has_room(const struct sim *sim, const struct file *f, uint64_t size)
{
	const uint64_t more = whole_pages(size) - whole_pages(f->now_size);

	return size <= f->now_size || more == 0 || sim->limit == 0 ||
	       used(sim) + more <= sim->limit;
}

/* ---- the table: folders ---------------------------------------------------------------- */

static int disk_open_dir(struct os *os, const char *path, unsigned flags, struct os_dir **out)
{
	struct sim *sim = (struct sim *)os;
	struct folder *folder;
	int rc = 0;

	mutex_lock(&sim->lock);
	folder = folder_find(sim, path);
	if (folder && flags & OS_EXCLUSIVE)
		rc = -EEXIST;
	else if (!folder && !(flags & OS_CREATE))
		rc = -ENOENT;
	else
		begin(sim, folder ? SIM_OPEN : SIM_CREATE, sim->boot, &rc);
	if (rc == 0) {
		if (!folder)
			folder = folder_add(sim, path);
		*out = sim_alloc(sizeof(**out));
		**out = (struct os_dir){ sim, folder, sim->boot };
		sim->handles++;
	}
	mutex_unlock(&sim->lock);
	return rc;
}

static void disk_close_dir(struct os_dir *dir)
{
	if (!dir)
		return;
	mutex_lock(&dir->sim->lock);
	dir->sim->handles--;
	mutex_unlock(&dir->sim->lock);
	free(dir);
}

static int disk_sync_dir(struct os_dir *dir)
{
	struct sim *sim = dir->sim;
	struct folder *folder = dir->folder;
	enum outcome outcome;
	int rc;

	mutex_lock(&sim->lock);
	outcome = begin(sim, SIM_SYNC_DIR, dir->boot, &rc);
	if (outcome == GO || outcome == FAILS) {
		for (size_t i = 0; i < folder->naming_count; i++)
			if (outcome == GO || chance(&sim->random) & 1)
				name_set(&folder->disk, &folder->namings[i].name);
		folder->naming_count = 0;
	}
	mutex_unlock(&sim->lock);
	return rc;
}

/* Visits a copy, for visit may come back to us. */
static int disk_list(struct os_dir *dir, int (*visit)(void *arg, const char *name), void *arg)
{
	struct sim *sim = dir->sim;
	struct names names = { 0 };
	int rc;

	mutex_lock(&sim->lock);
	if (begin(sim, SIM_READ, dir->boot, &rc) == GO)
		names_copy(&names, &dir->folder->now);
	mutex_unlock(&sim->lock);
	for (size_t i = 0; i < names.count && rc == 0; i++)
		rc = visit(arg, names.at[i].text);
	free(names.at);
	return rc;
}

static int disk_space(struct os_dir *dir, uint64_t *free_bytes, uint64_t *total_bytes)
{
	struct sim *sim = dir->sim;
	uint64_t total, taken;
	int rc;

	mutex_lock(&sim->lock);
	if (begin(sim, SIM_READ, dir->boot, &rc) == GO) {
		total = sim->limit ? sim->limit : (uint64_t)1 << 40;
		taken = used(sim);
		*total_bytes = total;
		*free_bytes = taken < total ? total - taken : 0;
	}
	mutex_unlock(&sim->lock);
	return rc;
}

/* ---- the table: files ------------------------------------------------------------------ */

static int make_file(struct sim *sim, struct folder *folder, const char *text, uint64_t boot,
		     struct file **out)
{
	enum outcome outcome;
	int index, rc;

	if (strlen(text) >= NAME_SIZE)
		return -ENAMETOOLONG;
	outcome = begin(sim, SIM_CREATE, boot, &rc);
	if (outcome != GO && outcome != CAUGHT)
		return rc;
	index = file_new(folder);
	note_name(sim, folder, text, index)->caught = outcome == CAUGHT;
	if (outcome == CAUGHT)
		return rc;
	name_set(&folder->now, &folder->namings[folder->naming_count - 1].name);
	*out = folder->files[index];
	return 0;
}

static int disk_open(struct os_dir *dir, const char *name, unsigned flags, struct os_file **out)
{
	struct sim *sim = dir->sim;
	struct file *file;
	int rc = 0;

	mutex_lock(&sim->lock);
	file = dir->boot == sim->boot && !sim->cut ? file_named(dir->folder, name) : NULL;
	if (!file && flags & OS_CREATE)
		rc = make_file(sim, dir->folder, name, dir->boot, &file);
	else if (file && flags & OS_EXCLUSIVE)
		rc = -EEXIST;
	else if (begin(sim, SIM_OPEN, dir->boot, &rc) == GO && !file)
		rc = -ENOENT;
	if (rc == 0) {
		*out = sim_alloc(sizeof(**out));
		**out = (struct os_file){ sim, file, sim->boot };
		file->opens++;
		sim->handles++;
	}
	mutex_unlock(&sim->lock);
	return rc;
}

static void disk_close(struct os_file *handle)
{
	struct sim *sim;

	if (!handle)
		return;
	sim = handle->sim;
	mutex_lock(&sim->lock);
	sim->handles--;
	if (handle->boot == sim->boot) {
		handle->file->opens--;
		if (handle->file->holder == handle)
			handle->file->holder = NULL;
	}
	mutex_unlock(&sim->lock);
	free(handle);
}

static int disk_remove(struct os_dir *dir, const char *name)
{
	struct sim *sim = dir->sim;
	struct folder *folder = dir->folder;
	enum outcome outcome;
	struct naming *n;
	int rc;

	mutex_lock(&sim->lock);
	outcome = begin(sim, SIM_REMOVE, dir->boot, &rc);
	if ((outcome == GO || outcome == CAUGHT) && !file_named(folder, name)) {
		if (outcome == GO)
			rc = -ENOENT;
	} else if (outcome == GO || outcome == CAUGHT) {
		n = note_name(sim, folder, name, NO_FILE);
		n->caught = outcome == CAUGHT;
		if (outcome == GO)
			name_set(&folder->now, &n->name);
	}
	mutex_unlock(&sim->lock);
	return rc;
}

static ssize_t disk_read(struct os_file *handle, void *bytes, size_t size, uint64_t offset)
{
	struct sim *sim = handle->sim;
	ssize_t count = 0;
	int rc;

	mutex_lock(&sim->lock);
	if (begin(sim, SIM_READ, handle->boot, &rc) == GO && offset < handle->file->now_size) {
		const uint64_t left = handle->file->now_size - offset;

		count = (ssize_t)(size < left ? size : left);
		bytemap_read(&handle->file->now, offset, bytes, (size_t)count);
	}
	mutex_unlock(&sim->lock);
	return rc < 0 ? rc : count;
}

/* A write that fails leaves any of its sectors behind. */
static void write_some(struct sim *sim, struct file *f, const uint8_t *bytes, size_t size,
		       uint64_t offset)
{
	while (size) {
		const size_t left = SECTOR - offset % SECTOR;
		const size_t part = size < left ? size : left;

		if (chance(&sim->random) & 1) {
			const struct change *c = note_write(sim, f, bytes, part, offset);

			apply_whole(c, &f->now, &f->now_size);
		}
		bytes += part;
		offset += part;
		size -= part;
	}
}

static int disk_write(struct os_file *handle, const void *bytes, size_t size, uint64_t offset)
{
	struct sim *sim = handle->sim;
	struct file *f = handle->file;
	int rc;

	mutex_lock(&sim->lock);
	switch (begin(sim, SIM_WRITE, handle->boot, &rc)) {
	case GO:
		if (size && !has_room(sim, f, offset + size))
			rc = -ENOSPC;
		else if (size)
			apply_whole(note_write(sim, f, bytes, size, offset), &f->now,
				    &f->now_size);
		break;
	case CAUGHT:
		if (size)
			note_write(sim, f, bytes, size, offset)->caught = true;
		break;
	case FAILS:
		write_some(sim, f, bytes, size, offset);
		break;
	case OFF:
		break;
	}
	mutex_unlock(&sim->lock);
	return rc;
}

static int disk_sync(struct os_file *handle)
{
	struct sim *sim = handle->sim;
	struct file *f = handle->file;
	enum outcome outcome;
	int rc;

	mutex_lock(&sim->lock);
	outcome = begin(sim, SIM_SYNC, handle->boot, &rc);
	if (outcome == GO || outcome == FAILS) {
		for (size_t i = 0; i < f->change_count; i++) {
			if (outcome == GO)
				apply_whole(&f->changes[i], &f->disk, &f->disk_size);
			else
				apply_some(&f->changes[i], &sim->random, &f->disk, &f->disk_size);
		}
		changes_clear(f);
	}
	mutex_unlock(&sim->lock);
	return rc;
}

static int resize(struct os_file *handle, enum sim_kind kind, uint64_t size)
{
	struct sim *sim = handle->sim;
	struct file *f = handle->file;
	const bool cuts = kind == SIM_TRUNCATE;
	enum outcome outcome;
	int rc;

	mutex_lock(&sim->lock);
	outcome = begin(sim, kind, handle->boot, &rc);
	if (outcome == GO && !has_room(sim, f, size))
		rc = -ENOSPC;
	else if (outcome == GO && (cuts || size > f->now_size))
		apply_whole(note_resize(sim, f, size, cuts), &f->now, &f->now_size);
	else if (outcome == CAUGHT && (cuts || size > f->now_size))
		note_resize(sim, f, size, cuts)->caught = true;
	mutex_unlock(&sim->lock);
	return rc;
}

static int disk_allocate(struct os_file *handle, uint64_t offset, uint64_t size)
{
	return resize(handle, SIM_ALLOCATE, offset + size);
}

static int disk_truncate(struct os_file *handle, uint64_t size)
{
	return resize(handle, SIM_TRUNCATE, size);
}

static int disk_size(struct os_file *handle, uint64_t *size)
{
	struct sim *sim = handle->sim;
	int rc;

	mutex_lock(&sim->lock);
	if (begin(sim, SIM_READ, handle->boot, &rc) == GO)
		*size = handle->file->now_size;
	mutex_unlock(&sim->lock);
	return rc;
}

static int disk_lock(struct os_file *handle)
{
	struct sim *sim = handle->sim;
	int rc;

	mutex_lock(&sim->lock);
	if (begin(sim, SIM_OPEN, handle->boot, &rc) == GO) {
		if (handle->file->holder && handle->file->holder != handle)
			rc = -EBUSY;
		else
			handle->file->holder = handle;
	}
	mutex_unlock(&sim->lock);
	return rc;
}

/* ---- the table: clocks and chance ------------------------------------------------------- */

static uint64_t disk_now_ns(struct os *os)
{
	struct sim *sim = (struct sim *)os;
	uint64_t ns;

	mutex_lock(&sim->lock);
	ns = sim->now_ns;
	mutex_unlock(&sim->lock);
	return ns;
}

static uint64_t disk_monotonic_ns(struct os *os)
{
	struct sim *sim = (struct sim *)os;
	uint64_t ns;

	mutex_lock(&sim->lock);
	ns = sim->monotonic_ns;
	mutex_unlock(&sim->lock);
	return ns;
}

static int disk_random(struct os *os, void *bytes, size_t size)
{
	struct sim *sim = (struct sim *)os;
	int rc;

	mutex_lock(&sim->lock);
	if (begin(sim, SIM_RANDOM, sim->boot, &rc) == GO)
		for (size_t i = 0; i < size; i++)
			((uint8_t *)bytes)[i] = (uint8_t)chance(&sim->random);
	mutex_unlock(&sim->lock);
	return rc;
}

/* ---- the face: a disk ------------------------------------------------------------------- */

static const struct os table = {
	.open_dir = disk_open_dir,
	.close_dir = disk_close_dir,
	.sync_dir = disk_sync_dir,
	.list = disk_list,
	.space = disk_space,
	.open = disk_open,
	.close = disk_close,
	.remove = disk_remove,
	.read = disk_read,
	.write = disk_write,
	.sync = disk_sync,
	.allocate = disk_allocate,
	.truncate = disk_truncate,
	.size = disk_size,
	.lock = disk_lock,
	.now_ns = disk_now_ns,
	.monotonic_ns = disk_monotonic_ns,
	.random = disk_random,
};

struct sim *sim_new(uint64_t seed)
{
	struct sim *sim = sim_alloc(sizeof(*sim));

	*sim = (struct sim){
		.os = table,
		.random = seed,
		.now_ns = (uint64_t)1700000000 * 1000000000,
		.monotonic_ns = 1000000000,
		.cut_after = -1,
	};
	for (int kind = 0; kind < SIM_KINDS; kind++)
		sim->fail_after[kind] = -1;
	mutex_init(&sim->lock);
	return sim;
}

struct sim *sim_clone(struct sim *disk)
{
	struct sim *sim = sim_new(0);

	mutex_lock(&disk->lock);
	sim->random = disk->random;
	sim->order = disk->order;
	sim->now_ns = disk->now_ns;
	sim->monotonic_ns = disk->monotonic_ns;
	sim->limit = disk->limit;
	sim->cut = disk->cut;
	for (const struct folder *folder = disk->folders; folder; folder = folder->next)
		folder_copy(sim, folder);
	mutex_unlock(&disk->lock);
	return sim;
}

void sim_free(struct sim *disk)
{
	if (!disk)
		return;
	assert(disk->handles == 0);
	while (disk->folders) {
		struct folder *folder = disk->folders;

		disk->folders = folder->next;
		folder_free(folder);
	}
	mutex_done(&disk->lock);
	free(disk);
}

struct os *sim_os(struct sim *disk)
{
	return &disk->os;
}

/* ---- the face: crashes ------------------------------------------------------------------ */

void sim_cut_after(struct sim *disk, int64_t count)
{
	mutex_lock(&disk->lock);
	disk->cut_after = count;
	mutex_unlock(&disk->lock);
}

bool sim_is_cut(struct sim *disk)
{
	bool cut;

	mutex_lock(&disk->lock);
	cut = disk->cut;
	mutex_unlock(&disk->lock);
	return cut;
}

struct fate {
	enum sim_fate kind;
	uint64_t random;
	uint64_t tear_at;	/* SIM_TEAR: the order of the change that is torn */
};

static void widen(uint64_t order, uint64_t *oldest, uint64_t *newest)
{
	if (order < *oldest)
		*oldest = order;
	if (order > *newest)
		*newest = order;
}

/* Anywhere from before the oldest change that is not synced to after the newest. */
static uint64_t choose_tear(const struct sim *sim, uint64_t *random)
{
	uint64_t oldest = UINT64_MAX, newest = 0;

	for (const struct folder *folder = sim->folders; folder; folder = folder->next) {
		for (size_t i = 0; i < folder->naming_count; i++)
			widen(folder->namings[i].order, &oldest, &newest);
		for (int f = 0; f < folder->file_count; f++)
			for (size_t i = 0; folder->files[f] && i < folder->files[f]->change_count; i++)
				widen(folder->files[f]->changes[i].order, &oldest, &newest);
	}
	return oldest > newest ? 0 : oldest + chance(random) % (newest - oldest + 2);
}

static void decide_change(struct fate *fate, const struct change *c, struct file *f)
{
	switch (fate->kind) {
	case SIM_KEEP:
		apply_whole(c, &f->disk, &f->disk_size);
		break;
	case SIM_TEAR:
		if (c->order < fate->tear_at)
			apply_whole(c, &f->disk, &f->disk_size);
		else if (c->order == fate->tear_at)
			apply_prefix(c, &fate->random, &f->disk, &f->disk_size);
		break;
	case SIM_SCATTER:
		apply_some(c, &fate->random, &f->disk, &f->disk_size);
		break;
	case SIM_LOSE:
	case SIM_FATES:
		break;
	}
}

static bool decide_name(struct fate *fate, const struct naming *n)
{
	switch (fate->kind) {
	case SIM_KEEP:
		return true;
	case SIM_TEAR:
		return n->order < fate->tear_at;
	case SIM_SCATTER:
		return chance(&fate->random) & 1;
	case SIM_LOSE:
	case SIM_FATES:
		break;
	}
	return false;
}

/* Files without a name are gone. */
static void drop_nameless(struct folder *folder)
{
	for (int i = 0; i < folder->file_count; i++) {
		bool named = false;

		for (size_t n = 0; n < folder->now.count; n++)
			named |= folder->now.at[n].file == i;
		if (!named) {
			file_free(folder->files[i]);
			folder->files[i] = NULL;
		}
	}
}

static void reboot_folder(struct folder *folder, struct fate *fate)
{
	for (int i = 0; i < folder->file_count; i++) {
		struct file *f = folder->files[i];

		if (!f)
			continue;
		for (size_t c = 0; c < f->change_count; c++)
			decide_change(fate, &f->changes[c], f);
		changes_clear(f);
		bytemap_copy(&f->now, &f->disk);
		f->now_size = f->disk_size;
		f->opens = 0;
		f->holder = NULL;
	}
	for (size_t i = 0; i < folder->naming_count; i++)
		if (decide_name(fate, &folder->namings[i]))
			name_set(&folder->disk, &folder->namings[i].name);
	folder->naming_count = 0;
	names_copy(&folder->now, &folder->disk);
	drop_nameless(folder);
}

static void power_on(struct sim *sim)
{
	sim->boot++;
	sim->cut = false;
	sim->cut_after = -1;
}

void sim_reboot(struct sim *disk, enum sim_fate fate, uint64_t seed)
{
	struct fate f = { .kind = fate, .random = seed };

	mutex_lock(&disk->lock);
	f.tear_at = choose_tear(disk, &f.random);
	for (struct folder *folder = disk->folders; folder; folder = folder->next)
		reboot_folder(folder, &f);
	power_on(disk);
	mutex_unlock(&disk->lock);
}

/* Only the last change of a file can be the one that was caught. */
static void revive_file(struct file *f, uint64_t *random)
{
	struct change *c = f->change_count ? &f->changes[f->change_count - 1] : NULL;

	f->opens = 0;
	f->holder = NULL;
	if (!c || !c->caught)
		return;
	c->caught = false;
	if (c->size)
		c->size = chance(random) % (c->size / SECTOR + 1) * SECTOR;
	if (c->size || (c->cuts && chance(random) & 1))
		apply_whole(c, &f->now, &f->now_size);
	else
		image_drop(f->changes[--f->change_count].image);
}

static void revive_folder(struct folder *folder, uint64_t *random)
{
	struct naming *n = folder->naming_count ? &folder->namings[folder->naming_count - 1] : NULL;

	for (int i = 0; i < folder->file_count; i++)
		if (folder->files[i])
			revive_file(folder->files[i], random);
	if (!n || !n->caught)
		return;
	n->caught = false;
	if (chance(random) & 1)
		name_set(&folder->now, &n->name);
	else
		folder->naming_count--;
}

void sim_revive(struct sim *disk, uint64_t seed)
{
	mutex_lock(&disk->lock);
	for (struct folder *folder = disk->folders; folder; folder = folder->next)
		revive_folder(folder, &seed);
	power_on(disk);
	mutex_unlock(&disk->lock);
}

/* ---- the face: faults and clocks -------------------------------------------------------- */

void sim_fail(struct sim *disk, enum sim_kind kind, int64_t count, int rc)
{
	mutex_lock(&disk->lock);
	disk->fail_after[kind] = count;
	disk->fail_rc[kind] = rc;
	mutex_unlock(&disk->lock);
}

uint64_t sim_count(struct sim *disk, enum sim_kind kind)
{
	uint64_t count;

	mutex_lock(&disk->lock);
	count = disk->counts[kind];
	mutex_unlock(&disk->lock);
	return count;
}

uint64_t sim_changes(struct sim *disk)
{
	uint64_t count;

	mutex_lock(&disk->lock);
	count = disk->changes;
	mutex_unlock(&disk->lock);
	return count;
}

void sim_limit(struct sim *disk, uint64_t bytes)
{
	mutex_lock(&disk->lock);
	disk->limit = bytes;
	mutex_unlock(&disk->lock);
}

static void flip(struct bytemap *pages, uint64_t offset, uint8_t mask)
{
	uint8_t byte;

	bytemap_read(pages, offset, &byte, 1);
	byte ^= mask;
	bytemap_write(pages, offset, &byte, 1);
}

int sim_flip(struct sim *disk, const char *name, uint64_t offset, uint8_t mask)
{
	struct file *f = NULL;
	int rc = -ENOENT;

	mutex_lock(&disk->lock);
	for (const struct folder *folder = disk->folders; folder && !f; folder = folder->next)
		f = file_named(folder, name);
	if (f && offset >= f->now_size) {
		rc = -EINVAL;
	} else if (f) {
		flip(&f->now, offset, mask);
		flip(&f->disk, offset, mask);
		rc = 0;
	}
	mutex_unlock(&disk->lock);
	return rc;
}

void sim_advance(struct sim *disk, uint64_t ns)
{
	mutex_lock(&disk->lock);
	disk->now_ns += ns;
	disk->monotonic_ns += ns;
	mutex_unlock(&disk->lock);
}

void sim_set_now(struct sim *disk, uint64_t ns)
{
	mutex_lock(&disk->lock);
	disk->now_ns = ns;
	mutex_unlock(&disk->lock);
}

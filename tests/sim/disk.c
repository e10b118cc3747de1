/* disk.c - the lying disk: its table of functions, its power switch, its planned faults. What is
 * on it, and what becomes of that, is in medium.h.
 */
#include "sim/disk.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "locks.h"
#include "sim/medium.h"

/* Everything is guarded by `lock`. */
struct sim {
	struct os os;		/* first: the table leads back to us */
	struct mutex lock;
	struct medium medium;
	uint64_t now_ns, monotonic_ns;
	uint64_t limit;		/* bytes; 0: none */
	uint64_t boot;		/* handles of earlier ones are dead */
	unsigned handles;
	bool cut;
	bool no_maps;
	int64_t cut_after;
	uint64_t changes;
	uint64_t counts[SIM_KINDS];
	int64_t fail_after[SIM_KINDS];
	int fail_rc[SIM_KINDS];
	void (*see)(void *arg, struct sim *clone);
	void *see_arg;
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

/* ---- every operation ------------------------------------------------------------------ */

enum outcome {
	GO,
	OFF,			/* there is no power */
	CAUGHT,			/* the power goes in the middle of it */
	FAILS,			/* as a test planned */
};

static bool changes_disk(enum sim_kind kind)
{
	return kind != SIM_OPEN && kind != SIM_READ && kind != SIM_RANDOM && kind != SIM_FLUSH;
}

static struct sim *clone_of(const struct sim *disk);

/* Each operation asks first; `rc` is what to answer unless it may GO. */
static enum outcome begin(struct sim *sim, enum sim_kind kind, uint64_t boot, int *rc)
{
	*rc = -EIO;
	sim->counts[kind]++;
	if (changes_disk(kind))
		sim->changes++;
	if (sim->cut || boot != sim->boot)
		return OFF;
	if (changes_disk(kind) && sim->see)
		sim->see(sim->see_arg, clone_of(sim));
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

static bool has_room(const struct sim *sim, const struct file *f, uint64_t size)
{
	const uint64_t more = whole_pages(size) - whole_pages(f->now_size);

	return size <= f->now_size || more == 0 || sim->limit == 0 ||
	       medium_used(&sim->medium) + more <= sim->limit;
}

/* ---- the table: folders ---------------------------------------------------------------- */

static int disk_open_dir(struct os *os, const char *path, unsigned flags, struct os_dir **out)
{
	struct sim *sim = (struct sim *)os;
	struct folder *folder;
	int rc = 0;

	mutex_lock(&sim->lock);
	folder = folder_find(&sim->medium, path);
	if (folder && flags & OS_EXCLUSIVE)
		rc = -EEXIST;
	else if (!folder && !(flags & OS_CREATE))
		rc = -ENOENT;
	else
		begin(sim, folder ? SIM_OPEN : SIM_CREATE, sim->boot, &rc);
	if (rc == 0) {
		if (!folder)
			folder = folder_add(&sim->medium, path);
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

/* All of them, or some of the first ones; the rest stay as they were. */
static void sync_names(struct folder *folder, uint64_t *random)
{
	const size_t all = folder->naming_count;
	const size_t count = random ? chance(random) % (all + 1) : all;

	for (size_t i = 0; i < count; i++)
		name_set(&folder->disk, &folder->namings[i].name);
	folder->naming_count -= count;
	if (count && folder->naming_count)
		memmove(folder->namings, folder->namings + count,
			folder->naming_count * sizeof(struct naming));
}

static int disk_sync_dir(struct os_dir *dir)
{
	struct sim *sim = dir->sim;
	struct folder *folder = dir->folder;
	enum outcome outcome;
	int rc;

	mutex_lock(&sim->lock);
	outcome = begin(sim, SIM_SYNC_DIR, dir->boot, &rc);
	if (outcome == GO || outcome == FAILS)
		sync_names(folder, outcome == GO ? NULL : &sim->medium.random);
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
		taken = medium_used(&sim->medium);
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
	note_name(&sim->medium, folder, text, index)->caught = outcome == CAUGHT;
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
		n = note_name(&sim->medium, folder, name, NO_FILE);
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

/* What is put there is as lost, and as kept, as what is written. */
static int disk_map(struct os_file *handle, size_t size)
{
	struct sim *sim = handle->sim;
	int rc;

	mutex_lock(&sim->lock);
	rc = handle->boot != sim->boot || sim->cut ? -EIO :
	     sim->no_maps ? -ENODEV :
	     handle->file->now_size < size ? -EINVAL : 0;
	mutex_unlock(&sim->lock);
	return rc;
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
			apply_whole(note_write(&sim->medium, f, bytes, size, offset), &f->now,
				    &f->now_size);
		break;
	case CAUGHT:
		if (size)
			note_write(&sim->medium, f, bytes, size, offset)->caught = true;
		break;
	case FAILS:
		write_some(&sim->medium, f, bytes, size, offset);
		break;
	case OFF:
		break;
	}
	mutex_unlock(&sim->lock);
	return rc;
}

static int sync_as(struct os_file *handle, enum sim_kind kind)
{
	struct sim *sim = handle->sim;
	struct file *f = handle->file;
	enum outcome outcome;
	int rc;

	mutex_lock(&sim->lock);
	outcome = begin(sim, kind, handle->boot, &rc);
	if ((outcome == GO && kind == SIM_SYNC) || outcome == FAILS) {
		for (size_t i = 0; i < f->change_count; i++) {
			if (outcome == GO || f->changes[i].size == 0)
				apply_whole(&f->changes[i], &f->disk, &f->disk_size);
			else
				apply_some(&f->changes[i], &sim->medium.random, &f->disk,
					   &f->disk_size);
		}
		changes_clear(f);
	}
	mutex_unlock(&sim->lock);
	return rc;
}

static int disk_sync(struct os_file *handle)
{
	return sync_as(handle, SIM_SYNC);
}

static int disk_flush(struct os_file *handle, uint64_t offset, uint64_t size, bool wait)
{
	(void)offset;
	(void)size;
	(void)wait;
	return sync_as(handle, SIM_FLUSH);
}

static bool disk_syncing(struct os *os)
{
	(void)os;
	return false;	/* nobody waits for this disk */
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
		apply_whole(note_resize(&sim->medium, f, size, cuts), &f->now, &f->now_size);
	else if (outcome == CAUGHT && (cuts || size > f->now_size))
		note_resize(&sim->medium, f, size, cuts)->caught = true;
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
			((uint8_t *)bytes)[i] = (uint8_t)chance(&sim->medium.random);
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
	.map = disk_map,
	.put = disk_write,
	.sync = disk_sync,
	.flush = disk_flush,
	.syncing = disk_syncing,
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
		.medium.random = seed,
		.now_ns = (uint64_t)1700000000 * 1000000000,
		.monotonic_ns = 1000000000,
		.cut_after = -1,
	};
	for (int kind = 0; kind < SIM_KINDS; kind++)
		sim->fail_after[kind] = -1;
	mutex_init(&sim->lock);
	return sim;
}

static struct sim *clone_of(const struct sim *disk)
{
	struct sim *sim = sim_new(0);

	medium_copy(&sim->medium, &disk->medium);
	sim->now_ns = disk->now_ns;
	sim->monotonic_ns = disk->monotonic_ns;
	sim->limit = disk->limit;
	sim->cut = disk->cut;
	sim->no_maps = disk->no_maps;
	return sim;
}

struct sim *sim_clone(struct sim *disk)
{
	struct sim *sim;

	mutex_lock(&disk->lock);
	sim = clone_of(disk);
	mutex_unlock(&disk->lock);
	return sim;
}

void sim_free(struct sim *disk)
{
	if (!disk)
		return;
	assert(disk->handles == 0);
	medium_done(&disk->medium);
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

void sim_watch(struct sim *disk, void (*see)(void *arg, struct sim *clone), void *arg)
{
	mutex_lock(&disk->lock);
	disk->see = see;
	disk->see_arg = arg;
	mutex_unlock(&disk->lock);
}

static void power_on(struct sim *sim)
{
	sim->boot++;
	sim->cut = false;
	sim->cut_after = -1;
}

void sim_reboot(struct sim *disk, enum sim_fate fate, uint64_t seed)
{
	mutex_lock(&disk->lock);
	medium_reboot(&disk->medium, fate, seed);
	power_on(disk);
	mutex_unlock(&disk->lock);
}

void sim_revive(struct sim *disk, uint64_t seed)
{
	mutex_lock(&disk->lock);
	medium_revive(&disk->medium, seed);
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

void sim_forbid_maps(struct sim *disk)
{
	mutex_lock(&disk->lock);
	disk->no_maps = true;
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
	for (const struct folder *folder = disk->medium.folders; folder && !f;
	     folder = folder->next)
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

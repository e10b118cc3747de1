#include "sim/medium.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* Sectors as a write left them; shared by the clones of a disk. */
struct image {
	atomic_uint shared;
	uint8_t bytes[];
};

uint64_t chance(uint64_t *state)
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

void changes_clear(struct file *f)
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

static struct change *change_add(struct medium *m, struct file *f)
{
	if (f->change_count == f->change_room) {
		f->change_room = f->change_room ? f->change_room * 2 : 8;
		f->changes = sim_realloc(f->changes, f->change_room * sizeof(struct change));
	}
	f->changes[f->change_count] = (struct change){ .order = m->order++ };
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

struct change *note_write(struct medium *m, struct file *f, const void *bytes, size_t size,
			  uint64_t offset)
{
	const uint64_t end = offset + size;
	struct change *c = change_add(m, f);

	c->offset = offset / SECTOR * SECTOR;
	c->size = (end + SECTOR - 1) / SECTOR * SECTOR - c->offset;
	c->file_size = end > f->now_size ? end : f->now_size;
	c->image = image_of(f, c, bytes, size, offset);
	return c;
}

struct change *note_resize(struct medium *m, struct file *f, uint64_t size, bool cuts)
{
	struct change *c = change_add(m, f);

	c->file_size = size;
	c->cuts = cuts;
	return c;
}

/* Applies bytes [begin, end) of a change to a view. */
static void apply(const struct change *c, uint64_t begin, uint64_t end, struct bytemap *pages,
		  uint64_t *size)
{
	const uint64_t most = c->offset + end;
	const uint64_t reach = c->size == 0 || most > c->file_size ? c->file_size : most;

	if (c->cuts) {
		bytemap_cut(pages, c->file_size);
		*size = c->file_size;
		return;
	}
	if (end > begin)
		bytemap_write(pages, c->offset + begin, c->image ? c->image->bytes + begin : NULL,
			      end - begin);
	if ((end > begin || c->size == 0) && *size < reach)
		*size = reach;
}

void apply_whole(const struct change *c, struct bytemap *pages, uint64_t *size)
{
	apply(c, 0, c->size, pages, size);
}

static void apply_prefix(const struct change *c, uint64_t *random, struct bytemap *pages,
			 uint64_t *size)
{
	const uint64_t sectors = c->size / SECTOR;

	if (sectors)
		apply(c, 0, chance(random) % (sectors + 1) * SECTOR, pages, size);
	else if (chance(random) & 1)
		apply_whole(c, pages, size);
}

void apply_some(const struct change *c, uint64_t *random, struct bytemap *pages, uint64_t *size)
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
			apply(c, i * SECTOR, (i + 1) * SECTOR, pages, size);
	}
	if (way == 7 && *size < c->file_size)
		*size = c->file_size;
}

/* What arrives of bytes [begin, end), which lie in one sector of the device: all, nothing, a
 * beginning or an end. */
static void apply_torn(const struct change *c, uint64_t begin, uint64_t end, uint64_t *random,
		       struct bytemap *pages, uint64_t *size)
{
	const uint64_t way = chance(random) % 8, middle = begin + chance(random) % (end - begin);

	if (way < 4)
		apply(c, begin, end, pages, size);
	else if (way == 4)
		apply(c, begin, middle, pages, size);
	else if (way == 5)
		apply(c, middle, end, pages, size);
}

/* As apply_some, on a device whose sectors are `sector` bytes and may be torn inside; or in order,
 * up to the middle of one. */
static void apply_shreds(const struct change *c, uint64_t sector, uint64_t *random,
			 struct bytemap *pages, uint64_t *size)
{
	const uint64_t way = chance(random) % 4;

	if (way == 0 || c->size == 0) {
		apply_some(c, random, pages, size);
		return;
	}
	if (way == 1) {
		apply(c, 0, chance(random) % (c->size + 1), pages, size);
		return;
	}
	for (uint64_t at = 0; at < c->size;) {
		const uint64_t left = sector - (c->offset + at) % sector;
		const uint64_t end = at + left < c->size ? at + left : c->size;

		apply_torn(c, at, end, random, pages, size);
		at = end;
	}
}

void write_some(struct medium *m, struct file *f, const uint8_t *bytes, size_t size,
		uint64_t offset)
{
	while (size) {
		const size_t left = SECTOR - offset % SECTOR;
		const size_t part = size < left ? size : left;

		if (chance(&m->random) & 1) {
			const struct change *c = note_write(m, f, bytes, part, offset);

			apply_whole(c, &f->now, &f->now_size);
		}
		bytes += part;
		offset += part;
		size -= part;
	}
}

/* ---- names ---------------------------------------------------------------------------- */

static struct name *name_find(const struct names *names, const char *text)
{
	for (size_t i = 0; i < names->count; i++)
		if (strcmp(names->at[i].text, text) == 0)
			return &names->at[i];
	return NULL;
}

void name_set(struct names *names, const struct name *name)
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

void names_copy(struct names *to, const struct names *from)
{
	to->at = sim_realloc(to->at, from->count * sizeof(struct name));
	if (from->count)
		memcpy(to->at, from->at, from->count * sizeof(struct name));
	to->count = from->count;
}

struct naming *note_name(struct medium *m, struct folder *folder, const char *text, int file)
{
	struct naming *n;

	folder->namings =
		sim_realloc(folder->namings, (folder->naming_count + 1) * sizeof(struct naming));
	n = &folder->namings[folder->naming_count++];
	*n = (struct naming){ .order = m->order++, .name.file = file };
	strcpy(n->name.text, text);
	return n;
}

int file_new(struct folder *folder)
{
	struct file *f = sim_alloc(sizeof(*f));

	*f = (struct file){ 0 };
	folder->files = sim_realloc(folder->files,
				    (size_t)(folder->file_count + 1) * sizeof(struct file *));
	folder->files[folder->file_count] = f;
	return folder->file_count++;
}

struct file *file_named(const struct folder *folder, const char *text)
{
	const struct name *name = name_find(&folder->now, text);

	return name ? folder->files[name->file] : NULL;
}

struct folder *folder_find(const struct medium *m, const char *path)
{
	struct folder *folder = m->folders;

	while (folder && strcmp(folder->path, path) != 0)
		folder = folder->next;
	return folder;
}

struct folder *folder_add(struct medium *m, const char *path)
{
	struct folder *folder = sim_alloc(sizeof(*folder));

	*folder = (struct folder){ .next = m->folders };
	folder->path = sim_alloc(strlen(path) + 1);
	strcpy(folder->path, path);
	m->folders = folder;
	return folder;
}

static void folder_copy(struct medium *m, const struct folder *from)
{
	struct folder *folder = folder_add(m, from->path);
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

/* ---- fate --------------------------------------------------------------------------- */

struct fate {
	enum sim_fate kind;
	uint64_t random;
	uint64_t odd;		/* the order of the change that is torn, or of the only one that
				 * is lost, or is not */
	bool others;		/* SIM_ODD: what becomes of all others */
	uint64_t sector;	/* SIM_SHRED: of the device, bytes */
};

struct orders {
	uint64_t *at;
	size_t count;
};

static void add_order(struct orders *o, uint64_t order)
{
	if ((o->count & (o->count - 1)) == 0)
		o->at = sim_realloc(o->at, (o->count ? o->count * 2 : 1) * sizeof(uint64_t));
	o->at[o->count++] = order;
}

/* Of all changes that are not synced. */
static struct orders pending(const struct medium *m)
{
	struct orders o = { 0 };

	for (const struct folder *folder = m->folders; folder; folder = folder->next) {
		for (size_t i = 0; i < folder->naming_count; i++)
			add_order(&o, folder->namings[i].order);
		for (int f = 0; f < folder->file_count; f++)
			for (size_t i = 0; folder->files[f] && i < folder->files[f]->change_count;
			     i++)
				add_order(&o, folder->files[f]->changes[i].order);
	}
	return o;
}

/* One of them; for tearing, perhaps the one that would come next, so that nothing is torn. */
static uint64_t choose_odd(const struct medium *m, enum sim_fate kind, uint64_t *random)
{
	struct orders o = pending(m);
	uint64_t odd;

	if (kind == SIM_TEAR || o.count == 0)
		add_order(&o, m->order);
	odd = o.at[chance(random) % o.count];
	free(o.at);
	return odd;
}

static struct fate fate_of(const struct medium *m, enum sim_fate kind, uint64_t seed)
{
	struct fate fate = { .kind = kind, .random = seed };

	fate.odd = choose_odd(m, kind, &fate.random);
	fate.others = chance(&fate.random) & 1;
	fate.sector = chance(&fate.random) & 1 ? SECTOR : PAGE;
	return fate;
}

static void decide_change(struct fate *fate, const struct change *c, struct file *f)
{
	switch (fate->kind) {
	case SIM_KEEP:
		apply_whole(c, &f->disk, &f->disk_size);
		break;
	case SIM_TEAR:
		if (c->order < fate->odd)
			apply_whole(c, &f->disk, &f->disk_size);
		else if (c->order == fate->odd)
			apply_prefix(c, &fate->random, &f->disk, &f->disk_size);
		break;
	case SIM_SCATTER:
		apply_some(c, &fate->random, &f->disk, &f->disk_size);
		break;
	case SIM_ODD:
		if ((c->order == fate->odd) != fate->others)
			apply_whole(c, &f->disk, &f->disk_size);
		break;
	case SIM_SHRED:
		apply_shreds(c, fate->sector, &fate->random, &f->disk, &f->disk_size);
		break;
	case SIM_FILES:
	case SIM_LOSE:
	case SIM_FATES:
		break;
	}
}

/* SIM_FILES: the file is as it was at a moment of its own: now, when it was last synced, or
 * between. */
static void choose_moment(struct fate *fate, struct file *f)
{
	const uint64_t way = chance(&fate->random) % 3;
	size_t count = way == 0 ? 0 : f->change_count;

	if (way == 1)
		count = chance(&fate->random) % (f->change_count + 1);
	for (size_t i = 0; i < count; i++)
		apply_whole(&f->changes[i], &f->disk, &f->disk_size);
	if (count < f->change_count && way == 1)
		apply_prefix(&f->changes[count], &fate->random, &f->disk, &f->disk_size);
}

static void decide_file(struct fate *fate, struct file *f)
{
	if (fate->kind == SIM_FILES)
		choose_moment(fate, f);
	for (size_t c = 0; c < f->change_count; c++)
		decide_change(fate, &f->changes[c], f);
	changes_clear(f);
}

static bool decide_name(struct fate *fate, const struct naming *n)
{
	switch (fate->kind) {
	case SIM_KEEP:
		return true;
	case SIM_TEAR:
		return n->order < fate->odd;
	case SIM_FILES:
	case SIM_SCATTER:
	case SIM_SHRED:
		return chance(&fate->random) & 1;
	case SIM_ODD:
		return (n->order == fate->odd) != fate->others;
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
		decide_file(fate, f);
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

/* ---- the whole ------------------------------------------------------------------------- */

void medium_copy(struct medium *to, const struct medium *from)
{
	to->order = from->order;
	to->random = from->random;
	for (const struct folder *folder = from->folders; folder; folder = folder->next)
		folder_copy(to, folder);
}

void medium_done(struct medium *m)
{
	while (m->folders) {
		struct folder *folder = m->folders;

		m->folders = folder->next;
		folder_free(folder);
	}
}

uint64_t medium_used(const struct medium *m)
{
	uint64_t sum = 0;

	for (const struct folder *folder = m->folders; folder; folder = folder->next) {
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

void medium_reboot(struct medium *m, enum sim_fate fate, uint64_t seed)
{
	struct fate f = fate_of(m, fate, seed);

	for (struct folder *folder = m->folders; folder; folder = folder->next)
		reboot_folder(folder, &f);
}

void medium_revive(struct medium *m, uint64_t seed)
{
	for (struct folder *folder = m->folders; folder; folder = folder->next)
		revive_folder(folder, &seed);
}

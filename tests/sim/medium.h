/* medium.h - what is on the lying disk: files, names, and what was not synced of them.
 *
 * Of each file there are two views: what reads show (`now`) and what is durable (`disk`), and
 * between them the list of changes not yet synced, each with whole images of the sectors it
 * touched as they then were. A sync applies the changes to `disk`; a reboot applies whatever
 * subset fate decides, and `disk` becomes `now`. Names work the same way, by folder.
 *
 * Plain data: disk.c has the lock, the power switch and the faults.
 */
#ifndef CUBBY_SIM_MEDIUM_H
#define CUBBY_SIM_MEDIUM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sim/bytemap.h"
#include "sim/disk.h"

enum { SECTOR = 512, PAGE = 4096, NAME_SIZE = 256, NO_FILE = -1 };

struct image;

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

struct medium {
	struct folder *folders;
	uint64_t order;		/* of the next change */
	uint64_t random;
};

/* The next number of a sequence that `state` determines (splitmix64). */
uint64_t chance(uint64_t *state);

/* ---- changes: noted first, then applied to `now`; one caught by a cut is only noted ------ */

struct change *note_write(struct medium *m, struct file *f, const void *bytes, size_t size,
			  uint64_t offset);
struct change *note_resize(struct medium *m, struct file *f, uint64_t size, bool cuts);
struct naming *note_name(struct medium *m, struct folder *folder, const char *text, int file);

void apply_whole(const struct change *c, struct bytemap *pages, uint64_t *size);

/* All, none, or any sectors; and perhaps the size without them. */
void apply_some(const struct change *c, uint64_t *random, struct bytemap *pages, uint64_t *size);

/* A write that fails leaves any of its sectors behind. */
void write_some(struct medium *m, struct file *f, const uint8_t *bytes, size_t size,
		uint64_t offset);

void changes_clear(struct file *f);

/* ---- names ---------------------------------------------------------------------------- */

void name_set(struct names *names, const struct name *name);
void names_copy(struct names *to, const struct names *from);

/* Gives a file without a name: its index. */
int file_new(struct folder *folder);

/* NULL: there is none of that name. */
struct file *file_named(const struct folder *folder, const char *text);
struct folder *folder_find(const struct medium *m, const char *path);
struct folder *folder_add(struct medium *m, const char *path);

/* ---- the whole ------------------------------------------------------------------------- */

/* `to` must be all zeros. */
void medium_copy(struct medium *to, const struct medium *from);
void medium_done(struct medium *m);

/* Bytes of all files that have a name or are open, in whole pages. */
uint64_t medium_used(const struct medium *m);

static inline uint64_t whole_pages(uint64_t size)
{
	return (size + PAGE - 1) / PAGE * PAGE;
}

/* As sim_reboot and sim_revive say. */
void medium_reboot(struct medium *m, enum sim_fate fate, uint64_t seed);
void medium_revive(struct medium *m, uint64_t seed);

#endif

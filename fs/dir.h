/* dir.h - a listing that neither skips nor repeats.
 *
 * The kernel asks for entries behind a *cookie*, a number that we gave it with an entry. Cookies
 * count the entries handed out; the listing itself goes by name, so entries that come and go
 * around it do not move the others. Each open listing therefore remembers which name belongs to
 * which cookie, the latest megabyte of them: tens of thousands. Only who seeks back further than
 * that, in a table that large, is taken to the entry with that number instead.
 *
 * While the caller looks at what he got, the next piece is made ready. It is handed out only if
 * nothing was changed in the store meanwhile, nothing in it has expired and, if it shows attributes,
 * no file was opened to be changed: it says what it would say if it were made when it is asked
 * for. Otherwise it is made anew, and what the kernel was to know by it is taken back.
 */
#ifndef CUBBY_FS_DIR_H
#define CUBBY_FS_DIR_H

#include "fs.h"

struct dir;

/* Gives *out, for dir_close. */
int dir_open(struct fs *fs, struct node *node, struct dir **out);
void dir_close(struct fs *fs, struct dir *dir);

/* Closes the listings that nobody will any more: after a signal the kernel sends no RELEASEDIR. */
void dir_close_all(struct fs *fs);

/* Gives *bytes (mem_free): the entries behind `cookie` (0: from the start), `size` bytes at the most,
 * in the kernel's form, for READDIR or, if `plus`, for READDIRPLUS, where each entry counts as a
 * lookup. Returns how many bytes: 0 at the end. Whatever it returns, dir_read_ahead must follow;
 * until then the listing stays, even if it is closed. */
ssize_t dir_read(struct fs *fs, struct dir *dir, uint64_t cookie, bool plus, size_t size,
		 char **bytes);

/* Once the answer is sent: makes the next one ready, if there may be one. */
void dir_read_ahead(struct fs *fs, struct dir *dir);

#endif

/* err.h - an error told whole: the errno for programs, a sentence for people.
 *
 * The store prints nothing. Where an errno alone would leave its user guessing (which file, which
 * offset, held by whom), a function takes a `struct err *` and puts the sentence there.
 */
#ifndef CUBBY_ERR_H
#define CUBBY_ERR_H

struct err {
	char text[512];		/* no trailing newline; empty if the errno says it all */
};

/* No sentence yet. Where every call passes by: a whole one of zeros takes longer
 * than many a call. */
static inline void err_clear(struct err *err)
{
	err->text[0] = '\0';
}

/* Writes the sentence (cut to fit) and returns `rc`, so that one can `return err_set(...)`.
 * `err` may be NULL. */
int err_set(struct err *err, int rc, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

#endif

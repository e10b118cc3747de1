/* say.h - the one voice of the command and the daemon: standard error while somebody listens,
 * the system's log afterwards.
 */
#ifndef CUBBY_FS_SAY_H
#define CUBBY_FS_SAY_H

/* "cubby: sentence" and a newline, on standard error or in the system's log. Any thread. */
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* From here on, to the system's log. */
void say_to_syslog(void);

#endif

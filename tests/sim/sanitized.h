/* sanitized.h - is this program under a sanitizer that makes it many times slower? What a test does
 * by the thousand it may then do less often: it is done without, too. */
#ifndef CUBBY_SIM_SANITIZED_H
#define CUBBY_SIM_SANITIZED_H

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { SANITIZED = 1 };
#else
enum { SANITIZED = 0 };
#endif

/* How many times less. */
enum { SANITIZED_LESS = SANITIZED ? 8 : 1 };

#endif

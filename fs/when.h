/* when.h - instants and spans of time as people and tools write them. Pure.
 *
 * Instants are milliseconds since 1970-01-01 UTC. Every function that reads takes any bytes,
 * answers 0 or -EINVAL, and leaves *out alone when it fails. A value is taken whole or not at all:
 * no spaces, signs or newlines around it.
 */
#ifndef CUBBY_FS_WHEN_H
#define CUBBY_FS_WHEN_H

#include <stddef.h>
#include <stdint.h>

#include "bytes.h"

#define WHEN_MIN_MS UINT64_C(1000000000000)	/* in September 2001 */
#define WHEN_MAX_MS UINT64_C(253402300799999)	/* the last of the year 9999 */

enum { WHEN_TEXT = 32 };

/* "1795248000", "1795248000.25" (seconds since 1970), "2026-11-21T08:00:00Z",
 * "2026-11-21T09:00:00.250+01:00" (RFC 3339), "+90s", "+30m", "+12h", "+7d" (from now_ms on). An
 * instant is from 1 ms to WHEN_MAX_MS, and a date from WHEN_MIN_MS on: who writes "3600" means an
 * hour, and no day in 1970. Decimals beyond milliseconds are refused. */
int when_read(struct slice text, uint64_t now_ms, uint64_t *out);

/* A span: "90", "90.25" (seconds, with up to three decimals), "+90s", "+30m", "+12h", "+7d". */
int when_read_span(struct slice text, uint64_t *out_ms);

/* Writes seconds, with as many of three decimals as it takes; returns the length, without the
 * final NUL. */
size_t when_write(uint64_t ms, char out[WHEN_TEXT]);

#endif

#include "when.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>

/* What is left of a text being read. */
struct rest {
	const char *at, *end;
};

static struct rest rest_of(struct slice text)
{
	const char *at = text.size ? text.data : "";

	return (struct rest){ at, at + text.size };
}

static bool is_digit(const struct rest *r)
{
	return r->at < r->end && *r->at >= '0' && *r->at <= '9';
}

static bool take(struct rest *r, char c)
{
	if (r->at == r->end || *r->at != c)
		return false;
	r->at++;
	return true;
}

/* As many digits as there are; more than WHEN_MAX_MS is -EINVAL. */
static int take_number(struct rest *r, uint64_t *out)
{
	uint64_t n = 0;

	if (!is_digit(r))
		return -EINVAL;
	for (; is_digit(r); r->at++) {
		n = n * 10 + (uint64_t)(*r->at - '0');
		if (n > WHEN_MAX_MS)
			return -EINVAL;
	}
	*out = n;
	return 0;
}

/* Exactly `count` digits, of a number from `least` to `most`. */
static int take_digits(struct rest *r, int count, unsigned least, unsigned most, unsigned *out)
{
	unsigned n = 0;

	for (int i = 0; i < count; i++) {
		if (!is_digit(r))
			return -EINVAL;
		n = n * 10 + (unsigned)(*r->at++ - '0');
	}
	if (n < least || n > most)
		return -EINVAL;
	*out = n;
	return 0;
}

/* Nothing, or a dot and one to three digits. */
static int take_fraction(struct rest *r, unsigned *out_ms)
{
	unsigned ms = 0, worth = 100;

	if (take(r, '.')) {
		if (!is_digit(r))
			return -EINVAL;
		for (; is_digit(r); r->at++) {
			if (worth == 0)
				return -EINVAL;
			ms += worth * (unsigned)(*r->at - '0');
			worth /= 10;
		}
	}
	*out_ms = ms;
	return 0;
}

/* Seconds with decimals, or with another unit in place of the second. */
static int take_span(struct rest *r, uint64_t *out_ms)
{
	uint64_t whole;
	unsigned fraction;

	if (take_number(r, &whole) < 0 || take_fraction(r, &fraction) < 0)
		return -EINVAL;
	if (whole > WHEN_MAX_MS / 1000)
		return -EINVAL;
	*out_ms = whole * 1000 + fraction;
	return 0;
}

static int take_unit(struct rest *r, unsigned *seconds)
{
	if (take(r, 's'))
		*seconds = 1;
	else if (take(r, 'm'))
		*seconds = 60;
	else if (take(r, 'h'))
		*seconds = 60 * 60;
	else if (take(r, 'd'))
		*seconds = 24 * 60 * 60;
	else
		return -EINVAL;
	return 0;
}

static bool is_leap(unsigned year)
{
	return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
}

static unsigned days_in(unsigned year, unsigned month)
{
	static const uint8_t days[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };

	return days[month - 1] + (month == 2 && is_leap(year));
}

/* Days from 1970-01-01 to the first of this month; the year is 1970 or later. */
static uint64_t days_before(unsigned year, unsigned month)
{
	const uint64_t past = year - 1;		/* years that are over */
	uint64_t days = past * 365 + past / 4 - past / 100 + past / 400 - 719162;

	for (unsigned m = 1; m < month; m++)
		days += days_in(year, m);
	return days;
}

static int take_date(struct rest *r, uint64_t *days)
{
	unsigned year, month, day;

	if (take_digits(r, 4, 1970, 9999, &year) < 0 || !take(r, '-') ||
	    take_digits(r, 2, 1, 12, &month) < 0 || !take(r, '-') ||
	    take_digits(r, 2, 1, days_in(year, month), &day) < 0)
		return -EINVAL;
	*days = days_before(year, month) + day - 1;
	return 0;
}

static int take_time(struct rest *r, uint64_t *ms)
{
	unsigned hour, minute, second, fraction;

	if (take_digits(r, 2, 0, 23, &hour) < 0 || !take(r, ':') ||
	    take_digits(r, 2, 0, 59, &minute) < 0 || !take(r, ':') ||
	    take_digits(r, 2, 0, 60, &second) < 0 || take_fraction(r, &fraction) < 0)
		return -EINVAL;
	*ms = ((hour * 60 + minute) * 60 + (uint64_t)second) * 1000 + fraction;
	return 0;
}

/* "Z", or how far local time is ahead of UTC. */
static int take_zone(struct rest *r, int64_t *ahead_ms)
{
	unsigned hours, minutes;
	int64_t sign = 1;

	*ahead_ms = 0;
	if (take(r, 'Z') || take(r, 'z'))
		return 0;
	if (take(r, '-'))
		sign = -1;
	else if (!take(r, '+'))
		return -EINVAL;
	if (take_digits(r, 2, 0, 23, &hours) < 0 || !take(r, ':') ||
	    take_digits(r, 2, 0, 59, &minutes) < 0)
		return -EINVAL;
	*ahead_ms = sign * (int64_t)(hours * 60 + minutes) * 60 * 1000;
	return 0;
}

static int read_rfc3339(struct rest *r, int64_t *out)
{
	uint64_t days, ms;
	int64_t ahead;

	if (take_date(r, &days) < 0)
		return -EINVAL;
	if (!take(r, 'T') && !take(r, 't') && !take(r, ' '))
		return -EINVAL;
	if (take_time(r, &ms) < 0 || take_zone(r, &ahead) < 0)
		return -EINVAL;
	*out = (int64_t)(days * 24 * 60 * 60 * 1000 + ms) - ahead;
	return 0;
}

static int read_from_now(struct rest *r, uint64_t now_ms, int64_t *out)
{
	uint64_t span;
	unsigned unit;

	if (take_span(r, &span) < 0 || take_unit(r, &unit) < 0 || span > WHEN_MAX_MS / unit)
		return -EINVAL;
	*out = (int64_t)(now_ms + span * unit);
	return 0;
}

static int read_seconds(struct rest *r, int64_t *out)
{
	uint64_t ms;
	const int rc = take_span(r, &ms);

	if (rc == 0)
		*out = (int64_t)ms;
	return rc;
}

int when_read(struct slice text, uint64_t now_ms, uint64_t *out)
{
	struct rest r = rest_of(text);
	int64_t ms = 0, least = WHEN_MIN_MS;
	int rc;

	if (take(&r, '+')) {
		rc = read_from_now(&r, now_ms, &ms);
		least = 1;
	} else if (text.size > 4 && r.at[4] == '-') {
		rc = read_rfc3339(&r, &ms);
	} else {
		rc = read_seconds(&r, &ms);
	}
	if (rc < 0 || r.at != r.end || ms < least || (uint64_t)ms > WHEN_MAX_MS)
		return -EINVAL;
	*out = (uint64_t)ms;
	return 0;
}

int when_read_span(struct slice text, uint64_t *out_ms)
{
	struct rest r = rest_of(text);
	int64_t ms = 0;
	const int rc = take(&r, '+') ? read_from_now(&r, 0, &ms) : read_seconds(&r, &ms);

	if (rc < 0 || r.at != r.end || (uint64_t)ms > WHEN_MAX_MS)
		return -EINVAL;
	*out_ms = (uint64_t)ms;
	return 0;
}

size_t when_write(uint64_t ms, char out[WHEN_TEXT])
{
	size_t n = (size_t)snprintf(out, WHEN_TEXT, "%" PRIu64 ".%03u", ms / 1000,
				    (unsigned)(ms % 1000));

	while (out[n - 1] == '0')
		n--;
	if (out[n - 1] == '.')
		n--;
	out[n] = '\0';
	return n;
}

/* What people and tools write for an instant is read exactly, or refused whole. */
#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

#include <cmocka.h>

#include "when.h"

#define NOW UINT64_C(1700000000000)

static uint64_t read_at(const char *text)
{
	uint64_t ms = 0;

	if (when_read(slice_str(text), NOW, &ms) < 0)
		fail_msg("'%s' was refused", text);
	return ms;
}

static void assert_refused(struct slice text)
{
	uint64_t ms = 77;

	if (when_read(text, NOW, &ms) != -EINVAL)
		fail_msg("'%.*s' was taken", (int)text.size, (const char *)text.data);
	assert_int_equal(ms, 77);
}

static void seconds_since_1970_may_have_up_to_three_decimals(void **state)
{
	(void)state;
	assert_int_equal(read_at("1000000000"), WHEN_MIN_MS);
	assert_int_equal(read_at("1000000000.001"), WHEN_MIN_MS + 1);
	assert_int_equal(read_at("1795248000.25"), 1795248000250);
	assert_int_equal(read_at("1795248000.007"), 1795248000007);
	assert_int_equal(read_at("000000001795248000"), 1795248000000);
	assert_int_equal(read_at("253402300799.999"), WHEN_MAX_MS);
}

static void a_span_from_now_has_a_unit(void **state)
{
	(void)state;
	assert_int_equal(read_at("+90s"), NOW + 90 * 1000);
	assert_int_equal(read_at("+30m"), NOW + 30 * 60 * 1000);
	assert_int_equal(read_at("+12h"), NOW + 12 * 3600 * 1000);
	assert_int_equal(read_at("+7d"), NOW + 7 * 86400 * 1000);
	assert_int_equal(read_at("+0.5s"), NOW + 500);
	assert_int_equal(read_at("+1.5h"), NOW + 5400 * 1000);
	assert_int_equal(read_at("+0s"), NOW);
}

static void dates_are_those_of_rfc_3339(void **state)
{
	(void)state;
	assert_int_equal(read_at("2001-09-09T01:46:40Z"), WHEN_MIN_MS);
	assert_int_equal(read_at("2004-02-29T00:00:00Z"), 1078012800000);
	assert_int_equal(read_at("2100-03-01T00:00:00Z"), 4107542400000);
	assert_int_equal(read_at("2026-11-21t08:20:30.5z"), 1795249230500);
	assert_int_equal(read_at("2026-11-21 09:20:30+01:00"), 1795249230000);
	assert_int_equal(read_at("2026-11-20T20:50:30-11:30"), 1795249230000);
	assert_int_equal(read_at("2016-12-31T23:59:60Z"), 1483228800000);
	assert_int_equal(read_at("9999-12-31T23:59:59.999Z"), WHEN_MAX_MS);
}

/* Every day of more than four centuries, by the C library's calendar. */
static void every_date_is_the_calendars(void **state)
{
	char text[64];
	struct tm tm;

	(void)state;
	for (time_t day = WHEN_MIN_MS / 86400000 + 1; day < 170000; day++) {
		const time_t s = day * 86400 + day % 86400;

		assert_non_null(gmtime_r(&s, &tm));
		assert_int_not_equal(strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &tm), 0);
		assert_int_equal(read_at(text), (uint64_t)s * 1000);
	}
}

static void anything_else_is_refused(void **state)
{
	static const char *const bad[] = {
		"", " ", "0", "0.000", "-1", "+", "+s", "+5", "+5x", "+5 s", "++5s", "+5ss",
		"1.", ".5", "1.0005", "1", "3600", "999999999.999",
		"2001-09-09T01:46:39.999Z", "2000-02-29T00:00:00Z",
		"1970-01-01T00:00:01Z", "1e9", "0x7fffffff", " 1", "1 ", "1\n", "soon",
		"253402300800", "99999999999999999999", "+99999999999999999999d", "+253402300799d",
		"1969-12-31T23:59:59Z", "2100-13-01T00:00:00Z", "2100-00-01T00:00:00Z",
		"2100-02-29T00:00:00Z", "2100-01-00T00:00:00Z", "2100-01-01",
		"2100-01-01T00:00:00", "2100-01-01T24:00:00Z", "2100-01-01T00:60:00Z",
		"2100-01-01T00:00:61Z", "2100-01-01T00:00:00.Z", "2100-01-01T00:00:00+1:00",
		"2100-01-01T00:00:00+24:00", "2100-01-01T00:00:00Zx", "2100-1-01T00:00:00Z",
		"1970-01-01T00:00:00+01:00", "9999-12-31T23:59:59.999-00:01",
		"12345-01-01T00:00:00Z",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		assert_refused(slice_str(bad[i]));
	assert_refused(slice_of("12\0", 3));
	assert_refused((struct slice){ NULL, 0 });
}

/* Cut short anywhere, a date is none; and nothing behind the end is looked at. */
static void a_date_cut_short_is_refused(void **state)
{
	static const char whole[] = "2026-11-21T08:20:30.250+01:00";
	uint64_t ms;

	(void)state;
	for (size_t size = 5; size < sizeof(whole) - 1; size++)	/* "2026" is seconds */
		assert_refused(slice_of(whole, size));
	assert_int_equal(when_read(slice_of(whole, sizeof(whole) - 1), NOW, &ms), 0);
}

static void a_span_alone_is_a_number_of_seconds_or_has_a_unit(void **state)
{
	uint64_t ms;

	(void)state;
	assert_int_equal(when_read_span(slice_str("90"), &ms), 0);
	assert_int_equal(ms, 90000);
	assert_int_equal(when_read_span(slice_str("0.25"), &ms), 0);
	assert_int_equal(ms, 250);
	assert_int_equal(when_read_span(slice_str("0"), &ms), 0);
	assert_int_equal(ms, 0);
	assert_int_equal(when_read_span(slice_str("+90s"), &ms), 0);
	assert_int_equal(ms, 90000);
	assert_int_equal(when_read_span(slice_str("+0.5m"), &ms), 0);
	assert_int_equal(ms, 30000);
	assert_int_equal(when_read_span(slice_str("+7d"), &ms), 0);
	assert_int_equal(ms, 7 * 86400 * 1000);
	assert_int_equal(when_read_span(slice_str("90s"), &ms), -EINVAL);
	assert_int_equal(when_read_span(slice_str("+90"), &ms), -EINVAL);
	assert_int_equal(when_read_span(slice_str("+253402300799d"), &ms), -EINVAL);
	assert_int_equal(when_read_span(slice_str("-1"), &ms), -EINVAL);
	assert_int_equal(when_read_span(slice_str(""), &ms), -EINVAL);
}

static void what_is_written_is_read_back_and_has_no_needless_zeros(void **state)
{
	static const struct {
		uint64_t ms;
		const char *text;
	} cases[] = {
		{ 1, "0.001" }, { 10, "0.01" }, { 100, "0.1" }, { 1000, "1" }, { 10000, "10" },
		{ 1795248000250, "1795248000.25" }, { 1795248000000, "1795248000" },
		{ WHEN_MAX_MS, "253402300799.999" },
	};
	char text[WHEN_TEXT];
	uint64_t ms;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		assert_int_equal(when_write(cases[i].ms, text), strlen(cases[i].text));
		assert_string_equal(text, cases[i].text);
		assert_int_equal(when_read_span(slice_str(text), &ms), 0);
		assert_int_equal(ms, cases[i].ms);
		if (ms >= WHEN_MIN_MS)
			assert_int_equal(read_at(text), ms);
	}
	assert_int_equal(when_write(0, text), 1);
	assert_string_equal(text, "0");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(seconds_since_1970_may_have_up_to_three_decimals),
		cmocka_unit_test(a_span_from_now_has_a_unit),
		cmocka_unit_test(dates_are_those_of_rfc_3339),
		cmocka_unit_test(every_date_is_the_calendars),
		cmocka_unit_test(anything_else_is_refused),
		cmocka_unit_test(a_date_cut_short_is_refused),
		cmocka_unit_test(a_span_alone_is_a_number_of_seconds_or_has_a_unit),
		cmocka_unit_test(what_is_written_is_read_back_and_has_no_needless_zeros),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "sim/look.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim/medium.h"

bool look_is_wrong(char *wrong, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	if (!wrong[0])
		vsnprintf(wrong, LOOK_WRONG_SIZE, format, args);
	va_end(args);
	return false;
}

/* ---- runs ------------------------------------------------------------------------------- */

struct seen_run {
	struct ref ref;
	struct what what;
};

struct looking {
	const struct moments *moments;
	uint32_t commit;
	uint32_t next;			/* in the order of keys */
	uint64_t entries;
	struct seen_run *runs;
	size_t run_count;
	char *wrong;
};

static void keep_run(struct looking *l, const struct ref *ref, struct what what)
{
	if ((l->run_count & (l->run_count - 1)) == 0)
		l->runs = sim_realloc(l->runs, (l->run_count ? l->run_count * 2 : 1) *
				      sizeof(*l->runs));
	l->runs[l->run_count++] = (struct seen_run){ *ref, what };
}

bool look_at_run(struct engine *engine, const struct ref *ref, struct what what, char *wrong)
{
	uint8_t *bytes = sim_alloc(ref->length);
	const int rc = engine_run_read(engine, ref, bytes);
	bool right = true;

	if (rc < 0)
		right = look_is_wrong(wrong, "run %u cannot be read: %d", what.stamp, rc);
	else if (!moments_match_run(slice_of(bytes, ref->length), what))
		right = look_is_wrong(wrong, "run %u has other bytes", what.stamp);
	free(bytes);
	return right;
}

/* ---- one moment ------------------------------------------------------------------------- */

/* The next key that is there at that moment; moments->keys: there is none. */
static uint32_t expected(struct looking *l)
{
	const struct moments *m = l->moments;

	while (l->next < m->keys &&
	       moments_get(m, l->commit, m->order[l->next]).stamp == 0)
		l->next++;
	return l->next < m->keys ? m->order[l->next] : m->keys;
}

bool look_is_value(struct slice value, const struct ref *run, struct what what)
{
	return run->length == what.run_size && moments_match_value(value, what);
}

static int see_other(struct looking *l)
{
	const uint32_t k = expected(l);

	if (k == l->moments->keys)
		return 0;
	look_is_wrong(l->wrong, "key %u is missing after commit %u", k, l->commit);
	return -1;
}

static int see(void *arg, const struct engine_entry *entry)
{
	struct looking *l = arg;
	const uint32_t k = expected(l);
	struct what what;

	l->entries++;
	if (entry->key.size && *(const char *)entry->key.data != 'k')
		return see_other(l);
	if (k == l->moments->keys || !slice_equal(entry->key, moments_key(k))) {
		look_is_wrong(l->wrong, "after commit %u comes \"%.*s\", key %u should", l->commit,
			      (int)entry->key.size, (const char *)entry->key.data, k);
		return -1;
	}
	what = moments_get(l->moments, l->commit, k);
	if (!look_is_value(entry->value, entry->run, what)) {
		look_is_wrong(l->wrong, "after commit %u key %u has not value %u of %u bytes",
			      l->commit, k, what.stamp, what.size);
		return -1;
	}
	if (entry->run->length)
		keep_run(l, entry->run, what);
	l->next++;
	return 0;
}

bool look_at_moment(struct engine *engine, struct engine_snapshot *snapshot,
		    const struct moments *moments, uint32_t commit, char *wrong)
{
	const struct slice all = slice_of("", 0);
	struct looking l = { .moments = moments, .commit = commit, .wrong = wrong };
	const int rc = snapshot ? engine_snapshot_scan(snapshot, all, see, &l) :
				  engine_scan(engine, all, see, &l);
	bool right = rc == 0 || look_is_wrong(wrong, "scan: %d", rc);

	if (right && expected(&l) != moments->keys)
		right = look_is_wrong(wrong, "key %u is missing after commit %u", expected(&l),
				      commit);
	if (right && snapshot && engine_snapshot_entries(snapshot) != l.entries)
		right = look_is_wrong(wrong, "the snapshot of commit %u has %llu entries, not %llu",
				      commit, (unsigned long long)l.entries,
				      (unsigned long long)engine_snapshot_entries(snapshot));
	for (size_t i = 0; i < l.run_count && right; i++)
		right = look_at_run(engine, &l.runs[i].ref, l.runs[i].what, wrong);
	free(l.runs);
	return right;
}

/* Number 0: the map is empty. */
static bool find_now(struct engine *engine, struct engine_snapshot *snapshot, uint32_t *now,
		     char *wrong)
{
	const struct slice key = slice_str("now");
	struct buffer value = { 0 };
	const int rc = snapshot ? engine_snapshot_get(snapshot, key, &value, NULL) :
				  engine_get(engine, key, &value, NULL);
	bool right = true;

	if (rc == 0 && value.size == 4)
		*now = get32(value.data);
	else if (rc == -ENOENT)
		*now = 0;
	else
		right = look_is_wrong(wrong, "the number of the last commit cannot be read: %d",
				      rc);
	buffer_done(&value);
	return right;
}

/* ---- all of it -------------------------------------------------------------------------- */

static bool look_at_kept(struct engine *engine, const struct moments *moments, uint32_t name,
			 uint32_t *found, char *wrong)
{
	const struct keeping *k = &moments->kept[name];
	struct engine_snapshot *snapshot;
	const int rc = engine_snapshot_open_kept(engine, moments_name(name), &snapshot);
	uint32_t commit;
	bool right = true;

	*found = 0;
	if (rc == 0) {
		right = find_now(engine, snapshot, &commit, wrong);
		*found = right ? commit + 1 : 0;
	} else if (rc != -ENOENT) {
		return look_is_wrong(wrong, "snapshot %u cannot be opened: %d", name, rc);
	}
	if (right && *found != k->since && *found != k->tried)
		right = look_is_wrong(wrong,
				      "snapshot %u is that of commit %d, not of %d or %d (-1: "
				      "there is none)",
				      name, (int)*found - 1, (int)k->since - 1, (int)k->tried - 1);
	if (rc == 0 && right)
		right = look_at_moment(engine, snapshot, moments, commit, wrong);
	if (rc == 0)
		engine_snapshot_close(snapshot);
	return right;
}

static int count_one(void *arg, const struct engine_kept *kept)
{
	uint32_t *count = arg;

	(void)kept;
	++*count;
	return 0;
}

/* Nor is there any that nobody made. */
static bool look_at_names(struct engine *engine, const struct moments *moments, struct seen *seen,
			  char *wrong)
{
	uint32_t count = 0, listed = 0;
	bool right = true;

	for (uint32_t n = 0; n < MOMENTS_NAMES && right; n++) {
		right = look_at_kept(engine, moments, n, &seen->kept[n], wrong);
		count += seen->kept[n] != 0;
	}
	engine_snapshot_list(engine, count_one, &listed);
	if (right && listed != count)
		right = look_is_wrong(wrong, "%u snapshots are listed, %u are there", listed,
				      count);
	return right;
}

bool look_compare(struct engine *engine, const struct moments *moments, uint32_t from, uint32_t to,
		  struct seen *seen, char *wrong)
{
	bool right = find_now(engine, NULL, &seen->commit, wrong);

	if (right && (seen->commit < from || seen->commit > to))
		right = look_is_wrong(wrong,
				      "commit %u came back; %u was acknowledged, %u was tried",
				      seen->commit, from, to);
	return right && look_at_moment(engine, NULL, moments, seen->commit, wrong) &&
	       look_at_names(engine, moments, seen, wrong);
}

bool look_verify(struct engine *engine, char *wrong)
{
	struct err err;
	const int rc = engine_verify(engine, NULL, NULL, &err);

	return rc == 0 || look_is_wrong(wrong, "verify: %s (%d)", err.text, rc);
}

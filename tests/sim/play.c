#include "sim/play.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "sim/medium.h"

/* ---- after a crash ---------------------------------------------------------------------- */

bool play_open(struct sim *disk, const struct mix *mix, struct engine **out, char *wrong)
{
	struct engine_options options = mix->options;
	struct err err;
	int rc;

	options.commit_ns = 1;		/* the log's witness is told of every sync */
	rc = engine_open(sim_os(disk), "/store", &options, out, &err);
	return rc == 0 || look_is_wrong(wrong, "open: %s (%d)", err.text, rc);
}

static bool close_engine(struct engine *engine, char *wrong)
{
	const int rc = engine_close(engine);

	return rc == 0 || look_is_wrong(wrong, "close: %d", rc);
}

/* One more commit, outside the story. A full disk may refuse it. */
static bool add_footnote(struct engine *engine, const struct mix *mix, char *wrong)
{
	struct batch batch = { 0 };
	uint64_t revision;
	int rc;

	batch_put(&batch, slice_str("~"), slice_str("and then"));
	rc = engine_commit(engine, &batch, false, &revision);
	if (rc == 0)
		rc = engine_wait_blocking(engine, revision, LOG_SYNCED);
	batch_done(&batch);
	return rc == 0 || (rc == -ENOSPC && mix->limit) ||
	       look_is_wrong(wrong, "the next commit: %d", rc);
}

/* What is there must be what was found before. */
static bool look_again(struct engine *engine, const struct moments *moments,
		       const struct seen *seen, char *wrong)
{
	struct seen now;

	if (!look_compare(engine, moments, seen->commit, seen->commit, &now, wrong))
		return false;
	if (memcmp(now.kept, seen->kept, sizeof(now.kept)) != 0)
		return look_is_wrong(wrong, "a snapshot comes or goes by itself");
	return look_verify(engine, wrong);
}

bool play_comes_back(struct sim *disk, const struct mix *mix, const struct moments *moments,
		     uint32_t from, uint32_t to, char *wrong)
{
	struct engine *engine = NULL;
	struct seen seen;
	bool right = play_open(disk, mix, &engine, wrong) &&
		     look_compare(engine, moments, from, to, &seen, wrong) &&
		     look_verify(engine, wrong) && add_footnote(engine, mix, wrong);

	if (!right)
		engine_close(engine);
	right = right && close_engine(engine, wrong);
	engine = NULL;
	right = right && play_open(disk, mix, &engine, wrong) &&
		look_again(engine, moments, &seen, wrong);
	engine_close(engine);
	return right;
}

/* ---- steps that happen while a checkpoint is under way ---------------------------------- */

static struct {
	struct os real;
	struct play *play;
	struct os_file *pages;
	bool in_checkpoint, in_step;
	bool at_syncs_only;		/* else at writes, too */
	uint32_t steps;			/* that are to happen yet */
} meanwhile;

static bool play_step(struct play *p, const struct step *s);

/* Neither another checkpoint, nor what might wait for this one. */
static bool may_happen_meanwhile(const struct step *s, bool syncing)
{
	return s->kind <= STEP_WRITTEN || s->kind == STEP_GET || s->kind == STEP_MOMENT ||
	       s->kind == STEP_LOOK_BACK || (s->kind == STEP_SYNCED && !syncing);
}

static void others_go_on(bool syncing, uint32_t count)
{
	struct play *p = meanwhile.play;

	if (!p || !meanwhile.in_checkpoint || meanwhile.in_step || sim_is_cut(p->disk))
		return;
	meanwhile.in_step = true;
	for (; count > 0 && meanwhile.steps > 0 && p->next < p->end && !p->wrong[0]; count--) {
		if (!may_happen_meanwhile(p->next, syncing) || !play_step(p, p->next))
			break;
		p->next++;
		meanwhile.steps--;
	}
	meanwhile.in_step = false;
}

static int hooked_open(struct os_dir *dir, const char *name, unsigned flags, struct os_file **out)
{
	const int rc = meanwhile.real.open(dir, name, flags, out);

	if (rc == 0 && strcmp(name, FILE_PAGES) == 0)
		meanwhile.pages = *out;
	return rc;
}

/* Only at nodes: they are written under no lock but the checkpoint's. */
static int hooked_write(struct os_file *file, const void *bytes, size_t size, uint64_t offset)
{
	if (file == meanwhile.pages && size >= NODE_HEADER && !meanwhile.at_syncs_only &&
	    get32((const uint8_t *)bytes + NODE_MAGIC) == NODE_MAGIC_VALUE)
		others_go_on(false, 2);
	return meanwhile.real.write(file, bytes, size, offset);
}

static int hooked_sync(struct os_file *file)
{
	if (file == meanwhile.pages)
		others_go_on(true, 8);
	return meanwhile.real.sync(file);
}

static void hook(struct play *p)
{
	if (meanwhile.play == p)
		return;
	assert(!meanwhile.play);
	meanwhile.real = *sim_os(p->disk);
	meanwhile.play = p;
	sim_os(p->disk)->open = hooked_open;
	sim_os(p->disk)->write = hooked_write;
	sim_os(p->disk)->sync = hooked_sync;
}

static void unhook(struct play *p)
{
	if (meanwhile.play != p)
		return;
	*sim_os(p->disk) = meanwhile.real;
	memset(&meanwhile, 0, sizeof(meanwhile));
}

/* ---- steps ------------------------------------------------------------------------------ */

/* Whether the play goes on after this answer: not once the power is gone, and not if it is wrong.
 * A step that was refused as planned is no mistake. */
static bool goes_on(struct play *p, int rc, const char *what)
{
	struct err err = { "" };

	if (rc == 0)
		return true;
	if (sim_is_cut(p->disk))
		return false;
	if (rc == -ENOSPC && p->mix->limit)
		return true;
	if (p->allowed && rc == -EROFS && (!engine_trouble(p->engine, &err) || !err.text[0]))
		return look_is_wrong(p->wrong, "%s: read-only without a word", what);
	if (p->allowed && (rc == p->allowed || rc == -EROFS)) {
		p->read_only |= rc == -EROFS;
		p->felt++;
		return true;
	}
	engine_trouble(p->engine, &err);
	return look_is_wrong(p->wrong, "%s: %d %s", what, rc, err.text);
}

static void empty_batch(struct play *p)
{
	batch_clear(&p->batch);
	p->run_count = 0;
	p->puts = false;
	moments_cut(&p->moments, p->progress.tried);
}

/* A batch that was refused leaves its runs to us, and nothing else behind. */
static bool refused(struct play *p, int rc)
{
	p->progress.tried--;
	for (size_t i = 0; i < p->run_count; i++)
		engine_run_drop(p->engine, &p->runs[i]);
	empty_batch(p);
	return goes_on(p, rc, "commit");
}

/* The oldest commit whose moment may be asked for, but for those that are kept. */
static uint32_t oldest(const struct play *p)
{
	uint32_t commit = p->progress.acknowledged;

	for (int i = 0; i < PLAY_VIEWS; i++)
		if (p->views[i].snapshot && p->views[i].commit < commit)
			commit = p->views[i].commit;
	return commit;
}

static bool commit(struct play *p)
{
	enum { FORGET_EVERY = 256 };
	uint8_t now[4];
	int rc;

	if (p->batch.count == 0 && !p->batch.failed)
		return true;
	p->progress.tried++;
	put32(now, p->progress.tried);
	batch_put(&p->batch, slice_str("now"), slice_of(now, sizeof(now)));
	rc = engine_commit(p->engine, &p->batch, !p->puts, &p->revision);
	if (rc < 0)
		return refused(p, rc);
	empty_batch(p);
	if (p->progress.tried % FORGET_EVERY == 0)
		moments_forget(&p->moments, oldest(p));
	return true;
}

/* Makes room in the batch for so many bytes. */
static bool gather(struct play *p, uint32_t size)
{
	enum { AROUND = 2 * MOMENTS_KEY_MAX };

	if (p->batch.bytes.size + size + AROUND > engine_batch_max(p->engine) ||
	    p->run_count == PLAY_BATCH_RUNS)
		return commit(p);
	return true;
}

static bool put_value(struct play *p, const struct step *s)
{
	const struct what what = { .stamp = s->stamp, .size = s->size };
	uint8_t *bytes;

	if (!gather(p, s->size))
		return false;
	bytes = sim_alloc(what.size);
	moments_fill(bytes, s->stamp, s->size);
	batch_put(&p->batch, moments_key(s->key), slice_of(bytes, what.size));
	moments_set(&p->moments, p->progress.tried + 1, s->key, what);
	p->puts = true;
	free(bytes);
	return true;
}

/* Gives *run, unless rc says otherwise. */
static int write_run(struct play *p, const struct step *s, struct ref *run)
{
	uint8_t *bytes = sim_alloc(s->size);
	int rc;

	moments_fill(bytes, s->stamp, s->size);
	rc = engine_run_write(p->engine, slice_of(bytes, s->size), run);
	free(bytes);
	return rc;
}

static bool put_run(struct play *p, const struct step *s)
{
	const struct what what = { .stamp = s->stamp, .size = 4, .run_size = s->size };
	uint8_t beside[4];
	struct ref *run;
	int rc;

	if (!gather(p, 0))
		return false;
	run = &p->runs[p->run_count];
	rc = write_run(p, s, run);
	if (rc < 0)
		return goes_on(p, rc, "run_write");
	moments_fill(beside, s->stamp, sizeof(beside));
	batch_put_run(&p->batch, moments_key(s->key), run, slice_of(beside, sizeof(beside)));
	moments_set(&p->moments, p->progress.tried + 1, s->key, what);
	p->run_count++;
	p->puts = true;
	return true;
}

static bool drop_run(struct play *p, const struct step *s)
{
	struct ref run;
	const int rc = write_run(p, s, &run);

	if (rc == 0)
		engine_run_drop(p->engine, &run);
	return goes_on(p, rc, "run_write");
}

/* What is not there cannot be patched, and a value may not grow for ever. */
static bool patch(struct play *p, const struct step *s)
{
	struct what what;
	uint32_t offset;
	uint8_t *bytes;

	if (!gather(p, s->size))
		return false;
	what = moments_get(&p->moments, p->progress.tried + 1, s->key);
	if (!what.stamp || what.size + s->size > ENGINE_VALUE_MAX || s->size == 0)
		return true;
	offset = s->stamp % (what.size + 1);
	bytes = sim_alloc(s->size);
	moments_fill(bytes, s->stamp, s->size);
	batch_patch(&p->batch, moments_key(s->key), offset, slice_of(bytes, s->size));
	moments_patch(&p->moments, p->progress.tried + 1, s->key, offset,
		      slice_of(bytes, s->size));
	p->puts = true;
	free(bytes);
	return true;
}

static bool delete(struct play *p, const struct step *s)
{
	if (!gather(p, 0))
		return false;
	batch_delete(&p->batch, moments_key(s->key));
	moments_set(&p->moments, p->progress.tried + 1, s->key, (struct what){ 0 });
	return true;
}

static bool wait(struct play *p, enum log_level level)
{
	const uint32_t commit = p->progress.tried;
	const int rc = engine_wait_blocking(p->engine, p->revision, level);

	if (rc == 0 && commit > p->progress.written)
		p->progress.written = commit;
	if (rc == 0 && level == LOG_SYNCED && commit > p->progress.acknowledged)
		p->progress.acknowledged = commit;
	return goes_on(p, rc, level == LOG_SYNCED ? "synced" : "written");
}

/* A step that is a checkpoint, or has one: what was committed before is durable behind it. */
static int carry_out(struct play *p, const struct step *s)
{
	const struct slice name = moments_name(s->key % MOMENTS_NAMES);
	const uint32_t commit = p->progress.tried;
	int rc;

	meanwhile.steps = s->size;
	meanwhile.in_checkpoint = true;
	if (s->kind == STEP_CHECKPOINT)
		rc = engine_checkpoint(p->engine);
	else if (s->kind == STEP_KEEP)
		rc = engine_snapshot_create(p->engine, name);
	else
		rc = engine_snapshot_delete(p->engine, name);
	meanwhile.in_checkpoint = false;
	if (rc == 0 && commit > p->progress.acknowledged)
		p->progress.acknowledged = commit;
	return rc;
}

static bool checkpoint(struct play *p, const struct step *s)
{
	const int rc = carry_out(p, s);

	return !p->wrong[0] && goes_on(p, rc, "checkpoint");
}

/* A name that is there cannot be given again, nor one taken away that is not. Once the store is
 * read-only nothing that is tried can have happened. */
static bool change_name(struct play *p, const struct step *s)
{
	struct keeping *k = &p->moments.kept[s->key % MOMENTS_NAMES];
	const bool keeps = s->kind == STEP_KEEP, possible = keeps == (k->since == 0);
	const uint32_t before = k->tried;
	int rc;

	if (possible && !p->read_only)
		k->tried = keeps ? p->progress.tried + 1 : 0;
	rc = carry_out(p, s);
	if (p->wrong[0])
		return false;
	if (!possible)
		return rc == (keeps ? -EEXIST : -ENOENT) ||
		       look_is_wrong(p->wrong, "%s: %d", keeps ? "kept twice" : "deleted twice",
				     rc);
	if (rc == 0)
		k->since = k->tried;
	else if (rc == -EROFS && keeps && before)	/* a try that failed has made it so */
		k->tried = before;
	return goes_on(p, rc, keeps ? "keep" : "forget");
}

/* ---- readers ---------------------------------------------------------------------------- */

static void close_views(struct play *p)
{
	for (int i = 0; i < PLAY_VIEWS; i++) {
		engine_snapshot_close(p->views[i].snapshot);
		p->views[i].snapshot = NULL;
	}
}

/* An error that was planned fails this reading and no other. */
static bool look_back(struct play *p, const struct step *s)
{
	const struct play_view *v = &p->views[s->key % PLAY_VIEWS];
	char felt[PLAY_WRONG_SIZE] = "";

	if (!v->snapshot)
		return true;
	if (p->allowed) {
		if (look_at_moment(p->engine, v->snapshot, &p->moments, v->commit, felt))
			return true;
		p->felt++;
	}
	return look_at_moment(p->engine, v->snapshot, &p->moments, v->commit, p->wrong);
}

static bool open_view(struct play *p, const struct step *s)
{
	struct play_view *v = &p->views[s->key % PLAY_VIEWS];
	const uint32_t name = s->size ? s->size - 1 : 0;
	const struct keeping *k = &p->moments.kept[name];
	int rc;

	engine_snapshot_close(v->snapshot);
	v->snapshot = NULL;
	if (s->size == 0) {
		rc = engine_snapshot_open(p->engine, &v->snapshot);
		v->commit = p->progress.tried;
	} else {
		rc = engine_snapshot_open_kept(p->engine, moments_name(name), &v->snapshot);
		v->commit = k->since - 1;
		if (rc == -ENOENT && (!k->since || !k->tried))	/* it may be going just now */
			return true;
		if (rc == 0 && !k->since)
			return look_is_wrong(p->wrong, "a snapshot is there that was never kept");
	}
	return goes_on(p, rc, "snapshot");
}

static bool clear(struct play *p, const struct step *s)
{
	enum { ONE_IN = 8 };

	for (uint32_t k = 0; k < p->mix->keys; k++) {
		const struct step one = { .kind = STEP_DELETE, .key = k };

		if (k % ONE_IN != s->key % ONE_IN && !delete(p, &one))
			return false;
	}
	return commit(p);
}

/* A piece of it, while others go on; but not while it writes leaves early, which is
 * under a lock. */
static int compact_piece(struct play *p, bool *more)
{
	int rc;

	meanwhile.in_checkpoint = meanwhile.at_syncs_only = true;
	rc = engine_compact(p->engine, more);
	meanwhile.in_checkpoint = meanwhile.at_syncs_only = false;
	return rc;
}

/* As the background does, when nothing has happened for a while. It must come to an end. */
static bool compact(struct play *p, const struct step *s)
{
	enum { PIECES = 200 };
	const uint32_t commit = p->progress.tried;
	bool more = true;
	int rc = engine_checkpoint(p->engine);

	meanwhile.steps = s->size;
	for (int i = 0; rc == 0 && more; i++) {
		rc = compact_piece(p, &more);
		if (i == PIECES)
			return look_is_wrong(p->wrong, "it is made shorter again and again");
	}
	if (rc == 0 && commit > p->progress.acknowledged)
		p->progress.acknowledged = commit;
	return !p->wrong[0] && goes_on(p, rc, "compact");
}

/* An error that was planned fails this reading and no other. */
static int get_value(struct play *p, uint32_t number, struct buffer *value, struct ref *run)
{
	const struct slice lent = moments_key(number);
	uint8_t bytes[MOMENTS_KEY_MAX];
	const struct slice key = slice_of(bytes, lent.size);
	int rc;

	/* Reading may write, when memory is short, and whoever watches the disk then
	 * asks for keys. */
	memcpy(bytes, lent.data, lent.size);
	rc = engine_get(p->engine, key, value, run);
	if (p->allowed && rc == p->allowed) {
		p->felt++;
		rc = engine_get(p->engine, key, value, run);
	}
	return rc;
}

static bool get(struct play *p, const struct step *s)
{
	const struct what what = moments_get(&p->moments, p->progress.tried, s->key);
	struct buffer value = { 0 };
	struct ref run;
	const int rc = get_value(p, s->key, &value, &run);
	bool right = true;

	if (rc == -ENOENT && what.stamp)
		right = look_is_wrong(p->wrong, "key %u is gone", s->key);
	else if (rc == 0 && (!what.stamp || !look_is_value(buffer_slice(&value), &run, what)))
		right = look_is_wrong(p->wrong, "key %u has another value", s->key);
	else if (rc == 0 && run.length && !p->allowed)
		right = look_at_run(p->engine, &run, what, p->wrong);
	else if (rc < 0 && rc != -ENOENT && !sim_is_cut(p->disk))
		right = look_is_wrong(p->wrong, "get: %d", rc);
	buffer_done(&value);
	return right;
}

/* Opens what is there, as it must have been left after some commit since `from`. */
static bool try_to_open(struct play *p, uint32_t from, char *wrong)
{
	struct seen seen;

	if (!play_open(p->disk, p->mix, &p->engine, wrong)) {
		p->engine = NULL;
		return false;
	}
	if (!look_compare(p->engine, &p->moments, from, p->progress.tried, &seen, wrong))
		return false;
	p->revision = engine_revision(p->engine);
	p->read_only = false;
	p->progress = (struct play_progress){ seen.commit, seen.commit, seen.commit };
	moments_cut(&p->moments, seen.commit);
	for (uint32_t n = 0; n < MOMENTS_NAMES; n++)
		p->moments.kept[n] = (struct keeping){ seen.kept[n], seen.kept[n] };
	return look_verify(p->engine, wrong);
}

/* A planned fault may fail the first try. */
static bool open_again(struct play *p, uint32_t from)
{
	char felt[PLAY_WRONG_SIZE] = "";

	if (!p->allowed)
		return try_to_open(p, from, p->wrong);
	if (try_to_open(p, from, felt))
		return true;
	p->felt++;
	engine_close(p->engine);
	p->engine = NULL;
	return try_to_open(p, from, p->wrong);
}

/* After a kill or a power cut. */
static bool come_back(struct play *p)
{
	const bool kill = p->dying == STEP_KILL;

	play_abandon(p);
	empty_batch(p);
	if (kill)
		sim_revive(p->disk, ++p->seed);
	else
		sim_reboot(p->disk, p->fate, ++p->seed);
	p->dying = 0;
	return open_again(p, kill ? p->progress.written : p->progress.acknowledged);
}

static bool reopen(struct play *p)
{
	int rc;

	if (!commit(p))
		return false;
	close_views(p);
	rc = engine_close(p->engine);
	p->engine = NULL;
	if (rc == 0)
		p->progress.acknowledged = p->progress.written = p->progress.tried;
	else if (sim_is_cut(p->disk))
		return false;
	else if (!p->allowed)
		return look_is_wrong(p->wrong, "close: %d", rc);
	p->felt += rc < 0;
	return open_again(p, p->progress.written);
}

bool play_look(struct play *p)
{
	struct seen seen;

	return commit(p) &&
	       look_compare(p->engine, &p->moments, p->progress.tried, p->progress.tried, &seen,
			    p->wrong) &&
	       look_verify(p->engine, p->wrong);
}

bool play_is_wrong(struct play *p, const char *sentence)
{
	return look_is_wrong(p->wrong, "%s", sentence);
}

static bool die_later(struct play *p, const struct step *s)
{
	if (p->dying)
		return true;
	p->dying = s->kind;
	p->fate = (enum sim_fate)s->key;
	sim_cut_after(p->disk, s->size);
	return true;
}

/* False: the power is gone, or something is wrong. */
static bool play_step(struct play *p, const struct step *s)
{
	switch ((enum step_kind)s->kind) {
	case STEP_PUT:
		return put_value(p, s);
	case STEP_RUN:
		return put_run(p, s);
	case STEP_DROP:
		return drop_run(p, s);
	case STEP_PATCH:
		return patch(p, s);
	case STEP_DELETE:
		return delete(p, s);
	case STEP_COMMIT:
		return commit(p);
	case STEP_WRITTEN:
		return wait(p, LOG_WRITTEN);
	case STEP_SYNCED:
		return wait(p, LOG_SYNCED);
	case STEP_CHECKPOINT:
		return checkpoint(p, s);
	case STEP_LOOK:
		return play_look(p);
	case STEP_GET:
		return p->batch.count || get(p, s);
	case STEP_KEEP:
	case STEP_FORGET:
		return change_name(p, s);
	case STEP_MOMENT:
		return open_view(p, s);
	case STEP_LOOK_BACK:
		return look_back(p, s);
	case STEP_REOPEN:
		return reopen(p);
	case STEP_KILL:
	case STEP_POWER:
		return die_later(p, s);
	case STEP_CLEAR:
		return clear(p, s);
	case STEP_COMPACT:
		return compact(p, s);
	case STEP_KINDS:
		break;
	}
	return look_is_wrong(p->wrong, "no such step: %d", s->kind);
}

/* ---- the face --------------------------------------------------------------------------- */

void play_begin(struct play *p, const struct mix *mix, uint64_t seed)
{
	*p = (struct play){ .mix = mix, .disk = sim_new(seed), .seed = seed };
	moments_init(&p->moments, mix->keys);
	sim_limit(p->disk, mix->limit);
	hook(p);
}

/* The last batch is committed, and a cut that is still ahead does not come. */
bool play(struct play *p, const struct story *story)
{
	p->next = story->at;
	p->end = story->at + story->count;
	if (!p->engine && !open_again(p, p->progress.written))
		return false;
	while (p->next < p->end) {
		if (play_step(p, p->next++))
			continue;
		if (sim_is_cut(p->disk))
			p->wrong[0] = '\0';	/* without power nothing can be compared */
		if (p->wrong[0] || !come_back(p))
			return false;
	}
	sim_cut_after(p->disk, -1);
	if (sim_is_cut(p->disk) && !come_back(p))
		return false;
	p->dying = 0;
	return commit(p);
}

bool play_close(struct play *p)
{
	bool right;

	close_views(p);
	right = close_engine(p->engine, p->wrong);
	p->engine = NULL;
	if (right)
		p->progress.acknowledged = p->progress.written = p->progress.tried;
	return right;
}

void play_abandon(struct play *p)
{
	close_views(p);
	engine_close(p->engine);
	p->engine = NULL;
}

void play_end(struct play *p)
{
	play_abandon(p);
	batch_done(&p->batch);
	unhook(p);
	moments_done(&p->moments);
	sim_free(p->disk);
}

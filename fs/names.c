#include "names.h"

#include <errno.h>
#include <sys/stat.h>

#include "acl.h"
#include "handle.h"
#include "mem.h"
#include "when.h"
#include "xattr_set.h"

enum {
	TRIES = 16,	/* to get expired entries out of the way */
	DUE_BATCH = 16,
};

/* ---- nodes by name --------------------------------------------------------------------------- */

/* Finds the node of what `place` names, pinned; *out is NULL if the kernel does not know it. */
static int node_named(struct fs *fs, struct place place, struct node **out) NEEDS(fs->names)
{
	uint64_t id;
	const int rc = store_id(fs->store, place, &id);

	*out = NULL;
	if (rc == 0)
		return nodes_with(&fs->nodes, id, out);
	return rc == -ENOENT ? 0 : rc;
}

static struct place place_of_due(const struct due *due)
{
	return (struct place){ due->table, { due->name, due->name_size } };
}

/* Before the entry at `place`, which is `node`, goes: what whoever has it open still needs. */
static int keep(struct fs *fs, struct place place, struct node *node, bool replaced)
	NEEDS(fs->names)
{
	const int rc = handle_keep(fs, node, replaced);

	return rc < 0 ? rc : attr_keep(fs, node, place, replaced);
}

/* ---- expiry ---------------------------------------------------------------------------------- */

/* Takes away the name `place`, of `node` unless that is NULL, if it has expired; 1 if so. */
static int expire_name(struct fs *fs, struct place place, struct node *node) NEEDS(fs->names)
{
	struct note *note = node ? note_deleted(place, node->id) : NULL;
	struct attr last;
	uint64_t revision;
	int rc = node ? keep(fs, place, node, false) : 0;

	if (rc == 0)
		rc = store_remove(fs->store, place, STORE_EXPIRED, &last, &revision);
	if (rc < 0) {
		note_free(note);
		return rc == -EAGAIN || rc == -ENOENT ? 0 : rc;
	}
	if (node)
		node_see(node, &last);
	warden_post(&fs->warden, note);
	return 1;
}

/* All names of a shared entry go in one step: its node is at none, and goes with the last. */
static int expire_names(struct fs *fs, struct node *node) NEEDS(fs->names)
{
	struct due list[DUE_BATCH];
	int count, rc = 1;

	do {
		count = store_names(fs->store, node->id, NULL, list, DUE_BATCH);
		for (int i = 0; i < count && rc == 1; i++)
			rc = expire_name(fs, place_of_due(&list[i]), node);
	} while (count > 0 && rc == 1);
	return count < 0 ? count : rc;
}

/* Removes the entry that `place` names if it has expired; 1 if so. `node` is its node, or NULL. */
static int expire_held(struct fs *fs, struct place place, struct node *node) NEEDS(fs->names)
{
	const int rc = node && node_shared(node) ? expire_names(fs, node) :
						   expire_name(fs, place, node);

	if (rc == 1 && node)
		node_gone(node);
	return rc;
}

int names_expire(struct fs *fs, struct place place)
{
	struct node *node;
	int rc;

	rwlock_write(&fs->names);
	rc = node_named(fs, place, &node);
	if (rc == 0)
		rc = expire_held(fs, place, node);
	rwlock_write_done(&fs->names);
	nodes_unpin(&fs->nodes, node);
	return rc;
}

int names_expire_node(struct fs *fs, struct node *node)
{
	int rc = 1;

	rwlock_write(&fs->names);
	if (!node->gone)
		rc = expire_held(fs, node_place(node), node);
	rwlock_write_done(&fs->names);
	return rc;
}

void names_recheck(struct fs *fs, struct node *node)
{
	struct due list[DUE_BATCH];
	int count = DUE_BATCH;

	rwlock_read(&fs->names);
	if (!node->gone && !node_shared(node))
		warden_post(&fs->warden, note_recheck(node_place(node)));
	for (bool first = true; !node->gone && node_shared(node) && count == DUE_BATCH;
	     first = false) {
		count = store_names(fs->store, node->id, first ? NULL : &list[DUE_BATCH - 1], list,
				    DUE_BATCH);
		for (int i = 0; i < count; i++)
			warden_post(&fs->warden, note_recheck(place_of_due(&list[i])));
	}
	rwlock_read_done(&fs->names);
}

static int expire_batch(struct fs *fs, const struct due *list, int count, uint64_t *next_ms)
{
	const uint64_t now_ms = store_now_ms(fs->store);

	*next_ms = 0;
	for (int i = 0; i < count; i++) {
		int rc;

		if (list[i].expires_ms > now_ms) {
			*next_ms = list[i].expires_ms;
			return 0;
		}
		rc = names_expire(fs, place_of_due(&list[i]));
		if (rc < 0)
			return rc;
	}
	return 0;
}

int names_expire_due(struct fs *fs, uint64_t *next_ms)
{
	struct due list[DUE_BATCH];
	int count, rc;

	do {
		count = store_due(fs->store, list, DUE_BATCH);
		rc = count < 0 ? count : expire_batch(fs, list, count, next_ms);
	} while (rc == 0 && count == DUE_BATCH && *next_ms == 0);
	return rc;
}

/* A change met an expired entry: removes that, so that the change is worth another try. A table of
 * expired entries is in the way too: then everything that is due goes. */
static bool made_way(struct fs *fs, int rc, struct place a, struct place b, int *tries)
{
	uint64_t next_ms;

	if (rc != -EKEYEXPIRED || --*tries == 0)
		return false;
	if (names_expire(fs, a) <= 0 && names_expire(fs, b) <= 0)
		names_expire_due(fs, &next_ms);
	return true;
}

/* ---- finding and making ---------------------------------------------------------------------- */

int names_meet(struct fs *fs, struct place place, const struct attr *attr, struct node **out,
	       struct shown *shown)
{
	struct node *node;
	int rc = nodes_meet(&fs->nodes, place, attr, &node);

	if (rc < 0)
		return rc;
	rc = attr_show_found(fs, node, attr, shown);
	if (rc < 0)
		nodes_forget(&fs->nodes, node, 1);
	else
		*out = node;
	return rc;
}

int names_list(struct fs *fs, struct place place, const struct attr *attr, struct shown *shown)
{
	struct node *node;
	int rc = nodes_list(&fs->nodes, place, attr, &node);

	if (rc < 0)
		return rc;
	rc = attr_show_found(fs, node, attr, shown);
	if (rc < 0)
		nodes_forget_id(&fs->nodes, attr->id, 1);
	return rc;
}

int names_lookup(struct fs *fs, struct place place, struct node **out, struct shown *shown)
{
	struct attr attr;
	int rc;

	rwlock_read(&fs->names);
	rc = store_lookup(fs->store, place, &attr);
	if (rc == 0)
		rc = names_meet(fs, place, &attr, out, shown);
	rwlock_read_done(&fs->names);
	return rc;
}

/* Of a node that is gone. */
static int read_gone_link(struct node *node, struct buffer *out)
{
	struct slice target;
	int rc;

	mutex_lock(&node->lock);
	rc = xattr_set_find(buffer_slice(&node->xattrs), slice_str(GONE_TARGET), &target);
	if (rc == 0)
		rc = buffer_append(out, target.data, target.size);
	mutex_unlock(&node->lock);
	return rc == -ENODATA ? -ESTALE : rc;
}

int names_readlink(struct fs *fs, struct node *node, struct buffer *out)
{
	int rc;

	rwlock_read(&fs->names);
	rc = node->gone ? read_gone_link(node, out) :
			  store_readlink(fs->store, node_place(node), out);
	rwlock_read_done(&fs->names);
	return rc;
}

void names_ttl_changed(struct node *node)
{
	mutex_lock(&node->lock);
	node->default_ttl_ms = TTL_UNKNOWN;
	mutex_unlock(&node->lock);
}

/* What cannot be read does not make a key immortal by the way: -EUCLEAN. */
static int read_ttl(struct fs *fs, struct node *node, uint64_t *ttl_ms)
	NEEDS_SHARED(fs->names) NEEDS(node->lock)
{
	struct buffer text = { 0 };
	int rc = node->gone ? -ENODATA
			    : store_xattr_get(fs->store, node_place(node), slice_str(DEFAULT_TTL),
					      &text);

	if (rc == 0)
		rc = when_read_span(buffer_slice(&text), ttl_ms) < 0 ? -EUCLEAN : 0;
	else if (rc == -ENODATA)
		*ttl_ms = 0;
	buffer_done(&text);
	return rc == -ENODATA ? 0 : rc;
}

/* When what comes into the table of `node` (NULL: the kernel does not know it) now is to expire;
 * 0: never. */
static int default_expiry(struct fs *fs, struct node *node, uint64_t *expires_ms)
	NEEDS_SHARED(fs->names)
{
	uint64_t ttl_ms = 0;
	int rc = 0;

	if (node) {
		mutex_lock(&node->lock);
		ttl_ms = node->default_ttl_ms;
		if (ttl_ms == TTL_UNKNOWN)
			rc = read_ttl(fs, node, &ttl_ms);
		if (rc == 0)
			node->default_ttl_ms = ttl_ms;
		mutex_unlock(&node->lock);
	}
	*expires_ms = rc == 0 && ttl_ms ? store_now_ms(fs->store) + ttl_ms : 0;
	return rc;
}

static void inherit_group(struct node *node, struct store_new *what)
{
	if (!node)
		return;
	mutex_lock(&node->lock);
	if (node->attr.mode & S_ISGID) {
		what->gid = node->attr.gid;
		if (S_ISDIR(what->mode))
			what->mode |= S_ISGID;
	}
	mutex_unlock(&node->lock);
}

/* Puts into *what, and `set`, to which it is lent, what comes from the table's default list. */
static int take_over(struct slice list, struct store_new *what, struct buffer *set)
{
	struct buffer own = { 0 }, first = { 0 };
	struct slice value;
	int rc = acl_is_valid(list) ? acl_inherit(list, &what->mode, &own) : -EUCLEAN;

	value = buffer_slice(&own);
	if (rc == 0 && S_ISDIR(what->mode))
		rc = xattr_set_with(slice_of(NULL, 0), slice_str(ACL_DEFAULT), &list, &first);
	if (rc == 0)
		rc = xattr_set_with(buffer_slice(&first), slice_str(ACL_ACCESS),
				    acl_is_mode(value) ? NULL : &value, set);
	what->xattrs = buffer_slice(set);
	buffer_done(&first);
	buffer_done(&own);
	return rc;
}

/* What the table says of what is made in it: the mode, and in `set` the attributes. */
static int inherit_acl(struct fs *fs, struct node *node, mode_t umask, struct store_new *what,
		       struct buffer *set) NEEDS_SHARED(fs->names)
{
	struct buffer list = { 0 };
	int rc = -ENODATA;

	if (S_ISLNK(what->mode))
		return 0;
	if (fs->options.acl && node && !node->gone)
		rc = store_xattr_get(fs->store, node_place(node), slice_str(ACL_DEFAULT), &list);
	if (rc == 0)
		rc = take_over(buffer_slice(&list), what, set);
	else if (rc == -ENODATA)
		what->mode &= ~umask;
	buffer_done(&list);
	return rc == -ENODATA ? 0 : rc;
}

static int make_held(struct fs *fs, struct place place, const struct store_new *what,
		     mode_t umask, struct node **out, struct shown *shown, uint64_t *revision)
	NEEDS_SHARED(fs->names)
{
	struct store_new heir = *what;
	struct buffer set = { 0 };
	struct node *table;
	struct attr attr;
	int rc;

	rc = nodes_find(&fs->nodes, place.table, &table);
	if (rc < 0)
		return rc;
	inherit_group(table, &heir);
	rc = inherit_acl(fs, table, umask, &heir, &set);
	if (rc == 0 && S_ISREG(heir.mode))
		rc = default_expiry(fs, table, &heir.expires_ms);
	if (rc == 0)
		rc = store_make(fs->store, place, &heir, &attr, revision);
	buffer_done(&set);
	if (rc < 0)
		return rc;
	warden_due(&fs->warden, heir.expires_ms);
	rc = names_meet(fs, place, &attr, out, shown);
	if (rc < 0)
		store_remove(fs->store, place, S_ISDIR(what->mode) ? STORE_TABLE : 0, NULL,
			     revision);
	return rc;
}

int names_make(struct fs *fs, struct place place, const struct store_new *what, mode_t umask,
	       struct node **out, struct shown *shown, uint64_t *revision)
{
	int tries = TRIES, rc;

	do {
		rwlock_read(&fs->names);
		rc = make_held(fs, place, what, umask, out, shown, revision);
		rwlock_read_done(&fs->names);
	} while (made_way(fs, rc, place, place, &tries));
	return rc;
}

/* ---- linking --------------------------------------------------------------------------------- */

/* As a rename, a link publishes: after a crash the new name has the value that was linked. */
static int link_held(struct fs *fs, struct node *node, struct place to, struct attr *attr,
		     uint64_t *revision) NEEDS(fs->names)
{
	uint8_t name[STORE_SHARED_NAME], *moved;
	int rc = node->gone ? -ENOENT : handle_publish_held(fs, node);

	if (rc < 0)
		return rc;
	moved = mem_copy(place_shared(node->id, name).name.data, sizeof(name));
	if (!moved)
		return -ENOMEM;
	rc = store_link(fs->store, node_place(node), to, attr, revision);
	if (rc == 0 && !node_shared(node)) {
		node_move(node, 0, moved, sizeof(name));
		moved = NULL;	/* the node's now */
	}
	mem_free(moved);
	return rc;
}

int names_link(struct fs *fs, struct node *node, struct place to, struct shown *shown,
	       uint64_t *revision)
{
	struct node *met;
	struct attr attr;
	int tries = TRIES, rc;

	do {
		rwlock_write(&fs->names);
		rc = link_held(fs, node, to, &attr, revision);
		if (rc == 0)
			rc = names_meet(fs, to, &attr, &met, shown);
		rwlock_write_done(&fs->names);
	} while (made_way(fs, rc, to, to, &tries));
	return rc;
}

/* ---- removing -------------------------------------------------------------------------------- */

/* Before `node` loses its name at `place`. If that is its last, whoever has it open keeps the
 * value, and the node keeps what stat shows. An entry that has expired is left for the change to
 * complain about. *is_last says whether the node is to go. */
static int keep_last(struct fs *fs, struct place place, struct node *node, bool replaced,
		     bool *is_last) NEEDS(fs->names)
{
	struct attr last;

	*is_last = !node->gone;
	if (store_lookup(fs->store, place, &last) == 0) {
		node_see(node, &last);
		*is_last = !node->gone && (!last.shared || last.links == 1);
	}
	return *is_last ? keep(fs, place, node, replaced) : 0;
}

static int remove_held(struct fs *fs, struct place place, struct node *node, unsigned flags,
		       uint64_t *revision) NEEDS(fs->names)
{
	const bool only = node && !node_shared(node);	/* it has no other name */
	struct attr last;
	bool is_last = only;
	int rc = 0;

	if (only)
		rc = keep(fs, place, node, false);
	else if (node)
		rc = keep_last(fs, place, node, false, &is_last);
	if (rc == 0)
		rc = store_remove(fs->store, place, flags, &last, revision);
	if (rc == 0 && only)
		node_see(node, &last);
	if (rc == 0 && is_last)
		node_gone(node);
	return rc;
}

int names_remove(struct fs *fs, struct place place, unsigned flags, uint64_t *revision)
{
	struct node *node;
	int tries = TRIES, rc;

	do {
		rwlock_write(&fs->names);
		rc = node_named(fs, place, &node);
		if (rc == 0)
			rc = remove_held(fs, place, node, flags, revision);
		rwlock_write_done(&fs->names);
		nodes_unpin(&fs->nodes, node);
	} while (made_way(fs, rc, place, place, &tries));
	return rc;
}

/* ---- renaming -------------------------------------------------------------------------------- */

/* Both ends of a rename: the node, NULL if the kernel does not know the entry, and the name that it
 * is to have afterwards. */
struct end {
	struct place place;
	struct node *node;
	uint8_t *new_name;
};

static int end_begin(struct fs *fs, struct end *end, struct place place, struct slice new_name)
	NEEDS(fs->names)
{
	int rc;

	*end = (struct end){ .place = place };
	rc = node_named(fs, place, &end->node);
	if (rc == 0 && end->node) {
		end->new_name = mem_copy(new_name.data, new_name.size);
		rc = end->new_name ? 0 : -ENOMEM;
	}
	return rc;
}

static void end_done(struct fs *fs, struct end *end)
{
	nodes_unpin(&fs->nodes, end->node);
	mem_free(end->new_name);
}

static void end_move(struct end *end, struct place to)
{
	if (!end->node || node_shared(end->node))
		return;
	node_move(end->node, to.table, end->new_name, (uint8_t)to.name.size);
	end->new_name = NULL;	/* the node's now */
}

/* What moves must be published, so that what is there after a crash is the value that was moved. */
static int publish_end(struct fs *fs, struct end *end) NEEDS(fs->names)
{
	const int rc = end->node ? handle_publish_held(fs, end->node) : 0;

	return rc == -ENOENT ? -EKEYEXPIRED : rc;
}

/* The places are the caller's, which lie nowhere in a node: those change under our hands. */
static int rename_held(struct fs *fs, struct end *from, struct end *to, unsigned flags,
		       uint64_t *revision) NEEDS(fs->names)
{
	bool is_last = false;
	uint64_t expires_ms = 0;
	struct node *table = NULL;
	int rc = publish_end(fs, from);

	if (rc == 0 && flags & STORE_EXCHANGE)
		rc = publish_end(fs, to);
	else if (rc == 0 && to->node)
		rc = keep_last(fs, to->place, to->node, true, &is_last);
	if (rc == 0 && !(flags & STORE_EXCHANGE))
		rc = nodes_find(&fs->nodes, to->place.table, &table);
	if (rc == 0 && table)
		rc = default_expiry(fs, table, &expires_ms);
	if (rc == 0)
		rc = store_rename_due(fs->store, from->place, to->place, flags, expires_ms,
				      revision);
	if (rc < 0)
		return rc;
	if (expires_ms)		/* the kernel takes its entry along, which knows of no end */
		warden_post(&fs->warden, note_recheck(to->place));

	if (flags & STORE_EXCHANGE)
		end_move(to, from->place);
	else if (is_last)
		node_gone(to->node);
	end_move(from, to->place);
	return 0;
}

static int rename_once(struct fs *fs, struct place from, struct place to, unsigned flags,
		       uint64_t *revision)
{
	struct end source, target;
	int source_rc, rc;

	rwlock_write(&fs->names);
	source_rc = end_begin(fs, &source, from, to.name);
	rc = end_begin(fs, &target, to, from.name);
	if (source_rc < 0)
		rc = source_rc;
	if (rc == 0)
		rc = rename_held(fs, &source, &target, flags, revision);
	rwlock_write_done(&fs->names);
	end_done(fs, &source);
	end_done(fs, &target);
	return rc;
}

int names_rename(struct fs *fs, struct place from, struct place to, unsigned flags,
		 uint64_t *revision)
{
	int tries = TRIES, rc;

	if (from.table == to.table && slice_equal(from.name, to.name)) {
		*revision = 0;
		return 0;
	}
	do {
		rc = rename_once(fs, from, to, flags, revision);
	} while (made_way(fs, rc, from, to, &tries));
	return rc;
}

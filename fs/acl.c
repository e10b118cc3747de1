#include "acl.h"

#include <errno.h>

enum {
	VERSION = 2,
	HEADER = 4,
	ENTRY = 8,
	RWX = 7,
};

enum tag {
	OWNER = 1,
	USER = 2,
	GROUP_OWNER = 4,
	GROUP = 8,
	MASK = 16,
	OTHERS = 32,
};

static size_t count_of(struct slice acl)
{
	return (acl.size - HEADER) / ENTRY;
}

static unsigned tag_at(struct slice acl, size_t i)
{
	return get16((const uint8_t *)acl.data + HEADER + i * ENTRY);
}

static unsigned perm_at(struct slice acl, size_t i)
{
	return get16((const uint8_t *)acl.data + HEADER + i * ENTRY + 2);
}

/* The entry of a tag that there is one of at most; NULL if there is none. */
static uint8_t *find(uint8_t *acl, size_t size, enum tag tag)
{
	for (size_t at = HEADER; at < size; at += ENTRY)
		if (get16(acl + at) == tag)
			return acl + at;
	return NULL;
}

/* Tags rise; only users and groups may be several. */
static bool in_order(struct slice acl, size_t i)
{
	const unsigned tag = tag_at(acl, i), last = i ? tag_at(acl, i - 1) : 0;

	return tag > last || (tag == last && tag & (USER | GROUP));
}

bool acl_is_valid(struct slice acl)
{
	const unsigned must = OWNER | GROUP_OWNER | OTHERS;
	unsigned seen = 0;

	if (acl.size < HEADER || (acl.size - HEADER) % ENTRY || get32(acl.data) != VERSION)
		return false;
	for (size_t i = 0; i < count_of(acl); i++) {
		const unsigned tag = tag_at(acl, i);

		if (!in_order(acl, i) || perm_at(acl, i) > RWX || tag > OTHERS || tag & (tag - 1))
			return false;
		seen |= tag;
	}
	return (seen & must) == must && (seen & MASK || !(seen & (USER | GROUP)));
}

uint32_t acl_mode(struct slice acl)
{
	unsigned owner = 0, group = 0, others = 0, mask = RWX + 1;

	for (size_t i = 0; i < count_of(acl); i++) {
		const unsigned perm = perm_at(acl, i);

		switch (tag_at(acl, i)) {
		case OWNER:
			owner = perm;
			break;
		case GROUP_OWNER:
			group = perm;
			break;
		case MASK:
			mask = perm;
			break;
		case OTHERS:
			others = perm;
			break;
		}
	}
	return owner << 6 | (mask <= RWX ? mask : group) << 3 | others;
}

bool acl_is_mode(struct slice acl)
{
	for (size_t i = 0; i < count_of(acl); i++)
		if (tag_at(acl, i) & (USER | GROUP | MASK))
			return false;
	return true;
}

/* The three entries that the mode tells of: its owner's, its group's and its others' bits. */
struct told {
	uint8_t *owner, *group, *others;
};

static int copy(struct slice acl, struct buffer *out, struct told *told)
{
	int rc;

	buffer_clear(out);
	rc = buffer_append(out, acl.data, acl.size);
	if (rc < 0)
		return rc;
	told->owner = find(out->data, out->size, OWNER);
	told->group = find(out->data, out->size, MASK);
	if (!told->group)
		told->group = find(out->data, out->size, GROUP_OWNER);
	told->others = find(out->data, out->size, OTHERS);
	return 0;
}

static void put_perm(uint8_t *entry, uint32_t perm)
{
	put16(entry + 2, (uint16_t)(perm & RWX));
}

int acl_chmod(struct slice acl, uint32_t mode, struct buffer *out)
{
	struct told told;
	const int rc = copy(acl, out, &told);

	if (rc < 0)
		return rc;
	put_perm(told.owner, mode >> 6);
	put_perm(told.group, mode >> 3);
	put_perm(told.others, mode);
	return 0;
}

int acl_inherit(struct slice default_acl, uint32_t *mode, struct buffer *out)
{
	struct told told;
	const int rc = copy(default_acl, out, &told);

	if (rc < 0)
		return rc;
	put_perm(told.owner, get16(told.owner + 2) & *mode >> 6);
	put_perm(told.group, get16(told.group + 2) & *mode >> 3);
	put_perm(told.others, get16(told.others + 2) & *mode);
	*mode = (*mode & ~0777u) | acl_mode(buffer_slice(out));
	return 0;
}

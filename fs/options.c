#include "options.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "mem.h"

#define NS_PER_S UINT64_C(1000000000)

void options_init(struct options *o)
{
	*o = (struct options){
		.sync = SYNC_CLOSE,
		.commit_ns = NS_PER_S,
		.stage_ns = 30 * NS_PER_S,
	};
}

void options_done(struct options *o)
{
	buffer_done(&o->fuse);
}

/* Digits, and perhaps a dot and more: nanoseconds. */
static int read_seconds(const char *text, uint64_t least_ns, uint64_t *out_ns)
{
	uint64_t ns, s = 0, worth = NS_PER_S / 10;

	if (*text < '0' || *text > '9')
		return -EINVAL;
	for (; *text >= '0' && *text <= '9'; text++) {
		s = s * 10 + (uint64_t)(*text - '0');
		if (s > UINT32_MAX)
			return -EINVAL;
	}
	ns = s * NS_PER_S;
	if (*text == '.')
		for (text++; *text >= '0' && *text <= '9'; text++, worth /= 10)
			ns += worth * (uint64_t)(*text - '0');
	if (*text || ns < least_ns)
		return -EINVAL;
	*out_ns = ns;
	return 0;
}

/* A number of bytes, or of K, M, G or T of 1024 to the step. */
static int read_size(const char *text, uint64_t least, uint64_t *out)
{
	static const char units[] = "KMGT";
	const char *unit;
	uint64_t n = 0;

	if (*text < '0' || *text > '9')
		return -EINVAL;
	for (; *text >= '0' && *text <= '9'; text++) {
		n = n * 10 + (uint64_t)(*text - '0');
		if (n >> 40)
			return -EINVAL;
	}
	unit = *text ? strchr(units, *text & ~0x20) : NULL;
	if (unit) {
		n <<= 10 * (unit - units + 1);
		text++;
	}
	if (*text || n < least || n >> 50)
		return -EINVAL;
	*out = n;
	return 0;
}

static int read_sync(struct options *o, const char *value)
{
	static const char *const names[] = {
		[SYNC_CLOSE] = "close",
		[SYNC_ALWAYS] = "always",
		[SYNC_STANDARD] = "standard",
	};

	for (unsigned i = 0; i < sizeof(names) / sizeof(*names); i++)
		if (strcmp(value, names[i]) == 0) {
			o->sync = (enum sync_mode)i;
			return 0;
		}
	return -EINVAL;
}

/* The value of "name=value" if `option` is that; else NULL. */
static const char *value_of(const char *option, const char *name)
{
	const size_t size = strlen(name);

	return strncmp(option, name, size) == 0 && option[size] == '=' ? option + size + 1 : NULL;
}

/* Our own: 1 if it was one and is taken, 0 if it is none. */
static int read_own(struct options *o, const char *option, struct err *err)
{
	const char *value;

	if ((value = value_of(option, "sync"))) {
		if (read_sync(o, value) < 0)
			return err_set(err, -EINVAL, "%s: sync is close, always or standard",
				       option);
	} else if ((value = value_of(option, "commit"))) {
		if (read_seconds(value, 1, &o->commit_ns) < 0)
			return err_set(err, -EINVAL, "%s: commit is a number of seconds", option);
	} else if ((value = value_of(option, "stage"))) {
		if (read_seconds(value, 0, &o->stage_ns) < 0)
			return err_set(err, -EINVAL,
				       "%s: stage is a number of seconds, 0 for never", option);
	} else if ((value = value_of(option, "log"))) {
		if (read_size(value, LOG_LEAST, &o->log_cap) < 0)
			return err_set(err, -EINVAL, "%s: log is a size such as 256M, at least 4M",
				       option);
	} else if ((value = value_of(option, "cache"))) {
		if (read_size(value, CACHE_LEAST, &o->cache) < 0)
			return err_set(err, -EINVAL, "%s: cache is a size such as 64M, at least 1M",
				       option);
	} else if (strcmp(option, "allow_other") == 0) {
		o->allow_other = true;
	} else if (strcmp(option, "default_permissions") == 0) {
		o->default_permissions = true;
	} else if (strcmp(option, "acl") == 0 || strcmp(option, "noacl") == 0) {
		o->acl = option[0] == 'a';
	} else if (strcmp(option, "security") == 0 || strcmp(option, "nosecurity") == 0) {
		o->security = option[0] == 's';
	} else if (strcmp(option, "ro") == 0 || strcmp(option, "rw") == 0) {
		o->read_only = option[1] == 'o';
	} else {
		return 0;
	}
	return 1;
}

/* What mount(8) and fstab add, and nobody below needs to know. */
static bool is_for_mount8(const char *option)
{
	static const char *const words[] = {
		"defaults", "auto", "noauto", "user", "nouser", "users", "owner", "group",
		"_netdev", "nofail", "relatime", "norelatime", "strictatime", "nostrictatime",
		"lazytime", "nolazytime", "iversion", "noiversion", "mand", "nomand", "silent",
		"loud",
	};

	for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++)
		if (strcmp(option, words[i]) == 0)
			return true;
	return strncmp(option, "x-", 2) == 0 || strncmp(option, "X-", 2) == 0 ||
	       value_of(option, "user") || value_of(option, "comment");
}

static int keep_for_fuse(struct options *o, const char *option)
{
	return buffer_append(&o->fuse, option, strlen(option) + 1);
}

static int read_one(struct options *o, const char *option, struct err *err)
{
	const int rc = *option && !is_for_mount8(option) ? read_own(o, option, err) : 1;

	return rc == 0 ? keep_for_fuse(o, option) : rc < 0 ? rc : 0;
}

/* Cuts the next option out of `list`, in place, and takes the backslashes out of it. */
static char *next_option(char **list)
{
	char *start = *list, *from = start, *to = start;

	for (; *from && *from != ','; from++) {
		if (*from == '\\' && from[1])
			from++;
		*to++ = *from;
	}
	*list = *from ? from + 1 : NULL;
	*to = '\0';
	return start;
}

int options_read(struct options *o, const char *list, struct err *err)
{
	char *copy = mem_copy(list, strlen(list) + 1), *rest = copy;
	int rc = 0;

	if (!copy)
		return err_set(err, -ENOMEM, "no memory");
	while (rc == 0 && rest)
		rc = read_one(o, next_option(&rest), err);
	mem_free(copy);
	return rc;
}

/* Without default_permissions the kernel asks less (MEASURED 21) and checks nothing: right only
 * where nobody but root can get in. */
void options_settle(struct options *o, bool root)
{
	if (!root || o->allow_other || o->acl)
		o->default_permissions = true;
}
